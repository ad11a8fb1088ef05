"""The environment of every build, whatever that of its user is.

Kernels, Sphinx and what they start see the variables below and no others.
Else a result could come from the user's settings, from another package, or
from another Python, and be kept as the book's.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

# The machine's own: how to find, to show and to reach things.
MACHINE = (
    *("PATH", "TMPDIR", "TERM", "COLUMNS", "NO_COLOR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
    *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    # The address of the site; see extensions/pages.py.
    "GITHUB_REPOSITORY",
)
# Which of a library's routines compute. A machine may need them to compute
# rightly, and they change last digits: they are a part of each digest.
ROUTINES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "LD_LIBRARY_PATH",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
SETTINGS = {
    # For the book, not for a notebook: see lorabook.notebook.
    "LORABOOK_SITE": "1",
    # One thread a kernel: side by side they would otherwise oversubscribe
    # the cores, and every number would depend on how many cores there are.
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    # The book needs no GPU, and computes the same where there is one.
    "CUDA_VISIBLE_DEVICES": "",
    # No result may come from the network.
    "HF_HUB_OFFLINE": "1",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    # Sets of strings in the same order in every run.
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUTF8": "1",
}
ENTERED = "LORABOOK_ENTERED"  # the process that is in this environment


def home(root: Path) -> Path:
    """Return the folder that stands in for the user's home."""
    return root / "_build" / "home"


def inherited() -> dict[str, str]:
    """Return those of the user's variables that results may depend on."""
    return {x: os.environ[x] for x in ROUTINES if x in os.environ}


def variables(root: Path) -> dict[str, str]:
    """Return every variable of the environment."""
    ours = home(root)
    kept = {x: os.environ[x] for x in MACHINE if x in os.environ}
    return {
        **kept,
        **inherited(),
        **SETTINGS,
        "HOME": str(ours),
        "IPYTHONDIR": str(ours / "ipython"),
        "JUPYTER_CONFIG_DIR": str(ours / "jupyter"),
        "JUPYTER_DATA_DIR": str(ours / "jupyter"),
        "JUPYTER_NO_CONFIG": "1",
        # The first place that is searched for kernels; see `enter`.
        "JUPYTER_PATH": str(ours / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(ours / "jupyter" / "runtime"),
        "MPLCONFIGDIR": str(ours / "matplotlib"),
        # This folder's package, also where .venv was made for another folder.
        "PYTHONPATH": os.pathsep.join(
            [str(root / "tools" / "quick"), str(root)]
        ),
    }


def enter(root: Path) -> None:
    """Start this program again, in the environment of the book.

    The kernel `python3` is then this interpreter.
    """
    # Until there is something to tidy up, Ctrl-C just ends the program.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if os.environ.get(ENTERED) == str(os.getpid()):
        return
    for package in ("ipykernel", "jupyter_book"):
        if find_spec(package) is None:
            sys.exit(
                f"\n{sys.executable} has no {package}: "
                "delete .venv, then run make again\n"
            )
    kernel = home(root) / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ipykernel_launcher"]
    spec = {
        "argv": [*command, "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    # In one step: a build that runs here may be reading it just now.
    new = kernel.with_name(f"{os.getpid()}.json")
    new.write_text(json.dumps(spec), encoding="utf8")
    os.replace(new, kernel)
    sys.stdout.flush()
    # The process keeps its number.
    entered = {ENTERED: str(os.getpid())}
    program = [sys.executable, "-s", *sys.argv]
    os.execve(sys.executable, program, variables(root) | entered)


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Wait until no other build works in the folder, and keep others out."""
    path = root / "_build" / "lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"waiting: {file.read() or 'another build'} is at work here")
            fcntl.flock(file, fcntl.LOCK_EX)
        # It ends with the process, however that ends.
        file.truncate(0)
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        since = time.strftime("%H:%M")
        file.write(f"process {os.getpid()} ({command}, since {since})")
        file.flush()
        yield
