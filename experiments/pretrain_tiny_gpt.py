"""Pre-train the book's language model on the English corpus.

    python experiments/pretrain_tiny_gpt.py

writes ``assets/checkpoints/tiny_gpt.safetensors`` and, beside it, a JSON file
that says how it came about. On two quiet cores that takes some ten minutes.
A run that is cut off goes on where it was when the same command is given
again.

AdamW and not Muon, with which a model of this size learns faster: Muon makes
the singular values of a weight nearly equal, and later chapters look at them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from lorabook import data
from lorabook.models import TinyGPT, bits_per_byte
from lorabook.seeding import seed_all
from lorabook.train import text_loss, train

ROOT = Path(__file__).resolve().parents[1]
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


def commit() -> str:
    """Return the commit whose files are used, marked if they differ."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "assets" / "checkpoints"
    )
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps needs 1 or more, got {options.steps}")
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "tiny_gpt.safetensors"

    version = commit()
    model, history = pretrain(
        options.steps, options.out / "tiny_gpt.run.safetensors"
    )
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
    losses = {
        name: round(bits_per_byte(model, text), 4)
        for name, text in texts.items()
    }
    provenance = {
        "command": "python experiments/pretrain_tiny_gpt.py "
        f"--steps {options.steps}",
        "commit": version,
        "seed": SEED,
        "settings": {"batch": BATCH, **SETTINGS, **ADAMW},
        "parameters": sum(p.numel() for p in model.parameters()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"CPU, {torch.get_num_threads()} threads",
        "final training loss, mean of 100 batches, bits per byte": round(
            history[-100:].mean().item() / math.log(2), 4
        ),
        "bits per byte": losses,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    text = json.dumps(provenance, indent=2) + "\n"
    file.with_suffix(".json").write_text(text, encoding="utf8")
    print(text)


if __name__ == "__main__":
    main()
