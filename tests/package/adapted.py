"""One layer of each kind that can be adapted, for the tests of all kinds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lorabook.adapters import adapt
from lorabook.layers import LoRALayer


def numbers(*shape: int) -> Callable[[torch.dtype], Tensor]:
    return lambda dtype: torch.randn(shape, dtype=dtype)


def words(dtype: torch.dtype) -> Tensor:
    # With a repeated one, and the one that pads.
    return torch.tensor([[0, 3, 2], [3, 10, 7]])


@dataclass(frozen=True)
class Case:
    """A layer, an input for it, and settings for its adapter."""

    make: Callable[[], nn.Module]
    input: Callable[[torch.dtype], Tensor]
    settings: dict[str, Any] = field(default_factory=dict)

    def base(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return self.make().to(dtype)

    def new(
        self,
        r: int = 2,
        alpha: float = 3.0,
        dtype: torch.dtype = torch.float64,
        **more: Any,
    ) -> LoRALayer:
        return adapt(self.base(dtype), r, alpha, **self.settings, **more)

    def trained(self, *args: Any, **kwargs: Any) -> LoRALayer:
        """Return a layer as after training: neither factor is zero."""
        layer = self.new(*args, **kwargs)
        nn.init.normal_(layer.A, std=0.5)
        nn.init.normal_(layer.B)
        if getattr(layer, "padding_idx", None) is not None:
            # It starts at zero, and never gets a gradient.
            layer.A.data[:, layer.padding_idx] = 0
        return layer


CASES = {
    "linear": Case(lambda: nn.Linear(7, 5), numbers(2, 3, 7)),
    "linear_many_rows": Case(
        lambda: nn.Linear(7, 5, bias=False), numbers(3, 6, 7)
    ),
    "conv1d": Case(lambda: Conv1D(5, 7), numbers(2, 3, 7)),
    "embedding": Case(lambda: nn.Embedding(11, 5), words),
    "embedding_padded": Case(
        lambda: nn.Embedding(11, 5, padding_idx=2), words
    ),
    "embedding_sparse": Case(lambda: nn.Embedding(11, 5, sparse=True), words),
    "conv2d": Case(
        lambda: nn.Conv2d(3, 5, (3, 2), stride=2, padding=1),
        numbers(2, 3, 6, 7),
    ),
    "conv2d_grouped": Case(
        lambda: nn.Conv2d(
            4,
            6,
            3,
            padding=2,
            dilation=2,
            groups=2,
            bias=False,
            padding_mode="reflect",
        ),
        numbers(2, 4, 6, 7),
    ),
    "conv2d_depthwise": Case(
        lambda: nn.Conv2d(
            4, 8, 3, padding="same", groups=4, padding_mode="circular"
        ),
        numbers(4, 6, 7),
    ),
    "fused": Case(
        lambda: nn.Linear(7, 12),
        numbers(2, 3, 7),
        {"parts": (True, False, True)},
    ),
    "fused_conv1d": Case(
        lambda: Conv1D(12, 7),
        numbers(3, 6, 7),
        {"parts": (True, True, False), "sizes": (6, 2, 4)},
    ),
}


def dense(layer: LoRALayer, delta: Tensor) -> nn.Module:
    """Return the base layer, made anew, with `delta` in its weight."""
    copied = copy.deepcopy(layer.base)
    copied.weight = nn.Parameter(layer.base.weight + delta)
    return copied.train(layer.training)


def delta_by_hand(layer: LoRALayer, case: Case) -> Tensor:
    """Return s B A in the layout of the weight, entry by entry."""
    W = layer.base.weight
    parts = case.settings.get("parts", (True,))
    d = layer.out_features
    sizes = case.settings.get("sizes", (d // len(parts),) * len(parts))
    rows, a, b = [], 0, 0
    for on, size in zip(parts, sizes, strict=True):
        if on:
            B, A = layer.B[b : b + size], layer.A[a : a + layer.r]
            rows.append(torch.einsum("dr,rk->dk", B, A))
            a, b = a + layer.r, b + size
        else:
            rows.append(W.new_zeros(size, layer.A.shape[1]))
    M = layer.alpha / layer.r * torch.cat(rows)
    stored = isinstance(layer.base, Conv1D | nn.Embedding)
    return M.T if stored else M.reshape(W.shape)
