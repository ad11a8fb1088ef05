"""Tests of the explorables, some of them in the pages that show them."""

from served import axe, open_page, site_dir, site_url

__all__ = ["axe", "open_page", "site_dir", "site_url"]
