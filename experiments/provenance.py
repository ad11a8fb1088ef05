"""Say of a file how it came about: the one writer of stored results.

A number in the book can be traced: the file names the command, the commit of
the code, its settings, the versions and the device. So the code must be in a
commit. With ``--allow-dirty`` a script runs all the same, to be tried out; the
file then says so, and the book refuses to read it.

A script that makes many runs writes each as soon as it is done, with the
commit and the device that it was made with, and goes on later where it was cut
off, on another device too.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from lorabook.assets import UNRECORDED
from lorabook.seeding import seed_shift

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"

Content = dict[str, Any]


class Refused(Exception):
    """What keeps a script from writing, in one sentence."""


def parser(description: str | None, out: Path) -> argparse.ArgumentParser:
    """Return a parser with the options that all scripts have."""
    found = argparse.ArgumentParser(
        description=(description or "").split(".")[0]
    )
    found.add_argument("--out", type=Path, default=out)
    found.add_argument(
        "--allow-dirty",
        action="store_true",
        help="run although files differ from the commit; the book will not "
        "read what is written",
    )
    return found


def git(*arguments: str) -> str:
    """Return what git says, or nothing where it cannot."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""


def commit(own: Iterable[Path]) -> str:
    """Return the commit whose files are used, marked if they differ.

    What the script itself writes, the files `own`, may differ: it goes on
    where it was cut off.
    """
    head = git("rev-parse", "HEAD").strip()
    if not head:
        return "unknown"
    inside = [
        f":(top,exclude,literal){path.resolve().relative_to(ROOT)}"
        for path in own
        if path.resolve().is_relative_to(ROOT)
    ]
    changed = git("status", "--porcelain", "-uall", "--", ":/", *inside)
    return f"{head}-dirty" if changed.strip() else head


def device(kind: str = "cpu") -> str:
    """Name what computes; kernels differ in the last digits."""
    if kind != "cpu":
        return torch.cuda.get_device_name(kind)
    threads = torch.get_num_threads()
    kernels = torch.backends.cpu.get_cpu_capability()
    return f"CPU ({kernels}), {threads} thread{'s' if threads > 1 else ''}"


def record(
    command: str,
    settings: Mapping[str, Any],
    own: Iterable[Path],
    allow_dirty: bool,
    kind: str = "cpu",
) -> Content:
    """Return what a file says of how it came about.

    Parameters
    ----------
    command : str
        What to type to get the same.
    settings : mapping
        All that decides on the numbers.
    own : iterable of Path
        The files that the script writes.
    allow_dirty : bool
        Whether files may differ from the commit.
    kind : str
        PyTorch's name of the device.

    Raises
    ------
    Refused
        If they do and may not, or if the seeds are shifted.
    """
    if seed_shift():
        raise Refused("results are stored with LORABOOK_SEED=0 only")
    version = commit(own)
    if not allow_dirty and not re.fullmatch("[0-9a-f]{40}", version):
        raise Refused(
            f"the code is in no commit ({version}): commit it, or pass "
            "--allow-dirty to try it out"
        )
    return {
        "command": command,
        "commit": version,
        "settings": dict(settings),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": device(kind),
    }


def as_text(content: Content) -> str:
    """Return JSON, each list of numbers on a line of its own."""
    # NaN is no JSON, and no result.
    text = json.dumps(content, indent=1, allow_nan=False)
    # A line ends between entries only: strings have no line breaks.
    text = re.sub(r"(?<=\[)\n\s*(?=[-\d])|(?<=\d)\n\s*(?=\])", "", text)
    return re.sub(r"(?<=\d),\n\s*(?=[-\d])", ", ", text) + "\n"


def write(path: Path, content: Content) -> None:
    """Write a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(as_text(content), encoding="utf8")
    part.replace(path)


def resume(path: Path, about: Content) -> list[Content]:
    """Return the runs that a file has already; none if there is no file.

    A run without a device is given that of its file. What is known of runs
    without a commit is kept in `about`.

    Raises
    ------
    Refused
        If they were made with other settings or versions: what these gave
        would be taken for what the present ones give.
    """
    if not path.exists():
        return []
    before: Content = json.loads(path.read_text("utf8"))
    old = before["provenance"]
    for key in ("settings", "python", "torch"):
        # JSON makes lists of tuples.
        if old[key] != json.loads(json.dumps(about[key])):
            raise Refused(f"{path.name} has runs with another value of {key}")
    if UNRECORDED in old:
        about[UNRECORDED] = old[UNRECORDED]
    return [{"device": old["device"], **run} for run in before["runs"]]


def begin(
    arguments: argparse.ArgumentParser,
    options: argparse.Namespace,
    command: str,
    settings: Mapping[str, Any],
) -> tuple[Content, list[Content]]:
    """Return what a file of runs says of itself, and the runs it has.

    Where they cannot be added to, the script ends in one sentence.

    Parameters
    ----------
    arguments : ArgumentParser
        As `parser` returns it.
    options : Namespace
        What it has read; a device other than ``"cpu"`` is their ``device``.
    command : str
        What to type to get the same.
    settings : mapping
        All that decides on the numbers.
    """
    try:
        about = record(
            command,
            settings,
            (options.out,),
            options.allow_dirty,
            getattr(options, "device", "cpu"),
        )
        return about, resume(options.out, about)
    except Refused as error:
        arguments.error(str(error))
