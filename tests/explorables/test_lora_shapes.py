"""The explorable `lora-shapes`, driven in a browser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from test_explorables import opened

SIZES = [
    (16, 16, 1),
    (16, 16, 16),
    (16, 16384, 16),
    (16384, 16, 4),
    (64, 48, 27),
    (64, 48, 28),
    (512, 512, 8),
    (768, 3072, 4),
    (1000, 333, 7),
    (4096, 4096, 1),
    (4096, 4096, 8),
    (4096, 4096, 64),
    (4096, 4096, 2048),
    (4096, 4096, 2049),
    (4096, 4096, 4096),
    (12288, 12288, 4),
    (14336, 4096, 16),
    (16384, 16384, 1),
    (16384, 16384, 16384),
    (8192, 28672 // 2, 256),
]


def shown(element: Locator, key: str) -> str:
    return element.locator(f"#{key}").inner_text()


def whole(text: str) -> int:
    return int(text.replace(",", ""))


def type_sizes(element: Locator, *sizes: int) -> None:
    # The rank last: it may not exceed the sides.
    for name, value in zip(("d_out", "d_in", "r"), sizes, strict=True):
        box = element.get_by_role("spinbutton", name=f"{name} as a number")
        box.fill(str(value))
        box.press("Enter")
        box.blur()


def areas(element: Locator) -> list[tuple[float, float]]:
    """Return width and height of W0, B and A as they are drawn."""
    return [
        (box["width"], box["height"])
        for box in element.evaluate("""e =>
          [...e.shadowRoot.querySelectorAll("path.body, path.kept")].map(p => {
            const { width, height } = p.getBBox();
            return { width, height };
          })""")
    ]


def test_numbers_agree_with_python(open_page):
    element = opened(open_page, "lora-shapes")
    for d, k, r in SIZES:
        type_sizes(element, d, k, r)
        expect(element.locator("[role=alert]")).to_be_empty()
        count = r * (d + k)
        assert whole(shown(element, "w0")) == d * k
        assert whole(shown(element, "ab")) == count
        share = float(shown(element, "share").rstrip("%")) / 100
        assert share == pytest.approx(count / (d * k), rel=0.02, abs=1e-5)
        even = float(shown(element, "even"))
        assert even == pytest.approx(d * k / (d + k), abs=0.051)
        size, unit = shown(element, "bytes").split()
        factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
        assert float(size) * factor == pytest.approx(2 * count, rel=6e-3)
        more = re.search(
            r"From r = (\d+) on", element.locator("#note").inner_text()
        )
        assert (more is not None) == (count > d * k)
        if more:
            first = int(more[1])
            assert first * (d + k) > d * k >= (first - 1) * (d + k)


@pytest.mark.parametrize("width", [1280, 390])
def test_drawn_to_one_scale(open_page, width):
    element = opened(
        open_page, "lora-shapes", viewport={"width": width, "height": 900}
    )
    for d, k, r in ((512, 512, 64), (1000, 250, 100), (200, 3000, 50)):
        type_sizes(element, d, k, r)
        W0, B, A = areas(element)
        unit = W0[0] / k
        for box, (rows, columns) in (
            (W0, (d, k)),
            (B, (d, r)),
            (A, (r, k)),
        ):
            expected = (unit * columns, unit * rows)
            assert box == pytest.approx(expected, rel=1e-4)
        assert "one scale" in element.locator("#note").inner_text()


def test_a_strip_that_would_vanish_says_so(open_page):
    element = opened(open_page, "lora-shapes")
    element.get_by_role("button", name="GPT-3").click()
    W0, B, _ = areas(element)
    note = element.locator("#note").inner_text()
    assert "drawn thicker than they are" in note
    true = float(re.search(r"([\d.]+) pixels", note)[1])
    assert true == pytest.approx(4 * W0[0] / 12288, abs=0.006)
    assert B[0] > true


def test_the_guess(open_page):
    element = opened(open_page, "lora-shapes")
    box = element.locator("#guess")
    verdict = element.locator("#verdict")
    box.fill("250")
    box.press("Enter")
    expect(verdict).to_contain_text("from 0 to 100 first")
    box.fill("6")
    box.press("Enter")
    expect(verdict).to_contain_text("You said 6%. It is 0.39%")
    expect(verdict).to_contain_text("Twice the side, half the share")
    assert shown(element, "w0") == f"{4096**2:,}"


@pytest.mark.parametrize("name", ["outputs", "inputs", "rank"])
def test_every_slider_answers_to_the_keyboard(open_page, name):
    element = opened(open_page, "lora-shapes")
    slider = element.locator(f"#{name}")
    before = {key: shown(element, key) for key in ("w0", "ab")}
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    after = {key: shown(element, key) for key in ("w0", "ab")}
    assert whole(after["ab"]) > whole(before["ab"])
    assert (after["w0"] != before["w0"]) == (name != "rank")
    assert "=" in slider.get_attribute("aria-valuetext")


def test_the_rank_follows_the_smaller_side(open_page):
    element = opened(open_page, "lora-shapes")
    type_sizes(element, 512, 512, 512)
    box = element.get_by_role("spinbutton", name="d_in as a number")
    box.fill("100")
    box.blur()
    rank = element.get_by_role("spinbutton", name="r as a number")
    expect(rank).to_have_value("100")
    rank.fill("101")
    rank.blur()
    alert = element.locator("[role=alert]")
    expect(alert).to_have_text("r must not exceed the smaller side, 100.")
    expect(rank).to_have_value("100")
    rank.fill("0")
    rank.blur()
    expect(alert).to_contain_text("a whole number from 1 to 16384")
    rank.fill("5")
    rank.blur()
    expect(alert).to_be_empty()


def test_presets_are_those_of_the_models(open_page):
    element = opened(open_page, "lora-shapes")
    for name, d, k in (
        ("512 × 512", 512, 512),
        ("4096 × 4096", 4096, 4096),
        ("GPT-3", 12288, 12288),
        ("Llama 3 8B, MLP", 14336, 4096),
    ):
        element.get_by_role("button", name=name, exact=True).click()
        assert whole(shown(element, "w0")) == np.int64(d) * k
