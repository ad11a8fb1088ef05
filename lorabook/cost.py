"""What training costs: parameters, bytes and operations, by formula.

    python -m lorabook.cost --model llama-3-8b --rank 16 --targets all-linear

prints what one would want to know before renting a GPU. All bytes are exact
counts of what they name. What they leave out: the buffers of the framework
and of the kernels, fragmentation, and copies in other formats.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from lorabook.models import ARCHITECTURES, Architecture

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
# Bytes that an optimiser remembers of each trained number.
OPTIMIZERS = {"adamw": 8, "adamw-8bit": 2, "sgd-momentum": 4, "sgd": 0}


@dataclass(frozen=True)
class Memory:
    """Bytes that training holds, by what they are for.

    Attributes
    ----------
    weights, adapter, gradients, optimizer, activations : int
        The model as it is stored, the trained factors, one gradient for each
        trained number, what the optimiser remembers, and what is saved for
        the backward pass.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """Their sum."""
        return (
            self.weights
            + self.adapter
            + self.gradients
            + self.optimizer
            + self.activations
        )


def architecture_of(model: str | Architecture) -> Architecture:
    """Return an architecture, given itself or its name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if isinstance(model, Architecture):
        return model
    if model not in ARCHITECTURES:
        raise ValueError(
            f"there is no model {model!r}; there are "
            + ", ".join(ARCHITECTURES)
        )
    return ARCHITECTURES[model]


def target_names(
    model: str | Architecture, targets: str | Sequence[str]
) -> tuple[str, ...]:
    """Return the linear maps of a block that get an adapter.

    Parameters
    ----------
    model : str or Architecture
        See `lorabook.models.ARCHITECTURES`.
    targets : str or sequence of str
        A key of `TARGETS`, of which the maps that the model has are taken;
        or names of maps, as a sequence or joined by commas.

    Raises
    ------
    ValueError
        If the model has no such map, or if none is named.
    """
    known = architecture_of(model).linears
    if isinstance(targets, str):
        if targets in TARGETS:
            return tuple(x for x in TARGETS[targets] if x in known)
        targets = targets.split(",")
    for name in targets:
        if name not in known:
            raise ValueError(
                f"there is no target {name!r}; there are "
                f"{', '.join(TARGETS)} and, by name, {', '.join(known)}"
            )
    if not targets:
        raise ValueError("no target is named")
    return tuple(x for x in known if x in targets)


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
        raise ValueError(f"need 1 <= rank <= {least}, got {rank}")
    return sizes.layers * sum(
        rank * sum(sizes.linears[name]) for name in names
    )


def weight_bytes(model: str | Architecture, base: str = "bf16") -> int:
    """Return the bytes of a stored model.

    Parameters
    ----------
    model : str or Architecture
        See `lorabook.models.ARCHITECTURES`.
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
    activations: str = "bf16",
    checkpointing: bool = False,
) -> int:
    """Return the bytes that the forward pass saves for the backward pass.

    For pre-norm blocks with PyTorch's fused norms and attention, without
    dropout, and for a loss on every token. A frozen linear map need not keep
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
    activations : str
        ``"fp32"`` or ``"bf16"``. Statistics of norms and attention, and the
        logarithms of the probabilities, are fp32 in any case.
    checkpointing : bool
        Keep only the input of each block, and save the rest again for one
        block at a time, on the way back.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    _one_of("activations", activations, FORMATS)
    if batch < 1 or sequence < 1:
        raise ValueError(
            f"need batch >= 1 and sequence >= 1, got {batch} and {sequence}"
        )
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
    if {"q", "k", "v"} & set(names):
        numbers += d
    if {"gate", "up"} & set(names):
        numbers += d
    if "down" in names:
        numbers += hidden
    if rank is not None:
        numbers += rank * len(names)
    # A LayerNorm keeps a mean and a deviation, an RMSNorm only the latter.
    statistics = (1 if gated else 2) * 2 + sizes.heads
    c = FORMATS[activations]
    block = c * numbers + 4 * statistics
    # Last norm, its output if the head trains, and the loss.
    end = c * d + 4 * (1 if gated else 2) + 4 * sizes.vocabulary
    end += c * d if rank is None else 0
    if checkpointing:
        blocks = sizes.layers * c * d + (block - c * d)
    else:
        blocks = sizes.layers * block
    return batch * sequence * (blocks + end)


def training_memory(
    model: str | Architecture,
    rank: int | None = None,
    targets: str | Sequence[str] = "all-linear",
    *,
    base: str = "bf16",
    trained: str = "fp32",
    optimizer: str = "adamw",
    batch: int = 1,
    sequence: int = 1024,
    checkpointing: bool = True,
) -> Memory:
    """Return the bytes that training holds at the end of a forward pass.

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
        ``"bf16"``.
    optimizer : str
        A key of `OPTIMIZERS`; the states of ``"adamw"`` are fp32.
    batch, sequence, checkpointing
        See `activation_bytes`; activations are bf16.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    _one_of("trained", trained, FORMATS)
    _one_of("optimizer", optimizer, OPTIMIZERS)
    if rank is None:
        count = sizes.parameters
        weights, adapter = count * FORMATS[trained], 0
    else:
        count = adapter_parameters(sizes, rank, targets)
        weights, adapter = weight_bytes(sizes, base), count * FORMATS[trained]
    return Memory(
        weights,
        adapter,
        gradients=count * FORMATS[trained],
        optimizer=count * OPTIMIZERS[optimizer],
        activations=activation_bytes(
            sizes,
            batch,
            sequence,
            rank,
            targets,
            checkpointing=checkpointing,
        ),
    )


def training_flops(
    model: str | Architecture,
    rank: int | None = None,
    targets: str | Sequence[str] = "all-linear",
) -> int:
    """Return the operations of one training step, for each token.

    The products with the linear maps of the blocks, forward and backward; a
    multiply-add counts 2. A trained weight takes part in three products
    (output, gradient of the input, gradient of the weight), a frozen one in
    the first two: (2 N^2 + 6 N r) / (3 N^2) of the work for a frozen N x N
    map with an adapter. The scores of the attention, the head and the
    embedding are left out, as is recomputation.

    Parameters
    ----------
    model, rank, targets
        See `training_memory`.

    Raises
    ------
    ValueError
        If anything does not fit.
    """
    sizes = architecture_of(model)
    if rank is None:
        return 6 * sizes.linear_parameters
    adapters = adapter_parameters(sizes, rank, targets)
    return 4 * sizes.linear_parameters + 6 * adapters


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
        "full": (None, "bf16", "bf16"),
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
    rows = ("weights", "adapter", "gradients", "optimizer", "activations")
    lines = [
        f"{model}: {sizes.parameters:,} parameters",
        f"LoRA, r = {rank}, on {', '.join(target_names(sizes, targets))}: "
        f"{adapters:,} trained numbers",
        f"  {adapters / sizes.parameters:.3%} of the model; as a file, "
        f"{2 * adapters / 1e6:,.1f} MB in 16 bits",
        f"  training operations: "
        f"{training_flops(sizes, rank, targets) / training_flops(sizes):.1%} "
        "of full fine-tuning's",
        "",
        "GB (10^9 bytes)" + "".join(f"{name:>16}" for name in columns),
    ]
    for row in (*rows, "total"):
        values = (getattr(memory, row) / 1e9 for memory in found)
        lines.append(f"{row:15}" + "".join(f"{x:16,.3f}" for x in values))
    kept = "only block inputs kept" if checkpointing else "all kept"
    lines += [
        "",
        f"{optimizer}; a batch of {batch} x {sequence:,} tokens, {kept}.",
        "full: everything trained in bf16; mixed: trained in fp32, computed "
        "in bf16.",
        "On top come the framework's and the kernels' own buffers.",
    ]
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """A parser that answers a mistake with one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message}\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = _Parser(
        prog="python -m lorabook.cost",
        description="What LoRA costs, beside full fine-tuning.",
        epilog=f"Models: {', '.join(ARCHITECTURES)}. Targets: "
        f"{', '.join(TARGETS)}, or names such as q,v.",
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--targets", default="all-linear")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--sequence", type=int, default=1024)
    parser.add_argument(
        "--no-checkpointing", action="store_false", dest="checkpointing"
    )
    try:
        print(table(**vars(parser.parse_args(arguments))))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
