"""Frozen layers that learn a low-rank correction ΔW = s B A beside W0.

    LoRALinear      nn.Linear, quantised     W0 (d, k)
    LoRAConv1D      Hugging Face's Conv1D    W0 (k, d)
    LoRAEmbedding   nn.Embedding             W0 (k, d), k words
    LoRAConv2d      nn.Conv2d                W0 (d, k), k numbers in a window
    LoRAFused       several maps in one      W0 (d, k), or (k, d) in a Conv1D

In every kind A (r, k) reads the input and B (d, r) writes to the output. The
scale s is α / r or α / √r.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lorabook import bases, products
from lorabook.linalg import at_least_float32, check_rank

Scaling = Literal["alpha/r", "alpha/sqrt(r)"]


class LoRALayer(bases.StandIn, ABC):
    """Freeze a layer and learn ΔW = s B A beside its weight W0.

    One factor starts at zero, so a new layer computes exactly what `base`
    does. The other must not start there too: the gradient of each factor is
    proportional to the other, and two zeros would never move (Hu et al. 2022,
    sec. 4.1). Beside a base in 16 bits the factors are float32; a linear
    layer still keeps its input in 16 bits for them, where it can.

    To code that reads a layer instead of calling it, this is the layer that
    it adapts, with the weight W0 + ΔW. A new kind of layer is a subclass with
    the four methods that are abstract here.

    Parameters
    ----------
    base : nn.Module
        The layer to adapt. It is kept, not copied, and frozen in place.
    r : int
        Rank of the update, from 1 to min(d, k).
    alpha : float
        Numerator of the scale; positive.
    dropout : float
        Probability with which training zeroes an entry of the input of the
        low-rank branch. The frozen branch always sees the whole input.
    scaling : {"alpha/r", "alpha/sqrt(r)"}
        The scale; the second is that of rsLoRA (Kalajdzievski 2023).

    Attributes
    ----------
    A, B : nn.Parameter, shapes (r, k) and (d, r)
    in_features, out_features : int
        k and d.
    scale : float
    enabled : bool
        If False, the layer computes what `base` does.

    Raises
    ------
    TypeError
        If `base` is not a layer that this kind can adapt.
    ValueError
        If `r`, `alpha`, `dropout` or `scaling` is not allowed. In either
        case `base` is as it was.
    """

    def __init__(
        self,
        base: nn.Module,
        r: int,
        alpha: float,
        dropout: float = 0.0,
        scaling: Scaling = "alpha/r",
    ) -> None:
        super().__init__()
        bases.check_base(base, self.kinds())
        if not 0 < alpha < math.inf:
            raise ValueError(f"need a finite alpha > 0, got {alpha}")
        if not 0 <= dropout < 1:
            raise ValueError(f"need 0 <= dropout < 1, got {dropout}")
        if dropout and not self.can_drop(base):
            raise ValueError(
                f"dropout does not reach the input of a {type(base).__name__}"
                f": need dropout=0, got {dropout}"
            )
        self.base = base
        W0 = bases.weight_of(base)
        self.out_features, self.in_features = self.matrix(W0).shape
        shape_A, shape_B = self.factor_shapes(r)
        scales = {"alpha/r": alpha / r, "alpha/sqrt(r)": alpha / math.sqrt(r)}
        if scaling not in scales:
            raise ValueError(f"need a scaling of {[*scales]}, got {scaling!r}")
        self.r, self.alpha, self.scaling = r, alpha, scaling
        self.scale = scales[scaling]
        self.enabled = True
        dtype = torch.promote_types(W0.dtype, torch.float32)
        self.A = nn.Parameter(W0.new_empty(shape_A, dtype=dtype))
        self.B = nn.Parameter(W0.new_empty(shape_B, dtype=dtype))
        self.reset_parameters()
        self.dropout = nn.Dropout(dropout)
        # Inside a model in eval mode, dropout must not wake up.
        self.training = self.dropout.training = base.training
        # Last, when nothing can be refused any more.
        bases.freeze(base)

    @staticmethod
    @abstractmethod
    def kinds() -> tuple[type[nn.Module], ...]:
        """Return the kinds of layers that can be the base."""

    @abstractmethod
    def matrix(self, W: Tensor) -> Tensor:
        """Lay a weight out as a matrix (d, k)."""

    @abstractmethod
    def shaped(self, M: Tensor) -> Tensor:
        """Lay a matrix (d, k) out as a weight."""

    @abstractmethod
    def update(self, x: Tensor) -> Tensor:
        """Return what ΔW adds to the output for the input `x`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what `base` makes of `x`, plus the update."""
        y: Tensor = self.base(x)
        return (y + self.update(x)).to(y.dtype) if self.enabled else y

    def reset_parameters(self) -> None:
        """Draw A as `nn.Linear` draws its weight, and set B to zero."""
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        nn.init.zeros_(self.B)

    def delta_weight(self) -> Tensor:
        """Return ΔW in the layout of the weight, in float32 at least.

        In 16 bits a product of small factors would vanish before a large
        scale could lift it.
        """
        with bases.full_precision(self.A.device.type):
            rows = [
                self.scale * at_least_float32(B) @ at_least_float32(A)
                for B, A in self.blocks()
            ]
        return self.shaped(torch.cat(rows))

    @property
    def weight(self) -> Tensor:
        """W0 + ΔW, computed anew: what is written to it is lost."""
        W0: Tensor = self.base.weight
        return (W0 + self.delta_weight()).to(W0.dtype) if self.enabled else W0

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """Return a new, frozen layer like `base` with the weight W0 + ΔW.

        The sum is rounded to the dtype of W0, and `self` is not changed. In
        float32 the two layers differ by rounding. In 16 bits an update that
        is small beside the steps of the dtype gets lost: if its norm is 1 %
        of the weight's, bfloat16 keeps it, with noise of a sixth of its
        norm; of one of 0.2 % four fifths are left, of 0.1 % about half. Then
        merge into a float32 copy of the model, or keep the adapter.

        A quantised base is dequantised: the layer is plain, and takes the
        memory of one. To quantise it again would cost some of the update.

        Raises
        ------
        ValueError
            If the adapter is disabled, or the sum is too large for the dtype.
        """
        if not self.enabled:
            raise ValueError("the adapter is disabled: enable it to merge it")
        layer: Any = bases.plain_copy(self.base)
        W0 = layer.weight
        W = (W0 + self.delta_weight()).to(W0.dtype)
        if not (W.is_meta or bool(W[W0.isfinite()].isfinite().all())):
            raise ValueError(f"W0 + ΔW is not finite in {W.dtype}")
        layer.weight.copy_(W)
        plain: nn.Module = layer
        return plain

    # What some kinds do in another way.

    @staticmethod
    def can_drop(base: nn.Module) -> bool:
        """Tell whether `base` is called with numbers, which can be zeroed.

        Attention reads the weight of its last layer, and does not call it.
        """
        return not isinstance(base, NonDynamicallyQuantizableLinear)

    def factor_shapes(self, r: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the shapes of A and B, or refuse `r`."""
        d, k = self.out_features, self.in_features
        check_rank(r, min(d, k))
        return (r, k), (d, r)

    def blocks(self) -> list[tuple[Tensor, Tensor]]:
        """Return the pairs of factors B, A whose products lie in ΔW."""
        return [(self.B, self.A)]

    def like(self, r: int, alpha: float) -> Self:
        """Return a new adapter on the same base, of another rank."""
        p = self.dropout.p
        return type(self)(self.base, r, alpha, p, self.scaling)

    def seen(self, x: Tensor) -> Tensor:
        """Return what A reads: `x` in the dtype of A, with dropout."""
        if not bases.autocasts(x.device.type):
            x = x.to(self.A.dtype)
        dropped: Tensor = self.dropout(x)
        return dropped

    def extra_repr(self) -> str:
        """Name rank and alpha; the base layer prints itself."""
        return f"r={self.r}, alpha={self.alpha}"


def _answers(layer: LoRALayer, x: Tensor) -> Tensor:
    """Return x Aᵀ, and keep x in its own dtype where that is possible."""
    if products.widens(layer, x):
        return products.widened(x, layer.A)
    return F.linear(layer.seen(x), layer.A)


def _linear_update(layer: LoRALayer, x: Tensor) -> Tensor:
    z = _answers(layer, x)  # (..., r)
    # Scaled here, where a row has r numbers instead of d.
    return F.linear(layer.scale * z, layer.B)


@final
class LoRALinear(LoRALayer):
    """Adapt a linear layer, quantised or not: y = x W0ᵀ + b + s x Aᵀ Bᵀ.

    Where nothing but the last digits can differ, and it saves operations, the
    products are taken in the order x (W0 + s B A)ᵀ: in float32, without
    dropout, with more rows in x than a side of W0 (`lorabook.products`).
    """

    base: nn.Linear | bases.QuantizedLinear

    @staticmethod
    def kinds() -> tuple[type[nn.Module], ...]:
        """Return nn.Linear, and the one that is quantised."""
        return (nn.Linear, bases.QuantizedLinear)

    def matrix(self, W: Tensor) -> Tensor:
        """Return W (d, k) as it is."""
        return W

    def shaped(self, M: Tensor) -> Tensor:
        """Return M (d, k) as it is."""
        return M

    def update(self, x: Tensor) -> Tensor:
        """Map (..., k) to (..., d); the product B A is never formed."""
        return _linear_update(self, x)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., k) to (..., d)."""
        if self.enabled and products.pays(self, x):
            return products.summed(self, x)
        return super().forward(x)


@final
class LoRAConv1D(LoRALayer):
    """Adapt Hugging Face's Conv1D, a linear layer that stores W0ᵀ."""

    @staticmethod
    def kinds() -> tuple[type[nn.Module], ...]:
        """Return Conv1D if its library is there."""
        return bases.conv1d()

    def matrix(self, W: Tensor) -> Tensor:
        """Transpose W (k, d)."""
        return W.T

    def shaped(self, M: Tensor) -> Tensor:
        """Transpose M (d, k)."""
        return M.T

    def update(self, x: Tensor) -> Tensor:
        """Map (..., k) to (..., d); the product B A is never formed."""
        return _linear_update(self, x)


@final
class LoRAEmbedding(LoRALayer):
    """Adapt an nn.Embedding: the row of word i gets s B a, a column i of A.

    A starts at zero and B at random, so that the rows of words which never
    occur stay as they are. There is no dropout: the input is an index.
    """

    base: nn.Embedding

    @staticmethod
    def kinds() -> tuple[type[nn.Module], ...]:
        """Return nn.Embedding."""
        return (nn.Embedding,)

    def matrix(self, W: Tensor) -> Tensor:
        """Transpose W (k, d)."""
        return W.T

    def shaped(self, M: Tensor) -> Tensor:
        """Transpose M (d, k)."""
        return M.T

    def update(self, x: Tensor) -> Tensor:
        """Map indices (...) to (..., d)."""
        base = self.base
        z = F.embedding(
            x,
            self.A.T,
            base.padding_idx,
            scale_grad_by_freq=base.scale_grad_by_freq,
        )  # (..., r)
        return F.linear(self.scale * z, self.B)

    def reset_parameters(self) -> None:
        """Set A to zero and draw B from the standard normal distribution."""
        nn.init.zeros_(self.A)
        nn.init.normal_(self.B)

    @staticmethod
    def can_drop(base: nn.Module) -> bool:
        """Refuse dropout."""
        return False


@final
class LoRAConv2d(LoRALayer):
    """Adapt an nn.Conv2d: a convolution to r channels, and a 1 × 1 one to d.

    k is the number of entries that one output sees: input channels of its
    group times height times width of the kernel. Stride, padding, its mode,
    dilation and groups are those of `base`; each group of outputs applies A
    to its own inputs, so that ΔW can be added to W0.
    """

    base: nn.Conv2d

    @staticmethod
    def kinds() -> tuple[type[nn.Module], ...]:
        """Return nn.Conv2d."""
        return (nn.Conv2d,)

    def matrix(self, W: Tensor) -> Tensor:
        """Flatten W (d, channels, height, width)."""
        return W.flatten(1)

    def shaped(self, M: Tensor) -> Tensor:
        """Unflatten M (d, k)."""
        return M.reshape(len(M), -1, *self.base.kernel_size)

    def update(self, x: Tensor) -> Tensor:
        """Map (..., channels, height, width) to (..., d, height, width)."""
        groups = self.base.groups
        kernel = self.shaped(self.A).repeat(groups, 1, 1, 1)
        z = self.base._conv_forward(self.seen(x), kernel, None)
        pointwise = self.B[:, :, None, None]
        return F.conv2d(self.scale * z, pointwise, groups=groups)


@final
class LoRAFused(LoRALayer):
    """Adapt some of the maps that one layer computes side by side.

    A fused projection writes query, key and value one after the other. Each
    part that learns gets factors of its own, of rank r; the others stay.

    Parameters
    ----------
    base : nn.Linear, QuantizedLinear or Conv1D
    r, alpha, dropout, scaling
        As in `LoRALayer`; r is at most the size of a part.
    parts : sequence of bool
        Which parts of the output learn.
    sizes : sequence of int, optional
        Features of each part; equal ones by default. With grouped queries,
        keys and values are smaller than queries.

    Attributes
    ----------
    A, B : nn.Parameter, shapes (n r, k) and (e, r)
        The factors of the n parts that learn, one below the other; e is the
        number of their features.

    Raises
    ------
    TypeError, ValueError
        As in `LoRALayer`, and if the parts do not make up the output.
    """

    def __init__(
        self,
        base: nn.Module,
        r: int,
        alpha: float,
        parts: Sequence[bool] = (True, False, True),
        sizes: Sequence[int] | None = None,
        dropout: float = 0.0,
        scaling: Scaling = "alpha/r",
    ) -> None:
        self.parts, self.sizes = tuple(parts), tuple(sizes or ())
        super().__init__(base, r, alpha, dropout, scaling)

    @staticmethod
    def kinds() -> tuple[type[nn.Module], ...]:
        """Return those of LoRALinear, and Conv1D if its library is there."""
        return (*LoRALinear.kinds(), *bases.conv1d())

    def matrix(self, W: Tensor) -> Tensor:
        """Transpose the weight of a Conv1D."""
        return W.T if isinstance(self.base, bases.conv1d()) else W

    def shaped(self, M: Tensor) -> Tensor:
        """Transpose the weight of a Conv1D."""
        return self.matrix(M)

    def factor_shapes(self, r: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the shapes of A and B, or refuse parts, sizes or `r`."""
        d, k, n = self.out_features, self.in_features, len(self.parts)
        if not any(self.parts):
            raise ValueError(f"need a part that learns, got {self.parts}")
        if not self.sizes and d % n == 0:
            self.sizes = (d // n,) * n
        if len(self.sizes) != n or sum(self.sizes) != d or min(self.sizes) < 1:
            raise ValueError(
                f"need the sizes of {n} parts that add up to {d}, "
                f"got {self.sizes or 'none, and equal ones do not'}"
            )
        learn = [
            size for on, size in zip(self.parts, self.sizes, strict=True) if on
        ]
        check_rank(r, min(k, *learn))
        return (r * len(learn), k), (sum(learn), r)

    def blocks(self) -> list[tuple[Tensor, Tensor]]:
        """Return B and A for each part; of rank 0 where it does not learn."""
        parts = list(zip(self.parts, self.sizes, strict=True))
        As = torch.split(self.A, [self.r if on else 0 for on, _ in parts])
        Bs = torch.split(self.B, [size if on else 0 for on, size in parts])
        return [
            (B if on else B.new_empty(size, 0), A)
            for (on, size), A, B in zip(parts, As, Bs, strict=True)
        ]

    def update(self, x: Tensor) -> Tensor:
        """Map (..., k) to (..., d); no product B A is ever formed."""
        blocks = self.blocks()
        z = self.scale * _answers(self, x)  # (..., n r)
        pieces = torch.split(z, [len(A) for _, A in blocks], dim=-1)
        return torch.cat(
            [F.linear(z, B) for z, (B, _) in zip(pieces, blocks, strict=True)],
            dim=-1,
        )

    def like(self, r: int, alpha: float) -> Self:
        """Return a new adapter on the same base, of another rank."""
        p, parts, sizes = self.dropout.p, self.parts, self.sizes
        return type(self)(self.base, r, alpha, parts, sizes, p, self.scaling)
