"""Choose a rate by trying, and write each run as soon as it is done.

What is tried next depends on what came out: every function here that yields
settings expects each of them among the runs that are done before it is asked
for the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import provenance
from tqdm import tqdm

from lorabook import data

Run = dict[str, Any]


def walk_rates(
    done: list[Run], group: Run, rates: Sequence[float], start: float
) -> Iterator[Run]:
    """Yield rates, until the best has a worse one on either side."""
    at = min(range(len(rates)), key=lambda i: abs(math.log(rates[i] / start)))
    while True:
        for near in (at, at - 1, at + 1):
            if 0 <= near < len(rates):
                yield group | {"lr": rates[near], "seed": 0}
        best = data.Results({"runs": done}).best(**group)["lr"]
        if best == rates[at]:
            return
        at = rates.index(best)


def other_seeds(
    done: list[Run], group: Run, seeds: Iterable[int]
) -> Iterator[Run]:
    """Yield seeds at the rate, and the α, that seed 0 has chosen."""
    chosen = data.Results({"runs": done}).best(**group)
    for seed in seeds:
        tuned = {x: chosen[x] for x in ("lr", "alpha") if x in chosen}
        yield group | tuned | {"seed": seed}


def carry_out(
    settings: Iterator[Run],
    execute: Callable[[Run], Run],
    out: Path,
    found: dict[str, Any],
    limit: int | None = None,
) -> None:
    """Make the runs that a file lacks, and write it after each.

    Parameters
    ----------
    settings : iterator of dict
        Each has to be among ``found["runs"]`` before the next is asked for.
    execute : callable
        Returns a setting together with what came out.
    out : Path
        The file.
    found : dict
        Its content: ``provenance``, ``runs``, and what else there is.
    limit : int, optional
        Stop after so many settings, those included that were done before.
    """
    done = found["runs"]
    made = {key: found["provenance"][key] for key in ("commit", "device")}
    # How many there will be depends on what comes out.
    for count, setting in enumerate(tqdm(settings, desc="runs")):
        if count == limit:
            break
        if any(setting.items() <= run.items() for run in done):
            continue
        run = execute(setting)
        tqdm.write(" ".join(map(str, run.values())))
        done.append(run | made)
        provenance.write(out, found)
