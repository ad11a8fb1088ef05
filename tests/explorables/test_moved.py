"""Each explorable, moved by a reader: by keyboard, by hand, with a guess.

Its arithmetic has been tested in Node. Here a number or two tell that the page
shows what was computed there.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from node import call
from pages import (
    answered,
    entries,
    frames,
    guess,
    number,
    opened,
    text,
    type_matrix,
    unfold,
)
from playwright.sync_api import Locator, expect
from test_svd_image import tails

from lorabook import cost, data, linalg
from lorabook.assets import assets_folder

UPDATES = json.loads(
    (assets_folder() / "results" / "update_spectra.json").read_text("utf8")
)


def focused(element: Locator) -> str:
    """Return the name of what has the focus."""
    name: str = element.evaluate("""e => {
      const at = e.shadowRoot.activeElement;
      if (!at) return "";
      return at.ariaLabel || at.labels?.[0]?.textContent || at.textContent;
    }""")
    return name


def drag(element: Locator, what: Locator, dx: float, dy: float) -> None:
    """Drag the middle of something by so many pixels."""
    what.scroll_into_view_if_needed()
    box = what.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse = element.page.mouse
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + dx, y + dy, steps=4)
    mouse.up()


def press(slider: Locator, *keys: str) -> None:
    slider.focus()
    for key in keys:
        slider.press(key)


# ---- rank-collapse ----------------------------------------------------------


def check_rank_collapse(element: Locator, tolerance: float) -> None:
    """Compare every number on display with NumPy's."""
    M = entries(element)
    sigma = np.linalg.svd(M, compute_uv=False)
    shown = element.locator(".values > div").all_inner_texts()
    for words, value in zip(shown, sigma, strict=True):
        assert number(words.split("=")[1]) == pytest.approx(
            value, abs=6e-4, rel=0.06
        )
    rank = linalg.numerical_rank(torch.from_numpy(M), rtol=tolerance)
    expect(element.locator("#rank")).to_have_text(f"{rank} of {len(M)}")
    assert element.locator(".bar:not(.lost)").count() == rank
    away = element.locator("#distance b")
    assert number(away.inner_text()) == pytest.approx(
        np.linalg.norm(sigma[rank - 1 :]), abs=6e-4, rel=0.06
    )


def test_rank_collapse_by_keyboard(open_page):
    element = opened(open_page, "rank-collapse")
    start = entries(element)
    handle = element.get_by_role("slider", name="Tip of column w₁")
    press(handle, "ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowUp")
    moved = start + np.array([[0.2, 0], [0.9, 0]])
    np.testing.assert_allclose(entries(element), moved)
    check_rank_collapse(element, 4.5e-16)
    assert f"({moved[0, 0]:.3f}, " in (
        handle.get_attribute("aria-valuetext") or ""
    )
    # From the handles, Tab goes on to everything else.
    for wanted in ("column w₂", "Go there"):
        element.page.keyboard.press("Tab")
        assert wanted in focused(element)
    element.page.keyboard.press("Enter")
    expect(element.locator("#rank")).to_have_text("1 of 2")
    element.page.keyboard.press("Tab")
    assert "More controls" in focused(element)


def test_rank_collapse_by_hand(open_page):
    element = opened(open_page, "rank-collapse")
    before = entries(element)
    drag(element, element.locator(".handle.c2 rect"), -40, -30)
    after = entries(element)
    np.testing.assert_array_equal(after[:, 0], before[:, 0])
    assert after[0, 1] < before[0, 1]
    assert after[1, 1] > before[1, 1]
    check_rank_collapse(element, 4.5e-16)
    # Let go, the point does not follow any more.
    element.page.mouse.move(5, 5)
    np.testing.assert_array_equal(entries(element), after)


def test_rank_collapse_tolerance(open_page):
    element = opened(open_page, "rank-collapse")
    unfold(element)
    element.get_by_role("button", name="nearly dependent").click()
    seen = []
    for kind in (torch.float64, torch.float32, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        element.get_by_role("button", name=name).click()
        check_rank_collapse(element, 2 * torch.finfo(kind).eps)
        seen.append(text(element, "rank"))
    assert seen == ["2 of 2", "2 of 2", "1 of 2"]
    press(element.get_by_role("slider", name="Tolerance"), "End")
    expect(element.locator("#rank")).to_have_text("0 of 2")
    press(element.get_by_role("slider", name="Tolerance"), "Home")
    expect(element.locator("#rank")).to_have_text("2 of 2")


def test_rank_collapse_guess_and_nearest(open_page):
    element = opened(
        open_page, "rank-collapse", reduced_motion="no-preference"
    )
    before = entries(element)
    for nonsense in ("", "101"):
        expect(guess(element, nonsense)).to_have_text(
            "Type a number from 0 to 100 first."
        )
    np.testing.assert_array_equal(entries(element), before)
    expect(guess(element, 3)).to_contain_text(
        "You said 3. The distance is 2.236"
    )
    M = entries(element)
    np.testing.assert_array_equal(M, [[3, 0], [4, 5]])
    expect(guess(element, 2.24)).to_contain_text("Right.")

    element.get_by_role("button", name="Go there").click()
    on_the_way = entries(element)
    expect(element.locator("#rank")).to_have_text("1 of 2")
    U, S, Vh = linalg.truncated_svd(torch.from_numpy(M), 1)
    np.testing.assert_allclose(
        entries(element), U @ torch.diag(S) @ Vh, atol=1e-4
    )
    # It moves when motion is welcome.
    assert not np.allclose(on_the_way, entries(element))


def test_rank_collapse_in_space(open_page):
    element = opened(open_page, "rank-collapse")
    unfold(element)
    element.get_by_role("radio", name="3 × 3").check()
    default = 3 * np.finfo(np.float64).eps
    for name, body in (("rank two", "flat disc"), ("1 to 9", "flat disc")):
        element.get_by_role("button", name=name, exact=True).click()
        title = f"What W makes of it: a {body}"
        expect(element.get_by_text(title)).to_be_visible()
        check_rank_collapse(element, default)
        assert element.locator(".after path.wire").count() > 10

    look = "e => e.innerHTML"
    picture = element.locator(".after svg > g").first
    before, M = picture.evaluate(look), entries(element)
    press(element.get_by_role("slider", name="Turn"), "ArrowRight")
    assert picture.evaluate(look) != before
    np.testing.assert_array_equal(entries(element), M)
    press(element.get_by_role("slider", name="Tip of column w₃"), "PageUp")
    M[2, 2] += 0.1
    np.testing.assert_allclose(entries(element), M)
    check_rank_collapse(element, default)


@pytest.mark.parametrize("typed", ["", "1e3"])
def test_rank_collapse_nonsense_typed(open_page, typed):
    element = opened(open_page, "rank-collapse")
    cell = element.locator(".matrix input").nth(1)
    body = element.locator(".after path.body")
    drawn = body.get_attribute("d")
    cell.fill(typed)
    cell.press("Tab")
    alert = element.locator("[role=alert]")
    expect(alert).to_contain_text(
        "W, row 1, column 2: type a number from −100"
    )
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


def set_rank(element: Locator, r: object) -> Locator:
    box = element.get_by_label("Rank r as a number")
    box.fill(str(r))
    box.press("Enter")
    return box


@pytest.fixture(scope="module")
def page_photo() -> np.ndarray:
    return np.rint(data.photo(160).numpy() * 255)


def test_svd_image_shows_the_sum(open_page, page_photo):
    element = opened(open_page, "svd-image")
    unfold(element)
    np.testing.assert_array_equal(pixels(element, 0), page_photo)
    U, s, Vt = np.linalg.svd(page_photo / 255, full_matrices=False)
    assert element.get_by_label("Rank r as a number").input_value() == "20"
    for r in (20, 137):
        set_rank(element, r)
        sum_ = (U[:, :r] * s[:r]) @ Vt[:r]
        lost = tails(page_photo)[r]
        expect(element.locator("#error")).to_have_text(f"{lost:.2%}")
        drawn = pixels(element, 1)
        assert np.abs(drawn - (255 * sum_).clip(0, 255)).max() <= 0.51


def test_svd_image_by_keyboard(open_page):
    element = opened(open_page, "svd-image")
    unfold(element)
    slider = element.get_by_role("slider", name="Rank r")
    press(slider, "Home", "ArrowRight", "ArrowRight")
    typed = element.get_by_label("Rank r as a number")
    assert typed.input_value() == "3"
    assert slider.get_attribute("aria-valuetext") == "rank 3 of 137"
    seen = []
    element.get_by_role("radio", name="the sum of r layers").focus()
    for title in ("Layer 3 alone (grey is 0)", "Missing after 3 (grey is 0)"):
        element.page.keyboard.press("ArrowDown")
        expect(element.get_by_text(title)).to_be_visible()
        canvas = element.locator("canvas").nth(1)
        assert canvas.get_attribute("aria-label") == title
        seen.append(pixels(element, 1) - 127.5)
    layer, missing = seen
    assert np.linalg.svd(layer)[1][1] < 0.02 * np.linalg.norm(layer)
    # What is missing has nothing in common with the layers shown.
    assert abs((layer * missing).sum()) < 0.02 * np.linalg.norm(
        layer
    ) * np.linalg.norm(missing)


def test_svd_image_guess(open_page, page_photo):
    element = opened(open_page, "svd-image")
    unfold(element)
    need = int((tails(page_photo) >= 0.1).sum())
    # While another picture is still being taken apart.
    element.evaluate("""e => {
      const at = selector => e.shadowRoot.querySelector(selector);
      at("[value=noise]").click();
      at("#guess").value = 100;
      at("form").requestSubmit();
    }""")
    verdict = element.locator("#verdict")
    expect(verdict).to_contain_text(f"You said 100. It takes r = {need},")
    assert element.get_by_role("radio", name="photograph").is_checked()
    np.testing.assert_array_equal(pixels(element, 0), page_photo)
    assert element.get_by_label("Rank r as a number").input_value() == str(
        need
    )
    assert number(text(element, "error")) < 10
    layers = re.search(
        r"of the (\d+) layers", element.locator("form").inner_text()
    )
    assert layers is not None
    assert int(layers[1]) == min(page_photo.shape)


def test_svd_image_rearranged(open_page, page_photo):
    element = opened(open_page, "svd-image")
    unfold(element)
    finding, dashed = (
        element.locator("#finding"),
        element.locator("path.before:not(.sample *)"),
    )
    need = int((tails(page_photo) >= 0.1).sum())
    expect(dashed).to_have_count(0)
    element.get_by_role("radio", name="lines permuted").check()
    # The rank that was asked for comes after the guess.
    expect(finding).to_contain_text("its rank is untouched")
    expect(finding).not_to_contain_text("takes r", use_inner_text=True)
    expect(dashed).to_have_count(1)
    element.get_by_role("button", name="Just show me").click()
    element.get_by_role("radio", name="lines permuted").check()
    expect(finding).to_contain_text(f"takes r = {need}, as before")
    element.get_by_role("radio", name="pixels shuffled").check()
    expect(finding).to_contain_text("in random places")
    now = int((tails(pixels(element, 0)) >= 0.1).sum())
    expect(finding).to_contain_text(f"takes r = {now} instead of {need}")
    element.get_by_role("radio", name="as it is").check()
    expect(dashed).to_have_count(0)
    np.testing.assert_array_equal(pixels(element, 0), page_photo)


def test_svd_image_of_the_readers_own(open_page, tmp_path):
    from PIL import Image

    element = opened(open_page, "svd-image")
    unfold(element)
    ramp = np.rint(np.outer(np.linspace(0, 255, 40), np.ones(90)))
    path = tmp_path / "ramp.png"
    Image.fromarray(ramp.astype(np.uint8)).save(path)
    element.get_by_role("radio", name="your own").check()
    own = element.get_by_label("A picture of your own")
    own.set_input_files(path)
    expect(element.get_by_role("slider", name="Rank r")).to_have_attribute(
        "aria-valuetext", "rank 20 of 71"
    )
    expect(element.locator("#error")).to_have_text("0.00%")
    assert pixels(element, 0).shape == (71, 160)

    broken = tmp_path / "broken.png"
    broken.write_text("not a picture")
    own.set_input_files(broken)
    expect(element.locator("[role=alert]")).to_have_text(
        "This file could not be read as a picture."
    )


def test_svd_image_by_hand(open_page):
    element = opened(open_page, "svd-image")
    unfold(element)
    typed = element.get_by_label("Rank r as a number")
    chart = element.locator(".facts svg").first
    drag(element, chart, 999, 0)
    assert typed.input_value() == "137"
    drag(element, chart, 20, 0)
    assert 60 < int(typed.input_value()) < 80


@pytest.mark.parametrize("typed", ["", "0", "138"])
def test_svd_image_nonsense_typed(open_page, typed):
    element = opened(open_page, "svd-image")
    box = set_rank(element, typed)
    alert = element.locator("[role=alert]")
    box.blur()
    expect(alert).to_have_text(
        "The rank must be a whole number from 1 to 137."
    )
    assert box.input_value() == "20"
    set_rank(element, 21)
    expect(alert).to_be_empty()


# ---- svd-ellipse ------------------------------------------------------------


def test_svd_ellipse_guess(open_page):
    element = opened(open_page, "svd-ellipse")
    unfold(element)
    W = entries(element)
    _, s, Vt = np.linalg.svd(W)
    best = np.degrees(np.arctan2(Vt[0, 1], Vt[0, 0])) % 180
    lower = element.locator("tbody tr").nth(1)
    assert lower.locator("td").all_inner_texts() == ["?"] * 4
    expect(element.locator("path.dash")).to_have_count(0)

    handle = element.get_by_role("slider", name="Unit vector x")
    press(handle, "Shift+ArrowUp", "ArrowLeft")
    angle = element.get_by_label("Angle of x in degrees")
    at = float(angle.input_value())
    assert at == 15 + 10 - 1
    element.get_by_role("button", name="Check my guess").click()
    radians = np.radians(at)
    reached = np.linalg.norm(W @ [np.cos(radians), np.sin(radians)])
    verdict = element.locator("#verdict")
    expect(verdict).to_contain_text(f"At {at:.1f}° you reached {reached:.3f}.")
    expect(verdict).to_contain_text(f"σ₁ = {s[0]:.3f}, at {best:.1f}°")
    expect(verdict).to_contain_text(f"σ₂ = {s[1]:.3f}")
    expect(element.locator("path.dash")).to_have_count(4)
    cells = lower.locator("td").all_inner_texts()
    assert cells == [f"{s[0]:.3f}", f"{s[1]:.3f}", "0", "90.0° ⟂"]


def test_svd_ellipse_steps(open_page):
    element = opened(open_page, "svd-ellipse")
    unfold(element)
    W = np.array([[0.5, 1.5], [1, 0]])
    type_matrix(element, W)
    element.get_by_role("button", name="Just show me").click()
    lower, story = (
        element.locator("tbody tr").nth(1),
        element.locator("#story"),
    )
    s = np.linalg.svd(W, compute_uv=False)
    for name, lengths in (("Vᵀ:", (1, 1)), ("Σ:", s), ("U:", s)):
        element.get_by_role("button", name=name).click()
        cells = lower.locator("td").all_inner_texts()
        found = [number(x) for x in cells[:2]]
        assert found == pytest.approx(lengths, abs=6e-4)
    expect(story).to_contain_text("no turning alone can do it")
    press(element.get_by_role("slider", name="How much of W"), "Home")
    expect(story).to_have_text("Nothing has happened yet.")


def test_svd_ellipse_by_hand(open_page):
    element = opened(open_page, "svd-ellipse")
    handle = element.locator(".handle circle").nth(1)
    drag(element, handle, -90, -90)
    angle = element.get_by_label("Angle of x in degrees")
    assert 80 < float(angle.input_value()) < 140


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rotation", "Every direction is as good"),
        ("rank one", "The least is σ₂ = 0"),
    ],
)
def test_svd_ellipse_special_cases(open_page, name, words):
    element = opened(open_page, "svd-ellipse")
    unfold(element)
    element.get_by_role("button", name=name).click()
    element.get_by_role("button", name="Just show me").click()
    expect(element.locator("#verdict")).to_contain_text(words)


def test_svd_ellipse_nonsense_typed(open_page):
    element = opened(open_page, "svd-ellipse")
    box = element.get_by_label("Angle of x in degrees")
    box.fill("1000")
    box.press("Enter")
    alert = element.locator("[role=alert]")
    expect(alert).to_contain_text("must be a number of degrees")
    box.fill("10")
    box.press("Enter")
    expect(alert).to_be_empty()


# ---- lora-shapes ------------------------------------------------------------


def test_lora_shapes_guess(open_page):
    element = opened(open_page, "lora-shapes")
    unfold(element)
    expect(element.locator("#even")).to_be_hidden()
    expect(guess(element, 0.5)).to_contain_text("from 1 to 16384 first")
    expect(element.locator("#even")).to_be_hidden()
    verdict = guess(element, 64)
    expect(verdict).to_contain_text("You said 64. At r = 2048, half the width")
    expect(verdict).to_contain_text("At r = 8 they hold 0.39%")
    assert text(element, "w0") == text(element, "ab") == f"{4096**2:,}"
    assert text(element, "share") == "100%"
    assert text(element, "even") == "2048.0"
    W0, B, A = element.evaluate("""e =>
      [...e.shadowRoot.querySelectorAll("path.body, path.kept")].map(p => {
        const { width, height } = p.getBBox();
        return width * height;
      })""")
    assert pytest.approx(W0) == A + B


@pytest.mark.parametrize("name", ["outputs", "inputs", "rank"])
def test_lora_shapes_by_keyboard(open_page, name):
    element = opened(open_page, "lora-shapes")
    unfold(element)
    slider = element.locator(f"#{name}")
    before = {key: text(element, key) for key in ("w0", "ab")}
    press(slider, "ArrowRight", "ArrowRight")
    after = {key: text(element, key) for key in ("w0", "ab")}
    assert after["ab"] != before["ab"]
    assert (after["w0"] != before["w0"]) == (name != "rank")
    assert "=" in (slider.get_attribute("aria-valuetext") or "")


def test_lora_shapes_rank_follows_the_smaller_side(open_page):
    element = opened(open_page, "lora-shapes")
    unfold(element)
    rank = element.get_by_role("spinbutton", name="r as a number")
    alert = element.locator("[role=alert]")

    def type_into(name: str, value: int) -> None:
        box = element.get_by_role("spinbutton", name=f"{name} as a number")
        box.fill(str(value))
        box.blur()

    type_into("r", 512)
    type_into("d_in", 100)
    expect(rank).to_have_value("100")
    type_into("r", 101)
    expect(alert).to_have_text("r must not exceed the smaller side, 100.")
    expect(rank).to_have_value("100")
    type_into("r", 0)
    expect(alert).to_contain_text("a whole number from 1 to 16384")
    element.get_by_role("button", name="GPT-3").click()
    expect(alert).to_be_empty()
    assert text(element, "w0") == f"{12288**2:,}"


# ---- truncation-race --------------------------------------------------------


def test_truncation_race_moves(open_page):
    """By keyboard, by hand and by the sliders."""
    element = opened(open_page, "truncation-race")
    for name, key in (
        ("Left unit vector u", "theta"),
        ("Right unit vector v", "phi"),
    ):
        handle = element.get_by_role("slider", name=name)
        before = number(handle.get_attribute("aria-valuetext") or "")
        press(handle, "ArrowUp", "Shift+ArrowRight")
        now = number(
            element.locator(f"#{key}").get_attribute("aria-valuetext") or ""
        )
        assert now == pytest.approx(before + 11)
    drag(element, element.locator(".handle circle").nth(1), 40, 40)
    u, v = (
        np.radians(float(element.locator(f"#{key}").input_value()))
        for key in ("theta", "phi")
    )
    M = np.array([[3, 0], [4, 5]])
    c = np.array([np.cos(u), np.sin(u)]) @ M @ [np.cos(v), np.sin(v)]
    error = np.sqrt((M**2).sum() - c**2)
    assert number(text(element, "error")) == pytest.approx(error, abs=0.06)
    assert number(text(element, "record")) <= error + 0.06


def test_truncation_race_answers(open_page):
    element = opened(open_page, "truncation-race")
    unfold(element)
    element.get_by_role("button", name="shear").click()
    least = np.linalg.svd([[1, 1], [0, 1]], compute_uv=False)[1]
    expect(element.locator("#floor")).to_be_hidden()
    expect(element.locator(".least")).to_be_hidden()
    element.get_by_role("button", name="Go to the SVD's pair").click()
    for key in ("error", "floor"):
        assert number(text(element, key)) == pytest.approx(least, abs=6e-4)
    expect(element.locator(".least")).to_be_visible()
    element.get_by_role("button", name="10,000 random pairs").click()
    expect(element.locator("#finding")).to_contain_text("never below")
    verdict = guess(element, 1)
    expect(verdict).to_contain_text("You said 1. It is σ₂ = 2.236")
    expect(verdict).to_contain_text("cannot hold all")
    np.testing.assert_array_equal(entries(element), [[3, 0], [4, 5]])


# ---- descent ----------------------------------------------------------------


def test_descent_shows_the_rest_after_the_guess(open_page):
    element = opened(open_page, "descent")
    unfold(element)
    first = call(
        "descent",
        """() => { const D = LR.descent, { found } = D.run(D.DEFAULT);
          return [D.half(found, 0), D.half(found, 1)]; }""",
    )
    expect(element.locator("form")).to_contain_text(
        f"learned after {first[0]} steps"
    )
    expect(element.locator("path.secret").first).to_be_hidden()
    # What is drawn ends where the first is half learned.
    early = element.locator("path.early").first.get_attribute("d") or ""
    assert early.count("L") == first[0] / 8
    for secret in ("loss", "gradient", "values", "note"):
        expect(element.locator(f"#{secret}")).to_be_hidden()
    element.get_by_role("radio", name="both zero").check()
    expect(guess(element, 10001)).to_contain_text("from 0 to 10000 first")
    verdict = guess(element, 144)
    expect(verdict).to_contain_text(f"You said 144. After {first[1]},")
    assert element.get_by_role("radio", name="both random").is_checked()
    expect(element.locator("path.secret").first).to_be_visible()
    expect(element.locator("path.early")).to_have_count(0)
    assert text(element, "now") == "800 of 800"
    assert float(text(element, "loss")) < 1e-4


def test_descent_by_keyboard(open_page):
    element = answered(open_page, "descent")
    before = text(element, "loss")
    for name in ("size", "rate", "rank"):
        slider = element.locator(f"#{name}")
        shown = slider.get_attribute("aria-valuetext")
        press(slider, "ArrowLeft", "ArrowLeft", "ArrowLeft")
        expect(element.locator("#loss")).not_to_have_text(before)
        assert slider.get_attribute("aria-valuetext") != shown
        before = text(element, "loss")
    press(element.locator("#at"), "ArrowLeft")
    expect(element.locator("#now")).to_have_text("792 of 800")
    press(element.locator("#at"), "Home")
    before = text(element, "gradient")
    element.get_by_role("button", name="Another start").click()
    expect(element.locator("#gradient")).not_to_have_text(before)
    element.get_by_role("button", name="As at first").click()
    expect(element.locator("#now")).to_have_text("800 of 800")


def test_descent_special_cases(open_page):
    element = answered(open_page, "descent")
    element.get_by_role("radio", name="both zero").check()
    expect(element.locator("#note")).to_contain_text("Zero is a saddle")
    assert text(element, "gradient") == "0"
    element.get_by_role("radio", name="both random").check()
    press(element.locator("#rate"), "End")
    expect(element.locator("#note")).to_contain_text("the loss exploded at")
    drawn = element.evaluate("e => e.shadowRoot.innerHTML")
    assert not re.search(r"NaN|Infinity|undefined", drawn)


# ---- update-spectrum --------------------------------------------------------


def choose(element: Locator, layer: str, rank: int) -> None:
    element.locator(f'input[value="{layer}"]').check()
    set_rank(element, rank)


def points(element: Locator, chart: str, selector: str) -> list[list[float]]:
    """Return the first two numbers of each pair in the paths of a chart."""
    texts = element.locator(
        f"svg[aria-label^='{chart}'] {selector}"
    ).evaluate_all("all => all.map(path => path.getAttribute('d'))")
    number_ = r"(-?\d+(?:\.\d+)?)"
    return [
        [float(x) for pair in re.findall(f"{number_} {number_}", d)
         for x in pair]
        for d in texts
    ]  # fmt: skip


@pytest.mark.parametrize("width", [1280, 390])
def test_update_spectrum_draws_the_file(open_page, width):
    element = answered(
        open_page, "update-spectrum", viewport={"width": width, "height": 900}
    )
    layer = UPDATES["layers"]["blocks.2.attention.q"]
    choose(element, "blocks.2.attention.q", 8)
    net = [y[1] for y in points(element, "Energy", "path.net")]
    zero, one = net[0], net[-1]
    for kind, style in (
        ("update", "body"),
        ("weight", "dash"),
        ("noise", "dots"),
    ):
        (curve,) = points(element, "Energy", f"path.{style}")
        squares = np.square(layer[kind])
        e = squares.cumsum() / squares.sum()
        drawn = (zero - np.array(curve[1::2])) / (zero - one)
        assert drawn == pytest.approx(e, abs=2e-3)
        x = np.array(curve[::2])
        steps = np.log2(np.arange(1, 129)) / 7 * (x[-1] - x[0])
        assert x - x[0] == pytest.approx(steps, abs=0.11)
        # The other chart: decades of singular values over the norm.
        (left,) = points(element, "singular", f"path.{style}")
        net_ = [y[1] for y in points(element, "singular", "path.net")]
        decade = (net_[0] - net_[-1]) / 3
        level = np.log10(np.array(layer[kind]) / np.linalg.norm(layer[kind]))
        assert net_[-1] - np.array(left[1::2]) == pytest.approx(
            decade * level.clip(-3), abs=0.2
        )
    ranks = [int(r) for r in UPDATES["all"]][1:]
    assert element.locator("svg[aria-label^=Energy] path.mark").count() == (
        2 * len(ranks)
    )


def test_update_spectrum_keeps_the_loss_back(open_page):
    element = opened(open_page, "update-spectrum")
    unfold(element)
    chart = element.locator("svg[aria-label^=Energy]")
    marks = chart.locator(".mark")
    assert marks.count() == 8
    for mark in marks.all():
        expect(mark).to_be_hidden()
    assert "gain" not in (chart.get_attribute("aria-label") or "")
    choose(element, "blocks.0.up", 3)
    for key in ("cut-0", "kept-0", "cut-1", "kept-1", "gain"):
        expect(element.locator(f"#{key}")).to_be_hidden()
    verdict = guess(element, 50)
    losses = list(UPDATES["all"].values())
    ranks = list(UPDATES["all"])
    share = (losses[0] - losses[ranks.index("8")]) / (losses[0] - losses[-1])
    expect(verdict).to_contain_text(f"You said 50%. It is {share:.1%}.")
    # The answer is for all 24 at rank 8, and so is the figure now.
    assert element.locator('input[value="all"]').is_checked()
    assert element.get_by_label("Rank r as a number").input_value() == "8"
    assert text(element, "kept-0") == f"{share:.1%}"
    assert "gain" in (chart.get_attribute("aria-label") or "")
    for mark in marks.all():
        expect(mark).to_be_visible()
    gain = losses[0] - losses[-1]
    expect(element.locator("form")).to_contain_text(f"save {gain:.3f} bits")


def test_update_spectrum_by_keyboard(open_page):
    element = answered(open_page, "update-spectrum")
    keyboard = element.page.keyboard
    element.locator('input[value="all"]').focus()
    keyboard.press("ArrowDown")
    picked = element.locator("input[name=layer]:checked")
    expect(picked).to_have_value("blocks.0.attention.q")
    assert (picked.get_attribute("aria-label") or "").startswith(
        "blocks.0.attention.q: "
    )
    seen = text(element, "update-energy")
    for _ in range(6):
        keyboard.press("ArrowRight")
    expect(picked).to_have_value("blocks.1.attention.q")
    assert text(element, "update-energy") != seen
    slider = element.locator("#rank")
    press(slider, "Home", "ArrowRight", "ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "rank 3 of 128"
    assert text(element, "cut-0") == "not measured"
    button = element.get_by_role("button", name="16", exact=True)
    press(button, "Enter")
    assert slider.input_value() == "16"
    title = element.get_by_text("singular values / norm")
    expect(title).to_be_visible()
    element.get_by_role("radio", name="as they are").check()
    expect(title).to_be_hidden()


def test_update_spectrum_by_hand_and_nonsense(open_page):
    element = opened(open_page, "update-spectrum")
    typed = element.get_by_label("Rank r as a number")
    chart = element.locator("svg[aria-label^=Energy]")
    drag(element, chart, 999, 0)
    assert typed.input_value() == "128"
    drag(element, chart, 0, 0)
    assert 6 < int(typed.input_value()) < 12
    alert = element.locator("[role=alert]")
    before = typed.input_value()
    for nonsense in ("", "0", "129", "2.5"):
        set_rank(element, nonsense).blur()
        expect(alert).to_have_text(
            "The rank must be a whole number from 1 to 128."
        )
        assert typed.input_value() == before
    set_rank(element, 9)
    expect(alert).to_be_empty()


# ---- alpha-lr ---------------------------------------------------------------


def curves(element: Locator) -> dict[str, str]:
    """Return the three curves of the chart."""
    drawn: dict[str, str] = element.evaluate("""e => Object.fromEntries(
      ["body", "dash", "aim"].map(kind => [kind, e.shadowRoot.querySelector(
        `svg[role=img] path.${kind}`).getAttribute("d")]))""")
    return drawn


def test_alpha_lr_by_keyboard(open_page):
    element = opened(open_page, "alpha-lr")
    unfold(element)
    for who, name in [
        *(("yours", k) for k in ("alpha", "rank", "rate")),
        *(("hers", k) for k in ("alpha", "rank", "rate", "start", "ratio")),
    ]:
        slider = element.locator(f"#{name}-{who}")
        words = slider.get_attribute("aria-valuetext")
        before = text(element, "loss-0"), text(element, "loss-1")
        press(slider, "ArrowRight")
        frames(element)
        assert slider.get_attribute("aria-valuetext") != words
        after = text(element, "loss-0"), text(element, "loss-1")
        mine = ("yours", "hers").index(who)
        assert after[mine] != before[mine]
        assert after[1 - mine] == before[1 - mine]


def test_alpha_lr_guess_and_presets(open_page):
    """Each rule holds for its own optimiser, and the saying for none."""
    element = opened(open_page, "alpha-lr")
    unfold(element)
    # The rules would tell the answer.
    rule = element.get_by_role("button", name="Adam’s rule")
    expect(rule).to_be_hidden()
    element.get_by_role("radio", name="SGD").check()
    expect(guess(element, 1001)).to_have_text(
        "Type a number from 0 to 1000 first."
    )
    expect(guess(element, 4)).to_contain_text("You said 4. It is 2")
    assert element.get_by_role("radio", name="Adam").is_checked()
    assert text(element, "same").startswith("= The same run")
    drawn = curves(element)
    assert drawn["body"] == drawn["dash"]
    assert len(set(re.findall(r" ([\d.]+)", drawn["aim"]))) == 1
    element.get_by_role("radio", name="Adam").focus()
    element.page.keyboard.press("ArrowRight")
    frames(element)
    assert text(element, "same").startswith("≠")
    expect(element.locator(".key-rows tbody th").first).to_contain_text(
        "ηA/ω²"
    )
    for name, right in (
        ("nothing else", False),
        ("the saying: η × 4", False),
        ("SGD’s rule: η × 4, start × 2", True),
        ("LoRA+: B’s rate × 4", False),
        ("rank 4 → 16", False),
    ):
        element.get_by_role("button", name=name, exact=True).click()
        frames(element)
        assert text(element, "same").startswith("=" if right else "≠"), name
        assert element.get_by_role("radio", name="SGD").is_checked()


def test_alpha_lr_on_a_phone_with_an_explosion(open_page):
    element = answered(
        open_page, "alpha-lr", viewport={"width": 390, "height": 844}
    )
    element.get_by_role("radio", name="SGD").check()
    for name, value in (("rate", -1), ("alpha", 8), ("ratio", 6)):
        element.locator(f"#{name}-hers").fill(str(value))
    frames(element)
    assert "hers explodes at step" in text(element, "same")
    assert "a smaller rate helps" in text(element, "note")
    assert text(element, "loss-1") == text(element, "loss-2") == "–"
    assert element.evaluate(
        """e => { const f = e.shadowRoot.querySelector("figure");
          return f.scrollWidth <= f.clientWidth; }"""
    )
    drawn = element.evaluate("e => e.shadowRoot.innerHTML")
    assert not re.search(r"NaN|Infinity|undefined", drawn)


def test_alpha_lr_attributes_and_paper(open_page):
    page = opened(open_page, "alpha-lr").page
    page.evaluate("""() => {
      const e = document.createElement("lr-alpha-lr");
      Object.entries({ optimizer: "sgd", scaling: "root", alpha: "2",
        rank: "4", lr: "0.0625" }).forEach(([k, v]) => e.setAttribute(k, v));
      document.querySelector(".lr-explorable").before(e);
      e.id = "tried";
      dispatchEvent(new Event("beforeprint"));
    }""")
    words = page.locator("#tried .paper")
    expect(words).to_be_hidden()
    page.emulate_media(media="print")
    expect(words).to_have_text(
        "SGD, scale α/√r; yours: α 2, rank r 4, rate η 2⁻⁴; hers: α 1, "
        "rank r 4, rate η 2⁻⁴, start of A × 1, rate of B × 1."
    )


# ---- gradient-rank ----------------------------------------------------------


def ranks(element: Locator) -> list[str]:
    return [text(element, key) for key in ("gradient", "sum", "lora")]


def test_gradient_rank_shows_the_sum_after_the_guess(open_page):
    element = opened(open_page, "gradient-rank")
    unfold(element)
    for secret in ("sum", "note", "energy"):
        expect(element.locator(f"#{secret}")).to_be_hidden()
    press(element.locator("#steps"), "End")
    charts = element.locator("svg[role=img]")
    for chart in charts.all():
        assert "sum" not in (chart.get_attribute("aria-label") or "")
    for line in charts.locator("path.body").all():
        expect(line).to_be_hidden()
    expect(guess(element, -1)).to_contain_text("from 0 to 1000 first")
    expect(guess(element, 0)).to_contain_text("You said never. After 6:")
    assert ranks(element) == ["3", "16", "2"]
    for line in element.locator("svg[role=img] path.body").all():
        expect(line).to_be_visible()
    assert element.locator("#steps").input_value() == "6"
    press(element.locator("#steps"), "ArrowLeft")
    assert ranks(element) == ["3", "15", "2"]


def test_gradient_rank_by_keyboard(open_page):
    element = answered(open_page, "gradient-rank")
    press(element.locator("#tokens"), "ArrowRight", "ArrowRight")
    frames(element)
    press(element.locator("#steps"), "Home", "ArrowRight", "ArrowRight")
    assert ranks(element) == ["5", "15", "2"]
    press(element.locator("#rank"), "End")
    frames(element)
    assert ranks(element) == ["5", "15", "15"]
    assert text(element, "energy") == "100.0%"  # of all directions
    press(element.locator("#rank"), "Home")
    frames(element)
    energy = text(element, "energy")
    element.get_by_role("button", name="Other batches").click()
    assert ranks(element) == ["5", "15", "1"]
    assert text(element, "energy") != energy
    element.get_by_role("radio", name="none").focus()
    element.page.keyboard.press("ArrowRight")
    frames(element)
    assert ranks(element)[1] == "16"
    expect(element.locator("#note")).to_contain_text("weight decay takes")
    element.get_by_role("radio", name="none").check()
    element.get_by_role("radio", name="Adam").check()
    press(element.locator("#steps"), "Home")
    frames(element)
    expect(element.locator("#note")).to_contain_text("Adam divides")
    assert int(ranks(element)[1]) > 5


def test_gradient_rank_draws_its_numbers(open_page):
    """The left chart's ranks, and the fall of the right one's lines."""
    element = answered(open_page, "gradient-rank")
    left, right = (
        element.locator(f"svg[aria-label^='{words}']")
        for words in ("Ranks after", "How many")
    )
    net = left.locator("path.net").evaluate_all(
        "all => all.map(p => +p.getAttribute('d').match(/ ([\\d.]+)H/)[1])"
    )
    per_rank = (net[0] - net[-1]) / 16
    for kind, expected in (
        ("body", [min(3 * t, 16) for t in range(1, 25)]),
        ("dash", [3] * 24),
        ("dots", [2] * 24),
    ):
        d = left.locator(f"path.{kind}").get_attribute("d") or ""
        y = np.array([float(p.split(" ")[1]) for p in d[1:].split("L")])
        assert (net[0] - y) / per_rank == pytest.approx(expected, abs=0.03)
        d = right.locator(f"path.{kind}").get_attribute("d") or ""
        rank = {"body": 16, "dash": 3, "dots": 2}[kind]
        # One more point where it falls to zero.
        assert d.count("L") + 1 == rank + (rank < 16)


# ---- lora-calculator --------------------------------------------------------


def gigabytes(r: int | None, **settings: Any) -> str:
    """Return a peak as the calculator writes it."""
    model = settings.pop("model", "llama-3-8b")
    targets = settings.pop("targets", "all-linear")
    total = cost.training_memory(model, r, targets, **settings).total
    return f"{total / 1e9:,.3f}"


def adapted(element: Locator) -> set[str | None]:
    """Return the maps that have an adapter."""
    boxes = element.locator("fieldset [type=checkbox]:checked").all()
    return {box.get_attribute("name") for box in boxes}


def test_lora_calculator_and_its_guess(open_page):
    element = opened(open_page, "lora-calculator")
    full = cost.training_memory("llama-3-8b").total / 1e9
    expect(element.locator(".ask label")).to_contain_text(f"{full:.0f} GB")
    element.locator("#model").select_option("gpt2")
    expect(guess(element, 10_001)).to_contain_text("from 0 to 10000 first")
    verdict = guess(element, 8)
    expect(verdict).to_contain_text("You said 8.")
    for r, base in ((16, "bf16"), (64, "bf16"), (16, "nf4")):
        gb = cost.training_memory("llama-3-8b", r, base=base).total / 1e9
        expect(verdict).to_contain_text(f"{gb:.1f}")
    expect(element.locator("#model")).to_have_value("llama-3-8b")
    # The picture is to scale, but for a gap of one pixel.
    widths = element.evaluate("""e =>
      [...e.shadowRoot.querySelectorAll("[role=img] .bar")].map(
        x => [x.classList[1], x.getBBox().width])""")
    assert [name for name, _ in widths] == [
        *("weights", "gradients", "optimizer"),
        *("weights", "adapter", "optimizer"),
    ]
    unit = (widths[0][1] + 1) / cost.training_memory("llama-3-8b").weights
    for k, r in ((2, None), (3, 16)):
        memory = cost.training_memory("llama-3-8b", r)
        expected = getattr(memory, widths[k][0]) * unit - 1
        assert widths[k][1] == pytest.approx(expected, abs=0.1)


def test_lora_calculator_by_keyboard(open_page):
    element = answered(open_page, "lora-calculator")
    press(element.locator("#rank"), "ArrowRight", "ArrowRight")
    expect(element.locator("#rank")).to_have_attribute(
        "aria-valuetext", "r = 32"
    )
    assert text(element, "lora-total") == gigabytes(32)
    press(element.locator("#base"), "End")
    expect(element.locator("#base")).to_have_value("nf4")
    assert text(element, "lora-total") == gigabytes(32, base="nf4")
    press(element.locator("#prepared"), "Space")
    settings = {"base": "nf4", "prepared": False}
    assert text(element, "lora-total") == gigabytes(32, **settings)
    press(element.locator("#rank"), "End")
    expect(element.locator("#rank")).to_have_attribute(
        "aria-valuetext", "r = 1024"
    )


# A value for each control that is not its default.
OTHERS = {
    "base": "int8",
    "trained": "bf16",
    "optimizer": "adamw-8bit",
    "loss": "held",
    "sharding": "fsdp",
    "batch": 3,
    "sequence": 77,
    "accumulation": 2,
    "gpus": 4,
    "checkpointing": False,
    "autocast": False,
    "dropout": True,
    "prepared": False,
    "double_quantisation": True,
}


def test_lora_calculator_has_every_setting(open_page):
    """Each control moves what the package says that it moves."""
    assert OTHERS.keys() == cost.Settings.__annotations__.keys()
    element = answered(open_page, "lora-calculator")
    settings: dict[str, Any] = {}
    for name, value in OTHERS.items():
        control = element.locator(f"#{name}")
        if isinstance(value, bool):
            control.set_checked(value)
        elif isinstance(value, str):
            control.select_option(value)
        else:
            control.fill(str(value))
            control.blur()
        settings[name] = value
        assert text(element, "lora-total") == gigabytes(16, **settings), name
        assert text(element, "full-total") == gigabytes(None, **settings), name
    code = element.locator("#code").inner_text()
    found = eval(code, {"cost": cost})
    assert f"{found.total / 1e9:,.3f}" == gigabytes(16, **settings)
    element.get_by_role("radio", name="bytes", exact=True).check()
    assert text(element, "lora-total") == f"{found.total:,}"


def test_lora_calculator_keeps_a_group(open_page):
    """From GPT-2's MLP to Llama's, which has one map more, and back."""
    element = answered(open_page, "lora-calculator")
    element.locator("#model").select_option("gpt2")
    element.get_by_role("button", name="mlp", exact=True).click()
    assert adapted(element) == {"up", "down"}
    element.locator("#model").select_option("llama-3-8b")
    assert adapted(element) == {"gate", "up", "down"}
    element.locator("[name=up]").uncheck()
    element.locator("#model").select_option("gpt2")
    assert adapted(element) == {"down"}
    # A smaller model lowers the rank, and its positions shorten the text.
    rank = element.get_by_role("spinbutton", name="r as a number")
    rank.fill("768")
    rank.blur()
    element.locator("#model").select_option("tiny-gpt")
    expect(rank).to_have_value("128")
    expect(element.locator("#sequence")).to_have_value("128")


def test_lora_calculator_names_what_does_not_fit(open_page):
    element = answered(open_page, "lora-calculator")
    alert = element.locator("[role=alert]")
    rank = element.get_by_role("spinbutton", name="r as a number")
    for typed in ("0", "1025", "2.5", ""):
        rank.fill(typed)
        rank.blur()
        expect(alert).to_have_text(
            "r must be a whole number from 1 to 1024 for these maps."
        )
        expect(rank).to_have_value("16")
    batch = element.locator("#batch")
    batch.fill("513")
    batch.blur()
    expect(alert).to_contain_text('"texts in a batch" must be')
    expect(batch).to_have_value("1")
    element.get_by_role("button", name="qv").click()
    expect(alert).to_be_empty()
    element.locator("[name=q]").uncheck()
    element.locator("[name=v]").click()
    expect(alert).to_have_text("At least one map must have an adapter.")
    expect(element.locator("[name=v]")).to_be_checked()
