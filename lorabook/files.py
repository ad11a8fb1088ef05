"""Adapters in files: PEFT's format, and the checkpoints of loralib.

An adapter in PEFT's format is a folder of two files: numbers, and a
configuration that says where they belong. Whoever opens a folder of somebody
else's trusts neither: nothing is unpickled, no pattern is left to run, no
file outside the folder is read, and whatever is refused is refused in one
sentence, before the model is touched.
"""

import json
import math
import os
import re
import reprlib
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lorabook import adapters, bases
from lorabook.layers import (
    LoRAConv1D,
    LoRAConv2d,
    LoRAEmbedding,
    LoRALayer,
    LoRALinear,
    Scaling,
)
from lorabook.linalg import check_rank
from lorabook.patterns import Pattern

CONFIG, NUMBERS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
KINDS = (LoRALinear, LoRAConv1D, LoRAEmbedding, LoRAConv2d)
FLOATS = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
# How what stands in a file is shown: names whole, and nothing endless.
SHORT = reprlib.Repr()
SHORT.maxstring, SHORT.maxlist, SHORT.maxdict = 120, 3, 3
# Beyond any use, and before any harm.
LARGEST_CONFIG, MOST_PATTERNS = 2**22, 10_000


class AdapterError(ValueError):
    """What is no adapter, does not fit, or cannot be said in a file."""


# What a configuration may say


def _is_rank(value: object) -> bool:
    return type(value) is int and value > 0


def _is_alpha(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= sys.float_info.max  # type: ignore[operator]


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(n, str) for n in value)


def _is_pattern_of(holds: Callable[[object], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and len(value) <= MOST_PATTERNS
            and all(map(holds, value.values()))
        )
    )


# Each setting with a meaning here: what it may be, and that in words.
SETTINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "peft_type": (lambda v: v == "LORA", "'LORA'"),
    "r": (_is_rank, "a whole number from 1"),
    "lora_alpha": (_is_alpha, "a positive number"),
    "target_modules": (
        lambda v: isinstance(v, str) or _are_names(v),
        "a list of names, or a pattern",
    ),
    "exclude_modules": (
        lambda v: v is None or isinstance(v, str) or _are_names(v),
        "a list of names, or a pattern",
    ),
    "layers_to_transform": (
        lambda v: (
            v is None
            or type(v) is int
            or (isinstance(v, list) and all(type(i) is int for i in v))
        ),
        "a list of whole numbers",
    ),
    "layers_pattern": (
        lambda v: (
            v is None
            or v == ""
            or all(
                isinstance(w, str) and re.fullmatch(r"\w+", w)
                for w in (v if isinstance(v, list) else [v])
            )
        ),
        "names without dots or signs",
    ),
    "rank_pattern": (_is_pattern_of(_is_rank), "whole numbers from 1"),
    "alpha_pattern": (_is_pattern_of(_is_alpha), "positive numbers"),
    "lora_dropout": (
        lambda v: type(v) in (int, float) and 0 <= v < 1,
        "a number from 0 to below 1",
    ),
    "use_rslora": (lambda v: type(v) is bool, "true or false"),
    "fan_in_fan_out": (lambda v: type(v) is bool, "true or false"),
    "bias": (lambda v: v == "none", "'none'"),
    # Other starts, as PiSSA's, change the weights beside the factors.
    "init_lora_weights": (
        lambda v: (
            type(v) is bool or v in ("gaussian", "orthogonal", "eva", "mica")
        ),
        "a start that leaves the weights of the model as they are",
    ),
}
NEEDED = ("peft_type", "r", "lora_alpha", "target_modules")
# What says nothing about the numbers. No path in it is ever opened.
IGNORED = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}


@dataclass(frozen=True)
class _Adapter:
    """The numbers of one adapter, and how its layer is to be made."""

    A: Tensor
    B: Tensor
    settings: dict[str, Any]


# Saving


def save(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write the adapters of a model into a folder, in PEFT's format.

    ``peft.PeftModel.from_pretrained`` reads it, and so does `load`.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    folder : str or path
        It is made if it is not there. Its files ``adapter_config.json`` and
        ``adapter_model.safetensors`` are replaced.

    Raises
    ------
    AdapterError
        If the format cannot say what the model computes, or numbers that
        learn would not be saved. The folder is then as it was.
    """
    found = adapters.layers(model)
    if not found:
        raise AdapterError("the model has no adapters: need inject first")
    for name, layer in found.items():
        if not name:
            raise AdapterError(
                "the model is an adapter itself: need a module around it"
            )
        _check_sayable(name, layer)
    _check_placed_once(model, found)
    factors = {id(p) for m in found.values() for p in (m.A, m.B)}
    for name, p in model.named_parameters():
        if p.requires_grad and id(p) not in factors:
            raise AdapterError(
                f"{name}: it learns too, and would not be saved: freeze it, "
                "and save it yourself"
            )
    config = _config(model, found)
    tensors = {}
    for name, layer in found.items():
        keys = _keys(name, type(layer))
        shapes = _shapes(layer.base, layer.r)
        for key, shape, p in zip(
            keys, shapes, (layer.A, layer.B), strict=True
        ):
            number = p.detach().reshape(shape).cpu()
            tensors[key] = number.clone(memory_format=torch.contiguous_format)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise AdapterError(f"{folder}: need a folder, this is a file")
    text = json.dumps(config, indent=2, sort_keys=True)
    numbers = serialized(tensors, {"format": "pt"})
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / NUMBERS, numbers)
    _replace(folder / CONFIG, text.encode())


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever meets half of it."""
    with tempfile.TemporaryDirectory(dir=path.parent) as beside:
        new = Path(beside) / path.name
        new.write_bytes(content)
        new.replace(path)


def _check_sayable(name: str, layer: LoRALayer) -> None:
    """Refuse what a reader of PEFT's format would take for something else."""
    if type(layer) not in KINDS:
        kinds = ", ".join(kind.__name__ for kind in KINDS)
        raise AdapterError(
            f"{name}: PEFT's format has no place for a "
            f"{type(layer).__name__}, but for {kinds}"
        )
    _check_base(name, layer.base)
    if not layer.enabled:
        raise AdapterError(f"{name}: it is disabled: enable it to save it")
    root = layer.r if layer.scaling == "alpha/r" else math.sqrt(layer.r)
    scale = layer.alpha / root
    if layer.scale != scale:
        raise AdapterError(
            f"{name}: its scale is {layer.scale}, which the format cannot "
            f"say: need {layer.scaling} = {scale}"
        )
    if layer.A.is_meta or not all(
        bool(p.isfinite().all()) for p in (layer.A, layer.B)
    ):
        raise AdapterError(f"{name}: need factors of finite numbers")


def _check_base(name: str, base: nn.Module) -> None:
    """Refuse a layer beside which PEFT computes something else."""
    if isinstance(base, NonDynamicallyQuantizableLinear):
        raise AdapterError(
            f"{name}: attention reads its weight, where PEFT leaves out the "
            "update: need a layer that is called"
        )
    if isinstance(base, nn.Conv2d) and not (
        base.groups == 1
        and set(base.dilation) == {1}
        and base.padding_mode == "zeros"
    ):
        raise AdapterError(
            f"{name}: beside such a convolution PEFT computes something "
            "else: need groups=1, dilation=1 and padding_mode='zeros'"
        )


def _check_placed_once(
    model: nn.Module, found: Mapping[str, nn.Module]
) -> None:
    """Refuse a layer of several names: PEFT adapts it under the first."""
    names = {id(module): name for name, module in found.items()}
    places = Counter(
        id(child) for m in model.modules() for child in m._modules.values()
    )
    for key, name in names.items():
        if places[key] > 1:
            raise AdapterError(
                f"{name}: it is used under several names, of which PEFT "
                "adapts the first alone: need a layer of one name"
            )


def _keys(name: str, kind: type[LoRALayer] | None) -> tuple[str, str]:
    if kind is LoRAEmbedding:
        ends = "lora_embedding_A", "lora_embedding_B"
    else:
        ends = "lora_A.weight", "lora_B.weight"
    return f"{PREFIX}{name}.{ends[0]}", f"{PREFIX}{name}.{ends[1]}"


def _shapes(
    base: nn.Module, r: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes of A and B in PEFT's format, or refuse `r`."""
    d, *k = bases.weight_of(base).shape
    if isinstance(base, (nn.Embedding, *bases.conv1d())):
        d, k = k[0], [d]
    check_rank(r, min(d, math.prod(k)))
    return (r, *k), (d, r, *[1] * (len(k) - 1))


def _only(values: Iterable[Any], what: str) -> Any:
    """Return what all layers share; the format has one setting for all."""
    found = list(dict.fromkeys(values))
    if len(found) > 1:
        raise AdapterError(
            f"the layers differ in their {what}, {found[0]!r} and "
            f"{found[1]!r}: need one for all of them"
        )
    return found[0] if found else None


def _config(
    model: nn.Module, found: Mapping[str, LoRALayer]
) -> dict[str, Any]:
    ranks = {name: int(layer.r) for name, layer in found.items()}
    # A float of a whole number, 16.0, is written as PEFT's own, 16.
    alphas = {name: float(layer.alpha) for name, layer in found.items()}
    alphas = {n: int(a) if a.is_integer() else a for n, a in alphas.items()}
    r, alpha = (
        Counter(c.values()).most_common(1)[0][0] for c in (ranks, alphas)
    )
    scaling = _only((m.scaling for m in found.values()), "scaling")
    dropout = _only(
        (m.dropout.p for m in found.values() if m.can_drop(m.base)), "dropout"
    )
    return {
        "alpha_pattern": _pattern(alphas, alpha),
        # What PEFT's classes for all models go by.
        "auto_mapping": {
            "base_model_class": type(model).__name__,
            "parent_library": type(model).__module__,
        },
        "base_model_name_or_path": vars(model).get("name_or_path") or None,
        "bias": "none",
        "fan_in_fan_out": any(type(m) is LoRAConv1D for m in found.values()),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": dropout or 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": r,
        "rank_pattern": _pattern(ranks, r),
        "target_modules": _targets(model, found),
        "task_type": None,
        "use_dora": False,
        "use_rslora": scaling == "alpha/sqrt(r)",
    }


def _pattern(values: Mapping[str, Any], default: Any) -> dict[str, Any]:
    """Return what differs, by patterns of which one alone fits each name."""
    return {
        f"^{re.escape(name)}": value
        for name, value in values.items()
        if value != default
    }


def _targets(
    model: nn.Module, found: Mapping[str, nn.Module]
) -> list[str] | str:
    """Return the shortest way to mean these layers and no others."""
    last = sorted({name.rpartition(".")[2] for name in found})
    named = adapters.distinct(model, adapters.modules_of(model))
    for names in (last, sorted(found)):
        if set(filter(_meant("", names), named)) == found.keys():
            return names
    return "|".join(map(re.escape, found))


# Loading


def load(
    model: nn.Module, folder: str | os.PathLike[str]
) -> dict[str, LoRALayer]:
    """Give a model the adapters of a folder in PEFT's format.

    Parameters
    ----------
    model : nn.Module
        The model that the adapters were trained with. It is changed in
        place, as by `lorabook.adapters.inject`.
    folder : str or path
        What `save`, or PEFT's ``save_pretrained``, has written.

    Returns
    -------
    dict of str to LoRALayer
        The new layers by their names, in the order of the model.

    Raises
    ------
    AdapterError
        If the folder holds no adapter, one that does not fit the model, or
        one that is more than LoRA (DoRA, trained biases, whole modules, …).
        The model is then as it was.
    """
    folder = Path(folder)
    config = _read_config(_inside(folder, CONFIG))
    path = _inside(folder, NUMBERS)
    found = _selected(model, config)
    ranks = _ByName(config, "r", "rank_pattern")
    alphas = _ByName(config, "lora_alpha", "alpha_pattern")
    scaling: Scaling = (
        "alpha/sqrt(r)" if config.get("use_rslora") else "alpha/r"
    )
    expected: dict[str, tuple[int, ...]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for name, base in found.items():
        kind = _kind(name, base)
        dropout = config.get("lora_dropout", 0.0)
        settings[name] = {
            "r": ranks.of(name),
            "alpha": alphas.of(name),
            # Where dropout cannot be, PEFT leaves it out too.
            "dropout": dropout if kind.can_drop(base) else 0.0,
            "scaling": scaling,
        }
        with _refused(name):
            shapes = _shapes(base, ranks.of(name))
        expected |= zip(_keys(name, kind), shapes, strict=True)
    _check_placed_once(model, found)
    tensors = _read_numbers(path, expected, model)
    read = {}
    for name, base in found.items():
        keys = _keys(name, adapters.kind_of(base))
        A, B = (tensors[key] for key in keys)
        read[name] = _Adapter(A.flatten(1), B.flatten(1), settings[name])
    return _put(model, found, read)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        also = ""
        if name == NUMBERS and (folder / "adapter_model.bin").exists():
            also = (
                "; adapter_model.bin can run any code when it is opened, and "
                "is not"
            )
        raise AdapterError(f"{folder}: need a file {name} in it{also}")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise AdapterError(
            f"{name}: it is a link out of the folder: need the file itself"
        )
    return path


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = Counter(key for key, _ in pairs)
        key = keys.most_common(1)[0][0]
        raise ValueError(f"{SHORT.repr(key)} stands there twice")
    return found


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text.decode(), object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where}: need JSON, but {error}") from error
    if not isinstance(parsed, dict):
        raise AdapterError(
            f"{where}: need an object, got {SHORT.repr(parsed)}"
        )
    return parsed


def _read_config(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LARGEST_CONFIG:
        raise AdapterError(f"{CONFIG}: need at most {LARGEST_CONFIG} bytes")
    config = _parsed(path.read_bytes(), CONFIG)
    missing = [key for key in NEEDED if key not in config]
    if missing:
        raise AdapterError(f"{CONFIG}: need {', '.join(missing)}")
    for key, value in config.items():
        if key in IGNORED:
            continue
        shown = f"{CONFIG}: {SHORT.repr(key)} is {SHORT.repr(value)}"
        if key in SETTINGS:
            fits, allowed = SETTINGS[key]
            if not fits(value):
                raise AdapterError(f"{shown}, need {allowed}")
        # A setting that is off changes nothing, whatever it is.
        elif value:
            raise AdapterError(f"{shown}, which is not supported")
    return config


def _starts(name: str) -> list[int]:
    """Return where a name begins, and where it goes on after a dot."""
    return [0, *(i + 1 for i, c in enumerate(name) if c == ".")]


def _pattern_of(setting: str, pattern: str) -> Pattern:
    with _refused(f"{CONFIG}: {setting}"):
        return Pattern(pattern)


def _meant(setting: str, value: str | list[str]) -> Callable[[str], bool]:
    """Return what tells whether a setting means the layer of a name."""
    if isinstance(value, str):
        return _pattern_of(setting, value).fullmatch
    ends = set(value)
    return lambda name: any(name[i:] in ends for i in _starts(name))


class _ByName:
    """A setting that may differ from layer to layer.

    The first pattern decides that fits the name, or what follows a dot in it.
    """

    def __init__(
        self, config: Mapping[str, Any], setting: str, exceptions: str
    ) -> None:
        self.default = config[setting]
        self.values: dict[str, Any] = config.get(exceptions) or {}
        self.patterns = {
            key: _pattern_of(exceptions, key) for key in self.values
        }

    def of(self, name: str) -> Any:
        starts = sum(1 << i for i in _starts(name))
        with _refused(CONFIG):
            for key, pattern in self.patterns.items():
                if pattern.fullmatch(name, starts):
                    return self.values[key]
        return self.values.get(name, self.default)


def _selected(
    model: nn.Module, config: Mapping[str, Any]
) -> dict[str, nn.Module]:
    """Return the layers that PEFT would adapt, by their first names."""
    targets, excluded = config["target_modules"], config.get("exclude_modules")
    numbers = config.get("layers_to_transform")
    if isinstance(targets, str) and numbers not in (None, []):
        raise AdapterError(
            f"{CONFIG}: layers_to_transform goes with a list of names in "
            "target_modules alone"
        )
    named = adapters.distinct(model, adapters.modules_of(model))
    named.pop("", None)
    if isinstance(targets, str) and targets.lower() == "all-linear":
        with _refused(CONFIG):
            linear = adapters.find(model, "all-linear")
        targets = list(adapters.distinct(model, linear))
    is_target = _meant("target_modules", targets)
    whole = set() if isinstance(targets, str) else set(targets)
    is_excluded = _meant("exclude_modules", excluded or [])
    with _refused(CONFIG):
        found = {
            name: module
            for name, module in named.items()
            if is_target(name) and not is_excluded(name)
            # A name that is given in full stands above the numbers.
            if name in whole or _is_numbered(name, config)
        }
    if not found:
        raise AdapterError(
            f"{CONFIG}: target_modules is {SHORT.repr(targets)}, which "
            "names no layer of this model"
        )
    return found


def _is_numbered(name: str, config: Mapping[str, Any]) -> bool:
    """Tell whether a layer lies in one of the blocks that are numbered."""
    numbers, words = (
        config.get(key) for key in ("layers_to_transform", "layers_pattern")
    )
    if numbers in (None, []):
        return True
    parts = name.split(".")
    words = words if isinstance(words, list) else [words] if words else []
    # The first number counts; a later one may be that of an expert.
    places = [i for i, part in enumerate(parts[:-1]) if part.isdecimal()]
    for word in words or [None]:
        for i in places:
            if parts[i - 1] == word if word else i > 1:
                number = int(parts[i])
                return number in (
                    numbers if isinstance(numbers, list) else [numbers]
                )
    return False


def _kind(name: str, base: nn.Module) -> type[LoRALayer]:
    if isinstance(base, LoRALayer):
        raise AdapterError(
            f"{name}: it has an adapter already: merge it, or load into a "
            "model without it"
        )
    kind = adapters.kind_of(base)
    if kind is None or kind not in KINDS:
        raise AdapterError(
            f"{name}: PEFT's format has no adapter for a "
            f"{type(base).__name__}: need a Linear, Conv1D, Embedding or "
            "Conv2d"
        )
    with _refused(name):
        bases.check_base(base, kind.kinds())
    _check_base(name, base)
    if bases.weight_of(base).is_meta:
        raise AdapterError(f"{name}: it is empty: need a model with weights")
    return kind


@contextmanager
def _refused(where: str = "") -> Iterator[None]:
    """Let what is refused inside be an AdapterError."""
    try:
        yield
    except AdapterError:
        raise
    except (TypeError, ValueError) as error:
        start = f"{where}: " if where else ""
        raise AdapterError(f"{start}{error}") from error


def _shown(keys: Iterable[str]) -> str:
    keys = sorted(keys)
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(map(reprlib.repr, keys[:3])) + more


def _read_numbers(
    path: Path, expected: Mapping[str, tuple[int, ...]], model: nn.Module
) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            _check_header(path)
            missing = expected.keys() - file.keys()
            if missing:
                raise AdapterError(f"{NUMBERS}: {_shown(missing)} is missing")
            for key, shape in expected.items():
                _check_part(file, key, shape)
            for key in sorted(file.keys() - expected.keys()):
                _check_copy(file, key, model)
            return {key: file.get_tensor(key) for key in expected}
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"{NUMBERS}: need numbers as safetensors writes them, but {error}"
        ) from error


def _check_header(path: Path) -> None:
    """Refuse a name that stands there twice: libraries differ in its sense."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        _parsed(file.read(length), NUMBERS)


def _check_part(file: Any, key: str, shape: tuple[int, ...]) -> None:
    part = file.get_slice(key)
    if part.get_dtype() not in FLOATS:
        raise AdapterError(
            f"{NUMBERS}: {SHORT.repr(key)} has the dtype "
            f"{part.get_dtype()}, need one of {', '.join(FLOATS)}"
        )
    if tuple(part.get_shape()) != shape:
        raise AdapterError(
            f"{NUMBERS}: {SHORT.repr(key)} has the shape "
            f"{tuple(part.get_shape())}, need {shape}"
        )


def _check_copy(file: Any, key: str, model: nn.Module) -> None:
    """Let weights of the model pass which it has anyway.

    PEFT writes down whole embeddings if they are adapted under their usual
    name, or have grown.
    """
    own = dict(model.named_parameters(remove_duplicate=False))
    module, _, name = key.removeprefix(PREFIX).rpartition(".")
    W = own.get(f"{module.removesuffix('.base_layer')}.{name}")
    if W is None or not key.startswith(PREFIX):
        raise AdapterError(
            f"{NUMBERS}: {SHORT.repr(key)} belongs to no layer in "
            "target_modules"
        )
    _check_part(file, key, tuple(W.shape))
    if not torch.equal(file.get_tensor(key).to(W.dtype), W.detach().cpu()):
        raise AdapterError(
            f"{NUMBERS}: {SHORT.repr(key)} has other numbers than the "
            "model: need the model that the adapter was trained with"
        )


def _put(
    model: nn.Module,
    found: dict[str, nn.Module],
    read: Mapping[str, _Adapter],
) -> dict[str, LoRALayer]:
    """Put adapters with these numbers beside the layers that are found."""
    for name, one in read.items():
        dtype = bases.weight_of(found[name]).dtype
        dtype = torch.promote_types(dtype, torch.float32)
        for factor in (one.A, one.B):
            if (
                factor.dtype not in FLOATS.values()
                or torch.promote_types(factor.dtype, dtype) != dtype
            ):
                raise AdapterError(
                    f"{name}: its factors are {factor.dtype}, need "
                    f"what the model's {dtype} holds without rounding"
                )
            if not bool(factor.isfinite().all()):
                raise AdapterError(f"{name}: need factors of finite numbers")

    def build(name: str, base: nn.Module) -> LoRALayer:
        layer = adapters.adapt(base, **read[name].settings)
        with torch.no_grad():
            layer.A.copy_(read[name].A)
            layer.B.copy_(read[name].B)
        return layer

    with _refused():
        adapters.check_alone(model, found)
        return adapters.install(model, found, build)


# loralib


def from_loralib(
    model: nn.Module,
    state: Mapping[str, Tensor],
    alpha: float,
    parts: Sequence[bool] | None = None,
) -> dict[str, LoRALayer]:
    """Give a model the adapters of a checkpoint of loralib.

    Parameters
    ----------
    model : nn.Module
        A model with plain layers where the other had those of loralib, and
        with the same frozen weights. It is changed in place, as by
        `lorabook.adapters.inject`.
    state : mapping of str to Tensor
        What ``loralib.lora_state_dict`` returned, ``"NAME.lora_A"`` and
        ``"NAME.lora_B"`` for the layers NAME. Read a file of it with
        ``torch.load(file, weights_only=True)``.
    alpha : float
        The ``lora_alpha`` of all layers, which the checkpoint does not hold.
    parts : sequence of bool, optional
        The ``enable_lora`` of its MergedLinear layers.

    Returns
    -------
    dict of str to LoRALayer
        The new layers by their names, in the order of the model.

    Raises
    ------
    AdapterError
        If something does not fit the model, or is more than LoRA, as biases.
        Convolutions need a kernel of 1 × 1: with a larger one loralib's
        factors are those of another matrix. The model is then as it was.
    """
    state = dict(state)
    names = {
        key.removesuffix(end)
        for key in state
        for end in (".lora_A", ".lora_B")
        if key.endswith(end)
    }
    expected = {f"{name}.lora_{side}" for name in names for side in "AB"}
    for what, keys in (
        ("is missing", expected - state.keys()),
        ("is no lora_A or lora_B", state.keys() - expected),
    ):
        if keys:
            raise AdapterError(f"{_shown(keys)} {what}")
    modules = adapters.modules_of(model)
    if not names <= modules.keys() or not names:
        raise AdapterError(
            f"{_shown(names - modules.keys()) or 'nothing'} in the checkpoint "
            "names no layer: need a model with the same names"
        )
    found = adapters.distinct(
        model, {n: m for n, m in modules.items() if n in names}
    )
    if found.keys() != names:
        raise AdapterError(
            f"{_shown(names - found.keys())}: need each layer under its "
            "first name"
        )
    read = {
        name: _from_loralib(
            name,
            base,
            state[f"{name}.lora_A"],
            state[f"{name}.lora_B"],
            alpha,
            parts,
        )
        for name, base in found.items()
    }
    return _put(model, found, read)


def _from_loralib(
    name: str,
    base: nn.Module,
    A: Tensor,
    B: Tensor,
    alpha: float,
    parts: Sequence[bool] | None,
) -> _Adapter:
    kind = _kind(name, base)
    if not (A.ndim == B.ndim == 2):
        raise AdapterError(f"{name}: need factors that are matrices")
    r = B.shape[1]
    settings: dict[str, Any] = {"r": r, "alpha": alpha}
    shapes = [tuple(A.shape), tuple(B.shape)]
    d, *k = bases.weight_of(base).shape
    if kind in (LoRAConv1D, LoRAEmbedding):
        d, k = k[0], [d]
    needed = [(r, k[0]), (d, r)]
    n = sum(parts or ())
    if parts and kind in (LoRALinear, LoRAConv1D) and shapes != needed:
        settings["parts"] = tuple(parts)
        needed = [(r * n, k[0]), (d // len(parts) * n, r)]
    if shapes != needed or math.prod(k[1:]) != 1:
        raise AdapterError(
            f"{name}: its factors have the shapes {shapes[0]} and "
            f"{shapes[1]}, need {needed[0]} and {needed[1]}, and parts for a "
            "MergedLinear, and a kernel of 1 × 1 for a convolution"
        )
    return _Adapter(A.detach(), B.detach(), settings)
