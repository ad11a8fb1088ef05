"""Execute the chapters side by side, before Sphinx writes the pages.

    python tools/execute.py [CHAPTER ...] [--jobs N] [--force]

Every chapter runs in a fresh kernel. Its outputs go to the jupyter-cache that
MyST-NB reads, so a build finds them and executes nothing itself. That cache
knows a chapter by its code cells alone. The rest a result depends on is the
package, the data, the pinned versions and Python: their digest stands beside
the cache, and when it changes, every result is forgotten.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.readers import get_reader
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
INPUTS = (
    "lorabook",
    "assets/checkpoints",
    "assets/results",
    "assets/data",
    "assets/results",
    "requirements.txt",
)
CELL_SECONDS = 300


@dataclass
class Run:
    """One executed chapter: its notebook, its time, and how it failed."""

    page: str
    seconds: float
    notebook: Any
    error: str = ""


def pages_in_toc(toc: Any) -> Iterator[str]:
    """Yield the pages that `_toc.yml` names, in reading order."""
    if isinstance(toc, dict):
        for key, value in toc.items():
            if key in ("root", "file"):
                yield value
            else:
                yield from pages_in_toc(value)
    elif isinstance(toc, list):
        for value in toc:
            yield from pages_in_toc(value)


def is_notebook(path: Path) -> bool:
    """Return whether a page is a text notebook (jupytext, MyST format)."""
    head = path.read_text(encoding="utf8")[:1000]
    return re.search(r"^\s*format_name:\s*myst\s*$", head, re.M) is not None


def chapters(root: Path) -> list[str]:
    """Return the text notebooks of the book, in reading order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))
    found = (page.removesuffix(".md") for page in pages_in_toc(toc))
    return [page for page in found if is_notebook(root / f"{page}.md")]


def digest(root: Path, inputs: Iterable[str] = INPUTS) -> str:
    """Hash everything besides its own cells that a result depends on."""
    found = hashlib.sha256(sys.version.encode())
    for name in inputs:
        top = root / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            relative = path.relative_to(root).as_posix()
            found.update(f"\0{relative}\0".encode())
            found.update(path.read_bytes())
    return found.hexdigest()


def open_cache(build: Path, now: str) -> Any:
    """Open the cache of results; forget them if their inputs changed."""
    stamp, folder = build / "inputs.sha256", build / ".jupyter_cache"
    if folder.exists() and not (stamp.exists() and stamp.read_text() == now):
        shutil.rmtree(folder)
    build.mkdir(exist_ok=True)
    stamp.write_text(now)
    return get_cache(str(folder))


class QuitError(Exception):
    """A cell has asked its kernel to end."""


def refuse_quit(execute_reply: Any, **_: Any) -> None:
    """Raise for a cell that called `exit()` or `quit()`.

    The kernel only notes the wish, and the rest of the chapter would run on.
    """
    payload = execute_reply["content"].get("payload", [])
    if any(each.get("source") == "ask_exit" for each in payload):
        raise QuitError


def run(root: Path, page: str, notebook: Any) -> Run:
    """Execute one chapter in a fresh kernel, where its file lies."""
    started = time.monotonic()
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        # Times in the cells' metadata would be a part of the cache's key.
        record_timing=False,
        # Its warning about unencrypted TCP on this machine is noise here.
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str((root / page).parent)}},
        on_cell_executed=refuse_quit,
    )
    error = ""
    try:
        client.execute()
    except CellExecutionError as failure:
        error = describe(notebook, failure.traceback)
    except QuitError:
        error = describe(notebook, "exit() and quit() end no chapter")
    except CellTimeoutError:
        error = describe(notebook, f"no answer within {CELL_SECONDS} s")
    except DeadKernelError:
        error = describe(notebook, "the kernel died (out of memory?)")
    return Run(page, time.monotonic() - started, notebook, error)


def describe(notebook: Any, traceback: str) -> str:
    """Name the failing cell, show its source and the traceback."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    # The cells after the failing one never ran: they have no count.
    ran = [i for i, cell in enumerate(cells) if cell.execution_count]
    number = ran[-1] if ran else 0
    source = "\n".join(f"    {x}" for x in cells[number].source.splitlines())
    return f"code cell {number + 1} of {len(cells)}:\n{source}\n\n{traceback}"


def execute(
    root: Path, only: list[str], jobs: int, force: bool = False
) -> list[Run]:
    """Execute the chapters whose results are missing; return those runs."""
    cache = open_cache(root / "_build", digest(root))
    read = get_reader({"name": "myst_nb_md", "type": "plugin"})
    log_file = root / "_build" / "runs.json"
    log = json.loads(log_file.read_text()) if log_file.exists() else {}

    stale = []
    for page in only:
        notebook = read(str(root / f"{page}.md"))
        try:
            record = cache.match_cache_notebook(notebook)
        except KeyError:
            stale.append((page, notebook))
        else:
            if force:
                cache.remove_cache(record.pk)
                stale.append((page, notebook))
    # The longest first: then no core waits long for the last chapter.
    stale.sort(key=lambda item: -log.get(item[0], {}).get("seconds", 1e9))

    runs = []
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(
            total=len(stale),
            desc="executing",
            unit="chapter",
            # None: off where nobody looks, as in continuous integration.
            disable=None if stale else True,
        ) as bar,
    ):
        futures = [pool.submit(run, root, *item) for item in stale]
        for future in as_completed(futures):
            done = future.result()
            runs.append(done)
            state = "FAILED" if done.error else "done"
            bar.write(f"{done.page}: {state} in {done.seconds:.1f} s")
            bar.update()
            if done.error:
                continue
            # Sphinx reads a page again when it finds a later time here.
            log[done.page] = {
                "seconds": round(done.seconds, 1),
                "finished": time.time(),
            }
            cache.cache_notebook_bundle(
                CacheBundleIn(
                    done.notebook,
                    str(root / f"{done.page}.md"),
                    data={"execution_seconds": done.seconds},
                ),
                overwrite=True,
            )
    log_file.write_text(json.dumps(log, indent=1))
    return runs


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    parser.add_argument("chapter", nargs="*", help="slugs; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--force", action="store_true", help="execute what has not changed too"
    )
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs needs 1 or more, got {options.jobs}")

    every = chapters(root)
    by_slug = {Path(page).name: page for page in every}
    unknown = [x for x in options.chapter if x not in by_slug]
    if unknown:
        known = ", ".join(sorted(by_slug))
        parser.error(f"no chapter {unknown[0]!r}; there are: {known}")
    only = [by_slug[x] for x in options.chapter] or every

    # One thread a kernel: side by side they would otherwise oversubscribe
    # the cores, and every number would depend on how many cores there are.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["LORABOOK_SITE"] = "1"

    started = time.monotonic()
    runs = execute(root, only, options.jobs, options.force)
    for failed in (x for x in runs if x.error):
        print(f"\n{failed.page}.md failed in {failed.error}", file=sys.stderr)
    if runs:
        wall, alone = time.monotonic() - started, sum(r.seconds for r in runs)
        print(
            f"executed {len(runs)} of {len(only)} chapters in {wall:.1f} s; "
            f"their times add up to {alone:.1f} s"
        )
    else:
        print(f"executed nothing: all {len(only)} chapters are up to date")
    return int(any(x.error for x in runs))


if __name__ == "__main__":
    sys.exit(main())
