"""Execute the chapters side by side, before Sphinx writes the pages.

    python tools/execute.py [CHAPTER ...] [--jobs N] [--force]

Every chapter runs in a fresh kernel, in the book's own environment and in an
empty folder. Its outputs go to the jupyter-cache that MyST-NB reads, so that a
build finds them and executes nothing itself. That cache knows a chapter by its
code cells alone. A digest of what else its results depend on (`inputs.py`) is
kept with them; when that changes, the chapter runs again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NoReturn

import environment

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    environment.enter(ROOT)

from contents import ContentsError, chapters
from inputs import Inputs
from jupyter_cache.readers import get_reader
from kernels import Run, clear, run, stop
from results import Results, ResultsError
from tqdm import tqdm


def read(root: Path, page: str) -> Any:
    """Read a chapter as a notebook.

    Raises
    ------
    ContentsError
        If it is none.
    """
    reader = get_reader({"name": "myst_nb_md", "type": "plugin"})
    try:
        return reader(str(root / f"{page}.md"))
    except Exception as error:  # of YAML, of options, of MyST
        why = " ".join(str(error).split())
        raise ContentsError(f"{page}.md cannot be read: {why}") from error


def source_of(notebook: Any) -> str:
    """Return the code of a chapter."""
    cells = (x.source for x in notebook.cells if x.cell_type == "code")
    return "\n".join(cells)


def prepare(root: Path, imports: Iterable[str]) -> None:
    """Empty the folders of earlier runs, and list Matplotlib's fonts.

    Where Matplotlib has no such list, it takes long to write one, and tells
    a chapter's reader so.
    """
    clear(root)
    fonts = environment.home(root) / "matplotlib"
    listed = any(fonts.glob("fontlist-*.json"))
    if not listed and any(x.split(".")[0] == "matplotlib" for x in imports):
        command = [sys.executable, "-c", "import matplotlib.font_manager"]
        variables = environment.variables(root)
        subprocess.run(command, env=variables, stderr=subprocess.DEVNULL)


def execute(
    root: Path, only: list[str], jobs: int, force: bool = False
) -> list[Run]:
    """Execute the chapters whose results are missing; return those runs.

    What a run finds is kept as soon as it ends, whatever happens later.

    Raises
    ------
    ResultsError
        If results cannot be written.
    """
    started = time.time()
    inputs = Inputs(root)
    results = Results(root / "_build")
    stale: dict[str, Any] = {}
    digests: dict[str, str] = {}
    states = {page: inputs.state(page) for page in only}
    imports: set[str] = set()
    for page, state in states.items():
        if not force and results.current(page, state):
            continue
        notebook = read(root, page)
        source = source_of(notebook)
        digest = results.digest(page, notebook, states[page])
        digest = digests[page] = digest or inputs.digest(source)
        if force or not results.hold(page, notebook, digest, state):
            stale[page] = notebook
            imports |= inputs.reach(source).imports
    if not stale:
        return []
    prepare(root, imports)

    # The longest first: then no core waits long for the last chapter.
    order = sorted(stale, key=results.seconds, reverse=True)
    runs = []
    pool = ThreadPoolExecutor(jobs)
    # Where nobody looks, as in continuous integration, there is no bar.
    bar = tqdm(
        total=len(order), desc="executing", unit="chapter", disable=None
    )
    try:
        futures = [pool.submit(run, root, x, stale[x]) for x in order]
        for future in as_completed(futures):
            done = future.result()
            runs.append(done)
            source, digest = source_of(done.notebook), digests[done.page]
            if not (done.error or Inputs(root).held(source, digest, started)):
                done.error = "no cell, but what it uses has changed meanwhile"
            how = "FAILED" if done.error else "done"
            bar.write(f"{done.page}: {how} in {done.seconds:.1f} s")
            bar.update()
            if not done.error:
                results.keep(done, digest, states[done.page])
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        raise
    finally:
        bar.close()
    pool.shutdown()
    return runs


def report(runs: list[Run], asked: int, wall: float) -> int:
    """Say what was executed and what failed; return the exit status."""
    for failed in (x for x in runs if x.error):
        print(f"\n{failed.page}.md failed in {failed.error}", file=sys.stderr)
    if runs:
        alone = sum(x.seconds for x in runs)
        print(
            f"executed {len(runs)} of {asked} chapters in {wall:.1f} s; "
            f"their times add up to {alone:.1f} s"
        )
    else:
        print(f"executed nothing: all {asked} chapters are up to date")
    if any(x.error for x in runs):
        return fail(
            "A chapter failed: see above. "
            "To work on it alone: make chapter CH=its_name"
        )
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a command that executes chapters understands."""
    parser.add_argument("chapter", nargs="*", help="slugs; all by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--force", action="store_true", help="execute what has not changed too"
    )


def main(root: Path, options: argparse.Namespace) -> int:
    """Execute what the options ask for; return the exit status."""
    if options.jobs < 1:
        return fail(f"--jobs needs 1 or more, got {options.jobs}")
    every = chapters(root)
    by_slug = {Path(page).name: page for page in every}
    for slug in options.chapter:
        if slug not in by_slug:
            known = " ".join(by_slug)
            return fail(f"There is no chapter '{slug}'. There are: {known}")
    only = [by_slug[x] for x in options.chapter] or every
    started = time.monotonic()
    runs = execute(root, only, options.jobs, options.force)
    return report(runs, len(only), time.monotonic() - started)


def fail(sentence: str) -> int:
    """Say what was wrong; return the exit status."""
    print(f"\n{sentence}\n", file=sys.stderr)
    return 1


def interrupt(*_: object) -> NoReturn:
    """Leave the work at once."""
    raise KeyboardInterrupt


def guarded(command: Any, root: Path, *arguments: Any) -> NoReturn:
    """Run a command alone in the book's folder; end with its status.

    What may go wrong without being a fault of the program gets one sentence.
    """
    # Also where it was started in the background, deaf to Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        with environment.alone(root):
            status = command(root, *arguments)
    except KeyboardInterrupt:
        # At once: threads that still wait for a kernel are not waited for.
        print(
            "\ninterrupted; what was finished is kept",
            file=sys.stderr,
            flush=True,
        )
        os._exit(130)
    except (ContentsError, ResultsError) as error:
        status = fail(str(error))
    except shutil.Error as error:  # from copying many files
        status = fail(f"{error.args[0][0][2]}")
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        status = fail(f"{error.strerror or error}{name}")
    # To take leave of each of Sphinx's objects would take seconds.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    cli = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    add_arguments(cli)
    guarded(main, ROOT, cli.parse_args())
