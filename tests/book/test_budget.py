"""Every chapter with an answer card keeps to its budget; every rule bites."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

import budget  # noqa: E402
import form  # noqa: E402

FRONT = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""


def cell(code: str, tag: str = "") -> str:
    tags = f":tags: [{tag}]\n" if tag else ""
    return f"```{{code-cell}} ipython3\n{tags}{code}\n```\n\n"


GUESS = ":::{admonition} Guess first\n:class: tip\nHow many?\n:::\n\n"
QUIZ = ":::{quiz} Which?\n- This.\n\n  Yes.\n- That.\n\n  No.\n:::\n\n"
SECTION = (
    "{.theory}\n## Is it so?\n\nIt is {n}`one`, {n}`two`, "
    "{n}`three`, {n}`four`.\n\n"
    + cell("n = 1\nn")
    + cell("# One is one.\nassert n == 1", "check")
    + "**For LoRA.** It is so.\n\n"
)
DEEP = (
    "{.depth .theory}\n## Is there more?\n\nThere is.\n\n"
    + "word " * 3000
    + "\n\n"
    + cell("x = 1\n" * 20) * 20
)
SAMPLE = (
    f"{FRONT}\n(ch-one)=\n# One\n\n"
    ":::{admonition} What is it?\n:class: answer\n\n"
    "- One.\n- Two.\n- Three.\n\n**You need** nothing.\n:::\n\n"
    + cell("import torch", "hide-input")
    + SECTION
    + "{.theory}\n## May I guess?\n\nYou may.\n\n"
    + GUESS
    + cell("n = 2")
    + cell("print(n)")
    + cell("# Two is two.\nassert n == 2", "check")
    + "**For LoRA.** Guess.\n\n"
    + SECTION * 2
    + DEEP
    + f"## Can you now …?\n\n{QUIZ * 3}"
    + "## What is still open?\n\nMuch.\n\n## Exercises\n\n"
    + "word " * 3000
    + "\n\n## Further reading\n"
)


def found(text: str, limits: budget.Limits | None = None) -> list[str]:
    """Return what breaks the budget."""
    chapter = form.Chapter(text)
    return [x for _, x in budget.broken(chapter, limits or budget.Limits())]


def test_the_sample_keeps_to_its_budget() -> None:
    assert found(SAMPLE) == []


MANY = "".join(cell(f"n = {i}\nprint(n)") for i in range(2))
BROKEN = [
    ("It is {n}", "word " * 400 + "It is {n}", "words, more than 350"),
    ("You may.", "word " * 2000, "words, more than 1900"),
    (
        "**For LoRA.** It",
        f"{MANY}{MANY}**For LoRA.** It",
        "cells, more than 3",
    ),
    ("n = 1\nn", "n = 1\n" * 50 + "n", "lines of code, more than 110"),
    ("n = 1\nn", "n = 1\nn;", "4 silent cells, more than 1"),
    (
        "Much.",
        "word " * 1800 + "\n\n" + cell("x\n" * 100),
        "minutes, more than 15",
    ),
    (
        "{n}`four`",
        "{n}`four`, {glue:text}`five:.2%`",
        "5 numbers, more than 4",
    ),
    ("**For LoRA.** It is so.", "It is so.", "does not end in **For LoRA.**"),
    ("**For LoRA.** It is so.", "**For LoRA.** No.\n\nSo.", "does not end in"),
    (
        "{.theory}\n## May",
        "{.theory .depth}\n## May",
        "3 sections in the spine",
    ),
    (SECTION, SECTION * 4, "13 sections in the spine, not four to six"),
    ("n = 2\n", "n = 2\nassert n == 2\n", "gives the guess's answer away"),
    ("print(n)", "print(n)\nassert n == 2", "gives the guess's answer away"),
    ("- Two.\n", "", "a card has three lines"),
    (
        "You may.",
        "```{figure} x.svg\nOne.\n```\n\n```{figure} x.svg\nTwo.\n```\n",
        "2 figures, more than 1",
    ),
]


@pytest.mark.parametrize(("old", "new", "fault"), BROKEN)
def test_a_broken_budget_is_named(old: str, new: str, fault: str) -> None:
    assert old in SAMPLE
    faults = found(SAMPLE.replace(old, new))
    assert any(fault in x for x in faults), faults


def test_there_are_smaller_limits() -> None:
    assert found(SAMPLE, budget.Limits(words=50)) == [
        f"{budget.spent(form.Chapter(SAMPLE)).words} words, more than 50"
    ]
    assert found(SAMPLE, budget.Limits(cells=4)) == [
        "5 visible cells, more than 4"
    ]


@pytest.mark.parametrize(
    "after",
    [
        "It is {n}`two`.\n\n" + cell("assert n == 2"),
        cell("plt.show()") + cell("assert n == 2"),
        cell("table(n)", "hide-input") + cell("assert n == 2"),
        cell("# It is.\nassert n == 2", "check"),
    ],
    ids=["a sentence", "an output", "a table", "a check"],
)
def test_after_the_answer_assertions_may_stand(after: str) -> None:
    items = form.Chapter(f"# One\n\n{GUESS}{after}").items
    assert list(budget.given_away(items)) == []


def test_minutes_are_those_of_the_rates() -> None:
    text = (
        "# One\n\n"
        + "word " * 200
        + "\n\n:::{prf:proof}\n:class: fold\n"
        + "word " * 90
        + "\n:::\n\n"
        + cell("x = 1\n" * 12)
        + cell("# So it is.\n" + "y = 1\n" * 11, "check")
        + cell("report(x=1)\n" * 50, "record")
        + ":::{explorable} svd-image\n:::\n\n```{figure} x.svg\n```\n"
    )
    items = form.Chapter(text).items
    assert form.minutes(items, folded=False) == pytest.approx(1 + 1 + 3 + 0.5)
    assert form.minutes(items, folded=True) == pytest.approx(7.5)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("One two, three.", 3),
        ("A $x + y = z$ and `some code` or {ref}`a b c`.", 6),
        ("[A link](https://example.org/a/b) and [its mark.]{.answer}", 5),
        ("– · —", 0),
    ],
)
def test_words_are_counted(text: str, count: int) -> None:
    assert len(form.words(text)) == count


@pytest.mark.parametrize(
    ("code", "shows"),
    [
        ("x = 1\nx", True),
        ("x = 1", False),
        ("x;", False),
        ("print(x)\ny = 2", True),
        ("table(rows, columns)", True),
        ("report(x=1)", False),
        ("torch.testing.assert_close(x, y)", False),
        ("assert x", False),
        ("%timeit x\nx = 1", False),
        ("", False),
    ],
)
def test_what_a_cell_shows(code: str, shows: bool) -> None:
    assert form.Item("cell", 1, code).shows is shows


def write(folder: Path, text: str, slug: str) -> Path:
    (folder / "chapters").mkdir()
    (folder / "chapters" / f"{slug}.md").write_text(text, encoding="utf8")
    (folder / "index.md").write_text("# A book\n", encoding="utf8")
    (folder / "_toc.yml").write_text(
        f"format: jb-book\nroot: index\nchapters:\n- file: chapters/{slug}\n"
    )
    return folder


@pytest.mark.parametrize(
    ("old", "new", "verdict", "status"),
    [
        ("", "", "ok", 0),
        ("**For LoRA.** Guess.", "Guess.", "1 over", 1),
        (":class: answer", "", "not yet", 0),
    ],
)
def test_the_table_and_the_status(
    old: str, new: str, verdict: str, status: int, tmp_path: Path, capsys
) -> None:
    write(tmp_path, SAMPLE.replace(old, new), "one")
    assert budget.main(tmp_path) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == budget.HEAD
    assert lines[1].endswith(f"  {verdict}")
    if status:
        where = SAMPLE[: SAMPLE.index("## May I")].count("\n") + 1
        fault = "does not end in **For LoRA.**"
        assert lines[3] == f"chapters/one.md:{where}: {fault}"


def test_a_lab_has_no_budget(tmp_path: Path, capsys) -> None:
    write(tmp_path, f"{FRONT}\n# Lab: one\n\n" + "word " * 9000, "lab_one")
    assert budget.main(tmp_path) == 0
    assert capsys.readouterr().out.rstrip().endswith("  lab")


def test_one_page_has_the_smaller_budget(tmp_path: Path, capsys) -> None:
    longer = SAMPLE.replace("Much.", "word " * 1100)
    write(tmp_path, longer, "lora_in_one_page")
    assert budget.main(tmp_path) == 1
    assert "words, more than 1100" in capsys.readouterr().out


def test_the_book_keeps_to_its_budget() -> None:
    lines, kept = budget.report(ROOT)
    assert kept, "\n".join(lines)
    assert len(lines) > 9
