"""Rank, truncated and randomized SVD, and what a spectrum says.

Throughout, a matrix ``M`` has shape (m, n) and singular values
``s_1 >= s_2 >= ... >= 0``.
"""

import math
from numbers import Integral

import torch
from torch import Tensor

SVD = tuple[Tensor, Tensor, Tensor]


def check_rank(r: int, limit: int) -> None:
    """Raise ValueError unless `r` is a whole number from 1 to `limit`."""
    whole = isinstance(r, Integral) and not isinstance(r, bool)
    if not (whole and 1 <= r <= limit):
        raise ValueError(f"need 1 <= r <= {limit}, got {r!r}")


def at_least_float32(M: Tensor) -> Tensor:
    """Convert half precision, in which there is no SVD, to float32."""
    return M.to(torch.promote_types(M.dtype, torch.float32))


def _check_matrix(M: Tensor) -> None:
    if M.ndim != 2 or 0 in M.shape:
        raise ValueError(
            f"need a non-empty matrix, got shape {tuple(M.shape)}"
        )
    if not M.is_floating_point():
        raise ValueError(f"need a real floating-point matrix, got {M.dtype}")
    if not bool(torch.isfinite(M).all()):
        raise ValueError("the matrix has entries that are not finite")


def numerical_rank(M: Tensor, rtol: float | None = None) -> int:
    """Count the singular values above ``rtol`` times the largest.

    Parameters
    ----------
    M : Tensor, shape (m, n)
        Real matrix. Half-precision entries are decomposed in float32,
        but keep the tolerance of their own dtype.
    rtol : float, optional
        Relative tolerance. By default ``max(m, n) * eps`` with the
        machine epsilon of ``M.dtype``, as in NumPy and PyTorch.

    Returns
    -------
    int
        The numerical rank; 0 for a zero matrix.

    Raises
    ------
    ValueError
        If `M` is not a finite, real, non-empty matrix or `rtol` < 0.
    """
    _check_matrix(M)
    if rtol is None:
        rtol = max(M.shape) * torch.finfo(M.dtype).eps
    if not rtol >= 0:
        raise ValueError(f"need rtol >= 0, got {rtol}")
    s = torch.linalg.svdvals(at_least_float32(M))
    return int((s > rtol * s[0]).sum())


def truncated_svd(M: Tensor, r: int) -> SVD:
    """Keep the `r` largest singular triplets of `M`.

    ``U * S @ Vh`` is a best approximation of `M` by a matrix of rank at
    most `r`, in the spectral and in the Frobenius norm (Eckart and Young
    1936, Mirsky 1960). It is the only one in the Frobenius norm when
    ``s_r > s_{r+1}``.

    Parameters
    ----------
    M : Tensor, shape (m, n)
        float32 or float64 matrix.
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
        If `r` is out of range or `M` is not a finite, real matrix.
    """
    _check_matrix(M)
    check_rank(r, min(M.shape))
    U, S, Vh = torch.linalg.svd(M, full_matrices=False)
    return U[:, :r], S[:r], Vh[:r]


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
        float32 or float64 matrix.
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
        If `r`, `oversample` or `power` is out of range, or `M` is not a
        finite, real matrix.
    """
    _check_matrix(M)
    m, n = M.shape
    check_rank(r, min(m, n))
    if oversample < 0 or power < 0:
        raise ValueError(
            "need oversample >= 0 and power >= 0, "
            f"got {oversample} and {power}"
        )
    k = min(r + oversample, m, n)
    device = M.device if generator is None else generator.device
    Omega = torch.randn(
        n, k, generator=generator, device=device, dtype=M.dtype
    ).to(M.device)
    Q = _orthonormal(M @ Omega)  # (m, k)
    for _ in range(power):
        Q = _orthonormal(M @ _orthonormal(M.mT @ Q))
    U, S, Vh = torch.linalg.svd(Q.mT @ M, full_matrices=False)
    return Q @ U[:, :r], S[:r], Vh[:r]


def product_svd(B: Tensor, A: Tensor) -> SVD:
    """Decompose the product ``B @ A`` without forming it.

    ``B = Qb Rb`` and ``A.T = Qa Ra`` are thin QR factorisations; the SVD of
    the small matrix ``Rb @ Ra.T``, multiplied by Qb and Qa, is that of the
    product. For factors with one side r this costs O((m + n) r^2) operations
    and no memory of size m n.

    Parameters
    ----------
    B : Tensor, shape (m, r)
        float32 or float64 matrix.
    A : Tensor, shape (r, n)
        Of the same dtype.

    Returns
    -------
    U, S, Vh : Tensor
        Shapes (m, k), (k,) and (k, n) with k = min(m, r, n); the rest of the
        singular values of the product are 0.

    Raises
    ------
    ValueError
        If either is not a finite, real matrix, or if they do not fit.
    """
    _check_matrix(B)
    _check_matrix(A)
    if B.shape[1] != A.shape[0]:
        raise ValueError(
            "need B (m, r) and A (r, n), "
            f"got {tuple(B.shape)} and {tuple(A.shape)}"
        )
    Qb, Rb = torch.linalg.qr(B)  # (m, min(m, r)), (min(m, r), r)
    Qa, Ra = torch.linalg.qr(A.mT)  # (n, min(n, r)), (min(n, r), r)
    U, S, Vh = torch.linalg.svd(Rb @ Ra.mT, full_matrices=False)
    return Qb @ U, S, Vh @ Qa.mT


def energy(S: Tensor) -> Tensor:
    """Return the share of ``sum s_i**2`` that the first values hold.

    Parameters
    ----------
    S : Tensor, shape (k,)
        Singular values, largest first, not all zero.

    Returns
    -------
    Tensor, shape (k,)
        Entry ``r - 1`` is the share that the first r keep, so that the
        best rank-r approximation has the squared relative error
        ``1 - energy(S)[r - 1]`` in the Frobenius norm. The last entry is 1.

    Raises
    ------
    ValueError
        If `S` is not such a spectrum.
    """
    # Cumulated in double precision: 1 - energy is the small difference.
    total = torch.cumsum(_relative(S).square(), dim=0)
    return (total / total[-1]).to(S.dtype)


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
    return float(_relative(S).square().sum())


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
    s = _relative(S)
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
    s = S.detach().double()
    if not bool(torch.isfinite(s).all()):
        raise ValueError("the singular values must be finite")
    if bool((s < 0).any()) or bool((s[1:] > s[:-1]).any()):
        raise ValueError("need singular values >= 0, largest first")
    if s[0] == 0:
        raise ValueError("all singular values are zero")
    return s / s[0]
