"""Pages with explorables, and how the tests read what is on them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Locator, Page, expect

from lorabook.assets import assets_folder
from lorabook.explorables import REGISTRY

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(REGISTRY)

Open = Callable[..., Page]


def build(folder: Path, pages: dict[str, str], theme: str = "basic") -> str:
    """Build pages of MyST with the extension; return the warnings.

    The site is in the folder's `out`. No chapter is executed for it.
    """
    (folder / "conf.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'extensions')!r})\n"
        # The style asks for the book's fonts.
        "extensions = ['myst_parser', 'explorables', 'fonts']\n"
        f"html_theme = {theme!r}\n"
        "html_context = {'default_mode': 'auto'}\n"
        f"html_static_path = [{str(assets_folder())!r}]\n"
        "html_css_files = ['book.css']\n"
    )
    for name, text in pages.items():
        path = folder / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"---\norphan: true\n---\n# Title\n\n{text}\n")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", folder, folder / "out"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return done.stderr


def find(page: Page, name: str) -> Locator:
    """Scroll to an explorable and wait until it has started."""
    element = page.locator(f"lr-{name}").first
    for _ in range(20):
        # A long page is laid out as one scrolls: the element may move away.
        element.scroll_into_view_if_needed()
        if element.get_attribute("data-ready") is not None:
            break
        page.wait_for_timeout(100)
    expect(element).to_have_attribute("data-ready", "")
    return element


def opened(open_page: Open, name: str, **options: Any) -> Locator:
    """Open the page of an explorable, without animations."""
    options = {"reduced_motion": "reduce", **options}
    return find(open_page(f"{name}.html", **options), name)


def answered(open_page: Open, name: str, **options: Any) -> Locator:
    """Open it, let it give the answer, and unfold the rest."""
    element = opened(open_page, name, **options)
    element.get_by_role("button", name="Just show me").click()
    unfold(element)
    return element


def unfold(element: Locator) -> None:
    """Show the controls that come second."""
    element.evaluate("""e => e.shadowRoot.querySelectorAll("details")
      .forEach(details => (details.open = true))""")


def frames(element: Locator) -> None:
    """Wait until what was set has been drawn."""
    element.evaluate(
        """() => new Promise(done => requestAnimationFrame(() =>
          requestAnimationFrame(done)))"""
    )


def text(element: Locator, key: str) -> str:
    """Return the text of what has this id."""
    return element.locator(f"#{key}").inner_text()


def number(words: str) -> float:
    """Read a number as the explorables write it."""
    match = re.search(r"−?[\d.]+(×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", words)
    assert match is not None, words
    plain = match.group().replace("−", "-").replace("×10", "e")
    return float(plain.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))


def entries(element: Locator) -> np.ndarray:
    """Read the matrix that was typed or dragged."""
    cells = element.locator(".matrix input")
    values = [float(cells.nth(k).input_value()) for k in range(cells.count())]
    side = int(len(values) ** 0.5)
    return np.array(values).reshape(side, side)


def type_matrix(element: Locator, M: Any) -> None:
    """Type a matrix, entry by entry."""
    cells = element.locator(".matrix input")
    for k, x in enumerate(np.ravel(M)):
        cells.nth(k).fill(str(x))


def guess(element: Locator, value: float) -> Locator:
    """Type a guess; return where the verdict stands."""
    box = element.locator("#guess")
    box.fill(str(value))
    box.press("Enter")
    return element.locator("#verdict")
