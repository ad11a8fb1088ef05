"""Adapt a language model that people use to code, in three ways.

    python experiments/adapt_smollm.py --device cuda

writes ``assets/results/smollm.json``: the losses of SmolLM2 after training all
of it, after training the weights of its linear maps, with their updates cut
down to each rank afterwards, and after training LoRA at each rank from the
beginning. Every run is written as soon as it is done, and a run that is in the
file is not repeated, so what was cut off goes on where it was.

The learning rate of each method is chosen on the validation text with seed 0;
all seeds then use it. The test text chooses nothing. With ``--device cpu`` a
run takes an hour rather than a minute; ``--bytes`` shortens the texts on which
a loss is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import provenance
import torch
from torch import Tensor, nn
from tqdm import tqdm

from lorabook import data, models
from lorabook.adapters import find, inject
from lorabook.seeding import seed_all
from lorabook.train import text_loss, train

RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
CUTS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 576)  # of at most 576
SEEDS = (0, 1, 2)
# A best rate at an end of its list says that the list is too short.
RATES = {
    "full": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    "matrices": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3),
    "lora": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
}
ALPHA = 16.0
STEPS, BATCH, CONTEXT = 200, 8, 256
SETTINGS: dict[str, Any] = {"warmup": 20, "clip": 1.0}
LOSSES = {
    "validation": ("code", "validation"),
    "test": ("code", "test"),
    "docs": ("docs", "test"),
}

Run = dict[str, Any]


class Logits(nn.Module):
    """A model of transformers, as a map from tokens to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (batch, T) to (batch, T, vocabulary)."""
        found: Tensor = self.model(tokens, use_cache=False).logits
        return found


@dataclass
class Task:
    """What all runs have in common.

    Attributes
    ----------
    model : nn.Module
        Before training.
    train : Tensor, shape (n,), int64
        The tokens to learn from.
    texts : dict of str to (Tensor, int)
        The tokens of each text that is measured, and its number of bytes.
    """

    model: nn.Module
    train: Tensor
    texts: dict[str, tuple[Tensor, int]]

    def losses(self, model: nn.Module, *names: str) -> dict[str, float]:
        """Return bits per byte of texts: a byte is no matter of tokens."""
        found = {}
        for name in names or self.texts:
            tokens, size = self.texts[name]
            bits = models.bits_per_byte(Logits(model), tokens, CONTEXT, BATCH)
            found[name] = bits * len(tokens) / size
        return found


def load(device: str, size: int | None) -> Task:
    """Return the task, with texts of at most so many bytes to measure."""
    model, tokenizer = models.load_smollm2()

    def tokens(text: Tensor) -> Tensor:
        # A character that is cut in two becomes one that stands for it.
        words = bytes(text.tolist()).decode(errors="replace")
        ids = tokenizer(words, verbose=False)["input_ids"]
        return torch.tensor(ids, device=device)

    measured = {x: data.corpus(*y)[:size] for x, y in LOSSES.items()}
    return Task(
        model.to(device),
        tokens(data.corpus("code")),
        {name: (tokens(text), len(text)) for name, text in measured.items()},
    )


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of the linear maps of the blocks, by their names."""
    maps = find(model, "all-linear")
    return {name: map_.get_parameter("weight") for name, map_ in maps.items()}


def adapt(
    task: Task, method: str, lr: float, seed: int, rank: int, steps: int
) -> nn.Module:
    """Return a model that was trained on code.

    ``"full"`` trains everything, ``"matrices"`` the weights of the linear
    maps of the blocks, ``"lora"`` an adapter of each of these.
    """
    model = copy.deepcopy(task.model)
    seed_all(seed)
    if method == "lora":
        inject(model, rank, ALPHA, "all-linear")
    elif method == "matrices":
        model.requires_grad_(False)
        for weight in weights(model).values():
            weight.requires_grad_(True)
    # Again, so that all methods see the same batches.
    seed_all(seed)
    loss = text_loss(Logits(model), task.train, BATCH, CONTEXT)
    train(loss, model.parameters(), steps, lr, **SETTINGS)
    return model


@torch.no_grad()
def truncated(task: Task, model: nn.Module) -> dict[str, float]:
    """Return the test loss with the updates cut down to each rank.

    The model is changed: only the linear maps of its blocks have moved.
    """
    before, after = weights(task.model), weights(model)
    parts = {
        name: torch.linalg.svd(weight - before[name], full_matrices=False)
        for name, weight in after.items()
    }
    found = {}
    for r in CUTS:
        for name, weight in after.items():
            U, S, Vh = parts[name]
            weight.copy_(before[name] + (U[:, :r] * S[:r]) @ Vh[:r])
        found[str(r)] = task.losses(model, "test")["test"]
    return found


def groups() -> list[Run]:
    """Return what is compared."""
    return [
        {"method": "full"},
        {"method": "matrices"},
        *({"method": "lora", "rank": r} for r in RANKS),
    ]


def settings(done: list[Run]) -> Iterator[Run]:
    """Yield what is to be run: the rates with seed 0, then all seeds.

    A setting that is yielded has to be among the runs that are done before
    the next one is asked for.
    """
    for group in groups():
        for lr in RATES[group["method"]]:
            yield group | {"lr": lr, "seed": 0}
        tried = data.Results({"runs": done}).pick(**group, seed=0)
        fine = [x for x in tried if x["validation"] is not None]
        if fine:  # else each rate has failed, and other seeds say no more
            best = min(fine, key=lambda x: x["validation"])
            for seed in SEEDS[1:]:
                yield group | {"lr": best["lr"], "seed": seed}


def settings_used(steps: int, size: int | None) -> dict[str, Any]:
    """Return what all runs of a file have in common."""
    return {
        "steps": steps,
        "batch": BATCH,
        "context": CONTEXT,
        "bytes of each text": size,
        "optimizer": "Adam, linear decay",
        "alpha": ALPHA,
        **SETTINGS,
    }


def execute(task: Task, setting: Run, steps: int) -> Run:
    """Return a setting together with what came out: nothing, if it failed."""
    try:
        model = adapt(task, **{"rank": 0, **setting}, steps=steps)
        run = setting | task.losses(model)
    except FloatingPointError:
        return setting | dict.fromkeys(LOSSES)
    if setting["method"] == "matrices":
        run["truncated"] = truncated(task, model)
    return run


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    out: Path = provenance.ASSETS / "results" / "smollm.json"
    parser = provenance.parser(__doc__, out)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--bytes", type=int, help="of each text to measure")
    parser.add_argument("--limit", type=int, help="stop after so many runs")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps needs 1 or more, got {options.steps}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: use --device cpu")
    torch.set_num_threads(1)
    command = f"python experiments/adapt_smollm.py --device {options.device}"
    command += f" --steps {options.steps}"
    command += f" --bytes {options.bytes}" if options.bytes else ""
    try:
        about = provenance.record(
            command,
            settings_used(options.steps, options.bytes),
            (options.out,),
            options.allow_dirty,
            options.device,
        )
        done = provenance.resume(options.out, about)
    except provenance.Refused as error:
        parser.error(str(error))
    task = load(options.device, options.bytes)
    found = {
        "provenance": about,
        "base": task.losses(task.model),
        "runs": done,
    }
    rates = sum(len(RATES[group["method"]]) for group in groups())
    total = rates + len(groups()) * (len(SEEDS) - 1)
    with tqdm(total=total, desc="runs") as bar:
        for count, setting in enumerate(settings(done)):
            if count == options.limit:
                break
            if not any(setting.items() <= run.items() for run in done):
                run = execute(task, setting, options.steps)
                bar.write(" ".join(map(str, run.values())))
                done.append(run | {"commit": about["commit"]})
                provenance.write(options.out, found)
            bar.update()


if __name__ == "__main__":
    main()
