"""The explorable `svd-image`: what it says of a picture, against NumPy."""

from __future__ import annotations

import re

import numpy as np
import pytest
from node import call
from pages import number

from lorabook import data

PHOTO = np.rint(255 * data.photo(160).numpy()) / 255
# The photograph as the page unpacks it.
UNPACK = """const { pixels, rows, columns } = LR.data.photo;
  const bytes = atob(pixels), M = LR.linalg, P = LR.picture;
  const photo = M.zeros(rows, columns).map((row, i) => row.map((_, j) =>
    bytes.charCodeAt(i * columns + j) / 255));"""


def tails(M: np.ndarray) -> np.ndarray:
    """Return the error of rank 0, 1, ..., relative to that of rank 0."""
    s = np.linalg.svd(M, compute_uv=False)
    squares = np.append(np.cumsum(s[::-1] ** 2)[::-1], 0)
    found: np.ndarray = np.sqrt(squares / squares[0])
    return found


def test_the_sums_of_layers():
    ranks = [20, 1, 33, 73, 74, 100, 137]
    photo, found = call(
        "svd-image",
        f"""ranks => {{ {UNPACK}
          const svd = M.svd(photo), tails = P.tails(svd.s);
          return [photo, ranks.map(r => {{
            const sum = M.terms(svd, 0, r);
            return [sum, P.texts(photo, M.minus(photo, sum), tails, r)];
          }})];
        }}""",
        ranks,
    )
    np.testing.assert_array_equal(photo, PHOTO)
    (m, n), lost = PHOTO.shape, tails(PHOTO)
    U, s, Vt = np.linalg.svd(PHOTO, full_matrices=False)
    for r, (sum_, text) in zip(ranks, found, strict=True):
        expected = (U[:, :r] * s[:r]) @ Vt[:r]
        np.testing.assert_allclose(sum_, expected, atol=1e-10)
        error = np.linalg.norm(PHOTO - expected) / np.linalg.norm(PHOTO)
        assert text["error"] == f"{error:.2%}"
        assert text["tail"] == f"{lost[r]:.2%}"
        assert text["energy"] == f"{1 - lost[r] ** 2:.2%}"
        assert text["stored"] == f"{r * (m + n):,}"
        assert text["share"] == f"{r * (m + n) / (m * n):.1%}"
        even = m * n / (m + n)
        assert (f"mn/(m + n) = {even:.1f}" in text["note"]) == (r > even)


def test_rearranged():
    """Permuted lines keep the spectrum, shuffled pixels do not."""
    found = call(
        "svd-image",
        f"""() => {{ {UNPACK}
          const random = M.random(1), old = M.svd(photo).s;
          return ["lines", "pixels", "as it is"].map(how => {{
            const moved = P.rearranged(photo, how, random);
            const {{ s }} = M.svd(moved);
            return [moved, P.finding(how, P.needed(P.tails(old), 0.1),
              P.needed(P.tails(s), 0.1),
              s.map((x, i) => Math.abs(x - old[i]) / old[0]))];
          }});
        }}""",
    )
    (lines, said), (pixels, told), (same, silent) = found
    need = int((tails(PHOTO) >= 0.1).sum())
    lines, pixels = np.array(lines), np.array(pixels)
    np.testing.assert_array_equal(same, PHOTO)
    assert silent == ["", ""]

    assert (lines != PHOTO).mean() > 0.5
    for axis in (0, 1):
        np.testing.assert_allclose(
            np.sort(lines.sum(axis)), np.sort(PHOTO.sum(axis))
        )
    moved = re.search(r"more than (\S+) of σ₁", said[0])
    assert number(moved[1]) < 1e-13
    assert said[1] == f"An error below 10% takes r = {need}, as before."

    np.testing.assert_array_equal(
        np.sort(pixels, axis=None), np.sort(PHOTO, axis=None)
    )
    now = int((tails(pixels) >= 0.1).sum())
    assert now > 2 * need
    assert told[1] == (
        f"An error below 10% now takes r = {now} instead of {need}."
    )


@pytest.mark.parametrize(
    ("name", "rank"), [("checkerboard", 2), ("noise", 60)]
)
def test_other_pictures(name, rank):
    picture = np.array(
        call(
            "svd-image",
            "name => LR.picture.drawn(name, 160, 137, LR.linalg.random(1))",
            name,
        )
    )
    assert picture.shape == PHOTO.shape
    assert 0 <= picture.min() < picture.max() <= 1
    full = np.linalg.matrix_rank(picture)
    assert full == 2 if rank == 2 else full >= rank
