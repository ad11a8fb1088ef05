"""Pre-train the book's language model on the English corpus.

    python experiments/pretrain_tiny_gpt.py

writes ``assets/checkpoints/tiny_gpt.safetensors`` and, beside it, a JSON file
that says how it came about. On two quiet cores that takes some ten minutes.
A run that is cut off goes on where it was when the same command is given
again, at the same commit.

AdamW and not Muon, with which a model of this size learns faster: Muon makes
the singular values of a weight nearly equal, and later chapters look at them.
"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import provenance
import torch
from safetensors.torch import save_file
from torch import Tensor

from lorabook import data
from lorabook.models import TinyGPT, bits_per_byte
from lorabook.seeding import seed_all
from lorabook.train import text_loss, train

SEED, BATCH = 0, 16
SETTINGS: dict[str, Any] = {"lr": 3e-3, "warmup": 50, "clip": 1.0}
ADAMW: dict[str, Any] = {"weight_decay": 0.1, "betas": (0.9, 0.99)}


def pretrain(steps: int, resume: Path | None) -> tuple[TinyGPT, Tensor]:
    """Return a trained model and the loss of every step, in nats."""
    seed_all(SEED)
    model = TinyGPT()
    loss = text_loss(model, data.corpus("docs"), BATCH, model.context)
    optimizer = partial(torch.optim.AdamW, **ADAMW)
    history = train(
        loss,
        model.parameters(),
        steps,
        optimizer=optimizer,
        resume=resume,
        **SETTINGS,
    )
    return model, history


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = provenance.parser(__doc__, provenance.ASSETS / "checkpoints")
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps needs 1 or more, got {options.steps}")
    file = options.out / "tiny_gpt.safetensors"
    try:
        about = provenance.record(
            f"python experiments/pretrain_tiny_gpt.py --steps {options.steps}",
            {
                "seed": SEED,
                "steps": options.steps,
                "batch": BATCH,
                **SETTINGS,
                **ADAMW,
            },
            (file, file.with_suffix(".json")),
            options.allow_dirty,
        )
    except provenance.Refused as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    # Half a run from another commit must not become the whole of this one.
    half = options.out / f"tiny_gpt.{about['commit'][:12]}.run.safetensors"
    model, history = pretrain(options.steps, half)
    # Half the bytes. The losses below are those of the stored weights.
    stored = {k: v.half() for k, v in model.state_dict().items()}
    save_file(stored, file)
    model.load_state_dict({k: v.float() for k, v in stored.items()})
    texts = {
        "docs train, first 40000 bytes": data.corpus("docs")[:40_000],
        "docs validation": data.corpus("docs", "validation"),
        "docs test": data.corpus("docs", "test"),
        "code test": data.corpus("code", "test"),
    }
    found = {
        "provenance": about,
        "parameters": sum(p.numel() for p in model.parameters()),
        "final training loss, mean of 100 batches, bits per byte": round(
            history[-100:].mean().item() / math.log(2), 4
        ),
        "bits per byte": {
            name: round(bits_per_byte(model, text), 4)
            for name, text in texts.items()
        },
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    provenance.write(file.with_suffix(".json"), found)
    print(provenance.as_text(found))


if __name__ == "__main__":
    main()
