"""What training costs: parameters, bytes and operations, by formula.

    python -m lorabook.cost --model llama-3-8b --rank 16
    python -m lorabook.cost --config config.json --base nf4

prints what one would want to know before renting a GPU. The formulas follow
what `transformers`, PEFT and PyTorch allocate, tensor by tensor; the tests
compare them with models whose every storage is followed. What they leave out:
the workspace of kernels, the context of the device, and fragmentation.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any, NoReturn, TypedDict, Unpack

from lorabook.architectures import (
    ARCHITECTURES,
    FAMILIES,
    Architecture,
    from_config,
)

TARGETS: dict[str, tuple[str, ...]] = {
    "qv": ("q", "v"),
    "attention": ("q", "k", "v", "o"),
    "mlp": ("gate", "up", "down"),
    "all-linear": ("q", "k", "v", "o", "gate", "up", "down"),
}
# Bytes of a number, in the formats that training knows.
FORMATS = {"fp32": 4, "bf16": 2}
# A base may also be quantised: its linear maps, and nothing else.
BASES = (*FORMATS, "int8", "nf4")
# How many numbers an optimiser remembers of each trained one; the bytes of
# each (None: the format of the trained number, as in torch.optim); and what
# its step holds on top: lists as long as all trained numbers, and tensors as
# large as the largest.
OPTIMIZERS: dict[str, tuple[int, int | None, int, int]] = {
    "adamw": (2, None, 1, 0),  # PyTorch's choice on a GPU: foreach
    "adamw-fused": (2, None, 0, 0),
    "adamw-for-loop": (2, None, 0, 2),
    "adamw-8bit": (2, 1, 0, 0),
    "sgd-momentum": (1, None, 0, 0),
    "sgd": (0, None, 0, 0),
}
# What becomes of the logits: freed once the loss is known, held by whoever
# still has the model's outputs, or never there all at once.
LOSSES = ("freed", "held", "fused")
SHARDINGS = ("ddp", "fsdp")
CARDS = (8, 12, 16, 24, 32, 40, 48, 80, 96, 141, 192)  # GiB that cards have
# What each map reads: the output of the first or second norm, of the
# attention, or of the activation function.
READS = {
    "q": "norm1",
    "k": "norm1",
    "v": "norm1",
    "o": "attention",
    "gate": "norm2",
    "up": "norm2",
    "down": "product",
}


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step holds at one moment, by what they are for.

    Attributes
    ----------
    weights : int
        The model as it is stored.
    copies : int
        What is there a second time: autocast's 16-bit weights, DDP's buckets,
        what FSDP has gathered.
    adapter, gradients, optimizer : int
        The factors, the gradients that exist at this moment, and what the
        optimiser remembers.
    activations : int
        What is saved for the rest of the backward pass.
    temporary : int
        What is held for this moment only: by the loss, by a block that is
        computed again and its backward pass, or by the optimiser's step.
    """

    weights: int
    copies: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    temporary: int

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(getattr(self, part.name) for part in fields(self))


class Settings(TypedDict, total=False):
    """How to train, by keyword; `training_memory` explains them."""

    base: str
    trained: str
    autocast: bool
    dropout: bool
    optimizer: str
    loss: str
    batch: int
    sequence: int
    checkpointing: bool
    accumulation: int
    prepared: bool
    double_quantisation: bool
    gpus: int
    sharding: str


@dataclass(frozen=True)
class _Block:
    """What decides the bytes of a block's tensors.

    `residual`, `compute` and `factor` are bytes of a number: along the
    residual path, in the attention, and in a factor (None without one). So
    is `wide`, between the maps of the MLP: a quantised map returns the format
    of its input, whatever autocast says. `quantised` is the base, or "".
    """

    residual: int
    compute: int
    wide: int
    factor: int | None
    autocast: bool
    dropout: bool
    quantised: str


@dataclass(frozen=True)
class _Run:
    """A run, checked."""

    sizes: Architecture
    r: int | None
    names: tuple[str, ...]
    base: str = "bf16"
    trained: str = "fp32"
    autocast: bool = True
    dropout: bool = False
    optimizer: str = "adamw"
    loss: str = "freed"
    batch: int = 1
    sequence: int = 1024
    checkpointing: bool = True
    accumulation: int = 1
    prepared: bool = True
    double_quantisation: bool = False
    gpus: int = 1
    sharding: str = "ddp"
    block: _Block = field(init=False)

    def __post_init__(self) -> None:
        _one_of("base", self.base, BASES)
        _one_of("trained", self.trained, FORMATS)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("loss", self.loss, LOSSES)
        _one_of("sharding", self.sharding, SHARDINGS)
        _check_tokens(self.sizes, self.batch, self.sequence)
        for name in ("accumulation", "gpus"):
            if not _is_count(getattr(self, name)):
                raise ValueError(
                    f"need {name} >= 1, a whole number, "
                    f"got {getattr(self, name)}"
                )
        factor = FORMATS[self.trained]
        if self.r is None:
            residual = factor
        elif self.base in FORMATS:
            residual = FORMATS[self.base]
        else:
            residual = 4 if self.prepared else 2
        quantised = self.r is not None and self.base not in FORMATS
        compute = 2 if self.autocast else residual
        block = _Block(
            residual,
            compute,
            residual if quantised else compute,
            None if self.r is None else factor,
            self.autocast,
            self.dropout and self.r is not None,
            self.base if quantised else "",
        )
        object.__setattr__(self, "block", block)


def architecture_of(model: str | Architecture) -> Architecture:
    """Return an architecture, given itself or its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if isinstance(model, Architecture):
        return model
    if model.lower() not in ARCHITECTURES:
        raise ValueError(
            f"there is no model {model!r}; there are "
            + ", ".join(ARCHITECTURES)
        )
    return ARCHITECTURES[model.lower()]


def target_names(
    model: str | Architecture, targets: str | Sequence[str]
) -> tuple[str, ...]:
    """Return the linear maps of a block that get an adapter.

    Parameters
    ----------
    model : str or Architecture
        See `lorabook.architectures.ARCHITECTURES`.
    targets : str or sequence of str
        Keys of `TARGETS`, of which the maps that the model has are taken, and
        names of maps, also as ``"q_proj"``; a sequence, or joined by commas.

    Raises
    ------
    ValueError
        If the model has no such map, or if none is named.
    """
    known = architecture_of(model).linears
    words = targets.split(",") if isinstance(targets, str) else targets
    named: list[str] = []
    for word in words:
        name = word.strip().removesuffix("_proj")
        found = [x for x in TARGETS.get(name, (name,)) if x in known]
        if not found:
            raise ValueError(
                f"there is no target {word.strip()!r}; there are "
                f"{', '.join(TARGETS)} and, by name, {', '.join(known)}"
            )
        named += found
    if not named:
        raise ValueError("no target is named")
    return tuple(x for x in known if x in named)


def adapted_maps(
    model: str | Architecture, targets: str | Sequence[str]
) -> dict[str, tuple[int, int]]:
    """Return the shapes, (d_out, d_in), that one block's adapters stand for.

    Maps that the library holds as one (`Architecture.fused`) get one adapter
    together if all of them are targets, as with PEFT. If only some are, each
    gets its own, as in the LoRA paper.

    Parameters
    ----------
    model, targets
        See `target_names`.

    Raises
    ------
    ValueError
        If the model or the targets do not fit.
    """
    sizes = architecture_of(model)
    names = target_names(sizes, targets)
    found: dict[str, tuple[int, int]] = {}
    for name in names:
        group = next((g for g in sizes.fused if name in g), ())
        if not group or not set(group) <= set(names):
            found[name] = sizes.linears[name]
        elif name == group[0]:
            outputs = sum(sizes.linears[x][0] for x in group)
            found[name] = outputs, sizes.linears[name][1]
    return found


def adapter_parameters(
    model: str | Architecture,
    r: int,
    targets: str | Sequence[str] = "all-linear",
) -> int:
    """Return the numbers in A and B of all adapted layers.

    r (d_out + d_in) for each of `adapted_maps` (Hu et al. 2022, section 4.2).

    Parameters
    ----------
    model, targets
        See `target_names`.
    r : int
        Rank, at least 1.

    Raises
    ------
    ValueError
        If the model, the targets or the rank do not fit.
    """
    sizes = architecture_of(model)
    shapes = adapted_maps(sizes, targets).values()
    least = min(min(shape) for shape in shapes)
    if not (_is_count(r) and r <= least):
        raise ValueError(
            f"need a whole rank from 1 to {least}, the smaller side of the "
            f"smallest map, got {r}"
        )
    return sizes.layers * sum(r * sum(shape) for shape in shapes)


def weight_bytes(
    model: str | Architecture,
    base: str = "bf16",
    *,
    double_quantisation: bool = False,
    rest: str = "bf16",
) -> int:
    """Return the bytes of a stored model.

    Parameters
    ----------
    model : str or Architecture
        See `lorabook.architectures.ARCHITECTURES`.
    base : str
        ``"fp32"`` or ``"bf16"`` for everything; ``"int8"`` or ``"nf4"`` for
        the linear maps of the blocks alone. int8 has one fp32 scale for each
        row. NF4 has 4 bits a number and one fp32 scale for 64 numbers.
    double_quantisation : bool
        NF4 with its scales in 8 bits, and one fp32 scale for 256 of those
        (Dettmers et al. 2023).
    rest : str
        Format of what a quantised base does not quantise.

    Raises
    ------
    ValueError
        If the model or a format is unknown.
    """
    sizes = architecture_of(model)
    _one_of("base", base, BASES)
    _one_of("rest", rest, FORMATS)
    if base in FORMATS:
        return sizes.parameters * FORMATS[base]
    block = sum(
        _quantised(m, n, base, double_quantisation)
        for m, n in sizes.linears.values()
    )
    return sizes.layers * block + FORMATS[rest] * sizes.other


def _quantised(m: int, n: int, base: str, twice: bool) -> int:
    """Return the bytes of one (m, n) map with its scales."""
    if base == "int8":
        return m * n + 4 * m
    scales = -(-m * n // 64)
    held = scales + 4 * -(-scales // 256) if twice else 4 * scales
    return -(-m * n // 2) + held


def activation_bytes(
    model: str | Architecture,
    batch: int,
    sequence: int,
    r: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    *,
    trained: str = "fp32",
    activations: str = "bf16",
    autocast: bool = False,
    dropout: bool = False,
    checkpointing: bool = False,
) -> int:
    """Return the bytes that the forward pass saves for the backward pass.

    For blocks as `transformers` has them, with a fused attention and without
    padding; of the loss see `loss_bytes`. A frozen linear map need not keep
    its input; the norms, the attention and the activation function keep
    theirs, whatever is trained.

    Parameters
    ----------
    model, targets
        See `target_names`.
    batch, sequence : int
        Sequences at a time, and tokens of each.
    r : int, optional
        Rank of the adapters; full fine-tuning without it.
    trained : str
        Format of the factors, ``"fp32"`` or ``"bf16"``. Where it is not that
        of their input, each adapted map converts the input for itself and
        keeps the copy, as PEFT's layers do.
    activations : str
        ``"fp32"`` or ``"bf16"``: the format of the residual path. Statistics
        of norms and attention are fp32 in any case.
    autocast : bool
        Linear maps compute in bf16 (``torch.autocast`` on a GPU).
    dropout : bool
        The adapters drop out a part of their input.
    checkpointing : bool
        Keep only the input of each block (Chen et al. 2016).

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    _check_tokens(sizes, batch, sequence)
    _one_of("trained", trained, FORMATS)
    _one_of("activations", activations, FORMATS)
    residual = FORMATS[activations]
    compute = 2 if autocast else residual
    names = _names(sizes, r, targets)
    block = _Block(
        residual,
        compute,
        compute,
        None if r is None else FORMATS[trained],
        autocast,
        dropout and r is not None,
        quantised="",
    )
    if checkpointing:
        each = residual * sizes.width
    else:
        each = _saved(sizes, r, names, block)
    end = _end(sizes, r, block)
    return batch * sequence * (sizes.layers * each + end)


def _names(
    sizes: Architecture, r: int | None, targets: str | Sequence[str]
) -> tuple[str, ...]:
    """Return the trained maps of a block, having checked them."""
    if r is None:
        return tuple(sizes.linears)
    adapter_parameters(sizes, r, targets)
    return target_names(sizes, targets)


def _saved(
    sizes: Architecture, r: int | None, names: tuple[str, ...], f: _Block
) -> int:
    """Return what one block saves for each token."""
    d, heads = sizes.width, sizes.heads
    q, k = sizes.linears["q"][0], sizes.linears["k"][0]
    hidden = sizes.linears["up"][0]
    # Queries, keys, values, the output, and one statistic for each head.
    attention = f.compute * (2 * q + 2 * k) + 4 * heads
    if _rotated(sizes):
        # A slice of a fused map keeps all of it, beside what was rotated.
        attention += f.compute * (q + k)
    if sizes.head_norms:
        attention += 4 * (q + k) + 4 * (q + k) * heads // q
        attention += f.compute * (q + k) if r is None else 0
    if sizes.activation == "gelu_new":
        # On a GPU, autocast makes its power fp32, and all that follows.
        converted = f.autocast and f.wide == 2
        mlp = (14 if converted else 4 * f.wide) * hidden
    else:
        mlp = f.wide * hidden * (3 if "gate" in sizes.linears else 1)
    norms = sizes.norms * _norm(sizes, r, f)
    if sizes.parallel and (f.residual == 4 or not f.autocast):
        norms -= f.residual * d  # both read the same place
    masks = 2 * d if sizes.dropout else 0
    return norms + attention + mlp + masks + _inputs(sizes, r, names, f)


def _rotated(sizes: Architecture) -> bool:
    """Tell whether queries and keys are rotated out of a fused map."""
    return ("q", "k", "v") in sizes.fused and sizes.positions is None


def _norm(sizes: Architecture, r: int | None, f: _Block) -> int:
    """Return what a norm saves for each token."""
    d = sizes.width
    if sizes.norm == "layer":
        return (4 if f.autocast else f.residual) * d + 8
    # The library's norms compute in fp32, and keep that; if their weights
    # train, also what these multiply.
    each = 4 * d + 4
    if r is None:
        each += (4 if sizes.norm == "gemma" else f.residual) * d
    return each


def _inputs(
    sizes: Architecture, r: int | None, names: tuple[str, ...], f: _Block
) -> int:
    """Return what the trained maps save of their inputs, for each token."""
    kept = 0
    shared: dict[str, int] = {}
    if f.quantised == "int8":
        # Its maps keep their inputs, though they do not need them.
        for name, (_, n) in sizes.linears.items():
            _, taken = _own_copy(sizes, READS[name], f)
            shared[READS[name]] = taken * n
        shared["attention"] = 0
    for name, (_, n) in adapted_maps(sizes, names).items():
        source = READS[name]
        own, taken = _own_copy(sizes, source, f)
        if f.factor is not None and r is not None:
            kept += r * (2 if f.autocast else f.factor)
            kept += n if f.dropout else 0  # the mask
        if own:
            kept += own * n
        elif source != "attention" or _rotated(sizes):
            # The attention has its own output anyway, unless its layout is
            # not that of the map that reads it.
            shared[source] = taken * n
    return kept + sum(shared.values())


def _own_copy(sizes: Architecture, source: str, f: _Block) -> tuple[int, int]:
    """Return the bytes of a number of an input: as copied, and as it is.

    The first is 0 if the map reads its input as it is.
    """
    taken = f.wide if source == "product" else f.compute
    if source.startswith("norm"):
        # On a GPU, autocast makes the output of a LayerNorm fp32.
        as_fp32 = sizes.norm == "layer" and f.autocast
        taken = 4 if as_fp32 else f.residual
    if f.factor is None:
        return (2 if f.autocast and taken == 4 else 0), taken
    computed = 2 if f.autocast else f.factor
    # PEFT converts to the format of the factors, and autocast back; on a
    # quantised base it leaves that to autocast.
    there_and_back = f.autocast and f.factor == 4 and not f.quantised
    if f.dropout or taken != computed or there_and_back:
        return computed, taken
    return 0, taken


def _end(sizes: Architecture, r: int | None, f: _Block) -> int:
    """Return what is saved after the blocks: the norm's, the head's input."""
    head = f.compute * sizes.width if r is None else 0
    return _norm(sizes, r, f) + head


# What the backward pass of a gated MLP in 16 bits holds where PEFT converts to
# fp32 factors and back, beyond what is saved: bytes for each token along the
# MLP's hidden units, and along the width. By whether the map after the product
# is adapted, with autocast, with dropout; of two moments the larger one
# counts. Found by following models of four shapes.
_CONVERTED: dict[tuple[bool, bool, bool], tuple[tuple[int, int], ...]] = {
    (True, True, False): ((6, 10),),
    (True, True, True): ((10, 10),),
    (True, False, False): ((4, 12),),
    (True, False, True): ((6, 14),),
    (False, True, False): ((4, 10), (6, 2)),
    (False, True, True): ((4, 10), (6, 2)),
    (False, False, False): ((8, 6),),
    (False, False, True): ((8, 10),),
}


def _working(sizes: Architecture, names: tuple[str, ...], f: _Block) -> int:
    """Return what a block's backward pass holds beyond what is saved.

    For each token: the gradient of its output, and either gradients along
    the MLP or, where a block is computed again, what the map after the
    activation function needs on the way. Found by following both.
    """
    hidden, c = sizes.linears["up"][0], f.wide
    down, gated = "down" in names, "gate" in sizes.linears
    converted = f.factor == 4 and c == 2 and not f.quantised
    if converted and gated and not {"gate", "up", "down"}.isdisjoint(names):
        held = _CONVERTED[down, f.autocast, f.dropout]
        if held == ((4, 12),) and "up" not in names:
            held = ((2, 14), (4, 4))
        return max(h * hidden + d * sizes.width for h, d in held)
    if sizes.activation == "gelu_new" and f.autocast:
        widest = 12
    elif sizes.activation == "gelu_new" or gated:
        widest = 3 * c
    else:
        widest = 2 * c
    if down:
        widest -= c  # its input is done with
    if down and f.factor is not None:
        own, _ = _own_copy(sizes, "product", f)
        there = 2 * c
        if own and converted:
            there += 4 if f.autocast else 2
        if f.dropout:
            there += 4
        widest = max(widest, there)
    return f.residual * sizes.width + widest * hidden


def loss_bytes(
    model: str | Architecture,
    batch: int,
    sequence: int,
    *,
    loss: str = "freed",
    logits: str = "bf16",
) -> int:
    """Return what cross-entropy over all tokens holds at its peak.

    The logarithms of the probabilities, their gradient and that of the
    logits: three fp32 numbers for each token and each word of the
    vocabulary. An encoder is counted without a head, and has none.

    Parameters
    ----------
    model, batch, sequence
        See `activation_bytes`.
    loss : str
        ``"freed"``: the logits are gone by then, as in a `Trainer`;
        ``"held"``: somebody still has the model's outputs, and the logits
        with them; ``"fused"``: head and loss are computed together in chunks
        as large as the head's input, and never all logits.
    logits : str
        Format of the logits, ``"fp32"`` or ``"bf16"``.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    _check_tokens(sizes, batch, sequence)
    _one_of("loss", loss, LOSSES)
    _one_of("logits", logits, FORMATS)
    if not sizes.decoder:
        return 0
    number = FORMATS[logits]
    if loss == "fused":
        return batch * sequence * sizes.width * (2 * number + 4)
    words = 12 + (number if loss == "held" else 0)
    return batch * sequence * sizes.vocabulary * words


def moments(
    model: str | Architecture,
    r: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    **settings: Unpack[Settings],
) -> dict[str, Memory]:
    """Return what training holds at three moments of a step.

    ``"loss"``: at the end of the forward pass or the beginning of the
    backward pass, whichever is more. ``"backward"``: in the backward pass of
    a block, the last, where no block's gradients exist but all activations,
    or the first, where it is the other way round. ``"step"``: in the
    optimiser's step. From the second step on the optimiser has its memory at
    all three.

    Parameters
    ----------
    model, r, targets, **settings
        See `training_memory`.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    run = _Run(sizes, r, _names(sizes, r, targets), **settings)
    return {
        "loss": _largest(_at_loss(run)),
        "backward": _largest(_in_backward(run)),
        "step": _at_step(run),
    }


def training_memory(
    model: str | Architecture,
    r: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    **settings: Unpack[Settings],
) -> Memory:
    """Return what training holds at its peak, part by part.

    The peak is the largest of the `moments` of a step.

    Parameters
    ----------
    model, targets
        See `target_names`.
    r : int, optional
        Rank of the adapters. Without it, all weights are trained.
    **settings
        base : str, ``"bf16"``
            Format of the frozen model, see `weight_bytes`. Without adapters
            nothing is frozen, and it has no meaning.
        trained : str, ``"fp32"``
            Format of what is trained, of its gradients and of what the
            optimiser remembers, ``"fp32"`` or ``"bf16"``.
        autocast : bool, True
            Linear maps compute in bf16 (``torch.autocast``, which a
            `Trainer` with ``bf16=True`` switches on); else in the format in
            which they are stored.
        dropout : bool, False
            See `activation_bytes`.
        optimizer : str, ``"adamw"``
            A key of `OPTIMIZERS`. The 8-bit states have an fp32 scale for
            256 numbers; exceptions for small tensors and for embeddings are
            left out.
        loss : str, ``"freed"``
            See `loss_bytes`.
        batch, sequence : int, 1 and 1024
            Sequences at a time on one GPU, and tokens of each.
        checkpointing : bool, True
            See `activation_bytes`.
        accumulation : int, 1
            Backward passes for one step. From 2 on, gradients of the one
            before exist during the next.
        prepared : bool, True
            A quantised base went through PEFT's
            ``prepare_model_for_kbit_training``: what is not quantised is
            fp32, and with it the residual path.
        double_quantisation : bool, False
            See `weight_bytes`.
        gpus : int, 1
            Number of GPUs; the memory is that of one.
        sharding : str, ``"ddp"``
            ``"ddp"``: each has everything, and DDP's buckets for gradients.
            ``"fsdp"``: weights, gradients and optimiser are shared out; two
            blocks at a time, embedding and head are gathered.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    found = moments(model, r, targets, **settings)
    return _largest(found.values())


def _largest(found: Iterable[Memory]) -> Memory:
    return max(found, key=lambda memory: memory.total)


def _trained_numbers(run: _Run) -> int:
    if run.r is None:
        return run.sizes.parameters
    return adapter_parameters(run.sizes, run.r, run.names)


def _stored(run: _Run) -> int:
    """Return the bytes of the model's weights, all of them."""
    if run.r is None:
        return run.sizes.parameters * FORMATS[run.trained]
    return weight_bytes(
        run.sizes,
        run.base,
        double_quantisation=run.double_quantisation,
        rest="fp32" if run.block.residual == 4 else "bf16",
    )


def _at(
    run: _Run,
    *,
    copies: int,
    gathered: bool,
    gradients: int,
    activations: int,
    temporary: int,
) -> Memory:
    """Return one moment, given what belongs to it; `gradients` in bytes."""
    number = FORMATS[run.trained]
    count = _trained_numbers(run)
    states, each, _, _ = OPTIMIZERS[run.optimizer]
    remembered = states * count * (each or number)
    if each == 1:
        remembered += states * 4 * -(-count // 256)
    weights = _stored(run)
    adapter = 0 if run.r is None else count * number
    if run.gpus > 1 and run.sharding == "ddp":
        copies += count * number
    if run.gpus > 1 and run.sharding == "fsdp":
        if gathered:
            copies += _gathered(run)
        weights, adapter, gradients, remembered = (
            -(-x // run.gpus)
            for x in (weights, adapter, gradients, remembered)
        )
    return Memory(
        weights, copies, adapter, gradients, remembered, activations, temporary
    )


def _gathered(run: _Run) -> int:
    """Return what FSDP has whole: two blocks, and what is in none.

    If they are trained, also the gradients of one block.
    """
    sizes, size = run.sizes, run.block.residual
    rest = size * sizes.other
    blocks = (_stored(run) - rest) // sizes.layers
    return rest + (3 if run.r is None else 2) * blocks


def _head_copy(run: _Run) -> int:
    """Return autocast's copy of the head, if there is one."""
    converted = run.autocast and run.block.residual == 4
    return 2 * run.sizes.head_parameters if converted else 0


def _map_copies(run: _Run) -> int:
    """Return autocast's copies of the linear maps of all blocks."""
    f = run.block
    converted = run.autocast and f.residual == 4 and not f.quantised
    return 2 * run.sizes.linear_parameters if converted else 0


def _factor_copies(run: _Run) -> int:
    converted = run.autocast and run.r is not None and run.trained == "fp32"
    return 2 * _trained_numbers(run) if converted else 0


def _kept(run: _Run) -> int:
    """Return what the blocks save for the backward pass, for each token."""
    f = run.block
    if run.checkpointing:
        return run.sizes.layers * f.residual * run.sizes.width
    return run.sizes.layers * _saved(run.sizes, run.r, run.names, f)


def _held_logits(run: _Run) -> int:
    sizes = run.sizes
    if run.loss != "held" or not sizes.decoder:
        return 0
    tokens = run.batch * run.sequence
    return tokens * sizes.vocabulary * run.block.compute


def _accumulated(run: _Run) -> int:
    count = _trained_numbers(run) if run.accumulation > 1 else 0
    return count * FORMATS[run.trained]


def _at_loss(run: _Run) -> list[Memory]:
    """Return the end of the forward pass, and the loss's backward pass."""
    sizes, f = run.sizes, run.block
    tokens = run.batch * run.sequence
    hidden = tokens * f.residual * sizes.width  # what the head has read
    bytes_ = "bf16" if f.compute == 2 else "fp32"
    backward = loss_bytes(
        sizes, run.batch, run.sequence, loss=run.loss, logits=bytes_
    )
    forward = backward
    if run.loss != "fused" and sizes.decoder:
        # The logits, in fp32 too, and the logarithms of probabilities.
        words = 10 if f.compute == 2 else 8
        forward = tokens * sizes.vocabulary * words
    all_copies = _head_copy(run) + _map_copies(run) + _factor_copies(run)
    # Autocast forgets its copies at the end of the forward pass. What the
    # graph has of them stays; with checkpointing, that is the head.
    trained_copies = run.r is None or not run.checkpointing
    before = (
        all_copies
        if trained_copies
        else (_head_copy(run) + _factor_copies(run))
    )
    after = _head_copy(run) if run.checkpointing else all_copies
    activations = tokens * (_kept(run) + _end(sizes, run.r, f))
    return [
        _at(
            run,
            copies=copies,
            gathered=True,
            gradients=_accumulated(run),
            activations=activations,
            temporary=hidden + temporary,
        )
        for copies, temporary in ((before, forward), (after, backward))
    ]


def _in_backward(run: _Run) -> list[Memory]:
    """Return what is held in the last block, in the first, and at the end."""
    sizes, f = run.sizes, run.block
    tokens, number = run.batch * run.sequence, FORMATS[run.trained]
    gradients = _trained_numbers(run) * number
    head = sizes.head_parameters * number if run.r is None else 0
    block = tokens * _working(sizes, run.names, f)
    saved = _saved(sizes, run.r, run.names, f)
    if run.checkpointing:
        as_it_is = f.residual == 4 or (
            sizes.norm == "layer" and not f.autocast
        )
        # Where the norm saves its input as it is, that is kept already.
        again = saved - (f.residual * sizes.width if as_it_is else 0)
        block += tokens * again
        saved = f.residual * sizes.width
    if f.quantised:
        block += 2 * max(m * n for m, n in sizes.linears.values())
    copies = _map_copies(run) + _factor_copies(run)
    one = copies // sizes.layers
    held = _held_logits(run)
    accumulated = _accumulated(run)
    last = _at(
        run,
        copies=one if run.checkpointing else copies,
        gathered=True,
        gradients=accumulated or head,
        activations=tokens * _kept(run),
        temporary=block + held,
    )
    # The embedding's gradient comes last. Where it is the head's too, both are
    # added: in place if the head's is that of autocast's copy.
    added = (1 if _head_copy(run) else 2) if sizes.tied else 0
    first = _at(
        run,
        copies=one,
        gathered=True,
        gradients=accumulated or gradients - (0 if sizes.tied else head),
        activations=tokens * saved,
        temporary=block + held,
    )
    end = _at(
        run,
        copies=0,
        gathered=True,
        gradients=gradients,
        activations=0,
        temporary=held + head * (added + bool(accumulated)),
    )
    return [last, first, end]


def _at_step(run: _Run) -> Memory:
    """Return the optimiser's step."""
    number, count = FORMATS[run.trained], _trained_numbers(run)
    _, _, lists, tensors = OPTIMIZERS[run.optimizer]
    temporary = lists * count * number
    if run.gpus > 1 and run.sharding == "fsdp":
        temporary = -(-temporary // run.gpus)
    if run.r is None:
        shapes = (m * n for m, n in run.sizes.linears.values())
        # An encoder has no head, but it has an embedding.
        largest = max(run.sizes.vocabulary * run.sizes.width, *shapes)
    else:
        maps = adapted_maps(run.sizes, run.names).values()
        largest = run.r * max(max(shape) for shape in maps)
    return _at(
        run,
        copies=0,
        gathered=False,
        gradients=count * number,
        activations=0,
        temporary=temporary + tensors * largest * number + _held_logits(run),
    )


def training_flops(
    model: str | Architecture,
    r: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    checkpointing: bool = False,
    *,
    sequence: int | None = None,
) -> int:
    """Return the operations of one training step, for each token.

    The products with the linear maps of the blocks, forward and backward; a
    multiply-add counts 2. A trained weight takes part in three products
    (output, gradient of the input, gradient of the weight), a frozen one in
    the first two: (2 N^2 + 6 N r) / (3 N^2) of the work for a frozen N x N
    map with an adapter (Schulman et al. 2025).

    Parameters
    ----------
    model, r, targets
        See `training_memory`.
    checkpointing : bool
        Count the forward pass of the blocks twice.
    sequence : int, optional
        Also count the head, and the scores of the attention over so many
        tokens: two products forward and five backward, as PyTorch counts its
        fused kernels on a GPU.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    again = 2 if checkpointing else 0
    products = 6 if r is None else 4
    found = (products + again) * sizes.linear_parameters
    if r is not None:
        found += (6 + again) * adapter_parameters(sizes, r, targets)
    if sequence is not None:
        _check_tokens(sizes, 1, sequence)
        found += products * sizes.head_parameters
        scores = 2 * sequence * sizes.linears["q"][0]
        found += (7 + again) * sizes.layers * scores
    return found


def smallest_card(total: int) -> int | None:
    """Return the least of `CARDS` that holds `total` bytes and a tenth more.

    The tenth is for the context of the device and for fragmentation. None if
    there is no such card.
    """
    return next((x for x in CARDS if 11 * total <= 10 * x * 2**30), None)


def _check_tokens(sizes: Architecture, batch: int, sequence: int) -> None:
    if not (_is_count(batch) and _is_count(sequence)):
        raise ValueError(
            "need batch >= 1 and sequence >= 1, whole numbers, "
            f"got {batch} and {sequence}"
        )
    if sizes.positions is not None and sequence > sizes.positions:
        raise ValueError(
            f"the model has learned {sizes.positions:,} positions and takes "
            f"no sequence of {sequence:,} tokens"
        )


def _is_count(value: object) -> bool:
    """Tell whether a value is a whole number, and at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        return False
    return int(value) >= 1


def _one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    words = tuple(allowed)
    if value not in words:
        raise ValueError(
            f"{name} must be one of {', '.join(words)}, got {value!r}"
        )


def table(
    model: str | Architecture,
    r: int,
    targets: str | Sequence[str] = "all-linear",
    **settings: Unpack[Settings],
) -> str:
    """Return what full fine-tuning, LoRA and QLoRA need, side by side.

    Parameters
    ----------
    model, r, targets, **settings
        See `training_memory`; `base` and `trained` are those of the column
        "LoRA".

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    autocast = settings.get("autocast", True)
    columns: dict[str, tuple[int | None, Settings]] = {
        "full, bf16": (None, {"trained": "bf16", "autocast": False}),
        "full, mixed" if autocast else "full, fp32": (
            None,
            {"trained": "fp32"},
        ),
        "LoRA": (r, {}),
        "LoRA, NF4 base": (r, {"base": "nf4"}),
    }
    if settings.get("base") == "nf4":
        del columns["LoRA"]
    found = {}
    for name, (rank, special) in columns.items():
        chosen = settings.copy()
        chosen.update(special)
        found[name] = moments(sizes, rank, targets, **chosen)
    lines = _counts(model, r, targets, settings)
    lines += ["", "GB (10^9 bytes)" + "".join(f"{name:>16}" for name in found)]

    def row(name: str, values: Iterable[Any]) -> None:
        texts = (
            f"{x / 1e9:16,.3f}" if isinstance(x, int) else f"{x:>16}"
            for x in values
        )
        lines.append(f"{name:15}" + "".join(texts))

    peaks = [_largest(each.values()) for each in found.values()]
    for part in (*(x.name for x in fields(Memory)), "total"):
        row(part, (getattr(peak, part) for peak in peaks))
    row(
        "moment",
        (
            next(k for k, v in each.items() if v is peak)
            for each, peak in zip(found.values(), peaks, strict=True)
        ),
    )
    cards = (smallest_card(peak.total) for peak in peaks)
    row("card, GiB", (str(card or "several") for card in cards))
    lines.append("")
    for moment in ("loss", "backward", "step"):
        row(f"at the {moment}"[:15], (x[moment].total for x in found.values()))
    return "\n".join([*lines, "", *_legend(settings)])


def _counts(
    model: str | Architecture,
    r: int,
    targets: str | Sequence[str],
    settings: Settings,
) -> list[str]:
    """Return the lines about numbers and operations."""
    sizes = architecture_of(model)
    adapters = adapter_parameters(sizes, r, targets)
    name = model if isinstance(model, str) else "the model"
    lines = [
        f"{name}: {sizes.parameters:,} parameters",
        f"LoRA, r = {r}, on {', '.join(target_names(sizes, targets))}: "
        f"{adapters:,} trained numbers",
    ]
    names = target_names(sizes, targets)
    together = [
        ", ".join(group) for group in sizes.fused if set(group) <= set(names)
    ]
    if together:
        apart = r * sizes.layers * sum(sum(sizes.linears[x]) for x in names)
        lines.append(
            f"  {' and '.join(together)} as one map, as PEFT adapts them; "
            f"each by itself: {apart:,}"
        )
    checkpointing = settings.get("checkpointing", True)
    work = [
        training_flops(
            sizes,
            rank,
            targets,
            checkpointing,
            sequence=settings.get("sequence", 1024),
        )
        for rank in (r, None)
    ]
    lines += [
        f"  {adapters / sizes.parameters:.3%} of the model; as a file, "
        f"{4 * adapters / 1e6:,.1f} MB in fp32, half of it in 16 bits",
        f"  products of a step, head and scores included: "
        f"{work[0] / work[1]:.1%} of",
        "  full fine-tuning's; the optimizer's step comes on top of either",
    ]
    return lines


def _legend(settings: Settings) -> list[str]:
    """Return the lines under the table."""
    tokens = f"{settings.get('batch', 1)} x {settings.get('sequence', 1024):,}"
    checkpointing = settings.get("checkpointing", True)
    kept = "only block inputs kept" if checkpointing else "all kept"
    autocast = settings.get("autocast", True)
    lines = [
        f"{settings.get('optimizer', 'adamw')}; a batch of {tokens} tokens, "
        f"{kept}; {'autocast' if autocast else 'no autocast'}.",
        "full, bf16: weights, gradients and optimizer in bf16; mixed: these "
        "in fp32,",
        "computed in bf16. temporary: held for this moment by the loss, by a "
        "block",
        "or by the optimizer. card: the smallest with a tenth to spare.",
    ]
    gpus = settings.get("gpus", 1)
    if gpus > 1:
        sharding = settings.get("sharding", "ddp").upper()
        lines.append(
            f"{gpus} GPUs with {sharding}; the memory is that of one."
        )
    return lines


class _Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def _parser() -> _Parser:
    names = textwrap.fill(
        f"Models: {', '.join(ARCHITECTURES)}.", break_on_hyphens=False
    )
    kinds = textwrap.fill(f"Families of --config: {', '.join(FAMILIES)}.")
    parser = _Parser(
        prog="python -m lorabook.cost",
        description="What LoRA costs, beside full fine-tuning.",
        epilog=f"{names}\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", help="one of those below")
    which.add_argument(
        "--config", metavar="FILE", help="a config.json of Hugging Face"
    )

    def choice(option: str, default: str, words: Iterable[str]) -> None:
        listed = ", ".join(words)
        add(option, default=default, help=f"{listed} (%(default)s)")

    def number(option: str, default: int, words: str) -> None:
        add(option, type=int, default=default, help=f"{words} (%(default)s)")

    def switch(option: str, words: str, name: str, value: bool) -> None:
        action = "store_true" if value else "store_false"
        add(option, action=action, dest=name, help=words)

    add(
        "--rank",
        dest="r",
        type=int,
        default=16,
        help="of the adapters (%(default)s)",
    )
    choice("--targets", "all-linear", (*TARGETS, "or names such as q,v"))
    choice("--base", "bf16", BASES)
    choice("--trained", "fp32", FORMATS)
    choice("--optimizer", "adamw", OPTIMIZERS)
    choice("--loss", "freed", LOSSES)
    number("--batch", 1, "texts at a time, on one GPU")
    number("--sequence", 1024, "tokens of each")
    number("--accumulation", 1, "backward passes for one step")
    number("--gpus", 1, "how many")
    choice("--sharding", "ddp", SHARDINGS)
    switch(
        "--no-checkpointing",
        "keep all activations, not only the inputs of blocks",
        "checkpointing",
        False,
    )
    switch("--no-autocast", "compute as stored", "autocast", False)
    switch("--dropout", "adapters drop out inputs", "dropout", True)
    switch(
        "--not-prepared",
        "no prepare_model_for_kbit_training",
        "prepared",
        False,
    )
    switch(
        "--double-quantisation",
        "NF4 with 8-bit scales",
        "double_quantisation",
        True,
    )
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    name, file = options.pop("model"), options.pop("config")
    try:
        model = name if file is None else from_config(file)
        text = table(model, **options)
    except ValueError as error:
        parser.error(str(error))
    print(text if name else text.replace("the model:", f"{file}:", 1))


if __name__ == "__main__":
    main()
