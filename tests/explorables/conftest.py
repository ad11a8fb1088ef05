"""A small site with one page for each explorable: no chapter is executed."""

from __future__ import annotations

import pytest
from pages import NAMES, build
from served import axe, open_page

__all__ = ["axe", "open_page", "site_url"]


@pytest.fixture(scope="session")
def site_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of the small site, on the disk."""
    folder = tmp_path_factory.mktemp("explorables")
    pages = {
        name: f"Before.\n\n```{{explorable}} {name}\n```\n\nAfter."
        for name in NAMES
    }
    pages["index"] = "Nothing to move here."
    assert build(folder, pages, "sphinx_book_theme") == ""
    return (folder / "out").as_uri()
