"""The explorable `gradient-rank`: its runs, against PyTorch.

PyTorch trains on the page's own batches, with autograd, its own optimisers and
the book's layer; the page adds up the steps by itself.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from node import call
from torch import nn

from lorabook.layers import LoRALinear
from lorabook.linalg import numerical_rank

SIDE, STEPS = 16, 24
RATES = {"sgd": 0.5, "adam": 0.01}
SETTINGS = [
    {"tokens": n, "optimizer": rule, "decay": decay, "rank": r, "seed": seed}
    for n, rule, decay, r, seed in [
        (3, "sgd", 0, 2, 1),
        (3, "adam", 0, 2, 1),
        (1, "sgd", 0, 1, 2),
        (1, "adam", 0, 4, 2),
        (7, "sgd", 0.1, 3, 3),
        (2, "adam", 0.1, 2, 4),
        (16, "sgd", 0, 16, 5),
        (20, "adam", 0, 1, 6),
    ]
]


@pytest.fixture(scope="module")
def runs() -> list[list]:
    return call(
        "gradient-rank",
        """settings => settings.map(set => {
          const P = LR.gradients, run = P.run(set), found = P.spectra(run);
          return [P.problem(set), run, found, P.note(set, found)];
        })""",
        SETTINGS,
    )


def double(M: list) -> torch.Tensor:
    return torch.tensor(M, dtype=torch.float64)


def train(setting: dict, given: dict) -> list[tuple[torch.Tensor, ...]]:
    """Return gradient, sum of steps and LoRA's ΔW after each step."""
    W0, C, A = (double(given[key]) for key in ("W0", "C", "A"))
    whole, base = (nn.Linear(SIDE, SIDE, bias=False).double() for _ in "12")
    with torch.no_grad():
        whole.weight.copy_(W0)
        base.weight.copy_(W0)
    lora = LoRALinear(base, r=setting["rank"], alpha=2 * setting["rank"])
    with torch.no_grad():
        lora.A.copy_(A)
    options = {"lr": RATES[setting["optimizer"]]} | {
        "weight_decay": setting["decay"]
    }
    trained = [whole.weight, lora.A, lora.B]
    rule = (
        torch.optim.SGD(trained, **options)
        if setting["optimizer"] == "sgd"
        else torch.optim.AdamW(trained, eps=1e-30, **options)
    )
    found = []
    for batch in given["batches"]:
        x, noise = double(batch["X"]), double(batch["noise"])
        y = x @ (W0 + C).T + noise
        rule.zero_grad()
        for layer in (whole, lora):
            (layer(x) - y).square().sum().div(2 * len(x)).backward()
        rule.step()
        found.append(
            (
                whole.weight.grad.clone(),
                whole.weight.detach() - W0,
                lora.delta_weight().detach(),
            )
        )
    return found


def test_the_runs_are_pytorchs(runs):
    for setting, (given, run, _, _) in zip(SETTINGS, runs, strict=True):
        expected = train(setting, given)
        assert len(run) == len(expected) == STEPS
        for got, matrices in zip(run, expected, strict=True):
            for key, M in zip(
                ("gradient", "sum", "lora"), matrices, strict=True
            ):
                np.testing.assert_allclose(
                    got[key], M, atol=1e-7 * M.abs().max().item() + 1e-15
                )


def test_the_spectra_and_ranks_are_the_packages(runs):
    for _, run, found, _ in runs:
        for matrices, got in zip(run, found, strict=True):
            for key, M in matrices.items():
                W = double(M)
                s = torch.linalg.svdvals(W)
                np.testing.assert_allclose(
                    got["s"][key], s, atol=1e-14 * s[0].item()
                )
                assert got["rank"][key] == numerical_rank(W, rtol=1e-12)


@pytest.mark.slow
def test_ranks_add_up_whatever_is_drawn():
    """The question's answer holds for any problem and any batches."""
    found = call(
        "gradient-rank",
        """() => Array.from({ length: 40 }, (_, i) => {
          const P = LR.gradients, tokens = 1 + i % 8;
          const set = { ...P.DEFAULT, tokens, rank: 1 + i % 5, seed: i + 1 };
          return [tokens, set.rank, P.spectra(P.run(set)).map(x => x.rank)];
        })""",
    )
    for tokens, r, ranks in found:
        for t, rank in enumerate(ranks, 1):
            assert rank["gradient"] == tokens
            assert rank["sum"] == min(t * tokens, SIDE)
            assert rank["lora"] <= r
        assert ranks[-1]["lora"] == r


@pytest.mark.slow
def test_adam_and_decay_keep_no_rank():
    found = call(
        "gradient-rank",
        """() => ["adam", "sgd"].map(optimizer => Array.from({ length: 20 },
          (_, i) => {
            const P = LR.gradients, set = { ...P.DEFAULT, optimizer,
              tokens: 1 + i % 8, decay: optimizer === "sgd" ? 0.1 : 0,
              seed: i + 1 };
            const found = P.spectra(P.run(set));
            return [set.tokens, found.map(x => x.rank)];
          }))""",
    )
    for tokens, ranks in found[0]:
        # The sign of a matrix of rank one has rank one, of others more.
        first = ranks[0]["sum"]
        assert first == 1 if tokens == 1 else first > tokens
        assert ranks[2]["sum"] == SIDE
        assert all(rank["lora"] <= 2 for rank in ranks)
    for _, ranks in found[1]:
        assert {rank["sum"] for rank in ranks} == {SIDE}
        assert all(rank["lora"] <= 2 for rank in ranks)


def test_what_is_said_is_true(runs):
    kinds = set()
    for setting, (_, _, found, note) in zip(SETTINGS, runs, strict=True):
        ranks = [x["rank"] for x in found]
        assert f"LoRA’s ΔW has rank {setting['rank']} at most" in note
        said = re.search(r"after (\d+) steps ΔW has rank 16", note)
        full = [rank["sum"] for rank in ranks].index(SIDE) + 1
        if said:
            assert int(said[1]) == full > 1
        if setting["decay"]:
            kinds.add("decay")
            assert full == 1
            assert "ΔW has rank 16 after one step" in note
        elif setting["optimizer"] == "adam":
            one = ranks[0]["gradient"] == 1
            kinds.add(f"adam {one}")
            words = re.findall(r"rank (\d+)", note)
            if one:
                assert "sign of the gradient" in note
                assert ranks[0]["sum"] == 1
            else:
                assert int(words[0]) == ranks[0]["gradient"]
                assert int(words[1]) == ranks[0]["sum"]
        elif setting["tokens"] < SIDE:
            kinds.add("sum")
            assert f"the rank of its batch, {ranks[0]['gradient']}" in note
            assert f"sum is {ranks[1]['sum']} after two" in note
        else:
            kinds.add("large")
            assert f"one gradient has rank {ranks[0]['gradient']}" in note
    assert len(kinds) == 5
