"""Adapt the book's language model to code, in many ways.

    python experiments/adapt_tiny_gpt.py

writes ``assets/results/adaptation.json``: the losses of full fine-tuning and
of LoRA over ranks, scalings and learning rates, and of the updates that full
fine-tuning found, cut down to each rank afterwards. With one thread it takes
about an hour and a half. Every run is written as soon as it is done, and a
run that is in the file is not repeated, so what was cut off goes on where it
was.

The learning rate of each method, and α of LoRA at each rank, are chosen on the
validation text with seed 0; all seeds then use them. The test text chooses
nothing. LoRA at α = 16 is run with all seeds too, so that what tuning α gains
can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import provenance
import torch
from sweeps import Run, carry_out, other_seeds, walk_rates
from torch import nn

from lorabook import data
from lorabook.adapters import inject
from lorabook.linalg import truncated_svd
from lorabook.models import (
    LINEARS,
    TinyGPT,
    bits_per_byte,
    linear_maps,
    load_tiny_gpt,
)
from lorabook.seeding import seed_all
from lorabook.train import text_loss, train

RANKS = (1, 2, 4, 8, 16, 32)
ROOT_RANKS = (1, 8, 32)  # at which the other scaling is tried
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
SEEDS = (0, 1, 2, 3, 4)
# Steps of a factor of about the square root of 10, and finer around the best
# ones: with the coarse steps alone, half a step decided who was ahead at rank
# 32. A best rate at an end of its list would say that the list is too short; a
# test looks.
RATES = {
    "full": (1e-4, 3e-4, 1e-3, 1.4e-3, 2e-3, 2.8e-3, 4e-3, 1e-2),
    "matrices": (1e-4, 3e-4, 1e-3, 1.4e-3, 2e-3, 2.8e-3, 4e-3, 1e-2),
    "lora": (1e-3, 3e-3, 5.6e-3, 1e-2, 1.7e-2, 3e-2),
}
# Other α are tried in turn, by a factor of 4, until the best has a worse one
# on either side. The rates of each are walked in the same way; the walk starts
# where 1 over the root of α leads.
ALPHAS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
WALK = (1e-4, 1.7e-4, 3e-4, 5.6e-4, 1e-3, 1.7e-3, *RATES["lora"][1:], 5.6e-2)
MIDDLE = 16.0
# The two scales agree at r = 8.
ALPHA = {"alpha/r": MIDDLE, "alpha/sqrt(r)": MIDDLE / 8**0.5}
STEPS, BATCH = 100, 8
SETTINGS: dict[str, Any] = {"warmup": 10, "clip": 1.0}


def adapt(
    method: str,
    lr: float,
    seed: int,
    r: int = 0,
    scaling: str = "",
    alpha: float = 0.0,
    steps: int = STEPS,
) -> TinyGPT:
    """Return the model after training on code.

    ``"full"`` trains everything, ``"matrices"`` the weights of the linear
    maps of the blocks, ``"lora"`` an adapter of each of these.
    """
    model = load_tiny_gpt()
    seed_all(seed)
    if method == "lora":
        # LoRALinear divides by r: undone where another scaling is asked for.
        power = {"alpha/r": 0.0, "alpha/sqrt(r)": 0.5}[scaling]
        inject(model, r, alpha * r**power, LINEARS)
    elif method == "matrices":
        model.requires_grad_(False)
        for layer in linear_maps(model).values():
            layer.weight.requires_grad_(True)
    # Again, so that all methods see the same batches.
    seed_all(seed)
    loss = text_loss(model, data.corpus("code"), BATCH)
    train(loss, model.parameters(), steps, lr, **SETTINGS)
    return model


def losses(model: nn.Module) -> Run:
    """Return bits per byte: of code, new to the model, and of the old text."""
    texts = {"validation": "code", "test": "code", "docs": "docs"}
    splits = {"validation": "validation", "test": "test", "docs": "test"}
    return {
        key: bits_per_byte(model, data.corpus(name, splits[key]))
        for key, name in texts.items()
    }


@torch.no_grad()
def truncated(model: TinyGPT) -> dict[str, float]:
    """Return the test loss with the updates cut down to each rank.

    Only the linear maps of the blocks move; the rest is as before training.
    """
    cut = load_tiny_gpt()
    layers = linear_maps(cut)
    base = {name: layer.weight.clone() for name, layer in layers.items()}
    parts = {
        name: truncated_svd((layer.weight - base[name]).double(), 128)
        for name, layer in linear_maps(model).items()
    }
    found = {}
    for r in CUTS:
        for name, layer in layers.items():
            U, S, Vh = parts[name]
            update = (U[:, :r] * S[:r]) @ Vh[:r]
            layer.weight.copy_(base[name] + update.float())
        found[str(r)] = bits_per_byte(cut, data.corpus("code", "test"))
    return found


def settings(done: list[Run]) -> Iterator[Run]:
    """Yield what is to be run: the rates with seed 0, then all seeds.

    What is yielded depends on the runs that are done by then; a setting that
    is yielded has to be among them before the next one is asked for.
    """
    groups: list[Run] = [{"method": "full"}, {"method": "matrices"}]
    groups += [lora(r) for r in RANKS]
    for group in groups:
        for lr in RATES[group["method"]]:
            yield group | {"lr": lr, "seed": 0}
        yield from other_seeds(done, group, SEEDS[1:])
    for r in RANKS:
        yield from walk_alpha(done, r)
        tuned = {x: y for x, y in lora(r).items() if x != "alpha"}
        yield from other_seeds(done, tuned, SEEDS[1:])
    for r in ROOT_RANKS:
        for lr in RATES["lora"]:
            yield lora(r, "alpha/sqrt(r)") | {"lr": lr, "seed": 0}


def lora(r: int, scaling: str = "alpha/r") -> Run:
    """Return the settings of LoRA at a rank, at the α of its scaling."""
    return {
        "method": "lora",
        "rank": r,
        "scaling": scaling,
        "alpha": ALPHA[scaling],
    }


def walk_alpha(done: list[Run], r: int) -> Iterator[Run]:
    """Yield runs at other α, until the best has a worse one on either side."""
    results = data.Results({"runs": done})
    every = {x: y for x, y in lora(r).items() if x != "alpha"}
    at, tried = ALPHAS.index(MIDDLE), {MIDDLE}
    while True:
        rate = results.best(**every, alpha=ALPHAS[at])["lr"]
        for alpha in ALPHAS[max(at - 1, 0) : at + 2]:
            if alpha not in tried:
                tried.add(alpha)
                start = rate * (ALPHAS[at] / alpha) ** 0.5
                group = every | {"alpha": alpha}
                yield from walk_rates(done, group, WALK, start)
        best = ALPHAS.index(results.best(**every)["alpha"])
        if best == at:
            return
        at = best


def settings_used(steps: int) -> dict[str, Any]:
    """Return what all runs of a file have in common."""
    return {
        "steps": steps,
        "batch": BATCH,
        "optimizer": "Adam, linear decay",
        "alpha": ALPHA,
        **SETTINGS,
    }


def execute(setting: Run, steps: int) -> Run:
    """Return a setting together with what came out: nothing, if it failed."""
    options = dict(setting)
    try:
        model = adapt(r=options.pop("rank", 0), **options, steps=steps)
    except FloatingPointError:
        return setting | dict.fromkeys(("validation", "test", "docs"))
    run = setting | losses(model)
    if setting["method"] == "matrices":
        run["truncated"] = truncated(model)
    return run


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = provenance.parser(
        __doc__, provenance.ASSETS / "results" / "adaptation.json"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--limit", type=int, help="stop after so many runs")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps needs 1 or more, got {options.steps}")
    torch.set_num_threads(1)
    about, done = provenance.begin(
        parser,
        options,
        f"python experiments/adapt_tiny_gpt.py --steps {options.steps}",
        settings_used(options.steps),
    )
    found = {
        "provenance": about,
        "base": losses(load_tiny_gpt()),
        "runs": done,
    }
    carry_out(
        settings(done),
        lambda setting: execute(setting, options.steps),
        options.out,
        found,
        options.limit,
    )


if __name__ == "__main__":
    main()
