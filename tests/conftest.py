"""What all tests share: a thread, a way to draw examples, and Chromium."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from playwright.sync_api import Playwright

# As in the chapters, and before anything imports PyTorch: the tests run side
# by side, and no number may depend on how many cores there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest.register_assert_rewrite("served")

settings.register_profile("book", deadline=None, derandomize=True)
# Other examples each time, and more; it prints what draws a failure again.
settings.register_profile(
    "random", deadline=None, max_examples=500, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "book"))

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the site or a browser; keep together what must be.

    Side by side, tests go to whichever worker is free. Those that share a
    fixture of their module, which may take a minute to make, go to one.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        for mark, fixture in (("site", "site_dir"), ("browser", "browser")):
            if fixture in fixtures:
                item.add_marker(mark)
        info = getattr(item, "_fixtureinfo", None)
        made = info.name2fixturedefs.values() if info else ()
        if any(each[-1].scope == "module" for each in made):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what all tests share.

    A million objects of the imported packages stay until the end, and it
    would look at each again and again.
    """
    gc.collect()
    gc.freeze()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test after the beginning of what is long.

    Each worker is sent the names of all tests, and one of a test's values
    has four million characters.
    """
    if isinstance(val, str | bytes) and len(val) > 80:
        return f"{val[:60]!r}".strip("b'\"") + "…"
    return None


def pytest_runtest_call(item: pytest.Item) -> None:
    """Seed PyTorch, if it is there: no test draws what another one left.

    Which tests come before depends on how they are dealt to the workers.
    """
    del item
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], playwright: Playwright
) -> dict[str, Any]:
    """Launch the Chromium on the PATH, or else Playwright's own."""
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
    return {
        **browser_type_launch_args,
        "executable_path": found[0],
        "args": CHROMIUM_FLAGS,
    }
