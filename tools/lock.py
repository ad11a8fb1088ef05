"""Refresh the pins of every package that the book needs.

    python tools/lock.py

`requirements.txt` pins the whole of `requirements/*.in` and of what
pyproject.toml declares; `requirements/chapters.txt` pins what the cells of
chapters run on. Both are written at the end, when all is resolved and checked.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESOLVE = (
    *(sys.executable, "-m", "uv", "pip", "compile", "-q", "--universal"),
    *("--python-version", "3.11", "--no-header", "--no-annotate"),
)
WHOLE = """\
# Written by 'make lock' from pyproject.toml and requirements/*.in: every
# package, also those that others pull in. CUDA's packages are missing on
# purpose: a CUDA build of torch names the versions it needs.
"""
CHAPTERS = """\
# Written by 'make lock' from pyproject.toml and chapters.in: what the cells
# of the chapters run on, in the versions of ../requirements.txt.
"""
CUDA = re.compile(r"(?:nvidia|cuda|triton)\b")


def name(line: str) -> str:
    """Return the package that a requirement is about; "" if none."""
    found = re.match(r"[\w.-]+", line)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def wanted(root: Path, files: list[str]) -> set[str]:
    """Return the names that the given sources ask for."""
    names = set()
    for file in files:
        text = (root / file).read_text(encoding="utf8")
        if file == "pyproject.toml":
            names |= set(tomllib.loads(text)["project"]["dependencies"])
        else:
            names |= set(text.splitlines())
    return {name(line) for line in names} - {""}


def check(pins: list[str], names: set[str]) -> None:
    """Refuse an answer that leaves out a package or a version.

    Raises
    ------
    ValueError
        If a name has no pin, or a line pins no exact version.
    """
    for line in pins:
        if not re.match(r"[\w.-]+==[\w.+!]+(?: ; |$)", line):
            raise ValueError(f"not a pin: {line!r}")
    if missing := names - {name(line) for line in pins}:
        raise ValueError(f"no pin for {', '.join(sorted(missing))}")


def resolve(root: Path, files: list[str], *options: str) -> list[str]:
    """Ask uv for the pins of some sources."""
    done = subprocess.run(
        [*RESOLVE, *options, *files],
        cwd=root,
        stdout=subprocess.PIPE,
        encoding="utf8",
        check=True,
    )
    pins = [x for x in done.stdout.splitlines() if not CUDA.match(x)]
    check(pins, wanted(root, files))
    return pins


def write(path: Path, text: str) -> Path:
    """Write a file beside another, and return it."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf8")
    return new


def main(root: Path = ROOT) -> int:
    """Resolve, check, and only then write."""
    folder = root / "requirements"
    every = ["pyproject.toml"]
    every += [f"requirements/{x.name}" for x in sorted(folder.glob("*.in"))]
    whole, chapters = root / "requirements.txt", folder / "chapters.txt"
    try:
        pins = resolve(root, every, "--upgrade")
        versions = write(whole, "\n".join(pins) + "\n")
        few = resolve(
            root,
            ["pyproject.toml", "requirements/chapters.in"],
            f"--constraint={versions}",
        )
    except (subprocess.CalledProcessError, ValueError) as error:
        resolved = isinstance(error, ValueError)
        why = str(error) if resolved else "Is there a network connection?"
        whole.with_suffix(".new").unlink(missing_ok=True)
        print(f"\nNo pin is changed: {why}", file=sys.stderr)
        return 1
    write(whole, WHOLE + "\n".join(pins) + "\n-e .\n").replace(whole)
    write(chapters, CHAPTERS + "\n".join(few) + "\n").replace(chapters)
    return 0


if __name__ == "__main__":
    sys.exit(main())
