"""Tests of the built site, and of what builds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from served import axe, open_page, site_dir, site_url

__all__ = ["axe", "open_page", "site_dir", "site_url"]

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder; books are built here, small ones too."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("site")
