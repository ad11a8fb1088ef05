"""Run one chapter in a kernel of its own, and say how it failed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environment
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)

CELL_SECONDS = 300
START_SECONDS = 300
# What is written past Python, by C code or a child, ipykernel would forward
# some time later: to another cell, or to none. A file has it at once.
CAPTURE_NOTHING = "--IPKernelApp.capture_fd_output=False"
COLOUR = re.compile(r"\x1b\[[\d;]*m")
CELL_BYTES = 1_000_000  # of outputs; the largest figure has a tenth of it


@dataclass
class Run:
    """One executed chapter: its notebook, its time, and how it failed."""

    page: str
    seconds: float
    notebook: Any
    error: str = ""
    failures: list[str] = field(default_factory=list)


class CellFault(Exception):
    """A cell has done what no cell of the book may do."""


class Kernel(NotebookClient):
    """A kernel that runs a notebook and knows which cell it is at.

    Parameters
    ----------
    notebook
        What it runs.
    go_on
        Whether to go on after a cell that fails.
    """

    def __init__(self, notebook: Any, go_on: bool = False) -> None:
        super().__init__(
            notebook,
            kernel_name="python3",
            timeout=CELL_SECONDS,
            startup_timeout=START_SECONDS,
            # Times in the cells' metadata would be a part of the cache's key.
            record_timing=False,
            allow_errors=go_on,
            # Its warning about unencrypted TCP on this machine is noise here.
            extra_arguments=["--log-level=ERROR", CAPTURE_NOTHING],
            shutdown_kernel="immediate",
            on_cell_execute=self.begin,
            on_cell_executed=self.judge,
        )
        self.log.disabled = True  # what goes wrong is said once, by `run`
        self.at = 0
        self.bytes = 0
        self.traceback = ""
        self.failures: list[str] = []
        # For appending: the kernel shares the file, and with it its position.
        self.below = tempfile.TemporaryFile("ab+")  # noqa: SIM115
        self.read = -1  # unknown: what is written before the first cell

    def begin(self, cell: Any, cell_index: int) -> None:
        """Remember the cell that starts to run."""
        del cell
        if self.read < 0:
            self.read = os.fstat(self.below.fileno()).st_size
        self.at = cell_index
        self.bytes = 0

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Keep an output, unless there are too many of them."""
        content = msg["content"]
        outputs = [content.get("text", ""), *content.get("data", {}).values()]
        self.bytes += sum(len(str(output)) for output in outputs)
        if self.bytes <= CELL_BYTES:
            return super().process_message(msg, cell, cell_index)
        self.kill()
        return None

    def judge(self, cell: Any, cell_index: int, execute_reply: Any) -> None:
        """Refuse what would pass for success.

        Raises
        ------
        CellFault
            If the cell ended the kernel, or has written to stderr or past
            Python's own streams.
        """
        del cell_index
        content = execute_reply["content"]
        if content["status"] != "ok":
            # An exception, which nbclient raises next, or goes on.
            self.traceback = "\n".join(content.get("traceback", []))
            self.failures.append(self.brief(content))
            return
        payload = content.get("payload", [])
        if any(x.get("source") == "ask_exit" for x in payload):
            raise CellFault("the cell ends the kernel: it calls exit()")
        written = "".join(
            x.text
            for x in cell.outputs
            if x.output_type == "stream" and x.name == "stderr"
        )
        if written:
            raise CellFault(f"the cell writes to stderr:\n\n{written}")
        below = os.pread(self.below.fileno(), CELL_BYTES, self.read)
        if below:
            text = below.decode(errors="replace")
            raise CellFault(f"the cell writes past Python:\n\n{text}")

    def brief(self, content: Any) -> str:
        """Say in one line which cell failed, where and how."""
        lines = COLOUR.sub("", self.traceback).splitlines()
        # IPython marks the lines that led there; the first is the cell's.
        marked = [x for x in lines if re.match(r"-+> *\d+ ", x)]
        where = re.sub(r"-+> *\d+ ", "", marked[0]).strip() if marked else ""
        value = " ".join(str(content.get("evalue", "")).split())
        how = f"{content.get('ename', '')}{value and ': '}{value[:80]}"
        return f"cell {self.number()}: {where} ({how})"

    def number(self) -> int:
        """Return the number of the cell that runs, among those of code."""
        cells = self.nb.cells[: self.at + 1]
        return sum(x.cell_type == "code" for x in cells)

    def kill(self) -> None:
        """End the kernel, and what it started, at once."""
        process = getattr(self.km, "provisioner", None)
        if process is not None and process.pid:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def describe(self, what: str) -> str:
        """Name the cell that runs, show its source and what happened."""
        codes = sum(x.cell_type == "code" for x in self.nb.cells)
        lines = self.nb.cells[self.at].source.splitlines() if codes else []
        source = "\n".join(f"    {x}" for x in lines)
        if not sys.stderr.isatty():
            what = COLOUR.sub("", what)
        return f"code cell {self.number()} of {codes}:\n{source}\n\n{what}"


RUNNING: set[Kernel] = set()


def run(root: Path, page: str, notebook: Any, shift: int | None = None) -> Run:
    """Execute one chapter in a fresh kernel and an empty folder.

    With a shift of the seeds it goes on after cells that fail, and lists them.
    """
    started = time.monotonic()
    kernel = Kernel(notebook, go_on=shift is not None)
    RUNNING.add(kernel)
    name = Path(page).name
    options: dict[str, Any] = {"stdout": kernel.below, "stderr": kernel.below}
    if shift is not None:
        name += f"-{shift}"
        seed = {"LORABOOK_SEED": str(shift)}
        options["env"] = environment.variables(root) | seed
    folder = folder_of_runs(root) / name
    folder.mkdir(parents=True)
    error = ""
    try:
        # Of what nbclient leaves waiting, this ends the last too.
        asyncio.run(kernel.async_execute(cwd=str(folder), **options))
    except CellExecutionError:
        error = kernel.describe(kernel.traceback)
    except CellFault as fault:
        error = kernel.describe(str(fault))
    except CellTimeoutError:
        error = kernel.describe(f"no answer within {CELL_SECONDS} s")
    except DeadKernelError:
        what = "the kernel died (out of memory?)"
        if kernel.bytes > CELL_BYTES:
            what = f"more than {CELL_BYTES:,} bytes of output"
        error = kernel.describe(what)
    except RuntimeError as failure:
        error = f"its kernel, before the first cell: {failure}"
    finally:
        RUNNING.discard(kernel)
        kernel.below.close()
    shutil.rmtree(folder, ignore_errors=True)
    seconds = time.monotonic() - started
    return Run(page, seconds, notebook, error, kernel.failures)


def stop() -> None:
    """End every kernel at once."""
    for kernel in list(RUNNING):
        kernel.kill()


def folder_of_runs(root: Path) -> Path:
    """Return where the chapters' empty folders lie."""
    return root / "_build" / "empty"


def clear(root: Path) -> None:
    """Remove what runs that were killed have left behind."""
    shutil.rmtree(folder_of_runs(root), ignore_errors=True)
    runtime = environment.home(root) / "jupyter" / "runtime"
    shutil.rmtree(runtime, ignore_errors=True)
