"""Linear layers with a low-rank weight or a low-rank correction.

    LowRankLinear   y = x Aᵀ Bᵀ + b
    LoRALinear      y = x W0ᵀ + b + (α / r) x Aᵀ Bᵀ

Shapes, here and in every chapter:
    x (..., d_in), A (r, d_in), B (d_out, r), W0 (d_out, d_in).
"""

import copy
import math
from collections.abc import Iterable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        so that BᵀB = AAᵀ: neither factor starts with larger gradients.

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
        B, A = _balanced(truncated_svd(at_least_float32(W), r))
        layer.A.copy_(A)
        layer.B.copy_(B)
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


class LoRALinear(nn.Module):
    """Freeze a linear layer and learn ΔW = (α / r) B A beside it.

    B starts at zero, so a new layer computes exactly what `base` does. A
    must not start there too: the gradient of each factor is proportional
    to the other, and two zeros would never move (Hu et al. 2022, sec. 4.1).

    Parameters
    ----------
    base : nn.Linear
        The layer to adapt. It is kept, not copied, and frozen in place.
    r : int
        Rank of the update, from 1 to min(d_in, d_out).
    alpha : float
        Numerator of the scale α / r; positive.
    dropout : float
        Probability with which training zeroes an entry of the input of the
        low-rank branch. The frozen branch always sees the whole input.

    Raises
    ------
    TypeError
        If `base` is not an `nn.Linear`.
    ValueError
        If `r`, `alpha` or `dropout` is out of range.
    """

    def __init__(
        self, base: nn.Linear, r: int, alpha: float, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not isinstance(base, nn.Linear):
            raise TypeError(
                f"LoRALinear adapts an nn.Linear, got a {type(base).__name__}"
            )
        d_out, d_in = base.weight.shape
        check_rank(r, min(d_out, d_in))
        if not 0 < alpha < math.inf:
            raise ValueError(f"need a finite alpha > 0, got {alpha}")
        if not 0 <= dropout < 1:
            raise ValueError(f"need 0 <= dropout < 1, got {dropout}")
        self.base = base.requires_grad_(False)
        self.r, self.alpha, self.scale = r, alpha, alpha / r
        self.A = nn.Parameter(base.weight.new_empty(r, d_in))
        self.B = nn.Parameter(base.weight.new_zeros(d_out, r))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.dropout = nn.Dropout(dropout)
        # Inside a model in eval mode, dropout must not wake up.
        self.train(base.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d_in) to (..., d_out); the product B A is never formed."""
        z = F.linear(self.dropout(x), self.A)  # (..., r)
        # Scaled here, where a row has r numbers instead of d_out.
        y: Tensor = self.base(x) + F.linear(self.scale * z, self.B)
        return y

    def delta_weight(self) -> Tensor:
        """Return ΔW, a (d_out, d_in) matrix of rank at most r."""
        return self.scale * (self.B @ self.A)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return a new linear layer of weight W0 + ΔW, frozen as `base` is.

        The sum is rounded to the dtype of W0; `self` is not changed.
        """
        linear = copy.deepcopy(self.base)
        linear.weight += self.delta_weight()
        return linear

    def extra_repr(self) -> str:
        """Name rank and alpha; the base layer prints itself."""
        return f"r={self.r}, alpha={self.alpha}"


def inject(
    model: nn.Module,
    r: int,
    alpha: float,
    targets: Iterable[str],
    dropout: float = 0.0,
) -> dict[str, LoRALinear]:
    """Freeze a model, and give adapters to some of its linear layers.

    Parameters
    ----------
    model : nn.Module
        It is changed in place: all its parameters are frozen, and each layer
        with a name among `targets` becomes a `LoRALinear` around itself.
    r, alpha, dropout
        As in `LoRALinear`, the same for every layer.
    targets : iterable of str
        Names of layers: the last part of the whole name, such as ``"q"`` for
        ``"blocks.0.attention.q"``.

    Returns
    -------
    dict of str to LoRALinear
        The new layers by their whole names, in the order of the model.

    Raises
    ------
    TypeError
        If a layer of that name is not an `nn.Linear`.
    ValueError
        If no layer has one of the names, or if `r`, `alpha` or `dropout` is
        out of range. The model is then as it was.
    """
    wanted = set(targets)
    names = dict(model.named_modules())
    found = [n for n in names if n and n.rpartition(".")[2] in wanted]
    missing = wanted - {n.rpartition(".")[2] for n in found}
    if missing or not found:
        raise ValueError(
            f"no layer is named {', '.join(sorted(missing)) or 'by targets'}; "
            "linear layers are named "
            + ", ".join(
                dict.fromkeys(
                    n.rpartition(".")[2]
                    for n, module in names.items()
                    if isinstance(module, nn.Linear) and n
                )
            )
        )
    required = {p: p.requires_grad for p in model.parameters()}
    try:
        layers = {n: LoRALinear(names[n], r, alpha, dropout) for n in found}
    except (TypeError, ValueError):
        for p, was in required.items():
            p.requires_grad_(was)
        raise
    model.requires_grad_(False)
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(names[parent], last, layer)
    return layers


@torch.no_grad()
def extract_lora(
    base: nn.Linear, tuned: nn.Linear, r: int, alpha: float
) -> LoRALinear:
    """Return the adapter that takes `base` nearest to `tuned`.

    ΔW is the best approximation of rank r to the difference of the weights,
    its truncated SVD (Eckart and Young 1936, Mirsky 1960). The singular
    values are shared out evenly, so that BᵀB = AAᵀ. An adapter holds no
    bias: the one of `base` stays.

    Parameters
    ----------
    base : nn.Linear
        The layer before. It becomes the adapter's base: frozen, not copied.
    tuned : nn.Linear
        The layer after, of the same shape; it is not changed.
    r : int
        Rank to keep, from 1 to min(d_in, d_out).
    alpha : float
        Numerator of the scale; positive. ΔW does not depend on it: the
        factors absorb its inverse.

    Returns
    -------
    LoRALinear

    Raises
    ------
    ValueError
        If the shapes differ, or if `r` or `alpha` is out of range.
    """
    if base.weight.shape != tuned.weight.shape:
        raise ValueError(
            "need two layers of one shape, got weights "
            f"{tuple(base.weight.shape)} and {tuple(tuned.weight.shape)}"
        )
    layer = LoRALinear(base, r, alpha)
    difference = at_least_float32(tuned.weight) - base.weight
    _set_update(layer, truncated_svd(difference, r))
    return layer


@torch.no_grad()
def resize_lora(layer: LoRALinear, r: int, alpha: float) -> LoRALinear:
    """Return the adapter of rank `r` whose ΔW is nearest to a given one.

    The (d_out, d_in) matrix ΔW is never formed: its singular value
    decomposition comes from the factors, see `lorabook.linalg.product_svd`.

    Parameters
    ----------
    layer : LoRALinear
        The adapter to resize; it is not changed.
    r : int
        The new rank, from 1 to the present one.
    alpha : float
        Numerator of the new scale; positive. ΔW does not depend on it.

    Returns
    -------
    LoRALinear
        On the same base, with the same dropout.

    Raises
    ------
    ValueError
        If `r` or `alpha` is out of range.
    """
    check_rank(r, layer.r)
    resized = LoRALinear(layer.base, r, alpha, layer.dropout.p)
    B, A = at_least_float32(layer.B), at_least_float32(layer.A)
    U, S, Vh = product_svd(layer.scale * B, A)
    _set_update(resized, (U[:, :r], S[:r], Vh[:r]))
    return resized


def _set_update(layer: LoRALinear, parts: SVD) -> None:
    """Set the factors of `layer` so that ΔW is U diag(S) Vh."""
    U, S, Vh = parts
    B, A = _balanced((U, S / layer.scale, Vh))
    layer.A.copy_(A)
    layer.B.copy_(B)


def _balanced(parts: SVD) -> tuple[Tensor, Tensor]:
    """Share the singular values out evenly: B = U √S and A = √S Vh."""
    U, S, Vh = parts
    return U * S.sqrt(), S.sqrt()[:, None] * Vh
