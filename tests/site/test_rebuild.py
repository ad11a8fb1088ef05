"""What a rebuild shows and refuses is what a clean build would.

A book in which each page refers to the other is built by `make`. A process
that has imported Sphinx once then applies one edit after another, each to the
book as it was built, and builds it again.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import zlib
from types import SimpleNamespace
from typing import Any, cast

import cuts
import nbformat
import pytest
import repository
from fontTools.ttLib import TTFont
from test_pipeline import CELL, HEAD, Book, write_book

ALPHA = """\
See {ref}`sec-beta`, {eq}`eq-beta`, {prf:ref}`thm-beta`, {ref}`ex-beta`,
{numref}`fig-beta`, {ref}`ch-beta`, {term}`degree` and {cite:t}`knuth`. There
are {glue:text}`beta.md::count:d`.

:::{explorable} lora-shapes
:::
"""
BETA = """\
The first sentence.

(sec-beta)=
## A section

$$ x = y $$ (eq-beta)

:::{prf:theorem} Of beta
:label: thm-beta
It holds.
:::

:::{exercise} Of numbers
:label: ex-beta
Count.
:::

```{figure} ../assets/figures/drawn.svg
---
name: fig-beta
alt: A picture
---
A caption.
```

```{code-cell} ipython3
from myst_nb import glue
glue("count", 41, display=False)
```
"""
WORDS = """\
# Words

:::{glossary}
degree
  : A number.
:::

```{bibliography}
```
"""
DRAWN = "assets/figures/drawn.svg"
PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">
<circle cx="3" cy="3" r="2"/>
</svg>
"""
BIB = """\
@book{knuth,
  author = {Knuth, Donald}, title = {A Title}, year = 1984, publisher = {P}
}
"""
TOC = """\
format: jb-book
root: index
chapters:
  - file: chapters/alpha
  - file: chapters/beta
  - file: chapters/words
"""
# What alpha refers to and is then called otherwise: file, old, new, and what
# the build says.
RENAMED = {
    "section": ("beta.md", "(sec-beta)", "(sec-new)", "sec-beta"),
    "equation": ("beta.md", "(eq-beta)", "(eq-new)", "eq-beta"),
    "theorem": ("beta.md", "label: thm-beta", "label: thm-new", "thm-beta"),
    "exercise": ("beta.md", "label: ex-beta", "label: ex-new", "ex-beta"),
    "figure": ("beta.md", "name: fig-beta", "name: fig-new", "fig-beta"),
    "term": ("words.md", "degree\n", "rank\n", "degree"),
    "source": ("references.bib", "{knuth,", "{donald,", '"knuth"'),
    "number": ("beta.md", 'glue("count"', 'glue("number"', "count"),
}
# What alpha quotes and is then written otherwise: file, old, new.
QUOTED = {
    "section": ("beta.md", "A section", "The section"),
    "page": ("beta.md", "# Chapter beta", "# Chapter omega"),
    "author": ("references.bib", "Knuth, Donald", "Turing, Alan"),
    "number": ("beta.md", "41", "42"),
}
DRIVER = """
import json, multiprocessing, os, sys
from pathlib import Path

sys.path.insert(0, "tools")
import environment

root = Path.cwd()
variables = environment.variables(root)
os.environ.clear()
os.environ.update(variables)
sys.path[:0] = [str(root / "tools" / "quick"), str(root / "extensions")]
import book, execute, importlib, yaml

config = yaml.safe_load(Path("_config.yml").read_text())["sphinx"]["config"]
for name in config["extensions"]:
    importlib.import_module(name)

SITE, BEFORE = root / "_build/next/html", root / "_build/html"


def build(edit):
    file, old, new, *older = edit
    folder = book.begin(root / "_build", book.stamp())
    log = root / "_build/runs.json"
    runs = log.read_bytes()
    path = Path(file)
    before, time = path.read_bytes(), path.stat().st_mtime_ns
    if old:
        assert before.decode().count(old) == 1, (file, old)
        path.write_text(before.decode().replace(old, new))
    else:
        path.unlink()
    if older:
        os.utime(path, (1, 1))
    execute.execute(root, execute.chapters(root), 2)
    said, error = book.attempt(root, "html", folder)
    log.write_bytes(runs)
    path.write_bytes(before)
    os.utime(path, ns=(time, time))
    pages = sorted(SITE.glob("chapters/*.html"))
    static = sorted((SITE / "_static").rglob("*.*"))
    return {
        "status": int(bool(said or error)),
        "said": f"{said}{error or ''}",
        "page": (SITE / "chapters/alpha.html").read_text(),
        "other": (SITE / "chapters/beta.html").read_text(),
        "drawn": (SITE / "_images/drawn.svg").read_text(),
        "notebook": (SITE.parent / "notebooks/alpha.ipynb").read_text(),
        "written": [
            page.stem for page in pages if page.stat().st_mtime_ns
            != (BEFORE / page.relative_to(SITE)).stat().st_mtime_ns
        ],
        "static": [str(path.relative_to(SITE)) for path in static],
    }


edits = json.loads(sys.argv[1])
# Each build in a fork of its own: a second one in the same process would
# find what the first has left in jupyter-book's configuration.
with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
    found = pool.map(build, edits.values(), chunksize=1)
print("answers:" + json.dumps(dict(zip(edits, found))))
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Build the book."""
    book = write_book(tmp_path_factory.mktemp("linked") / "book")
    chapters = book.root / "chapters"
    for name, text in (("alpha", ALPHA), ("beta", BETA)):
        whole = HEAD.format(name=name) + text + "\n" + CELL.format(name=name)
        (chapters / f"{name}.md").write_text(whole)
    (chapters / "words.md").write_text(WORDS)
    (book.root / "references.bib").write_text(BIB)
    (book.root / "_toc.yml").write_text(TOC)
    (book.root / "assets" / "extra.txt").write_text("An asset.")
    (book.root / "assets" / "figures").mkdir(exist_ok=True)
    (book.root / DRAWN).write_text(PICTURE)
    status, output = book.make("site")
    assert status == 0, output
    shutil.copytree(book.root / "_build", first(book).root / "_build")
    return book


def first(book: Book) -> Book:
    """Return what was built first."""
    return Book(book.root.with_name("first"))


def where(file: str) -> str:
    return f"chapters/{file}" if file.endswith(".md") else file


@pytest.fixture(scope="module")
def answers(book: Book) -> dict[str, Any]:
    """Apply edits to the built book, and return what became of it."""
    edits = {
        **{f"renamed {x}": y[:3] for x, y in RENAMED.items()},
        **{f"quoted {x}": y for x, y in QUOTED.items()},
        "prose": ("beta.md", "first sentence", "second sentence"),
        "older": ("beta.md", "first sentence", "third sentence", True),
        "redrawn": (DRAWN, 'r="2"', 'r="1"', True),
        "asset": ("assets/extra.txt", "", ""),
        "script": ("assets/explorables/lora-shapes.js", "", ""),
    }
    placed = {
        name: (where(file), *edit) for name, (file, *edit) in edits.items()
    }
    status, output = book.run(sys.executable, "-c", DRIVER, json.dumps(placed))
    assert status == 0, output
    found: dict[str, Any] = json.loads(output.partition("answers:")[2])
    return found


def text_of(notebook: str) -> str:
    """Return the text of a notebook's cells."""
    cells = nbformat.reads(notebook, as_version=4).cells
    return "\n".join(cell.source for cell in cells)


@pytest.mark.parametrize("what", RENAMED)
def test_a_name_in_use_is_not_renamed(
    what: str, answers: dict[str, Any]
) -> None:
    """Alpha, which says the old name, is not edited."""
    answer = answers[f"renamed {what}"]
    assert answer["status"] == 1
    warnings = [x for x in answer["said"].splitlines() if "WARNING" in x]
    assert any(RENAMED[what][3] in each for each in warnings), warnings


@pytest.mark.parametrize("what", QUOTED)
def test_what_a_page_quotes_is_kept_up(
    what: str, answers: dict[str, Any]
) -> None:
    answer = answers[f"quoted {what}"]
    assert answer["status"] == 0, answer["said"]
    _, old, new = (x.strip("# ").split(",")[0] for x in QUOTED[what])
    for shown in (answer["page"], text_of(answer["notebook"])):
        assert new in shown
        assert f"{old} " not in shown


def test_prose_is_of_no_concern_to_other_pages(
    answers: dict[str, Any],
) -> None:
    assert answers["prose"]["status"] == 0, answers["prose"]["said"]
    # Alpha quotes a computed number, which is what it was.
    assert answers["prose"]["written"] == ["beta"]


def test_what_is_older_than_the_site_is_shown_all_the_same(
    answers: dict[str, Any],
) -> None:
    """A file from a backup, say, that was put here with its time."""
    assert "first sentence" in answers["redrawn"]["other"]
    assert "third sentence" in answers["older"]["other"]
    assert answers["older"]["written"] == ["beta"]
    assert 'r="2"' in answers["older"]["drawn"]
    assert 'r="1"' in answers["redrawn"]["drawn"]


def test_an_asset_that_is_gone_leaves_the_site(
    answers: dict[str, Any],
) -> None:
    assert answers["asset"]["status"] == 0, answers["asset"]["said"]
    assert "_static/extra.txt" in answers["prose"]["static"]
    assert "_static/extra.txt" not in answers["asset"]["static"]
    # And nothing else.
    gone = set(answers["prose"]["static"]) - set(answers["asset"]["static"])
    assert gone == {"_static/extra.txt"}


def test_a_page_keeps_its_scripts(answers: dict[str, Any]) -> None:
    assert answers["script"]["status"] == 1
    assert re.search(
        r"chapters/alpha.*: WARNING: loads _static/explorables/lora-shapes.js,"
        " which is not there",
        answers["script"]["said"],
    )


# Two builds of one book -----------------------------------------------------


def contents(book: Book) -> dict[str, bytes]:
    """Return every file of the site and of the notebooks."""
    made = book.root / "_build"
    return {
        path.relative_to(made).as_posix(): path.read_bytes()
        for folder in ("html", "notebooks")
        for path in sorted((made / folder).rglob("*"))
        if path.is_file()
    }


def different(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Return what only one has, or has otherwise."""
    return [x for x in one | other if one.get(x) != other.get(x)]


def test_two_clean_builds_are_equal(book: Book) -> None:
    """Also to one that had nothing to do, and to one after an edit."""
    assert book.make("clean")[0] == 0
    assert book.make("site")[0] == 0
    second = contents(book)
    assert len(second) > 100
    assert different(contents(first(book)), second) == []
    status, output = book.make("site")
    assert status == 0
    # It went on from the last one, and did not begin anew.
    assert "damaged" not in output
    assert different(second, contents(book)) == []
    book.edit("chapters/beta.md", "first sentence", "second sentence")
    assert book.make("site")[0] == 0
    edited = contents(book)
    assert "html/chapters/beta.html" in different(second, edited)
    book.edit("chapters/beta.md", "second sentence", "first sentence")
    assert book.make("site")[0] == 0
    assert different(second, contents(book)) == []


def test_every_style_and_script_says_its_version(book: Book) -> None:
    """Else a browser that has been here before keeps the old one."""
    static = first(book).root / "_build" / "html" / "_static"
    for page in (static.parent / "chapters").glob("*.html"):
        text = page.read_text(encoding="utf8")
        found = re.findall(r'"[^"]*_static/([^"?]+\.(?:css|js))([^"]*)"', text)
        assert len(found) > 10
        for name, version in found:
            checksum = zlib.crc32((static / name).read_bytes())
            assert version == f"?v={checksum:08x}", name


def test_every_icon_of_a_style_is_in_a_font(book: Book) -> None:
    """Whether the style names its code or has the character itself."""
    static = first(book).root / "_build" / "html" / "_static"
    css = "".join(
        path.read_text(encoding="utf8") for path in static.rglob("*.css")
    )
    fonts = [
        set(TTFont(path).getBestCmap())
        for path in static.rglob("webfonts/*.woff2")
    ]
    icons = {ord(x) for x in cuts.shown_by(css) if "\ue000" <= x <= "\uf8ff"}
    # The bell of an admonition stands in the theme as the character itself.
    assert 0xF0F3 in icons
    assert icons <= set().union(*fonts)
    # And little else: whole, they have more than two thousand.
    assert sum(map(len, fonts)) < 400


def test_a_wrong_repository_gets_one_sentence(book: Book) -> None:
    status, output = book.make("site", GITHUB_REPOSITORY="book")
    assert status != 0
    assert (
        "GITHUB_REPOSITORY is 'book', but has to be like owner/name."
        in output.splitlines()
    )
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("configured", "variable", "expected"),
    [
        ("", "", ""),
        ("", "you/book.x_y-z", "you/book.x_y-z"),
        ("me/book", "you/book", "me/book"),
        ("me/book", "wrong", "me/book"),
        ("", "https://github.com/you/book", "GITHUB_REPOSITORY is"),
        ("", "you/", "GITHUB_REPOSITORY is"),
        ("/book", "you/book", "launch_repository is"),
    ],
)
def test_repository_is_a_name(
    configured: str,
    variable: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GITHUB_REPOSITORY", variable)
    config: Any = SimpleNamespace(launch_repository=configured)
    if expected.endswith(" is"):
        with pytest.raises(SystemExit, match=expected):
            repository.find_repository(cast(Any, None), config)
    else:
        repository.find_repository(cast(Any, None), config)
        assert config.launch_repository == expected
