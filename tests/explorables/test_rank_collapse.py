"""The explorable `rank-collapse`: its words, against NumPy."""

from __future__ import annotations

import numpy as np
import torch
from node import call

from lorabook.linalg import numerical_rank


def test_bodies_and_notes_say_what_the_singular_values_say():
    found = call(
        "rank-collapse",
        """() => [2, 3].flatMap(n => Object.entries(LR.collapse.PRESETS[n])
          .flatMap(([name, W]) => [2 ** -52, 2 ** -23, 2 ** -7].map(eps => {
            const { s } = LR.linalg.svd(W), limit = n * eps;
            return [name, W, limit, LR.collapse.body(n,
              LR.linalg.rank(s, limit)), LR.collapse.note(s, limit)];
          })))""",
    )
    bodies = {
        2: ["a point", "a segment", "an ellipse"],
        3: ["a point", "a segment", "a flat disc", "an ellipsoid"],
    }
    seen = set()
    for _, rows, limit, body, note in found:
        W = np.array(rows, dtype=float)
        s, n = np.linalg.svd(W, compute_uv=False), len(W)
        rank = numerical_rank(torch.from_numpy(W), rtol=limit)
        assert body == bodies[n][rank]
        if rank < n:
            lost = "One direction" if n - rank == 1 else f"{n - rank} direct"
            assert note.startswith(lost)
            kind = "rounding errors" if s[rank] < 1e-14 * s[0] else "counts as"
            # Exactly zero, it is the null space without any tolerance.
            assert kind in note or "the null space has dimension" in note
        elif s[-1] < 0.01 * s[0]:
            kind = "looks flat, but it is not"
            assert kind in note
        elif np.allclose(s, s[0]):
            kind = "stretched alike"
            assert kind in note
        else:
            kind = "No direction is lost"
            assert note.startswith(kind)
        seen.add(kind)
    assert len(seen) == 5


def test_nothing_is_left_of_zero():
    body, note = call(
        "rank-collapse",
        """() => {
          const { s } = LR.linalg.svd([[0, 0], [0, 0]]);
          return [LR.collapse.body(2, LR.linalg.rank(s, 1e-15)),
            LR.collapse.note(s, 1e-15)];
        }""",
    )
    assert body == "a point"
    assert note == (
        "2 directions are sent to 0: the null space has dimension 2."
    )
