"""What the pages' own scripts do, and what they are kept from doing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

Open = Callable[..., Page]
PAGE = "chapters/lora_in_one_page.html"  # with formulas of both kinds


@pytest.fixture
def index(site_dir: Path) -> Any:
    """Return what the search knows."""
    text = (site_dir / "searchindex.js").read_text(encoding="utf8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


# The policy -----------------------------------------------------------------


def test_no_page_breaks_its_policy(
    open_page: Open, site_dir: Path, site_url: str
) -> None:
    """Not while it loads, nor with everything on it unfolded."""
    page = open_page("index.html")
    page.add_init_script(
        "window.broken = []; addEventListener('securitypolicyviolation',"
        "(e) => broken.push(`${e.violatedDirective}: ${e.blockedURI}`));"
    )
    pages = [x.relative_to(site_dir) for x in site_dir.rglob("*.html")]
    found = []
    for path in sorted(x for x in pages if "_static" not in x.parts):
        page.goto(f"{site_url}/{path}")
        broken = page.evaluate(
            """async () => {
              document.querySelectorAll("details").forEach((fold) => {
                fold.open = true;
              });
              await new Promise((wait) => setTimeout(wait, 100));
              return broken;
            }"""
        )
        found += [f"{path}: {each}" for each in broken]
    assert len(pages) > 5
    assert not found, "\n".join(["", *found])


def test_the_policy_stops_scripts_of_others(
    browser: Any, site_url: str
) -> None:
    """Whatever way they came into the page."""
    page = browser.new_page()
    page.goto(f"{site_url}/{PAGE}")
    stopped = page.evaluate(
        """async () => {
          const said = [];
          addEventListener("securitypolicyviolation",
            (event) => said.push(event.violatedDirective));
          const add = (name, rest) =>
            document.body.append(Object.assign(
              document.createElement(name), rest));
          window.ran = 0;
          add("script", { textContent: "ran += 1" });
          add("script", { src: "https://example.org/x.js" });
          add("img", { src: "https://example.org/x.png" });
          const button = document.createElement("button");
          button.setAttribute("onclick", "ran += 1");
          document.body.append(button);
          button.click();
          await fetch("https://example.org/").catch(() => {});
          await new Promise((wait) => setTimeout(wait, 200));
          return [window.ran, said.sort()];
        }"""
    )
    page.close()
    assert stopped == [
        0,
        [
            "connect-src",
            "img-src",
            "script-src-attr",
            "script-src-elem",
            "script-src-elem",
        ],
    ]


# Buttons whose scripts stood in the page ------------------------------------


def test_buttons_print_and_fill_the_screen(open_page: Open) -> None:
    page = open_page(PAGE)
    page.evaluate(
        "() => { window.done = []; window.print = () => done.push('print');"
        "window.toggleFullScreen = () => done.push('full'); }"
    )
    for what in ("print", "fullscreen"):
        # In a menu that may be closed.
        page.locator(f"[data-do={what}]").first.dispatch_event("click")
    assert page.evaluate("done") == ["print", "full"]


# Copying --------------------------------------------------------------------

COPY = """(selector) => {
  const formula = document.querySelector(selector);
  const range = document.createRange();
  if (formula.matches("mjx-container")) range.selectNodeContents(formula);
  else range.selectNode(formula);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  let said = null;
  document.addEventListener("copy", (event) => {
    said = [event.clipboardData.getData("text/plain"),
      event.clipboardData.getData("text/html")];
  }, { once: true });
  document.execCommand("copy");
  return said;
}"""


def test_a_formula_is_copied_as_tex(open_page: Open) -> None:
    page = open_page(PAGE)
    tex = page.locator("mjx-container[display=true]").first.get_attribute(
        "data-tex"
    )
    assert tex
    for selector in (
        "mjx-container[display=true]",
        "div.math:has(mjx-container[display=true])",
    ):
        text, html = page.evaluate(COPY, selector)
        assert f"$${tex}$$" in text
        assert "mjx" not in html


def test_a_sentence_is_copied_with_its_symbols(open_page: Open) -> None:
    page = open_page(PAGE)
    found = page.evaluate(
        """() => {
          const found = [...document.querySelectorAll("article p")].find(
            (p) => p.querySelectorAll("mjx-container").length > 1);
          found.id = "several";
          const copy = found.cloneNode(true);
          copy.querySelectorAll("mjx-container").forEach((formula) => {
            formula.replaceWith("$" + formula.dataset.tex + "$");
          });
          return copy.textContent.replace(/\\s+/g, " ").trim();
        }"""
    )
    text, _ = page.evaluate(COPY, "#several")
    assert " ".join(text.split()) == found
    assert found.count("$") >= 4
    # Where there is no formula, the browser does as it always does.
    text, html = page.evaluate(COPY, "article h1")
    assert [text, html] == ["", ""]


def test_copied_tex_needs_no_macros(site_dir: Path) -> None:
    text = (site_dir / PAGE).read_text(encoding="utf8")
    assert text.count("data-tex=") == text.count("<mjx-container ")
    assert 'data-tex="\\rank' not in text


# Without scripts, and before any has run ------------------------------------


def test_without_scripts_a_page_is_light(open_page: Open) -> None:
    """Also for a reader whose system is dark."""
    page = open_page(PAGE, java_script_enabled=False, color_scheme="dark")
    assert page.locator("html[data-theme=light]").count() == 1
    text, ground = (
        page.locator(selector).first.evaluate(
            f"(e) => getComputedStyle(e).{what}"
        )
        for selector, what in (
            ("article p", "color"),
            ("body", "backgroundColor"),
        )
    )
    assert brightness(ground) - brightness(text) > 450


def brightness(color: str) -> int:
    """Return the sum of red, green and blue."""
    return sum(map(int, color[color.index("(") + 1 : -1].split(",")[:3]))


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_is_there_before_the_page(
    system: str, open_page: Open
) -> None:
    page = open_page("index.html", color_scheme=system)
    page.add_init_script(
        "addEventListener('DOMContentLoaded', () => {"
        "window.early = document.documentElement.dataset.theme; })"
    )
    for chosen, shown in (("", system), ("dark", "dark"), ("light", "light")):
        page.evaluate(f"localStorage.setItem('mode', '{chosen}')")
        page.reload()
        assert page.evaluate("early") == shown


def test_wide_code_can_have_the_focus_from_the_start(site_dir: Path) -> None:
    text = (site_dir / PAGE).read_text(encoding="utf8")
    article = text[text.index("<article") :]
    assert article.count('<pre tabindex="0">') > 0
    assert "<pre>" in article
    # What has the colour of plain text has no marks.
    assert '<span class="n">' not in article


# Search ---------------------------------------------------------------------


def test_a_number_leads_to_its_place(open_page: Open, index: Any) -> None:
    name = next(x for x in index["numbers"] if x.startswith("equation"))
    page = open_page("index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{index['numbers'][name]['place']}")


def test_results_change_as_one_types(open_page: Open) -> None:
    page = open_page("search.html?q=factorization")
    results = page.locator("#search-results ul.search li")
    status = page.locator("#search-results [role=status]")
    field = page.locator(".bd-search-container input[type=search]")
    assert page.evaluate("document.activeElement.name") == "q"
    spelled = results.all_inner_texts()
    field.fill("factorisation")
    assert results.all_inner_texts() == spelled
    field.fill("there is no such word here")
    assert results.count() == 0
    assert "No places" in status.inner_text()
    # No page's menus are in what is shown of it.
    field.fill("learning rate")
    assert results.count() > 1
    assert not any(".pdf" in x for x in results.all_inner_texts())
    field.fill('<img src="x">')
    assert page.locator("#search-results img").count() == 0


def test_words_are_marked_in_the_text_alone(open_page: Open) -> None:
    page = open_page("search.html?q=lora")
    page.locator(f"#search-results a[href^='{PAGE}']").first.click()
    page.wait_for_load_state()
    page.locator("article .highlighted").first.wait_for(state="attached")
    marked = page.locator(".highlighted").count()
    assert marked == page.locator("article .highlighted").count()


# A wrong address ------------------------------------------------------------


def test_a_wrong_address_leads_on(open_page: Open) -> None:
    page = open_page("404.html")
    links = page.locator("article a")
    assert links.all_inner_texts() == ["Start of the book", "Search the book"]
    links.first.click()
    page.wait_for_load_state()
    assert page.locator("article h1").inner_text().startswith("Low-Rank")
