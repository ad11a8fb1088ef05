"""The explorable `descent`: its runs, against NumPy from the same start."""

from __future__ import annotations

import re

import numpy as np
import pytest
from node import call

SIGMA = np.array([1, 0.5, 0.25, 0.125, 0, 0])
SETTINGS = [
    {"start": kind, "size": size, "rank": r, "rate": rate, "seed": seed}
    for kind, size, r, rate, seed in [
        ("small", 1e-3, 4, 0.1, 1),
        ("small", 1e-6, 4, 0.1, 2),
        ("small", 1e-6, 2, 0.5, 1),
        ("small", 1e-3, 1, 0.3, 1),
        ("small", 0.1, 6, 0.1, 3),
        ("small", 1.0, 3, 0.05, 1),
        ("small", 0.1, 4, 3, 1),
        ("lora", 1e-3, 4, 0.1, 1),
        ("lora", 0.3, 4, 0.1, 1),
        ("lora", 1.0, 2, 0.2, 1),
        ("lora", 1e-6, 6, 0.3, 1),
        ("zero", 1e-3, 4, 0.1, 1),
        ("zero", 1.0, 6, 1.0, 1),
    ]
]


def run(B: np.ndarray, A: np.ndarray, rate: float) -> list[tuple]:
    """Return loss, gradient norm and singular values at every step."""
    W = np.zeros((8, 6))
    np.fill_diagonal(W, SIGMA)
    found = []
    for _ in range(801):
        R = B @ A - W
        if (R**2).sum() / 2 >= 1e4:
            break
        gB, gA = R @ A.T, B.T @ R
        size = np.sqrt((gB**2).sum() + (gA**2).sum())
        s = np.linalg.svd(B @ A, compute_uv=False)[: A.shape[0]]
        found.append(((R**2).sum() / 2, size, s))
        B, A = B - rate * gB, A - rate * gA
    return found


@pytest.fixture(scope="module")
def runs() -> list[list]:
    return call(
        "descent",
        """settings => settings.map(set => {
          const D = LR.descent, run = D.run(set);
          return [D.start(set), run, D.floor(set.rank), D.note(set, run)];
        })""",
        SETTINGS,
    )


def test_the_runs_are_numpys(runs):
    exploded = 0
    for setting, ((B, A), got, floor, note) in zip(
        SETTINGS, runs, strict=True
    ):
        r, kind = setting["rank"], setting["start"]
        B, A = np.array(B), np.array(A)
        assert (B.shape, A.shape) == ((8, r), (r, 6))
        assert B.any() == (kind == "small")
        assert A.any() == (kind != "zero")
        if kind != "zero":
            drawn = A if kind == "lora" else np.append(A, B)
            assert drawn.std() == pytest.approx(setting["size"], rel=0.6)
        expected = run(B, A, setting["rate"])
        assert floor == pytest.approx((SIGMA[r:] ** 2).sum() / 2)
        if got["exploded"] is not None:
            exploded += 1
            assert got["exploded"] == len(expected)
            assert f"exploded at step {len(expected)}" in note
            continue
        assert len(expected) == 801
        for here, (loss, gradient, s) in zip(
            got["found"], expected[::8], strict=True
        ):
            assert here["loss"] == pytest.approx(loss, rel=1e-6, abs=1e-12)
            assert here["gradient"] == pytest.approx(
                gradient, rel=1e-5, abs=1e-12
            )
            assert here["s"] == pytest.approx(s, rel=1e-6, abs=1e-9)
            assert here["loss"] >= floor - 1e-12
    assert exploded == 1


def test_what_is_said_of_a_run(runs):
    for setting, ((B, A), got, _, note) in zip(SETTINGS, runs, strict=True):
        if setting["start"] == "zero":
            assert "Nothing ever moves" in note
            assert got["found"][-1]["gradient"] == 0
            continue
        if got["exploded"] is not None:
            continue
        expected = run(np.array(B), np.array(A), setting["rate"])[::8]
        times = re.findall(r"σ(.) (after \d+|not yet)", note)
        assert len(times) == min(4, setting["rank"])
        for i, (sub, words) in enumerate(times):
            assert sub == "₁₂₃₄"[i]
            half = [f[2][i] >= SIGMA[i] / 2 for f in expected]
            assert words == (
                f"after {8 * half.index(True)}" if any(half) else "not yet"
            )
        no_waiting = setting["start"] == "lora" and setting["size"] > 0.1
        assert ("no waiting" in note) == no_waiting


def test_singular_values_come_one_by_one():
    """Whatever the draw: each takes about twice as long as the one before."""
    found = call(
        "descent",
        """() => Array.from({ length: 20 }, (_, i) => {
          const D = LR.descent;
          const { found } = D.run({ ...D.DEFAULT, size: 1e-6, seed: i + 1 });
          return [0, 1, 2].map(k => D.half(found, k));
        })""",
    )
    for times in found:
        ratios = np.divide(times[1:], times[:-1])
        assert (ratios > 1.5).all()
        assert (ratios < 3).all()
