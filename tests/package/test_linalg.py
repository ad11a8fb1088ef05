"""The decompositions against NumPy, SciPy, scikit-learn, and theorems."""

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.extmath import randomized_svd as sklearn_randomized_svd
from torch import Tensor
from torch.testing import assert_close

from lorabook.linalg import (
    cut,
    effective_rank,
    energy,
    numerical_rank,
    product_svd,
    randomized_svd,
    stable_rank,
    truncated_svd,
)
from lorabook.measure import count_flops, saved_bytes

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)
spectra = (
    st.lists(st.floats(0, 1e3), min_size=1, max_size=8)
    .filter(lambda values: max(values) > 1e-3)
    .map(lambda values: torch.tensor(sorted(values)[::-1]).double())
)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def decaying(m: int, n: int, seed: int = 0) -> Tensor:
    """Return a matrix with singular values 1, 1/2, 1/4, ..."""
    k = min(m, n)
    U = torch.linalg.qr(gaussian(m, k, seed=seed)).Q
    V = torch.linalg.qr(gaussian(n, k, seed=seed + 1)).Q
    return U * 0.5 ** torch.arange(k) @ V.T


# numerical_rank


@given(shapes, seeds)
def test_rank_agrees_with_numpy_and_torch(
    shape: tuple[int, int], seed: int
) -> None:
    m, n = shape
    k = 1 + seed % min(m, n)
    M = gaussian(m, k, seed=seed) @ gaussian(k, n, seed=seed + 1)
    assert numerical_rank(M) == np.linalg.matrix_rank(M.numpy())
    assert numerical_rank(M) == torch.linalg.matrix_rank(M)


def test_default_tolerance_follows_the_dtype() -> None:
    M = torch.diag(torch.tensor([1.0, 1e-5, 1e-10], dtype=torch.float64))
    assert numerical_rank(M) == 3
    assert numerical_rank(M.float()) == 2
    assert numerical_rank(M.bfloat16()) == 1


def test_default_tolerance_grows_with_the_longer_side() -> None:
    M = torch.zeros(1000, 2, dtype=torch.float64)
    M[0, 0] = 1
    for small, rank in ((900, 1), (1100, 2)):
        M[1, 1] = small * torch.finfo(M.dtype).eps
        assert numerical_rank(M) == rank
        assert numerical_rank(M.T) == rank


def test_the_tolerance_is_relative_and_strict() -> None:
    M = 1000 * torch.diag(torch.tensor([1.0, 0.5, 0.25]))
    assert numerical_rank(M, rtol=0.4) == 2
    assert numerical_rank(M, rtol=0.5) == 1
    assert numerical_rank(M, rtol=0) == 3


@pytest.mark.parametrize("rtol", [None, 0, 0.5])
def test_the_zero_matrix_has_rank_zero(rtol: float | None) -> None:
    assert numerical_rank(torch.zeros(3, 5), rtol) == 0


@pytest.mark.parametrize("rtol", [-1e-9, math.nan, 1.0, 2.0])
def test_a_senseless_tolerance_is_refused(rtol: float) -> None:
    """At 1 and beyond, every matrix would have rank 0."""
    with pytest.raises(ValueError, match="need 0 <= rtol < 1, got"):
        numerical_rank(torch.eye(3), rtol)


@pytest.mark.parametrize(
    ("dtype", "side"),
    [
        (torch.float16, 1024),
        (torch.bfloat16, 128),
        (torch.float8_e4m3fn, 8),
        (torch.float8_e5m2, 4),
    ],
)
def test_a_format_too_coarse_for_a_rank_says_so(dtype, side: int) -> None:
    M = torch.eye(side).to(dtype)
    for A in (M, M[:2], M[:, :2]):
        with pytest.raises(ValueError, match=f"{dtype} is too coarse to"):
            numerical_rank(A)
    assert numerical_rank(M, rtol=0.5) == side
    few = side // 2 - 1
    assert numerical_rank(M[:few, :few]) == few


# truncated_svd


@given(shapes, seeds)
def test_truncation_agrees_with_scipy(
    shape: tuple[int, int], seed: int
) -> None:
    M = gaussian(*shape, seed=seed)
    r = 1 + seed % min(shape)
    U, S, Vh = truncated_svd(M, r)
    u, s, vh = scipy.linalg.svd(M.numpy(), lapack_driver="gesvd")
    assert (U.shape, S.shape, Vh.shape) == (
        (shape[0], r),
        (r,),
        (r, shape[1]),
    )
    assert_close(S, torch.from_numpy(s[:r]))
    # Singular vectors have no sign of their own; their products have.
    product = u[:, :r] * s[:r] @ vh[:r]
    assert_close(U * S @ Vh, torch.from_numpy(product))


@given(shapes, seeds)
def test_truncation_beats_every_rival(
    shape: tuple[int, int], seed: int
) -> None:
    m, n = shape
    M = gaussian(m, n, seed=seed)
    r = 1 + seed % min(m, n)
    U, S, Vh = truncated_svd(M, r)
    error = torch.linalg.norm(M - U * S @ Vh)
    # The strongest rival with a given row space: project M onto it.
    Q = torch.linalg.qr(gaussian(n, r, seed=seed + 1)).Q
    assert error <= torch.linalg.norm(M - M @ Q @ Q.T) + 1e-12


def test_a_cut_is_the_product_of_the_triplets() -> None:
    M = gaussian(7, 5)
    assert torch.equal(cut(M, 3), _product(truncated_svd(M, 3)))
    assert_close(cut(M, 5), M)
    assert cut(M.bfloat16(), 2).dtype == torch.float32
    with pytest.raises(ValueError, match="need 1 <= r <= 5, got 0"):
        cut(M, 0)


def test_the_error_is_the_discarded_spectrum() -> None:
    M = gaussian(7, 5)
    s = torch.linalg.svdvals(M)
    U, S, Vh = truncated_svd(M, 3)
    rest = M - U * S @ Vh
    assert_close(torch.linalg.norm(rest), s[3:].square().sum().sqrt())
    assert_close(torch.linalg.matrix_norm(rest, 2), s[3])


# What every decomposition does with narrow formats and extreme numbers

SVDS = {
    "truncated": lambda M: truncated_svd(M, 2),
    "randomized": lambda M: randomized_svd(M, 2, generator=generator(0)),
    "product": lambda M: product_svd(M, torch.eye(M.shape[1])),
}


@pytest.mark.parametrize("name", SVDS)
@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2],
)
def test_narrow_formats_are_decomposed_in_float32(name, dtype) -> None:
    M = decaying(6, 4).to(dtype)
    for found, expected in zip(
        SVDS[name](M), SVDS[name](M.float()), strict=True
    ):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


def test_factors_of_two_formats_meet_in_the_wider() -> None:
    B, A = gaussian(5, 2), gaussian(2, 4, seed=1).bfloat16()
    for left, right in ((B, A), (A.T, B.T)):
        U, S, Vh = product_svd(left, right)
        assert {U.dtype, S.dtype, Vh.dtype} == {torch.float64}
        assert_close(U * S @ Vh, left.double() @ right.double())


EXTREMES = [
    (torch.float32, 2.0**120),
    (torch.float32, 2.0**-120),
    (torch.float64, 2.0**1015),
    (torch.float64, 2.0**-1000),
]


@pytest.mark.parametrize("name", ["truncated", "randomized"])
@pytest.mark.parametrize(("dtype", "scale"), EXTREMES)
def test_the_scale_changes_the_values_alone(name, dtype, scale) -> None:
    """A factor of two in each entry is one in each value, bit for bit."""
    M = decaying(6, 4).to(dtype)
    U, S, Vh = SVDS[name](M)
    large_U, large_S, large_Vh = SVDS[name](M * scale)
    assert_close(large_S / scale, S)
    assert_close(large_U * (large_S / scale) @ large_Vh, U * S @ Vh)
    assert_close(large_U.T @ large_U, torch.eye(2, dtype=dtype))
    assert numerical_rank(M * scale) == numerical_rank(M) == 4


@pytest.mark.parametrize(("dtype", "scale"), EXTREMES)
def test_factors_of_extreme_scales_meet_in_the_middle(dtype, scale) -> None:
    B, A = gaussian(6, 2).to(dtype), gaussian(2, 5, seed=1).to(dtype)
    U, S, Vh = product_svd(B * scale, A / scale)
    assert_close(U * S @ Vh, B @ A)
    with pytest.raises(ValueError, match=f"out of the range of {dtype}"):
        product_svd(B * scale, A * scale)
    zeros = product_svd(B * scale, 0 * A)[1]
    assert torch.equal(zeros, torch.zeros(2, dtype=dtype))


@pytest.mark.parametrize("name", SVDS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [*EXTREMES, (torch.float32, 1.0), (torch.float64, 1.0)],
)
def test_the_largest_entry_may_have_either_sign(
    name, sign, dtype, scale
) -> None:
    """And stand beside zeros, or beside the least number there is."""
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    for beside in (0.0, least, -least):
        M = torch.full((4, 3), beside, dtype=dtype)
        M[1, 2], M[2, 0] = sign * scale, sign * scale / 2
        U, S, Vh = SVDS[name](M)
        S = S[:2] / scale
        assert_close(S, torch.tensor([1, 0.5], dtype=dtype))
        assert_close(U[:, :2] * S @ Vh[:2], M / scale)
        assert numerical_rank(M) == 2
        if scale != 1:
            with pytest.raises(ValueError, match=f"the range of {dtype}"):
                product_svd(M, M.T)


@pytest.mark.parametrize("name", ["truncated", "randomized"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_that_overflow_are_refused(name, dtype) -> None:
    """The entries are finite, their singular value is not."""
    M = torch.full((4, 4), torch.finfo(dtype).max, dtype=dtype)
    with pytest.raises(ValueError, match=f"out of the range of {dtype}"):
        SVDS[name](M)
    assert numerical_rank(M) == 1
    with pytest.raises(ValueError, match="out of the range"):
        SVDS[name](torch.eye(4, dtype=dtype) * torch.finfo(dtype).tiny / 2)


@pytest.mark.parametrize("name", SVDS)
def test_zeros_have_values_of_zero(name) -> None:
    assert torch.equal(SVDS[name](torch.zeros(5, 3))[1][:2], torch.zeros(2))


# Gradients


def loss_of(svd: tuple[Tensor, Tensor, Tensor], C: Tensor) -> Tensor:
    """Return a number that depends on the product of the triplets."""
    return (_product(svd) * C).sum() + _product(svd).square().sum() / 7


@given(shapes, seeds)
@settings(max_examples=30)
def test_the_gradient_of_a_truncation_is_its_derivative(
    shape: tuple[int, int], seed: int
) -> None:
    M = gaussian(*shape, seed=seed).requires_grad_()
    r = 1 + seed % min(shape)
    C = gaussian(*shape, seed=seed + 1)
    assert torch.autograd.gradcheck(
        lambda M: loss_of(truncated_svd(M, r), C), M, atol=1e-4, rtol=1e-3
    )


@given(shapes, seeds)
@settings(max_examples=30)
def test_gradients_of_each_part_agree_with_pytorch(
    shape: tuple[int, int], seed: int
) -> None:
    """Where PyTorch's own are defined: all values differ."""
    M = gaussian(*shape, seed=seed).requires_grad_()
    r = 1 + seed % min(shape)
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    ours = truncated_svd(M, r)
    for a, b in zip(ours, (U[:, :r], S[:r], Vh[:r]), strict=True):
        assert torch.equal(a, b)
    # A loss that does not mind the signs of the vectors.
    C, D = (gaussian(*x.shape, seed=seed + 1) for x in (ours[0], ours[2]))

    def loss(U: Tensor, S: Tensor, Vh: Tensor) -> Tensor:
        return (U.square() * C).sum() + S.log().sum() + (Vh**2 * D).sum()

    (expected,) = torch.autograd.grad(loss(U[:, :r], S[:r], Vh[:r]), M)
    (found,) = torch.autograd.grad(loss(*ours), M)
    assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_at_low_rank_is_a_projection(dtype) -> None:
    """Where PyTorch's is NaN: onto what keeps the rank.

    At M of rank r, d(U S Vᵀ) is G minus what lies outside of both spaces.
    """
    M = (gaussian(30, 3) @ gaussian(3, 20, seed=1)).to(dtype).requires_grad_()
    G = gaussian(30, 20, seed=2).to(dtype)
    U, S, Vh = truncated_svd(M, 3)
    ((U * S @ Vh) * G).sum().backward()
    left, right = U @ U.T, Vh.T @ Vh
    eye_m, eye_n = torch.eye(30, dtype=dtype), torch.eye(20, dtype=dtype)
    expected = G - (eye_m - left) @ G @ (eye_n - right)
    assert_close(M.grad, expected.detach(), rtol=1e-4, atol=1e-4)


def test_the_gradient_reaches_a_product_of_factors() -> None:
    B = gaussian(9, 3).requires_grad_()
    A = gaussian(3, 8, seed=1).requires_grad_()
    C = gaussian(9, 8, seed=2)
    expected = torch.autograd.grad((B @ A * C).sum(), (B, A))
    for svd in (product_svd(B, A), truncated_svd(B @ A, 3)):
        found = torch.autograd.grad((_product(svd) * C).sum(), (B, A))
        for a, b in zip(found, expected, strict=True):
            assert_close(a, b)


@given(shapes, st.integers(1, 9), seeds)
@settings(max_examples=30)
def test_the_gradient_of_a_product_svd_is_that_of_the_product(
    shape: tuple[int, int], r: int, seed: int
) -> None:
    m, n = shape
    B = gaussian(m, r, seed=seed).requires_grad_()
    A = gaussian(r, n, seed=seed + 1).requires_grad_()
    C = gaussian(m, n, seed=seed + 2)
    k = min(m, r, n)
    found = torch.autograd.grad(loss_of(product_svd(B, A), C), (B, A))
    expected = torch.autograd.grad(loss_of(truncated_svd(B @ A, k), C), (B, A))
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_no_full_matrix_is_formed_on_the_way_back() -> None:
    B = torch.randn(300, 4, requires_grad=True)
    A = torch.randn(4, 200, requires_grad=True)
    forward, both = (
        count_flops(work, products_only=True)
        for work in (
            lambda: product_svd(B, A),
            lambda: product_svd(B, A)[1].sum().backward(),
        )
    )
    assert 0 < both - forward < 10 * 2 * (300 + 200) * 4**2


def with_values(*values: float) -> Tensor:
    U = torch.linalg.qr(gaussian(7, len(values))).Q
    V = torch.linalg.qr(gaussian(6, len(values), seed=1)).Q
    s = torch.tensor(values, dtype=torch.float64)
    return (U * s @ V.T).requires_grad_()


@pytest.mark.parametrize(
    ("values", "r", "words"),
    [
        # The truncation itself is not unique.
        ((3.0, 2.0, 2.0, 1.0), 2, "2 is equal to another one"),
        ((3.0, 2.0, 2.0 - 1e-15, 1.0), 2, "2 is equal to another one"),
        # Which turn of the two is meant?
        ((3.0, 3.0, 1.0), 2, "1 is equal to another one"),
        # More than the rank, at a corner like that of |x| at 0.
        ((3.0, 1.0), 4, "3 is zero"),
        ((0.0,), 1, "1 is zero"),
    ],
)
@pytest.mark.parametrize("part", ["product", "values"])
def test_without_a_gap_there_is_no_gradient(values, r, words, part) -> None:
    M = with_values(*values)
    svd = truncated_svd(M, r)
    out = _product(svd).sum() if part == "product" else svd[1].sum()
    if part == "values" and values[:2] == (3.0, 3.0):
        out = svd[1][0]  # one of the two; their sum has a gradient
    message = f"^singular value {words}, up to rounding, where the triplet"
    with pytest.raises(ValueError, match=message):
        out.backward()
    assert M.grad is None


def test_a_tie_that_the_loss_does_not_see_is_harmless() -> None:
    M = with_values(3.0, 2.0, 2.0, 0.0)
    U, S, Vh = truncated_svd(M, 3)
    # Of a tie the sum of the values has a gradient, and so has all of the
    # first triplet.
    first = U[:, :1] * S[:1] @ Vh[:1]
    (S.sum() + first.sum()).backward()
    assert torch.isfinite(M.grad).all()
    (alone,) = torch.autograd.grad(truncated_svd(M, 3)[1].sum(), M)
    assert_close(alone, (U @ Vh).detach())
    # A small gap is one.
    near = with_values(3.0, 2.0, 2.0 - 1e-9)
    _product(truncated_svd(near, 2)).sum().backward()
    assert torch.isfinite(near.grad).all()


def test_a_factor_of_zeros_has_no_gradient() -> None:
    B, A = torch.zeros(5, 2, requires_grad=True), torch.randn(2, 4)
    with pytest.raises(ValueError, match="singular value 1 is zero"):
        _product(product_svd(B, A)).sum().backward()


def test_a_random_sample_has_no_gradient() -> None:
    M = gaussian(9, 8).requires_grad_()
    out = _product(randomized_svd(M, 3)).sum() + M.sum()
    with pytest.raises(ValueError, match="has no gradient: use trunc"):
        out.backward()
    with torch.no_grad():
        assert not randomized_svd(M, 3)[1].requires_grad


def test_without_a_gradient_nothing_is_kept_or_copied() -> None:
    M = gaussian(9, 8)
    U = truncated_svd(M, 3)[0]
    assert not U.requires_grad
    assert saved_bytes(lambda: product_svd(M, M.T)) == 0
    with torch.no_grad():
        assert not truncated_svd(M.requires_grad_(), 3)[1].requires_grad


# randomized_svd


def test_randomized_is_exact_on_a_matrix_of_that_rank() -> None:
    M = gaussian(40, 6) @ gaussian(6, 30, seed=1)
    U, S, Vh = randomized_svd(M, 6, generator=generator(2))
    assert (U.shape, S.shape, Vh.shape) == ((40, 6), (6,), (6, 30))
    assert_close(U * S @ Vh, M)
    assert_close(U.T @ U, torch.eye(6).double())
    assert_close(Vh @ Vh.T, torch.eye(6).double())


@given(shapes, seeds)
def test_randomized_with_every_column_is_exact(
    shape: tuple[int, int], seed: int
) -> None:
    M = gaussian(*shape, seed=seed)
    r = 1 + seed % min(shape)
    U, S, Vh = randomized_svd(M, r, oversample=9, generator=generator(seed))
    exact_U, exact_S, exact_Vh = truncated_svd(M, r)
    assert_close(S, exact_S)
    assert_close(U * S @ Vh, exact_U * exact_S @ exact_Vh)


@pytest.mark.parametrize("power", [0, 1, 3])
def test_randomized_agrees_with_scikit_learn(power: int) -> None:
    M = decaying(60, 50)
    U, S, Vh = randomized_svd(
        M, 5, oversample=20, power=power, generator=generator(3)
    )
    u, s, vh = sklearn_randomized_svd(
        M.numpy(), 5, n_oversamples=20, n_iter=power, random_state=3
    )
    assert_close(S, torch.from_numpy(s), rtol=1e-4, atol=0)
    product = torch.from_numpy(u * s @ vh)
    assert_close(U * S @ Vh, product, rtol=0, atol=1e-4)


def test_the_mean_error_is_within_the_bound_of_halko_et_al() -> None:
    """Theorem 10.5: E‖M - QQᵀM‖_F <= (1 + r/(p - 1))^½ (Σ_{j>r} s_j²)^½."""
    r, p = 4, 4
    M = 0.8 ** torch.arange(30) * torch.linalg.qr(gaussian(40, 30)).Q
    s = torch.linalg.svdvals(M)
    bound = math.sqrt((1 + r / (p - 1)) * float(s[r:].square().sum()))
    errors = []
    for seed in range(200):
        # All r + p directions, as in the theorem: nothing is cut off.
        U, _, _ = randomized_svd(
            M, r + p, oversample=0, power=0, generator=generator(seed)
        )
        errors.append(float(torch.linalg.norm(M - U @ (U.T @ M))))
    assert np.mean(errors) <= bound
    # The bound is not so loose that anything would pass.
    assert np.mean(errors) >= 0.5 * bound


def test_power_steps_and_oversampling_help() -> None:
    M = 0.95 ** torch.arange(60) * torch.linalg.qr(gaussian(80, 60)).Q
    best = torch.linalg.norm(M - _product(truncated_svd(M, 8)))

    def excess(oversample: int, power: int) -> float:
        errors = [
            torch.linalg.norm(
                M
                - _product(
                    randomized_svd(M, 8, oversample, power, generator(seed))
                )
            )
            / best
            - 1
            for seed in range(10)
        ]
        return float(np.mean(errors))

    assert 0 <= excess(8, 4) < excess(8, 1) < excess(8, 0) < excess(0, 0)


def test_small_singular_values_survive_many_power_steps() -> None:
    """Without QR between products, rounding would leave one direction."""
    s = 100.0 ** -torch.arange(6).double()
    U = torch.linalg.qr(gaussian(30, 6)).Q
    V = torch.linalg.qr(gaussian(20, 6, seed=1)).Q
    M = U * s @ V.T
    _, S, _ = randomized_svd(M, 6, 0, power=6, generator=generator(2))
    assert_close(S, s, rtol=1e-4, atol=0)


def test_only_the_generator_decides() -> None:
    M = gaussian(20, 20)
    torch.manual_seed(1)
    first = randomized_svd(M, 3, generator=generator(7))
    torch.manual_seed(2)
    again = randomized_svd(M, 3, generator=generator(7))
    other = randomized_svd(M, 3, generator=generator(8))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[1], other[1])


def test_without_a_generator_the_global_seed_decides() -> None:
    M = gaussian(20, 20)
    torch.manual_seed(1)
    first = randomized_svd(M, 3)
    torch.manual_seed(1)
    assert torch.equal(first[1], randomized_svd(M, 3)[1])


def test_the_test_matrix_is_gaussian() -> None:
    """Of the identity, the sample is the Gaussian matrix itself."""
    angles = []
    for seed in range(300):
        U, _, _ = randomized_svd(
            torch.eye(2).double(), 1, oversample=0, generator=generator(seed)
        )
        angles.append(math.atan2(U[1, 0], U[0, 0]) % math.pi / math.pi)
    # A Gaussian vector points in every direction alike.
    assert scipy.stats.kstest(angles, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("oversample", "power"), [(-1, 0), (0, -1)])
def test_negative_settings_are_refused(oversample: int, power: int) -> None:
    with pytest.raises(ValueError, match="need oversample >= 0 and power"):
        randomized_svd(torch.eye(3), 1, oversample, power)


# What both refuse, and keep


@pytest.mark.parametrize("svd", [truncated_svd, randomized_svd])
@pytest.mark.parametrize("r", [0, -1, 61, 2.0, True, "2"])
def test_the_rank_must_fit(svd, r: object) -> None:
    with pytest.raises(ValueError, match=r"need 1 <= r <= 60, got"):
        svd(torch.zeros(60, 80), r)


@pytest.mark.parametrize("svd", [truncated_svd, randomized_svd])
def test_numpy_integers_are_ranks(svd) -> None:
    assert svd(gaussian(6, 5), np.int64(2))[1].shape == (2,)


@pytest.mark.parametrize("svd", [truncated_svd, randomized_svd])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept(svd, dtype: torch.dtype) -> None:
    assert {t.dtype for t in svd(gaussian(6, 5).to(dtype), 2)} == {dtype}


@pytest.mark.parametrize(
    "function",
    [
        numerical_rank,
        lambda M: truncated_svd(M, 1),
        lambda M: randomized_svd(M, 1),
    ],
)
@pytest.mark.parametrize(
    ("M", "message"),
    [
        (torch.ones(3), r"non-empty matrix, got shape \(3,\)"),
        (torch.ones(2, 2, 2), "non-empty matrix"),
        (torch.ones(0, 3), "non-empty matrix"),
        (torch.ones(2, 2).long(), "floating-point matrix, got torch.int64"),
        (torch.ones(2, 2).cfloat(), "real floating-point"),
        (torch.tensor([[1.0, math.nan]]), "not finite"),
        (torch.tensor([[1.0, math.inf]]), "not finite"),
    ],
)
def test_what_is_no_matrix_is_refused(function, M: Tensor, message) -> None:
    with pytest.raises(ValueError, match=message):
        function(M)


# The spectrum in one number


# product_svd


@given(shapes, st.integers(1, 9), seeds)
def test_the_product_is_decomposed(
    shape: tuple[int, int], r: int, seed: int
) -> None:
    m, n = shape
    B, A = gaussian(m, r, seed=seed), gaussian(r, n, seed=seed + 1)
    U, S, Vh = product_svd(B, A)
    k = min(m, r, n)
    assert (U.shape, S.shape, Vh.shape) == ((m, k), (k,), (k, n))
    assert_close(U * S @ Vh, B @ A)
    assert_close(U.T @ U, torch.eye(k).double())
    assert_close(Vh @ Vh.T, torch.eye(k).double())
    expected = np.linalg.svd((B @ A).numpy(), compute_uv=False)
    assert_close(S, torch.from_numpy(expected[:k]))


def test_a_product_of_zeros_is_decomposed() -> None:
    U, S, _ = product_svd(torch.zeros(5, 2), gaussian(2, 4).float())
    assert torch.equal(S, torch.zeros(2))
    assert_close(U.T @ U, torch.eye(2))


def test_factors_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(5, 2\) and \(3, 4\)"):
        product_svd(torch.ones(5, 2), torch.ones(3, 4))
    with pytest.raises(ValueError, match="not finite"):
        product_svd(torch.full((5, 2), math.nan), torch.ones(2, 4))
    with pytest.raises(ValueError, match="not finite"):
        product_svd(torch.ones(5, 2), torch.full((2, 4), math.inf))


def test_small_singular_values_of_a_product_survive() -> None:
    """Forming the Gram matrices of the factors would lose them."""
    Q = torch.linalg.qr(gaussian(50, 2)).Q
    s = torch.tensor([1.0, 1e-12]).double()
    B = Q * s
    A = torch.linalg.qr(gaussian(40, 2, seed=1)).Q.T
    assert_close(product_svd(B, A)[1], s, rtol=1e-3, atol=0)


def test_energy_of_a_known_spectrum() -> None:
    assert_close(
        energy(torch.tensor([4.0, 3.0, 0.0])), torch.tensor([0.64, 1.0, 1.0])
    )


@given(shapes, seeds)
def test_energy_is_what_truncation_keeps(
    shape: tuple[int, int], seed: int
) -> None:
    M = gaussian(*shape, seed=seed)
    r = 1 + seed % min(shape)
    kept = _product(truncated_svd(M, r)).square().sum()
    share = energy(torch.linalg.svdvals(M))[r - 1]
    assert_close(share, kept / M.square().sum())


@given(spectra)
def test_measures_are_ordered_and_bounded(S: Tensor) -> None:
    shares = energy(S)
    assert shares[-1] == 1
    assert (shares[1:] >= shares[:-1]).all()
    rank = int((S > 0).sum())
    tiny = 1e-9
    assert 1 <= stable_rank(S) <= rank + tiny
    assert 1 - tiny <= effective_rank(S) <= rank + tiny


@given(spectra, st.sampled_from([1e-30, 0.5, 1e30]))
def test_measures_do_not_depend_on_the_scale(S: Tensor, c: float) -> None:
    assert_close(energy(c * S), energy(S))
    assert math.isclose(stable_rank(c * S), stable_rank(S), rel_tol=1e-9)
    assert math.isclose(effective_rank(c * S), effective_rank(S), rel_tol=1e-9)


@given(spectra)
def test_effective_rank_agrees_with_scipy(S: Tensor) -> None:
    expected = math.exp(scipy.stats.entropy(S.numpy()))
    assert math.isclose(effective_rank(S), expected, rel_tol=1e-9)


def test_energy_of_a_narrow_format_is_told_apart() -> None:
    """In bfloat16, a share of 0.999 would be 1."""
    for dtype in (torch.bfloat16, torch.float16):
        S = torch.tensor([1.0, 2**-6]).to(dtype)
        found = energy(S)
        assert found.dtype == torch.float32
        assert_close(found[0].item(), 1 / (1 + 2**-12))


def test_energy_has_a_gradient() -> None:
    S = torch.tensor([4.0, 3.0, 1.0]).double().requires_grad_()
    assert torch.autograd.gradcheck(energy, S)
    assert stable_rank(S) == 26 / 16


def test_equal_values_count_fully() -> None:
    assert stable_rank(torch.full((5,), 3.0)) == 5
    assert math.isclose(effective_rank(torch.full((5,), 3.0)), 5)


def test_stable_rank_is_a_ratio_of_norms() -> None:
    M = gaussian(8, 5)
    ratio = torch.linalg.norm(M) / torch.linalg.matrix_norm(M, 2)
    s = torch.linalg.svdvals(M)
    assert math.isclose(stable_rank(s), float(ratio**2), rel_tol=1e-12)


def test_energy_is_cumulated_in_double_precision() -> None:
    """In float32, adding 1e-9 to 1 would change nothing, ever."""
    S = torch.full((1_000_001,), 1e-4, dtype=torch.float32)
    S[0] = 1.0
    expected = 1 / (1 + 1_000_000 * float(S[1]) ** 2)
    assert math.isclose(energy(S)[0], expected, rel_tol=1e-6)


@pytest.mark.parametrize("measure", [energy, stable_rank, effective_rank])
@pytest.mark.parametrize(
    ("S", "message"),
    [
        (torch.ones(2, 2), "1-D tensor"),
        (torch.ones(0), "1-D tensor"),
        (torch.tensor([1.0, 2.0]), "largest first"),
        (torch.tensor([1.0, -1.0]), "need singular values >= 0"),
        (torch.tensor([1.0, math.nan]), "finite"),
        (torch.zeros(3), "all singular values are zero"),
        (torch.tensor([4, 3, 0]), "floating-point values, got torch.int64"),
        (torch.ones(2).cfloat(), "real floating-point values"),
    ],
)
def test_what_is_no_spectrum_is_refused(measure, S: Tensor, message) -> None:
    with pytest.raises(ValueError, match=message):
        measure(S)


def _product(svd: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    U, S, Vh = svd
    return U * S @ Vh
