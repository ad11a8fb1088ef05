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
from results import replace
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
    digests, wanted = {}, []
    imports: set[str] = set()
    for page in pages:
        source = source_of(read(root, page))
        digests[page] = inputs.digest(source)
        imports |= inputs.reach(source).imports
        wanted += [(page, shift) for shift in shifts]

    def name(page: str, shift: int) -> str:
        return f"{Path(page).name} +{shift}"

    todo = [
        (page, shift)
        for page, shift in wanted
        if found.get(name(page, shift), {}).get("digest") != digests[page]
    ]
    prepare(root, imports)
    pool = ThreadPoolExecutor(jobs)
    bar = tqdm(total=len(todo), desc="reseeding", unit="run", disable=None)
    try:
        futures = {
            pool.submit(run, root, page, read(root, page), shift): (
                page,
                shift,
            )
            for page, shift in todo
        }
        for future in as_completed(futures):
            page, shift = futures[future]
            done = future.result()
            failures = done.failures
            if done.error:
                failures.append(done.error.strip().splitlines()[0])
            entry = found[name(page, shift)] = {
                "digest": digests[page],
                "failures": failures,
                "seconds": round(done.seconds, 1),
            }
            bar.write(line(name(page, shift), entry))
            bar.update()
            replace(file, json.dumps(found, indent=1))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        raise
    finally:
        bar.close()
    pool.shutdown()
    for page, shift in wanted:
        if (page, shift) not in todo:
            entry = found[name(page, shift)]
            print(line(name(page, shift), entry) + ", as found before")
    return sum(bool(found[name(*x)]["failures"]) for x in wanted)


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
