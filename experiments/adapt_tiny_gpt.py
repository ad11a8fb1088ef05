"""Adapt the book's language model to code, in many ways.

    python experiments/adapt_tiny_gpt.py

writes ``assets/results/adaptation.json``: the losses of full fine-tuning and
of LoRA over ranks, scalings and learning rates, and of the updates that full
fine-tuning found, cut down to each rank afterwards. With one thread it takes
about an hour. Every run is written as soon as it is done, and a run that
is in the file is not repeated, so what was cut off goes on where it was.

The learning rate of each method is chosen on the validation text with seed 0;
all seeds then use it. The test text chooses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import provenance
import torch
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
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 128)
SEEDS = (0, 1, 2, 3, 4)
# Factors of about the square root of 10, and of its root around the best ones:
# with the coarse steps alone, half a step decided who was ahead at rank 32. A
# best rate at an end of its list would say that the list is too short; a test
# looks.
RATES = {
    "full": (1e-4, 3e-4, 1e-3, 1.7e-3, 3e-3, 1e-2),
    "matrices": (1e-4, 3e-4, 1e-3, 1.7e-3, 3e-3, 1e-2),
    "lora": (1e-3, 3e-3, 5.6e-3, 1e-2, 1.7e-2, 3e-2),
}
# The two scales agree at r = 8.
ALPHA = {"alpha/r": 16.0, "alpha/sqrt(r)": 16 / 8**0.5}
STEPS, BATCH = 100, 8
SETTINGS: dict[str, Any] = {"warmup": 10, "clip": 1.0}

Run = dict[str, Any]


def adapt(
    method: str,
    lr: float,
    seed: int,
    r: int = 0,
    scaling: str = "",
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
        inject(model, r, ALPHA[scaling] * r**power, LINEARS)
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
    """Yield what is to be run: the rates with seed 0, then all seeds."""
    groups: list[Run] = [
        {"method": "full"},
        {"method": "matrices"},
        *({"method": "lora", "rank": r, "scaling": "alpha/r"} for r in RANKS),
    ]
    for group in groups:
        for lr in RATES[group["method"]]:
            yield group | {"lr": lr, "seed": 0}
        for seed in SEEDS[1:]:
            lr = data.Results({"runs": done}).best_rate(**group)
            yield group | {"lr": lr, "seed": seed}
    for r in RANKS:
        for lr in RATES["lora"]:
            yield {
                "method": "lora",
                "rank": r,
                "scaling": "alpha/sqrt(r)",
                "lr": lr,
                "seed": 0,
            }


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
    try:
        about = provenance.record(
            f"python experiments/adapt_tiny_gpt.py --steps {options.steps}",
            settings_used(options.steps),
            (options.out,),
            options.allow_dirty,
        )
        done = provenance.resume(options.out, about)
    except provenance.Refused as error:
        parser.error(str(error))
    found = {
        "provenance": about,
        "base": losses(load_tiny_gpt()),
        "runs": done,
    }
    for count, setting in enumerate(settings(done)):
        if count == options.limit:
            break
        if any(setting.items() <= run.items() for run in done):
            continue
        run = execute(setting, options.steps)
        print(*run.values(), flush=True)
        done.append(run | {"commit": about["commit"]})
        provenance.write(options.out, found)


if __name__ == "__main__":
    main()
