"""Adapters in a whole model: find layers, adapt them, turn them off, merge.

Layers are named as `nn.Module.named_modules` names them. What is refused is
refused in one sentence that begins with the name of the layer, and leaves the
model as it was.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from lorabook import bases
from lorabook.layers import (
    LoRAConv1D,
    LoRAConv2d,
    LoRAEmbedding,
    LoRAFused,
    LoRALayer,
    LoRALinear,
    Scaling,
)

Target = str | re.Pattern[str]
Targets = Iterable[str] | re.Pattern[str] | Literal["all-linear"]

# The kind of adapter for each kind of layer; Hugging Face's Conv1D comes in
# when its library has been imported. Enter your own kinds here.
ADAPTED: dict[type[nn.Module], type[LoRALayer]] = {
    nn.Linear: LoRALinear,
    bases.QuantizedLinear: LoRALinear,
    nn.Embedding: LoRAEmbedding,
    nn.Conv2d: LoRAConv2d,
}


def kind_of(module: nn.Module) -> type[LoRALayer] | None:
    """Return the kind of adapter for a layer, by the nearest of its types."""
    adapted = ADAPTED | dict.fromkeys(bases.conv1d(), LoRAConv1D)
    return next(
        (adapted[t] for t in type(module).__mro__ if t in adapted), None
    )


def adapt(
    base: nn.Module,
    r: int,
    alpha: float,
    *,
    dropout: float = 0.0,
    scaling: Scaling = "alpha/r",
    parts: Sequence[bool] | None = None,
    sizes: Sequence[int] | None = None,
) -> LoRALayer:
    """Return the adapter of the kind that fits a layer.

    Parameters
    ----------
    base : nn.Module
        The layer to adapt. It is kept, not copied, and frozen in place.
    r, alpha, dropout, scaling
        As in `LoRALayer`.
    parts, sizes
        As in `LoRAFused`, which is used if `parts` is given.

    Returns
    -------
    LoRALayer

    Raises
    ------
    TypeError
        If there is no adapter for such a layer.
    ValueError
        If a setting is not allowed. In either case `base` is as it was.
    """
    if isinstance(base, LoRALayer):
        raise TypeError(
            "the layer has an adapter: merge it, or resize it, or adapt "
            "another layer"
        )
    if parts is not None:
        return LoRAFused(base, r, alpha, parts, sizes, dropout, scaling)
    if sizes is not None:
        raise ValueError("sizes are those of parts: need parts too")
    kind = kind_of(base)
    if kind is None:
        allowed = [t.__name__ for t in ADAPTED]
        raise TypeError(
            f"there is no adapter for a {type(base).__name__}; there are some "
            f"for {', '.join(allowed)} and Conv1D"
        )
    return kind(base, r, alpha, dropout, scaling)


# Which layers?


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return all modules under all names, but nothing from inside a layer."""
    found: dict[str, nn.Module] = {}
    inside = "\0"
    for name, module in model.named_modules(remove_duplicate=False):
        if not name.startswith(inside):
            found[name] = module
            if isinstance(module, LoRALayer) or kind_of(module):
                inside = f"{name}." if name else ""
    return found


def _matches(name: str, target: Target) -> bool:
    if isinstance(target, str):
        return name == target or name.endswith(f".{target}")
    return target.fullmatch(name) is not None


def find(model: nn.Module, targets: Targets) -> dict[str, nn.Module]:
    """Return the layers of a model that are meant.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    targets : iterable of str, re.Pattern, or "all-linear"
        Names: whole ones, or their last parts, such as ``"q"`` or
        ``"attention.q"`` for ``"blocks.0.attention.q"``. Each must be there.
        A single name need not stand in a list.

        A pattern: all layers that can be adapted and whose whole names match
        all of it.

        ``"all-linear"``: all linear layers that have no adapter yet, but for
        the output layer of a model that names one
        (``get_output_embeddings``), as in PEFT. If the model holds matrices
        outside any layer, as attention and experts sometimes do, a warning
        names them: they are left out.

    Returns
    -------
    dict of str to nn.Module
        By whole names, in the order of the model; a layer that is used under
        several names, under each that is meant.

    Raises
    ------
    ValueError
        If nothing is meant, or a name is not there.
    """
    return _find(model, targets)


def _find(model: nn.Module, targets: Targets) -> dict[str, nn.Module]:
    names = modules_of(model)
    if isinstance(targets, str) and targets == "all-linear":
        return _all_linear(model, names)
    names.pop("", None)
    if isinstance(targets, re.Pattern):
        found = {
            name: module
            for name, module in names.items()
            if _matches(name, targets)
            and (isinstance(module, LoRALayer) or kind_of(module))
        }
        missing = [] if found else [f"{targets.pattern!r}"]
    else:
        wanted = [targets] if isinstance(targets, str) else list(targets)
        found = {
            name: module
            for name, module in names.items()
            if any(_matches(name, target) for target in wanted)
        }
        missing = [
            target or "''"
            for target in wanted
            if not any(_matches(name, target) for name in found)
        ]
    if missing or not found:
        allowed = {
            n.rpartition(".")[2]: 0 for n, m in names.items() if kind_of(m)
        }
        raise ValueError(
            f"no layer is named {', '.join(missing) or 'by targets'}; layers "
            f"that can be adapted are named {', '.join(allowed)}"
        )
    return found


def _all_linear(
    model: nn.Module, names: dict[str, nn.Module]
) -> dict[str, nn.Module]:
    output = getattr(model, "get_output_embeddings", lambda: None)()
    found = {
        name: module
        for name, module in names.items()
        if kind_of(module) in (LoRALinear, LoRAConv1D)
        if name and module is not output
    }
    if not found:
        raise ValueError("the model has no linear layer without an adapter")
    loose = [
        f"{name}.{key}".lstrip(".")
        for name, module in names.items()
        for key, p in module._parameters.items()
        if _is_map(p)
        if not (isinstance(module, LoRALayer | _ConvNd) or kind_of(module))
    ]
    if loose:
        warnings.warn(
            f"all-linear leaves out what is in no linear layer: {loose}",
            stacklevel=4,  # the line that called find or inject
        )
    return found


# What would go past an adapter?


def check_alone(model: nn.Module, found: dict[str, nn.Module]) -> None:
    """Refuse layers that are used where their adapter would not be."""
    adapters: dict[int, str] = {}
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    holders: dict[int, tuple[str, str]] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoRALayer):
            adapters[id(module.base)] = name
        for p in filter(_is_map, module._parameters.values()):
            owners.setdefault(id(p), []).append((name, module))
        for key in vars(module).keys() - _INTERNALS:
            for held in _elements(vars(module)[key]):
                # A bound method holds its layer too.
                layer = getattr(held, "__self__", held)
                holders[id(layer)] = name or "the model", key
    for name, layer in found.items():
        if id(layer) in adapters:
            raise ValueError(
                f"{name}: it is the base of the adapter {adapters[id(layer)]}"
            )
        inside = set(layer.modules())
        for p in layer.parameters():
            for other, module in owners.get(id(p), []):
                if module not in inside:
                    raise ValueError(
                        f"{name}: its weight is tied to that of {other}, "
                        "which would not have the update; give it a copy of "
                        "its own, or adapt another layer"
                    )
        if id(layer) in holders:
            other, key = holders[id(layer)]
            raise ValueError(
                f"{name}: {other} also holds it in {key!r}, where the adapter "
                "would be bypassed; keep it as a submodule only"
            )


_INTERNALS = vars(nn.Module()).keys()


def _elements(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple | set) else (value,)


def _is_map(p: Tensor | None) -> bool:
    """Tell a matrix from a bias; a leading 1 is a token's or a position's."""
    return p is not None and not is_lazy(p) and p.ndim > 1 and len(p) > 1


# Adapters in a model


def inject(
    model: nn.Module,
    r: int | Mapping[Target, int],
    alpha: float | Mapping[Target, float],
    targets: Targets,
    dropout: float = 0.0,
    scaling: Scaling = "alpha/r",
    parts: Sequence[bool] | None = None,
    sizes: Sequence[int] | None = None,
) -> dict[str, LoRALayer]:
    """Freeze a model, and give adapters to some of its layers.

    Parameters
    ----------
    model : nn.Module
        It is changed in place: each layer that is meant becomes an adapter
        around itself, under all its names, and all parameters are frozen but
        those of adapters. A second call adds adapters; those of the first go
        on learning. An optimizer that was made before knows none of them.
    r, alpha
        As in `LoRALayer`: one for all, or by name or pattern, as in `find`.
        The first key that matches decides. Each layer must have one, and
        each key a layer.
    targets
        As in `find`.
    dropout, scaling, parts, sizes
        As in `adapt`, the same for every layer.

    Returns
    -------
    dict of str to LoRALayer
        The new layers by their whole names, in the order of the model; a
        shared layer once, under its first name.

    Raises
    ------
    TypeError
        If there is no adapter for a layer.
    ValueError
        If nothing is meant, a setting is not allowed, or a layer's weight is
        also used elsewhere. Whatever is raised, the model is as it was.
    """
    found = _find(model, targets)
    check_alone(model, found)
    meant = distinct(model, found)
    ranks, alphas = _by_name("r", r, meant), _by_name("alpha", alpha, meant)

    def build(name: str, base: nn.Module) -> LoRALayer:
        return adapt(
            base,
            ranks[name],
            alphas[name],
            dropout=dropout,
            scaling=scaling,
            parts=parts,
            sizes=sizes,
        )

    return install(model, meant, build)


def distinct(
    model: nn.Module, found: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """Return each module once, under the first of its names in the model."""
    first = {id(m): n for n, m in reversed(modules_of(model).items())}
    return {first[id(module)]: module for module in found.values()}


def install(
    model: nn.Module,
    meant: Mapping[str, nn.Module],
    build: Callable[[str, nn.Module], LoRALayer],
) -> dict[str, LoRALayer]:
    """Freeze a model, and put the adapters that are built in their places.

    Parameters
    ----------
    model : nn.Module
        It is changed in place, or not at all if anything is raised.
    meant : mapping of str to nn.Module
        The layers to adapt, as `distinct` names them.
    build : callable
        Returns the adapter of the layer of a name.

    Returns
    -------
    dict of str to LoRALayer
        The new layers.
    """
    new: dict[str, LoRALayer] = {}
    with bases.restored(model):
        for name, base in meant.items():
            with _named(name):
                new[name] = build(name, base)
        factors = {
            p for layer in layers(model).values() for p in (layer.A, layer.B)
        }
        for p in set(model.parameters()) - factors:
            p.requires_grad_(False)
        _replace(model, {layer.base: layer for layer in new.values()})
    return new


def _by_name(setting: str, value: Any, names: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    chosen = {}
    for name in names:
        keys = [key for key in value if _matches(name, key)]
        if not keys:
            raise ValueError(f"{name}: no key of {setting} matches it")
        chosen[name] = keys[0]
    unused = [key for key in value if key not in chosen.values()]
    if unused:
        raise ValueError(f"{unused}: these keys of {setting} decide nothing")
    return {name: value[key] for name, key in chosen.items()}


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the name of the layer before what is wrong with it."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def _replace(model: nn.Module, new: Mapping[nn.Module, nn.Module]) -> None:
    """Put new modules in the place of old ones, everywhere or nowhere."""
    places = [
        (parent, key, child)
        for parent in model.modules()
        for key, child in parent._modules.items()
        if child is not None and child in new
    ]
    try:
        for parent, key, child in places:
            setattr(parent, key, new[child])
    except BaseException:
        for parent, key, child in places:
            setattr(parent, key, child)
        raise


def layers(model: nn.Module) -> dict[str, LoRALayer]:
    """Return the adapters of a model by their whole names.

    A shared one stands under its first name only.
    """
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LoRALayer)
    }


def _adapters(model: nn.Module) -> dict[str, LoRALayer]:
    found = layers(model)
    if not found:
        raise ValueError("the model has no adapters: need inject first")
    return found


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Compute without the adapters, as the frozen model does.

    Afterwards each is on or off as it was before. A forward pass that is
    checkpointed must have its backward pass inside too, where it is repeated.

    Raises
    ------
    ValueError
        If the model has no adapters.
    """
    found = _adapters(model).values()
    enabled = [layer.enabled for layer in found]
    try:
        for layer in found:
            layer.enabled = False
        yield
    finally:
        for layer, was in zip(found, enabled, strict=True):
            layer.enabled = was


def merge(model: nn.Module) -> nn.Module:
    """Replace all adapters by plain layers of weight W0 + ΔW, still frozen.

    Parameters
    ----------
    model : nn.Module
        It is changed in place. For a moment there are two copies of the
        weights that are adapted. In 16 bits read what `LoRALayer.merge` says.

    Returns
    -------
    nn.Module
        The model, or the plain layer if `model` itself is an adapter.

    Raises
    ------
    ValueError
        If the model has no adapters, or one of them cannot be merged. The
        model is then as it was.
    """
    new: dict[nn.Module, nn.Module] = {}
    for name, layer in _adapters(model).items():
        with _named(name):
            new[layer] = layer.merge()
    if isinstance(model, LoRALayer):
        return new[model]
    _replace(model, new)
    return model


def state(model: nn.Module) -> dict[str, Tensor]:
    """Return what the adapters have learned, without the frozen weights.

    Returns
    -------
    dict of str to Tensor
        ``"NAME.A"`` and ``"NAME.B"`` for the layers NAME, as in the model's
        own ``state_dict``: detached, not copied.

    Raises
    ------
    ValueError
        If the model has no adapters.
    """
    return {
        f"{name}.{key}".lstrip("."): p.detach()
        for name, layer in _adapters(model).items()
        for key, p in (("A", layer.A), ("B", layer.B))
    }
