"""The layers that can be adapted, and what they compute with.

An adapter is silent where its base is not what it seems: where a subclass
computes something else, where the weight is packed, or is derived anew from
other numbers in each forward pass. Such a base is read rightly or refused.
"""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
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
        parametrize.is_parametrized(base, "weight")
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
    _check_weight(weight_of(base), own, 4 if kind is nn.Conv2d else 2)


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
    if W.is_inference() or torch.is_inference_mode_enabled():
        raise TypeError(
            f"the {own} is adapted or was made inside inference_mode, where "
            "nothing can learn: need to do so outside"
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
    compute at present. `base` is not changed.
    """
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
