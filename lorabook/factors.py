"""Factors in place of a matrix, and factors from a matrix.

LowRankLinear   y = x Aᵀ Bᵀ + b, a layer whose weight is B A
extract_lora    the adapter between two checkpoints
resize_lora     the same adapter, of another rank
"""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabook import bases
from lorabook.adapters import adapt
from lorabook.layers import LoRALayer, Scaling
from lorabook.linalg import (
    SVD,
    at_least_float32,
    check_rank,
    product_svd,
    truncated_svd,
)


class LowRankLinear(nn.Module):
    """A linear layer whose weight B A is only ever held in its factors.

    A new layer draws A as `nn.Linear` draws its weight, and B so that the
    entries of B A have the same variance as that weight.

    Parameters
    ----------
    d_in, d_out : int
        Features in and out.
    r : int
        Rank of the weight, from 1 to min(d_in, d_out).
    bias : bool
        Whether to add a trainable bias.
    device, dtype : optional
        As in `nn.Linear`.

    Raises
    ------
    ValueError
        If `r` is out of range.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        d_in: int,
        d_out: int,
        r: int,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_rank(r, min(d_in, d_out))
        self.d_in, self.d_out, self.r = d_in, d_out, r
        self.A = nn.Parameter(torch.empty(r, d_in, device=device, dtype=dtype))
        self.B = nn.Parameter(
            torch.empty(d_out, r, device=device, dtype=dtype)
        )
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        # r products add up in each entry of B A, hence a variance of 1 / r.
        nn.init.uniform_(self.B, -math.sqrt(3 / r), math.sqrt(3 / r))
        if bias:
            self.bias = nn.Parameter(
                torch.empty(d_out, device=device, dtype=dtype)
            )
            bound = 1 / math.sqrt(d_in)
            nn.init.uniform_(self.bias, -bound, bound)
        else:
            self.register_parameter("bias", None)

    @classmethod
    @torch.no_grad()
    def from_dense(cls, linear: nn.Linear, r: int) -> Self:
        """Build the layer whose weight is the best rank-r copy of another's.

        The singular values are shared out evenly, B = U √S and A = √S Vᵀ,
        so that BᵀB = AAᵀ: neither factor starts with larger gradients. Where
        the weight has a lower rank, the rows of A that are left are drawn.

        Parameters
        ----------
        linear : nn.Linear
            The dense layer; it is not changed. Its bias is copied.
        r : int
            Rank to keep, from 1 to min(d_in, d_out).

        Returns
        -------
        LowRankLinear
            On the same device, with the same dtype.

        Raises
        ------
        ValueError
            If `r` is out of range.
        """
        W = linear.weight  # (d_out, d_in)
        d_out, d_in = W.shape
        layer = cls(
            d_in,
            d_out,
            r,
            bias=linear.bias is not None,
            device=W.device,
            dtype=W.dtype,
        )
        layer.B.zero_()
        _fill(layer.B, layer.A, truncated_svd(at_least_float32(W), r))
        if layer.bias is not None:
            layer.bias.copy_(linear.bias)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d_in) to (..., d_out) through r numbers."""
        return F.linear(F.linear(x, self.A), self.B, self.bias)

    def weight(self) -> Tensor:
        """Return the (d_out, d_in) weight B A that the layer stands for."""
        return self.B @ self.A

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        bias = self.bias is not None
        return f"d_in={self.d_in}, d_out={self.d_out}, r={self.r}, {bias=}"


@torch.no_grad()
def extract_lora(
    base: nn.Module,
    tuned: nn.Module,
    r: int,
    alpha: float,
    scaling: Scaling = "alpha/r",
) -> LoRALayer:
    """Return the adapter that takes `base` nearest to `tuned`.

    ΔW is the best approximation of rank r to the difference of the weights,
    its truncated SVD (Eckart and Young 1936, Mirsky 1960). The singular
    values are shared out evenly, so that BᵀB = AAᵀ. Where the difference has
    a lower rank, the directions that are left start as in a new adapter, so
    that all of them can learn. An adapter holds no bias: the one of `base`
    stays.

    Parameters
    ----------
    base : nn.Module
        The layer before, of a kind in `lorabook.adapters.ADAPTED`. It
        becomes the adapter's base: frozen, not copied.
    tuned : nn.Module
        The layer after, of the same shape; it is not changed.
    r : int
        Rank to keep, from 1 to min(d, k).
    alpha : float
        Numerator of the scale; positive. ΔW does not depend on it: the
        factors absorb its inverse.
    scaling : {"alpha/r", "alpha/sqrt(r)"}
        As in `LoRALayer`.

    Returns
    -------
    LoRALayer

    Raises
    ------
    TypeError
        If there is no adapter for such a layer.
    ValueError
        If the shapes differ, if the difference is not finite, or if `r` or
        `alpha` is out of range. In either case `base` is as it was.
    """
    with bases.restored(base):
        layer = adapt(base, r, alpha, scaling=scaling)
        bases.check_base(tuned, layer.kinds())
        W0, W = bases.weight_of(base), bases.weight_of(tuned)
        if W0.shape != W.shape:
            raise ValueError(
                "need two layers of one shape, got weights "
                f"{tuple(W0.shape)} and {tuple(W.shape)}"
            )
        difference = layer.matrix(at_least_float32(W) - W0)
        U, S, Vh = truncated_svd(at_least_float32(difference), r)
        _fill(layer.B, layer.A, (U, S / layer.scale, Vh))
    return layer


@torch.no_grad()
def resize_lora(layer: LoRALayer, r: int, alpha: float) -> LoRALayer:
    """Return the adapter of rank `r` whose ΔW is nearest to a given one.

    The (d, k) matrix ΔW is never formed: its singular value decomposition
    comes from the factors, see `lorabook.linalg.product_svd`. Beyond the rank
    of ΔW the directions that are left start as in a new adapter.

    Parameters
    ----------
    layer : LoRALayer
        The adapter to resize; it is not changed.
    r : int
        The new rank, from 1 to min(d, k).
    alpha : float
        Numerator of the new scale; positive. ΔW does not depend on it.

    Returns
    -------
    LoRALayer
        On the same base, with the same dropout and scaling, on or off as
        `layer` is.

    Raises
    ------
    ValueError
        If `r` or `alpha` is out of range, or a factor is not finite.
    """
    flags = {p: p.requires_grad for p in layer.base.parameters()}
    resized = layer.like(r, alpha)
    # A bias that learns goes on learning.
    for p, flag in flags.items():
        p.requires_grad_(flag)
    resized.enabled = layer.enabled
    pairs = zip(resized.blocks(), layer.blocks(), strict=True)
    for (new_B, new_A), (B, A) in pairs:
        if len(A):
            with bases.full_precision(A.device.type):
                U, S, Vh = product_svd(
                    at_least_float32(B), at_least_float32(A)
                )
            S = S * (layer.scale / resized.scale)
            _fill(new_B, new_A, (U[:, :r], S[:r], Vh[:r]))
    return resized


def _fill(B: Tensor, A: Tensor, parts: SVD) -> None:
    """Set B A to U diag(S) Vh, sharing S out evenly.

    A direction whose singular value is zero would be zero in both factors,
    where no gradient could ever reach it. It is left as it started.
    """
    U, S, Vh = parts
    # Rounding leaves about a third of this of a singular value that is zero.
    rounding = torch.finfo(S.dtype).eps * max(len(U), Vh.shape[1]) ** 0.5
    n = int((rounding * S[0] < S).sum())
    root = S[:n].sqrt()
    B[:, :n] = U[:, :n] * root
    A[:n] = root[:, None] * Vh[:n]
