"""The explorable `truncation-race`: the rival's error, against NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from node import call

MATRICES = [
    [[3, 0], [4, 5]],
    [[1, 1], [0, 1]],
    [[1, 2], [-1, 1]],
    [[0.5, -7], [2, 0.1]],
]
ANGLES = [(0, 0), (30, 100), (90, 45), (181, 7), (359, 200), (71.6, 45)]


def unit(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def test_errors_agree_with_numpy():
    found = call(
        "truncation-race",
        """(all, angles) => all.map(W => angles.map(([theta, phi]) =>
          LR.race.rival(W, theta, phi)))""",
        MATRICES,
        ANGLES,
    )
    for M, rows in zip(MATRICES, found, strict=True):
        least = np.linalg.svd(M, compute_uv=False)[1]
        for (theta, phi), got in zip(ANGLES, rows, strict=True):
            u, v = unit(theta), unit(phi)
            c = u @ np.array(M) @ v
            error = np.linalg.norm(M - c * np.outer(u, v))
            assert got["c"] == pytest.approx(c)
            assert got["error"] == pytest.approx(error)
            assert error >= least
            # No other factor does better for the same pair.
            for other in (0.9 * c, 1.1 * c, c + 0.1):
                rival = np.linalg.norm(M - other * np.outer(u, v))
                assert rival >= error - 1e-12


def test_random_pairs_never_win():
    found = call(
        "truncation-race",
        """all => all.map(W => [1, 2, 3].map(seed => {
          const { error } = LR.race.best(W, 10000, seed);
          const { s } = LR.linalg.svd(W);
          return [error, LR.race.finding(error, s[1], LR.linalg.norm(W))];
        }))""",
        MATRICES,
    )
    for M, rows in zip(MATRICES, found, strict=True):
        least = np.linalg.svd(M, compute_uv=False)[1]
        assert len({error for error, _ in rows}) == 3
        for error, words in rows:
            assert least - 1e-12 <= error < 1.1 * least + 0.05
            said = [float(x) for x in re.findall(r"\d+\.\d+", words)]
            assert said == pytest.approx([error, least], abs=1e-6)
            assert "never below" in words


def test_the_map_is_pale_where_the_error_is_small():
    size, *maps = call(
        "truncation-race",
        "all => [LR.race.MAP, ...all.map(LR.race.map)]",
        MATRICES,
    )
    angle = 180 * (np.arange(size) + 0.5) / size
    u = np.array([unit(x) for x in angle])
    for M, bands in zip(MATRICES, maps, strict=True):
        c = u @ np.array(M) @ u.T  # (theta, phi)
        error = np.sqrt((np.array(M) ** 2).sum() - c**2)[:, ::-1].T
        order = np.argsort(error, axis=None)
        shades = np.array(bands).reshape(-1)[order]
        assert (np.diff(shades) >= 0).mean() > 0.99
        assert 9 <= len(set(shades.tolist())) <= 11
        assert 0 <= shades.min() < 0.11
        assert shades.max() <= 1


def test_what_is_said_of_an_error():
    found = call(
        "truncation-race",
        """all => Object.entries(all).map(([name, W]) => {
          const { s } = LR.linalg.svd(W), size = LR.linalg.norm(W);
          return [name, LR.race.note(0, s, size), LR.race.note(1, s, size)];
        })""",
        {
            "one": MATRICES[0],
            "tie": [[1, 0], [0, 1]],
            "rank one": [[1, 2], [0.5, 1]],
        },
    )
    (_, alone, above), (_, tie, _), (_, nothing, _) = found
    assert "no other place" in alone
    assert above == "1.000 above the least error."
    assert "At a tie many pairs" in tie
    assert "has rank one" in nothing
