"""Adapt the book's language model to code: which part, and how large a batch.

    python experiments/compare_tiny_gpt.py

writes ``assets/results/comparison.json``: the losses after training all of the
model, or its head, last block, biases or norms, or LoRA on all linear maps, on
those of the attention or on those of the perceptrons, with as many numbers;
and of full fine-tuning and LoRA with smaller and larger batches, as many
windows of text in all. With one thread it takes about half an hour. Every run
is written as soon as it is done, and a run that is in the file is not
repeated.

The learning rate of each is chosen on the validation text with seed 0, by
steps of a factor of two until the best has a worse one on either side; all
seeds then use it. The test text chooses nothing.
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
from lorabook.models import LINEARS, TinyGPT, bits_per_byte, load_tiny_gpt
from lorabook.seeding import seed_all
from lorabook.train import text_loss, train

SEEDS = (0, 1, 2, 3, 4)
# At these ranks all have the same number of trained numbers, within 3 %.
TARGETS = {
    "all": (8, LINEARS),
    "attention": (18, ("q", "k", "v", "o")),
    "mlp": (14, ("up", "down")),
}
START = {"full": 1e-3, "lora": 1e-2, "head": 1e-2, "last block": 3e-3,
         "biases": 3e-2, "norms": 3e-2}  # fmt: skip
RATES = tuple(1e-2 * 2.0**i for i in range(-8, 6))
ALPHA = 16.0
# Windows a step, and steps: 800 windows in all.
BATCHES = ((8, 100), (2, 400), (32, 25))
WARMUP = 0.1  # of the steps
SETTINGS: dict[str, Any] = {"clip": 1.0}
TEXTS = {
    "validation": ("code", "validation"),
    "test": ("code", "test"),
    "docs": ("docs", "test"),
}
BYTES = 32768  # of each text


def prepare(model: TinyGPT, group: Run) -> None:
    """Let a method's parameters train, and no others."""
    method = group["method"]
    if method == "full":
        return
    if method == "lora":
        rank, targets = TARGETS[group["targets"]]
        inject(model, rank, ALPHA, targets)
        return
    model.requires_grad_(False)
    trained = {
        "head": ("norm.", "head."),
        "last block": (f"blocks.{len(model.blocks) - 1}.", "norm.", "head."),
    }
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(
            name.startswith(trained[method])
            if method in trained
            else {"biases": "bias", "norms": "norm"}[method] in name
        )


def adapt(setting: Run) -> TinyGPT:
    """Return the model after training on code."""
    model = load_tiny_gpt()
    seed_all(setting["seed"])
    prepare(model, setting)
    # Again, so that all methods see the same batches.
    seed_all(setting["seed"])
    loss = text_loss(model, data.corpus("code"), setting["batch"])
    train(
        loss,
        model.parameters(),
        setting["steps"],
        setting["lr"],
        warmup=max(1, round(WARMUP * setting["steps"])),
        **SETTINGS,
    )
    return model


def losses(model: nn.Module) -> Run:
    """Return bits per byte: of code, new to the model, and of the old text."""
    return {
        key: bits_per_byte(model, data.corpus(*names)[:BYTES])
        for key, names in TEXTS.items()
    }


def groups() -> list[Run]:
    """Return what is compared: methods at one batch, then batches."""
    batch, steps = BATCHES[0]
    at = {"batch": batch, "steps": steps}
    lora = [{"method": "lora", "targets": x} for x in TARGETS]
    rest = [{"method": x} for x in START if x != "lora"]
    methods: list[Run] = [group | at for group in (*lora, *rest)]
    return methods + [
        group | {"batch": batch, "steps": steps}
        for batch, steps in BATCHES[1:]
        for group in (rest[0], lora[0])
    ]


def settings(done: list[Run]) -> Iterator[Run]:
    """Yield what is to be run: rates with seed 0, then the other seeds."""
    for group in groups():
        start = START[group["method"]]
        yield from walk_rates(done, group, RATES, start)
        yield from other_seeds(done, group, SEEDS[1:])


def execute(setting: Run) -> Run:
    """Return a setting together with what came out: nothing, if it failed."""
    try:
        return setting | losses(adapt(setting))
    except FloatingPointError:
        return setting | dict.fromkeys(TEXTS)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = provenance.parser(
        __doc__, provenance.ASSETS / "results" / "comparison.json"
    )
    parser.add_argument("--limit", type=int, help="stop after so many runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about, done = provenance.begin(
        parser,
        options,
        "python experiments/compare_tiny_gpt.py",
        {
            "bytes of each text": BYTES,
            "optimizer": "Adam, linear decay",
            "warmup": WARMUP,
            "alpha": ALPHA,
            **SETTINGS,
        },
    )
    found = {
        "provenance": about,
        "base": losses(load_tiny_gpt()),
        "runs": done,
    }
    carry_out(settings(done), execute, options.out, found, options.limit)


if __name__ == "__main__":
    main()
