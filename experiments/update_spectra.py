"""Take the update of each weight matrix apart, and cut it to each rank.

    python experiments/update_spectra.py

writes ``assets/results/update_spectra.json``. It trains the 24 linear maps of
the book's language model on code, as ``experiments/adapt_tiny_gpt.py`` does:
with seed 0, at the rate that validation chose there. For each map it writes
the singular values of the update, of the weight before training and of
Gaussian noise of the update's norm. Then come losses on unseen code, with
updates cut down to each rank: all 24 together; one of them, nothing else
being updated (``"alone"``); and one of them, the other 23 being left whole
(``"among"``). With one thread it takes about a quarter of an hour.

The losses of all 24 together are those of the whole test text. For one map,
every fifth piece of it has to do: there are 16 losses for each of 24 maps.
"""

from __future__ import annotations

import sys
from typing import Any

import provenance
import torch
from adapt_tiny_gpt import BATCH, CUTS, SETTINGS, STEPS, adapt
from torch import Tensor

from lorabook import data
from lorabook.linalg import SVD, truncated_svd
from lorabook.models import (
    TinyGPT,
    bits_per_byte,
    linear_maps,
    load_tiny_gpt,
)
from lorabook.seeding import generator

METHOD, SEED, NOISE_SEED = "matrices", 0, 0
FULL = CUTS[-1]
# Pieces of eight windows; every fifth is read, spread over the whole text.
PIECE, EVERY = 1024, 5

Weights = dict[str, Tensor]


def weights(model: TinyGPT) -> Weights:
    """Return the weights of the linear maps, as float64."""
    return {
        name: layer.weight.detach().double()
        for name, layer in linear_maps(model).items()
    }


def noise_like(M: Tensor, draw: torch.Generator) -> Tensor:
    """Return a Gaussian matrix of the shape and the norm of `M`."""
    noise = torch.randn(M.shape, generator=draw, dtype=M.dtype)
    scaled: Tensor = noise * (M.norm() / noise.norm())
    return scaled


def cut(parts: SVD, r: int) -> Tensor:
    """Return the sum of the first `r` singular directions."""
    U, S, Vh = parts
    return (U[:, :r] * S[:r]) @ Vh[:r]


def spread(text: Tensor) -> Tensor:
    """Return every fifth piece of a text, from its first to its end."""
    pieces = len(text) // PIECE
    return text[: pieces * PIECE].view(pieces, PIECE)[::EVERY].flatten()


@torch.no_grad()
def loss(
    model: TinyGPT, before: Weights, updates: Weights, text: Tensor
) -> float:
    """Return bits per byte with these updates; other maps have none."""
    for name, layer in linear_maps(model).items():
        W = before[name]
        layer.weight.copy_(W + updates[name] if name in updates else W)
    return bits_per_byte(model, text)


def rounded(M: Tensor) -> list[float]:
    """Return the singular values with five significant digits."""
    return [float(f"{s:.5g}") for s in torch.linalg.svdvals(M).tolist()]


def progress(sentence: str) -> None:
    """Say how far it is."""
    print(sentence, file=sys.stderr, flush=True)


def taken_apart(tuned: TinyGPT, text: Tensor) -> dict[str, Any]:
    """Return spectra and losses."""
    model = load_tiny_gpt()
    before, after = weights(model), weights(tuned)
    update = {name: after[name] - W for name, W in before.items()}
    parts = {name: truncated_svd(M, FULL) for name, M in update.items()}
    together = {}
    for r in CUTS:
        cuts = {name: cut(part, r) for name, part in parts.items()}
        together[str(r)] = loss(model, before, cuts, text)
        progress(f"all at rank {r}: {together[str(r)]:.4f} bits per byte")
    some = spread(text)
    found: dict[str, Any] = {
        "all": together,
        "few": {
            "bytes": len(some),
            "before": loss(model, before, {}, some),
            "after": loss(model, before, update, some),
        },
        "layers": {},
    }
    draw = generator(NOISE_SEED)
    for name, M in update.items():
        alone = {
            str(r): loss(model, before, {name: cut(parts[name], r)}, some)
            for r in CUTS[1:]
        }
        among = {
            str(r): loss(
                model, before, update | {name: cut(parts[name], r)}, some
            )
            for r in CUTS[:-1]
        }
        found["layers"][name] = {
            "update": rounded(M),
            "weight": rounded(before[name]),
            "noise": rounded(noise_like(M, draw)),
            # What no cut changes was measured once.
            "alone": {"0": found["few"]["before"], **alone},
            "among": {**among, str(FULL): found["few"]["after"]},
        }
        done = f"{len(found['layers'])} of {len(update)}"
        progress(f"{done}, {name}: {alone[str(FULL)]:.4f} alone")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = provenance.parser(
        __doc__, provenance.ASSETS / "results" / "update_spectra.json"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--bytes", type=int, help="use only so much of the test text"
    )
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps needs 1 or more, got {options.steps}")
    if options.bytes is not None and options.bytes < PIECE:
        parser.error(f"--bytes needs {PIECE} or more, got {options.bytes}")
    torch.set_num_threads(1)
    lr = data.results("adaptation").best(method=METHOD)["lr"]
    text = data.corpus("code", "test")[: options.bytes]
    command = f"python experiments/update_spectra.py --steps {options.steps}"
    if options.bytes is not None:
        command += f" --bytes {options.bytes}"
    settings = {
        "method": METHOD,
        "seed": SEED,
        "lr": lr,
        "steps": options.steps,
        "batch": BATCH,
        "optimizer": "Adam, linear decay",
        **SETTINGS,
        "noise seed": NOISE_SEED,
        "bytes of test text": len(text),
        "for one layer": f"every {EVERY}th piece of {PIECE} bytes",
    }
    try:
        about = provenance.record(
            command, settings, (options.out,), options.allow_dirty
        )
    except provenance.Refused as error:
        parser.error(str(error))
    tuned = adapt(METHOD, lr, SEED, steps=options.steps)
    found = {"provenance": about, **taken_apart(tuned, text)}
    provenance.write(options.out, found)


if __name__ == "__main__":
    main()
