"""The chapters' sources keep to the template of CONTRIBUTING.md.

Each check takes a chapter's text and returns what is wrong with it. A sample
chapter that passes them all is then broken in one place at a time, to see
that every check bites.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import form
import pytest
from myst import (
    CHAPTERS,
    PAGES,
    ROOT,
    Block,
    Chapter,
    asserts,
    chapter,
    figure_of,
    reported,
)

SETUP = """\
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from lorabook import data, linalg, measure, plot
from lorabook.factors import LowRankLinear
from lorabook.layers import LoRALinear
from lorabook.notebook import report, show, show_source
from lorabook.seeding import seed_all

plot.use_style()
seed_all(0)
"""
# Of a chapter with an answer card; without one, it still has the older shape.
SETUP_WITH_TABLES = SETUP.replace("show_source\n", "show_source, table\n")
CLOSING = [
    "Build it",
    "Benchmark it",
    "When it fails",
    "Summary",
    "Exercises",
    "Further reading",
]
JUPYTEXT = {"text_representation": {"extension": ".md", "format_name": "myst"}}
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CLAIMS = ("prf:theorem", "prf:lemma", "prf:corollary", "prf:proposition")
# What a label starts with says what it labels.
KINDS = {
    "prf:theorem": "thm",
    "prf:lemma": "lem",
    "prf:corollary": "cor",
    "prf:proposition": "prop",
    "prf:definition": "def",
    "prf:algorithm": "alg",
    "exercise": "ex",
    "solution-start": "sol",
    "math": "eq",
    "figure": "fig",
    "table": "tbl",
    "list-table": "tbl",
}
BANNED = (
    r"TODO|FIXME|XXX|(?i:\blorem\b|placeholder|\bdelve\b|\bcrucial|obviously"
    r"|important to note|worth noting|needless to say|easy to see that)"
)


# The checks -----------------------------------------------------------------


def front_matter(c: Chapter) -> list[str]:
    found = []
    if c.head.get("jupytext") != JUPYTEXT:
        found.append(f"jupytext: should be {JUPYTEXT}")
    if c.head.get("kernelspec") != KERNEL:
        found.append(f"kernelspec: should be {KERNEL}")
    meta = c.head.get("myst", {}).get("html_meta", {})
    text = str(meta.get("description", ""))
    if not 50 <= len(text) <= 160:
        found.append(f"description: {len(text)} characters, not 50 to 160")
    if re.search(r"[$\\`{]", text):
        found.append("description: no formulas or markup")
    return found


def beginning(c: Chapter) -> list[str]:
    """The label, the title, "Before you start", the setup cell, a section."""
    found = []
    labels = re.findall(r"^\(ch-.*\)=$", c.rest, re.M)
    if len(labels) != 1:
        found.append(f"{len(labels)} labels (ch-slug)=, not one")
    titles = [line for line, level, _ in c.headings if level == 1]
    if len(titles) != 1:
        return [*found, f"{len(titles)} titles, not one"]
    if not re.match(r"\s*\(ch-.*\)=\n# ", c.rest):
        found.append("does not begin with (ch-slug)= and the title")
    if c.lab:
        return found
    start = c.top[0] if c.top else Block("", "", 0)
    if c.card:
        if start is not c.card:
            found.append("the title is not followed by the answer card")
        found += [text for _, text in form.missing(form.Chapter(c.text))]
    elif (start.name, start.title) != ("admonition", "Before you start"):
        found.append('the title is not followed by "Before you start"')
    else:
        for promise in ("You will be able to", "You need", "It runs in"):
            if f"**{promise}**" not in start.body:
                found.append(f'"Before you start" lacks **{promise}**')
    setup = c.top[1] if len(c.top) > 1 else Block("", "", 0)
    right = SETUP_WITH_TABLES if c.card else SETUP
    if setup.name != "code-cell" or setup.body.strip() != right.strip():
        found.append("the first cell is not the setup cell")
    if "hide-input" not in setup.options.get("tags", ""):
        found.append("the setup cell is not tagged hide-input")
    if setup.line > c.section_end(titles[0]):
        found.append("the setup cell stands below the first section's heading")
    return found


def sections(c: Chapter) -> list[str]:
    titles = [text for _, level, text in c.headings if level == 2]
    found = []
    if c.lab:
        return found
    if c.card:
        classes = re.findall(r"^\{(\..*)\}\n## ", c.rest, re.M)
        named = " ".join(classes).split()
        return [
            f"no section is marked {kind}"
            for kind in (".build", ".benchmark", ".fails")
            if kind not in named
        ]
    if titles[-len(CLOSING) :] != CLOSING:
        found.append(f"does not close with {CLOSING}, but with {titles[-6:]}")
    questions = [x for x in titles if x not in CLOSING]
    if not questions:
        found.append("asks no question")
    return found + [f"no question: {x}" for x in questions if x[-1] != "?"]


def headings(c: Chapter) -> list[str]:
    return [
        f"line {line}: a formula, code or a role in a heading"
        for line, _, text in c.headings
        if re.search(r"[$`{\\]", text)
    ]


def exercises(c: Chapter) -> list[str]:
    found = []
    begins = [line for line, _, text in c.headings if text == "Exercises"]
    posed = c.named("exercise")
    if len(posed) < 4 and not c.lab:
        found.append(f"{len(posed)} exercises, fewer than 4")
    solutions = c.named("solution-start", "solution")
    ends = c.named("solution-end")
    for i, exercise in enumerate(posed):
        name = exercise.options.get("label", f"line {exercise.line}")
        if not exercise.title:
            found.append(f"{name}: has no title")
        if not begins or exercise.line < begins[0]:
            found.append(f"{name}: stands outside of Exercises")
        if c.card and not any(
            x.name == "dropdown" and x.title == "Hint"
            for x in exercise.children
        ):
            found.append(f"{name}: has no dropdown with a hint")
        later = (
            posed[i + 1].line
            if i + 1 < len(posed)
            else c.section_end(exercise.line)
        )
        mine = [x for x in solutions if exercise.line < x.line < later]
        if [x.title for x in mine] != [name]:
            found.append(f"{name}: is not followed by its solution")
            continue
        if "dropdown" not in mine[0].options.get("class", ""):
            found.append(f"{name}: the solution is not a dropdown")
        stop = [x.line for x in ends if mine[0].line < x.line < later]
        if mine[0].name != "solution-start" or len(stop) != 1:
            found.append(f"{name}: needs a solution-start and a solution-end")
        elif not any(mine[0].line < x.line < stop[0] for x in c.cells):
            found.append(f"{name}: the solution has no code cell")
    return found


def labels(c: Chapter) -> list[str]:
    # What moved to a lab has kept its labels, so that links still lead there.
    slug = "[a-z-]+?" if c.lab else c.slug.replace("_", "-")
    found, seen = [], []

    def look(line: int, label: str, *kinds: str) -> None:
        seen.append(label)
        whole = "|".join(rf"{kind}-{slug}-[a-z0-9-]+" for kind in kinds)
        if not re.fullmatch(whole, label):
            names = " or ".join(f"{kind}-{slug}-..." for kind in kinds)
            found.append(f"line {line}: label {label}, not {names}")

    for i, line in enumerate(c.rest.split("\n")):
        if target := re.fullmatch(r"\((.*)\)=", line.strip()):
            if target[1] == f"ch-{c.slug}":
                seen.append(target[1])
            else:
                look(c.first + i, target[1], "sec", "tbl")
    for i, line in enumerate(c.lines, 1):
        if equation := re.search(r"\$\$\s*\(([^)]+)\)\s*$", line):
            look(i, equation[1], "eq")
    for block in c.blocks:
        kind = KINDS.get(block.name)
        label = block.options.get("label", block.options.get("name"))
        if kind and label:
            look(block.line, label, kind)
        elif block.name in (*CLAIMS, "prf:definition", "exercise"):
            found.append(f"line {block.line}: {block.name} without a label")
        if figure_of(block):
            look(block.line, figure_of(block).get("name", ""), "fig")
    twice = sorted({x for x in seen if seen.count(x) > 1})
    return found + [f"label {label} is given twice" for label in twice]


def cell_sizes(c: Chapter) -> list[str]:
    """Blank lines do not count."""
    sizes = {
        x.line: sum(bool(line.strip()) for line in x.body.split("\n"))
        for x in c.cells[1:]
    }
    found = [
        f"line {line}: a cell of {size} lines, more than 25"
        for line, size in sizes.items()
        if size > 25
    ]
    middle = statistics.median(sizes.values()) if sizes else 0
    if middle > 8 and not c.lab:
        found.append(f"the median cell has {middle:g} lines, more than 8")
    return found


def line_lengths(c: Chapter) -> list[str]:
    """Headings, titles, rows of tables and addresses cannot be broken."""
    return [
        f"line {i}: {len(line)} characters, more than 79"
        for i, line in enumerate(c.lines, 1)
        if len(line) > 79
        and i >= c.first
        and not re.match(r"\s*(#+ |\||[`:~]{3,}\{)|.*https?://", line)
    ]


def figures(c: Chapter) -> list[str]:
    found = []
    draws = re.compile(r"\bplt\.(subplots?|figure|plot|imshow|hist)\w*\(")
    for cell in c.cells[1:]:
        figure = figure_of(cell)
        if not figure:
            hidden = "remove-output" in cell.options.get("tags", "")
            if draws.search(cell.body) and not hidden:
                found.append(f"line {cell.line}: a figure without a caption")
            continue
        image = cell.options["mystnb"].get("image", {})
        caption = " ".join(figure.get("caption", "").split())
        alt = " ".join(image.get("alt", "").split())
        if len(caption) < 20:
            found.append(f"line {cell.line}: a caption needs 20 characters")
        if len(alt) < 30 or alt == caption:
            found.append(f"line {cell.line}: needs an alt text of its own")
        if image.get("classes") != "dark-light":
            found.append(f"line {cell.line}: classes: dark-light is missing")
    return found


def evidence(c: Chapter) -> list[str]:
    asserting = sum(map(asserts, c.cells))
    glued = set(re.findall(r"\{(?:glue:text|n)\}`([^`:]+)", c.text))
    found = []
    if asserting < 5:
        found.append(f"{asserting} cells assert something, fewer than 5")
    if len(glued) < 3:
        found.append(f"{len(glued)} numbers are glued, fewer than 3")
    return found


def glue_keys(c: Chapter) -> list[str]:
    prefix = c.slug.replace("-", "_") + "_"
    known = {name for cell in c.cells for name in reported(cell)}
    found = [
        f"report({name}=...): the name should begin with {prefix}"
        for name in sorted(known)
        if not name.startswith(prefix) and not (c.card or c.lab)
    ]
    role = r"\{(?:glue(?::\w+)?|n)\}`(?![^`]*::)([^`]+?)(?::[^`:]*)?`"
    used = re.findall(role, c.text)
    used += [x.title for x in c.blocks if x.name.startswith("glue")]
    return found + [
        f"glue {key}: no cell of this chapter reports it"
        for key in sorted(set(used))
        if not any(re.fullmatch(pattern, key) for pattern in known)
    ]


def typed_numbers(c: Chapter) -> list[str]:
    """Decimals and percentages come from a run, or from a cited work.

    What the author chose, as the share in "terms that hold $99\\,\\%$", is
    part of a formula, or of an exercise's question.
    """
    number = r"\d+\.\d+|\d+e[+-]?\d+\b|\d+\s*(?:%|per\s?cent\b)"
    return [
        f"typed number {hit[0]!r} in: {' '.join(sentence.split())}"
        for sentence in re.split(r"(?<=[.!?:])\s+|\n\s*\n", c.prose())
        if "CITED" not in sentence
        for hit in re.finditer(number, sentence)
    ]


def citations(c: Chapter) -> list[str]:
    known = re.findall(
        r"^@\w+\{([^,\s]+)", (ROOT / "references.bib").read_text("utf8"), re.M
    )
    used = re.findall(r"\{cite[\w:]*\}`([^`]+)`", c.text)
    return [
        f"cites {key}, which is not in references.bib"
        for keys in used
        for key in map(str.strip, keys.split(","))
        if key not in known
    ]


def claims(c: Chapter) -> list[str]:
    """A claim is proved or cited, and a cell of its section asserts it."""
    found = []
    stated = c.named(*CLAIMS)
    for claim in stated:
        name = claim.options.get("label", f"line {claim.line}")
        end = c.section_end(claim.line)
        nearer = [x.line for x in stated if claim.line < x.line < end]
        proofs = [
            x
            for x in c.named("prf:proof")
            if claim.line < x.line < min([end, *nearer])
        ]
        until = min([end, *nearer]) - 1
        cited = "{cite" in "\n".join(c.lines[claim.line - 1 : until])
        if not proofs and not cited:
            found.append(f"{name}: neither proved nor cited")
        if not any(claim.line < x.line < end and asserts(x) for x in c.cells):
            found.append(f"{name}: no cell of its section asserts it")
    return found


def fences(c: Chapter) -> list[str]:
    found = [f"line {line}: is never closed" for line in c.unclosed]
    found += [
        f"line {x.line}: a cell that runs into the next block"
        for x in c.cells
        if re.search(r"^\s*[`:~]{3,}\s*\{", x.body, re.M)
    ]
    # A closing line without a block to close opens one, of literal text.
    found += [
        f"line {x.line}: a block without a name"
        for x in c.blocks
        if not x.name and c.lines[x.line - 1].strip()[0] == ":"
    ]
    if c.rest.count("$$") % 2:
        found.append("a $$ is never closed")
    return found


def wording(c: Chapter) -> list[str]:
    return [
        f"line {i}: {hit[0]!r}"
        for i, line in enumerate(c.lines, 1)
        for hit in re.finditer(BANNED, line)
    ]


def formulas(c: Chapter) -> list[str]:
    return [
        rf"line {i}: \left\lVert renders badly: \norm{{...}}"
        for i, line in enumerate(c.lines, 1)
        if re.search(r"\\left\s*\\[lr]?[vV]ert", line)
    ]


Check = Callable[[Chapter], list[str]]
EVERYWHERE: list[Check] = [fences, wording, formulas, citations]
CHECKS: list[Check] = [
    *EVERYWHERE,
    front_matter,
    beginning,
    sections,
    headings,
    exercises,
    labels,
    cell_sizes,
    line_lengths,
    figures,
    evidence,
    glue_keys,
    typed_numbers,
    claims,
]


def name(value: Any) -> str | None:
    return getattr(value, "__name__", None)


def listing(found: list[str]) -> str:
    return "\n".join(["", *found])


# The book -------------------------------------------------------------------


def test_reading_order_names_pages_that_exist() -> None:
    assert [str(page) for page in PAGES if not page.exists()] == []
    assert CHAPTERS


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_chapter(page: Path, check: Check) -> None:
    found = check(chapter(page))
    assert not found, listing(found)


@pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.stem)
def test_label_is_the_file_name(page: Path) -> None:
    # Files are snake_case, labels and addresses have hyphens.
    assert chapter(page).slug == page.stem.replace("_", "-")


@pytest.mark.parametrize("check", EVERYWHERE, ids=name)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.exists() and page not in CHAPTERS],
    ids=lambda page: page.stem,
)
def test_other_page(page: Path, check: Check) -> None:
    found = check(chapter(page))
    assert not found, listing(found)


def repeated(texts: dict[str, str]) -> list[str]:
    seen: dict[str, str] = {}
    found = []
    for page, text in texts.items():
        meta = Chapter(text).head.get("myst", {}).get("html_meta", {})
        description = meta.get("description", "")
        if description in seen:
            found.append(f"{page} is described as {seen[description]} is")
        seen[description] = page
    return found


def test_descriptions_are_unique() -> None:
    assert repeated({x.stem: x.read_text("utf8") for x in CHAPTERS}) == []
    assert repeated({"one": SAMPLE, "two": SAMPLE + " "}) != []


def test_contributing_shows_the_setup_cell() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf8")
    assert SETUP_WITH_TABLES in text


# A sample, and what breaks it -----------------------------------------------

SAMPLE = (
    """\
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
    description: "A chapter that keeps all rules of the template, and no more."
---

(ch-two-words)=
# A sample

:::{admonition} Before you start
**You will be able to** break it.
**You need** nothing. **It runs in** no time.
:::

```{code-cell} ipython3
:tags: [hide-input]
"""
    + SETUP
    + """\
```

## What holds?

It costs $0.5$ and `0.5`. In 2021 it cost 7.5 {cite:p}`hu2021lora`. There were
{glue:text}`two_words_one` of them, or {glue:text}`two_words_two:.2%`, or
{glue:text}`two_words_sum_3:.0f`.

:::{prf:theorem} A claim
:label: thm-two-words-claim

$$
\\norm{x} = 1
$$ (eq-two-words-norm)
:::

::::{prf:proof}
By {eq}`eq-two-words-norm`.
:::{note}
A remark.
:::
::::

```{code-cell} ipython3
x = 1
assert x == 1
report(two_words_one=x, two_words_two=0.25)
report(**{f"two_words_sum_{n}": n for n in (3, 4)})
```

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-two-words-line
    caption: "The finding, as one sentence."
  image:
    alt: "A line that rises from the lower left to the upper right."
    classes: dark-light
tags: [hide-input]
---
fig, ax = plt.subplots()
ax.plot([0, 1]);
```

## Build it

## Benchmark it

## When it fails

## Summary

## Exercises

"""
    + "".join(
        f"""\
```{{exercise}} Number {word}
:label: ex-two-words-{word}
Do it.
```

````{{solution-start}} ex-two-words-{word}
:label: sol-two-words-{word}
:class: dropdown
````

```{{code-cell}} ipython3
torch.testing.assert_close(x, 1)
```

````{{solution-end}}
````

"""
        for word in ("one", "two", "three", "four")
    )
    + """\
## Further reading

[A page](https://example.org/1.5).
"""
)
LONG = "y = 2\n" * 25
BROKEN: list[tuple[Check, str, str]] = [
    (front_matter, "format_name: myst", "format_name: md"),
    (front_matter, "name: python3", "name: python"),
    (front_matter, "A chapter that keeps", "x" * 160),
    (front_matter, " that keeps all rules of the template, and", ""),
    (front_matter, "A chapter that", "A $chapter$ that"),
    (beginning, "(ch-two-words)=", ""),
    (beginning, "# A sample", "# A sample\n\n# Another"),
    (beginning, "Before you start", "Before we start"),
    (beginning, "**You need** nothing.", ""),
    (beginning, "seed_all(0)", "seed_all(1)"),
    (beginning, ":tags: [hide-input]\nimport", "import"),
    (
        beginning,
        "```{code-cell} ipython3\n:tags",
        "## Why?\n\n```{code-cell}\n:tags",
    ),
    (sections, "## Benchmark it\n", ""),
    (sections, "## Summary", "## When it works"),
    (
        sections,
        "## Build it\n\n## Benchmark it",
        "## Benchmark it\n\n## Build it",
    ),
    (sections, "What holds?", "What holds"),
    (sections, "## What holds?", ""),
    (headings, "What holds?", "What does $x$ hold?"),
    (headings, "What holds?", "What does `x` hold?"),
    (exercises, "```{exercise} Number two", "```{note} Number two"),
    (exercises, "{exercise} Number two", "{exercise}"),
    (exercises, "## Exercises", "## Tasks"),
    (
        exercises,
        "{solution-start} ex-two-words-two",
        "{solution-start} ex-two",
    ),
    (exercises, "sol-two-words-two\n:class: dropdown", "sol-two-words-two"),
    (
        exercises,
        "assert_close(x, 1)\n```\n\n````{solution-end}\n````\n\n## Fur",
        "assert_close(x, 1)\n```\n\n## Fur",
    ),
    (
        exercises,
        ":label: sol-two-words-two\n:class: dropdown\n````\n\n```{code-cell}",
        ":label: sol-two-words-two\n:class: dropdown\n````\n\n```{code-block}",
    ),
    (labels, "thm-two-words-claim", "thm-claim"),
    (labels, "thm-two-words-claim", "lem-two-words-claim"),
    (labels, ":label: thm-two-words-claim\n", ""),
    (labels, "$$ (eq-two-words-norm)", "$$ (eq-norm)"),
    (labels, "name: fig-two-words-line", "name: two-words-line"),
    (labels, "## What holds?", "(what)=\n## What holds?"),
    (labels, "sol-two-words-two", "ex-two-words-two"),
    (labels, "sol-two-words-two", "sol-two-words-one"),
    (cell_sizes, "x = 1\n", LONG),
    (
        cell_sizes,
        "assert_close(x, 1)\n",
        "assert_close(x, 1)\n" + "y = 2\n" * 8,
    ),
    (line_lengths, "It costs", "It costs" + " much" * 9),
    (figures, "The finding, as one sentence.", "A line."),
    (figures, "A line that rises from the lower left to the upper", "Up"),
    (figures, "    classes: dark-light\n", ""),
    (figures, "x = 1\n", "x = 1\nplt.figure()\n"),
    (evidence, "assert x == 1", "assert True"),
    (evidence, "{glue:text}`two_words_two:.2%`", "many"),
    (glue_keys, "report(two_words_one=x", "report(one=x"),
    (glue_keys, "`two_words_one`", "`two_words_other`"),
    (glue_keys, "`two_words_sum_3:.0f`", "`two_words_3:.0f`"),
    (typed_numbers, "It costs", "It costs 0.5"),
    (typed_numbers, "It costs", "It costs 50 %"),
    (typed_numbers, "It costs", "It costs 50 per cent"),
    (typed_numbers, "It costs", "It costs 1e-6"),
    (typed_numbers, " {cite:p}`hu2021lora`", ""),
    (typed_numbers, "By {eq}`eq-two-words-norm`", "By 0.5"),
    (typed_numbers, "The finding, as one", "The finding, 0.5, as one"),
    (citations, "hu2021lora", "hu2021lora,nobody1900"),
    (claims, "{prf:proof}", "{note}"),
    (claims, "assert x == 1", "x == 1"),
    (
        claims,
        "```{code-cell} ipython3\nx = 1",
        "## Why?\n\n```{code-cell}\nx = 1",
    ),
    (fences, ":::{prf:theorem}", "::::{prf:theorem}"),
    (fences, "::::{prf:proof}", ":::{prf:proof}"),
    (fences, "= 1\n$$ (eq-two-words-norm)\n:::\n", "= 1\n:::\n\n$$\n"),
    (
        fences,
        "torch.testing.assert_close(x, 1)\n```\n\n````{solution-end}",
        "````{solution-end}",
    ),
    (wording, "It costs", "TODO: it costs"),
    (wording, "It costs", "It is important to note that it costs"),
    (formulas, "\\norm{x}", "\\left\\lVert x \\right\\rVert"),
]


QUIZ = """:::{quiz} Which?
- This.

  Yes.
- That.

  No.
:::

"""
CARDED = SAMPLE
for old, new in (
    ("Before you start\n", "What holds, then?\n:class: answer\n\n"),
    ("**You will be able to** break it.\n", "- One.\n- Two.\n- Three.\n\n"),
    ("**You need** nothing. **It runs in** no time.", "**You need** nothing."),
    (SETUP, SETUP_WITH_TABLES),
    ("## What", "{.theory .build .benchmark .fails}\n## What"),
    ("## Build it\n", f"## Can you now …?\n\n{QUIZ * 3}"),
    ("## Benchmark it\n\n## When it fails\n\n", ""),
    ("## Summary", "## What is still open?"),
    ("{glue:text}`two_words_one`", "{n}`one`, {n}`../rank::two:.1f`"),
    ("two_words_one=x", "one=x"),
    ("Do it.\n", "Do it.\n\n:::{dropdown} Hint\nTry.\n:::\n"),
):
    assert old in CARDED
    CARDED = CARDED.replace(old, new)
BROKEN_CARDED: list[tuple[Check, str, str]] = [
    (beginning, "seed_all(0)", "seed_all(1)"),
    (beginning, "- Two.\n", ""),
    (beginning, "{.theory .build", "{.build"),
    (beginning, "## What is still open?", "## Summary"),
    (beginning, "## What is still", "## Why?\n\n## What is still"),
    (
        beginning,
        "\n:::{admonition}",
        "\nFirst.\n\n:::{note}\n:::\n:::{admonition}",
    ),
    (sections, ".benchmark ", ""),
    (exercises, "{dropdown} Hint", "{note} Hint"),
    (glue_keys, "{n}`one`", "{n}`other`"),
    (evidence, "{n}`one`, {n}`../rank::two:.1f`", "many"),
]


LAB = SAMPLE[: SAMPLE.index(":::{admonition}")].replace("# A", "# Lab: a")
LAB += SAMPLE[SAMPLE.index("## What") : SAMPLE.index("## Build it")]
LAB = LAB.replace("two_words_one", "one")


@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_a_lab_has_no_shape(check: Check) -> None:
    if check is not evidence:
        assert check(Chapter(LAB)) == []


@pytest.mark.parametrize("check", CHECKS, ids=name)
@pytest.mark.parametrize("sample", [SAMPLE, CARDED], ids=["older", "carded"])
def test_sample_passes(sample: str, check: Check) -> None:
    assert check(Chapter(sample)) == []


@pytest.mark.parametrize(("check", "old", "new"), BROKEN_CARDED, ids=name)
def test_check_bites_with_a_card(check: Check, old: str, new: str) -> None:
    assert old in CARDED
    assert check(Chapter(CARDED.replace(old, new, 1))) != []


@pytest.mark.parametrize(("check", "old", "new"), BROKEN, ids=name)
def test_check_bites(check: Check, old: str, new: str) -> None:
    assert old in SAMPLE
    assert check(Chapter(SAMPLE.replace(old, new))) != []


def test_every_check_is_seen_to_bite() -> None:
    assert {check for check, _, _ in BROKEN} == set(CHECKS)
