"""Fixtures for tests of the built site, for the folders that have such."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import axe_playwright_python
import pytest
from playwright.sync_api import BrowserContext, Page

__all__ = ["axe", "open_page", "site_dir", "site_url"]

SITE = Path(__file__).resolve().parents[1] / "_build" / "html"
LOCAL = ("http://127.0.0.1", "data:", "blob:", "file:", "about:")


class Quiet(SimpleHTTPRequestHandler):
    """A static server that prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def site_dir() -> Path:
    """Return the built site; `make test` builds it before the tests."""
    if not (SITE / "index.html").exists():
        pytest.fail("the site is not built: run `make` first")
    return SITE


@pytest.fixture(scope="session")
def site_url(site_dir: Path) -> Iterator[str]:
    """Serve the site on this machine; yield its address, without a slash."""
    handler = partial(Quiet, directory=str(site_dir))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def watch(page: Page, problems: list[str]) -> None:
    """Note requests off this machine, failed responses, and errors."""

    def note(trouble: object, words: str) -> None:
        if trouble:
            problems.append(words)

    page.on(
        "request",
        lambda x: note(not x.url.startswith(LOCAL), f"request to {x.url}"),
    )
    page.on(
        "response", lambda x: note(x.status >= 400, f"{x.status} for {x.url}")
    )
    page.on("console", lambda x: note(x.type == "error", f"console: {x.text}"))
    page.on("pageerror", lambda x: note(x, f"error: {x}"))


@pytest.fixture
def open_page(
    new_context: Callable[..., BrowserContext], site_url: str
) -> Iterator[Callable[..., Page]]:
    """Open pages of the site; fail if one asks for more than the site has.

    `open_page("chapters/rank.html", color_scheme="dark")` passes options to
    the browser's context. A path with a scheme is opened as it stands. On
    leaving, any request off this machine, failed response, page error or
    console error fails the test.
    """
    opened: list[Page] = []
    problems: list[str] = []

    def open_one(path: str, **options: Any) -> Page:
        context = new_context(
            **{"viewport": {"width": 1280, "height": 900}, **options}
        )
        page = context.new_page()
        opened.append(page)
        watch(page, problems)
        page.goto(path if ":" in path else f"{site_url}/{path}")
        return page

    yield open_one
    # What happens while a page closes counts as well.
    for page in opened:
        if not page.is_closed():
            page.context.close()
    assert problems == []


@pytest.fixture(scope="session")
def axe() -> Path:
    """Return axe-core's script."""
    return Path(axe_playwright_python.__file__).parent / "axe.min.js"
