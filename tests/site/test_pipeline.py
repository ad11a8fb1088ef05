"""From text to site: what is executed, what is rebuilt, what stops the build.

A book of two tiny chapters is built once, by the Makefile's own rules, with
this book's configuration and extensions. Every test starts from that built
book. Each chapter writes its name to a file whenever a kernel runs it, so
that executions are counted and not read from messages.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import environment
import execute
import inputs
import lock
import psutil
import pytest
import serve
import yaml
from results import Results
from test_site import Site, launch_buttons, links, sitemap
from websockets.sync.client import connect

Popen: TypeAlias = "subprocess.Popen[str]"
ROOT = Path(__file__).resolve().parents[2]

HEAD = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
myst:
  html_meta:
    description: "Chapter {name} of a book that is here to be built quickly."
---

(ch-{name})=
# Chapter {name}

"""
CELL = """\
```{{code-cell}} ipython3
from pathlib import Path
import lorabook
root = Path(lorabook.__file__).parents[1]
with (root / "runs.log").open("a") as log:
    log.write("{name}\\n")
print("value", lorabook.VALUE)
```
"""
TEXT = "The first sentence, with $\\rank W$.\n\n"
TOC = """\
format: jb-book
root: index
chapters:
  - file: chapters/alpha
  - file: chapters/beta
"""


@dataclass
class Book:
    """A book in a folder of its own."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of the tests, without what make sets."""
        without = {"GITHUB_REPOSITORY", "MAKEFLAGS", "MAKELEVEL"}
        inherited = {x: y for x, y in os.environ.items() if x not in without}
        return {**inherited, **more}

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """Run a command in the book; return its status and its output."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf8",
            timeout=1200,  # something hangs
        )
        return done.returncode, done.stdout

    def start(self, *command: str, **environment: str) -> Popen:
        """Start a command with a process group of its own."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf8",
            start_new_session=True,
        )

    def makes(self, *arguments: str) -> tuple[str, ...]:
        """Return the command that runs make in the tests' environment.

        Of that it may start Python alone. The scripts beside Python would
        lead to the folder that the environment was made for.
        """
        return (
            "make",
            "--no-print-directory",
            "--old-file=.venv/.installed",
            f"BIN={self.root.parent / 'bin'}",
            f"PYTHON={sys.executable}",
            "JOBS=2",
            *arguments,
        )

    def make(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run make."""
        return self.run(*self.makes(*arguments), **environment)

    def execute(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Execute chapters, without the site."""
        script = "tools/execute.py"
        return self.run(sys.executable, script, *arguments, **environment)

    def runs(self) -> Counter[str]:
        """Count how often each chapter has been executed."""
        return Counter((self.root / "runs.log").read_text().split())

    def page(self, name: str) -> Path:
        return self.root / "_build" / "html" / "chapters" / f"{name}.html"

    def shows(self, name: str) -> str:
        return self.page(name).read_text(encoding="utf8")

    def times(self) -> dict[str, int]:
        """Return when each page was written."""
        site = self.root / "_build" / "html"
        pages = [site / "index.html", *(site / "chapters").glob("*.html")]
        return {path.stem: path.stat().st_mtime_ns for path in pages}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text(encoding="utf8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf8")

    def chapter(self, name: str, *cells: str) -> None:
        """Write a chapter with cells of its own, and a sentence."""
        fenced = [f"```{{code-cell}} ipython3\n{x}\n```\n" for x in cells]
        text = HEAD.format(name=name) + TEXT + "\n".join(fenced)
        path = self.root / "chapters" / f"{name}.md"
        path.write_text(text, encoding="utf8")

    def shown(self) -> dict[str, bytes]:
        """Return what readers get, file by file."""
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for name in ("html", "notebooks")
            for folder in [self.root / "_build" / name]
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


def script(path: Path, body: str) -> str:
    """Write a program that stands in for another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def copy(source: Path, target: Path) -> None:
    """Copy a folder, with its links as links."""
    shutil.copytree(source, target, symlinks=True)


def write_book(root: Path) -> Book:
    """Write the tiny book."""
    root.mkdir()
    for name in ("_config.yml", "Makefile", "references.bib"):
        shutil.copy(ROOT / name, root)
    no_caches = shutil.ignore_patterns("__pycache__", "data", "checkpoints")
    for name in ("extensions", "tools", "assets", "lorabook", "requirements"):
        shutil.copytree(ROOT / name, root / name, ignore=no_caches)
    script(root.parent / "bin" / "python", f'exec {sys.executable} "$@"')
    # Without PyTorch, kernels start quickly.
    (root / "lorabook" / "__init__.py").write_text("VALUE = 1\n")
    (root / "_toc.yml").write_text(TOC)
    (root / "index.md").write_text("# A tiny book\n\nOf two chapters.\n")
    (root / "chapters").mkdir()
    for name in ("alpha", "beta"):
        text = HEAD.format(name=name) + TEXT + CELL.format(name=name)
        file = root / "chapters" / f"{name}.md"
        file.write_text(text, encoding="utf8")
    return Book(root)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Build the tiny book once."""
    book = write_book(tmp_path_factory.mktemp("tiny") / "book")
    status, output = book.make("site")
    assert status == 0, output
    copy(book.root, book.root.with_name("as-built"))
    return book


@pytest.fixture
def book(built: Book) -> Iterator[Book]:
    """Return the built book, as it was; the place matters to Sphinx."""
    shutil.rmtree(built.root)
    copy(built.root.with_name("as-built"), built.root)
    return built


# What is executed, and what is rebuilt --------------------------------------


def test_each_chapter_is_executed_once(book: Book) -> None:
    # Not a second time by the build, which finds the results.
    assert book.runs() == {"alpha": 1, "beta": 1}
    assert "value 1" in book.shows("alpha")
    assert "mjx-container" in book.shows("beta")


def test_chapters_run_side_by_side(book: Book) -> None:
    """Each waits for the other: one after the other cannot succeed."""
    meet = """\
import time
from pathlib import Path
Path("ROOT/{}.here").touch()
end = time.monotonic() + SECONDS
while not Path("ROOT/{}.here").exists():
    assert time.monotonic() < end, "nobody came"
    time.sleep(0.05)""".replace("ROOT", str(book.root))
    for jobs, seconds in (("2", "60"), ("1", "0.5")):
        for file in book.root.glob("*.here"):
            file.unlink()
        cell = meet.replace("SECONDS", seconds)
        book.chapter("alpha", cell.format("alpha", "beta"))
        book.chapter("beta", cell.format("beta", "alpha"))
        status, output = book.execute("--jobs", jobs)
        assert status == (jobs == "1"), output
        assert ("nobody came" in output) == (jobs == "1")


def test_a_chapter_runs_in_an_empty_folder(book: Book) -> None:
    cell = """\
import os
assert os.listdir() == []
open("left.txt", "w").write("behind")"""
    book.chapter("alpha", cell)
    for _ in range(2):
        status, output = book.execute("--force", "alpha")
        assert status == 0, output
    assert list(book.root.rglob("left.txt")) == []


def test_no_change_executes_and_writes_nothing(book: Book) -> None:
    before = book.times()
    status, output = book.make("site")
    assert status == 0, output
    assert "executed nothing" in output
    assert book.runs() == {"alpha": 1, "beta": 1}
    assert book.times() == before


def written(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """Return the written pages; Sphinx always writes the root, index."""
    return [x for x in before if after[x] != before[x] and x != "index"]


def test_changed_sentence_rebuilds_its_page_alone(book: Book) -> None:
    before = book.times()
    book.edit("chapters/alpha.md", "The first sentence", "Another sentence")
    status, output = book.make("site")
    assert status == 0, output
    assert book.runs() == {"alpha": 1, "beta": 1}
    assert "Another sentence" in book.shows("alpha")
    assert written(before, book.times()) == ["alpha"]


def test_what_a_changed_sentence_depends_on_is_known(book: Book) -> None:
    root = book.root
    found, results = inputs.Inputs(root), Results(root / "_build")
    state = found.state("chapters/alpha")
    notebook = execute.read(root, "chapters/alpha")
    digest = found.digest(execute.source_of(notebook))
    other = state._replace(text="of another sentence")
    assert results.digest("chapters/alpha", notebook, other) == digest
    moved = state._replace(files="of another module")
    assert results.digest("chapters/alpha", notebook, moved) is None
    assert results.digest("chapters/beta", notebook, state) is None
    notebook.cells[-1].source += "\n1"
    assert results.digest("chapters/alpha", notebook, state) is None


def test_changed_cell_executes_its_chapter_alone(book: Book) -> None:
    before = book.times()
    book.edit("chapters/alpha.md", 'print("value"', 'print("new value"')
    status, output = book.make("site")
    assert status == 0, output
    assert "executed 1 of 2" in output
    assert book.runs() == {"alpha": 2, "beta": 1}
    assert "new value 1" in book.shows("alpha")
    assert written(before, book.times()) == ["alpha"]


# Other random numbers --------------------------------------------------------


def reseed(book: Book, *arguments: str) -> tuple[int, str]:
    """Execute chapters with shifted seeds."""
    return book.run(sys.executable, "tools/reseed.py", *arguments)


def test_every_claim_that_a_shift_breaks_is_named(book: Book) -> None:
    seed = 'import os\nseed = os.environ["LORABOOK_SEED"]'
    first, second = 'x = 1\nassert seed != "7", "luck"', "assert seed < '8'"
    more = CELL.format(name="alpha").split("\n", 1)[1].rsplit("```", 1)[0]
    book.chapter("alpha", seed, first, second, more)
    before, shown = book.runs(), book.shown()
    status, output = reseed(book, "--shifts", "0 7 9", "--jobs", "2")
    assert status == 1
    found = re.sub(r"\(\d+ s\)", "(1 s)", output)
    for line in (
        "alpha +0: all of it holds (1 s)",
        "alpha +7: 1 FAILED (1 s)\n    "
        'cell 2: assert seed != "7", "luck" (AssertionError: luck)\n',
        "alpha +9: 1 FAILED (1 s)\n    "
        "cell 3: assert seed < '8' (AssertionError)\n",
        "beta +9: all of it holds (1 s)",
        "2 of 6 runs failed",
    ):
        assert line in found
    # It goes on behind a failure, and shows nothing of it.
    assert book.runs() - before == {"alpha": 3, "beta": 3}
    assert book.shown() == shown

    # What has not changed since does not run again, and is told again.
    status, again = reseed(book, "alpha", "--shifts", "0 7")
    assert status == 1
    assert "alpha +7: 1 FAILED" in again
    assert "as found before" in again
    assert book.runs() - before == {"alpha": 3, "beta": 3}
    book.edit("chapters/alpha.md", 'seed != "7"', 'seed != "6"')
    status, output = reseed(book, "alpha", "--shifts", "0 7")
    assert status == 0, output
    assert book.runs() - before == {"alpha": 5, "beta": 3}


def test_shifts_are_whole_numbers_of_known_chapters(book: Book) -> None:
    for shifts in ("", "-1", "1.5", "1,2"):
        status, output = reseed(book, f"--shifts={shifts}")
        assert (status, "--shifts needs whole" in output) == (1, True)
    status, output = reseed(book, "gamma")
    assert (status, "There is no chapter 'gamma'" in output) == (1, True)
    assert book.runs() == {"alpha": 1, "beta": 1}


# What a result depends on ----------------------------------------------------

MODULES = {
    "__init__": "",
    "alone": "import math",
    "near": "from lorabook.far import x",
    "far": "def f():\n    from . import farther",
    "farther": "x = 1",
    "reader": "from lorabook.assets import folder\nx = folder() / 'data'",
    "assets": "def folder():\n    'Where data and results lie.'",
    "starter": "run('python -c \"from lorabook import alone\"')",
    "prose": '"""As in lorabook.alone."""',
    "broken": "x = (",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Write a package whose modules import each other, and some data."""
    for name, text in MODULES.items():
        path = tmp_path / "lorabook" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for name in ("data/a.txt", "results/b.json", "checkpoints/c", "book.css"):
        path = tmp_path / "assets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "chapters.txt").write_text("numpy==1.0\n")
    (tmp_path / "one.md").write_text("# One\n")
    return tmp_path


@pytest.mark.parametrize(
    ("code", "reached"),
    [
        ("x = 1", ""),
        ("import lorabook", ""),
        ("import lorabook.alone", "alone"),
        ("from lorabook import alone as other", "alone"),
        ("from lorabook.near import x", "near far farther"),
        ("def f():\n    from lorabook.far import *", "far farther"),
        ("import lorabook.prose", "prose"),
        ("import lorabook.starter", "starter alone"),
        ("import_module('lorabook.alone')", "alone"),
        ("import lorabook.reader", "reader assets data/a.txt"),
        ("open('assets/results/b.json')", "results/b.json"),
        (
            "from lorabook.assets import folder\nfolder().glob('*')",
            "assets checkpoints/c data/a.txt results/b.json",
        ),
    ],
)
def test_what_a_chapter_reaches(
    code: str, reached: str, package: Path
) -> None:
    files = inputs.Inputs(package).files(code)
    names = {
        path.stem
        if path.suffix == ".py"
        else path.relative_to(package / "assets").as_posix()
        for path in files
    }
    assert names == {"__init__", *reached.split()}


@pytest.mark.parametrize("code", ["x = (", "import lorabook.broken"])
def test_what_cannot_be_read_reaches_all(code: str, package: Path) -> None:
    files = inputs.Inputs(package).files(code)
    assert {x.stem for x in files} >= set(MODULES)
    assert {x.name for x in files} >= {"a.txt", "b.json", "c"}


@pytest.mark.parametrize(
    ("change", "affected"),
    [
        ("lorabook/farther.py", "near"),
        ("lorabook/alone.py", "starter"),
        ("lorabook/__init__.py", "near starter reader"),
        ("assets/data/a.txt", "reader"),
        ("assets/data/new/d.txt", "reader"),
        ("assets/results/b.json", ""),
        ("assets/book.css", ""),
        ("lorabook/__pycache__/far.cpython-311.pyc", ""),
        ("README.md", ""),
    ],
)
def test_what_a_change_affects(
    change: str, affected: str, package: Path
) -> None:
    chapters = ("near", "starter", "reader")

    def digests() -> list[str]:
        found = inputs.Inputs(package)
        return [found.digest(f"import lorabook.{x}") for x in chapters]

    before, state = digests(), inputs.Inputs(package).state("one")
    path = package / change
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\n# changed\n")
    after = digests()
    changed = [
        x for x, y, z in zip(chapters, before, after, strict=True) if y != z
    ]
    assert changed == affected.split()
    # The state of all is at least as fine as any digest.
    if changed:
        assert inputs.Inputs(package).state("one") != state


def test_versions_and_routines_are_a_part_of_the_digest(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest() -> str:
        return inputs.Inputs(package).digest("x = 1")

    found = {digest()}
    real = inputs.installed()
    assert any(x.startswith("numpy==") for x in real)
    for versions in (["numpy==1.0"], ["numpy==1.1"]):
        monkeypatch.setattr(inputs, "installed", lambda x=versions: x)
        found.add(digest())
    # A package on which no chapter runs.
    monkeypatch.setattr(inputs, "installed", lambda: ["numpy==1.1", "ruff==1"])
    found.add(digest())
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    found.add(digest())
    monkeypatch.setitem(environment.SETTINGS, "OMP_NUM_THREADS", "2")
    found.add(digest())
    assert len(found) == 1 + 2 + 1 + 1


def test_changed_module_executes_who_reaches_it(book: Book) -> None:
    book.edit("chapters/beta.md", "import lorabook\n", "import lorabook.far\n")
    (book.root / "lorabook" / "far.py").write_text("x = 1\n")
    assert book.execute()[0] == 0
    assert book.runs() == {"alpha": 1, "beta": 2}
    (book.root / "lorabook" / "far.py").write_text("x = 2\n")
    status, output = book.execute()
    assert status == 0, output
    assert book.runs() == {"alpha": 1, "beta": 3}
    (book.root / "lorabook" / "far.py").write_text("x = 1\n")
    (book.root / "lorabook" / "__init__.py").write_text("VALUE = 3\n")
    status, output = book.execute()
    assert status == 0, output
    assert book.runs() == {"alpha": 2, "beta": 4}
    status, output = book.execute()
    assert "executed nothing" in output


def test_new_results_reach_a_page_whose_text_is_old(book: Book) -> None:
    book.edit("lorabook/__init__.py", "VALUE = 1", "VALUE = 2")
    status, output = book.make("site")
    assert status == 0, output
    assert "value 2" in book.shows("alpha")
    before = book.times()
    # As `make chapter CH=beta` does: the results are new, though equal.
    status, output = book.execute("--force", "beta")
    assert status == 0, output
    assert book.runs() == {"alpha": 2, "beta": 3}
    status, output = book.make("site")
    assert status == 0, output
    assert written(before, book.times()) == ["beta"]


def test_changed_style_reaches_every_page(book: Book) -> None:
    version = re.compile(r"styles\.css\?v=(\w+)")
    before = version.findall(book.shows("alpha"))
    with (book.root / "assets" / "book.css").open("a") as handle:
        handle.write("\n.changed { color: red }\n")
    status, output = book.make("site")
    assert status == 0, output
    assert book.runs() == {"alpha": 1, "beta": 1}
    copied = book.root / "_build" / "html" / "_static" / "styles.css"
    assert ".changed" in copied.read_text()
    # Else a browser that has been here before would keep the old one.
    versions = {x: version.findall(book.shows(x)) for x in ("alpha", "beta")}
    assert versions["alpha"] == versions["beta"] != before


def test_new_chapter_is_in_every_sidebar(book: Book) -> None:
    text = (book.root / "chapters" / "beta.md").read_text(encoding="utf8")
    new = book.root / "chapters" / "gamma.md"
    new.write_text(text.replace("beta", "gamma"), encoding="utf8")
    with (book.root / "_toc.yml").open("a") as handle:
        handle.write("  - file: chapters/gamma\n")
    status, output = book.make("site")
    assert status == 0, output
    assert book.runs() == {"alpha": 1, "beta": 1, "gamma": 1}
    for name in ("alpha", "beta"):
        assert 'href="gamma.html"' in book.shows(name)


def test_removed_chapter_leaves_the_site(book: Book) -> None:
    book.edit("_toc.yml", "  - file: chapters/beta\n", "")
    (book.root / "chapters" / "beta.md").unlink()
    status, output = book.make("site")
    assert status == 0, output
    assert not book.page("beta").exists()
    assert "beta.html" not in book.shows("alpha")
    assert not (book.root / "_build" / "notebooks" / "beta.ipynb").exists()


def test_repository_gives_addresses_and_launch_buttons(book: Book) -> None:
    status, output = book.make("site", GITHUB_REPOSITORY="Owner/lora-book")
    assert status == 0, output
    site = Site(book.root / "_build" / "html")
    assert site.base == "https://owner.github.io/lora-book/"
    assert launch_buttons(site, "Owner/lora-book") == []
    assert links(site) + sitemap(site) == []
    assert 'href="/lora-book/' in site.texts["404.html"]
    assert book.runs() == {"alpha": 1, "beta": 1}


# Whose environment -----------------------------------------------------------

SEE = """\
import os, sys
import lorabook
assert lorabook.VALUE == 1
hidden = ("PID", "LORABOOK_ENTERED")
for name, value in sorted(os.environ.items()):
    if not name.endswith(hidden):
        print(name, value)
print(sys.executable, sys.path, sys.flags, lorabook.__file__)
print([x for x in globals() if "leak" in x])"""


def hostile(folder: Path) -> dict[str, str]:
    """Write what may lie around at a user's, and point to all of it."""
    home = folder / "home"
    startup = home / "ipython" / "profile_default" / "startup" / "leak.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("leaked = True\n")
    (home / "start.py").write_text("leaked = True\n")
    for name in ("lorabook", "sitecustomize", "numpy", "nbclient"):
        (home / f"{name}.py").write_text("raise SystemExit('leaked')\n")
    kernel = home / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "other", "language": "python"}
    kernel.write_text(json.dumps(spec))
    return {
        "HOME": "/dev/null",
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTER_DATA_DIR": str(home / "jupyter"),
        "JUPYTER_PATH": str(home / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "LC_ALL": "C",
        "LORABOOK_ENTERED": "1",
        "LORABOOK_SITE": "other",
        "MATPLOTLIBRC": str(home),
        "MKL_NUM_THREADS": "7",
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": "/dev/null",
        "OMP_NUM_THREADS": "7",
        "OPENBLAS_NUM_THREADS": "7",
        "PYTHONHASHSEED": "7",
        "PYTHONOPTIMIZE": "1",
        "PYTHONPATH": str(home),
        "PYTHONSTARTUP": str(home / "start.py"),
        "PYTHONWARNINGS": "error",
        "TZ": "Asia/Tokyo",
    }


def executed(book: Book, name: str) -> str:
    """Return a chapter's executed notebook, as it is kept."""
    log = json.loads((book.root / "_build" / "runs.json").read_text())
    folder = book.root / "_build/.jupyter_cache/executed"
    return (folder / log[f"chapters/{name}"]["key"] / "base.ipynb").read_text()


def outputs(book: Book, name: str) -> str:
    """Return what the cells of a chapter have printed."""
    return "".join(
        "".join(output.get("text", ""))
        for cell in json.loads(executed(book, name))["cells"]
        for output in cell["outputs"]
    )


def test_no_setting_of_the_user_reaches_a_result(
    book: Book, tmp_path: Path
) -> None:
    book.chapter("alpha", SEE)
    status, output = book.execute()
    assert status == 0, output
    expected = outputs(book, "alpha")
    assert "OMP_NUM_THREADS 1\n" in expected
    assert f"{sys.executable} " in expected
    assert "optimize=0" in expected
    assert expected.endswith("[]\n")
    leaks = hostile(tmp_path)
    # By make, whose Python would otherwise start with what PYTHONPATH has.
    status, output = book.make("site", **leaks)
    assert status == 0, output
    assert "executed nothing" in output
    status, output = book.run(
        *(sys.executable, "-E", "-s", "tools/execute.py", "--force"), **leaks
    )
    assert status == 0, output
    assert outputs(book, "alpha") == expected


def test_routines_of_a_library_are_kept_and_count(book: Book) -> None:
    book.chapter("alpha", "import os; print(os.environ['OPENBLAS_CORETYPE'])")
    status, output = book.execute(OPENBLAS_CORETYPE="Haswell")
    assert status == 0, output
    assert outputs(book, "alpha") == "Haswell\n"
    status, output = book.execute("beta", OPENBLAS_CORETYPE="Haswell")
    assert "executed nothing" in output
    status, output = book.execute("beta", OPENBLAS_CORETYPE="Zen")
    assert "executed 1 of 1" in output


def test_a_figure_is_not_lost_to_matplotlib_s_settings(
    book: Book, tmp_path: Path
) -> None:
    """Nor is the list of fonts that it writes at first a result."""
    book.chapter("alpha", "import matplotlib.pyplot as p\np.plot([1, 2]);")
    status, output = book.execute("alpha", MPLBACKEND="agg", HOME="/dev/null")
    assert status == 0, output
    assert "image/png" in executed(book, "alpha")


def test_sphinx_executes_nothing(book: Book) -> None:
    """Not even a chapter that is edited between execution and reading."""
    book.edit("chapters/beta.md", 'print("value"', 'print("new value"')
    hasty = (
        "import sys; sys.argv[0] = 'tools/book.py';"
        "sys.path.insert(0, 'tools'); import environment;"
        "environment.enter = lambda root: None; import execute;"
        "execute.main = lambda *_: 0; import runpy;"
        "runpy.run_path('tools/book.py', run_name='__main__')"
    )
    before = book.shown()
    status, output = book.run(sys.executable, "-c", hasty)
    assert status == 1
    assert "a chapter has changed since it was executed" in output
    assert book.runs() == {"alpha": 1, "beta": 1}
    assert book.shown() == before


def test_a_module_edited_while_a_chapter_runs_spoils_its_result(
    book: Book,
) -> None:
    """Also when the edit is taken back before anybody looks."""
    path = book.root / "lorabook" / "__init__.py"
    text = path.read_text()
    book.chapter(
        "alpha",
        f"from pathlib import Path\npath = Path('{path}')\n"
        "path.write_text('VALUE = 9')\n"
        "import lorabook, importlib\nimportlib.reload(lorabook)\n"
        f"path.write_text({text!r})\nprint(lorabook.VALUE)",
    )
    for _ in range(2):
        status, output = book.execute("alpha")
        assert status == 1
        assert "alpha.md failed in no cell, but what it uses has" in output
        assert path.read_text() == text


def test_a_source_edited_while_sphinx_reads_is_read_again(book: Book) -> None:
    """Sphinx would think that it has read the later text."""
    book.edit("chapters/beta.md", "The first sentence", "The second sentence")
    late = (
        "import sys; sys.argv[0] = 'tools/book.py';"
        "sys.path.insert(0, 'tools'); import environment;"
        "environment.enter = lambda root: None; import book, pathlib;"
        "page = pathlib.Path('chapters/beta.md'); run = book.run_sphinx;\n"
        "def edit(*given):\n"
        "    found = run(*given)\n"
        "    old = page.read_text()\n"
        "    new = old.replace('The second', 'The third')\n"
        "    new == old or page.write_text(new)\n"
        "    return found\n"
        "book.run_sphinx = edit; sys.exit(book.build_site(book.ROOT))"
    )
    status, output = book.run(sys.executable, "-c", late)
    assert status == 0, output
    assert "a source has changed meanwhile: the site is built again" in output
    assert "The third sentence" in book.shows("beta")


# What interrupts the build ---------------------------------------------------


def wait_for(what: Callable[[], object], running: Popen) -> None:
    """Wait until something is so, while a program runs."""
    for _ in range(6000):
        if what():
            return
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def finished(book: Book, name: str) -> float:
    """Return when a chapter was last executed."""
    log = json.loads((book.root / "_build" / "runs.json").read_text())
    return float(log[f"chapters/{name}"]["finished"])


def kept(book: Book, name: str) -> bool:
    """Return whether the results of a chapter's last run are kept."""
    log = json.loads((book.root / "_build" / "runs.json").read_text())
    entry = log[f"chapters/{name}"]
    folder = book.root / "_build/.jupyter_cache/executed" / entry["key"]
    try:
        text = (folder / "base.ipynb").read_bytes()
    except FileNotFoundError:  # also between the folder and its file
        return False
    return hashlib.sha256(text).hexdigest() == entry["sha256"]


def kernels(book: Book) -> list[int]:
    """Return the kernels that run in a book's folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cwd", "cmdline"])
        if (process.info["cwd"] or "").startswith(str(book.root))
        and "ipykernel_launcher" in (process.info["cmdline"] or [])
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_execution_keeps_what_is_finished(
    number: int, book: Book
) -> None:
    book.edit("chapters/alpha.md", 'print("value"', 'print("new value"')
    book.chapter("beta", "import time; time.sleep(600)")
    before = finished(book, "alpha")
    running = book.start(*book.makes("site"))
    wait_for(lambda: finished(book, "alpha") > before, running)
    wait_for(lambda: kept(book, "alpha"), running)
    wait_for(lambda: (book.root / "_build/empty/beta").exists(), running)
    os.killpg(running.pid, number)
    # The cell would go on for ten minutes.
    output, _ = running.communicate(timeout=100)
    assert running.returncode != 0
    assert "Traceback" not in output
    if number == signal.SIGINT:
        assert "interrupted; what was finished is kept" in output
    for _ in range(3000):
        if not kernels(book):
            break
        time.sleep(0.02)
    assert kernels(book) == []
    book.chapter("beta", "print('no value')")
    status, output = book.make("site")
    assert status == 0, output
    assert book.runs()["alpha"] == 2
    assert "new value 1" in book.shows("alpha")


def test_killed_execution_is_made_up_for(book: Book) -> None:
    """Results that were kept before the end reach their pages."""
    book.edit("lorabook/__init__.py", "VALUE = 1", "VALUE = 2")
    book.edit(
        "chapters/beta.md",
        "import lorabook\n",
        f"import lorabook, time\nwhile Path('{book.root}/wait').exists():\n"
        "    time.sleep(0.05)\n",
    )
    (book.root / "wait").touch()
    before = finished(book, "alpha")
    running = book.start(*book.makes("site"))
    wait_for(lambda: finished(book, "alpha") > before, running)
    wait_for(lambda: kept(book, "alpha"), running)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    (book.root / "wait").unlink()
    status, output = book.make("site")
    assert status == 0, output
    for name in ("alpha", "beta"):
        assert "value 2" in book.shows(name)


def revise(book: Book) -> None:
    """Change what both chapters compute, and what one of them says."""
    book.edit("lorabook/__init__.py", "VALUE = 1", "VALUE = 2")
    book.edit("chapters/beta.md", "The first sentence", "Another sentence")


def test_killed_at_any_moment_the_next_build_makes_up_for_it(
    book: Book, built: Book
) -> None:
    """SIGKILL of the whole group; the result is that of no interruption.

    `KILLS=20` tries more moments; `SEED` repeats some.
    """
    seed = os.environ.get("SEED") or str(random.randrange(10**6))
    print(f"SEED={seed}")  # shown when the test fails
    moments = random.Random(seed)
    revise(book)
    started = time.monotonic()
    status, output = book.make("site")
    duration = time.monotonic() - started
    assert status == 0, output
    undisturbed = book.shown()
    for number in range(int(os.environ.get("KILLS", "3"))):
        shutil.rmtree(book.root)
        copy(book.root.with_name("as-built"), book.root)
        revise(book)
        delay = moments.uniform(0, duration)
        running = book.start(*book.makes("site"))
        with suppress(subprocess.TimeoutExpired):
            running.wait(delay)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        status, output = book.make("site")
        assert status == 0, output
        shown = book.shown()
        wrong = {
            name
            for name in undisturbed.keys() | shown.keys()
            if undisturbed.get(name) != shown.get(name)
        }
        assert wrong == set(), f"kill {number} after {delay:.2f} s"


def test_builds_take_turns_and_say_so(book: Book) -> None:
    book.edit(
        "chapters/beta.md",
        "import lorabook\n",
        f"import lorabook, time\nwhile Path('{book.root}/wait').exists():\n"
        "    time.sleep(0.05)\n",
    )
    (book.root / "wait").touch()
    first = book.start(sys.executable, "tools/execute.py", "--jobs", "1")
    wait_for(lambda: (book.root / "_build/empty/beta").exists(), first)
    second = book.start(sys.executable, "tools/execute.py")
    assert second.stdout
    line = second.stdout.readline()
    (book.root / "wait").unlink()
    output, _ = first.communicate()
    assert first.returncode == 0, output
    assert re.fullmatch(
        rf"waiting: process {first.pid} \(execute\.py --jobs 1, "
        r"since \d\d:\d\d\) is at work here\n",
        line,
    )
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "executed nothing" in output


def test_a_build_that_waits_disturbs_no_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It describes the kernel anew, while another build may read that."""
    monkeypatch.setattr(os, "execve", lambda *_: None)
    environment.enter(tmp_path)
    (file,) = (environment.home(tmp_path) / "jupyter").rglob("kernel.json")
    done = threading.Event()

    def enter() -> None:
        for _ in range(300):
            environment.enter(tmp_path)
        done.set()

    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of main threads
    thread = threading.Thread(target=enter)
    thread.start()
    while not done.is_set():
        assert json.loads(file.read_text("utf8"))["language"] == "python"
    thread.join()


# What is damaged -----------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (".jupyter_cache/global.db", "results of earlier runs are damaged"),
        ("runs.json", "results of earlier runs are damaged"),
        (".jupyter_cache/executed/*/base.ipynb", "executed 2 of 2"),
        ("site/doctrees/chapters/beta.doctree", "every page is written again"),
        ("site/doctrees/environment.pickle", ""),
    ],
)
def test_damaged_files_heal(damage: str, sentence: str, book: Book) -> None:
    for path in (book.root / "_build").glob(damage):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    book.edit("index.md", "Of two chapters", "Of two small chapters")
    for _ in range(2):
        status, output = book.make("site")
        assert status == 0, output
        assert "Traceback" not in output
        assert (sentence in output) == bool(sentence) or not sentence
        sentence = ""
    assert "executed nothing" in output
    for name in ("alpha", "beta"):
        assert "value 1" in book.shows(name)
    assert "Of two small chapters" in (book.shown()["index.html"]).decode()


def test_full_disk_gets_a_sentence_and_heals(book: Book) -> None:
    """No file may grow beyond 100 kB; what is written is larger."""
    book.chapter("alpha", "print('x' * 200_000)")
    limited = f"ulimit -f 100; exec {sys.executable} tools/execute.py"
    status, output = book.run("bash", "-c", limited)
    assert status == 1
    assert "alpha.md cannot be written" in output
    assert "Is the disk full? Make room, then run make again." in output
    assert "Traceback" not in output
    status, output = book.execute()
    assert status == 0, output
    assert "x" * 200_000 in outputs(book, "alpha")


# What stops the build -------------------------------------------------------


def test_broken_package_under_a_warm_cache_fails(book: Book) -> None:
    before = book.times()
    book.edit("lorabook/__init__.py", "VALUE = 1", "VALVE = 1")
    for _ in range(2):
        status, output = book.make("site")
        assert status != 0
        assert "chapters/alpha.md failed in code cell 1 of 1" in output
        assert "AttributeError" in output
        assert "make chapter CH=" in output
        assert book.times() == before
    book.edit("lorabook/__init__.py", "VALVE = 1", "VALUE = 1")
    status, output = book.make("site")
    assert status == 0, output


def test_old_cell_does_not_bring_back_old_results(book: Book) -> None:
    """Its result was computed by another package: it is forgotten."""
    book.edit("chapters/alpha.md", 'print("value"', 'print("new value"')
    assert book.execute()[0] == 0
    book.edit("lorabook/__init__.py", "VALUE = 1", "VALUE = 2")
    assert book.execute()[0] == 0
    book.edit("chapters/alpha.md", 'print("new value"', 'print("value"')
    status, output = book.make("site")
    assert status == 0, output
    assert "value 2" in book.shows("alpha")
    assert book.runs() == {"alpha": 4, "beta": 2}


def test_failing_cell_is_named_and_the_others_go_on(book: Book) -> None:
    book.edit("chapters/beta.md", 'print("value"', 'print("new value"')
    fine = "```{code-cell} ipython3\nfine = 1\n```\n\n"
    bad = "```{code-cell} ipython3\nhalf = 1\nhalf / 0\n```\n\n"
    text = (book.root / "chapters" / "alpha.md").read_text(encoding="utf8")
    text += "\n" + fine + bad + fine
    (book.root / "chapters" / "alpha.md").write_text(text, encoding="utf8")
    for _ in range(2):
        status, output = book.make("site")
        assert status != 0
        assert "chapters/alpha.md failed in code cell 3 of 4" in output
        assert "half / 0" in output
        assert "ZeroDivisionError" in output
    # The healthy chapter was executed once, the sick one both times.
    assert book.runs() == {"alpha": 3, "beta": 2}


FAULTS = {
    "import time; time.sleep(600)": "no answer within 10 s",
    "import os; os._exit(1)": "the kernel died",
    "exit()": "calls exit()",
    "quit(0)": "calls exit()",
    "print('x' * 3_000_000)": "more than 1,000,000 bytes of output",
    "while True: print('x' * 1000)": "more than 1,000,000 bytes of output",
    "import sys; print('to be seen', file=sys.stderr)": "to be seen",
    "import warnings; warnings.warn('take care')": "UserWarning: take care",
    "import os; os.write(2, b'from below') and None": "from below",
    "import os; os.write(1, b'from below') and None": "past Python",
    "import os; os.system('echo from a child') and None": "from a child",
    "raise KeyError('a key')": "KeyError: 'a key'",
}


RUN_ALL = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, "tools")
import environment
root = Path.cwd()
variables = environment.variables(root)
os.environ.clear()
os.environ.update(variables)
import execute, kernels
kernels.CELL_SECONDS = 10
pages = [f"chapters/{path.stem}" for path in (root / "chapters").glob("f*")]
for _ in range(2):
    runs = execute.execute(root, pages, 2)
print(json.dumps({run.page: run.error for run in runs}))
"""


def test_faults_are_named_every_time(book: Book) -> None:
    """In the second of three cells; none is taken for a result, ever."""
    for number, fault in enumerate(FAULTS):
        book.chapter(f"f{number}", "first = 1", fault, "third = 3")
    status, output = book.run(sys.executable, "-c", RUN_ALL)
    assert status == 0, output
    errors = json.loads(output.splitlines()[-1])
    for number, (fault, sentence) in enumerate(FAULTS.items()):
        error = errors[f"chapters/f{number}"]
        assert f"code cell 2 of 3:\n    {fault}\n" in error
        assert sentence in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["delta"], "There is no chapter 'delta'. There are: alpha beta"),
        (["--jobs", "0"], "--jobs needs 1 or more, got 0"),
        (["--jobs", "many"], "invalid int value: 'many'"),
    ],
)
def test_wrong_arguments_get_one_sentence(
    arguments: list[str], sentence: str, book: Book
) -> None:
    status, output = book.execute(*arguments)
    assert status in (1, 2)
    assert output.rstrip().endswith(sentence)
    assert "Traceback" not in output


def test_warning_fails_the_build_every_time(book: Book) -> None:
    """It stands in front, and the good pages stay."""
    before = book.shown()
    book.edit("chapters/beta.md", "The first", "See {ref}`nowhere`. The first")
    book.edit("chapters/alpha.md", "The first", "A new first")
    for _ in range(2):
        status, output = book.make("site")
        assert status != 0
        done, warning, *rest = output.strip().splitlines()
        assert done.startswith("executed nothing")
        assert re.match(r".*/beta\.md:\d+: WARNING: .*nowhere", warning)
        assert "every warning above is an error" in output
        assert len(rest) < 5, output
        assert book.shown() == before
    book.edit("chapters/beta.md", "See {ref}`nowhere`. ", "")
    status, output = book.make("site")
    assert status == 0, output
    assert "A new first" in book.shows("alpha")


def test_wrong_formula_fails_the_build(book: Book) -> None:
    book.edit("chapters/beta.md", "$\\rank W$", "$\\rnak W$")
    status, output = book.make("site")
    assert status != 0
    assert "rnak" in output


WRONG = {
    "the name of a repository": (
        ("", "", ""),
        {"GITHUB_REPOSITORY": "owner-only"},
        "GITHUB_REPOSITORY is 'owner-only', but has to be like owner/name.",
    ),
    "a page that is not there": (
        ("_toc.yml", "chapters/beta", "chapters/gamma"),
        {},
        "_toc.yml names chapters/gamma, but there is no chapters/gamma.md",
    ),
    "a list of contents": (
        ("_toc.yml", "  - file: chapters/beta", "  - [file"),
        {},
        "_toc.yml cannot be read: while parsing",
    ),
    "an entry of it": (
        ("_toc.yml", "  - file: chapters/beta", "  - fill: x"),
        {},
        "_toc.yml cannot be read: entry does not contain one of",
    ),
    "a front matter": (
        ("chapters/beta.md", "kernelspec:", "kernelspec: [:"),
        {},
        "chapters/beta.md cannot be read: Notebook metadata",
    ),
    "a configuration": (
        ("_config.yml", "title: ", "title: [:"),
        {},
        "The site was not built: ParserError: while parsing",
    ),
    "a value in it": (
        ("_config.yml", "  timeout: 300", "  timeout: long"),
        {},
        "'long' is not of type 'number'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_gets_a_sentence(what: str, book: Book) -> None:
    (file, old, new), variables, sentence = WRONG[what]
    if file:
        book.edit(file, old, new)
    status, output = book.make("site", **variables)
    assert status != 0
    assert sentence in output
    assert "Traceback" not in output


def test_a_python_without_the_packages_is_named(book: Book) -> None:
    status, output = book.run(sys.executable, "-S", "tools/execute.py")
    assert status != 0
    assert "delete .venv, then run make again" in output
    assert "Traceback" not in output


# What follows the edits ------------------------------------------------------


def fetch(address: str, path: str) -> str:
    with urllib.request.urlopen(f"{address}{path}") as answer:
        return answer.read().decode()


def test_serve_ends_without_a_word_while_a_build_gets_ready(
    book: Book,
) -> None:
    """Which Python may be, too, that has not come to the first line yet."""
    for seconds in (0.0, 0.02, 0.2):
        running = book.start(
            *(sys.executable, "tools/serve.py", "--port=0", "--jobs=2")
        )
        assert running.stdout
        said = ""
        while "Ctrl-C stops" not in said:
            line = running.stdout.readline()
            assert line, said
            said += line
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGINT)
        said += running.stdout.read()
        running.wait(timeout=100)
        running.stdout.close()
        assert "Traceback" not in said
        assert "KeyboardInterrupt" not in said


def test_serve_follows_edits_and_keeps_good_pages(book: Book) -> None:
    running = book.start(
        *(sys.executable, "tools/serve.py", "--port=0", "--jobs=2")
    )
    assert running.stdout
    said: list[str] = []
    while "Ctrl-C stops" not in "".join(said[-1:]):
        said.append(running.stdout.readline())
        assert said[-1], "".join(said)
    found = re.search(r"http://(127\.0\.0\.1:\d+)/", said[-1])
    assert found
    address = f"http://{found[1]}/"
    reader = threading.Thread(target=lambda: said.extend(running.stdout or []))
    reader.start()
    try:
        listening = psutil.Process(running.pid).net_connections()
        assert {x.laddr.ip for x in listening} == {"127.0.0.1"}
        page = fetch(address, "")
        assert "Of two chapters" in page
        assert '<script src="/reload.js">' in page
        assert "/websocket-reload" in fetch(address, "reload.js")
        with pytest.raises(urllib.error.HTTPError):
            fetch(address, "..%2f..%2f_config.yml")
        with connect(f"ws://{found[1]}/websocket-reload") as news:
            # As editors save: a new file in the place of the old one.
            for word in ("small", "tiny"):
                new = book.root / "index.new"
                new.write_text(f"# A book\n\nOf two {word} chapters.\n")
                new.replace(book.root / "index.md")
                assert news.recv(timeout=200) == "refresh"
                assert f"Of two {word} chapters" in fetch(address, "")
            book.edit("chapters/beta.md", "The first", "See {ref}`nowhere`.")
            assert news.recv(timeout=200) == "refresh"
        assert "nowhere" in "".join(said)
        assert "What is shown are the last good pages." in "".join(said)
        assert "The first" in fetch(address, "chapters/beta.html")
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(timeout=100)
        reader.join()
        running.stdout.close()
    assert "Traceback" not in "".join(said)


def test_a_build_that_waits_is_the_next_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = "import os, sys; line = sys.stdin.readline(); "
    code += "print(line.strip() or 'nothing', os.getpid()); sys.exit(3)"
    builds = serve.Builds([sys.executable, "-c", code], tmp_path)
    try:
        said = []
        for _ in range(2):
            said.append(f"build {builds.next.pid}")
            assert builds() == 3
        # Its code is another now: it leaves, and a new one builds.
        said.append(f"nothing {builds.next.pid}")
        (tmp_path / "new.py").write_text("")
        assert builds() == 3
    finally:
        said.append(f"nothing {builds.next.pid}")
        builds.close()
    *lines, last = capfd.readouterr().out.splitlines()
    assert [*lines[:3], last] == said
    assert len(lines) == 4
    assert re.fullmatch(r"build \d+", lines[3])


@pytest.mark.parametrize("port", ["99999", "taken"])
def test_a_port_that_cannot_be_used_is_named(port: str, book: Book) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        if port == "taken":
            port = str(other.getsockname()[1])
        status, output = book.make("serve", f"PORT={port}")
    assert status != 0
    assert f"Port {port} cannot be used" in output
    assert "Traceback" not in output


# The Makefile's own sentences -----------------------------------------------

TARGETS = [
    "help",
    "book",
    "test",
    "unit",
    "serve",
    "lab",
    "notebooks",
    "chapter",
    "lint",
    "format",
    "linkcheck",
    "lock",
    "clean",
]


@pytest.fixture
def clone(tmp_path: Path) -> Book:
    """Return the little of a fresh clone that `make` looks at first."""
    root = tmp_path / "clone"
    root.mkdir()
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / "requirements", root / "requirements")
    script(tmp_path / "bin" / "python", f'exec {sys.executable} "$@"')
    return Book(root)


def test_help_lists_every_target(clone: Book) -> None:
    status, output = clone.run("make", "help")
    assert status == 0
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", output, re.M))
    assert [x for x in TARGETS if x not in listed] == []
    rules = (clone.root / "Makefile").read_text(encoding="utf8")
    documented = re.findall(r"^([a-z]+):.*?## (.*)$", rules, re.M)
    assert listed == dict(documented)
    phony = re.search(r"^\.PHONY:((?:.*\\\n)*.*)", rules, re.M)
    assert phony
    assert set(listed) <= set(phony[1].replace("\\", "").split())


@pytest.mark.parametrize(
    ("python", "sentence"),
    [
        ("exit 1", "The book needs Python 3.11 or newer."),
        ('[ "$1" = -c ]', "Could not create .venv."),
        # As Debian's without ensurepip: there is a Python, and no pip.
        (
            '[ "$1" = -c ] || { mkdir -p .venv/bin; ln -sf /bin/false '
            ".venv/bin/python; exit 1; }",
            "Could not create .venv.",
        ),
        # Everything but a network.
        (
            '[ "$1" = -c ] || { mkdir -p .venv/bin; echo "#!/bin/sh\n'
            'case \\"\\$*\\" in *install*) exit 1; esac" > .venv/bin/python;'
            "chmod +x .venv/bin/python; }",
            "Could not install the packages. Is there a network",
        ),
    ],
)
def test_failed_setup_says_what_to_do(
    python: str, sentence: str, clone: Book
) -> None:
    other = script(clone.root / "python", python)
    for _ in range(2):
        status, output = clone.run("make", f"PYTHON={other}")
        assert status != 0
        assert sentence in output
        assert not (clone.root / ".venv" / ".installed").exists()


def test_an_unknown_kind_of_pytorch_is_named(clone: Book) -> None:
    status, output = clone.run("make", "TORCH=gpu", f"PYTHON={sys.executable}")
    assert status != 0
    assert "TORCH='gpu' is unknown. Allowed are cpu, auto and" in output
    assert not (clone.root / ".venv").exists()


def test_pytorch_without_a_network_is_not_called_unknown(clone: Book) -> None:
    body = 'case "$*" in *install*) exit 1; esac'
    script(clone.root / ".venv" / "bin" / "python", body)
    status, output = clone.run("make", "TORCH=cpu", f"PYTHON={sys.executable}")
    assert status != 0
    assert "for 'cpu': see above. Is there a network connection" in output


PINS = ("requirements.txt", "requirements/chapters.txt")


def test_lock_without_a_network_changes_nothing(
    clone: Book, tmp_path: Path
) -> None:
    """With uv itself, which is told that there is none."""
    shutil.copytree(ROOT / "tools", clone.root / "tools")
    before = {x: (clone.root / x).read_text() for x in PINS}
    offline = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(tmp_path / "empty")}
    status, output = clone.make("lock", **offline)
    assert status != 0
    assert "No pin is changed: Is there a network connection?" in output
    assert {x: (clone.root / x).read_text() for x in PINS} == before
    files = {x.name for x in (clone.root / "requirements").iterdir()}
    assert files == {x.name for x in (ROOT / "requirements").iterdir()}
    assert list(clone.root.glob("requirements.*")) == [
        clone.root / "requirements.txt"
    ]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([["a==1", "b==2", "triton==3"], ["a==1"]], ""),
        ([["a==1"], ["a==1"]], "no pin for b"),
        ([["a==1", "b>=2"], ["a==1"]], "not a pin: 'b>=2'"),
        ([["a==1", "b==2"], []], "no pin for a"),
        ([[], []], "no pin for a, b"),
    ],
)
def test_lock_checks_before_it_writes(
    answers: list[list[str]],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    (tmp_path / "requirements" / "chapters.in").write_text("# why\nA>=1\n")
    (tmp_path / "requirements" / "lint.in").write_text("b\n")
    for name in PINS:
        (tmp_path / name).write_text("old\n")
    said = iter("\n".join(answer) for answer in answers)
    monkeypatch.setattr(
        lock.subprocess,
        "run",
        lambda *_, **__: subprocess.CompletedProcess([], 0, next(said)),
    )
    status = lock.main(tmp_path)
    texts = [(tmp_path / name).read_text() for name in PINS]
    if sentence:
        assert status == 1
        assert f"No pin is changed: {sentence}" in capsys.readouterr().err
        assert texts == ["old\n", "old\n"]
    else:
        assert status == 0
        pins = [re.findall(r"^[^#\n].*", text, re.M) for text in texts]
        assert pins == [["a==1", "b==2", "-e ."], ["a==1"]]


def test_no_recipe_starts_a_script_of_the_environment() -> None:
    """Scripts name the folder that .venv was made in; programs do not."""
    rules = (ROOT / "Makefile").read_text(encoding="utf8")
    started = set(re.findall(r"\$\(BIN\)/(\S+)", rules))
    assert started == {"python", "ruff", "zizmor"}
    for name in started - {"python"}:
        program = Path(sys.executable).with_name(name)
        assert program.read_bytes()[:2] != b"#!"


def test_unknown_chapter_is_named(book: Book) -> None:
    status, output = book.make("chapter", "CH=delta")
    assert status != 0
    assert "There is no chapter 'delta'. There are: alpha beta" in output


def test_clean_leaves_the_sources(book: Book) -> None:
    status, output = book.make("clean")
    assert status == 0, output
    assert not (book.root / "_build").exists()
    assert (book.root / "chapters" / "alpha.md").exists()


# What GitHub does ------------------------------------------------------------


def test_publishing_waits_for_the_tests_of_the_same_commit() -> None:
    """Every job that may write waits for the job that pull requests run."""
    folder = ROOT / ".github" / "workflows"
    ci, publish = (
        yaml.safe_load((folder / f"{name}.yml").read_text())["jobs"]
        for name in ("ci", "publish")
    )
    assert publish["test"]["uses"] == ci["book"]["uses"]
    assert publish["test"]["with"] == {"cache": False}
    writing = [
        job
        for job in publish.values()
        if "write" in job.get("permissions", {}).values()
    ]
    assert len(writing) == 2
    for job in writing:
        assert "test" in job["needs"]
        assert "if" not in job
    run = yaml.safe_load((folder / "book.yml").read_text())["jobs"]["test"]
    commands = " ".join(step.get("run", "") for step in run["steps"])
    assert re.search(r"make lint .*make test", commands)
