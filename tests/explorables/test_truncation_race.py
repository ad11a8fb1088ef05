"""The explorable `truncation-race`, driven in a browser."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, expect
from test_explorables import number, opened, type_matrix

MATRICES = [
    [[3, 0], [4, 5]],
    [[1, 1], [0, 1]],
    [[1, 2], [-1, 1]],
    [[0.5, -7], [2, 0.1]],
]


def shown(element: Locator, key: str) -> float:
    return number(element.locator(f"#{key}").inner_text())


def turn(element: Locator, theta: float, phi: float) -> None:
    for name, value in (("theta", theta), ("phi", phi)):
        element.locator(f"#{name}").fill(str(value))


def unit(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


@pytest.mark.parametrize("M", MATRICES)
def test_errors_agree_with_numpy(open_page, M):
    element = opened(open_page, "truncation-race")
    type_matrix(element, M)
    least = np.linalg.svd(M, compute_uv=False)[1]
    best = np.inf
    for theta, phi in ((0, 0), (30, 100), (90, 45), (181, 7), (359, 200)):
        turn(element, theta, phi)
        u, v = unit(theta), unit(phi)
        c = u @ np.array(M) @ v
        error = np.linalg.norm(M - c * np.outer(u, v))
        assert shown(element, "factor") == pytest.approx(c, abs=6e-4)
        assert shown(element, "error") == pytest.approx(error, abs=6e-4)
        assert error >= least
        # No other factor does better for the same pair.
        for other in (0.9 * c, 1.1 * c, c + 0.1):
            rival = np.linalg.norm(M - other * np.outer(u, v))
            assert rival >= error - 1e-12
        best = min(best, error)
        assert shown(element, "record") <= best + 6e-4


@pytest.mark.parametrize("M", MATRICES)
def test_random_pairs_never_win(open_page, M):
    element = opened(open_page, "truncation-race")
    type_matrix(element, M)
    least = np.linalg.svd(M, compute_uv=False)[1]
    found = element.evaluate(
        """(e, M) => [1, 2, 3].map(seed =>
          LR.race.best(M, 10000, seed).error)""",
        M,
    )
    for error in found:
        assert least - 1e-12 <= error < 1.1 * least + 0.05
    assert len(set(found)) == 3
    element.get_by_role("button", name="10,000 random pairs").click()
    text = element.locator("#finding").inner_text()
    said = [float(x) for x in re.findall(r"\d+\.\d+", text)]
    assert said == pytest.approx([found[0], least], abs=1e-6)
    assert "never below" in text


def test_random_numbers_are_those_of_mulberry32(open_page):
    """Against the same generator in Python, and a uniform distribution."""
    from stills import random

    element = opened(open_page, "truncation-race")
    got = element.evaluate("""e => {
      const random = LR.random(7);
      return Array.from({ length: 2000 }, random);
    }""")
    numbers = random(7)
    assert got == [next(numbers) for _ in range(2000)]
    assert np.mean(got) == pytest.approx(0.5, abs=0.02)
    assert 0 <= min(got) < 0.01
    assert 0.99 < max(got) < 1


@pytest.mark.parametrize("M", MATRICES)
def test_the_svds_pair_has_the_least_error(open_page, M):
    element = opened(open_page, "truncation-race")
    type_matrix(element, M)
    expect(element.locator("#floor")).to_have_text("?")
    element.get_by_role("button", name="Go to the SVD's pair").click()
    U, s, Vt = np.linalg.svd(M)
    assert shown(element, "error") == pytest.approx(s[1], abs=6e-4)
    assert shown(element, "floor") == pytest.approx(s[1], abs=6e-4)
    for key, vector in (("theta-now", U[:, 0]), ("phi-now", Vt[0])):
        assert abs(unit(shown(element, key)) @ vector) > 1 - 1e-5
    expect(element.locator("#note")).to_contain_text("The least error")


def test_a_tie_has_many_winners(open_page):
    element = opened(open_page, "truncation-race")
    element.get_by_role("button", name="a tie").click()
    element.get_by_role("button", name="Go to the SVD's pair").click()
    for angle in (0, 33, 90, 275):
        turn(element, angle, angle)
        assert shown(element, "error") == pytest.approx(1, abs=6e-4)
        expect(element.locator("#note")).to_contain_text("At a tie")
    turn(element, 10, 40)
    assert shown(element, "error") > 1.05


def test_a_matrix_of_rank_one_leaves_nothing(open_page):
    element = opened(open_page, "truncation-race")
    element.get_by_role("button", name="rank one").click()
    element.get_by_role("button", name="Go to the SVD's pair").click()
    assert shown(element, "error") < 1e-9
    expect(element.locator("#note")).to_contain_text("rank one")


def test_arrows_move_by_keyboard_and_by_hand(open_page):
    element = opened(open_page, "truncation-race")
    for name, key in (
        ("Left unit vector u", "theta-now"),
        ("Right unit vector v", "phi-now"),
    ):
        handle = element.get_by_role("slider", name=name)
        before = shown(element, key)
        handle.focus()
        handle.press("ArrowUp")
        handle.press("Shift+ArrowRight")
        assert shown(element, key) == pytest.approx(before + 11)
    handle = element.get_by_role("slider", name="Left unit vector u")
    plane = element.locator("svg.plane").first.bounding_box()
    box = handle.bounding_box()
    page = element.page
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(
        plane["x"] + 0.95 * plane["width"], plane["y"] + plane["height"] / 2
    )
    page.mouse.up()
    angle = shown(element, "theta-now")
    assert min(angle, 360 - angle) < 8


def test_the_map_is_light_where_the_error_is_small(open_page):
    element = opened(open_page, "truncation-race")
    light = np.array(
        element.evaluate("""e => {
          const canvas = e.shadowRoot.querySelector("canvas");
          const { data } = canvas.getContext("2d").getImageData(0, 0, 60, 60);
          return Array.from({ length: 3600 }, (_, k) => data[4 * k]);
        }""")
    ).reshape(60, 60)
    M = np.array(MATRICES[0])
    angle = 180 * (np.arange(60) + 0.5) / 60
    u = np.array([unit(x) for x in angle])
    c = u @ M @ u.T  # (theta, phi)
    error = np.sqrt((M**2).sum() - c**2)[:, ::-1].T
    order = np.argsort(error, axis=None)
    shades = light.reshape(-1)[order]
    assert (np.diff(shades) <= 0).mean() > 0.99
    assert len(set(shades.tolist())) >= 9


def test_the_guess(open_page):
    element = opened(open_page, "truncation-race")
    element.get_by_role("button", name="shear").click()
    box = element.locator("#guess")
    box.fill("1")
    box.press("Enter")
    verdict = element.locator("#verdict")
    expect(verdict).to_contain_text("You said 1. It is σ₂ = 2.236")
    expect(verdict).to_contain_text("cannot hold all")
    assert shown(element, "floor") == pytest.approx(5**0.5, abs=6e-4)
