"""The explorables: what Python writes, and each one driven in a browser.

The numbers on the page are compared with NumPy or with the book's package.
"""

from __future__ import annotations

import base64
import gzip
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, Page, expect

from lorabook import cost, data, explorables, linalg
from lorabook.assets import assets_folder
from lorabook.explorables import REGISTRY, STATIC, show

ROOT = Path(__file__).resolve().parents[2]
FOLDER = assets_folder() / "explorables"
PAGES = {
    "rank-collapse": "chapters/rank.html",
    "svd-image": "chapters/svd.html",
    "svd-ellipse": "chapters/svd.html",
    "lora-shapes": "chapters/lora_in_one_page.html",
    "truncation-race": "chapters/best_approximation.html",
    "descent": "chapters/matrix_factorization.html",
    "lora-calculator": "chapters/cost.html",
    "update-spectrum": "chapters/low_rank_updates.html",
    "alpha-lr": "chapters/initialization_and_scaling.html",
}
NAMES = list(PAGES)
# Values that fit, and values that do not, of every kind of attribute.
GOOD = {
    ("rank-collapse", "matrix"): ["3 0; 4 5", "1 0 0; 0 1e-3 0; 0 0 -100"],
    ("rank-collapse", "tolerance"): ["0", "1e-10", "1"],
    ("svd-image", "rank"): ["1", "20", "137"],
    ("svd-image", "picture"): ["photograph", "noise"],
    ("svd-ellipse", "matrix"): ["1, 2; 3, 4", "0 0; 0 0"],
    ("svd-ellipse", "angle"): ["0", "58.3", "360"],
    ("lora-shapes", "outputs"): ["16", "16384"],
    ("lora-shapes", "inputs"): ["16", "3000"],
    ("lora-shapes", "rank"): ["1", "512", "16384"],
    ("truncation-race", "matrix"): ["1 2; 3 4", "0 0; 0 0"],
    ("descent", "start"): ["small", "lora", "zero"],
    ("descent", "size"): ["1e-6", "0.03", "1"],
    ("descent", "rank"): ["1", "6"],
    ("descent", "rate"): ["0.01", "0.5", "3"],
    ("lora-calculator", "model"): ["gpt2", "tiny-gpt", "llama-3-70b"],
    ("lora-calculator", "rank"): ["1", "16", "16384"],
    ("lora-calculator", "targets"): ["qv", "all-linear"],
    ("lora-calculator", "base"): ["bf16", "nf4"],
    ("update-spectrum", "layer"): ["all", "blocks.3.attention.o"],
    ("update-spectrum", "rank"): ["1", "11", "128"],
    ("alpha-lr", "optimizer"): ["adam", "sgd"],
    ("alpha-lr", "scaling"): ["r", "root"],
    ("alpha-lr", "alpha"): ["1", "16", "2.56e2"],
    ("alpha-lr", "rank"): ["1", "8", "16.0"],
    ("alpha-lr", "lr"): ["0.0009765625", "0.0078125", "0.5"],
}
BAD = {
    ("rank-collapse", "matrix"): ["", "1 2; 3", "1", "1 2; 3 x", "101 0; 0 1"],
    ("rank-collapse", "tolerance"): ["", "-1", "2", "nan", "small"],
    ("svd-image", "rank"): ["", "0", "138", "2.5", "ten"],
    ("svd-image", "picture"): ["", "cat"],
    ("svd-ellipse", "matrix"): ["1 0 0; 0 1 0; 0 0 1", "1 2 3 4"],
    ("svd-ellipse", "angle"): ["", "-1", "361", "north"],
    ("lora-shapes", "outputs"): ["", "15", "16385", "wide"],
    ("lora-shapes", "inputs"): ["", "15.5", "-16"],
    ("lora-shapes", "rank"): ["", "0", "2.5", "16385"],
    ("truncation-race", "matrix"): ["1 0 0; 0 1 0; 0 0 1", "1 2; 3 x"],
    ("descent", "start"): ["", "large"],
    ("descent", "size"): ["", "0", "2", "tiny"],
    ("descent", "rank"): ["", "0", "7", "1.5"],
    ("descent", "rate"): ["", "0", "4"],
    ("lora-calculator", "model"): ["", "llama-9"],
    ("lora-calculator", "rank"): ["", "0", "2.5", "16385"],
    ("lora-calculator", "targets"): ["", "q", "everything"],
    ("lora-calculator", "base"): ["", "fp16", "int4"],
    ("update-spectrum", "layer"): ["", "q", "blocks.4.up", "blocks.2"],
    ("update-spectrum", "rank"): ["", "0", "129", "1.5", "eight"],
    ("alpha-lr", "optimizer"): ["", "Adam", "adamw"],
    ("alpha-lr", "scaling"): ["", "alpha/r"],
    ("alpha-lr", "alpha"): ["", "0", "-16", "24", "0.5", "512", "big"],
    ("alpha-lr", "rank"): ["", "0", "3", "32", "0.5"],
    ("alpha-lr", "lr"): ["", "0", "0.01", "1", "nan", "-0.5"],
}

Open = Callable[..., Page]


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
    """Open the chapter of an explorable, without animations."""
    options = {"reduced_motion": "reduce", **options}
    return find(open_page(PAGES[name], **options), name)


def number(text: str) -> float:
    """Read a number as the explorables write it."""
    match = re.search(r"−?[\d.]+(×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?", text)
    assert match is not None, text
    plain = match.group().replace("−", "-").replace("×10", "e")
    return float(plain.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))


def entries(element: Locator) -> np.ndarray:
    """Read the matrix that was typed or dragged."""
    cells = element.locator(".matrix input")
    values = [float(cells.nth(k).input_value()) for k in range(cells.count())]
    side = int(len(values) ** 0.5)
    return np.array(values).reshape(side, side)


def type_matrix(element: Locator, M: Any) -> None:
    cells = element.locator(".matrix input")
    for k, x in enumerate(np.ravel(M)):
        cells.nth(k).fill(str(x))


# ---- Python's side ----------------------------------------------------------


def test_in_the_book_only_the_element_is_written(monkeypatch):
    monkeypatch.setenv("LORABOOK_SITE", "1")
    bundle = show("svd-image", rank=20)._repr_mimebundle_(
        include=None, exclude=None
    )
    html = bundle["text/html"]
    assert '<lr-svd-image rank="20"><noscript><img src="' in html
    assert f'"{STATIC}fallback/svd-image.svg"' in html
    assert "<script" not in html
    assert len(html) < 1000
    assert "svd-image" in bundle["text/plain"]


@pytest.mark.parametrize("name", NAMES)
def test_elsewhere_everything_comes_along(name, monkeypatch):
    monkeypatch.delenv("LORABOOK_SITE", raising=False)
    html = show(name)._repr_mimebundle_()["text/html"]
    parts = html.split("<script>")
    files = [*REGISTRY[name].scripts]
    files[1:1] = [f"data/{data}.js" for data in REGISTRY[name].data]
    for part, file in zip(parts[1:], files, strict=True):
        code, rest = part.split("</script>")
        assert code == (FOLDER / file).read_text("utf-8")
        assert rest.strip() == ""
    assert STATIC not in html
    assert "<noscript" not in html  # a notebook that is not trusted shows it
    assert "data:image/svg+xml;base64," in parts[0]


def test_unknown_names_and_attributes_are_named():
    with pytest.raises(ValueError, match=r"no explorable 'svd'.*svd-ellipse"):
        show("svd")
    with pytest.raises(ValueError, match=r"no attribute 'ranks'.*rank, pict"):
        show("svd-image", ranks=3)
    with pytest.raises(ValueError, match="whole number from 1 to 137"):
        show("svd-image", rank=0)


@pytest.mark.parametrize(("name", "key"), GOOD)
def test_values_of_attributes(name, key):
    for value in GOOD[name, key]:
        assert key in show(name, **{key: value}).attributes
    bad: list[Any] = [*BAD[name, key], None, [], float("inf"), {}]
    for value in bad:
        with pytest.raises(ValueError, match=f"{key} must be "):
            show(name, **{key: value})


def test_every_attribute_has_examples():
    assert GOOD.keys() == BAD.keys()
    assert set(GOOD) == {
        (name, key) for name in REGISTRY for key in REGISTRY[name].attributes
    }


def test_a_matrix_may_come_in_any_form():
    rows = [[3.0, 0.0], [4.0, 5.0]]
    forms = ["3 0; 4 5", rows, np.array(rows), torch.tensor(rows)]
    made = {show("svd-ellipse", matrix=form).html(False) for form in forms}
    assert len(made) == 1
    assert 'matrix="3 0; 4 5"' in made.pop()


def test_attributes_are_escaped():
    made = explorables.Explorable("svd-image", {"picture": '"><script>'})
    assert "<script>" not in made.html(inline=False)


def test_weights():
    """Scripts weigh a few kilobytes, their data a few tens."""

    def weight(path: str) -> int:
        return len(gzip.compress((FOLDER / path).read_bytes(), 6))

    for name, entry in REGISTRY.items():
        for path in entry.scripts:
            assert weight(path) < 6_000, path
        assert sum(map(weight, entry.scripts)) < 15_000, name
        assert (FOLDER / "fallback" / f"{name}.svg").stat().st_size < 25_000
    assert weight("data/photo.js") < 20_000
    assert weight("data/updates.js") < 30_000


def test_scripts_ask_for_nothing():
    for path in FOLDER.glob("*.js"):
        code = path.read_text("utf-8")
        code = code.replace("http://www.w3.org/2000/svg", "")
        found = re.findall(r"https?:|\bfetch\(|XMLHttp|\bimport\b", code)
        assert found == [], path.name


def test_data_and_still_pictures_are_up_to_date():
    import stills as make

    for name, write in make.FILES.items():
        # Another build of Pillow may encode a JPEG in other bytes.
        jpeg = re.compile(r"base64,[^\"]*")
        stored = (FOLDER / name).read_text("utf-8")
        assert jpeg.sub("", stored) == jpeg.sub("", write()), name


def test_the_data_is_the_photograph():
    text = (FOLDER / "data" / "photo.js").read_text("utf-8")
    match = re.search(r'rows: (\d+), columns: (\d+), pixels: "(.*)"', text)
    assert match is not None
    rows, columns = int(match[1]), int(match[2])
    raw = np.frombuffer(base64.b64decode(match[3]), dtype=np.uint8)
    photo = data.photo(160).numpy()
    assert (rows, columns) == photo.shape
    assert columns == explorables.RANKS
    error = np.abs(raw.reshape(rows, columns) / 255 - photo).max()
    assert error <= 0.5 / 255 + 1e-9


def test_descriptions_say_what_is_true():
    sigma = np.linalg.svd([[3, 0], [4, 5]])[1]
    for value in sigma:
        assert f"{value:.3f}" in REGISTRY["rank-collapse"].alt
    assert np.linalg.norm([[1.5, -1.5], [-0.5, 0.5]]) == pytest.approx(
        sigma[1]
    )
    words = REGISTRY["lora-calculator"].alt
    full, lora = (cost.training_memory("llama-3-8b", r) for r in (None, 16))
    assert f"full it takes {full.total / 1e9:.1f} GB" in words
    assert f"LoRA {lora.total / 1e9:.1f} GB" in words
    assert 0.4 < full.optimizer / full.total < 0.5
    assert lora.weights / lora.total > 0.85
    for entry in REGISTRY.values():
        assert 80 < len(entry.alt) < 320


# ---- the Sphinx extension ---------------------------------------------------


def build(folder: Path, pages: dict[str, str]) -> str:
    """Build pages of MyST with the extension; return the warnings."""
    (folder / "conf.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'extensions')!r})\n"
        "extensions = ['myst_parser', 'explorables']\n"
        "html_theme = 'basic'\n"
        f"html_static_path = [{str(assets_folder())!r}]\n"
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


def test_pages_load_what_they_use(tmp_path):
    warnings = build(
        tmp_path,
        {
            "index": "Nothing to move here.",
            "one": "```{explorable} svd-image\n:rank: 7\n:picture: noise\n```",
            "deep/two": "```{explorable} rank-collapse\n```\n\n"
            "```{explorable} svd-ellipse\n:matrix: 3 0; 4 5\n```",
        },
    )
    assert warnings == ""
    plain, one, two = (
        (tmp_path / "out" / f"{name}.html").read_text()
        for name in ("index", "one", "deep/two")
    )

    def loaded(page: str) -> list[str]:
        return re.findall(r'<script defer="defer" src="([^"?]*)', page)

    assert "explorables/" not in plain
    assert loaded(one) == [
        "_static/explorables/core.js",
        "_static/explorables/svd-image.js",
    ]
    assert '<lr-svd-image rank="7" picture="noise">' in one
    assert loaded(two) == [
        f"../_static/explorables/{name}.js"
        for name in ("core", "plane", "rank-collapse", "svd-ellipse")
    ]
    for page in (one, two):
        assert STATIC not in page
        assert len(re.findall(r"explorables/explorables\.css", page)) == 1
    assert 'src="../_static/explorables/fallback/svd-ellipse.svg"' in two


def test_the_directive_names_mistakes(tmp_path):
    warnings = build(
        tmp_path,
        {
            "index": "```{explorable} svd\n```",
            "value": "```{explorable} svd-image\n:rank: 200\n```",
            "key": "```{explorable} svd-image\n:angle: 20\n```",
            "raw": "<lr-nonsense></lr-nonsense>",
        },
    )
    assert "there is no explorable 'svd'; there are lora-sha" in warnings
    assert "rank must be a whole number from 1 to 137" in warnings
    assert "svd-image has no attribute 'angle'; it has rank, pict" in warnings
    assert "there is no explorable 'nonsense'" in warnings


# ---- every explorable, in the browser ---------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_attributes_mean_the_same_in_the_browser(open_page, name):
    """A bad one gets a sentence, and the figure starts all the same."""
    page = open_page(PAGES[name])
    find(page, name)
    make = """([name, key, value]) => {
      const element = document.createElement(`lr-${name}`);
      element.setAttribute(key, value);
      document.querySelector(".lr-explorable").before(element);
      element.id = "tried";
    }"""
    for wanted, table in ((False, GOOD), (True, BAD)):
        for (owner, key), values in table.items():
            if owner != name:
                continue
            for value in values:
                page.evaluate(make, [name, key, value])
                tried = page.locator("#tried")
                tried.scroll_into_view_if_needed()
                expect(tried).to_have_attribute("data-ready", "")
                alert = tried.locator("[role=alert]")
                if wanted:
                    allowed = REGISTRY[name].attributes[key].allowed
                    expect(alert).to_contain_text(f"{key} must be {allowed}")
                else:
                    expect(alert).to_be_empty()
                expect(tried.locator("svg").first).to_be_visible()
                page.evaluate("document.querySelector('#tried').remove()")


@pytest.mark.parametrize("width", [1280, 390, 320])
@pytest.mark.parametrize("path", sorted(set(PAGES.values())))
def test_fits(open_page, path, width):
    """Nothing sticks out of the figure, before and after the answer."""
    page = open_page(
        path,
        viewport={"width": width, "height": 800},
        reduced_motion="reduce",
    )
    for name in NAMES:
        if PAGES[name] != path:
            continue
        element = find(page, name)
        for state in ("before", "after"):
            if state == "after":
                element.get_by_role("button", name="Just show me").click()
            outside = element.evaluate("""e => {
              const edge = e.getBoundingClientRect();
              const all = [...e.shadowRoot.querySelectorAll(
                "figure *:not(svg *):not(.hidden)")];
              return all.filter(x => {
                const box = x.getBoundingClientRect();
                return box.width && (box.right > edge.right - 8 ||
                  box.left < edge.left);
              }).map(x => x.outerHTML.slice(0, 80));
            }""")
            assert outside == [], (name, state)
            assert element.evaluate(
                "e => e.getBoundingClientRect().right <= innerWidth"
            )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_accessible(open_page, axe, name, scheme):
    element = opened(open_page, name, color_scheme=scheme)
    page = element.page
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.add_script_tag(path=axe)
    states = [lambda: None]
    states.append(element.get_by_role("button", name="Just show me").click)
    if name == "rank-collapse":
        states.append(element.get_by_role("radio", name="3 × 3").check)
    for reach in states:
        reach()
        found = page.evaluate(
            """tag => axe.run(document.querySelector(tag),
              { preload: false }).then(result =>
              result.violations.map(v => [v.id, v.nodes[0].html,
                v.nodes[0].failureSummary]))""",
            f"lr-{name}",
        )
        assert found == []
        for kind, contrast, what in contrasts(element):
            assert contrast >= (4.5 if kind == "text" else 3), what


def contrasts(element: Locator) -> list[list[Any]]:
    """Return the contrast of each coloured thing that axe does not judge."""
    return element.evaluate("""e => {
      const ink = document.createElement("canvas").getContext("2d",
        { willReadFrequently: true });
      const light = (colour) => {
        ink.clearRect(0, 0, 1, 1);
        ink.fillStyle = colour;
        ink.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...ink.getImageData(0, 0, 1, 1).data].map(v =>
          (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const paper = light(getComputedStyle(
        e.shadowRoot.querySelector("figure")).backgroundColor);
      const contrast = (colour) => {
        const l = light(colour);
        return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05);
      };
      const result = [];
      const measure = (selector, property, kind) =>
        e.shadowRoot.querySelectorAll(selector).forEach(x => result.push([
          kind, contrast(getComputedStyle(x)[property]),
          x.outerHTML.slice(0, 90)]));
      measure("svg text", "fill", "text");
      measure("path.arrow, path.body, path.dash, path.dots, path.mark, " +
        "path.axis, path.cut", "stroke", "line");
      measure("path.bar, path.kept, .handle > :not(.reach)", "fill", "line");
      measure(".track .bar:not(.lost)", "backgroundColor", "line");
      return result;
    }""")


@pytest.mark.parametrize("name", NAMES)
def test_the_theme_recolours_it(open_page, name):
    element = opened(open_page, name, color_scheme="light")
    figure = element.locator("figure")
    look = """e => {
      const s = getComputedStyle(e);
      return [s.backgroundColor, s.color];
    }"""
    # The theme fades its own colours, so wait until they stand still.
    element.page.add_style_tag(content="* {transition: none !important}")
    body = element.page.locator("body")
    seen = []
    for theme in ("light", "dark"):
        element.page.evaluate(
            "theme => document.documentElement.dataset.theme = theme", theme
        )
        assert figure.evaluate(look) == body.evaluate(look)
        seen.append(figure.evaluate(look))
        if name != "svd-image":
            path = element.locator("path.body").first
            seen[-1].append(
                path.evaluate("e => getComputedStyle(e).stroke"),
            )
    assert all(a != b for a, b in zip(*seen, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_without_scripts_a_picture_stays(open_page, name):
    page = open_page(PAGES[name], java_script_enabled=False)
    picture = page.locator(f"lr-{name} img")
    picture.scroll_into_view_if_needed()
    expect(picture).to_be_visible()
    assert picture.get_attribute("alt") == REGISTRY[name].alt
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["height"] > 100  # it has arrived: text alone would be lower


@pytest.mark.parametrize("name", NAMES)
def test_opened_from_disk(open_page, site_dir, name):
    page = open_page((site_dir / PAGES[name]).as_uri())
    element = find(page, name)
    element.get_by_role("button", name="Just show me").click()
    verdict = {
        "rank-collapse": "2.236",
        "svd-image": "r = 33",
        "svd-ellipse": "2.303",
        "lora-shapes": "0.39%",
        "truncation-race": "2.236",
        "descent": "After 176",
        "lora-calculator": "It is 18.6",
        "update-spectrum": "It is 84.9%",
        "alpha-lr": "By 2, the root",
    }[name]
    expect(element.locator("#verdict")).to_contain_text(verdict)


@pytest.mark.parametrize("name", NAMES)
def test_inline_in_a_notebook(open_page, name, monkeypatch):
    """What `show` writes outside the book needs nothing from the site."""
    monkeypatch.delenv("LORABOOK_SITE", raising=False)
    html = show(name)._repr_mimebundle_()["text/html"]
    page = open_page("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_content(f"<h1>A notebook</h1>{html}")
    element = find(page, name)
    expect(element.locator("figure")).to_be_visible()
    expect(element.locator("[role=alert]")).to_be_empty()
    # JupyterLab looks for it before it takes an arrow key for itself.
    assert element.get_attribute("data-lm-suppress-shortcuts") == "true"
    assert [url for url in asked if not url.startswith("data:")] == []


@pytest.mark.parametrize("name", NAMES)
def test_on_paper(open_page, name):
    element = opened(open_page, name, color_scheme="dark")
    element.page.emulate_media(media="print")
    for control in ("form, .ask", "input[type=range]", "button"):
        for found in element.locator(control).all():
            expect(found).to_be_hidden()
    expect(element.locator("svg").first).to_be_visible()
    ink = element.locator("figure").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert ink == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize("name", ["rank-collapse", "svd-ellipse"])
def test_printing_does_not_wait_for_the_reader(open_page, name):
    page = open_page(PAGES[name])
    element = page.locator(f"lr-{name}")
    assert element.get_attribute("data-ready") is None
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert element.get_attribute("data-ready") == ""
    assert element.locator("path.grid").count() > 0


def test_data_comes_when_the_reader_is_near(open_page):
    page = open_page("index.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    assert asked
    assert not [url for url in asked if "/explorables/" in url]
    page.goto(page.url.replace("index.html", PAGES["svd-image"]))
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if "svd-image.js" in url]
    assert not [url for url in asked if "rank-collapse.js" in url]
    assert not [url for url in asked if "photo.js" in url]
    find(page, "svd-image")
    assert [url for url in asked if "photo.js" in url]


@pytest.mark.parametrize("name", NAMES)
def test_screen_readers_hear_the_end_of_a_movement(open_page, name):
    element = opened(open_page, name)
    sentences = element.evaluate(
        """async e => {
          const heard = [];
          const live = e.shadowRoot.querySelector(".hidden[role=status]");
          new MutationObserver(() => heard.push(live.textContent)).observe(
            live, { childList: true });
          const slider = e.shadowRoot.querySelector("[type=range]");
          for (let i = 1; i <= 10; i++) {
            slider.value = slider.min * 1 + i;
            slider.dispatchEvent(new Event("input"));
            await new Promise(done => setTimeout(done, 30));
          }
          await new Promise(done => setTimeout(done, 1000));
          return heard;
        }"""
    )
    assert len(sentences) == 1
    assert number(sentences[0].replace("a₁", "")) is not None


@pytest.mark.parametrize("name", NAMES)
def test_redraws_fast(open_page, name, capsys):
    """A redraw fits into a few frames, even on a slow machine."""
    element = opened(open_page, name)
    times = element.evaluate(
        """e => {
          const slider = e.shadowRoot.querySelector("[type=range]");
          const low = +slider.min, high = +slider.max, times = [];
          for (let i = 0; i <= 60; i++) {
            slider.value = low + (high - low) * i / 60;
            const begin = performance.now();
            slider.dispatchEvent(new Event("input"));
            times.push(performance.now() - begin);
          }
          return times.sort((a, b) => a - b);
        }"""
    )
    with capsys.disabled():
        print(f"\n{name}: redraw {times[30]:.1f} ms, worst {times[-1]:.1f} ms")
    assert times[30] < 60


# ---- the mathematics in JavaScript ------------------------------------------


def matrices() -> list[np.ndarray]:
    """Return matrices of many shapes, some without full rank."""
    rng = np.random.default_rng(0)
    shapes = [(2, 2), (3, 3), (2, 3), (30, 17), (17, 30)]
    some = [rng.normal(size=shape) for shape in shapes]
    some += [rng.normal(size=(m, 1)) @ rng.normal(size=(1, m)) for m in (2, 3)]
    some += [np.zeros((2, 2)), np.eye(3), np.diag([1e-9, 100.0, 1e-3])]
    return some


def test_svd_agrees_with_numpy(open_page):
    page = opened(open_page, "rank-collapse").page
    for M in matrices():
        got = page.evaluate(
            """M => {
              const { U, s, V } = LR.svd(M), plain = X => X.map(x => [...x]);
              return { U: plain(U), s, V: plain(V) };
            }""",
            M.tolist(),
        )
        U, V = np.array(got["U"]).T, np.array(got["V"]).T
        s = np.array(got["s"])
        wanted = np.linalg.svd(M, compute_uv=False)
        scale = max(wanted[0], 1e-300)
        np.testing.assert_allclose(s, wanted, atol=4e-15 * scale, rtol=1e-12)
        np.testing.assert_allclose((U * s) @ V.T, M, atol=4e-14 * scale)
        k = int((s > 1e-12 * scale).sum())
        for Q in (U[:, :k], V[:, :k]):
            np.testing.assert_allclose(Q.T @ Q, np.eye(k), atol=1e-12)


def test_rank_agrees_with_the_package(open_page):
    page = opened(open_page, "rank-collapse").page
    for M in matrices():
        for tolerance in (0.5, 1e-2, 1e-6, 1e-10, 1e-13):
            count, distance = page.evaluate(
                """([M, tolerance]) => {
                  const { s } = LR.svd(M);
                  const rank = LR.rank.count(s, tolerance);
                  return [rank, LR.rank.distance(s, Math.max(0, rank - 1))];
                }""",
                [M.tolist(), tolerance],
            )
            W = torch.from_numpy(M)
            assert count == linalg.numerical_rank(W, rtol=tolerance)
            if count > 1:
                U, S, Vh = linalg.truncated_svd(W, count - 1)
                off = torch.linalg.norm(W - U @ torch.diag(S) @ Vh).item()
                assert distance == pytest.approx(off, rel=1e-6)


def test_three_steps_give_the_matrix(open_page):
    page = opened(open_page, "svd-ellipse").page
    rng = np.random.default_rng(1)
    some = [rng.normal(size=(2, 2)) for _ in range(20)]
    some += [M for M in matrices() if M.shape == (2, 2)]
    some += [np.diag([2.0, -1.0]), np.array([[0.0, 1.0], [1.0, 0.0]])]
    mirrors = 0
    for A in some:
        parts, *steps = page.evaluate(
            """A => {
              const parts = LR.ellipse.parts(A);
              return [parts, ...[0, 1, 2, 3].map(step =>
                LR.ellipse.partial(parts, step))];
            }""",
            A.tolist(),
        )
        nothing, turned, stretched, all_ = map(np.array, steps)
        _, s, Vt = np.linalg.svd(A)
        np.testing.assert_allclose(parts["s"], s, atol=1e-14)
        np.testing.assert_allclose(all_, A, atol=1e-13)
        np.testing.assert_allclose(nothing, np.eye(2))
        # A rotation, and one whose transpose holds right singular vectors.
        np.testing.assert_allclose(turned @ turned.T, np.eye(2), atol=1e-14)
        assert np.linalg.det(turned) == pytest.approx(1)
        np.testing.assert_allclose(stretched, np.diag(s) @ turned, atol=1e-13)
        assert 0 <= parts["v"] < 180
        if s[0] - s[1] > 1e-6:
            angle = np.degrees(np.arctan2(Vt[0, 1], Vt[0, 0])) % 180
            off = (parts["v"] - angle + 90) % 180 - 90
            assert abs(off) < 1e-6
        if s[1] > 1e-9:
            assert parts["mirror"] == (np.linalg.det(A) < 0)
        mirrors += parts["mirror"]
    assert mirrors >= 4


# ---- rank-collapse ----------------------------------------------------------


def check_rank_collapse(element: Locator, tolerance: float) -> None:
    """Compare every number on display with NumPy's."""
    M = entries(element)
    sigma = np.linalg.svd(M, compute_uv=False)
    shown = element.locator(".values > div").all_inner_texts()
    for text, value in zip(shown, sigma, strict=True):
        assert number(text.split("=")[1]) == pytest.approx(
            value, abs=6e-4, rel=0.06
        )
    rank = linalg.numerical_rank(torch.from_numpy(M), rtol=tolerance)
    expect(element.locator("#rank")).to_have_text(f"{rank} of {len(M)}")
    assert element.locator(".bar:not(.lost)").count() == rank
    away = element.locator("#distance b")
    assert number(away.inner_text()) == pytest.approx(
        np.linalg.norm(sigma[rank - 1 :]), abs=6e-4, rel=0.06
    )


def test_rank_collapse_numbers(open_page):
    element = opened(open_page, "rank-collapse")
    type_matrix(element, [[3, 0], [4, 5]])
    shown = element.locator(".values > div").all_inner_texts()
    assert shown == ["σ₁ = 6.708", "σ₂ = 2.236"]
    default = 2 * np.finfo(np.float64).eps
    check_rank_collapse(element, default)
    expect(
        element.get_by_text("what A makes of it: an ellipse")
    ).to_be_visible()
    type_matrix(element, [[1, -2], [-0.5, 1]])
    expect(
        element.get_by_text("what A makes of it: a segment")
    ).to_be_visible()
    check_rank_collapse(element, default)


def test_rank_collapse_keyboard(open_page):
    element = opened(open_page, "rank-collapse")
    keyboard = element.page.keyboard
    start = entries(element)
    handle = element.get_by_role("slider", name="Tip of column a₁")
    handle.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowUp"):
        keyboard.press(key)
    moved = start + np.array([[0.2, 0], [0.9, 0]])
    np.testing.assert_allclose(entries(element), moved)
    check_rank_collapse(element, 4.5e-16)
    assert f"({moved[0, 0]:.3f}, " in (
        handle.get_attribute("aria-valuetext") or ""
    )
    # From the handles, Tab goes on to everything else.
    keyboard.press("Tab")
    assert "column a₂" in focused(element)
    for wanted in ("Tolerance", "float64", "float32", "bfloat16", "Go there"):
        keyboard.press("Tab")
        assert wanted in focused(element)
    keyboard.press("Enter")
    expect(element.locator("#rank")).to_have_text("1 of 2")


def focused(element: Locator) -> str:
    """Return the name of what has the focus."""
    name: str = element.evaluate("""e => {
      const at = e.shadowRoot.activeElement;
      if (!at) return "";
      return at.ariaLabel || at.labels?.[0]?.textContent || at.textContent;
    }""")
    return name


def test_rank_collapse_dragging(open_page):
    element = opened(open_page, "rank-collapse")
    mouse = element.page.mouse
    before = entries(element)
    element.locator(".after").scroll_into_view_if_needed()
    box = element.locator(".handle.c2 rect").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x - 40, y - 30, steps=4)
    mouse.up()
    after = entries(element)
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    assert after[0, 1] < before[0, 1]
    assert after[1, 1] > before[1, 1]
    check_rank_collapse(element, 4.5e-16)
    # Let go, the point does not follow any more.
    mouse.move(x - 30, y - 25, steps=3)
    np.testing.assert_array_equal(entries(element), after)


def test_rank_collapse_tolerance(open_page):
    element = opened(open_page, "rank-collapse")
    element.get_by_role("button", name="nearly dependent").click()
    seen = []
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        element.get_by_role("button", name=name).click()
        check_rank_collapse(element, 2 * torch.finfo(kind).eps)
        seen.append(element.locator("#rank").inner_text())
    assert seen == ["2 of 2", "2 of 2", "1 of 2"]
    slider = element.get_by_role("slider", name="Tolerance")
    slider.focus()
    slider.press("End")
    expect(element.locator("#rank")).to_have_text("0 of 2")
    slider.press("Home")
    expect(element.locator("#rank")).to_have_text("2 of 2")


def test_rank_collapse_guess_and_nearest(open_page):
    element = opened(open_page, "rank-collapse")
    guess = element.get_by_label("Guess first")
    check = element.get_by_role("button", name="Check my guess")
    verdict = element.locator("#verdict")
    shown_before = entries(element)
    check.click()
    expect(verdict).to_have_text("Type a number from 0 to 100 first.")
    np.testing.assert_array_equal(entries(element), shown_before)
    guess.fill("3")
    guess.press("Enter")
    expect(verdict).to_contain_text("You said 3. The distance is 2.236")
    M = entries(element)
    np.testing.assert_array_equal(M, [[3, 0], [4, 5]])
    guess.fill("2.24")
    check.click()
    expect(verdict).to_contain_text("Right.")

    element.get_by_role("button", name="Go there").click()
    U, S, Vh = linalg.truncated_svd(torch.from_numpy(M), 1)
    np.testing.assert_allclose(
        entries(element), U @ torch.diag(S) @ Vh, atol=1e-4
    )
    expect(element.locator("#rank")).to_have_text("1 of 2")


def test_rank_collapse_moves_when_motion_is_welcome(open_page):
    element = opened(
        open_page, "rank-collapse", reduced_motion="no-preference"
    )
    element.get_by_role("button", name="Just show me").click()
    element.get_by_role("button", name="Go there").click()
    on_the_way = entries(element)
    expect(element.locator("#rank")).to_have_text("1 of 2")
    np.testing.assert_allclose(entries(element), [[1.5, 1.5], [4.5, 4.5]])
    assert not np.allclose(on_the_way, entries(element))


def test_rank_collapse_in_space(open_page):
    element = opened(open_page, "rank-collapse")
    element.get_by_role("radio", name="3 × 3").check()
    default = 3 * np.finfo(np.float64).eps
    bodies = {
        "shear": "an ellipsoid",
        "nearly dependent": "an ellipsoid",
        "rank two": "a flat disc",
        "rank one": "a segment",
        "1 to 9": "a flat disc",
    }
    for name, body in bodies.items():
        element.get_by_role("button", name=name, exact=True).click()
        title = f"what A makes of it: {body}"
        expect(element.get_by_text(title)).to_be_visible()
        check_rank_collapse(element, default)
        assert element.locator(".after path.wire").count() > 10

    look = "e => e.innerHTML"
    picture = element.locator(".after svg > g").first
    before, M = picture.evaluate(look), entries(element)
    turn = element.get_by_role("slider", name="Turn")
    turn.focus()
    turn.press("ArrowRight")
    assert picture.evaluate(look) != before
    np.testing.assert_array_equal(entries(element), M)
    handle = element.get_by_role("slider", name="Tip of column a₃")
    handle.focus()
    handle.press("PageUp")
    M[2, 2] += 0.1
    np.testing.assert_allclose(entries(element), M)
    check_rank_collapse(element, default)


@pytest.mark.parametrize("typed", ["", "1e3"])
def test_rank_collapse_nonsense_typed(open_page, typed):
    element = opened(open_page, "rank-collapse")
    cell = element.locator(".matrix input").nth(1)
    drawn = element.locator(".after path.body").get_attribute("d")
    cell.fill(typed)
    cell.press("Tab")
    alert = element.locator("[role=alert]")
    expect(alert).to_contain_text("row 1, column 2: type a number from −100")
    body = element.locator(".after path.body")
    assert body.get_attribute("d") == drawn
    cell.fill("2")
    expect(alert).to_be_empty()
    assert body.get_attribute("d") != drawn


# ---- svd-image --------------------------------------------------------------


def pixels(element: Locator, which: int) -> np.ndarray:
    """Read a picture off the page, grey from 0 to 255."""
    canvas = element.locator("canvas").nth(which)
    values, width = canvas.evaluate("""c => {
      const { data } = c.getContext("2d").getImageData(
        0, 0, c.width, c.height);
      return [Array.from(data).filter((_, i) => i % 4 === 0), c.width];
    }""")
    return np.array(values).reshape(-1, width)


def relative_tails(M: np.ndarray) -> np.ndarray:
    """Return the error of rank 0, 1, ..., relative to that of rank 0."""
    s = np.linalg.svd(M, compute_uv=False)
    squares = np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)
    tails: np.ndarray = np.sqrt(squares / squares[0])
    return tails


def set_rank(element: Locator, r: int) -> None:
    box = element.get_by_label("Rank r as a number")
    box.fill(str(r))
    box.press("Enter")


@pytest.fixture(scope="module")
def page_photo() -> np.ndarray:
    return np.rint(data.photo(160).numpy() * 255)


def test_svd_image_numbers(open_page, page_photo):
    element = opened(open_page, "svd-image")
    m, n = page_photo.shape
    np.testing.assert_array_equal(pixels(element, 0), page_photo)
    U, s, Vt = np.linalg.svd(page_photo / 255, full_matrices=False)
    tails = relative_tails(page_photo)
    assert element.get_by_label("Rank r as a number").input_value() == "20"
    for r in (20, 1, 33, 100, n):
        set_rank(element, r)
        sum_ = (U[:, :r] * s[:r]) @ Vt[:r]
        error = np.linalg.norm(page_photo / 255 - sum_)
        error /= np.linalg.norm(page_photo / 255)
        text = element.locator("#error")
        expect(text).to_have_text(f"{error:.2%}")
        expect(element.locator("#tail")).to_have_text(f"{tails[r]:.2%}")
        expect(element.locator("#energy")).to_have_text(
            f"{1 - tails[r] ** 2:.2%}"
        )
        expect(element.locator("#stored")).to_have_text(f"{r * (m + n):,}")
        expect(element.locator("#share")).to_have_text(
            f"{r * (m + n) / (m * n):.1%}"
        )
        drawn = pixels(element, 1)
        assert np.abs(drawn - (255 * sum_).clip(0, 255)).max() <= 0.51
    np.testing.assert_array_equal(pixels(element, 1), page_photo)
    expect(element.locator("#note")).to_contain_text(
        f"mn/(m + n) = {m * n / (m + n):.1f}"
    )


def test_svd_image_keyboard(open_page):
    element = opened(open_page, "svd-image")
    slider = element.get_by_role("slider", name="Rank r")
    slider.focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        slider.press(key)
    typed = element.get_by_label("Rank r as a number")
    assert typed.input_value() == "3"
    assert slider.get_attribute("aria-valuetext") == "rank 3 of 137"
    seen = [pixels(element, 1)]
    radio = element.get_by_role("radio", name="the sum of r layers")
    radio.focus()
    for title in ("Layer 3 alone (grey is 0)", "Missing after 3 (grey is 0)"):
        element.page.keyboard.press("ArrowDown")
        expect(element.get_by_text(title)).to_be_visible()
        assert element.locator("canvas").nth(1).get_attribute(
            "aria-label"
        ) == (title)
        seen.append(pixels(element, 1))
    layer, missing = seen[1] - 127.5, seen[2] - 127.5
    assert np.linalg.svd(layer)[1][1] < 0.02 * np.linalg.norm(layer)
    # What is missing has nothing in common with the layers shown.
    assert abs((layer * missing).sum()) < 0.02 * np.linalg.norm(
        layer
    ) * np.linalg.norm(missing)


def test_svd_image_guess(open_page, page_photo):
    element = opened(open_page, "svd-image")
    need = int((relative_tails(page_photo) >= 0.1).sum())
    element.get_by_role("radio", name="noise").check()
    element.get_by_label("Guess first").fill("100")
    element.get_by_role("button", name="Check my guess").click()
    verdict = element.locator("#verdict")
    expect(verdict).to_contain_text(f"You said 100. It takes r = {need},")
    assert element.get_by_role("radio", name="photograph").is_checked()
    np.testing.assert_array_equal(pixels(element, 0), page_photo)
    assert element.get_by_label("Rank r as a number").input_value() == str(
        need
    )
    assert number(element.locator("#error").inner_text()) < 10
    expect(element.get_by_label("Guess first")).to_have_value("100")
    layers = re.search(
        r"of the (\d+) layers", element.locator("form").inner_text()
    )
    assert layers is not None
    assert int(layers[1]) == min(page_photo.shape)


def test_svd_image_rearranged(open_page, page_photo):
    element = opened(open_page, "svd-image")
    finding = element.locator("#finding")
    need = int((relative_tails(page_photo) >= 0.1).sum())
    dashed = element.locator("path.before")
    expect(dashed).to_have_count(0)

    element.get_by_role("radio", name="rows and columns permuted").check()
    expect(finding).to_contain_text(f"takes r = {need}, as before")
    permuted = pixels(element, 0)
    assert (permuted != page_photo).mean() > 0.5
    for axis in (0, 1):
        np.testing.assert_array_equal(
            np.sort(permuted.sum(axis)), np.sort(page_photo.sum(axis))
        )
    moved = re.search(r"more than (\S+) of σ₁", finding.inner_text())
    assert moved is not None
    assert number(moved[1]) < 1e-13
    expect(dashed).to_have_count(1)

    element.get_by_role("radio", name="all pixels shuffled").check()
    expect(finding).to_contain_text("in random places")
    shuffled = pixels(element, 0)
    np.testing.assert_array_equal(
        np.sort(shuffled, axis=None), np.sort(page_photo, axis=None)
    )
    now = int((relative_tails(shuffled) >= 0.1).sum())
    assert now > 2 * need
    expect(finding).to_contain_text(f"takes r = {now} instead of {need}")
    expect(element.locator("#error")).to_have_text(
        f"{relative_tails(shuffled)[20]:.2%}"
    )

    element.get_by_role("radio", name="as it is").check()
    expect(dashed).to_have_count(0)
    np.testing.assert_array_equal(pixels(element, 0), page_photo)


def test_svd_image_other_pictures(open_page, tmp_path):
    from PIL import Image

    element = opened(open_page, "svd-image")
    element.get_by_role("radio", name="checkerboard").check()
    expect(element.locator("#finding")).to_be_empty()
    set_rank(element, 2)
    expect(element.locator("#error")).to_have_text("0.00%")
    set_rank(element, 1)
    tail = relative_tails(pixels(element, 0))[1]
    expect(element.locator("#error")).to_have_text(f"{tail:.2%}")

    ramp = np.rint(np.outer(np.linspace(0, 255, 40), np.ones(90)))
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp.astype(np.uint8)).save(path)
    element.get_by_role("radio", name="your own").check()
    own = element.get_by_label("A picture of your own")
    own.set_input_files(path)
    expect(element.get_by_role("slider", name="Rank r")).to_have_attribute(
        "aria-valuetext", re.compile("^rank 1 of ")
    )
    expect(element.locator("#error")).to_have_text("0.00%")
    assert pixels(element, 0).shape[1] == 160

    broken = tmp_path / "broken.png"
    broken.write_text("not a picture")
    own.set_input_files(broken)
    expect(element.locator("[role=alert]")).to_have_text(
        "This file could not be read as a picture."
    )


def test_svd_image_without_its_data(browser, site_url):
    """The reader gets a sentence, not an empty box."""
    context = browser.new_context()
    page = context.new_page()
    page.route("**/photo.js*", lambda route: route.abort())
    page.goto(f"{site_url}/{PAGES['svd-image']}")
    element = find(page, "svd-image")
    expect(element.locator("[role=alert]")).to_have_text(
        "This figure could not start: its data could not be loaded."
    )
    context.close()


def test_svd_image_chart(open_page):
    element = opened(open_page, "svd-image")
    typed = element.get_by_label("Rank r as a number")
    chart = element.locator("figure > .facts svg")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    mouse = element.page.mouse
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50)
    mouse.down()
    mouse.move(box["x"] + 2 * box["width"], box["y"] + 50)
    assert typed.input_value() == "137"
    mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 50)
    mouse.up()
    assert 60 < int(typed.input_value()) < 80


def test_svd_image_nonsense_typed(open_page):
    element = opened(open_page, "svd-image")
    for typed in ("", "0", "138"):
        box = element.get_by_label("Rank r as a number")
        box.fill(typed)
        box.blur()
        expect(element.locator("[role=alert]")).to_have_text(
            "The rank must be a whole number from 1 to 137."
        )
        assert box.input_value() == "20"
        set_rank(element, 21)
        set_rank(element, 20)
        expect(element.locator("[role=alert]")).to_be_empty()


# ---- svd-ellipse ------------------------------------------------------------


def set_angle(element: Locator, degrees: float) -> None:
    box = element.get_by_label("Angle of x in degrees")
    box.fill(str(degrees))
    box.press("Enter")


def check_ellipse(element: Locator, M: np.ndarray, degrees: float) -> None:
    """Compare the lower row of the table with NumPy's."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = M @ [c, s], M @ [-s, c]
    long, short = np.linalg.norm(a), np.linalg.norm(b)
    cells = element.locator("tbody tr").nth(1).locator("td")
    texts = cells.all_inner_texts()
    for text, value in zip(texts[:3], (long, short, a @ b), strict=True):
        assert number(text) == pytest.approx(value, abs=6e-4, rel=0.06)
    between = np.degrees(np.arccos(a @ b / long / short))
    assert number(texts[3]) == pytest.approx(between, abs=0.06)
    assert ("⟂" in texts[3]) == (abs(between - 90) < 0.05)


def test_svd_ellipse_guess(open_page):
    element = opened(open_page, "svd-ellipse")
    A = entries(element)
    _, s, Vt = np.linalg.svd(A)
    best = np.degrees(np.arctan2(Vt[0, 1], Vt[0, 0])) % 180
    lower = element.locator("tbody tr").nth(1)
    assert lower.locator("td").all_inner_texts() == ["?"] * 4
    expect(element.locator("path.dash")).to_have_count(0)
    for hidden in (f"{s[0]:.3f}", f"{best:.1f}"):
        assert hidden not in element.locator("figure").inner_text()

    handle = element.get_by_role("slider", name="Unit vector x")
    handle.focus()
    handle.press("Shift+ArrowUp")
    handle.press("ArrowLeft")
    at = float(element.get_by_label("Angle of x in degrees").input_value())
    assert at == 15 + 10 - 1
    element.get_by_role("button", name="Check my guess").click()
    radians = np.radians(at)
    reached = np.linalg.norm(A @ [np.cos(radians), np.sin(radians)])
    verdict = element.locator("#verdict")
    expect(verdict).to_contain_text(f"At {at:.1f}° you reached {reached:.3f}.")
    expect(verdict).to_contain_text(f"σ₁ = {s[0]:.3f}, at {best:.1f}°")
    expect(verdict).to_contain_text(f"σ₂ = {s[1]:.3f}")
    check_ellipse(element, A, best)
    expect(element.locator("path.dash")).to_have_count(4)


@pytest.mark.parametrize(
    "M", [[[3, 0], [4, 5]], [[0.5, 1.5], [1, 0]], [[2, -1], [0.3, 0.7]]]
)
def test_svd_ellipse_steps(open_page, M):
    element = opened(open_page, "svd-ellipse")
    A = np.array(M, dtype=float)
    type_matrix(element, A)
    element.get_by_role("button", name="Just show me").click()
    _, s, Vt = np.linalg.svd(A)
    if np.linalg.det(Vt) < 0:
        Vt[1] *= -1
    for degrees in (0, 33, 200.5):
        set_angle(element, degrees)
        for name, part in (
            ("Vᵀ:", Vt),
            ("Σ:", np.diag(s) @ Vt),
            ("U:", A),
        ):
            element.get_by_role("button", name=name).click()
            # Signs do not change lengths and angles.
            check_ellipse(element, part, degrees)
    mirror = element.get_by_role("button", name="U: mirror, turn")
    expect(mirror).to_have_count(int(np.linalg.det(A) < 0))
    story = element.locator("#story")
    if np.linalg.det(A) < 0:
        expect(story).to_contain_text("no turning alone can do it")
    slider = element.get_by_role("slider", name="How much of A is applied")
    slider.focus()
    slider.press("Home")
    check_ellipse(element, np.eye(2), 200.5)
    expect(story).to_have_text("Nothing has happened yet.")


def test_svd_ellipse_right_angles_only_at_the_answer(open_page):
    element = opened(open_page, "svd-ellipse")
    element.get_by_role("button", name="rotate and stretch").click()
    element.get_by_role("button", name="Just show me").click()
    A = entries(element)
    right = []
    for degrees in (0, 20, 40, 44.9, 45, 45.1, 50, 90, 134, 135, 175):
        set_angle(element, degrees)
        check_ellipse(element, A, degrees)
        if "⟂" in element.locator("tbody").inner_text():
            right.append(degrees)
    assert right == [45, 135]
    assert float(element.get_by_role("slider", name="Turn").input_value()) == (
        175
    )


def test_svd_ellipse_dragging(open_page):
    element = opened(open_page, "svd-ellipse")
    handle = element.locator(".handle circle").nth(1)
    handle.scroll_into_view_if_needed()
    plane = element.locator("svg").first.bounding_box()
    box = handle.bounding_box()
    assert plane is not None
    assert box is not None
    mouse = element.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down()
    middle = plane["x"] + plane["width"] / 2
    mouse.move(middle, plane["y"] + 10, steps=5)
    mouse.up()
    at = float(element.get_by_label("Angle of x in degrees").input_value())
    assert abs(at - 90) <= 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rotation", "Every direction is as good"),
        ("rank one", "The least is σ₂ = 0"),
    ],
)
def test_svd_ellipse_special_cases(open_page, name, words):
    element = opened(open_page, "svd-ellipse")
    element.get_by_role("button", name=name).click()
    element.get_by_role("button", name="Just show me").click()
    expect(element.locator("#verdict")).to_contain_text(words)
    if name == "rank one":
        expect(element.locator("#note")).to_contain_text("the null space")


def test_svd_ellipse_nonsense_typed(open_page):
    element = opened(open_page, "svd-ellipse")
    set_angle(element, 1000)
    alert = element.locator("[role=alert]")
    expect(alert).to_contain_text("must be a number of degrees")
    set_angle(element, 10)
    expect(alert).to_be_empty()


def test_finished_while_the_page_is_read(open_page):
    """The decomposition of the photograph works in small portions."""
    page = open_page(PAGES["svd-image"])
    page.evaluate("""() => {
      globalThis.start = performance.now();
      globalThis.longest = 0;
      let last = start;
      const tick = () => {
        const now = performance.now();
        longest = Math.max(longest, now - last);
        last = now;
        setTimeout(tick);
      };
      tick();
    }""")
    find(page, "svd-image")
    # A ratio: how fast the machine is does not matter.
    assert page.evaluate("longest / (performance.now() - start)") < 0.5
