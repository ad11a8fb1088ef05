"""Execute chapters with other random numbers, and list what then fails.

    python tools/reseed.py [CHAPTER ...] [--shifts "0 1000"] [--jobs N]

Every seed of a run is shifted (see `lorabook.seeding`). A claim about chance
has to hold under each shift. No page is made: what was found is kept in
`_build/reseed.json`, and what has not changed since does not run again.
"""

from __future__ import annotations

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import environment

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    environment.enter(ROOT)

from contents import chapters
from execute import fail, guarded, prepare, read, source_of
from inputs import Inputs
from kernels import run, stop
from results import replace, sha256
from tqdm import tqdm


def kept(file: Path) -> dict[str, Any]:
    """Return what earlier calls have found, by chapter and shift."""
    try:
        found = json.loads(file.read_text(encoding="utf8"))
    except (OSError, ValueError):  # none yet, or damaged: all runs again
        return {}
    return found if isinstance(found, dict) else {}


def line(name: str, entry: dict[str, Any]) -> str:
    """Say what became of a chapter under a shift."""
    failures, seconds = entry["failures"], entry["seconds"]
    if not failures:
        return f"{name}: all of it holds ({seconds:.0f} s)"
    listed = "".join(f"\n    {x}" for x in failures)
    return f"{name}: {len(failures)} FAILED ({seconds:.0f} s){listed}"


def reseed(root: Path, pages: list[str], shifts: list[int], jobs: int) -> int:
    """Execute pages under shifts; return how many of the runs failed."""
    file = root / "_build" / "reseed.json"
    found = kept(file)
    inputs = Inputs(root)
    imports: set[str] = set()
    wanted: dict[str, tuple[str, int]] = {}
    digests = {}
    for page in pages:
        source = source_of(read(root, page))
        digests[page] = sha256(f"{inputs.digest(source)}{source}".encode())
        imports |= inputs.reach(source).imports
        wanted |= {f"{Path(page).name} +{x}": (page, x) for x in shifts}
    known = {
        name
        for name, (page, _) in wanted.items()
        if found.get(name, {}).get("digest") == digests[page]
    }
    for name in wanted:
        if name in known:
            print(f"{line(name, found[name])}, as found before")
    prepare(root, imports)
    todo = {name: x for name, x in wanted.items() if name not in known}
    pool = ThreadPoolExecutor(jobs)
    # Where nobody looks, as in continuous integration, there is no bar.
    bar = tqdm(total=len(todo), desc="reseeding", unit="run", disable=None)
    try:
        futures = {
            pool.submit(run, root, page, read(root, page), shift): name
            for name, (page, shift) in todo.items()
        }
        for future in as_completed(futures):
            name, done = futures[future], future.result()
            # What ended the run, and no cell's exception, in its first line.
            ended = done.error.strip().splitlines()[:1]
            found[name] = {
                "digest": digests[done.page],
                "failures": done.failures + ended,
                "seconds": done.seconds,
            }
            replace(file, json.dumps(found, indent=1))
            bar.write(line(name, found[name]))
            bar.update()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        raise
    finally:
        bar.close()
    pool.shutdown()
    return sum(bool(found[name]["failures"]) for name in wanted)


def main(root: Path, options: argparse.Namespace) -> int:
    """Execute what the options ask for; return the exit status."""
    words = options.shifts.split()
    if not words or not all(x.isascii() and x.isdigit() for x in words):
        return fail(
            "--shifts needs whole numbers from 0, with spaces between them, "
            f"got {options.shifts!r}"
        )
    by_slug = {Path(page).name: page for page in chapters(root)}
    for slug in options.chapter:
        if slug not in by_slug:
            known = " ".join(by_slug)
            return fail(f"There is no chapter '{slug}'. There are: {known}")
    pages = [by_slug[x] for x in options.chapter or by_slug]
    shifts = list(dict.fromkeys(map(int, words)))
    failed = reseed(root, pages, shifts, max(1, options.jobs))
    if failed:
        return fail(
            f"{failed} of {len(pages) * len(shifts)} runs failed: "
            "what they claim depends on the seed"
        )
    return 0


if __name__ == "__main__":
    cli = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    cli.add_argument("chapter", nargs="*", help="slugs; all by default")
    cli.add_argument("--shifts", default="0 1000 2000 3000 5000")
    cli.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    guarded(main, ROOT, cli.parse_args())
