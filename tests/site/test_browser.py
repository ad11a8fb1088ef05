"""The site in a browser: what is seen, what keys reach, what is loaded.

Every page is opened on a phone and on a desktop, in the light theme on one
and in the dark theme on the other, page by page in turn. The theme is always
the one that the system does not prefer: a page has to follow what the reader
chose. `open_page` fails on every request off this machine, every failed
response and every error in the console.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from sphinx_external_toc.parsing import parse_toc_yaml

Open = Callable[..., Page]
ROOT = Path(__file__).resolve().parents[2]
# Those in the reading order, and those that Sphinx makes.
PAGES = sorted(
    [f"{page}.html" for page in parse_toc_yaml(ROOT / "_toc.yml")]
    + ["404.html", "search.html"]
)
WIDTHS = {"phone": 390, "desktop": 1280}
LOOKS = [(theme, x) for theme in ("light", "dark") for x in WIDTHS.values()]
# What axe judges: each page in one of the looks, these two in all of them.
JUDGED = {page: [LOOKS[i % 4]] for i, page in enumerate(PAGES)}
JUDGED |= dict.fromkeys(("index.html", "chapters/rank.html"), LOOKS)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Rules of axe that a page may break, each with the reason. None is needed.
WAIVED: dict[str, str] = {}
# What a first visit may transfer, in kB (1000 bytes), compressed: a page
# without formulas, one with formulas, and the index that searches them all.
HEAVIEST = {False: 185, True: 350}
INDEX = 300

LOOK = r"""async () => {
  const found = [];
  const name = (e) => e.tagName.toLowerCase() + (e.id ? `#${e.id}` : "") +
    (e.classList[0] ? `.${e.classList[0]}` : "");
  const root = document.documentElement;

  // For screen readers alone, and larger than the formula it stands for.
  const style = document.createElement("style");
  style.textContent = "mjx-assistive-mml { display: none !important }";
  document.head.append(style);
  // What is far from the screen, or folded, counts as well.
  const all = document.createElement("style");
  all.textContent = "* { content-visibility: visible !important }";
  document.head.append(all);
  document.querySelectorAll("details").forEach((e) => { e.open = true; });

  // Explorables wait until they come near; pictures may, too.
  const late = [...document.querySelectorAll("*")]
    .filter((e) => e.localName.startsWith("lr-"));
  for (const e of late) {
    e.scrollIntoView({ behavior: "instant" });
    for (let i = 0; i < 200 && !e.hasAttribute("data-ready"); i++)
      await new Promise((wait) => setTimeout(wait, 50));
    if (!e.hasAttribute("data-ready")) found.push(`${name(e)} never starts`);
  }
  scrollTo({ top: 0, behavior: "instant" });

  for (const image of document.images) {
    image.loading = "eager";
    await image.decode().catch(() => {});
    if (!image.naturalWidth)
      found.push(`picture not shown: ${image.src.slice(-60)}`);
  }
  await document.fonts.ready;
  for (const font of document.fonts)
    if (font.status === "error") found.push(`font not loaded: ${font.family}`);

  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.body.querySelectorAll("*")].filter((e) =>
      e.getBoundingClientRect().right > root.clientWidth + 1);
    found.push(`sideways scroll to ${root.scrollWidth}: ` +
      wide.slice(-3).map(name).join(", "));
  }
  // What sticks out of a box that does not scroll is cut off.
  for (const e of document.querySelectorAll("article *")) {
    const style = getComputedStyle(e);
    if (e.scrollWidth > e.clientWidth + 2 && e.clientWidth > 20 &&
        ["hidden", "clip"].includes(style.overflowX) &&
        !e.closest("mjx-container") && e.localName !== "input")
      found.push(`cut off: ${name(e)} ${e.textContent.trim().slice(0, 30)}`);
  }
  style.remove();

  for (const e of document.querySelectorAll(".math"))
    if (!e.querySelector("mjx-container mjx-math"))
      found.push(`formula not typeset: ${e.textContent.slice(0, 40)}`);
  if (document.querySelector("mjx-merror, [data-mjx-error]"))
    found.push("formula with an error");
  const texts = document.createTreeWalker(document.body, 4);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (!text.parentElement.closest("code, pre, script, style, noscript") &&
        /\\[([]|\$\$|\\(frac|sum|norm|top)\b/.test(text.data))
      found.push(`formula as text: ${text.data.trim().slice(0, 40)}`);
  }
  return found;
}"""


# What there is thousands of on a page, alike, and what axe takes a minute for:
# of the tokens of code, a few of each colour stay; a formula, whose parts are
# hidden from screen readers or for them alone, leaves its place empty.
THIN = """() => {
  const formulas = [...document.querySelectorAll("mjx-container")];
  const boxes = formulas.map((e) => e.getBoundingClientRect());
  formulas.forEach((e, i) => {
    const { width, height } = boxes[i];
    e.style.cssText += `;display:inline-block;width:${width}px;` +
      `height:${height}px`;
    e.textContent = "";
  });
  const seen = {};
  for (const e of document.querySelectorAll("pre span[class]:not(:has(*))")) {
    const kind = `${e.className} in ${e.closest("div").className}`;
    seen[kind] = (seen[kind] ?? 0) + 1;
    if (seen[kind] > 3) e.replaceWith(e.textContent);
  }
}"""


def look(page: Page) -> list[str]:
    """Return what can be seen to be wrong with a page."""
    found: list[str] = page.evaluate(LOOK)
    return found


def ask_axe(page: Page, script: Path) -> list[str]:
    """Return axe's violations: the rule, and the first element.

    Without `preload: false` axe fetches style sheets anew.
    """
    page.evaluate(THIN)
    page.evaluate(script.read_text(encoding="utf8"))
    result = page.evaluate(
        "(tags) => axe.run({runOnly: tags, resultTypes: ['violations'],"
        " preload: false})",
        [*RULES, "best-practice"],
    )
    return [
        f"axe {each['id']}: {len(each['nodes'])} x "
        + " ".join(each["nodes"][0]["html"].split())[:100]
        for each in result["violations"]
        if each["id"] not in WAIVED
    ]


def choose(page: Page, theme: str) -> None:
    """Choose a theme, as the button does, for the pages to come."""
    page.context.add_init_script(
        f"localStorage.setItem('mode', '{theme}');"
        f"localStorage.setItem('theme', '{theme}')"
    )


def pages_of(site: Path) -> list[str]:
    """Return every page of the site."""
    return sorted(
        path.relative_to(site).as_posix()
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    )


def chapters_of(site: Path) -> list[str]:
    """Return the pages with notebooks."""
    return [
        page
        for page in pages_of(site)
        if (site / "_sources" / page).with_suffix(".ipynb").exists()
    ]


@pytest.fixture
def chapter(site_dir: Path) -> str:
    """Return a page with code, formulas, figures and solutions."""
    found = chapters_of(site_dir)
    assert found
    return found[0]


# Every page -----------------------------------------------------------------


def wear(page: Page, theme: str, width: int) -> None:
    """Choose a theme, against the system's, and a width of the window."""
    system: Any = {"light": "dark", "dark": "light"}[theme]
    page.emulate_media(color_scheme=system)
    page.set_viewport_size({"width": width, "height": 900})
    choose(page, theme)


def test_the_pages_are_those_of_the_site(site_dir: Path) -> None:
    assert pages_of(site_dir) == PAGES


@pytest.mark.parametrize("path", PAGES)
def test_page_is_seen(path: str, open_page: Open, site_url: str) -> None:
    """In both widths and in both themes, two of the four looks."""
    first = PAGES.index(path) % 2
    found = []
    page = open_page("404.html")
    for theme, width in (LOOKS[first], LOOKS[3 - first]):
        wear(page, theme, width)
        page.goto(f"{site_url}/{path}")
        shown = page.evaluate("document.documentElement.dataset.theme")
        if shown != theme:
            found.append(f"shows the {shown} theme")
        found += look(page)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("path", "theme", "width"),
    [(page, *each) for page, looks in JUDGED.items() for each in looks],
)
def test_page_is_accessible(
    path: str,
    theme: str,
    width: int,
    open_page: Open,
    site_url: str,
    axe: Path,
) -> None:
    """As it is when it has been loaded: nothing is laid out for axe."""
    page = open_page("404.html")
    wear(page, theme, width)
    page.goto(f"{site_url}/{path}")
    found = ask_axe(page, axe)
    assert not found, "\n".join(["", *found])


def test_axe_sees_every_look_of_a_page() -> None:
    assert {look for looks in JUDGED.values() for look in looks} == set(LOOKS)
    assert JUDGED.keys() == set(PAGES)


BROKEN_PAGES = {
    "sideways": '<div style="width: 3000px">wide</div>',
    "cut off": '<article><p style="overflow: hidden; width: 90px">'
    '<b style="display: block; width: 300px">x</b></p></article>',
    "not typeset": '<span class="math">x</span>',
    "with an error": "<mjx-merror>x</mjx-merror>",
    "as text": "<p>so \\(x\\) holds</p>",
    "picture": '<img alt="A broken picture" src="data:image/png;base64,AAAA">',
    "axe image-alt": '<img src="data:image/gif;base64,'
    'R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==">',
    "axe color-contrast": '<p style="color: #aaa; background: #fff">pale</p>',
    "axe heading-order": "<h3>deep</h3>",
    # Of many alike, axe is shown three.
    "axe color-contrast: 3 x": "<div><pre>"
    + '<span class="k" style="color: #aaa">pale</span> ' * 9
    + "</pre></div>",
}
WHOLE_PAGE = (
    '<!DOCTYPE html><html lang="en"><title>A page</title><main><h1>A page</h1>'
    "{}</main></html>"
)


def test_sound_page_passes(browser: Browser, axe: Path) -> None:
    page = browser.new_page()
    page.set_content(WHOLE_PAGE.format("<p>Text, <code>\\(x\\)</code>.</p>"))
    assert look(page) + ask_axe(page, axe) == []
    page.close()


@pytest.mark.parametrize("fault", BROKEN_PAGES)
def test_looking_bites(fault: str, browser: Browser, axe: Path) -> None:
    page = browser.new_page()
    page.set_content(WHOLE_PAGE.format(BROKEN_PAGES[fault]))
    found = look(page) + ask_axe(page, axe)
    page.close()
    assert any(fault in each for each in found), found


# Keys -----------------------------------------------------------------------


def pixels(picture: bytes) -> np.ndarray:
    """Return the pixels of a screenshot, as (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), int)


def focused(page: Page) -> tuple[str, dict[str, float]]:
    """Return the element that has the focus, and where it is."""
    answer = page.evaluate(
        """async () => {
          await new Promise((wait) => setTimeout(wait, 30));
          for (const moving of document.getAnimations())
            if (moving.effect.getTiming().iterations !== Infinity)
              moving.finish();
          let e = document.activeElement;
          while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
          const box = e.getBoundingClientRect();
          const words = e.ariaLabel || e.textContent || e.title;
          return [`${e.localName}.${e.classList[0] ?? ""} ` +
            words.trim().replace(/\\s+/g, " ").slice(0, 40),
            {x: box.x, y: box.y, width: box.width, height: box.height}];
        }"""
    )
    return answer[0], answer[1]


def focus_is_seen(page: Page, box: dict[str, float]) -> bool:
    """Return whether the focused element looks different without focus."""
    view = page.viewport_size
    assert view
    left, top = max(box["x"] - 5, 0), max(box["y"] - 5, 0)
    right = min(box["x"] + box["width"] + 5, view["width"])
    bottom = min(box["y"] + box["height"] + 5, view["height"])
    if right - left < 11 or bottom - top < 11:
        return False
    clip: Any = {
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
    }
    with_focus = pixels(page.screenshot(clip=clip, animations="disabled"))
    page.evaluate(
        "() => { let e = document.activeElement;"
        " while (e.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;"
        " e.blur(); }"
    )
    without = pixels(page.screenshot(clip=clip, animations="disabled"))
    changed = np.abs(with_focus - without).max(axis=2) > 40
    # At least as much as an outline of one pixel on two sides.
    return bool(changed.sum() >= min(box["width"], box["height"]))


def walk(page: Page, steps: int) -> tuple[list[str], list[str]]:
    """Press Tab; return what was reached and where the focus is not seen."""
    reached, unseen = [], []
    for _ in range(steps):
        page.keyboard.press("Tab")
        element, box = focused(page)
        reached.append(element)
        if not focus_is_seen(page, box):
            unseen.append(element)
    return reached, unseen


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_tab_reaches_everything_and_is_seen(
    theme: str, width: int, open_page: Open, site_url: str, chapter: str
) -> None:
    page = open_page("index.html", viewport={"width": width, "height": 900})
    choose(page, theme)
    page.goto(f"{site_url}/{chapter}")
    reached, unseen = walk(page, 40 if width > 1000 else 14)
    wanted = ["Skip to main content", "Download this page", "Color mode"]
    wanted += ["Search", "Code"]
    wanted += ["Notation"] if width > 1000 else ["Toggle primary sidebar"]
    assert [x for x in wanted if not any(x in y for y in reached)] == []
    assert "Skip to main content" in reached[0]
    assert unseen == []


def test_walk_bites(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content(
        "<style>b:focus, i:focus { outline: none }"
        "s:focus { outline: 2px solid }</style>"
        "<b tabindex=0>no focus ring</b><br><s tabindex=0>a ring, seen</s>"
        '<i tabindex=0 style="position: absolute; left: -999px">away, too</i>'
    )
    reached, unseen = walk(page, 3)
    page.close()
    assert len(reached) == 3
    assert [x[:2] for x in unseen] == ["b.", "i."]


def test_far_code_that_scrolls_is_reached_by_keyboard(
    open_page: Open, chapter: str
) -> None:
    page = open_page(chapter, viewport={"width": 390, "height": 800})
    # Late in the chapter: it is laid out only when the reader gets there.
    page.evaluate("""() => {
      const all = document.querySelectorAll("article section > section pre");
      [...all].findLast((e) => e.scrollWidth > e.clientWidth).id = "far";
    }""")
    far = page.locator("#far")
    far.scroll_into_view_if_needed()
    expect(far).to_have_attribute("tabindex", "0")


def test_skip_link_leads_to_the_text(open_page: Open, chapter: str) -> None:
    page = open_page(chapter)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(
        "document.querySelector('main').contains(document.activeElement)"
    )


def test_phone_opens_the_table_of_contents_by_keys(
    open_page: Open, chapter: str
) -> None:
    page = open_page(chapter, viewport={"width": 390, "height": 800})
    link = page.locator(".bd-links a", has_text="Notation")
    box = link.bounding_box()
    assert box is None or box["x"] + box["width"] <= 0
    page.locator(".primary-toggle").focus()
    page.keyboard.press("Enter")
    page.locator("dialog .bd-links a", has_text="Notation").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog .bd-links").wait_for(state="hidden")


def test_search_finds_a_word(open_page: Open, chapter: str) -> None:
    page = open_page("index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("rank")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"search\.html\?q=rank"))
    results = page.locator("#search-results ul.search a")
    # Results come in one by one.
    page.locator(f"ul.search a[href*='{chapter}']").first.wait_for()
    results.first.click()
    page.wait_for_load_state()
    assert "rank" in page.locator("article").inner_text().lower()


def test_download_menu_opens_by_keys(open_page: Open, chapter: str) -> None:
    page = open_page(chapter)
    page.locator(".dropdown-download-buttons > button").focus()
    page.keyboard.press("Enter")
    link = page.locator("a.dropdown-item", has_text=".ipynb")
    with page.expect_download() as download:
        page.keyboard.press("ArrowDown")
        assert link.evaluate("(a) => a === document.activeElement")
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == f"{Path(chapter).stem}.ipynb"


# Solutions ------------------------------------------------------------------


def shown(page: Page, selector: str) -> list[bool]:
    """Return whether each element is shown, or is tucked away."""
    answer: list[bool] = page.locator(selector).evaluate_all(
        "(all) => all.map((e) => e.offsetHeight > 10"
        " && e.checkVisibility({visibilityProperty: true, opacity: true}))"
    )
    return answer


def test_solutions_wait_for_the_reader(open_page: Open, chapter: str) -> None:
    page = open_page(chapter)
    inside = ".solution .cell"
    page.locator(".solution .toggle-button").first.wait_for()
    assert len(shown(page, inside)) >= 4
    assert not any(shown(page, inside))
    for press in ("click", "Enter", "Space"):
        toggle = page.locator(".solution .toggle-button").first
        if press == "click":
            page.locator(".solution .admonition-title").first.click()
        else:
            toggle.press(press)
        is_shown = press != "Enter"
        assert shown(page, inside)[0] == is_shown
        label = toggle.get_attribute("aria-expanded")
        assert label == str(is_shown).lower()
    # The others are still the reader's to find.
    assert not any(shown(page, f".solution ~ .solution {inside}"))


def test_without_scripts_nothing_is_missing(
    open_page: Open, chapter: str
) -> None:
    page = open_page(chapter, java_script_enabled=False)
    assert page.locator(".math mjx-container").count() > 20
    cells = page.locator(".solution .cell")
    assert all(cell.is_visible() for cell in cells.all())
    dead = ".pst-js-only, [data-do], .sidebar-toggle"
    assert page.locator(dead).locator("visible=true").count() == 0
    page.locator(".dropdown-download-buttons > button").focus()
    assert page.locator("a.dropdown-item", has_text=".ipynb").is_visible()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.locator(".bd-links a", has_text="Notation").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


# Themes ---------------------------------------------------------------------


def test_figures_follow_the_theme_button(
    open_page: Open, chapter: str
) -> None:
    page = open_page(chapter, color_scheme="light")
    button = page.locator(".theme-switch-button:visible")
    # One in a closed fold would never be loaded.
    figure = page.locator("article figure img:visible").last
    # Pictures come when they are looked at, and are decoded after that.
    figure.scroll_into_view_if_needed()
    figure.evaluate("(image) => image.decode()")
    ink, ground = {}, {}
    for _ in range(3):
        button.click()
        page.mouse.move(0, 0)
        theme = page.evaluate("document.documentElement.dataset.theme")
        picture = figure.screenshot(animations="disabled")
        grey = pixels(picture).mean(axis=2)
        ground[theme] = np.median(grey)
        # The ink is what is furthest from the ground.
        ink[theme] = max(
            np.percentile(grey, [0.5, 99.5]),
            key=lambda x, theme=theme: abs(x - ground[theme]),
        )
    assert set(ground) == {"light", "dark"}
    assert ground["light"] > 230
    assert ground["dark"] < 60
    assert ink["light"] < 110
    assert ink["dark"] > 160


# Paper, disks, motion -------------------------------------------------------


def test_print_cuts_nothing_off(open_page: Open, chapter: str) -> None:
    # A4 at 96 dots per inch, without the margins.
    page = open_page(chapter, viewport={"width": 718, "height": 1047})
    page.emulate_media(media="print")
    page.add_style_tag(
        content="mjx-assistive-mml { display: none !important }"
    )
    cut = page.evaluate(
        """() => [...document.querySelectorAll("article *")]
          .filter((e) => e.clientWidth > 20 &&
            e.scrollWidth > e.clientWidth + 3 &&
            getComputedStyle(e).overflowX !== "visible")
          .map((e) => `${e.localName} in ` +
            `${e.parentElement.className}: ${e.textContent.slice(0, 50)}`)"""
    )
    assert cut == []
    for screen_only in (".bd-header-article", ".bd-sidebar-primary"):
        assert not any(shown(page, screen_only))


def test_paper_shows_the_solutions(open_page: Open, chapter: str) -> None:
    page = open_page(chapter)
    page.locator(".solution .toggle-button").first.wait_for()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert all(shown(page, ".solution .cell"))


def test_pages_work_from_a_disk(
    open_page: Open, site_dir: Path, chapter: str
) -> None:
    page = open_page((site_dir / chapter).as_uri())
    assert look(page) == []
    page.locator(".solution .admonition-title").first.click()
    assert shown(page, ".solution .cell")[0]
    page.locator(
        ".prev-next-area a, .bd-links a:not([href='#'])"
    ).first.click()
    page.wait_for_load_state()
    assert page.locator("article h1").is_visible()


def test_nothing_moves_for_who_wants_stillness(
    open_page: Open, chapter: str
) -> None:
    # Colours may fade; what is placed or sized must not travel.
    moving = """() => [document.documentElement,
        ...document.querySelectorAll("body *")].flatMap((e) => {
      const style = getComputedStyle(e);
      const name = `${e.localName}.${e.classList[0] ?? ""}`;
      const moves = /all|transform|left|right|top|bottom|margin|height|width/;
      const long = (times) => times.split(",").some((t) =>
        parseFloat(t) * (t.includes("ms") ? 0.001 : 1) > 0.01);
      return [
        ...(style.scrollBehavior === "smooth" ? [`${name} scrolls`] : []),
        ...(style.animationName !== "none" && long(style.animationDuration)
          ? [`${name} is animated`] : []),
        ...(long(style.transitionDuration) && moves.test(
          style.transitionProperty) ? [`${name} moves slowly`] : []),
      ];
    })"""
    page = open_page(chapter, reduced_motion="reduce")
    assert sorted(set(page.evaluate(moving))) == []


# Weight ---------------------------------------------------------------------


def compressed(file: Path) -> int:
    """Return what a server such as GitHub Pages sends for a file."""
    content = file.read_bytes()
    packed = {".woff", ".woff2", ".png", ".jpg", ".jpeg", ".gif", ".webp"}
    if file.suffix in packed:
        return len(content)
    return len(gzip.compress(content, 6))


@pytest.mark.parametrize("path", PAGES)
def test_first_visit_is_light(
    path: str, open_page: Open, site_dir: Path, site_url: str
) -> None:
    """What the browser asks for, without scrolling, and nothing cached."""
    page = open_page("404.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    session = page.context.new_cdp_session(page)
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    page.goto(f"{site_url}/{path}", wait_until="networkidle")
    files = {unquote(urlsplit(url).path).lstrip("/") for url in asked}
    weights = {x: compressed(site_dir / x) / 1000 for x in files}
    assert path in weights
    formulas = page.locator("mjx-container").count() > 0
    most = sorted(weights.items(), key=lambda item: -item[1])[:6]
    parts = ", ".join(f"{x[-40:]} {n:.0f}" for x, n in most)
    allowed = HEAVIEST[formulas] + INDEX * (path == "search.html")
    assert sum(weights.values()) <= allowed, parts


def test_compressed_weighs_as_sent(tmp_path: Path) -> None:
    text, font = tmp_path / "x.css", tmp_path / "x.woff2"
    text.write_text("a { color: red }" * 1000)
    font.write_text("a { color: red }" * 1000)
    assert compressed(text) < 500
    assert compressed(font) == 16000


def test_every_shape_of_page_is_there(site_dir: Path) -> None:
    """The checks above saw pages with and without formulas."""
    texts = [(site_dir / x).read_text("utf8") for x in pages_of(site_dir)]
    formulas: list[Any] = ["<mjx-container" in text for text in texts]
    assert set(formulas) == {True, False}
