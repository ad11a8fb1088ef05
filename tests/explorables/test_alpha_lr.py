"""The explorable `alpha-lr`: its runs and words, against PyTorch.

PyTorch trains the page's problem from its inputs, with autograd and its own
optimisers; the page computes gradients from the covariance of the inputs.
"""

from __future__ import annotations

import functools
import math
import re
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from node import call
from pages import number
from stills import alpha_run

# Exponents of two, as the sliders have them.
KNOBS = {
    "alpha": (0, 8, 1),
    "rank": (0, 4, 1),
    "rate": (-10, -1, 0.5),
    "start": (-2, 3, 0.5),
    "ratio": (-4, 6, 1),
}
YOURS = {"alpha": 6, "rank": 3, "rate": -7, "start": 0, "ratio": 0}
SHARED = [(o, s) for o in ("adam", "sgd") for s in ("r", "root")]
Knobs = dict[str, float]
PROBLEM = {
    key: torch.tensor(M, dtype=torch.float64)
    for key, M in call("alpha-lr", "() => LR.twoRuns.problem()").items()
}
A0, T, C = (PROBLEM[key] for key in "ATC")
# Inputs with this covariance: the loss is a mean of squares over them.
X = torch.linalg.cholesky(C / 2).T


def loss_of(W: torch.Tensor) -> torch.Tensor:
    """Mean squares over the inputs, 1 at W = 0."""
    return (X @ (W - T).T).square().sum()


def scale_of(knobs: Knobs, scaling: str) -> float:
    r = 2 ** knobs["rank"]
    return 2 ** knobs["alpha"] / (r if scaling == "r" else r**0.5)


def train(
    knobs: Knobs, optimizer: str, scaling: str
) -> tuple[list[torch.Tensor], list[float]]:
    """Return ΔW and the loss before each of 30 steps and after the last."""
    return train_once(tuple(knobs.items()), optimizer, scaling)


@functools.cache
def train_once(
    items: tuple[tuple[str, float], ...], optimizer: str, scaling: str
) -> tuple[list[torch.Tensor], list[float]]:
    knobs = dict(items)
    s, lr = scale_of(knobs, scaling), 2 ** knobs["rate"]
    A = (2 ** knobs["start"] * A0[: 2 ** int(knobs["rank"])]).clone()
    B = torch.zeros(16, len(A), dtype=torch.float64)
    groups = [
        {"params": [A.requires_grad_()], "lr": lr},
        {"params": [B.requires_grad_()], "lr": lr * 2 ** knobs["ratio"]},
    ]
    rule = (
        torch.optim.SGD(groups, lr=lr)
        if optimizer == "sgd"
        else torch.optim.Adam(groups, lr=lr, eps=1e-30)
    )
    changes, losses = [], []
    while True:
        W = s * B @ A
        loss = loss_of(W)
        changes.append(W.detach())
        losses.append(loss.item())
        if len(losses) == 31 or not losses[-1] < 1e4:
            return changes, losses
        rule.zero_grad()
        loss.backward()
        rule.step()


def apart(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    """Return the relative distance at the last step that both reached."""
    last = min(len(one), len(two)) - 1
    return float((two[last] - one[last]).norm() / one[last].norm())


def changed(**by: float) -> Knobs:
    return {k: v + by.get(k, 0) for k, v in YOURS.items()}


SETTINGS = [
    (YOURS, changed(alpha=-2)),
    (YOURS, changed(alpha=-2, rate=2)),
    (YOURS, changed(alpha=-1, rate=0.5, start=0.5)),
    (YOURS, changed(ratio=2, start=-1)),
    (changed(rank=-1), changed(rank=1)),
    (changed(rank=-3), changed(rank=1, alpha=-6, rate=4, start=3)),
    (changed(alpha=-6, rate=-3), changed(alpha=2, rate=-3, start=-2)),
    (changed(alpha=2, rate=1), changed(rate=6, ratio=6)),
    (changed(rate=6), changed(rate=6, alpha=2)),
]


def compare(pairs: list[tuple[str, str, Knobs, Knobs]]) -> list[Any]:
    """Let the page train all pairs; return what it says of each.

    A pair is optimiser, scaling, your settings and hers.
    """
    return call(
        "alpha-lr",
        """pairs => {
          const P = LR.twoRuns, problem = P.problem();
          return pairs.map(([optimizer, scaling, yours, hers]) => {
            const shared = { optimizer, scaling };
            const one = P.run(problem, yours, shared);
            const two = P.run(problem, hers, shared);
            return { verdict: P.verdict(one, two, P.compare(one, two)),
              rows: P.rows(yours, hers, shared, one, two),
              note: P.explain(problem, yours, hers, shared, one, two) };
          });
        }""",
        pairs,
    )


def test_the_problem():
    assert (A0.shape, T.shape, C.shape) == ((16, 24), (16, 24), (24, 24))
    assert T.norm().item() == pytest.approx(4)
    assert loss_of(torch.zeros_like(T)).item() == pytest.approx(1)
    # As LoRALinear draws it.
    assert A0.abs().max() <= 24**-0.5
    assert A0.var().item() == pytest.approx(1 / 72, rel=0.15)
    torch.testing.assert_close(C, C.T)
    neighbours = C.diagonal(1) / (C.diagonal()[1:] * C.diagonal()[:-1]).sqrt()
    assert neighbours[3:].mean() > 0.5


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_the_runs_are_pytorchs(optimizer, scaling):
    knobs = [k for pair in SETTINGS for k in pair]
    runs = call(
        "alpha-lr",
        """(all, shared) => {
          const P = LR.twoRuns, problem = P.problem();
          return all.map(knobs => {
            const { found, exploded } = P.run(problem, knobs, shared);
            return [found.map(f => [f.loss, f.size, f.W]), exploded];
          });
        }""",
        knobs,
        {"optimizer": optimizer, "scaling": scaling},
    )
    bursts = 0
    for settings, (found, exploded) in zip(knobs, runs, strict=True):
        changes, losses = train(settings, optimizer, scaling)
        assert len(found) == len(losses)
        assert (exploded is None) == (len(losses) == 31)
        bursts += exploded is not None
        for (loss, size, M), W, other in zip(
            found, changes, losses, strict=True
        ):
            assert loss == pytest.approx(other, rel=1e-6, abs=1e-12)
            assert size == pytest.approx(W.norm().item(), rel=1e-6, abs=1e-15)
            error = torch.tensor(M, dtype=torch.float64) - W
            assert error.norm() <= 1e-6 * W.norm()
    assert bursts or optimizer == "adam"


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_the_table_says_what_the_theorem_says(optimizer, scaling):
    W = torch.zeros_like(T, requires_grad=True)
    loss_of(W).backward()
    p = 1 if optimizer == "adam" else 2
    pairs = [(optimizer, scaling, *pair) for pair in SETTINGS]
    for (*_, yours, hers), said in zip(pairs, compare(pairs), strict=True):
        values: dict[str, list[float]] = {}
        bursts = []
        for who, knobs in (("yours", yours), ("hers", hers)):
            s = scale_of(knobs, scaling)
            sigma = 2 ** knobs["start"] / 72**0.5
            eta = 2 ** knobs["rate"]
            changes, losses = train(knobs, optimizer, scaling)
            if len(losses) < 31:
                bursts.append(f"{who} explodes at step {len(losses) - 1}")
            for key, value in (
                ("scale", s),
                ("first", eta / sigma**p),
                ("second", (s * sigma) ** p * eta * 2 ** knobs["ratio"]),
                ("along", -(changes[1] * W.grad).sum() / W.grad.norm()),
                ("size", changes[1].norm()),
                ("loss", losses[-1] if len(losses) == 31 else math.nan),
                ("end", changes[-1].norm() if len(losses) == 31 else math.nan),
            ):
                values.setdefault(key, []).append(float(value))
        for words in bursts:
            assert words in said["verdict"]
            assert "a smaller rate helps" in said["note"]
        for key, pair in values.items():
            *texts, ratio = said["rows"][key]
            for text, value in zip(texts, pair, strict=True):
                if math.isnan(value):
                    assert text == ratio == "–"
                    continue
                # As many digits as are shown.
                assert number(text) == pytest.approx(
                    value, rel=0.06 if value < 1e-3 else 6e-3
                )
            by = pair[1] / pair[0]
            if by == pytest.approx(1, abs=1e-9):
                assert ratio == "same"
            elif not math.isnan(by):
                assert number(ratio) == pytest.approx(
                    by, rel=0.06 if by < 1e-3 else 6e-3
                )


def equivalent(
    yours: Knobs, optimizer: str, a: float, alpha: float
) -> Knobs | None:
    """Return her settings by the theorem, if the sliders have them.

    Her A is 2^a times yours; her α is 2^alpha times yours, so that her B is
    2^(-alpha - a) times yours.
    """
    p = 1 if optimizer == "adam" else 2
    b = -alpha - a
    hers = dict(yours)
    hers["alpha"] += alpha
    hers["start"] += a
    hers["rate"] += p * a
    hers["ratio"] += p * b - p * a
    fits = all(
        low <= hers[k] <= high and (hers[k] - low) % step == 0
        for k, (low, high, step) in KNOBS.items()
    )
    return hers if fits else None


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_every_equivalence_is_named_and_no_near_miss(optimizer, scaling):
    """PyTorch finds the same runs equal, also to the bit."""
    draw, pairs, cases = Random(0), [], []
    for yours in (YOURS, changed(rank=-2, rate=-1)):
        for a in np.arange(-2, 3.5, 0.5):
            for alpha in (-4, -1, 1):
                hers = equivalent(yours, optimizer, float(a), alpha)
                if hers is None:
                    continue
                pairs.append((optimizer, scaling, yours, hers))
                cases.append(a)
                name = draw.choice(list(KNOBS))
                low, high, step = KNOBS[name]
                for near in (hers[name] - step, hers[name] + step):
                    if low <= near <= high:
                        missed = {**hers, name: near}
                        pairs.append((optimizer, scaling, yours, missed))
                        cases.append(None)
    seen = {"=": 0, "≈": 0, "≠": 0}
    for a, (*_, yours, hers), said in zip(
        cases, pairs, compare(pairs), strict=True
    ):
        verdict = said["verdict"]
        seen[verdict[0]] += 1
        if a is None:
            assert verdict.startswith("≠ Another run"), (yours, hers)
            continue
        mine, theirs = (train(k, optimizer, scaling)[0] for k in (yours, hers))
        if a == int(a):
            assert verdict.startswith("= The same run, to the last")
            assert all(map(torch.equal, mine, theirs))
            assert not a or f"her A is {2**a:g} times yours" in said["note"]
        else:
            assert verdict.startswith("≈ The same run up to rounding")
            assert apart(mine, theirs) < 1e-9
    assert all(count >= 5 for count in seen.values()), seen


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_runs_that_hardly_differ_do_differ(optimizer):
    """At the smallest steps, where A hardly moves: far above rounding."""
    low = {**YOURS, "alpha": 0, "rank": 4, "rate": -10}
    hers = {**low, "rate": -9, "ratio": -1}  # the second number is kept
    verdict = compare([(optimizer, "r", low, hers)])[0]["verdict"]
    distance = apart(*(train(k, optimizer, "r")[0] for k in (low, hers)))
    assert verdict.startswith("≠ Another run")
    assert number(verdict) == pytest.approx(100 * distance, rel=0.06)
    assert distance > 1e-6


@pytest.mark.slow
def test_any_pair_of_settings_is_judged_as_the_theorem_does():
    draw = Random(0)

    def some(base: Knobs) -> Knobs:
        # Often near the other: settings far apart are no test.
        knobs = dict(base)
        for name in draw.sample(list(KNOBS), draw.choice([1, 2, 3, 5])):
            low, high, step = KNOBS[name]
            near = base[name] + step * draw.randint(-3, 3)
            knobs[name] = min(high, max(low, near))
        return knobs

    pairs = []
    for _ in range(200):
        yours = some({**YOURS, "rate": draw.choice([-10, -8, -5, -2])})
        pairs.append((*draw.choice(SHARED), yours, some(yours)))
    same = 0
    for (optimizer, scaling, yours, hers), said in zip(
        pairs, compare(pairs), strict=True
    ):
        p = 1 if optimizer == "adam" else 2
        first, second = (
            [
                k["rate"] - p * k["start"],
                p * math.log2(scale_of(k, scaling) * 2 ** k["start"])
                + k["rate"]
                + k["ratio"],
            ]
            for k in (yours, hers)
        )
        expected = yours["rank"] == hers["rank"] and first == pytest.approx(
            second
        )
        assert (said["verdict"][0] != "≠") == expected, (yours, hers)
        same += expected
    assert same > 3


def test_an_explosion_of_both_is_one_run():
    loud = {**YOURS, "rate": -1, "alpha": 8}
    steps = len(train(loud, "sgd", "r")[0]) - 1
    said = compare([("sgd", "r", loud, loud)])[0]
    assert said["verdict"] == (
        f"= The same run, to the last bit: both explode at step {steps}."
    )


def test_the_answer_to_a_guess():
    guesses = [4, 1.5, 16, 0, 1000, 2, None]
    said = call(
        "alpha-lr",
        """(yours, hers, guesses) => {
          const P = LR.twoRuns, shared = { optimizer: "adam", scaling: "r" };
          return guesses.map(guess =>
            P.answer(P.problem(), yours, hers, shared, guess));
        }""",
        YOURS,
        changed(alpha=-2, rate=1, start=1),
        guesses,
    )
    mine = train(YOURS, "adam", "r")[0]
    for guess, words in zip(guesses[:3], said, strict=False):
        assert words.startswith(f"You said {guess}. It is 2")
        by = math.log2(guess)
        off = train(changed(alpha=-2, rate=by, start=by), "adam", "r")[0]
        percent = number(words.split("ends")[1])
        assert percent == pytest.approx(100 * apart(mine, off), rel=0.05)
    for words, expected in zip(
        said[3:],
        ("100% away", "explodes", "Yes: times 2, the root", "By 2, the root"),
        strict=True,
    ):
        assert expected in words


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_another_rank_and_the_theory_of_the_first_step(optimizer, scaling):
    """Averages over the page's draws, and what the theorem foretells."""
    low, high = changed(rank=-1), changed(rank=1)
    note = compare([(optimizer, scaling, low, high)])[0]["note"]
    words = re.findall(r"× (\d[\d.]*\d|\d)", note)
    found = [float(word) for word in words]
    W = torch.zeros_like(T, requires_grad=True)
    loss_of(W).backward()
    means = []
    for r in (4, 16):
        draws = torch.tensor(
            call(
                "alpha-lr",
                """r => {
                  const M = LR.linalg, random = M.random(2);
                  return Array.from({ length: LR.twoRuns.DRAWS }, () =>
                    M.uniform(r, 24, random));
                }""",
                r,
            ),
            dtype=torch.float64,
        )
        s = scale_of({**YOURS, "rank": math.log2(r)}, scaling)
        along = square = 0.0
        for A in draws / 24**0.5:
            B = torch.zeros(16, r, dtype=torch.float64, requires_grad=True)
            loss_of(s * B @ A).backward()
            step = B.grad.sign() if optimizer == "adam" else B.grad
            change = -s * step @ A
            along -= float((change * W.grad).sum())
            square += float(change.square().sum())
        means.append((along, square**0.5))
    (along, size), (other, larger) = means
    # α/r and Adam: as far along -G, and a smaller step; and so on.
    theory = {
        ("adam", "r"): 1,
        ("adam", "root"): 2,
        ("sgd", "r"): 1 / 4,
        ("sgd", "root"): 1,
    }[optimizer, scaling]
    assert found[0] == pytest.approx(other / along, rel=6e-3)
    assert found[1] == pytest.approx(theory)
    assert found[0] == pytest.approx(theory, rel=0.1)
    if optimizer == "sgd":
        assert len(found) == 2
        return
    spread = (24 + 2 / math.pi * 15) / (24 + 2 / math.pi * 3)
    theory = math.sqrt(spread * (1 / 4 if scaling == "r" else 1))
    assert found[2] == pytest.approx(larger / size, rel=6e-3)
    assert found[3] == pytest.approx(theory, rel=6e-3)
    assert found[2] == pytest.approx(theory, rel=0.05)


def test_knobs_as_text():
    found = call(
        "alpha-lr",
        """() => { const { write } = LR.twoRuns;
          return [write.alpha(5), write.rate(-7), write.rate(-5.5),
            write.rate(-10), write.start(-0.5), write.ratio(3)]; }""",
    )
    assert found == ["32", "2⁻⁷", "√2·2⁻⁶", "2⁻¹⁰", "× 0.707", "× 8"]


def test_the_still_picture_shows_what_is_true():
    yours = alpha_run(64, 2**-7, 1)
    assert torch.equal(alpha_run(16, 2**-6, 2), yours)
    other = alpha_run(16, 2**-5, 1)
    assert (other[-1] - yours[-1]).norm() > 0.1 * yours[-1].norm()
