"""The explorable `lora-calculator`, driven in a browser.

Whatever it shows is compared with `lorabook.cost`, digit by digit.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest
from playwright.sync_api import Locator, expect
from test_explorables import opened

from lorabook import cost
from lorabook.architectures import ARCHITECTURES

PARTS = tuple(x.name for x in dataclasses.fields(cost.Memory))
# Set every control as a reader would, in any order, and read all that is
# shown. The rank comes last: the maps decide how large it may be.
SET_AND_READ = """(e, set) => {
  const root = e.shadowRoot, at = (id) => root.getElementById(id);
  const enter = (el, value) => {
    el.value = value;
    el.dispatchEvent(new Event("change"));
  };
  enter(at("model"), set.model);
  const boxes = [...root.querySelectorAll("fieldset [type=checkbox]")];
  const wanted = (box) => set.names.includes(box.name);
  // None may be the last to go: first switch on, then off.
  for (const turn of [true, false])
    for (const box of boxes)
      if (wanted(box) === turn && box.checked !== turn) box.click();
  for (const id of ["base", "trained", "optimizer", "batch", "sequence"])
    enter(at(id), set[id]);
  if (at("checkpointing").checked !== set.checkpointing)
    at("checkpointing").click();
  enter(at("rank"), set.rank);
  const text = {};
  for (const el of root.querySelectorAll("td[id], #code"))
    text[el.id] = el.textContent;
  text.alert = root.querySelector("[role=alert]").textContent;
  text.moves = [...root.querySelectorAll("table:last-of-type tr")].map(
    (row) => [...row.children].map((x) => x.textContent));
  return text;
}"""


@pytest.fixture
def calculator(open_page) -> Locator:
    element = opened(open_page, "lora-calculator")
    element.get_by_role("radio", name="bytes", exact=True).check()
    return element


def settings() -> list[dict[str, Any]]:
    """Return 15 settings of each model, drawn once and for all."""
    draw = random.Random(0)
    found = []
    for model, _ in itertools.product(ARCHITECTURES, range(15)):
        maps = ARCHITECTURES[model].linears
        names = [x for x in maps if draw.random() < 0.6] or ["down"]
        most = min(min(maps[x]) for x in names)
        found.append(
            {
                "model": model,
                "names": names,
                "rank": draw.choice([1, most, draw.randint(1, most)]),
                "base": draw.choice(cost.BASES),
                "trained": draw.choice(list(cost.FORMATS)),
                "optimizer": draw.choice(list(cost.OPTIMIZERS)),
                "batch": draw.choice([1, 3, 64, 512]),
                "sequence": draw.choice([1, 77, 2048, 131072]),
                "checkpointing": draw.random() < 0.5,
            }
        )
    return found


def memory(
    names: list[str], rank: int | None, model: str, **others: Any
) -> cost.Memory:
    return cost.training_memory(model, rank, names, **others)


def test_it_equals_the_package_to_the_last_digit(calculator):
    grid = settings()
    assert len(grid) >= 200
    for set_ in grid:
        shown = calculator.evaluate(SET_AND_READ, set_)
        assert shown["alert"] == ""
        lora, full = memory(**set_), memory(**{**set_, "rank": None})
        for prefix, expected in (("lora", lora), ("full", full)):
            for part in (*PARTS, "total"):
                found = shown[f"{prefix}-{part}"]
                assert found == f"{getattr(expected, part):,}", (set_, part)
        model, rank, names = (set_[k] for k in ("model", "rank", "names"))
        count = cost.adapter_parameters(model, rank, names)
        total = ARCHITECTURES[model].parameters
        assert shown["parameters"] == f"{total:,}"
        assert shown["count"] == f"{count:,}"
        work = [
            cost.training_flops(model, r, names, set_["checkpointing"])
            for r in (rank, None)
        ]
        # Halves may be rounded up here and down there.
        for key, value, digits in (
            ("share", 100 * count / total, 3),
            ("file", 4 * count / 1e6, 1),
            ("work", 100 * work[0] / work[1], 1),
        ):
            text = shown[key].split()[0].rstrip("%").replace(",", "")
            assert len(text.partition(".")[2]) == digits
            assert abs(float(text) - value) <= 0.5001 * 10**-digits
        # The line of Python that it offers does what it says.
        assert eval(shown["code"], {"cost": cost}) == lora


def test_gigabytes_are_rounded_bytes(open_page):
    element = opened(open_page, "lora-calculator")
    expected = cost.training_memory("llama-3-8b", 16)
    for part in (*PARTS, "total"):
        cell = element.locator(f"#lora-{part}")
        expect(cell).to_have_text(f"{getattr(expected, part) / 1e9:,.3f}")


def test_what_one_change_would_do(calculator):
    set_ = {
        "model": "gpt2-xl",
        "names": ["q", "v"],
        "rank": 64,
        "base": "int8",
        "trained": "fp32",
        "optimizer": "sgd",
        "batch": 2,
        "sequence": 512,
        "checkpointing": False,
    }
    now = memory(**set_).total
    expected = {
        "double r": {"rank": 128},
        "a base in nf4": {"base": "nf4"},
        "a base in bf16": {"base": "bf16"},
        "Adam's memory in 8 bits": {"optimizer": "adamw-8bit"},
        "texts twice as long": {"sequence": 1024},
        "gradient checkpointing": {"checkpointing": True},
    }
    shown = dict(calculator.evaluate(SET_AND_READ, set_)["moves"])
    assert list(shown) == list(expected)
    for words, change in expected.items():
        by = (memory(**{**set_, **change}).total - now) / 1e9
        sign = "−" if by < 0 else "+"
        assert shown[words] == f"{sign}{abs(by):,.3f} GB"


def test_the_guess(open_page):
    element = opened(open_page, "lora-calculator")
    total = cost.training_memory("llama-3-8b").total / 1e9
    expect(element.locator(".ask label")).to_contain_text(f"{total:.0f} GB")
    box, verdict = element.locator("#guess"), element.locator("#verdict")
    element.locator("#model").select_option("gpt2")
    box.fill("1001")
    box.press("Enter")
    expect(verdict).to_contain_text("from 0 to 1000 first")
    box.fill("8")
    box.press("Enter")
    expect(verdict).to_contain_text("You said 8.")
    for rank, base in ((16, "bf16"), (64, "bf16"), (16, "nf4")):
        gb = cost.training_memory("llama-3-8b", rank, base=base).total / 1e9
        expect(verdict).to_contain_text(f"{gb:.1f}")
    expect(element.locator("#model")).to_have_value("llama-3-8b")


def test_a_group_stays_a_group(open_page):
    """From GPT-2's MLP to Llama's, which has one map more, and back."""
    element = opened(open_page, "lora-calculator")
    element.locator("#model").select_option("gpt2")
    element.get_by_role("button", name="mlp", exact=True).click()

    def on() -> set[str]:
        boxes = element.locator("fieldset [type=checkbox]:checked").all()
        return {box.get_attribute("name") for box in boxes}

    assert on() == {"up", "down"}
    element.locator("#model").select_option("llama-3-8b")
    assert on() == {"gate", "up", "down"}
    element.get_by_role("checkbox", name="up").uncheck()
    element.locator("#model").select_option("gpt2")
    assert on() == {"down"}


def test_what_does_not_fit_is_named(open_page):
    element = opened(open_page, "lora-calculator")
    alert = element.locator("[role=alert]")
    rank = element.get_by_role("spinbutton", name="r as a number")
    for typed in ("0", "1025", "2.5", ""):
        rank.fill(typed)
        rank.blur()
        expect(alert).to_have_text(
            "r must be a whole number from 1 to 1024 for these maps."
        )
        expect(rank).to_have_value("16")
    for name, most in (("texts in a batch", 512), ("tokens of each", 131072)):
        box = element.get_by_role("spinbutton", name=name)
        before = box.input_value()
        box.fill(str(most + 1))
        box.blur()
        expect(alert).to_contain_text(f"whole number from 1 to {most:,}.")
        expect(box).to_have_value(before)
    element.get_by_role("button", name="qv").click()
    expect(alert).to_be_empty()
    element.get_by_role("checkbox", name="q").uncheck()
    element.locator("[name=v]").click()
    expect(alert).to_have_text("At least one map must have an adapter.")
    expect(element.locator("[name=v]")).to_be_checked()


def test_a_smaller_model_lowers_the_rank(open_page):
    element = opened(open_page, "lora-calculator")
    rank = element.get_by_role("spinbutton", name="r as a number")
    rank.fill("1024")
    rank.blur()
    element.locator("#model").select_option("tiny-gpt")
    expect(rank).to_have_value("128")
    count = cost.adapter_parameters("tiny-gpt", 128)
    expect(element.locator("#count")).to_have_text(f"{count:,}")


def test_by_keyboard(open_page):
    element = opened(open_page, "lora-calculator")
    before = element.locator("#count").inner_text()
    slider = element.locator("#slide")
    slider.focus()
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", "r = 32")
    assert element.locator("#count").inner_text() != before
    slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "r = 1024")
    element.locator("#base").focus()
    element.locator("#base").press("End")
    expect(element.locator("#base")).to_have_value("nf4")


def test_the_bars_are_to_scale(open_page):
    element = opened(open_page, "lora-calculator")
    element.locator("#trained").select_option("bf16")
    widths = element.evaluate("""e =>
      [...e.shadowRoot.querySelectorAll("[role=img] .bar")].map(
        (x) => [x.classList[1], x.getBBox().width])""")
    full = cost.training_memory("llama-3-8b", trained="bf16")
    unit = (widths[0][1] + 1) / full.weights
    assert [part for part, _ in widths[:3]] == [*PARTS[:1], *PARTS[2:4]]
    for part, width in widths[:3]:
        # A gap of one pixel is left between the parts.
        expected = getattr(full, part) * unit - 1
        assert width == pytest.approx(expected, abs=0.1)
    lora = cost.training_memory("llama-3-8b", 16, trained="bf16")
    assert widths[3][0] == "weights"
    assert widths[3][1] == pytest.approx(lora.weights * unit - 1, abs=0.1)
