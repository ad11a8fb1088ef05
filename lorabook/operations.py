"""Which of PyTorch's operations multiply matrices, and how much they do.

A counter that does not know an operation must not pass over it as if it were
free. PyTorch's own counter knows products of matrices, convolutions and the
attention of GPUs; `FORMULAS` adds what it leaves out or gets wrong. Whatever
else looks like a product by its name is refused by `check`, so an operation
of a later PyTorch is refused too until somebody has looked at it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_ATTENTION = F.scaled_dot_product_attention
Shape = Sequence[int]

# Parts of names, between underscores, of operations that multiply and add
# across entries.
_PRODUCT = re.compile(
    r"(?:^|_)(?:mm|bmm|addmm|baddbmm|addbmm|sspaddmm|hspmm|mv|addmv|dot|vdot"
    r"|addr|matmul|linear|bilinear|trilinear|conv|conv[123]d|convolution"
    r"|attention|encoder|rnn|lstm|gru|cdist|pdist|euclidean|affine_grid"
    r"|matrix_exp|pinv|fft_[cr]2[cr])(?:_|$)"
)
_FACTORISATION = re.compile(
    r"linalg_|cholesky|triangular_solve|lu_(?:unpack|solve)|_spsolve"
    r"|(?:^|_)(?:geqrf|ormqr)$"
)
# These look like one of the above, yet work entry by entry, or only move
# numbers.
_HARMLESS = re.compile(
    r"_thnn_fused_(?:lstm|gru)_cell|_cudnn_rnn_flatten_weight"
    r"|linalg_(?:vector_norm|_powsum|cross|check_errors)"
)
# `prim` asks for properties of tensors, `profiler` notes a name for what an
# optimiser does; the others send tensors about.
_NAMESPACES = ("aten", "prim", "profiler", "c10d", "_c10d_functional")


def check(
    operation: Any, args: Sequence[Any], known: Mapping[Any, Any], lapack: bool
) -> None:
    """Refuse an operation that would be counted wrong.

    Parameters
    ----------
    operation : torch._ops.OpOverload or torch._ops.HigherOrderOperator
        What is about to run.
    args : sequence
        Its positional arguments.
    known : mapping
        The operations that have a formula.
    lapack : bool
        Whether factorisations and solvers may pass.

    Raises
    ------
    ValueError
        In one sentence, with the name of the operation.
    """
    packet = getattr(operation, "overloadpacket", operation)
    if packet is aten.mul and not _outer(*args[:2]):
        return
    if packet in known:
        for t in args:
            if isinstance(t, torch.Tensor):
                _check_tensor(t, str(packet))
        return
    namespace = getattr(operation, "namespace", "higher_order")
    if namespace not in _NAMESPACES:
        raise ValueError(
            f"the operations of {namespace}::{_name(operation)} are unknown: "
            "torch.utils.flop_counter.register_flop_formula can tell"
        )
    name = _name(operation)
    if _HARMLESS.search(name):
        return
    if _PRODUCT.search(name):
        raise ValueError(f"the operations of {packet} are not counted")
    if _FACTORISATION.search(name) and not lapack:
        raise ValueError(
            f"the operations of {packet} are not counted: pass "
            "products_only=True to leave out factorisations and solvers"
        )


def _name(operation: Any) -> str:
    # aten::mm.out is called "aten::mm", an operator of higher order "cond".
    return str(operation.name()).split("::")[-1].split(".")[0]


def _check_tensor(t: torch.Tensor, name: str) -> None:
    if t.layout != torch.strided:
        raise ValueError(
            f"the operations of {name} are counted for dense tensors only, "
            f"got {t.layout}"
        )
    # One complex multiply-add is four real ones.
    if t.is_complex():
        raise ValueError(
            f"the operations of {name} are counted for real numbers only, "
            f"got {t.dtype}"
        )


def _dot(a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a)


def _mv(a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a)


def _addmv(y: Shape, a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a)


def _addr(M: Shape, a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a) * prod(b)


def _mm(a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a) * b[-1]


def _addbmm(M: Shape, a: Shape, b: Shape, **_: Any) -> int:
    return 2 * prod(a) * b[-1]


def _outer(a: Any, b: Any) -> bool:
    """Tell whether a product of entries spreads each side over the other.

    So is an outer product written; the gradient of a matrix-vector product is
    one.
    """
    for t in (a, b):
        if (
            not isinstance(t, torch.Tensor)
            or t.layout != torch.strided
            or t.is_nested
        ):
            return False
    both = np.broadcast_shapes(a.shape, b.shape)
    widest: int = max(prod(a.shape), prod(b.shape))
    return prod(both) > widest


def _mul(a: Any, b: Any, *, out_val: torch.Tensor, **_: Any) -> int:
    """Count an outer product like the product of matrices that it is."""
    return 2 * out_val.numel() if _outer(a, b) else 0


# What PyTorch's counter looks for: the formula wants tensors, not shapes.
_mul._get_raw = True  # type: ignore[attr-defined]


def _trilinear(
    a: Shape,
    b: Shape,
    c: Shape,
    expand_a: Sequence[int],
    expand_b: Sequence[int],
    expand_c: Sequence[int],
    summed: Sequence[int],
    unroll: int = 1,
    **_: Any,
) -> int:
    """Count what bilinear layers call: a times b, and that times c.

    The three tensors get the axes that they lack (``expand_...``); the whole
    is done once for each index of the axis `unroll`.
    """
    axes = set(range(len(a) + len(expand_a)))
    sizes: dict[int, int] = {}
    own = []
    for shape, missing in ((a, expand_a), (b, expand_b), (c, expand_c)):
        mine = sorted(axes - set(missing))
        sizes |= dict(zip(mine, shape, strict=True))
        own.append(set(mine) - {unroll})
    left, right, last = own
    first = set(summed) - last - {unroll}  # summed before c comes in
    second = set(summed) - first - {unroll}
    pairs = ((left, right, first), ((left | right) - first, last, second))
    total = 0
    for x, y, gone in pairs:
        # Without a sum it is a product of entries, free unless it is outer.
        if gone or not (x <= y or y <= x):
            total += 2 * prod(sizes[i] for i in x | y)
    return sizes[unroll] * total


def _attention(q: Shape, k: Shape, v: Shape, *_: Any, **__: Any) -> int:
    """Count the scores and the mean of the values, masked or not."""
    return 2 * prod(q[:-1]) * k[-2] * (q[-1] + v[-1])


def _attention_backward(
    grad: Shape, q: Shape, k: Shape, v: Shape, *_: Any, **__: Any
) -> int:
    """Count five products: the scores again, and the four gradients."""
    return 2 * prod(q[:-1]) * k[-2] * (3 * q[-1] + 2 * v[-1])


def _convolution_backward(
    grad: Shape,
    x: Shape,
    weight: Shape,
    *settings: Any,
    **_: Any,
) -> int:
    """Count one pass for the input's gradient and one for the weight's.

    PyTorch's own formula forgets the groups.
    """
    transposed, mask = settings[4], settings[7]
    places = (x if transposed else grad)[2:]
    once = 2 * x[0] * prod(weight) * prod(places)
    return once * (bool(mask[0]) + bool(mask[1]))


def _mkldnn_rnn(x: Shape, w_x: Shape, w_h: Shape, *_: Any, **__: Any) -> int:
    """Count one layer in one direction: two products for each token."""
    return 2 * prod(x[:-1]) * (prod(w_x) + prod(w_h))


def _cudnn_rnn(x: Shape, weights: Sequence[Shape], *rest: Any) -> int:
    # Tokens: those of a packed batch, or steps times sequences.
    return 2 * prod(x[:-1]) * sum(prod(w) for w in weights if len(w) > 1)


def _twice(formula: Callable[..., int]) -> Callable[..., int]:
    """Count a backward pass: the gradients of both factors."""
    return lambda *args, **_: 2 * formula(*args)


FORMULAS: dict[Any, Callable[..., int]] = {
    aten.dot: _dot,
    aten.vdot: _dot,
    aten.mv: _mv,
    aten.addmv: _addmv,
    aten.addmv_: _addmv,
    aten.addr: _addr,
    aten.addr_: _addr,
    aten.addmm_: lambda M, a, b, **_: _mm(a, b),
    aten.baddbmm_: lambda M, a, b, **_: _mm(a, b),
    aten.addbmm: _addbmm,
    aten.addbmm_: _addbmm,
    aten._int_mm: _mm,
    aten.mul: _mul,
    aten._trilinear: _trilinear,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        _attention_backward
    ),
    aten.convolution_backward: _convolution_backward,
    aten.mkldnn_rnn_layer: _mkldnn_rnn,
    aten.mkldnn_rnn_layer_backward: _twice(_mkldnn_rnn),
    aten._cudnn_rnn: lambda x, weights, *_, **__: _cudnn_rnn(x, weights),
    aten._cudnn_rnn_backward: _twice(_cudnn_rnn),
}


class AttentionAsOnCPU(TorchFunctionMode):
    """Let attention on the device ``meta`` do what it would do on the CPU.

    There PyTorch takes it apart in any case, and so saves its scores.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one function."""
        if func is _ATTENTION:
            func = _attention_as_on_cpu
        # While this runs the mode is off, and the layer calls by this name.
        with patch.object(
            F, "scaled_dot_product_attention", _attention_as_on_cpu
        ):
            return func(*args, **(kwargs or {}))


class _Names(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Note what runs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[Any] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        self.seen.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))


def _attention_as_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> torch.Tensor:
    given = (query, key, value, attn_mask)
    if not query.is_meta:
        return _ATTENTION(*given, dropout_p, is_causal, **options)
    flash = aten._scaled_dot_product_flash_attention_for_cpu
    # PyTorch chooses, for tensors that only claim to be on the CPU.
    with torch.no_grad(), FakeTensorMode():
        twins: list[Any] = [
            None
            if t is None
            else torch.empty_strided(
                t.shape, t.stride(), dtype=t.dtype, device="cpu"
            ).requires_grad_(t.requires_grad)
            for t in given
        ]
        with _Names() as names:
            q, k, v, mask = twins
            _ATTENTION(q, k, v, mask, dropout_p, is_causal, **options)
    if flash not in names.seen:
        return _ATTENTION(*given, dropout_p, is_causal, **options)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
    out: torch.Tensor = flash(
        query,
        key,
        value,
        dropout_p,
        is_causal,
        attn_mask=attn_mask,
        scale=options.get("scale"),
    )[0]
    return out
