"""What Python writes of the explorables, and what is true of all of them.

Each has tests of its own beside this file: its arithmetic in Node, in
``test_NAME.py``, and a few in the browser, in ``test_moved.py``.
"""

from __future__ import annotations

import base64
import gzip
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from node import FOLDER, call
from pages import NAMES, ROOT, answered, build, find, number, opened, unfold
from playwright.sync_api import Locator, expect

from lorabook import cost, data, explorables
from lorabook.assets import assets_folder
from lorabook.explorables import REGISTRY, STATIC, show
from lorabook.plot import COLORS

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
    ("gradient-rank", "tokens"): ["1", "20"],
    ("gradient-rank", "optimizer"): ["sgd", "adam"],
    ("gradient-rank", "rank"): ["1", "16"],
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
    ("gradient-rank", "tokens"): ["", "0", "21", "2.5"],
    ("gradient-rank", "optimizer"): ["", "SGD", "adamw"],
    ("gradient-rank", "rank"): ["", "0", "17", "two"],
    ("alpha-lr", "optimizer"): ["", "Adam", "adamw"],
    ("alpha-lr", "scaling"): ["", "alpha/r"],
    ("alpha-lr", "alpha"): ["", "0", "-16", "24", "0.5", "512", "big"],
    ("alpha-lr", "rank"): ["", "0", "3", "32", "0.5"],
    ("alpha-lr", "lr"): ["", "0", "0.01", "1", "nan", "-0.5"],
}


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
        assert sum(map(weight, entry.scripts)) < 18_000, name
        assert (FOLDER / "fallback" / f"{name}.svg").stat().st_size < 25_000
    assert weight("data/photo.js") < 20_000
    assert weight("data/updates.js") < 30_000


def test_scripts_ask_for_nothing():
    for path in FOLDER.glob("*.js"):
        code = path.read_text("utf-8")
        code = code.replace("http://www.w3.org/2000/svg", "")
        found = re.findall(r"https?:|\bfetch\(|XMLHttp|\bimport\b", code)
        assert found == [], path.name


@pytest.mark.slow
def test_data_and_still_pictures_are_up_to_date():
    """Up to a hundredth of a point: processors differ in the last bits."""
    import stills

    number = re.compile(r"-?\d+\.\d+")
    # Names are digests of the drawing; another Pillow packs in other bytes.
    loose = re.compile(r"f[0-9a-f]{8}\b|base64,[^\"]*")
    for name, written in stills.files():
        stored = (FOLDER / name).read_text("utf-8")
        if name.startswith("data"):
            assert stored == written, name
            continue
        stored, written = loose.sub("", stored), loose.sub("", written)
        assert number.sub("", stored) == number.sub("", written), name
        pairs = zip(
            number.findall(stored), number.findall(written), strict=True
        )
        assert all(abs(float(a) - float(b)) < 0.05 for a, b in pairs), name


def test_the_data_is_the_photograph():
    found = call("svd-image", "() => LR.data.photo")
    raw = np.frombuffer(base64.b64decode(found["pixels"]), dtype=np.uint8)
    photo = data.photo(160).numpy()
    assert (found["rows"], found["columns"]) == photo.shape
    assert found["columns"] == explorables.RANKS
    error = np.abs(raw.reshape(photo.shape) / 255 - photo).max()
    assert error <= 0.5 / 255 + 1e-9


def test_importing_them_is_quick():
    """The command line and the site's build need none of the heavy ones."""
    code = (
        "import sys; import lorabook.explorables; heavy = sys.modules.keys() &"
        "{'torch', 'numpy', 'scipy', 'matplotlib', 'PIL', 'IPython'};"
        "print(sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_one_palette():
    """The colours of the figures, and none that is not of them."""
    css = call("svd-ellipse", "() => LR.css")
    shown = dict(re.findall(r"--c(\d):(#\w+)", css))
    first = list(COLORS.values())[:3]
    assert [shown[k] for k in "123"] == first
    drawn = {
        # Paper is white in any theme; a still brings its own plate.
        "explorables/*.js": {*first, "#000", "#fff"},
        "explorables/*.css": set(),
        "explorables/*.py": {"#fff", "#121212"},
        "figures/*.py": {"#fff"},
    }
    for pattern, allowed in drawn.items():
        for path in assets_folder().glob(pattern):
            code = path.read_text("utf8")
            found = set(re.findall(r"#[0-9a-fA-F]{3,8}\b|\brgba?\(", code))
            assert found <= allowed, path.name


def test_each_has_its_place_in_the_book():
    chapters = [path.read_text("utf8") for path in ROOT.glob("chapters/*.md")]
    pattern = r'^show\("([a-z-]+)"|\{explorable\} ([a-z-]+)'
    found = re.findall(pattern, "\n".join(chapters), re.M)
    assert sorted(a or b for a, b in found) == sorted(NAMES)


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
    assert full.optimizer / full.total == pytest.approx(2 / 5, abs=1e-3)
    assert lora.weights / lora.total > 0.85
    for entry in REGISTRY.values():
        assert 80 < len(entry.alt) < 320


# ---- the Sphinx extension ---------------------------------------------------


@pytest.mark.slow
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
        f"_static/explorables/{name}.js"
        for name in ("core", "linalg", "chart", "svd-image")
    ]
    assert '<lr-svd-image rank="7" picture="noise">' in one
    assert loaded(two) == [
        f"../_static/explorables/{name}.js"
        for name in (
            "core",
            "linalg",
            "plane",
            "rank-collapse",
            "svd-ellipse",
        )
    ]
    for page in (one, two):
        assert STATIC not in page
        assert len(re.findall(r"explorables/explorables\.css", page)) == 1
    assert 'src="../_static/explorables/fallback/svd-ellipse.svg"' in two


@pytest.mark.slow
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

# What the reader is asked, as the verdict says it, and as it must not be told
# before, in words or to a screen reader.
VERDICTS = {
    "rank-collapse": ("distance is 2.236", "2.236"),
    "svd-image": ("r = 33", "r = 33"),
    "svd-ellipse": ("1.618, at 58.3°", "1.618"),
    "lora-shapes": ("At r = 2048", "2048"),
    "truncation-race": ("σ₂ = 2.236", "2.236"),
    "descent": ("After 176", "176"),
    "lora-calculator": ("It is 18.4", "18.4"),
    "update-spectrum": ("It is 84.7%", "84.7"),
    "alpha-lr": ("By 2, the root", "(× 2)"),
    "gradient-rank": ("After 6: each step", "6 steps"),
}
# All that a reader sees or hears, figures included.
SAID = """e => {
  const seen = x => x.checkVisibility({ visibilityProperty: true });
  const root = e.shadowRoot, all = [...root.querySelectorAll("*")];
  return [root.querySelector("figure").innerText,
    ...all.filter(seen).flatMap(x => [
      x.closest("svg") ? x.textContent : "", x.value,
      ...["aria-label", "aria-valuetext", "aria-description"].map(key =>
        x.getAttribute(key))])].filter(Boolean).join("\\n");
}"""


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_comes_after_the_guess(open_page, name):
    """And nothing says it before, wherever the reader looks."""
    verdict, secret = VERDICTS[name]
    element = opened(open_page, name)
    assert element.locator("#verdict").inner_text() == ""
    assert secret not in element.evaluate(SAID)
    unfold(element)
    assert secret not in element.evaluate(SAID)
    element.get_by_role("button", name="Just show me").click()
    expect(element.locator("#verdict")).to_contain_text(verdict)
    assert secret in element.evaluate(SAID)


# What meets another thing that it must not meet: a line of text, a control, a
# picture. A slider also keeps clear of what stands beside it.
MEETINGS = """e => {
  const root = e.shadowRoot, things = [];
  const name = x => x.outerHTML.replace(/\\s+/g, " ").slice(0, 70);
  const add = (x, box, what = name(x), by = 0) => box.width > 2 && things.push(
    { x, what, l: box.left + 1, r: box.right - 1,
      t: box.top + by, b: box.bottom - by });
  for (const x of root.querySelectorAll("figure *")) {
    if (!x.checkVisibility({ opacityProperty: true }) ||
      x.closest(".hidden,[aria-hidden]:not(.plane *)")) continue;
    if (x.matches("input,select,button,canvas,svg"))
      add(x, x.getBoundingClientRect());
    else if (x.matches("svg text"))
      add(x, x.getBoundingClientRect(), x.textContent, 3);
    else if (!x.closest("svg")) for (const node of x.childNodes) {
      if (node.nodeType !== 3 || !node.data.trim()) continue;
      const range = document.createRange();
      range.selectNodeContents(node);
      for (const box of range.getClientRects())
        add(x, box, node.data.slice(0, 40), 3);
    }
  }
  const found = [];
  things.forEach((a, i) => things.slice(i + 1).forEach(b => {
    if (a.x.contains(b.x) || b.x.contains(a.x)) return;
    const gap = [a, b].some(({ x }) => x.type === "range") ? 4 : 0;
    if (Math.min(a.b, b.b) - Math.max(a.t, b.t) > 1 &&
      Math.min(a.r, b.r) - Math.max(a.l, b.l) > -gap)
      found.push([a.what, b.what]);
  }));
  return found;
}"""
OUTSIDE = """e => {
  const edge = e.getBoundingClientRect();
  const all = [...e.shadowRoot.querySelectorAll(
    "figure *:not(svg *):not(.hidden)")];
  return all.filter(x => {
    const box = x.getBoundingClientRect();
    return x.checkVisibility() && (box.right > edge.right - 8 ||
      box.left < edge.left);
  }).map(x => x.outerHTML.slice(0, 80));
}"""
# Pixels of height, at first and with the answer, at a width of the window.
ROOM = {1280: (700, 760), 390: (900, 1000), 320: (1200, 1300)}


@pytest.mark.parametrize("name", NAMES)
def test_fits(open_page, name):
    """Nothing sticks out or collides, and the picture is near the text."""
    element = opened(open_page, name)
    page = element.page
    for state in (0, 1, 2):
        if state == 1:
            element.get_by_role("button", name="Just show me").click()
        if state == 2:
            unfold(element)
        for width, room in ROOM.items():
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(100)
            where = f"{name}, {width} pixels wide, state {state}"
            assert element.evaluate(OUTSIDE) == [], where
            assert element.evaluate("e => e.scrollWidth <= innerWidth"), where
            assert element.evaluate(MEETINGS) == [], where
            if state < 2:
                figure = element.locator("figure")
                tall = figure.evaluate("e => e.getBoundingClientRect().height")
                assert tall <= room[state], where


@pytest.mark.parametrize("name", NAMES)
def test_two_controls_first(open_page, name):
    """The others, and tables of numbers, are one click away."""
    element = opened(open_page, name)
    element.get_by_role("button", name="Just show me").click()
    shown = """e => [...e.shadowRoot.querySelectorAll("figure > *")].flatMap(
      part => [part, ...part.querySelectorAll("*")]).filter(x => x.matches(
      "[type=range],fieldset,select,.matrix,[role=radiogroup],[role=group]" +
      ".controls,[type=checkbox]") && x.checkVisibility() &&
      !x.closest(".ask")).map(x => x.id || x.outerHTML.slice(0, 60))"""
    first = element.evaluate(shown)
    assert 1 <= len(first) <= 2, first
    element.locator("summary").click()
    assert len(element.evaluate(shown)) > len(first)


@pytest.mark.parametrize(
    "name", ["rank-collapse", "svd-ellipse", "svd-image", "truncation-race"]
)
def test_a_matrix_is_called_w(open_page, name):
    """A is a factor of LoRA, in every chapter."""
    element = answered(open_page, name)
    said = element.evaluate(SAID)
    assert re.search(r"\bW\b", said)
    found = re.findall(r"\bA\b(?! photograph| picture|t a tie)", said)
    assert found == []


@pytest.mark.parametrize("name", NAMES)
def test_attributes_mean_the_same_in_the_browser(open_page, name):
    """A bad one gets a sentence, and the figure starts all the same."""
    page = opened(open_page, name).page
    # Before printing, all start: also those far below.
    make = """async ([name, cases]) => {
      const made = cases.map(([key, value]) => {
        const element = document.createElement(`lr-${name}`);
        element.setAttribute(key, value);
        document.querySelector(".lr-explorable").after(element);
        return element;
      });
      dispatchEvent(new Event("beforeprint"));
      const ready = () => made.every(e => e.hasAttribute("data-ready"));
      while (!ready()) await new Promise(done => setTimeout(done, 20));
      return made.map(e => [
        e.shadowRoot.querySelector("[role=alert]").textContent,
        e.shadowRoot.querySelectorAll("svg > *").length > 0]);
    }"""
    for is_good, table in ((True, GOOD), (False, BAD)):
        cases = [
            (key, value)
            for (owner, key), values in table.items()
            if owner == name
            for value in values
        ]
        found = page.evaluate(make, [name, cases])
        for (key, value), (alert, drawn) in zip(cases, found, strict=True):
            assert drawn, (key, value)
            if is_good:
                assert alert == "", (key, value)
            else:
                allowed = REGISTRY[name].attributes[key].allowed
                assert f"{key} must be {allowed}" in alert, (key, value)


LOOK = """e => {
  const s = getComputedStyle(e);
  return [s.backgroundColor, s.color];
}"""


@pytest.mark.parametrize("name", NAMES)
def test_accessible_in_both_themes(open_page, axe, name):
    element = opened(open_page, name)
    page = element.page
    # The theme fades its own colours, so wait until they stand still.
    page.add_style_tag(content="* {transition: none !important}")
    page.add_script_tag(path=axe)
    seen = []
    for state in ("before", "after"):
        if state == "after":
            element.get_by_role("button", name="Just show me").click()
            unfold(element)
            if name == "rank-collapse":
                element.get_by_role("radio", name="3 × 3").check()
        for theme in ("light", "dark"):
            page.evaluate(
                "theme => document.documentElement.dataset.theme = theme",
                theme,
            )
            found = page.evaluate(
                """tag => axe.run(document.querySelector(tag),
                  { preload: false }).then(result =>
                  result.violations.map(v => [v.id, v.nodes[0].html,
                    v.nodes[0].failureSummary]))""",
                f"lr-{name}",
            )
            assert found == [], (state, theme)
            for kind, contrast, what in contrasts(element):
                assert contrast >= (4.5 if kind == "text" else 3), (
                    state,
                    theme,
                    what,
                )
            # The page's own colours, whoever made it.
            figure = element.locator("figure").evaluate(LOOK)
            assert figure == page.locator("body").evaluate(LOOK)
            seen.append(figure)
    assert seen[:2] == seen[2:]
    assert all(a != b for a, b in zip(seen[0], seen[1], strict=True))


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
        "path.axis, path.cut, path.aim", "stroke", "line");
      measure("path.bar, path.kept, .handle > :not(.reach)", "fill", "line");
      measure(".track .bar:not(.lost)", "backgroundColor", "line");
      return result;
    }""")


@pytest.mark.parametrize("name", NAMES)
def test_without_scripts_a_picture_stays(open_page, name):
    page = open_page(f"{name}.html", java_script_enabled=False)
    picture = page.locator(f"lr-{name} img")
    picture.scroll_into_view_if_needed()
    expect(picture).to_be_visible()
    assert picture.get_attribute("alt") == REGISTRY[name].alt
    box = picture.bounding_box()
    assert box is not None
    assert box["width"] > 300
    assert box["height"] > 100  # it has arrived: text alone would be lower


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
    for control in ("form, .ask", "input[type=range]", "button", "summary"):
        for found in element.locator(control).all():
            expect(found).to_be_hidden()
    expect(element.locator("svg").first).to_be_visible()
    # Nobody can unfold anything on paper, and nobody can ask.
    for found in element.locator("table").all():
        expect(found).to_be_visible()
    for found in element.locator(".veil").all():
        expect(found).to_be_hidden()
    ink = element.locator("figure").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert ink == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize("name", ["rank-collapse", "svd-ellipse"])
def test_printing_does_not_wait_for_the_reader(open_page, name):
    page = open_page(f"{name}.html", viewport={"width": 1280, "height": 9})
    page.evaluate("document.body.style.paddingBlockStart = '3000px'")
    element = page.locator(f"lr-{name}")
    page.evaluate(
        """name => {
      const one = document.createElement(`lr-${name}`);
      one.id = "far";
      one.style.marginBlockStart = "3000px";
      document.querySelector(".lr-explorable").after(one);
    }""",
        name,
    )
    element = page.locator("#far")
    assert element.get_attribute("data-ready") is None
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert element.get_attribute("data-ready") == ""
    assert element.locator("path.grid").count() > 0


@pytest.mark.parametrize("begun", [False, True])
def test_paper_does_not_wait_for_data(open_page, begun):
    """Its still picture stands in for what has not come."""
    page = opened(open_page, "svd-image").page
    page.evaluate(
        """begun => {
          LR.load = () => new Promise(() => {});  // on its way for ever
          const one = document.querySelector("lr-svd-image").cloneNode(true);
          one.removeAttribute("data-ready");
          one.id = "late";
          if (!begun) one.style.marginBlockStart = "3000px";
          document.querySelector(".lr-explorable").after(one);
        }""",
        begun,
    )
    late = page.locator("#late")
    page.wait_for_timeout(200)
    picture, figure = late.locator(".still img"), late.locator("figure")
    expect(figure).to_be_visible()
    expect(picture).to_have_count(0)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(picture).to_be_hidden()
    page.emulate_media(media="print")
    expect(figure).to_be_hidden()
    expect(picture).to_be_visible()
    assert picture.evaluate("e => e.naturalWidth") > 0
    # What is ready prints as it is.
    ready = page.locator("lr-svd-image").first
    expect(ready.locator("figure")).to_be_visible()
    expect(ready.locator(".still")).to_be_empty()


def test_data_comes_when_the_reader_is_near(open_page):
    page = open_page("index.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page.url.replace("index", "svd-image"))
    find(page, "svd-image")
    names = [re.sub(r".*/|\?.*", "", url) for url in asked]
    assert names.count("photo.js") == 1
    assert names.index("photo.js") > names.index("svd-image.js")
    assert "rank-collapse.js" not in names
    assert "updates.js" not in names


@pytest.mark.parametrize("name", ["svd-image", "update-spectrum"])
def test_without_its_data(open_page, name):
    """The reader gets a sentence, not an empty box."""
    page = open_page("index.html")
    page.route("**/data/*.js*", lambda route: route.fulfill(body=""))
    page.goto(page.url.replace("index", name))
    element = find(page, name)
    expect(element.locator("[role=alert]")).to_contain_text(
        "This figure could not start: "
    )


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
          // In one go: on a busy machine any pause between two could be long.
          for (let i = 1; i <= 10; i++) {
            slider.value = slider.min * 1 + i;
            slider.dispatchEvent(new Event("input"));
          }
          const pause = ms => new Promise(done => setTimeout(done, ms));
          while (!heard.length) await pause(50);
          await pause(1000);
          return heard;
        }"""
    )
    assert len(sentences) == 1
    assert number(sentences[0].replace("w₁", "")) is not None
