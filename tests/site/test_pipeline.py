"""From text to site: what is executed, what is rebuilt, what stops the build.

A book of two tiny chapters is built once, by the Makefile's own rules, with
this book's configuration and extensions. Every test starts from that built
book. Each chapter writes its name to a file whenever a kernel runs it, so
that executions are counted and not read from messages.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_site import Site, launch_buttons, links, sitemap

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

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
with Path("../runs.log").open("a") as log:
    log.write("{name}\\n")
print("value", lorabook.VALUE)
```
"""
CHAPTER = HEAD + "The first sentence, with $\\rank W$.\n\n" + CELL
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

    def run(self, *command: str, **environment: str) -> tuple[int, str]:
        """Run a command in the book; return its status and its output."""
        without = {"GITHUB_REPOSITORY", "MAKEFLAGS", "MAKELEVEL"}
        inherited = {x: y for x, y in os.environ.items() if x not in without}
        done = subprocess.run(
            command,
            cwd=self.root,
            env={
                **inherited,
                # The book's own package, and not the installed one.
                "PYTHONPATH": str(self.root),
                "PYTHONDONTWRITEBYTECODE": "1",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf8",
            timeout=300,
        )
        return done.returncode, done.stdout

    def make(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run make, in the environment that runs the tests."""
        return self.run(
            "make",
            "--no-print-directory",
            "--old-file=.venv/.installed",
            f"BIN={BIN}",
            f"PYTHON={sys.executable}",
            "JOBS=2",
            *arguments,
            **environment,
        )

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

    def chapter(self, name: str, cell: str) -> None:
        """Write a chapter with one cell of its own."""
        fenced = f"```{{code-cell}} ipython3\n{cell}\n```\n"
        path = self.root / "chapters" / f"{name}.md"
        path.write_text(HEAD.format(name=name) + fenced, encoding="utf8")


def write_book(root: Path) -> Book:
    """Write the tiny book."""
    root.mkdir()
    for name in ("_config.yml", "Makefile", "references.bib"):
        shutil.copy(ROOT / name, root)
    shutil.copy(ROOT / "requirements.txt", root)
    no_caches = shutil.ignore_patterns("__pycache__", "data", "checkpoints")
    for name in ("extensions", "tools", "assets", "lorabook"):
        shutil.copytree(ROOT / name, root / name, ignore=no_caches)
    # Without PyTorch, kernels start quickly.
    (root / "lorabook" / "__init__.py").write_text("VALUE = 1\n")
    (root / "_toc.yml").write_text(TOC)
    (root / "index.md").write_text("# A tiny book\n\nOf two chapters.\n")
    (root / "chapters").mkdir()
    for name in ("alpha", "beta"):
        file = root / "chapters" / f"{name}.md"
        text = CHAPTER.replace("{name}", name).replace("{{", "{")
        file.write_text(text.replace("}}", "}"))
    return Book(root)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Build the tiny book once."""
    root = tmp_path_factory.mktemp("tiny") / "book"
    book = write_book(root)
    status, output = book.make("site")
    assert status == 0, output
    shutil.copytree(root, root.with_name("as-built"))
    return book


@pytest.fixture
def book(built: Book) -> Iterator[Book]:
    """Return the built book, as it was; the place matters to Sphinx."""
    shutil.rmtree(built.root)
    shutil.copytree(built.root.with_name("as-built"), built.root)
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
import os, time
from pathlib import Path
Path("../{}.here").touch()
end = time.monotonic() + float(os.environ["WAIT"])
while not Path("../{}.here").exists():
    assert time.monotonic() < end, "nobody came"
    time.sleep(0.05)"""
    book.chapter("alpha", meet.format("alpha", "beta"))
    book.chapter("beta", meet.format("beta", "alpha"))
    status, output = book.execute("--jobs", "2", WAIT="60")
    assert status == 0, output
    for file in book.root.glob("*.here"):
        file.unlink()
    status, output = book.execute("--jobs", "1", "--force", WAIT="0.5")
    assert status == 1
    assert "nobody came" in output


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


def test_changed_cell_executes_its_chapter_alone(book: Book) -> None:
    before = book.times()
    book.edit("chapters/alpha.md", 'print("value"', 'print("new value"')
    status, output = book.make("site")
    assert status == 0, output
    assert "executed 1 of 2" in output
    assert book.runs() == {"alpha": 2, "beta": 1}
    assert "new value 1" in book.shows("alpha")
    assert written(before, book.times()) == ["alpha"]


AFFECTING = [
    "lorabook/__init__.py",
    "lorabook/linalg.py",
    "lorabook/new.py",
    "assets/data/corpus.txt",
    "assets/results/gpu.json",
    "assets/checkpoints/tiny.safetensors",
    "requirements.txt",
]
OTHER = [
    "assets/book.css",
    "assets/favicon.svg",
    "assets/explorables/core.js",
    "extensions/pages.py",
    "lorabook/__pycache__/linalg.cpython-311.pyc",
    "references.bib",
    "README.md",
]


DIGESTS = """
import sys
sys.path.insert(0, "tools")
from execute import ROOT, digest
print(digest(ROOT))
for name in sys.argv[1:]:
    path = ROOT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("\\n# changed\\n")
    print(digest(ROOT))
"""


@pytest.mark.parametrize(
    ("files", "affect"), [(AFFECTING, True), (OTHER, False)]
)
def test_inputs_of_a_result(
    files: list[str], affect: bool, book: Book
) -> None:
    """Change one file after another, and ask for the digest each time."""
    status, output = book.run(sys.executable, "-c", DIGESTS, *files)
    assert status == 0, output
    digests = output.split()
    assert len(digests) == 1 + len(files)
    assert len(set(digests)) == (len(digests) if affect else 1)


@pytest.mark.parametrize("file", ["lorabook/linalg.py", "assets/data/x.txt"])
def test_changed_input_executes_all(file: str, book: Book) -> None:
    path = book.root / file
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf8") as handle:
        handle.write("\n# changed\n")
    status, output = book.execute()
    assert status == 0, output
    assert book.runs() == {"alpha": 2, "beta": 2}
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
    version = re.compile(r"book\.css\?v=(\w+)")
    before = version.findall(book.shows("alpha"))
    with (book.root / "assets" / "book.css").open("a") as handle:
        handle.write("\n.changed { color: red }\n")
    status, output = book.make("site")
    assert status == 0, output
    assert book.runs() == {"alpha": 1, "beta": 1}
    copied = book.root / "_build" / "html" / "_static" / "book.css"
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


def test_hanging_cell_and_dead_kernel_are_named(book: Book) -> None:
    book.chapter("alpha", "import time\ntime.sleep(600)")
    book.chapter("beta", "import os\nos._exit(1)")
    status, output = book.run(
        sys.executable,
        "-c",
        "import sys; sys.path.insert(0, 'tools'); import execute;"
        "execute.CELL_SECONDS = 3; sys.exit(execute.main(['--jobs', '2']))",
    )
    assert status == 1, output
    assert re.search(r"alpha\.md failed in code cell 1 of 1", output)
    assert "time.sleep(600)" in output
    assert "no answer within 3 s" in output
    assert re.search(r"beta\.md failed in code cell 1 of 1", output)
    assert "the kernel died" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["delta"], "no chapter 'delta'; there are: alpha, beta"),
        (["--jobs", "0"], "--jobs needs 1 or more, got 0"),
        (["--jobs", "many"], "invalid int value: 'many'"),
    ],
)
def test_wrong_arguments_get_one_sentence(
    arguments: list[str], sentence: str, book: Book
) -> None:
    status, output = book.execute(*arguments)
    assert status == 2
    assert output.rstrip().endswith(sentence)
    assert "Traceback" not in output


def test_warning_fails_the_build_every_time(book: Book) -> None:
    book.edit("chapters/beta.md", "The first", "See {ref}`nowhere`. The first")
    for _ in range(2):
        status, output = book.make("site")
        assert status != 0
        assert "nowhere" in output
        assert "every warning above is an error" in output
    book.edit("chapters/beta.md", "See {ref}`nowhere`. ", "")
    status, output = book.make("site")
    assert status == 0, output


def test_wrong_formula_fails_the_build(book: Book) -> None:
    book.edit("chapters/beta.md", "$\\rank W$", "$\\rnak W$")
    status, output = book.make("site")
    assert status != 0
    assert "rnak" in output


# The Makefile's own sentences -----------------------------------------------

TARGETS = [
    "help",
    "book",
    "test",
    "serve",
    "lab",
    "notebooks",
    "chapter",
    "lint",
    "format",
    "linkcheck",
    "clean",
]


def script(path: Path, body: str) -> str:
    """Write a program that stands in for another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def clone(tmp_path: Path) -> Book:
    """Return the little of a fresh clone that `make` looks at first."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return Book(tmp_path)


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
        ("exit 0", "Could not install the packages. Is there a network"),
    ],
)
def test_failed_setup_says_what_to_do(
    python: str, sentence: str, clone: Book
) -> None:
    other = script(clone.root / "python", python)
    if python == "exit 0":  # an environment, but no network
        script(clone.root / ".venv" / "bin" / "python", "exit 0")
        script(clone.root / ".venv" / "bin" / "pip", "exit 1")
    status, output = clone.run("make", f"PYTHON={other}")
    assert status != 0
    assert sentence in output
    assert not (clone.root / ".venv" / ".installed").exists()


def test_unknown_chapter_is_named(book: Book) -> None:
    status, output = book.make("chapter", "CH=delta")
    assert status != 0
    assert "There is no chapter 'delta'. There are: alpha beta" in output


def test_clean_leaves_the_sources(book: Book) -> None:
    status, output = book.make("clean")
    assert status == 0, output
    assert not (book.root / "_build").exists()
    assert (book.root / "chapters" / "alpha.md").exists()
