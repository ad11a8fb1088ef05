"""Rank, truncated and randomized SVD, and what a spectrum says.

Throughout, a matrix ``M`` has shape (m, n) and singular values
``s_1 >= s_2 >= ... >= 0``.
"""

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SVD = tuple[Tensor, Tensor, Tensor]


def check_rank(r: int, limit: int) -> None:
    """Raise ValueError unless `r` is a whole number from 1 to `limit`."""
    whole = isinstance(r, Integral) and not isinstance(r, bool)
    if not (whole and 1 <= r <= limit):
        raise ValueError(f"need 1 <= r <= {limit}, got {r!r}")


def at_least_float32(M: Tensor) -> Tensor:
    """Convert formats of 16 and 8 bits, in which there is no SVD, to float32.

    A product with float32 or float64 would promote them, but PyTorch refuses
    to promote 8 bits.
    """
    wide = (torch.float32, torch.float64, torch.complex64, torch.complex128)
    return M if M.dtype in wide else M.to(torch.float32)


def _check_matrix(M: Tensor) -> Tensor:
    """Check a matrix, and return it in a format that has an SVD."""
    if M.ndim != 2 or 0 in M.shape:
        raise ValueError(
            f"need a non-empty matrix, got shape {tuple(M.shape)}"
        )
    if not M.is_floating_point():
        raise ValueError(f"need a real floating-point matrix, got {M.dtype}")
    M = at_least_float32(M)
    if not bool(torch.isfinite(M).all()):
        raise ValueError("the matrix has entries that are not finite")
    return M


def _times_power(M: Tensor, e: int) -> Tensor:
    """Multiply by 2**e, in two steps since 2**e may be out of range."""
    return M * 2.0 ** (e // 2) * 2.0 ** (e - e // 2)


def _middle(M: Tensor) -> tuple[Tensor, int]:
    """Return ``M / 2**e`` and e: 0, unless sums of squares could overflow.

    A power of two changes no digit.
    """
    e = math.frexp(float(M.detach().abs().max()))[1]
    return (M, 0) if abs(e) < 32 else (_times_power(M, -e), e)


def _scaled_back(S: Tensor, e: int) -> Tensor:
    """Return ``2**e * S``, or say that it is out of range."""
    if e == 0:
        return S
    scaled = _times_power(S, e)
    tiny = torch.finfo(S.dtype).tiny
    if bool(torch.isinf(scaled[0])) or bool(S[0] > 0 and scaled[0] < tiny):
        raise ValueError(
            f"the singular values are out of the range of {S.dtype}"
        )
    return scaled


def numerical_rank(M: Tensor, rtol: float | None = None) -> int:
    """Count the singular values above ``rtol`` times the largest.

    Parameters
    ----------
    M : Tensor, shape (m, n)
        Real matrix. Entries of 16 or 8 bits are decomposed in float32, but
        keep the tolerance of their own dtype. It is soon too large: in
        bfloat16, a side of 128 makes it 1.
    rtol : float, optional
        Relative tolerance, from 0 to less than 1. By default
        ``max(m, n) * eps`` with the machine epsilon of ``M.dtype``, as in
        NumPy and PyTorch.

    Returns
    -------
    int
        The numerical rank; 0 for a zero matrix.

    Raises
    ------
    ValueError
        If `M` is not a finite, real, non-empty matrix, or if no singular
        value could be above the tolerance.
    """
    wide = _check_matrix(M)
    if rtol is None:
        rtol = max(M.shape) * torch.finfo(M.dtype).eps
        if rtol >= 1:
            raise ValueError(
                f"{M.dtype} is too coarse to tell the rank of a matrix of "
                f"shape {tuple(M.shape)}: convert it, or choose rtol"
            )
    if not 0 <= rtol < 1:
        raise ValueError(f"need 0 <= rtol < 1, got {rtol}")
    # The rank of 2**-e M is the same.
    s = torch.linalg.svdvals(_middle(wide.detach())[0])
    return int((s > rtol * s[0]).sum())


def truncated_svd(M: Tensor, r: int) -> SVD:
    """Keep the `r` largest singular triplets of `M`.

    ``U * S @ Vh`` is a best approximation of `M` by a matrix of rank at
    most `r`, in the spectral and in the Frobenius norm (Eckart and Young
    1936, Mirsky 1960). It is the only one in the Frobenius norm when
    ``s_r > s_{r+1}``.

    The gradient is that of the triplets that are kept. It does not ask for
    distinct values among the rest, as that of ``torch.linalg.svd`` does: a
    matrix of rank r, such as a product of two thin ones, has one.

    Parameters
    ----------
    M : Tensor, shape (m, n)
        Real matrix. Entries of 16 or 8 bits are decomposed in float32, and
        the triplets are float32.
    r : int
        Triplets to keep, from 1 to min(m, n).

    Returns
    -------
    U : Tensor, shape (m, r)
        Orthonormal columns.
    S : Tensor, shape (r,)
        Singular values, largest first.
    Vh : Tensor, shape (r, n)
        Orthonormal rows.

    Raises
    ------
    ValueError
        If `r` is out of range, if `M` is not a finite, real matrix, or if
        its singular values are not finite. In a backward pass, if a kept
        value is no different from another one, so that its vectors have no
        gradient, and the loss depends on them.
    """
    wide = _check_matrix(M)
    check_rank(r, min(M.shape))
    with torch.no_grad():
        middle, e = _middle(wide)
        U, S, Vh = torch.linalg.svd(middle, full_matrices=False)
        S = _scaled_back(S, e)
    return _with_gradient(r, U, S, Vh, wide)


def cut(M: Tensor, r: int) -> Tensor:
    """Cut a matrix down to rank `r`, as near to it as can be.

    Parameters
    ----------
    M : Tensor, shape (m, n)
        As in `truncated_svd`.
    r : int
        Rank to keep, from 1 to min(m, n).

    Returns
    -------
    Tensor, shape (m, n)
        The product ``U * S @ Vh`` of `truncated_svd`.

    Raises
    ------
    ValueError
        As `truncated_svd`.
    """
    U, S, Vh = truncated_svd(M, r)
    return U * S @ Vh


def _with_gradient(r: int, *given: Tensor) -> SVD:
    """Return r triplets of ``given[:3]``, the thin SVD of ``given[3:]``.

    That is one matrix, or two factors of it.
    """
    U, S, Vh, *factors = given
    if torch.is_grad_enabled() and any(M.requires_grad for M in factors):
        kept: SVD = _Triplets.apply(  # type: ignore[no-untyped-call]
            r, *given
        )
        return kept
    return U[:, :r], S[:r], Vh[:r]


class _Triplets(torch.autograd.Function):
    """Singular triplets, with the gradient of `_svd_gradient`."""

    @staticmethod
    def forward(ctx: Any, r: int, *given: Tensor) -> SVD:
        ctx.save_for_backward(*given)
        U, S, Vh = given[:3]
        return U[:, :r].clone(), S[:r].clone(), Vh[:r].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gU: Tensor, gS: Tensor, gVh: Tensor
    ) -> tuple[Tensor | None, ...]:
        U, S, Vh, *factors = ctx.saved_tensors
        X, Y = _svd_gradient(U, S, Vh, gU, gS, gVh)
        none = (None,) * 4
        if len(factors) == 1:
            return *none, X @ Vh + U @ Y
        B, A = factors  # the gradient of their product is never formed
        gB = X @ (Vh @ A.mT) + U @ (Y @ A.mT)
        return *none, gB, (B.mT @ X) @ Vh + (B.mT @ U) @ Y


def _svd_gradient(
    U: Tensor, S: Tensor, Vh: Tensor, gU: Tensor, gS: Tensor, gVh: Tensor
) -> tuple[Tensor, Tensor]:
    """Return X (m, k) and Y (k, n); ``X @ Vh + U @ Y`` is the gradient.

    The first r of k triplets have the gradients gU, gS and gVh. See Townsend
    (2016), *Differentiating the singular value decomposition*; the fractions
    are taken apart, so that only a difference of two values that the loss
    tells apart is ever divided by. Values beyond the k are 0.
    """
    m, n, k, r = len(U), Vh.shape[1], len(S), len(gS)
    P, Q = S.new_zeros(2, k, k)
    P[:, :r], Q[:, :r] = U.mT @ gU, Vh @ gVh.mT
    p, q = P - P.mT, Q - Q.mT
    gap, total = S - S[:, None], S + S[:, None]
    g = torch.cat([gS, gS.new_zeros(k - r)])
    # Pairs that the loss tells apart, and values that are equal but for
    # rounding.
    asked = (P != 0) | (P.mT != 0) | (Q != 0) | (Q.mT != 0)
    smallest = max(m, n) * torch.finfo(S.dtype).eps * S[0]
    tied = (gap.abs() <= smallest) & (asked | (g != g[:, None]))
    tied.fill_diagonal_(False)
    zero = (S[:r] <= smallest) & (
        (gS != 0) | (gU != 0).any(dim=0) | (gVh != 0).any(dim=1)
    )
    for wrong, what in (
        (zero, "zero"),
        (tied.any(dim=1), "equal to another one"),
    ):
        if bool(wrong.any()):
            i = int(wrong.nonzero()[0]) + 1
            raise ValueError(
                f"singular value {i} is {what}, up to rounding, where the "
                "triplet has no gradient"
            )
    one = torch.ones_like(gap)
    inner = (p + q) / torch.where(asked & (gap != 0), 2 * gap, one)
    inner += (p - q) / torch.where(asked & (total != 0), 2 * total, one)
    inner.diagonal().add_(g)
    X, Y = U @ inner, torch.zeros_like(Vh)
    # The rest of the space, to which the vectors can turn as well.
    divisor = torch.where(S[:r] > smallest, S[:r], one[0, :r])
    if m > k:
        X[:, :r] += (gU - U @ P[:, :r]) / divisor
    if n > k:
        Y[:r] += (gVh - Q[:, :r].mT @ Vh) / divisor[:, None]
    return X, Y


def randomized_svd(
    M: Tensor,
    r: int,
    oversample: int = 8,
    power: int = 1,
    generator: torch.Generator | None = None,
) -> SVD:
    """Approximate the `r` largest singular triplets by random projection.

    Stage A multiplies `M` by a Gaussian matrix of ``r + oversample``
    columns and orthonormalises the result into Q, whose range nearly holds
    that of the leading singular vectors. Stage B takes the exact SVD of the
    small matrix ``Q.T @ M``. See Halko, Martinsson and Tropp (2011),
    algorithms 4.4 and 5.1.

    Parameters
    ----------
    M : Tensor, shape (m, n)
        As in `truncated_svd`.
    r : int
        Triplets to return, from 1 to min(m, n).
    oversample : int
        Extra columns. A few are enough; with all of them the result is
        exact up to rounding.
    power : int
        Power steps. Each multiplies by ``M @ M.T`` once more, which
        raises every singular value to a higher odd power and so separates
        them. Between products the basis is made orthonormal again: without
        that, rounding loses the small singular values.
    generator : torch.Generator, optional
        Source of the Gaussian matrix, drawn on the generator's device.

    Returns
    -------
    U, S, Vh : Tensor
        Shapes (m, r), (r,) and (r, n), as `truncated_svd`.

    Raises
    ------
    ValueError
        If `r`, `oversample` or `power` is out of range, if `M` is not a
        finite, real matrix, or if its singular values are out of its range.
        In a backward pass: what the sample has missed has no gradient.
    """
    wide = _check_matrix(M)
    m, n = M.shape
    check_rank(r, min(m, n))
    if oversample < 0 or power < 0:
        raise ValueError(
            "need oversample >= 0 and power >= 0, "
            f"got {oversample} and {power}"
        )
    k = min(r + oversample, m, n)
    device = M.device if generator is None else generator.device
    with torch.no_grad():
        W, e = _middle(wide)
        Omega = torch.randn(
            n, k, generator=generator, device=device, dtype=W.dtype
        ).to(W.device)
        Q = _orthonormal(W @ Omega)  # (m, k)
        for _ in range(power):
            Q = _orthonormal(W @ _orthonormal(W.mT @ Q))
        U, S, Vh = torch.linalg.svd(Q.mT @ W, full_matrices=False)
        kept = Q @ U[:, :r], _scaled_back(S[:r], e), Vh[:r]
    if not (M.requires_grad and torch.is_grad_enabled()):
        return kept
    refusing: SVD = _NoGradient.apply(  # type: ignore[no-untyped-call]
        M, *kept
    )
    return refusing


class _NoGradient(torch.autograd.Function):
    """Pass triplets on, but refuse a backward pass through them."""

    @staticmethod
    def forward(ctx: Any, M: Tensor, *triplets: Tensor) -> Any:
        return tuple(t.clone() for t in triplets)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise ValueError(
            "randomized_svd has no gradient: use truncated_svd, or detach"
        )


def product_svd(B: Tensor, A: Tensor) -> SVD:
    """Decompose the product ``B @ A`` without forming it.

    ``B = Qb Rb`` and ``A.T = Qa Ra`` are thin QR factorisations; the SVD of
    the small matrix ``Rb @ Ra.T``, multiplied by Qb and Qa, is that of the
    product. For factors with one side r this costs O((m + n) r^2) operations
    and no memory of size m n.

    Parameters
    ----------
    B : Tensor, shape (m, r)
        Real matrix. Entries of 16 or 8 bits count as float32.
    A : Tensor, shape (r, n)
        Likewise. If one is float64, both are.

    Returns
    -------
    U, S, Vh : Tensor
        Shapes (m, k), (k,) and (k, n) with k = min(m, r, n); the rest of the
        singular values of the product are 0.

    Raises
    ------
    ValueError
        If either is not a finite, real matrix, if they do not fit, or if the
        singular values are too large or too small for their format. In a
        backward pass as `truncated_svd`; with a B of zeros, say.
    """
    B, A = _check_matrix(B), _check_matrix(A)
    dtype = torch.promote_types(B.dtype, A.dtype)
    if B.shape[1] != A.shape[0]:
        raise ValueError(
            "need B (m, r) and A (r, n), "
            f"got {tuple(B.shape)} and {tuple(A.shape)}"
        )
    B, A = B.to(dtype), A.to(dtype)
    with torch.no_grad():
        (left, e), (right, f) = _middle(B), _middle(A)
        Qb, Rb = torch.linalg.qr(left)  # (m, min(m, r)), (min(m, r), r)
        Qa, Ra = torch.linalg.qr(right.mT)  # (n, min(n, r)), (min(n, r), r)
        U, S, Vh = torch.linalg.svd(Rb @ Ra.mT, full_matrices=False)
        U, S, Vh = Qb @ U, _scaled_back(S, e + f), Vh @ Qa.mT
    return _with_gradient(len(S), U, S, Vh, B, A)


def energy(S: Tensor) -> Tensor:
    """Return the share of ``sum s_i**2`` that the first values hold.

    Parameters
    ----------
    S : Tensor, shape (k,)
        Singular values, largest first, not all zero.

    Returns
    -------
    Tensor, shape (k,)
        In the format of `S`, but at least float32. Entry ``r - 1`` is the
        share that the first r keep, so that the best rank-r approximation
        has the squared relative error ``1 - energy(S)[r - 1]`` in the
        Frobenius norm. The last entry is 1.

    Raises
    ------
    ValueError
        If `S` is not such a spectrum.
    """
    # Cumulated in double precision: 1 - energy is the small difference.
    total = torch.cumsum(_relative(S).square(), dim=0)
    return (total / total[-1]).to(at_least_float32(S).dtype)


def stable_rank(S: Tensor) -> float:
    """Return ``sum s_i**2 / s_1**2``, at least 1 and at most the rank.

    Unlike the rank it barely moves when `S` does (Rudelson and Vershynin
    2007).

    Parameters
    ----------
    S : Tensor, shape (k,)
        Singular values, largest first, not all zero.

    Returns
    -------
    float
        The squared Frobenius norm over the squared spectral norm.

    Raises
    ------
    ValueError
        If `S` is not such a spectrum.
    """
    return float(_relative(S.detach()).square().sum())


def effective_rank(S: Tensor) -> float:
    """Return the exponential of the entropy of ``s_i / sum s_j``.

    k equal singular values give k; one value that dwarfs the rest gives 1
    (Roy and Vetterli 2007).

    Parameters
    ----------
    S : Tensor, shape (k,)
        Singular values, largest first, not all zero.

    Returns
    -------
    float
        A number from 1 to the number of non-zero singular values.

    Raises
    ------
    ValueError
        If `S` is not such a spectrum.
    """
    s = _relative(S.detach())
    return math.exp(float(torch.special.entr(s / s.sum()).sum()))


def _orthonormal(Y: Tensor) -> Tensor:
    Q: Tensor = torch.linalg.qr(Y).Q
    return Q


def _relative(S: Tensor) -> Tensor:
    """Check a spectrum and return ``s_i / s_1`` in double precision."""
    if S.ndim != 1 or len(S) == 0:
        raise ValueError(
            f"need a 1-D tensor of singular values, got {tuple(S.shape)}"
        )
    if not S.is_floating_point():
        raise ValueError(f"need real floating-point values, got {S.dtype}")
    s = S.double()
    if not bool(torch.isfinite(s).all()):
        raise ValueError("the singular values must be finite")
    if bool((s < 0).any()) or bool((s[1:] > s[:-1]).any()):
        raise ValueError("need singular values >= 0, largest first")
    if s[0] == 0:
        raise ValueError("all singular values are zero")
    return s / s[0]
