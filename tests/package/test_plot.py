"""Figures: the same each time, and legible on every page."""

import base64
import io
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from PIL import Image

from lorabook import plot

ROOT = Path(__file__).resolve().parents[2]
WHITE = "#ffffff"
# A common dark page, and that of the book's theme.
DARK_PAGES = ["#121212", "#14181e"]


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with mpl.rc_context():
        plt.switch_backend("agg")
        plot.use_style()
        yield
        plt.close("all")


def figure(power: float = 2, image: bool = True) -> Figure:
    """Draw what chapters draw: lines, a legend, marks, an image."""
    fig, axes = plt.subplots(1, 2)
    x = np.linspace(0, 1, 50)
    for k in range(7):
        axes[0].plot(x, x ** (power + k), label=f"$x^{k}$")
    axes[0].scatter([0.2], [0.5])
    axes[0].annotate("here", (0.2, 0.5), (0.4, 0.8), arrowprops={"width": 1})
    axes[0].legend()
    if image:
        axes[1].imshow(x[:, None] * x)
    axes[1].set(xlabel="column", ylabel="row", title="Product")
    return fig


@cache
def drawn(power: float = 2) -> str:
    """Return the figure's SVG for two themes, drawn once for all tests."""
    return plot.to_svg(figure(power), two_themes=True)


# Colours


def channels(color: str) -> np.ndarray:
    """Return linear red, green and blue of an sRGB colour."""
    c = np.array(mpl.colors.to_rgb(color))
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    low, high = sorted(channels(c) @ weights for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", [WHITE, *DARK_PAGES])
@pytest.mark.parametrize("name", plot.COLORS)
def test_every_colour_is_seen_on_every_page(name: str, page: str) -> None:
    assert contrast(plot.COLORS[name], page) >= 3


def test_ink_is_easy_to_read() -> None:
    assert contrast(plot.INK, WHITE) >= 7
    assert contrast(plot.MUTED, WHITE) >= 1.5
    for page in DARK_PAGES:
        assert contrast(plot.DARK_INK, page) >= 7
        assert contrast(plot.DARK_MUTED, page) >= 1.5


# Full protanopia, deuteranopia, tritanopia: Machado et al. (2009), table 1.
VISION = {
    "typical": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
OKABE_ITO = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"]


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Return coordinates whose distances match how colours look."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponents = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return opponents @ np.cbrt(cones @ rgb.clip(0, 1))


def closest(colors: list[str], vision: np.ndarray) -> float:
    points = [oklab(vision @ channels(c)) for c in colors]
    pairs = itertools.combinations(points, 2)
    return min(float(np.linalg.norm(a - b)) for a, b in pairs)


@pytest.mark.parametrize("vision", VISION)
def test_colours_stay_apart_for_everyone(vision: str) -> None:
    """In the worst pair at least as far as in Okabe and Ito's palette."""
    ours = closest(list(plot.COLORS.values()), VISION[vision])
    worst = min(closest(OKABE_ITO, v) for v in VISION.values())
    assert ours >= worst


def test_lines_differ_in_more_than_colour() -> None:
    _, ax = plt.subplots()
    lines = [ax.plot([0, 1])[0] for _ in plot.COLORS]
    dashes = {str(line._unscaled_dash_pattern) for line in lines}
    assert len(dashes) == len(plot.COLORS) == 6
    assert {line.get_color() for line in lines} == set(plot.COLORS.values())


# The SVG


def tree(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.slow
def test_the_same_code_draws_the_same_text() -> None:
    assert plot.to_svg(figure(), two_themes=True) == drawn()
    assert drawn(power=3) != drawn()


def test_the_svg_is_whole_and_stands_alone() -> None:
    svg = drawn()
    assert tree(svg).tag == "{http://www.w3.org/2000/svg}svg"
    # Names of XML namespaces are no addresses to be fetched.
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)
    assert "http" not in without_names
    assert "metadata" not in svg
    assert not svg.startswith("<?xml")


@pytest.mark.parametrize(
    "values",
    [[np.nan, np.inf], np.ma.masked_all(3), np.ma.masked_equal([1, 1], 1)],
)
def test_a_curve_that_is_not_there_is_told(values) -> None:
    fig, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2], label="fine")
    left.plot([], label="stands in")
    left.plot([1, np.nan, 3], label="with a gap")
    plot.to_svg(fig)
    right.plot(values, label="lost")
    with pytest.raises(ValueError, match=r"^'lost' has no finite number"):
        plot.to_svg(fig)


def test_an_image_that_is_not_there_is_told() -> None:
    fig, ax = plt.subplots()
    values = np.full((2, 2), np.nan)
    image = ax.imshow(values)
    with pytest.raises(ValueError, match="has no finite number to draw"):
        plot.to_svg(fig)
    image.set_data(np.array([[0.0, np.nan], [1, 2]]))
    plot.to_svg(fig)


def test_ids_are_unique_and_lead_somewhere() -> None:
    one, other = drawn(power=2), drawn(power=3)
    ids = re.findall(r'\bid="([^"]+)"', one)
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', one)
    assert len(used) > 20
    # The <svg> itself is referred to by its style rules alone.
    assert {tree(one).get("id"), *(a or b for a, b in used)} == set(ids)
    assert not set(ids) & set(re.findall(r'\bid="([^"]+)"', other))


def test_style_rules_stay_inside() -> None:
    svg = drawn()
    (style,) = re.findall(r"<style.*?>(.*?)</style>", svg)
    name = tree(svg).get("id")
    selectors = re.findall(r"([^{}]+)\{", style)
    assert len(selectors) == 4
    for selector in selectors:
        assert selector.startswith((f"#{name}", "@media"))


def test_ink_is_a_variable_and_data_are_not() -> None:
    svg = drawn()
    drawing = re.sub(r"<style.*?</style>", "", svg)
    assert plot.INK not in drawing
    assert plot.MUTED not in drawing
    assert drawing.count("var(--ink)") > 20
    assert "var(--muted)" in drawing
    for color in plot.COLORS.values():
        assert color.lower() in drawing
    # What is left in the colours of old is data or nothing.
    colors = set(re.findall(r"(?:fill|stroke): (#\w{6})", drawing))
    assert colors == {c.lower() for c in plot.COLORS.values()}


def test_no_colour_map_uses_the_inks() -> None:
    inks = {plot.INK, plot.MUTED}
    for name in mpl.colormaps:
        colors = mpl.colormaps[name](np.arange(256))
        assert not inks & {mpl.colors.to_hex(c) for c in colors}, name


def test_common_marks_need_no_black() -> None:
    """Box plots, bars with edges and hatches come in ink by themselves."""
    fig, ax = plt.subplots()
    ax.boxplot([[1, 2, 3, 9]])
    ax.hist([1, 2, 2], hatch="//", histtype="step")
    ax.bar([1], [2], hatch="x")
    ax.set_title("title")
    fig.suptitle("above all")
    svg = plot.to_svg(fig, True)
    assert "#000000" not in svg
    # Black text would not even name its colour.
    texts = [
        group.get("style", "")
        for group in tree(svg).iter("{http://www.w3.org/2000/svg}g")
        if "scale" in group.get("transform", "")
    ]
    assert len(texts) > 5
    assert {style for style in texts if "var(--ink)" not in style} == set()


def by_matplotlib(fig: Figure) -> str:
    raw = io.StringIO()
    fig.savefig(raw, format="svg", bbox_inches="tight", pad_inches=0.04)
    return raw.getvalue()


def embedded(svg: str) -> bytes:
    (encoded,) = re.findall(r'data:image/png;base64,([^"]+)"', svg)
    return base64.b64decode(encoded)


def rgba(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def test_an_image_gets_smaller_and_stays_the_same() -> None:
    before, after = embedded(by_matplotlib(figure())), embedded(drawn())
    assert len(after) < 0.8 * len(before)
    assert np.array_equal(rgba(before), rgba(after))
    assert Image.open(io.BytesIO(after)).mode == "P"


def test_transparency_survives() -> None:
    pixels = np.array([[[255, 0, 0, 255], [0, 0, 255, 90], [0, 0, 0, 0]]])
    png = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(png, "PNG")
    encoded = base64.b64encode(png.getvalue()).decode()
    match = re.match(".*", encoded)
    shrunk = base64.b64decode(plot._shrink_png(match))
    assert rgba(shrunk).tolist() == pixels.tolist()


def test_an_image_of_many_colours_is_left_alone() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    encoded = base64.b64encode(png.getvalue()).decode()
    assert plot._shrink_png(re.match(".*", encoded)) == encoded


def test_the_book_asks_for_two_themes(monkeypatch) -> None:
    monkeypatch.delenv("LORABOOK_SITE", raising=False)
    assert "prefers-color-scheme" not in plot.to_svg(Figure())
    monkeypatch.setenv("LORABOOK_SITE", "1")
    assert "prefers-color-scheme" in plot.to_svg(Figure())


# In a browser


def shot(browser, svg: str, page_scheme: str, system: str) -> np.ndarray:
    """Show the SVG as an image on a page; return what is seen, in RGB."""
    source = base64.b64encode(svg.encode()).decode()
    background = {"light": WHITE, "dark": DARK_PAGES[1]}[page_scheme]
    context = browser.new_context(color_scheme=system)
    page = context.new_page()
    page.set_content(
        f'<html style="color-scheme:{page_scheme};background:{background}">'
        f'<img src="data:image/svg+xml;base64,{source}">'
    )
    png = page.locator("img").screenshot()
    context.close()
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_it_looks_as_matplotlib_drew_it(browser) -> None:
    """Shorter numbers, other ids and style rules: nothing to be seen."""
    before = shot(browser, by_matplotlib(figure()), "light", "light")
    after = shot(browser, drawn(), "light", "light")
    rows, columns = np.minimum(before.shape, after.shape)[:2]
    difference = abs(before[:rows, :columns] - after[:rows, :columns])
    # Antialiasing moves a little; a lost mark would be far above this.
    assert difference.mean() < 0.2
    assert difference.max() < 64
    assert before.std() > 20


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("page", ["light", "dark"])
def test_ink_follows_the_page_and_not_the_system(
    browser, page: str, system: str
) -> None:
    fig, ax = plt.subplots()
    ax.set_title("Nothing but ink")
    svg = plot.to_svg(fig, two_themes=True)
    pixels = shot(browser, svg, page, system)
    # The corner shows the page through the figure.
    if page == "light":
        assert pixels[0, 0].tolist() == [255, 255, 255]
        assert pixels.max(axis=2).min() < 60
    else:
        assert pixels[0, 0].tolist() == [0x14, 0x18, 0x1E]
        assert pixels.min(axis=2).max() > 200


def test_the_plate_is_white_on_a_dark_page(browser) -> None:
    svg = plot.to_svg(plt.subplots()[0], two_themes=False)
    pixels = shot(browser, svg, "dark", "dark")
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels.max(axis=2).min() < 60


# In a notebook


@pytest.fixture(scope="module")
def cells() -> list[nbformat.NotebookNode]:
    """Run cells in a kernel, as the book does."""
    draw = "fig, ax = plt.subplots()\nax.plot([1, 3, 2]);"
    sources = [
        "import matplotlib.pyplot as plt\nfrom lorabook import plot\n"
        f"plot.use_style()\n{draw}",
        draw,
        "import matplotlib\nmatplotlib.rcParams['figure.figsize'] = 1, 1",
        f"plot.use_style()\n{draw}",
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources]
    )
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LORABOOK_SITE", "1")
        client.execute()
    return notebook.cells


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_cell_shows_one_svg_and_nothing_else(cells, number: int) -> None:
    (output,) = cells[number].outputs
    assert set(output.data) == {"image/svg+xml", "text/plain"}
    svg = output.data["image/svg+xml"]
    fig, ax = plt.subplots()
    ax.plot([1, 3, 2])
    # Another process, with another hash seed, has drawn the same text.
    assert svg == plot.to_svg(fig, two_themes=True)
