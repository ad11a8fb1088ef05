"""What the tests share: the built site, a server for it, and a browser."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing but this machine can be reached, whatever a page asks for.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

settings.register_profile("book", deadline=None, derandomize=True)
settings.load_profile("book")


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


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    """Start Playwright once."""
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: Any) -> Iterator[Browser]:
    """Start Chromium: the one on the PATH, or Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = [path for name in names if (path := shutil.which(name))]
    own = playwright.chromium.executable_path
    if not found and Path(own).exists():
        found = [own]
    if not found:
        reason = "no Chromium: run `playwright install chromium`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    running = playwright.chromium.launch(
        executable_path=found[0], args=CHROMIUM_FLAGS
    )
    yield running
    running.close()


@pytest.fixture
def open_page(
    browser: Browser, site_url: str
) -> Iterator[Callable[..., Page]]:
    """Open pages of the site; fail if one asks for more than the site has.

    `open_page("chapters/rank.html", color_scheme="dark")` passes options to
    the browser's context. A path with a scheme is opened as it stands. On
    leaving, any request off this machine, failed response, page error or
    console error fails the test.
    """
    opened: list[Any] = []
    problems: list[str] = []
    allowed = ("http://127.0.0.1", "data:", "blob:", "file:", "about:")

    def open_one(path: str, **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, **options}
        )
        opened.append(context)
        page = context.new_page()
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(allowed)
                else problems.append(f"request to {request.url}")
            ),
        )
        page.on(
            "response",
            lambda answer: (
                problems.append(f"{answer.status} for {answer.url}")
                if answer.status >= 400
                else None
            ),
        )
        page.on(
            "console",
            lambda message: (
                problems.append(f"console: {message.text}")
                if message.type == "error"
                else None
            ),
        )
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.goto(path if ":" in path else f"{site_url}/{path}")
        return page

    yield open_one
    for context in opened:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def axe() -> Path:
    """Return axe-core's script."""
    import axe_playwright_python

    return Path(axe_playwright_python.__file__).parent / "axe.min.js"
