"""The mathematics that the explorables share, against NumPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from node import call

from lorabook import linalg


def matrices() -> list[np.ndarray]:
    """Return matrices of many shapes, some without full rank."""
    rng = np.random.default_rng(0)
    shapes = [(2, 2), (3, 3), (2, 3), (30, 17), (17, 30)]
    some = [rng.normal(size=shape) for shape in shapes]
    some += [rng.normal(size=(m, 1)) @ rng.normal(size=(1, m)) for m in (2, 3)]
    some += [np.zeros((2, 2)), np.eye(3), np.diag([1e-9, 100.0, 1e-3])]
    return some


def test_svd_agrees_with_numpy():
    given = matrices()
    found = call(
        "descent",
        "all => all.map(M => LR.linalg.svd(M))",
        [M.tolist() for M in given],
    )
    for M, got in zip(given, found, strict=True):
        U, V, s = np.array(got["U"]).T, np.array(got["V"]).T, got["s"]
        wanted = np.linalg.svd(M, compute_uv=False)
        scale = max(wanted[0], 1e-300)
        np.testing.assert_allclose(s, wanted, atol=4e-15 * scale, rtol=1e-12)
        np.testing.assert_allclose((U * s) @ V.T, M, atol=4e-14 * scale)
        k = int((np.array(s) > 1e-12 * scale).sum())
        for Q in (U[:, :k], V[:, :k]):
            np.testing.assert_allclose(Q.T @ Q, np.eye(k), atol=1e-12)


def test_ranks_and_truncations_agree_with_the_package():
    given, limits = matrices(), (0.5, 1e-2, 1e-6, 1e-10, 1e-13)
    found = call(
        "rank-collapse",
        """(all, limits) => all.map(M => {
          const svd = LR.linalg.svd(M);
          return limits.map(limit => {
            const rank = LR.linalg.rank(svd.s, limit);
            const less = Math.max(0, rank - 1);
            return [rank, LR.collapse.distance(svd.s, less),
              LR.linalg.terms(svd, 0, less)];
          });
        })""",
        [M.tolist() for M in given],
        limits,
    )
    for M, rows in zip(given, found, strict=True):
        W = torch.from_numpy(M)
        for limit, (rank, distance, nearest) in zip(limits, rows, strict=True):
            assert rank == linalg.numerical_rank(W, rtol=limit)
            if rank > 1:
                U, S, Vh = linalg.truncated_svd(W, rank - 1)
                best = U @ torch.diag(S) @ Vh
                off = torch.linalg.norm(W - best).item()
                assert distance == pytest.approx(off, rel=1e-6)
                np.testing.assert_allclose(nearest, best, atol=1e-9)


def test_a_large_decomposition_comes_in_small_portions():
    """So that the page can be read meanwhile: after each row of pairs."""
    pauses, pairs = call(
        "svd-image",
        """() => {
          const M = LR.linalg, n = 60;
          const run = M.jacobi(M.normal(n, n, M.random(1)));
          let pauses = 0;
          while (!run.next().done) pauses++;
          return [pauses, n];
        }""",
    )
    assert pauses >= 4 * pairs  # some sweeps
    assert pauses % pairs == 0


def test_products():
    rng = np.random.default_rng(2)
    X, Y = rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
    times, half, turned, plus, minus, inner, apply = call(
        "descent",
        """(X, Y) => {
          const M = LR.linalg;
          return [M.times(X, Y), M.times(X, Y, 0.5), M.turned(X),
            M.plus(X, X), M.minus(X, M.scaled(X, 3)), M.inner(X, X),
            M.apply(X, Y.map(row => row[0]))];
        }""",
        X.tolist(),
        Y.tolist(),
    )
    np.testing.assert_allclose(times, X @ Y, atol=1e-14)
    # A power of two passes through without rounding.
    np.testing.assert_array_equal(np.array(half) * 2, times)
    np.testing.assert_array_equal(turned, X.T)
    np.testing.assert_array_equal(plus, 2 * X)
    np.testing.assert_allclose(minus, -2 * X)
    assert inner == pytest.approx((X**2).sum())
    np.testing.assert_allclose(apply, X @ Y[:, 0])


def mulberry32(seed: int, count: int) -> list[float]:
    """Draw as the page does, from the algorithm's description."""

    def product(a: int, b: int) -> int:
        return a * b & 0xFFFFFFFF

    found = []
    for _ in range(count):
        seed = seed + 0x6D2B79F5 & 0xFFFFFFFF
        t = product(seed ^ seed >> 15, 1 | seed)
        t ^= t + product(t ^ t >> 7, 61 | t) & 0xFFFFFFFF
        found.append((t ^ t >> 14) / 2**32)
    return found


def test_random_numbers():
    flat, even, bell = call(
        "truncation-race",
        """() => {
          const M = LR.linalg;
          return [Array.from({ length: 2000 }, M.random(7)),
            M.uniform(50, 40, M.random(8)), M.normal(50, 40, M.random(9))];
        }""",
    )
    assert flat == mulberry32(7, 2000)
    for draws, mean, variance, low, high in (
        (flat, 0.5, 1 / 12, 0, 1),
        (even, 0, 1 / 3, -1, 1),
        (bell, 0, 1, -6, 6),
    ):
        # Three standard deviations of each estimate.
        assert np.mean(draws) == pytest.approx(
            mean, abs=3 * (variance / 2e3) ** 0.5
        )
        assert np.var(draws) == pytest.approx(variance, rel=0.1)
        assert low <= np.min(draws) < np.max(draws) <= high


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimisers_are_pytorchs(name):
    rng = np.random.default_rng(3)
    start, slopes = rng.normal(size=(3, 4)), rng.normal(size=(20, 3, 4))
    found = call(
        "alpha-lr",
        """(name, X, all) => {
          X = X.map(row => Float64Array.from(row));
          const step = LR.linalg[name](X);
          return all.map(G => (step(G, 0.03), X.map(row => row.slice())));
        }""",
        name,
        start.tolist(),
        slopes.tolist(),
    )
    X = torch.tensor(start, requires_grad=True)
    rule = (
        torch.optim.SGD([X], lr=0.03)
        if name == "sgd"
        else torch.optim.Adam([X], lr=0.03, eps=1e-30)
    )
    for G, got in zip(slopes, found, strict=True):
        X.grad = torch.from_numpy(G)
        rule.step()
        np.testing.assert_allclose(got, X.detach(), rtol=1e-12)


def test_numbers_as_text():
    found = call(
        "lora-shapes",
        """() => [
          [0, 2, -1.23456, 0.01, 0.009999].map(LR.num),
          [-3e-9, 99999.4, 1e5].map(LR.num),
          [0, 8, 0.0663291, -0.001, 9.99e-4, 12345, 1e5].map(x =>
            LR.short(x)), LR.short(12.345, 2),
          [0.00391, 1].map(x => LR.percent(x)), LR.percent(0.125, 0),
          LR.grouped(1234567), LR.raised(-10), LR.sub(3)]""",
    )
    assert found == [
        ["0", "2.000", "−1.235", "0.010", "1.0×10⁻²"],
        ["−3.0×10⁻⁹", "99999.400", "1.0×10⁵"],
        ["0", "8", "0.0663", "−0.001", "1.0×10⁻³", "12300", "1.0×10⁵"],
        "12",
        ["0.39%", "100.00%"],
        "13%",
        "1,234,567",
        "⁻¹⁰",
        "₃",
    ]


def test_attributes_are_parsed():
    """What is nonsense gives nothing, so that the page can name it."""
    found = call(
        "rank-collapse",
        """() => {
          const square = LR.square(2, 3), read = (parse, texts) =>
            texts.map(text => parse(text) ?? null);
          return [read(LR.real(0, 1), ["0", " 0.5 ", "1e-3", "", "2", "x"]),
            read(LR.whole(1, 9), ["1", "9", "9.0", "2.5", "0", ""]),
            read(LR.oneOf("a", "b"), ["b", "c", ""]),
            read(square, ["3 0; 4 5", "1, 2; 3, 4", "1 2; 3", "1", "1 x; 0 1",
              "101 0; 0 1", "1 0 0; 0 1 0; 0 0 1"])];
        }""",
    )
    assert found == [
        [0, 0.5, 1e-3, None, None, None],
        [1, 9, 9, None, None, None],
        ["b", None, None],
        [[[3, 0], [4, 5]], [[1, 2], [3, 4]]]
        + [None] * 4
        + [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]],
    ]
