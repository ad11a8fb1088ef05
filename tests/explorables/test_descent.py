"""The explorable `descent`, driven in a browser, against NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from stills import random
from test_explorables import number, opened

SIGMA = np.array([1, 0.5, 0.25, 0.125, 0, 0])
SETTINGS = [
    ("small", 1e-3, 4, 0.1),
    ("small", 1e-6, 4, 0.1),
    ("small", 1e-6, 2, 0.5),
    ("small", 1e-3, 1, 0.3),
    ("small", 0.1, 6, 0.1),
    ("small", 1.0, 3, 0.05),
    ("lora", 1e-3, 4, 0.1),
    ("lora", 0.3, 4, 0.1),
    ("lora", 1.0, 2, 0.2),
    ("lora", 1e-6, 6, 0.3),
    ("zero", 1e-3, 4, 0.1),
    ("zero", 1.0, 6, 1.0),
]


def start(kind: str, size: float, r: int, seed: int):
    numbers = random(seed)

    def normal(m: int, n: int) -> np.ndarray:
        draws = []
        for _ in range(m * n):
            radius = np.sqrt(-2 * np.log(1 - next(numbers)))
            draws.append(radius * np.cos(2 * np.pi * next(numbers)))
        return size * np.array(draws).reshape(m, n)

    B = normal(8, r) if kind == "small" else np.zeros((8, r))
    A = np.zeros((r, 6)) if kind == "zero" else normal(r, 6)
    return B, A


def run(kind: str, size: float, r: int, rate: float, seed: int = 1):
    """Return loss, gradient norm and singular values at every step."""
    W = np.zeros((8, 6))
    np.fill_diagonal(W, SIGMA)
    B, A = start(kind, size, r, seed)
    found = []
    for _ in range(801):
        R = B @ A - W
        if (R**2).sum() / 2 >= 1e4:
            break
        gB, gA = R @ A.T, B.T @ R
        size_ = np.sqrt((gB**2).sum() + (gA**2).sum())
        s = np.linalg.svd(B @ A, compute_uv=False)[:r]
        found.append(((R**2).sum() / 2, size_, s))
        B, A = B - rate * gB, A - rate * gA
    return found


def with_options(open_page, kind, size, r, rate) -> Locator:
    """Open the figure in the page, then one with these attributes."""
    page = opened(open_page, "descent").page
    page.evaluate(
        """([start, size, rank, rate]) => {
          const e = document.createElement("lr-descent");
          Object.entries({ start, size, rank, rate }).forEach(([k, v]) =>
            e.setAttribute(k, v));
          document.querySelector(".lr-explorable").before(e);
          e.id = "tried";
        }""",
        [kind, size, r, rate],
    )
    element = page.locator("#tried")
    element.scroll_into_view_if_needed()
    expect(element).to_have_attribute("data-ready", "")
    expect(element.locator("[role=alert]")).to_be_empty()
    return element


def scrub(element: Locator, step: int) -> None:
    element.locator("#at").fill(str(step))


def shown(element: Locator, key: str) -> str:
    return element.locator(f"#{key}").inner_text()


@pytest.mark.parametrize(("kind", "size", "r", "rate"), SETTINGS)
def test_the_run_is_numpys(open_page, kind, size, r, rate):
    element = with_options(open_page, kind, size, r, rate)
    expected = run(kind, size, r, rate)
    floor = (SIGMA[r:] ** 2).sum() / 2
    assert float(shown(element, "floor")) == pytest.approx(floor, abs=1e-6)
    for step in (0, 72, 400, 800):
        scrub(element, step)
        loss, gradient, s = expected[step]
        assert shown(element, "now") == f"{step} of 800"
        found = float(shown(element, "loss"))
        assert found == pytest.approx(loss, rel=1e-4, abs=2e-6)
        assert found >= floor - 1e-6
        assert number(shown(element, "gradient")) == pytest.approx(
            gradient, rel=0.06, abs=6e-4
        )
        values = [float(x) for x in shown(element, "values").split(", ")]
        assert values == pytest.approx(s, abs=6e-4)


def test_singular_values_come_one_by_one(open_page):
    element = opened(open_page, "descent")
    text = shown(element, "note")
    times = [int(x) for x in re.findall(r"after (\d+)", text)]
    expected = run("small", 1e-3, 4, 0.1)
    for i, t in enumerate(times):
        halves = [f[2][i] >= SIGMA[i] / 2 for f in expected[::8]]
        assert t == 8 * halves.index(True)
    assert len(times) == 4
    ratios = np.divide(times[1:], times[:-1])
    assert (ratios > 1.5).all()
    assert (ratios < 3).all()


def test_at_zero_nothing_moves(open_page):
    element = opened(open_page, "descent")
    element.get_by_role("radio", name="both zero").check()
    expect(element.locator("#note")).to_contain_text("Zero is a saddle")
    for step in (0, 800):
        scrub(element, step)
        loss = float(shown(element, "loss"))
        assert loss == pytest.approx((SIGMA**2).sum() / 2, abs=1e-6)
        assert shown(element, "gradient") == "0"


def test_an_explosion_is_named(open_page):
    element = with_options(open_page, "small", 0.1, 4, 3)
    note = shown(element, "note")
    step = int(re.search(r"exploded at step (\d+)", note)[1])
    assert step == len(run("small", 0.1, 4, 3))
    drawn = element.evaluate(
        "e => e.shadowRoot.querySelector('svg').innerHTML"
    )
    assert "NaN" not in drawn
    assert "Infinity" not in drawn


def test_a_larger_start_has_no_stairs(open_page):
    element = opened(open_page, "descent")
    size = element.locator("#size")
    first = shown(element, "note")
    size.focus()
    for _ in range(4):
        size.press("ArrowRight")
    expect(element.locator("#note")).not_to_have_text(first)
    times = [
        int(x) for x in re.findall(r"after (\d+)", shown(element, "note"))
    ]
    assert times[0] < 40


@pytest.mark.parametrize("name", ["size", "rank", "rate"])
def test_every_slider_answers_to_the_keyboard(open_page, name):
    element = opened(open_page, "descent")
    scrub(element, 200)
    before = shown(element, "loss")
    slider = element.locator(f"#{name}")
    text = slider.get_attribute("aria-valuetext")
    slider.focus()
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    expect(element.locator("#loss")).not_to_have_text(before)
    assert slider.get_attribute("aria-valuetext") != text


def test_another_start_and_back(open_page):
    element = opened(open_page, "descent")
    scrub(element, 72)
    first = shown(element, "loss")
    element.get_by_role("button", name="Another start").click()
    other = shown(element, "loss")
    assert other != first
    expected = run("small", 1e-3, 4, 0.1, seed=2)[72][0]
    assert float(other) == pytest.approx(expected, rel=1e-4, abs=2e-6)
    element.get_by_role("button", name="As at first").click()
    scrub(element, 72)
    assert shown(element, "loss") == first


def test_the_guess(open_page):
    element = opened(open_page, "descent")
    element.get_by_role("radio", name="both zero").check()
    box = element.locator("#guess")
    box.fill("144")
    box.press("Enter")
    verdict = element.locator("#verdict")
    expect(verdict).to_contain_text("You said 144. After 176")
    expect(element.locator("#note")).to_contain_text("Half learned")
    assert element.get_by_role("radio", name="both random").is_checked()


def test_the_still_picture_is_this_run(open_page):
    from stills import descent_run

    losses, values = descent_run()
    expected = run("small", 1e-3, 4, 0.1)[::8]
    assert losses == pytest.approx([f[0] for f in expected])
    assert values == pytest.approx(np.array([f[2] for f in expected]))
