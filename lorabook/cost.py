"""What training costs: parameters, bytes and operations, by formula.

    python -m lorabook.cost --model llama-3-8b --rank 16 --targets all-linear

prints what one would want to know before renting a GPU. What the counts leave
out: the buffers of the framework and of the kernels, fragmentation, dropout's
masks, and what a library's own blocks keep beyond PyTorch's fused ones.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import NoReturn

from lorabook.architectures import ARCHITECTURES, Architecture

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
# How many numbers an optimiser remembers of each trained one, and the bytes of
# each; None: the format of the trained number, as in torch.optim.
OPTIMIZERS: dict[str, tuple[int, int | None]] = {
    "adamw": (2, None),
    "adamw-8bit": (2, 1),
    "sgd-momentum": (1, None),
    "sgd": (0, None),
}
CARDS = (8, 12, 16, 24, 40, 48, 80, 96, 141, 192)  # GiB that cards have


@dataclass(frozen=True)
class Memory:
    """Bytes that training holds, by what they are for.

    Attributes
    ----------
    weights, adapter, gradients, optimizer, activations : int
        The model as it is stored, the trained factors, one gradient for each
        trained number, what the optimiser remembers, and what is saved for
        the backward pass.
    peak : int
        What is held on top for a moment: by the loss or, with checkpointing,
        by a block that is computed again, whichever is more.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    peak: int

    @property
    def total(self) -> int:
        """Their sum."""
        return sum(getattr(self, field.name) for field in fields(self))


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


def adapter_parameters(
    model: str | Architecture,
    rank: int,
    targets: str | Sequence[str] = "all-linear",
) -> int:
    """Return the numbers in A and B of all adapted layers.

    r (d_out + d_in) for each (Hu et al. 2022, section 4.2).

    Parameters
    ----------
    model, targets
        See `target_names`.
    rank : int
        r, at least 1.

    Raises
    ------
    ValueError
        If the model, the targets or the rank do not fit.
    """
    sizes = architecture_of(model)
    names = target_names(sizes, targets)
    least = min(min(sizes.linears[name]) for name in names)
    if not 1 <= rank <= least:
        raise ValueError(
            f"need 1 <= rank <= {least}, the smaller side of the smallest "
            f"map, got {rank}"
        )
    return sizes.layers * sum(
        rank * sum(sizes.linears[name]) for name in names
    )


def weight_bytes(model: str | Architecture, base: str = "bf16") -> int:
    """Return the bytes of a stored model.

    Parameters
    ----------
    model : str or Architecture
        See `lorabook.architectures.ARCHITECTURES`.
    base : str
        ``"fp32"`` or ``"bf16"`` for everything; ``"int8"`` or ``"nf4"`` for
        the linear maps of the blocks, and bf16 for the rest. int8 has one
        fp32 scale for each row. NF4 has 4 bits a number, one 8-bit scale for
        64 numbers, and one fp32 scale for 256 of those (Dettmers et al.
        2023: "double quantisation").

    Raises
    ------
    ValueError
        If the model or the format is unknown.
    """
    sizes = architecture_of(model)
    _one_of("base", base, BASES)
    if base in FORMATS:
        return sizes.parameters * FORMATS[base]
    block = 0
    for m, n in sizes.linears.values():
        if base == "int8":
            block += m * n + 4 * m
        else:
            scales = -(-m * n // 64)
            block += -(-m * n // 2) + scales + 4 * -(-scales // 256)
    return sizes.layers * block + 2 * sizes.other


def activation_bytes(
    model: str | Architecture,
    batch: int,
    sequence: int,
    rank: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    *,
    trained: str = "fp32",
    activations: str = "bf16",
    checkpointing: bool = False,
) -> int:
    """Return the bytes that the forward pass saves for the backward pass.

    For pre-norm blocks with PyTorch's fused norms and attention, without
    dropout; of the loss see `loss_bytes`. A frozen linear map need not keep
    its input; the norms, the attention and the activation function keep
    theirs, whatever is trained.

    Parameters
    ----------
    model, targets
        See `target_names`.
    batch, sequence : int
        Sequences at a time, and tokens of each.
    rank : int, optional
        r of the adapters; full fine-tuning without it.
    trained : str
        Format of the factors, ``"fp32"`` or ``"bf16"``. Where it is not that
        of the activations, each adapted map converts its input for itself
        and keeps the copy, as PEFT's layers do without autocast.
    activations : str
        ``"fp32"`` or ``"bf16"``. Statistics of norms and attention are fp32
        in any case.
    checkpointing : bool
        Keep only the input of each block (Chen et al. 2016).

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    if batch < 1 or sequence < 1:
        raise ValueError(
            f"need batch >= 1 and sequence >= 1, got {batch} and {sequence}"
        )
    block = _block_bytes(sizes, rank, targets, trained, activations)
    d, c = sizes.width, FORMATS[activations]
    # The last norm, and its output if the head trains.
    end = c * d + 4 * _statistics(sizes) + (c * d if rank is None else 0)
    each = c * d if checkpointing else block
    return batch * sequence * (sizes.layers * each + end)


def _statistics(sizes: Architecture) -> int:
    """Count what a norm keeps: a LayerNorm two numbers, an RMSNorm one."""
    return 1 if "gate" in sizes.linears else 2


def _block_bytes(
    sizes: Architecture,
    rank: int | None,
    targets: str | Sequence[str],
    trained: str,
    activations: str,
) -> int:
    """Return what one block saves, for each token."""
    _one_of("trained", trained, FORMATS)
    _one_of("activations", activations, FORMATS)
    names = (
        tuple(sizes.linears) if rank is None else target_names(sizes, targets)
    )
    if rank is not None:
        adapter_parameters(sizes, rank, names)  # checks the rank
    d, kv = sizes.width, sizes.linears["k"][0]
    hidden = sizes.linears["up"][0]
    gated = "gate" in sizes.linears
    # Inputs of two norms; q, k, v and the output of the attention; inputs of
    # the activation function and, with a gate, of the product after it.
    numbers = 2 * d + 2 * d + 2 * kv + hidden * (3 if gated else 1)
    statistics = 2 * _statistics(sizes) + sizes.heads
    c, size = FORMATS[activations], FORMATS[trained]
    if rank is not None and size != c:
        copies = sum(sizes.linears[name][1] + rank for name in names)
        return c * numbers + size * copies + 4 * statistics
    if {"q", "k", "v"} & set(names):
        numbers += d
    if {"gate", "up"} & set(names):
        numbers += d
    if "down" in names:
        numbers += hidden
    if rank is not None:
        numbers += rank * len(names)
    return c * numbers + 4 * statistics


def loss_bytes(model: str | Architecture, batch: int, sequence: int) -> int:
    """Return what cross-entropy over all tokens holds at its peak.

    The logarithms of the probabilities, their gradient and that of the
    logits: three fp32 numbers for each token and each word of the
    vocabulary. Only the first is kept from the forward pass. A fused loss
    avoids most of it. An encoder is counted without a head, and has none.

    Parameters
    ----------
    model, batch, sequence
        See `activation_bytes`.

    Raises
    ------
    ValueError
        If the model is unknown.
    """
    sizes = architecture_of(model)
    return 12 * batch * sequence * sizes.vocabulary * sizes.decoder


def training_memory(
    model: str | Architecture,
    rank: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    *,
    base: str = "bf16",
    trained: str = "fp32",
    activations: str = "bf16",
    optimizer: str = "adamw",
    batch: int = 1,
    sequence: int = 1024,
    checkpointing: bool = True,
) -> Memory:
    """Return the bytes that training holds, as a sum of its parts.

    Parameters
    ----------
    model, targets
        See `target_names`.
    rank : int, optional
        r of the adapters. Without it, all weights are trained.
    base : str
        Format of the frozen model, see `weight_bytes`. Without adapters
        nothing is frozen, and it has no meaning.
    trained : str
        Format of what is trained and of its gradients, ``"fp32"`` or
        ``"bf16"``. If whole weights are trained in fp32 and used in bf16,
        the linear maps of the blocks are held in both (``torch.autocast``
        keeps the copies for the backward pass).
    activations : str
        See `activation_bytes`.
    optimizer : str
        A key of `OPTIMIZERS`. ``"adamw"`` remembers two numbers in the format
        of the trained one, as PyTorch does; ``"adamw-8bit"`` two bytes, its
        scales and its exceptions for small tensors and embeddings left out.
    batch, sequence, checkpointing
        See `activation_bytes`.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    _one_of("trained", trained, FORMATS)
    _one_of("optimizer", optimizer, OPTIMIZERS)
    kept = activation_bytes(
        sizes,
        batch,
        sequence,
        rank,
        targets,
        trained=trained,
        activations=activations,
        checkpointing=checkpointing,
    )
    size = FORMATS[trained]
    if rank is None:
        count = sizes.parameters
        weights, adapter = count * size, 0
        if size > FORMATS[activations]:
            weights += FORMATS[activations] * sizes.linear_parameters
    else:
        count = adapter_parameters(sizes, rank, targets)
        weights, adapter = weight_bytes(sizes, base), count * size
    remembered, each = OPTIMIZERS[optimizer]
    peak = loss_bytes(sizes, batch, sequence)
    if checkpointing:
        block = _block_bytes(sizes, rank, targets, trained, activations)
        again = block - FORMATS[activations] * sizes.width
        peak = max(peak, batch * sequence * again)
    return Memory(
        weights,
        adapter,
        gradients=count * size,
        optimizer=count * remembered * (each or size),
        activations=kept,
        peak=peak,
    )


def training_flops(
    model: str | Architecture,
    rank: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    checkpointing: bool = False,
) -> int:
    """Return the operations of one training step, for each token.

    The products with the linear maps of the blocks, forward and backward; a
    multiply-add counts 2. A trained weight takes part in three products
    (output, gradient of the input, gradient of the weight), a frozen one in
    the first two: (2 N^2 + 6 N r) / (3 N^2) of the work for a frozen N x N
    map with an adapter (Schulman et al. 2025). The scores of the attention
    and the head are left out.

    Parameters
    ----------
    model, rank, targets
        See `training_memory`.
    checkpointing : bool
        Count the forward pass twice.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    again = 2 if checkpointing else 0
    if rank is None:
        return (6 + again) * sizes.linear_parameters
    adapters = adapter_parameters(sizes, rank, targets)
    return (4 + again) * sizes.linear_parameters + (6 + again) * adapters


def smallest_card(total: int) -> int | None:
    """Return the least of `CARDS` that holds `total` bytes and a tenth more.

    None if there is no such card.
    """
    return next((x for x in CARDS if 1.1 * total <= x * 2**30), None)


def _one_of(name: str, value: str, allowed: Iterable[str]) -> None:
    words = tuple(allowed)
    if value not in words:
        raise ValueError(
            f"{name} must be one of {', '.join(words)}, got {value!r}"
        )


def table(
    model: str,
    rank: int,
    targets: str = "all-linear",
    *,
    optimizer: str = "adamw",
    batch: int = 1,
    sequence: int = 1024,
    checkpointing: bool = True,
) -> str:
    """Return what full fine-tuning, LoRA and QLoRA need, side by side.

    Parameters
    ----------
    model, rank, targets, optimizer, batch, sequence, checkpointing
        See `training_memory`.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    adapters = adapter_parameters(sizes, rank, targets)
    columns = {
        "full, bf16": (None, "bf16", "bf16"),
        "full, mixed": (None, "bf16", "fp32"),
        "LoRA": (rank, "bf16", "fp32"),
        "LoRA, NF4 base": (rank, "nf4", "fp32"),
    }
    found = [
        training_memory(
            sizes,
            r,
            targets,
            base=base,
            trained=trained,
            optimizer=optimizer,
            batch=batch,
            sequence=sequence,
            checkpointing=checkpointing,
        )
        for r, base, trained in columns.values()
    ]
    work = [
        training_flops(sizes, r, targets, checkpointing) for r in (rank, None)
    ]
    lines = [
        f"{model}: {sizes.parameters:,} parameters",
        f"LoRA, r = {rank}, on {', '.join(target_names(sizes, targets))}: "
        f"{adapters:,} trained numbers",
        f"  {adapters / sizes.parameters:.3%} of the model; as a file, "
        f"{4 * adapters / 1e6:,.1f} MB in fp32, half of it in 16 bits",
        f"  operations of a step: {work[0] / work[1]:.1%} of full "
        "fine-tuning's",
        "",
        "GB (10^9 bytes)" + "".join(f"{name:>16}" for name in columns),
    ]
    for row in (*(field.name for field in fields(Memory)), "total"):
        values = (getattr(memory, row) / 1e9 for memory in found)
        lines.append(f"{row:15}" + "".join(f"{x:16,.3f}" for x in values))
    cards = (smallest_card(memory.total) or "several" for memory in found)
    kept = "only block inputs kept" if checkpointing else "all kept"
    lines += [
        "card, GiB      " + "".join(f"{card!s:>16}" for card in cards),
        "",
        f"{optimizer}; a batch of {batch} x {sequence:,} tokens, {kept}.",
        "full, bf16: weights, gradients and optimizer in bf16; mixed: these "
        "in fp32,",
        "computed in bf16. LoRA: fp32 factors, computed in bf16 but for them.",
        "peak: the loss or one block again, for a moment. card: the smallest "
        "with a",
        "tenth to spare. On top come buffers of the framework and of kernels.",
    ]
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    names = textwrap.fill(
        f"Models: {', '.join(ARCHITECTURES)}.", break_on_hyphens=False
    )
    parser = _Parser(
        prog="python -m lorabook.cost",
        description="What LoRA costs, beside full fine-tuning.",
        epilog=names,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, help="one of those below")
    add("--rank", type=int, default=16, help="of the adapters (%(default)s)")
    add(
        "--targets",
        default="all-linear",
        help=f"{', '.join(TARGETS)}, or names such as q,v (%(default)s)",
    )
    add(
        "--optimizer",
        default="adamw",
        help=f"{', '.join(OPTIMIZERS)} (%(default)s)",
    )
    add("--batch", type=int, default=1, help="texts at a time (%(default)s)")
    add(
        "--sequence",
        type=int,
        default=1024,
        help="tokens of each (%(default)s)",
    )
    add(
        "--no-checkpointing",
        action="store_false",
        dest="checkpointing",
        help="keep all activations, not only the inputs of blocks",
    )
    try:
        print(table(**vars(parser.parse_args(arguments))))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
