"""The explorable `lora-calculator`: every byte as the package counts it.

Its JavaScript runs in Node, over settings that are drawn once and for all; the
page itself is tried in `test_moved.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest
from node import call

from lorabook import cost
from lorabook.architectures import ARCHITECTURES

PARTS = tuple(x.name for x in dataclasses.fields(cost.Memory))
MOMENTS = ("loss", "backward", "step")
CHOICES: dict[str, list[Any]] = {
    "base": list(cost.BASES),
    "trained": list(cost.FORMATS),
    "autocast": [True, False],
    "dropout": [True, False],
    "optimizer": list(cost.OPTIMIZERS),
    "loss": list(cost.LOSSES),
    "batch": [1, 3, 64, 512],
    "sequence": [1, 77, 128],
    "checkpointing": [True, False],
    "accumulation": [1, 2, 8],
    "prepared": [True, False],
    "double_quantisation": [True, False],
    "gpus": [1, 2, 3, 64],
    "sharding": list(cost.SHARDINGS),
}


def drawn(draw: random.Random, model: str) -> dict[str, Any]:
    """Return settings of everything."""
    sizes = ARCHITECTURES[model]
    names = [x for x in sizes.linears if draw.random() < 0.6] or ["down"]
    shapes = cost.adapted_maps(sizes, names).values()
    most = min(min(shape) for shape in shapes)
    set_ = {name: draw.choice(some) for name, some in CHOICES.items()}
    if sizes.positions is None:
        set_["sequence"] = draw.choice([1, 2048, 131072])
    return {
        **set_,
        "model": model,
        "names": names,
        "rank": draw.choice([1, most, draw.randint(1, most)]),
    }


def grid() -> list[dict[str, Any]]:
    """Return forty settings of each model, and what PEFT converts."""
    draw = random.Random(0)
    cases = [drawn(draw, x) for x in ARCHITECTURES for _ in range(40)]
    # Which of two sums is larger depends on the share of the MLP.
    for model, names, autocast, dropout in itertools.product(
        ("llama-3-8b", "llama-2-7b", "qwen2.5-7b"),
        (["down"], ["up", "down"], ["gate"], ["q"]),
        (True, False),
        (True, False),
    ):
        as_peft = {"base": "bf16", "trained": "fp32"}
        some = {"names": names, "autocast": autocast, "dropout": dropout}
        cases.append(drawn(draw, model) | some | as_peft | {"rank": 4})
    return cases


def settings(set_: dict[str, Any]) -> dict[str, Any]:
    """Return what `training_memory` takes by keyword."""
    return {name: set_[name] for name in CHOICES}


def test_it_equals_the_package_to_the_last_digit():
    cases = grid()
    assert len(cases) >= 600
    for name, some in CHOICES.items():
        seen = {set_[name] for set_ in cases}
        assert seen >= set(some) - {128}, name
    found = call(
        "lora-calculator",
        """all => all.map(set => {
          const C = LR.cost, m = LR.data.architectures.models[set.model];
          const { names } = set;
          return { n: C.adapter(m, set.rank, names), all: C.parameters(m),
            most: C.most(m, names),
            full: C.moments(m, null, names, set),
            lora: C.moments(m, set.rank, names, set),
            peak: C.peak(m, set.rank, names, set),
            flops: [set.rank, null].map(r => C.flops(m, r, names,
              set.checkpointing, set.sequence)) };
        })""",
        cases,
    )
    for set_, got in zip(cases, found, strict=True):
        model, names, rank = (set_[k] for k in ("model", "names", "rank"))
        for column, r in (("full", None), ("lora", rank)):
            expected = cost.moments(model, r, names, **settings(set_))
            for moment in MOMENTS:
                shown = got[column][moment]
                for part in (*PARTS, "total"):
                    value = getattr(expected[moment], part)
                    assert shown[part] == value, (set_, column, moment, part)
        peak = cost.training_memory(model, rank, names, **settings(set_))
        assert got["peak"]["total"] == peak.total
        assert got["lora"][got["peak"]["moment"]]["total"] == peak.total
        assert got["n"] == cost.adapter_parameters(model, rank, names)
        assert got["all"] == ARCHITECTURES[model].parameters
        maps = cost.adapted_maps(model, names).values()
        assert got["most"] == min(min(shape) for shape in maps)
        for value, r in zip(got["flops"], (rank, None), strict=True):
            assert value == cost.training_flops(
                model,
                r,
                names,
                set_["checkpointing"],
                sequence=set_["sequence"],
            )


def test_cards():
    totals = [10**9, 20 * 10**9, int(24 * 2**30 / 1.1), 10**11, 10**12]
    found = call(
        "lora-calculator",
        "all => all.map(x => LR.cost.card(x) ?? null)",
        totals,
    )
    assert found == [cost.smallest_card(total) for total in totals]


@pytest.fixture(scope="module")
def said() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return some settings, and all that the page says of each."""
    cases = grid()[::7]
    found = call(
        "lora-calculator",
        """all => all.map(set => {
          const W = LR.calculator, known = LR.data.architectures;
          return { texts: W.texts(known, set, x => W.giga(x)),
            bytes: W.texts(known, set, LR.grouped),
            code: W.python(known, set), changes: W.changes(known, set),
            mistake: W.mistake(known, set) ?? null };
        })""",
        cases,
    )
    return list(zip(cases, found, strict=True))


def test_the_texts_are_those_numbers(said):
    for set_, got in said:
        model, names, rank = (set_[k] for k in ("model", "names", "rank"))
        for column, r in (("full", None), ("lora", rank)):
            peak = cost.training_memory(model, r, names, **settings(set_))
            for part in (*PARTS, "total"):
                value, key = getattr(peak, part), f"{column}-{part}"
                assert got["bytes"][key] == f"{value:,}"
                rounded = float(got["texts"][key].replace(",", ""))
                assert rounded == pytest.approx(value / 1e9, abs=5.001e-4)
            card = cost.smallest_card(peak.total)
            assert got["texts"][f"{column}-card"] == str(card or "several")
        texts = got["texts"]
        count = cost.adapter_parameters(model, rank, names)
        total = ARCHITECTURES[model].parameters
        assert texts["parameters"] == f"{total:,}"
        assert texts["count"] == f"{count:,}"
        work = [
            cost.training_flops(
                model,
                r,
                names,
                set_["checkpointing"],
                sequence=set_["sequence"],
            )
            for r in (rank, None)
        ]
        # Halves may be rounded up here and down there.
        for key, value, digits in (
            ("share", 100 * count / total, 3),
            ("file", 4 * count / 1e6, 1),
            ("work", 100 * work[0] / work[1], 1),
        ):
            text = texts[key].split()[0].rstrip("%").replace(",", "")
            assert len(text.partition(".")[2]) == digits
            assert abs(float(text) - value) <= 0.5001 * 10**-digits


def test_the_line_of_python_does_what_it_says(said):
    for set_, got in said:
        model, names, rank = (set_[k] for k in ("model", "names", "rank"))
        expected = cost.training_memory(model, rank, names, **settings(set_))
        assert eval(got["code"], {"cost": cost}) == expected
        assert got["mistake"] is None


def test_defaults_are_the_packages():
    usual, code = call(
        "lora-calculator",
        """() => {
          const W = LR.calculator, known = LR.data.architectures;
          const set = { ...W.SETTINGS, model: "gpt2", rank: 4,
            names: ["q", "v"] };
          return [W.SETTINGS, W.python(known, set)];
        }""",
    )
    assert (
        usual.keys() == CHOICES.keys() == cost.Settings.__annotations__.keys()
    )
    assert code == 'cost.training_memory("gpt2", 4, "qv")'
    assert cost.training_memory("gpt2", 4, "qv") == cost.training_memory(
        "gpt2", 4, "qv", **usual
    )


def test_what_one_change_would_do(said):
    by_words: dict[str, Any] = {
        "double r": lambda s: {"rank": 2 * s["rank"]},
        "a base in nf4": lambda s: {"base": "nf4"},
        "a base in bf16": lambda s: {"base": "bf16"},
        "Adam's memory in 8 bits": lambda s: {"optimizer": "adamw-8bit"},
        "texts twice as long": lambda s: {"sequence": 2 * s["sequence"]},
        "a fused loss": lambda s: {"loss": "fused"},
        "gradient checkpointing": lambda s: {"checkpointing": True},
        "keep all activations": lambda s: {"checkpointing": False},
    }
    seen = set()
    for set_, got in said:
        model, names, rank = (set_[k] for k in ("model", "names", "rank"))
        now = cost.training_memory(model, rank, names, **settings(set_)).total
        for words, by in got["changes"]:
            seen.add(words)
            change = by_words[words](set_)
            assert any(set_[key] != value for key, value in change.items())
            next_ = {**set_, **change}
            total = cost.training_memory(
                model, next_["rank"], names, **settings(next_)
            ).total
            assert by == total - now, (set_, words)
    assert seen == by_words.keys()


def test_mistakes():
    good = {"model": "gpt2", "rank": 4, "names": ["q", "v"]}
    changes = [
        {},
        {"names": []},
        {"rank": 0},
        {"rank": 769},
        {"rank": 2.5},
        {"rank": None},
        {"batch": 513},
        {"gpus": 0},
        {"sequence": 131073},
        {"sequence": 1025},
    ]
    found = call(
        "lora-calculator",
        """(good, all) => all.map(change => LR.calculator.mistake(
          LR.data.architectures, { ...LR.calculator.SETTINGS, ...good,
            ...change }) ?? "")""",
        good,
        changes,
    )
    most = "r must be a whole number from 1 to 768 for these maps."
    assert found == [
        "",
        "At least one map must have an adapter.",
        *[most] * 4,
        '"texts in a batch" must be a whole number from 1 to 512.',
        '"GPUs" must be a whole number from 1 to 1,024.',
        '"tokens of each" must be a whole number from 1 to 131,072.',
        "gpt2 has learned 1,024 positions and takes no text of 1,025 tokens.",
    ]
