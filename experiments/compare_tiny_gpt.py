"""Adapt the book's language model to code: which part, which batch, how long.

    python experiments/compare_tiny_gpt.py

writes ``assets/results/comparison.json``: the losses after training all of the
model, or its head, last block, biases or norms, or LoRA on all linear maps, on
those of the attention or on those of the perceptrons, with as many numbers;
of full fine-tuning and LoRA with smaller and larger batches, as many windows
of text in all; and of both over four times as many steps, where a small rank
may run out of room. With one thread it takes about an hour. Every run is
written as soon as it is done, and a run that is in the file is not repeated.

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
from torch import Tensor, nn

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
# Four times as many windows, at each of these ranks.
LONG, RANKS, LONG_SEEDS = (8, 400), (1, 8, 32), (0, 1, 2)
PIECE = 10  # steps: the loss in training is kept as a mean over so many
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
        inject(model, group["rank"], ALPHA, TARGETS[group["targets"]][1])
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


def adapt(setting: Run) -> tuple[TinyGPT, Tensor]:
    """Return the model after training on code, and its loss at each step."""
    model = load_tiny_gpt()
    seed_all(setting["seed"])
    prepare(model, setting)
    # Again, so that all methods see the same batches.
    seed_all(setting["seed"])
    loss = text_loss(model, data.corpus("code"), setting["batch"])
    history = train(
        loss,
        model.parameters(),
        setting["steps"],
        setting["lr"],
        warmup=max(1, round(WARMUP * setting["steps"])),
        **SETTINGS,
    )
    return model, history


def losses(model: nn.Module) -> Run:
    """Return bits per byte: of code, new to the model, and of the old text."""
    return {
        key: bits_per_byte(model, data.corpus(*names)[:BYTES])
        for key, names in TEXTS.items()
    }


def groups() -> list[Run]:
    """Return what is compared: methods, then batches, then ranks for long."""
    lora: list[Run] = [
        {"method": "lora", "targets": name, "rank": rank}
        for name, (rank, _) in TARGETS.items()
    ]
    rest: list[Run] = [{"method": x} for x in START if x != "lora"]
    ranks = [lora[0] | {"rank": rank} for rank in RANKS]
    at = [{"batch": batch, "steps": steps} for batch, steps in BATCHES]
    return [
        *(group | at[0] for group in (*lora, *rest)),
        *(group | some for some in at[1:] for group in (rest[0], lora[0])),
        *(
            group | {"batch": LONG[0], "steps": LONG[1]}
            for group in (rest[0], *ranks)
        ),
    ]


def is_long(setting: Run) -> bool:
    """Whether a run has more windows than the others."""
    return (setting["batch"], setting["steps"]) == LONG


def settings(done: list[Run]) -> Iterator[Run]:
    """Yield what is to be run: rates with seed 0, then the other seeds."""
    for group in groups():
        start = START[group["method"]]
        seeds = LONG_SEEDS if is_long(group) else SEEDS
        yield from walk_rates(done, group, RATES, start)
        yield from other_seeds(done, group, seeds[1:])


def execute(setting: Run) -> Run:
    """Return a setting together with what came out: nothing, if it failed."""
    try:
        model, history = adapt(setting)
    except FloatingPointError:
        return setting | dict.fromkeys(TEXTS)
    run = setting | losses(model)
    if is_long(setting):
        means = history.view(-1, PIECE).mean(1)
        run["history"] = [round(x, 4) for x in means.tolist()]
    return run


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
