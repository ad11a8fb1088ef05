"""Teach a language model that people use a task, in many ways.

    python experiments/adapt_smollm.py

writes ``assets/results/smollm.json``: what SmolLM2 knows of the task of
`lorabook.tasks`, and still knows of all else, after training all of it; after
training the weights of its linear maps, with their updates cut down to each
rank afterwards; after training LoRA at each rank, or on some of the maps, or
on few examples; and after training less than LoRA does. Every run is written
as soon as it is done, and a run that is in the file is not repeated, so what
was cut off goes on where it was. On a CPU a run takes five minutes or so, with
``--device cuda`` seconds.

The learning rate of each method is chosen on the validation examples with seed
0, by steps of a factor of two until the best has a worse one on either side;
all seeds then use it. The test chooses nothing.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import provenance
import torch
from sweeps import Run, carry_out, other_seeds, walk_rates
from torch import Tensor, nn

from lorabook import data, models, tasks
from lorabook.adapters import find, inject
from lorabook.seeding import generator, seed_all
from lorabook.tasks import Example
from lorabook.train import train

RANKS = (1, 4, 16, 64)
CUTS = (1, 2, 4, 8, 16, 32, 64, 128)  # of at most 576
# Ranks at which some of the maps have as many numbers as all at rank 4.
PARTS = {"attention": (11, r"\.(q|k|v|o)_proj"), "mlp": (6, r"\.mlp\.")}
SEEDS = (0, 1)
# Examples to learn from where they are few, seen again and again.
FEW = (100, 25)
START = {"full": 1e-4, "matrices": 1e-4, "lora": 1e-3, "norms": 8e-3,
         "last block": 1e-3, "few": 1e-3}  # fmt: skip
RATES = tuple(1e-3 * 2.0**i for i in range(-8, 7))
ALPHA = 32.0
STEPS, BATCH = 60, 4
EXAMPLES = {"train": 1000, "validation": 45, "test": 90}
SETTINGS: dict[str, Any] = {"warmup": 6, "clip": 1.0}
DOCS, CONTEXT = 8192, 256  # bytes of English to read, tokens at a time
SHOWN = 12  # answers that are kept


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
    tokenizer : callable
        Its own.
    examples : dict of str to list of Example
        Of each split.
    docs : Tensor, shape (n,), int64
        An English text, as tokens.
    size : int
        Its bytes.
    """

    model: Any
    tokenizer: Any
    examples: dict[str, list[Example]]
    docs: Tensor
    size: int

    @torch.no_grad()
    def loss(self, model: Any, split: str) -> float:
        """Return nats for each token of the answers."""
        chosen = self.examples[split]
        parts = [chosen[i : i + 15] for i in range(0, len(chosen), 15)]
        total, count = 0.0, 0
        for part in parts:
            inputs = tasks.batch(self.tokenizer, part)
            n = int((inputs["labels"] != tasks.IGNORED).sum())
            total += tasks.answer_loss(model, inputs).item() * n
            count += n
        return total / count

    def measure(self, model: Any) -> Run:
        """Return what a model knows of the task, and of all else."""
        test = self.examples["test"]
        asked = [x.request for x in test]
        said = tasks.answers(model, self.tokenizer, asked)
        bits = models.bits_per_byte(Logits(model), self.docs, CONTEXT, 4)
        return {
            "validation": self.loss(model, "validation"),
            "test": self.loss(model, "test"),
            "exact": tasks.exact_match(said, test),
            "docs": bits * len(self.docs) / self.size,
            "facts": tasks.facts_known(model, self.tokenizer),
            "said": said[:SHOWN],
        }


def load(device: str) -> Task:
    """Return the task."""
    model, tokenizer = models.load_smollm2()
    text = data.corpus("docs", "test")[:DOCS]
    # A character that is cut in two becomes one that stands for it.
    words = bytes(text.tolist()).decode(errors="replace")
    return Task(
        model.to(device),
        tokenizer,
        {split: tasks.examples(split, n) for split, n in EXAMPLES.items()},
        torch.tensor(tokenizer(words)["input_ids"], device=device),
        len(text),
    )


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of the linear maps of the blocks, by their names."""
    maps = find(model, "all-linear")
    return {name: map_.get_parameter("weight") for name, map_ in maps.items()}


def prepare(model: nn.Module, group: Run) -> None:
    """Let a method's parameters train, and no others."""
    method, last = group["method"], len(weights(model)) // 7 - 1
    if method == "full":
        return
    if method in ("lora", "few"):
        part = PARTS.get(group["targets"], (0, ""))[1]
        targets = re.compile(f".*{part}.*") if part else "all-linear"
        inject(model, group["rank"], ALPHA, targets)
        return
    trained = {
        "matrices": list(weights(model)),
        "norms": [n for n, _ in model.named_modules() if n.endswith("norm")],
        "last block": [f"model.layers.{last}", "model.norm"],
    }[method]
    model.requires_grad_(False)
    for name in trained:
        model.get_submodule(name).requires_grad_(True)


def batches(task: Task, setting: Run) -> Callable[[nn.Module], Tensor]:
    """Return a loss that draws other examples at each call."""
    known = task.examples["train"][: setting.get("known")]
    draw = generator(setting["seed"])

    def loss(model: nn.Module) -> Tensor:
        at = torch.randint(len(known), (BATCH,), generator=draw)
        chosen = [known[int(i)] for i in at]
        return tasks.answer_loss(model, tasks.batch(task.tokenizer, chosen))

    return loss


def adapt(task: Task, setting: Run, steps: int) -> tuple[Any, Tensor]:
    """Return a model that was trained, and its loss at each step."""
    model = copy.deepcopy(task.model)
    seed_all(setting["seed"])
    prepare(model, setting)
    # All methods see the same batches.
    loss = batches(task, setting)
    history = train(
        lambda: loss(model),
        model.parameters(),
        steps,
        setting["lr"],
        **SETTINGS,
    )
    return model, history


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
        found[str(r)] = task.loss(model, "test")
    return found


def groups() -> list[Run]:
    """Return what is compared, the most wanted first."""
    return [
        {"method": "lora", "targets": "all", "rank": 16},
        {"method": "matrices"},
        *({"method": "lora", "targets": "all", "rank": r} for r in (4, 64, 1)),
        {"method": "full"},
        *(
            {"method": "lora", "targets": part, "rank": r}
            for part, (r, _) in PARTS.items()
        ),
        {"method": "last block"},
        {"method": "norms"},
        *(
            {"method": "few", "targets": "all", "rank": 16, "known": known}
            for known in FEW
        ),
    ]


def settings(done: list[Run], only: int | None = None) -> Iterator[Run]:
    """Yield what is to be run: rates with seed 0, then the other seeds."""
    for i, group in enumerate(groups()):
        if only not in (None, i):
            continue
        start = START[group["method"]]
        yield from walk_rates(done, group, RATES, start)
        yield from other_seeds(done, group, SEEDS[1:])


def settings_used(steps: int) -> dict[str, Any]:
    """Return what all runs of a file have in common."""
    return {
        "steps": steps,
        "batch": BATCH,
        "examples": EXAMPLES,
        "bytes of docs": DOCS,
        "optimizer": "Adam, linear decay",
        "alpha": ALPHA,
        **SETTINGS,
    }


def execute(task: Task, done: list[Run], setting: Run, steps: int) -> Run:
    """Return a setting together with what came out: nothing, if it failed."""
    try:
        model, history = adapt(task, setting, steps)
    except FloatingPointError:
        return setting | {"validation": None}
    run = setting | task.measure(model)
    run["history"] = [round(x, 4) for x in history.tolist()]
    # A cut is of use at the rate that validation chooses.
    if setting["method"] == "matrices" and is_best(run, done):
        run["truncated"] = truncated(task, model)
    return run


def is_best(run: Run, done: list[Run]) -> bool:
    """Whether no other rate of its method and seed does better."""
    rivals = [
        x["validation"]
        for x in done
        if (x["method"], x["seed"]) == (run["method"], run["seed"])
        and x["validation"] is not None
    ]
    return all(run["validation"] < x for x in rivals)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    out: Path = provenance.ASSETS / "results" / "smollm.json"
    parser = provenance.parser(__doc__, out)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--limit", type=int, help="stop after so many runs")
    parser.add_argument(
        "--group",
        type=int,
        choices=range(len(groups())),
        help="only this one, into a file of its own: its runs can be added",
    )
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps needs 1 or more, got {options.steps}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here: use --device cpu")
    torch.set_num_threads(1)
    command = f"python experiments/adapt_smollm.py --device {options.device}"
    command += f" --steps {options.steps}"
    about, done = provenance.begin(
        parser, options, command, settings_used(options.steps)
    )
    task = load(options.device)
    found = {
        "provenance": about,
        "base": task.measure(task.model),
        "runs": done,
    }
    carry_out(
        settings(done, options.group),
        lambda setting: execute(task, done, setting, options.steps),
        options.out,
        found,
        options.limit,
    )


if __name__ == "__main__":
    main()
