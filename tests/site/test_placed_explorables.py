"""The explorables where the book shows them: the theme, and when they load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

ROOT = Path(__file__).resolve().parents[2]
PLACES = {
    name: f"chapters/{path.stem}.html"
    for path in sorted(ROOT.glob("chapters/*.md"))
    for name in re.findall(r'^show\("([a-z-]+)"', path.read_text("utf8"), re.M)
}


def find(page: Page, name: str) -> Locator:
    """Unfold and scroll to an explorable, wait until it has started."""
    element = page.locator(f"lr-{name}")
    element.evaluate("""e => {
      for (let at = e; at; at = at.parentElement)
        if (at.localName === "details") at.open = true;
    }""")
    for _ in range(20):
        # A long page is laid out as one scrolls: the element may move away.
        element.scroll_into_view_if_needed()
        if element.get_attribute("data-ready") is not None:
            break
        page.wait_for_timeout(100)
    expect(element).to_have_attribute("data-ready", "")
    return element


@pytest.mark.parametrize("name", PLACES)
def test_it_starts_in_its_chapter(open_page, name):
    """On the page's own ground: a dark page puts no pale plate behind it."""
    page = open_page(PLACES[name], color_scheme="dark")
    element = find(page, name)
    expect(element.locator("[role=alert]")).to_be_empty()
    assert element.evaluate("e => e.getBoundingClientRect().height") > 300
    behind = element.evaluate("""e => {
      const grounds = [];
      for (let at = e.parentElement; at; at = at.parentElement)
        grounds.push(getComputedStyle(at).backgroundColor);
      const figure = e.shadowRoot.querySelector("figure");
      return [getComputedStyle(figure).backgroundColor, grounds.find(x =>
        x !== "rgba(0, 0, 0, 0)")];
    }""")
    assert behind[0] == behind[1]


def test_nothing_is_loaded_where_nothing_moves(open_page):
    page = open_page("index.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    assert asked
    assert not [url for url in asked if "/explorables/" in url]
    page.goto(page.url.replace("index.html", PLACES["svd-image"]))
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if "svd-image.js" in url]
    assert not [url for url in asked if "rank-collapse.js" in url]
    assert not [url for url in asked if "photo.js" in url]
    find(page, "svd-image")
    assert [url for url in asked if "photo.js" in url]
