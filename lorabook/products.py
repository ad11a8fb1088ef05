"""The cheaper order of the products in y = x (W0 + s B A)ᵀ + b.

For N rows of x the sum W0 + s B A costs 2 d k r operations, whatever N is. It
saves 2 N d r forward and 2 N k r backward, so it pays if N > k, and on the way
back if N > d (Cherniuk et al. 2023). Unlike autograd on the sum, the backward
pass here never forms the (d, k) gradient of the sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lorabook import bases

if TYPE_CHECKING:
    from lorabook.layers import LoRALayer, LoRALinear


def pays(layer: LoRALinear, x: Tensor) -> bool:
    """Tell whether `summed` does the same with fewer operations.

    With fewer if x wants a gradient, that is, and else with no more.

    Parameters
    ----------
    layer : LoRALinear
        It has the say on dropout, hooks and what is frozen.
    x : Tensor, shape (..., k)
        Its input.

    Returns
    -------
    bool
        False also where the results could differ in more than the last
        digits, as in 16 bits, or where PyTorch traces or transforms.
    """
    if _is_transformed():
        return False
    d, k = layer.out_features, layer.in_features
    N = 0 if x.is_nested else x.numel() // k
    fewer = min(d, k) < N if _learns(layer, x) else N * (d + k) > d * k
    return fewer and _is_plain(layer) and _is_exact(layer, x)


def _is_transformed() -> bool:
    """Tell whether PyTorch does more with an operation than to run it."""
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def _learns(layer: LoRALinear, x: Tensor) -> bool:
    used = (x, layer.A, layer.B, *layer.base.parameters())
    return torch.is_grad_enabled() and any(t.requires_grad for t in used)


def _is_plain(layer: LoRALinear) -> bool:
    base, dropout = layer.base, layer.dropout
    trainable = {
        name for name, p in layer.named_parameters() if p.requires_grad
    }
    return (
        not bases.is_derived(base)
        and not bases.has_hooks(base)
        and not bases.has_hooks(dropout)
        and not (dropout.training and dropout.p)
        and (trainable == {"A", "B"} or not torch.is_grad_enabled())
    )


def _is_exact(layer: LoRALinear, x: Tensor) -> bool:
    used = (x, layer.base.weight, layer.A, layer.B)
    return (
        {t.dtype for t in used} in ({torch.float32}, {torch.float64})
        and x.is_contiguous()
        and not bases.autocasts(x.device.type)
    )


def widens(layer: LoRALayer, x: Tensor) -> bool:
    """Tell whether `widened` does the same with fewer bytes.

    Parameters
    ----------
    layer : LoRALayer
        It has the say on dropout and its hooks.
    x : Tensor, shape (..., k)
        Its input.

    Returns
    -------
    bool
        False also where PyTorch traces or transforms, or casts by itself.
    """
    dropout = layer.dropout
    return (
        x.dtype in (torch.float16, torch.bfloat16)
        and x.dtype != layer.A.dtype
        and not (dropout.training and dropout.p)
        and not bases.has_hooks(dropout)
        and not bases.autocasts(x.device.type)
        and not x.is_nested
        and not _is_transformed()
    )


def widened(x: Tensor, A: Tensor) -> Tensor:
    """Return x Aᵀ in the dtype of A, and keep x in its own.

    Parameters
    ----------
    x : Tensor, shape (..., k)
    A : Tensor, shape (r, k)

    Returns
    -------
    Tensor, shape (..., r)
        The bits, and those of the gradients, are autograd's.
    """
    z: Tensor = _Widened.apply(x, A)  # type: ignore[no-untyped-call]
    return z


class _Widened(torch.autograd.Function):
    """The product for x (..., k)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, A: Tensor) -> Tensor:
        ctx.save_for_backward(x, A)
        return F.linear(x.to(A.dtype), A)

    @staticmethod
    def backward(ctx: Any, z_bar: Tensor) -> tuple[Tensor | None, ...]:
        x, A = ctx.saved_tensors
        x_bar = A_bar = None
        if ctx.needs_input_grad[0]:
            x_bar = (z_bar @ A).to(x.dtype)
        if ctx.needs_input_grad[1]:
            rows = x.to(A.dtype).reshape(-1, x.shape[-1])
            A_bar = z_bar.reshape(-1, len(A)).T @ rows
        return x_bar, A_bar


def summed(layer: LoRALinear, x: Tensor) -> Tensor:
    """Return what the layer computes, by the cheaper order.

    Parameters
    ----------
    layer : LoRALinear
    x : Tensor, shape (..., k)

    Returns
    -------
    Tensor, shape (..., d)
        Only x, A and B get gradients, of any order.
    """
    W0, bias = layer.base.weight, layer.base.bias
    A, B, s = layer.A, layer.B, layer.scale
    if not _learns(layer, x):
        return F.linear(x, torch.addmm(W0, B, A, alpha=s), bias)
    rows = x.flatten(0, -2)
    y: Tensor = _Summed.apply(  # type: ignore[no-untyped-call]
        rows, W0, bias, A, B, s
    )
    return y.view(*x.shape[:-1], len(W0))


class _Summed(torch.autograd.Function):
    """The product for x (N, k)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        W0: Tensor,
        bias: Tensor | None,
        A: Tensor,
        B: Tensor,
        s: float,
    ) -> Tensor:
        sum_first = len(x) > x.shape[1]  # N > k
        z = None if sum_first else F.linear(x, A)  # (N, r)
        ctx.save_for_backward(x, W0, A, B, z)
        ctx.s = s
        if z is None:
            return F.linear(x, torch.addmm(W0, B, A, alpha=s), bias)
        return torch.addmm(F.linear(x, W0, bias), z, B.T, alpha=s)

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Tensor | None, ...]:
        x, W0, A, B, z = ctx.saved_tensors
        # The saved z has no history, which a second derivative would need.
        if z is None or torch.is_grad_enabled():
            z = F.linear(x, A)
        z_bar, x_bar = ctx.s * (y_bar @ B), None  # (N, r)
        if ctx.needs_input_grad[0]:
            if len(x) > len(W0):  # N > d
                x_bar = y_bar @ torch.addmm(W0, B, A, alpha=ctx.s)
            else:
                x_bar = torch.addmm(y_bar @ W0, z_bar, A)
        B_bar = ctx.s * (y_bar.T @ z)
        return x_bar, None, None, z_bar.T @ x, B_bar, None
