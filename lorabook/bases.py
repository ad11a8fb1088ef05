"""The layers that can be adapted, and what they compute with.

An adapter is silent where its base is not what it seems: where a subclass
computes something else, where the weight is packed, or is derived anew from
other numbers in each forward pass. Such a base is read rightly or refused.
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Hooks that compute the weight before each forward pass, instead of watching.
DERIVING = (BasePruningMethod, SpectralNorm, WeightNorm)
HOOKS = (
    "_forward_pre_hooks",
    "_forward_hooks",
    "_backward_pre_hooks",
    "_backward_hooks",
)


def conv1d() -> tuple[type[nn.Module], ...]:
    """Return Hugging Face's Conv1D, or nothing if no model can have one.

    Its library is not imported here: it is large, and a model that has such a
    layer has imported it.
    """
    library = sys.modules.get("transformers.pytorch_utils")
    return () if library is None else (library.Conv1D,)


def has_hooks(module: nn.Module) -> bool:
    """Tell whether a call of the module does more than its class says."""
    watched = any(
        not isinstance(hook, DERIVING)
        for name in HOOKS
        for hook in getattr(module, name).values()
    )
    return watched or "forward" in vars(module)


def is_derived(base: nn.Module) -> bool:
    """Tell whether the weight is computed from other numbers."""
    return "weight" not in base._parameters


def check_base(base: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
    """Raise TypeError unless an adapter beside `base` would be right.

    Parameters
    ----------
    base : nn.Module
        It is not changed.
    kinds : tuple of type
        The allowed kinds of layers.

    Raises
    ------
    TypeError
        With one sentence: what is wrong, and what is allowed.
    """
    own = type(base).__name__
    allowed = " or ".join(kind.__name__ for kind in kinds) or "Conv1D"
    kind = next((k for k in kinds if isinstance(base, k)), None)
    if kind is None:
        raise TypeError(f"need a layer of the kind {allowed}, got a {own}")
    if isinstance(base, nn.modules.lazy.LazyModuleMixin):
        raise TypeError(
            f"the {own} has no weight yet: run a batch through it first"
        )
    for method in ("forward", "_conv_forward"):
        if getattr(type(base), method, None) is not getattr(
            kind, method, None
        ):
            raise TypeError(
                f"the {own} has a {method} of its own, beside which an "
                f"adapter for {kind.__name__} would be wrong: enter a "
                "LoRALayer for it in lorabook.adapters.ADAPTED"
            )
    if has_hooks(base):
        raise TypeError(
            f"the {own} has hooks or a replaced forward, which would see its "
            "output without the update: remove them, and put them on the "
            "adapter"
        )
    if is_derived(base) and not (
        isinstance(base, QuantizedLinear)
        or parametrize.is_parametrized(base, "weight")
        or any(
            isinstance(hook, DERIVING)
            for hook in base._forward_pre_hooks.values()
        )
    ):
        raise TypeError(
            f"the weight of the {own} is no parameter, nor made by "
            "torch.nn.utils (parametrize, prune, weight_norm, spectral_norm)"
        )
    if getattr(base, "max_norm", None) is not None:
        raise TypeError(
            f"the {own} rewrites its weight as it runs: need max_norm=None"
        )
    W = weight_of(base)
    _check_weight(W, own, 4 if kind is nn.Conv2d else 2)
    if torch.is_inference_mode_enabled() or any(
        t.is_inference() for t in (W, *base.buffers())
    ):
        raise TypeError(
            f"the {own} is adapted or was made inside inference_mode, where "
            "nothing can learn: need to do so outside"
        )


def _check_weight(W: object, own: str, ndim: int) -> None:
    if not isinstance(W, Tensor):
        raise TypeError(f"the weight of the {own} is a {type(W).__name__}")
    if W.dtype not in FLOATS:
        floats = ", ".join(
            str(dtype).removeprefix("torch.") for dtype in FLOATS
        )
        raise TypeError(
            f"the weight of the {own} is quantised or no real number: it "
            f"holds {str(W.dtype).removeprefix('torch.')}, allowed are "
            f"{floats}"
        )
    if W.layout is not torch.strided or is_traceable_wrapper_subclass(W):
        raise TypeError(
            f"the weight of the {own} is sparse, packed or spread over "
            f"devices ({type(W).__name__}, {W.layout}): need a dense tensor"
        )
    if W.ndim != ndim or W.numel() == 0:
        raise TypeError(
            f"the weight of the {own} has the shape {tuple(W.shape)}: need "
            f"{ndim} dimensions, none of them 0"
        )


@contextmanager
def _still(base: nn.Module) -> Iterator[None]:
    """Let the weight be read: in training spectral_norm would move on."""
    modes = {module: module.training for module in base.modules()}
    for module in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def weight_of(base: nn.Module) -> Tensor:
    """Return the weight of the next call; this look at it changes nothing."""
    with _still(base):
        before = _derived(base)
        _derive(base)
        W: Tensor = base.weight  # type: ignore[assignment]
        vars(base).update(before)
        return W


def freeze(base: nn.Module) -> None:
    """Freeze the layer, in place."""
    base.requires_grad_(False)
    with _still(base):
        _derive(base)  # for what was derived before still has a gradient


def _derive(base: nn.Module) -> None:
    """Run the hooks that compute the weight, as the next call would."""
    for hook in base._forward_pre_hooks.values():
        if isinstance(hook, DERIVING):
            hook(base, ())


def _derived(module: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in vars(module).items() if isinstance(v, Tensor)}


@contextmanager
def restored(*modules: nn.Module) -> Iterator[None]:
    """Undo what the block freezes if it fails, for whatever reason."""
    flags = {p: p.requires_grad for m in modules for p in m.parameters()}
    derived = {part: _derived(part) for m in modules for part in m.modules()}
    try:
        yield
    except BaseException:
        for p, flag in flags.items():
            if p.requires_grad != flag:
                p.requires_grad_(flag)
        for part, tensors in derived.items():
            vars(part).update(tensors)
        raise


@torch.no_grad()
def plain_copy(base: nn.Module) -> nn.Module:
    """Return the layer without whatever derives its weight, and frozen.

    Parametrizations, pruning, weight_norm and spectral_norm leave what they
    compute at present, a quantised layer its dequantised weight. `base` is
    not changed.
    """
    if isinstance(base, QuantizedLinear):
        return base.plain()
    with _still(base):
        before = _derived(base)
        _derive(base)
        numbers = {
            name: getattr(base, name)
            for name in ("weight", "bias")
            if hasattr(base, name)
        }
        vars(base).update(before)
    # Not deepcopy: it shares the class that parametrize makes for `base`,
    # and to remove the copy's parametrizations would break the original.
    kind = type(base)
    if parametrize.is_parametrized(base):
        kind = kind.__mro__[1]
    plain = kind.__new__(kind)
    nn.Module.__init__(plain)
    internals = vars(plain).keys()
    for key, value in vars(base).items():
        if key not in internals and not isinstance(value, Tensor):
            vars(plain)[key] = value
    plain.training = base.training
    for name, value in numbers.items():
        if value is not None:
            value = nn.Parameter(value.clone(), requires_grad=False)
        plain.register_parameter(name, value)
    return plain


class Quantized(ABC):
    """A tensor that is held in fewer bits than it is used in.

    A subclass is a dataclass: first the tensors that it consists of, or None,
    then settings. `lorabook.quantize` has some.

    Attributes
    ----------
    shape : torch.Size
        That of the tensor that it stands for.
    """

    shape: torch.Size

    @abstractmethod
    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the numbers that it stands for."""

    def tensors(self) -> dict[str, Tensor | None]:
        """Return what it consists of."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {
            name: value
            for name, value in found.items()
            if value is None or isinstance(value, Tensor)
        }

    @property
    def nbytes(self) -> int:
        """Bytes of all that it consists of."""
        return sum(t.nbytes for t in self.tensors().values() if t is not None)

    @property
    def bits(self) -> float:
        """Bits for each number, scales included; 0 if there is none."""
        return 8 * self.nbytes / max(math.prod(self.shape), 1)


class QuantizedLinear(nn.Module, ABC):
    """A frozen linear layer that holds its weight in fewer bits.

    It computes, bit for bit, what an `nn.Linear` with the dequantised weight
    does. That weight exists only while it multiplies: it is made anew in each
    forward and backward pass, and what is kept in between is packed.

    A change of dtype, as by ``layer.to(torch.bfloat16)``, changes the format
    that it computes in, and not a bit of what it holds.

    Parameters
    ----------
    weight : Quantized
        The weight (d, k). Its tensors become buffers of the same names.
    bias : Tensor, shape (d,), optional
        Copied, and frozen.
    dtype : torch.dtype
        The format to compute in, that of the input.

    Attributes
    ----------
    in_features, out_features : int
        k and d.

    Raises
    ------
    ValueError
        If the weight is no matrix.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        weight: Quantized,
        bias: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if len(weight.shape) != 2:
            raise ValueError(
                f"need a weight (d, k), got the shape {tuple(weight.shape)}"
            )
        self.out_features, self.in_features = weight.shape
        self.dtype = dtype
        tensors = weight.tensors()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)
        settings = {k: v for k, v in vars(weight).items() if k not in tensors}
        self._names = tuple(tensors)
        self._held: Callable[..., Quantized] = partial(
            type(weight), **settings
        )
        if bias is not None:
            bias = bias.detach().clone().to(dtype)
            bias = nn.Parameter(bias, requires_grad=False)
        self.register_parameter("bias", bias)

    @classmethod
    def from_linear(cls, linear: nn.Linear, **settings: Any) -> Self:
        """Quantise a layer; it is not changed.

        Parameters
        ----------
        linear : nn.Linear
            On any device, ``meta`` included.
        **settings
            Those of the format.

        Returns
        -------
        QuantizedLinear
            With the dtype of `linear`, and in its mode.

        Raises
        ------
        TypeError
            If it is no `nn.Linear`, or one whose weight is not what it seems.
        ValueError
            If the weight is not finite, or a setting is not allowed.
        """
        check_base(linear, (nn.Linear,))
        W = weight_of(linear)
        layer = cls(cls.quantize(W, **settings), linear.bias, W.dtype)
        return layer.train(linear.training)

    @staticmethod
    @abstractmethod
    def quantize(W: Tensor, **settings: Any) -> Quantized:
        """Return a weight in the format of this kind of layer."""

    @property
    def quantized(self) -> Quantized:
        """The weight as it is held."""
        return self._held(*(getattr(self, name) for name in self._names))

    def dequantized(self) -> Tensor:
        """Return the weight (d, k), in the dtype of the layer."""
        return self.quantized.dequantized(self.dtype)

    @property
    def weight(self) -> Tensor:
        """The dequantised weight, made anew: what is written to it is lost."""
        return self.dequantized()

    def plain(self) -> nn.Linear:
        """Return the same layer with its weight dequantised, and frozen."""
        d, k, W = self.out_features, self.in_features, self.dequantized()
        linear = nn.Linear(k, d, self.bias is not None, "meta", self.dtype)
        linear.weight = nn.Parameter(W, requires_grad=False)
        if self.bias is not None:
            bias = self.bias.detach().clone()
            linear.bias = nn.Parameter(bias, requires_grad=False)
        return linear.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., k) to (..., d)."""
        tensors = (getattr(self, name) for name in self._names)
        y: Tensor = _Dequantized.apply(  # type: ignore[no-untyped-call]
            x, self.bias, self.dtype, self._held, *tensors
        )
        return y

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> Self:
        """Move all tensors, but keep the dtype of what holds the weight."""
        held = {name: getattr(self, name) for name in self._names}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, old in held.items():
            if old is not None and getattr(self, name).dtype != old.dtype:
                setattr(self, name, old.to(getattr(self, name).device))
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return self

    def extra_repr(self) -> str:
        """Describe the layer in one line."""
        return (
            f"in_features={self.in_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}, "
            f"bits={self.quantized.bits:.4g}"
        )


class _Dequantized(torch.autograd.Function):
    """The product with a weight that exists only while it is used."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        held: Callable[..., Quantized],
        *tensors: Tensor | None,
    ) -> Tensor:
        return F.linear(x, held(*tensors).dequantized(dtype), bias)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        _, _, _, ctx.held, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, y_bar: Tensor) -> tuple[Tensor | None, ...]:
        x_bar = bias_bar = None
        if ctx.needs_input_grad[0]:
            weight = ctx.held(*ctx.saved_tensors)
            # In the format of the product, which autocast may have chosen.
            x_bar = y_bar @ weight.dequantized(y_bar.dtype)
        if ctx.needs_input_grad[1]:
            bias_bar = y_bar.reshape(-1, y_bar.shape[-1]).sum(0)
        return (x_bar, bias_bar, *(None for _ in ctx.needs_input_grad[2:]))


def autocasts(device: str) -> bool:
    """Tell whether products on this kind of device are cast to 16 bits."""
    available = torch.amp.is_autocast_available(device)
    return available and torch.is_autocast_enabled(device)


def full_precision(device: str) -> AbstractContextManager[object]:
    """Let products keep the dtype of their factors, inside autocast too."""
    if autocasts(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


class StandIn(nn.Module):
    """A module around another, which code that reads that one can read."""

    base: Any

    @property
    def bias(self) -> Tensor | None:
        """The bias of `base`."""
        bias: Tensor | None = self.base.bias
        return bias

    def __getattr__(self, name: str) -> Any:
        """Look up a setting, such as `padding_idx`, in `base`."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base" or name.startswith("_"):
                raise
            value = getattr(self.base, name)
            # Neither a weight, nor a method that would compute with it.
            if callable(value) or isinstance(value, Tensor | nn.Module):
                raise
            return value
