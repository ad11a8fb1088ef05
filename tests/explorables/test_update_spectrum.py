"""The explorable `update-spectrum`, driven in a browser.

What the page says is compared with numbers worked out here from the file that
the experiment wrote, and with the spectrum of the model's own weights.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, expect
from test_explorables import PAGES, find, opened

from lorabook.assets import assets_folder
from lorabook.explorables import REGISTRY
from lorabook.models import load_tiny_gpt

FILE = assets_folder() / "results" / "update_spectra.json"
FOUND = json.loads(FILE.read_text("utf8"))
LAYERS = FOUND["layers"]
RANKS = [int(r) for r in FOUND["all"]]
KINDS = ("update", "weight", "noise")
CHOICES = [
    "all",
    "blocks.0.attention.q",
    "blocks.1.attention.v",
    "blocks.2.up",
    "blocks.3.down",
]


def energies(kind: str, layer: str) -> np.ndarray:
    """Return the energies of the first 1 ... 128 directions."""
    some = list(LAYERS.values()) if layer == "all" else [LAYERS[layer]]
    squares = np.square([x[kind] for x in some])
    mean: np.ndarray = (
        squares.cumsum(axis=1) / squares.sum(axis=1, keepdims=True)
    ).mean(axis=0)
    return mean


def losses(layer: str) -> list[dict[int, float]]:
    """Return losses by rank, of all layers or of both ways of cutting one."""
    if layer == "all":
        tables = [FOUND["all"]]
    else:
        tables = [LAYERS[layer]["alone"], LAYERS[layer]["among"]]
    return [{int(r): x for r, x in table.items()} for table in tables]


def shares(layer: str) -> list[dict[int, float]]:
    """Return the shares of the gain: its own, or that of all together."""
    few, found = FOUND["few"], losses(layer)
    ends = [(table[0], table[128]) for table in found]
    if layer != "all":
        ends[1] = few["before"], few["after"]
    return [
        {r: (a - x) / (a - b) for r, x in table.items()}
        for table, (a, b) in zip(found, ends, strict=True)
    ]


def shown(element: Locator, key: str) -> str:
    return element.locator(f"#{key}").inner_text()


def percent(text: str) -> float:
    return float(text.rstrip("%").replace("−", "-")) / 100


def choose(element: Locator, layer: str, rank: int) -> None:
    element.locator(f'input[value="{layer}"]').check()
    box = element.get_by_label("Rank r as a number")
    box.fill(str(rank))
    box.blur()


def answered(open_page, **options) -> Locator:
    element = opened(open_page, "update-spectrum", **options)
    element.get_by_role("button", name="Just show me").click()
    return element


@pytest.mark.parametrize("layer", CHOICES)
def test_energies_agree_with_python(open_page, layer):
    element = opened(open_page, "update-spectrum")
    for r in (1, 3, 8, 11, 64, 127, 128):
        choose(element, layer, r)
        for kind in KINDS:
            e = energies(kind, layer)
            found = percent(shown(element, f"{kind}-energy"))
            assert found == pytest.approx(e[r - 1], abs=6e-4)
        cells = {
            name: element.locator(f'label:has([value="{name}"])').inner_text()
            for name in LAYERS
        }
        for name, text in cells.items():
            e = energies("update", name)[r - 1]
            assert float(text) / 100 == pytest.approx(e, abs=5.1e-3)
    some = LAYERS.values() if layer == "all" else [LAYERS[layer]]
    for kind in KINDS:
        need, size = [], []
        for x in some:
            squares = np.square(x[kind])
            within = squares.cumsum() < 0.9 * squares.sum()
            need.append(within.sum() + 1)
            size.append(np.linalg.norm(x[kind]) / np.linalg.norm(x["weight"]))
        assert float(shown(element, f"{kind}-need")) == pytest.approx(
            np.mean(need), abs=0.051
        )
        assert percent(shown(element, f"{kind}-size")) == pytest.approx(
            np.mean(size), abs=5.1e-3
        )


def test_the_weight_is_the_models(open_page):
    element = opened(open_page, "update-spectrum")
    model = load_tiny_gpt()
    of_layer = {}
    for name in LAYERS:
        W = model.get_submodule(name).weight.detach().double()
        s = torch.linalg.svdvals(W).square()
        of_layer[name] = (s.cumsum(0) / s.sum()).numpy()
    of_layer["all"] = np.mean(list(of_layer.values()), axis=0)
    for layer in CHOICES:
        for r in (1, 8, 40):
            choose(element, layer, r)
            found = percent(shown(element, "weight-energy"))
            assert found == pytest.approx(of_layer[layer][r - 1], abs=6e-4)


@pytest.mark.parametrize("layer", CHOICES)
def test_losses_agree_with_the_file(open_page, layer):
    element = answered(open_page)
    for r in (*RANKS[1:], 3, 11, 127):
        choose(element, layer, r)
        columns = list(zip(losses(layer), shares(layer), strict=True))
        for i, (loss, share) in enumerate(columns):
            assert shown(element, f"none-{i}") == f"{loss[0]:.3f}"
            assert shown(element, f"whole-{i}") == f"{loss[128]:.3f}"
            if r in RANKS:
                assert shown(element, f"cut-{i}") == f"{loss[r]:.3f}"
                kept = percent(shown(element, f"kept-{i}"))
                assert kept == pytest.approx(share[r], abs=6e-4)
                continue
            # Nothing in between is made up: the neighbours are named.
            assert shown(element, f"cut-{i}") == "not measured"
            near = re.findall(
                r"(−?[\d.]+%) at (\d+)", shown(element, f"kept-{i}")
            )
            below = max(x for x in RANKS if x < r)
            above = min(x for x in RANKS if x > r)
            assert [int(x) for _, x in near] == [below, above]
            for value, at in near:
                assert percent(value) == pytest.approx(
                    share[int(at)], abs=6e-4
                )
        hidden = element.locator("#kept-1")
        assert hidden.is_visible() == (layer != "all")


@pytest.mark.parametrize("layer", CHOICES)
def test_the_reading_is_true(open_page, layer):
    element = answered(open_page)
    for r in (1, 8, 11, 128):
        choose(element, layer, r)
        text = shown(element, "note")
        found = [percent(x) for x in re.findall(r"−?[\d.]+%", text)]
        expected = [energies(kind, layer)[r - 1] for kind in KINDS]
        mine, few = shares(layer), FOUND["few"]
        if layer != "all":
            alone = losses(layer)[0]
            gain = alone[0] - alone[128]
            assert f"saves {gain:.3f} bits per byte" in text
            expected.append(gain / (few["before"] - few["after"]))
        assert ("not measured" in text) == (r not in RANKS)
        if r in RANKS:
            expected.append(mine[0][r])
            more = r < 128 and mine[0][r] > expected[0]
            assert ("more than of the energy" in text) == more
        if layer != "all":
            expected.append(mine[1][0])
        else:
            each = sum(
                x["alone"]["0"] - x["alone"]["128"] for x in LAYERS.values()
            )
            times = each / (few["before"] - few["after"])
            assert f"are {times:.1f} times the gain of all" in text
        assert found == pytest.approx(expected, abs=5.1e-3)


def points(element: Locator, chart: int, selector: str) -> list[list[float]]:
    """Return the first two numbers of each pair in the paths of a chart."""
    paths = element.locator(".pair").first.locator("svg").nth(chart)
    texts = paths.locator(selector).evaluate_all(
        "all => all.map(path => path.getAttribute('d'))"
    )
    number = r"(-?\d+(?:\.\d+)?)"
    return [
        [float(x) for pair in re.findall(f"{number} {number}", text)
         for x in pair]
        for text in texts
    ]  # fmt: skip


@pytest.mark.parametrize("layer", ["all", "blocks.2.attention.q"])
@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_drawn(open_page, layer, width):
    element = answered(open_page, viewport={"width": width, "height": 900})
    choose(element, layer, 8)
    net = [y[1] for y in points(element, 1, "path.net")]
    zero, one = net[0], net[-1]
    curves = [
        points(element, 1, f"path.{style}")[0]
        for style in ("body", "dash", "dots")
    ]
    for kind, curve in zip(KINDS, curves, strict=True):
        x, y = curve[::2], np.array(curve[1::2])
        drawn = (zero - y) / (zero - one)
        assert drawn == pytest.approx(energies(kind, layer), abs=2e-3)
        assert len(x) == 128
        steps = np.log2(np.arange(1, 129)) / 7 * (x[-1] - x[0])
        assert np.subtract(x, x[0]) == pytest.approx(steps, abs=0.11)
    # Discs and squares at the measured ranks, and at no other.
    marks = [x[:2] for x in points(element, 1, "path.mark")]
    expected = []
    for share, (dx, dy) in zip(
        shares(layer), ((4.5, 0), (4, 4)), strict=False
    ):
        for r in RANKS[1:]:
            at = curves[0][2 * (r - 1)]
            expected.append([at - dx, zero - (zero - one) * share[r] - dy])
    assert np.array(marks) == pytest.approx(np.array(expected), abs=0.2)


def test_both_scales_of_the_spectrum(open_page):
    element = opened(open_page, "update-spectrum")
    choose(element, "blocks.1.attention.v", 8)
    x = LAYERS["blocks.1.attention.v"]
    for scale, highest in (("over the norm", 0), ("as they are", 1)):
        element.get_by_role("radio", name=scale).check()
        net = [y[1] for y in points(element, 0, "path.net")]
        decade = (net[0] - net[-1]) / (highest + 3)
        for kind, style in zip(KINDS, ("body", "dash", "dots"), strict=True):
            y = np.array(points(element, 0, f"path.{style}")[0][1::2])
            s = np.array(x[kind])
            if scale == "over the norm":
                s = s / np.linalg.norm(s)
            level = np.log10(s)
            assert net[-1] - y == pytest.approx(
                decade * (level.clip(-3) - highest), abs=0.2
            )
            # Only the last directions of a square matrix leave the chart.
            assert (level[:120] > -3).all()
            assert level[0] < highest


def test_no_loss_before_the_guess(open_page):
    element = opened(open_page, "update-spectrum")
    share = shares("all")[0][8]
    text = element.locator("figure").inner_text()
    for hidden in (f"{share:.1%}", f"{losses('all')[0][8]:.3f}"):
        assert hidden not in text
    assert [shown(element, x) for x in ("cut-0", "kept-0")] == ["?", "?"]
    chart = element.locator(".pair").first.locator("svg").nth(1)
    assert "gain" not in (chart.get_attribute("aria-label") or "")
    for mark in chart.locator(".mark").all():
        expect(mark).to_be_hidden()

    choose(element, "blocks.0.up", 3)
    box = element.locator("#guess")
    verdict = element.locator("#verdict")
    box.fill("101")
    box.press("Enter")
    expect(verdict).to_contain_text("from 0 to 100 first")
    assert f"{share:.1%}" not in element.locator("figure").inner_text()
    box.fill("50")
    box.press("Enter")
    energy = energies("update", "all")[7]
    expect(verdict).to_have_text(
        f"You said 50%. It is {share:.1%}. The same directions hold "
        f"{energy:.1%} of the energy."
    )
    # The answer is for all 24 at rank 8, and so is the figure now.
    assert element.locator('input[value="all"]').is_checked()
    assert element.get_by_label("Rank r as a number").input_value() == "8"
    assert shown(element, "kept-0") == f"{share:.1%}"
    assert "gain" in (chart.get_attribute("aria-label") or "")
    for mark in chart.locator(".mark").all():
        expect(mark).to_be_visible()
    gain = losses("all")[0][0] - losses("all")[0][128]
    expect(element.locator("form")).to_contain_text(f"save {gain:.3f} bits")


def test_on_paper_the_loss_is_there(open_page):
    """Nobody can press a button on paper."""
    element = opened(open_page, "update-spectrum")
    element.page.emulate_media(media="print")
    assert shown(element, "kept-0") == f"{shares('all')[0][8]:.1%}"
    expect(element.locator("#note")).to_contain_text("Cut to rank 8")


def test_keyboard(open_page):
    element = answered(open_page)
    keyboard = element.page.keyboard
    first = element.locator('input[value="all"]')
    first.focus()
    keyboard.press("ArrowDown")
    picked = element.locator("input[name=layer]:checked")
    expect(picked).to_have_value("blocks.0.attention.q")
    assert picked.get_attribute("aria-label").startswith(
        "blocks.0.attention.q: "
    )
    seen = shown(element, "update-energy")
    for _ in range(6):
        keyboard.press("ArrowRight")
    expect(picked).to_have_value("blocks.1.attention.q")
    assert shown(element, "update-energy") != seen
    slider = element.locator("#rank")
    slider.focus()
    for key in ("Home", "ArrowRight", "ArrowRight"):
        slider.press(key)
    assert slider.get_attribute("aria-valuetext") == "rank 3 of 128"
    assert shown(element, "cut-0") == "not measured"
    button = element.get_by_role("button", name="16", exact=True)
    button.focus()
    keyboard.press("Enter")
    assert slider.input_value() == "16"
    names = [x.inner_text() for x in element.locator(".ranks button").all()]
    assert names == [str(r) for r in RANKS[1:]]


def test_nonsense_typed(open_page):
    element = opened(open_page, "update-spectrum")
    box = element.get_by_label("Rank r as a number")
    alert = element.locator("[role=alert]")
    for typed in ("", "0", "129", "2.5"):
        box.fill(typed)
        box.blur()
        expect(alert).to_have_text(
            "The rank must be a whole number from 1 to 128."
        )
        assert box.input_value() == "8"
    box.fill("9")
    box.blur()
    expect(alert).to_be_empty()


def test_dragging_on_a_chart(open_page):
    element = opened(open_page, "update-spectrum")
    typed = element.get_by_label("Rank r as a number")
    chart = element.locator(".pair").first.locator("svg").nth(1)
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    ticks = chart.locator("text", has_text=re.compile(r"^32$"))
    tick = ticks.bounding_box()
    assert tick is not None
    mouse = element.page.mouse
    mouse.move(tick["x"] + tick["width"] / 2, box["y"] + 60)
    mouse.down()
    assert 31 <= int(typed.input_value()) <= 33
    mouse.move(box["x"] + 2 * box["width"], box["y"] + 60)
    assert typed.input_value() == "128"
    mouse.up()


@pytest.mark.parametrize("width", [390, 320])
def test_no_sideways_scroll(open_page, width):
    element = answered(open_page, viewport={"width": width, "height": 800})
    for layer, r in (("blocks.3.attention.k", 127), ("all", 128)):
        choose(element, layer, r)
        assert element.evaluate(
            "() => document.documentElement.scrollWidth <= innerWidth"
        )
        inner = element.locator("figure")
        assert inner.evaluate("e => e.scrollWidth <= e.clientWidth")


def test_without_its_data(browser, site_url):
    context = browser.new_context()
    page = context.new_page()
    page.route("**/updates.js*", lambda route: route.abort())
    page.goto(f"{site_url}/{PAGES['update-spectrum']}")
    element = find(page, "update-spectrum")
    expect(element.locator("[role=alert]")).to_have_text(
        "This figure could not start: its data could not be loaded."
    )
    context.close()


def test_the_data_is_that_of_the_file(open_page):
    page = opened(open_page, "update-spectrum").page
    got = page.evaluate("LR.data.updates")
    about = FOUND["provenance"]["settings"]
    assert {k: got[k] for k in ("seed", "lr", "steps")} == {
        k: about[k] for k in ("seed", "lr", "steps")
    }
    assert got["ranks"] == RANKS
    assert got["layers"].keys() == LAYERS.keys()
    for name, x in LAYERS.items():
        for kind in KINDS:
            assert got["layers"][name][kind] == pytest.approx(
                x[kind], rel=5.1e-4
            )


def test_the_picture_in_words_is_true():
    alt = REGISTRY["update-spectrum"].alt
    for share in (
        *(energies(kind, "all")[7] for kind in KINDS),
        shares("all")[0][8],
    ):
        assert f"{share:.0%}" in alt
