"""The explorable `svd-ellipse`: its arithmetic and words, against NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from node import call
from pages import number

PRESETS = call("svd-ellipse", "() => LR.ellipse.PRESETS")


def some() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    found = [rng.normal(size=(2, 2)) for _ in range(20)]
    found += [np.array(W, dtype=float) for W in PRESETS.values()]
    u, v = rng.normal(size=(2, 2))
    return [*found, np.outer(u, v), np.zeros((2, 2)), np.diag([2.0, -1.0])]


def test_three_steps_give_the_matrix():
    given = some()
    found = call(
        "svd-ellipse",
        """all => all.map(W => {
          const parts = LR.ellipse.parts(W);
          return [parts, [0, 1, 2, 3].map(step =>
            LR.ellipse.partial(parts, step))];
        })""",
        [W.tolist() for W in given],
    )
    mirrors = 0
    for W, (parts, steps) in zip(given, found, strict=True):
        nothing, turned, stretched, all_ = map(np.array, steps)
        _, s, Vt = np.linalg.svd(W)
        np.testing.assert_allclose(parts["s"], s, atol=1e-14)
        np.testing.assert_allclose(all_, W, atol=1e-13)
        np.testing.assert_allclose(nothing, np.eye(2))
        # A rotation, and one whose transpose holds right singular vectors.
        np.testing.assert_allclose(turned @ turned.T, np.eye(2), atol=1e-14)
        assert np.linalg.det(turned) == pytest.approx(1)
        np.testing.assert_allclose(stretched, np.diag(s) @ turned, atol=1e-13)
        assert 0 <= parts["v"] < 180
        if s[0] - s[1] > 1e-6:
            angle = np.degrees(np.arctan2(Vt[0, 1], Vt[0, 0])) % 180
            off = (parts["v"] - angle + 90) % 180 - 90
            assert abs(off) < 1e-6
        if s[1] > 1e-9:
            assert parts["mirror"] == (np.linalg.det(W) < 0)
        mirrors += parts["mirror"]
    assert mirrors >= 4


def test_lengths_and_angles():
    turns = [0, 20, 44.9, 45, 58.3, 134, 135, 200.5]
    given = some()
    found = call(
        "svd-ellipse",
        """(all, turns) => all.map(W => turns.map(turn => {
          const E = LR.ellipse, { s } = LR.linalg.svd(W);
          const found = E.measures(E.images(W, turn), s[0]);
          return [E.cells(found), E.note(found)];
        }))""",
        [W.tolist() for W in given],
        turns,
    )
    right = 0
    for W, rows in zip(given, found, strict=True):
        for degrees, (cells, note) in zip(turns, rows, strict=True):
            c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
            a, b = W @ [c, s], W @ [-s, c]
            lengths = np.linalg.norm(a), np.linalg.norm(b)
            for text, value in zip(cells, (*lengths, a @ b), strict=False):
                assert number(text) == pytest.approx(value, abs=6e-4, rel=0.06)
            if min(lengths) < 1e-12:
                assert cells[3] == "none"
                assert "spans the null space" in note
                continue
            between = np.degrees(
                np.arccos(np.clip(a @ b / np.prod(lengths), -1, 1))
            )
            assert number(cells[3]) == pytest.approx(between, abs=0.06)
            assert ("⟂" in cells[3]) == (abs(between - 90) < 0.05)
            assert ("exists for every matrix" in note) == ("⟂" in cells[3])
            right += "⟂" in cells[3]
    assert right > 8


def test_the_verdict():
    found = call(
        "svd-ellipse",
        """all => all.map(W => {
          const parts = LR.ellipse.parts(W);
          return [LR.ellipse.verdict(parts, "So. "), LR.ellipse.steps(parts)];
        })""",
        list(PRESETS.values()),
    )
    for W, (verdict, steps) in zip(PRESETS.values(), found, strict=True):
        _, s, Vt = np.linalg.svd(W)
        assert verdict.startswith("So. ")
        if s[0] - s[1] < 1e-9:
            assert f"stretches all by {s[0]:.3f}" in verdict
            continue
        best = np.degrees(np.arctan2(Vt[0, 1], Vt[0, 0])) % 180
        values = [
            number(x) for x in re.findall(r"[=,] (?:at )?([\d.]+)", verdict)
        ]
        assert values[0] == pytest.approx(s[0], abs=6e-4)
        assert values[1] == pytest.approx(best, abs=0.06)
        assert f"σ₂ = {s[1]:.3f}".rstrip("0.") in verdict
        assert ("mirror" in steps[2]) == (np.linalg.det(W) < -1e-12)
