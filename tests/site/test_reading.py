"""Folds, cards, questions, quizzes and times, on a small book."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]

import form  # noqa: E402

CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "extensions")!r})
extensions = [
    "myst_nb", "sphinx_design", "sphinx_proof", "notebooks", "cards",
    "reading",
]
html_theme = "basic"
exclude_patterns = ["_build"]
html_static_path = ["assets"]
myst_enable_extensions = [
    "attrs_block", "attrs_inline", "colon_fence", "dollarmath",
]
numfig = True
numfig_format = {{"figure": "Figure %s"}}
nb_code_prompt_show = "Show code"
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
suppress_warnings = ["myst.domains"]
"""
FRONT = """\
---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
CLOSING = """\
## Can you now …?

:::{quiz} What is $1 + 1$?
- One.

  No: that was **one** of them.
- Two.

  Yes, as the cell says.
:::

:::{quiz} And $2 + 2$?
- Four.

  Yes.
- Five.

  No.
:::

:::{quiz} And nothing?
- Nothing.

  Yes.
- Something.

  No.
:::

## What is still open?

Much.

## Exercises

:::{dropdown} A *hint*
Look closely.
:::

## Further reading
"""
ONE = (
    FRONT
    + """
(ch-one)=
# One

:::{admonition} What is one and one?
:class: answer

- It is {n}`share:.1f`, by {prf:ref}`thm-one`.
- It is even.
- It is small.

**You need** nothing.
:::

```{code-cell} ipython3
:tags: [record]
from IPython.display import SVG
from myst_nb import glue
glue("share", 2.0, display=False)
```

{.theory}
## Does it add up?

It does, to {glue:text}`share:.0f`. Then there is more.

:::{prf:theorem} Sums
:label: thm-one
It adds up.
:::

:::{prf:proof}
:class: fold
By counting the words of this proof, of which there are some.
:::

```{code-cell} ipython3
:tags: [check]
# The sum is two,
# and the proof's is it.
assert 1 + 1 == 2
```

```{code-cell} ipython3
:tags: [check]
# It is even.
assert 2 % 2 == 0
```

A paragraph.

```{code-cell} ipython3
:tags: [check]
# It stands alone.
assert True is not False
```

```{code-cell} ipython3
---
mystnb:
  figure:
    name: fig-one
    caption: "The finding."
tags: [hide-input]
---
SVG("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>")
```

**For LoRA.** Add.

(sec-deep)=
{.depth .memory}
## Is there more?

There is, says {prf:ref}`thm-one`. But not here. [This one is the
answer.]{.answer}

A folded paragraph.

(sec-below)=
### Below

```{code-cell} ipython3
1 + 2
```

"""
    + CLOSING
)
TWO = f"""{FRONT}
# Two

It is {{n}}`share:.0f` here.
There it is {{n}}`one::share:.2f`, in short {{n}}`one::share`.

```{{code-cell}} ipython3
:tags: [hide-cell]
from myst_nb import glue
glue("share", 5, display=False)
```

```{{code-cell}} ipython3
:tags: [hide-cell]
joined = True
```
"""
CARDS = """\
# Cards

All in {minutes}`all`, proofs: {minutes}`unfolded one two`.

```{cards}
```
"""
QUESTIONS = """\
# Questions

## Theory

```{questions} theory
```

## Memory

```{questions} memory
```
"""
INDEX = """\
# A small book

```{toctree}
:numbered:
cards
questions
one
two
```
"""
PAGES = {
    "index": INDEX,
    "one": ONE,
    "two": TWO,
    "cards": CARDS,
    "questions": QUESTIONS,
}


def build(book: Path, **pages: str) -> str:
    """Write pages and build the book; return what the build complains of."""
    for name, text in pages.items():
        (book / f"{name}.md").write_text(text, encoding="utf8")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", ".", "_build/html"],
        cwd=book,
        env={**os.environ, "GITHUB_REPOSITORY": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # Of the kernel's own words about this machine nothing is of interest.
    lines = done.stderr.splitlines(keepends=True)
    return "".join(x for x in lines if "[IPKernelApp]" not in x)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("book")
    (folder / "conf.py").write_text(CONF, encoding="utf8")
    assets = folder / "assets"
    assets.mkdir()
    script = (ROOT / "assets/reading.js").read_text(encoding="utf8")
    (assets / "reading.js").write_text(script, encoding="utf8")
    runs = {"one": {"seconds": 33.3, "finished": 1.0}}
    (folder / "_build").mkdir()
    (folder / "_build/runs.json").write_text(json.dumps(runs))
    assert build(folder, **PAGES) == ""
    return folder


def page(book: Path, name: str) -> BeautifulSoup:
    text = (book / f"_build/html/{name}.html").read_text(encoding="utf8")
    return BeautifulSoup(text, "html.parser")


@pytest.fixture(scope="module")
def one(book: Path) -> BeautifulSoup:
    return page(book, "one")


def said(tag: Tag | None) -> str:
    assert tag is not None
    return " ".join(tag.get_text().split())


def summaries(tag: BeautifulSoup | Tag) -> list[str]:
    return [said(x) for x in tag.find_all("summary")]


# Folds ----------------------------------------------------------------------


def test_every_fold_says_what_is_in_it(one: BeautifulSoup) -> None:
    assert summaries(one) == [
        "Proof · ✓ 2 checks",
        "✓ Checked: The sum is two, and the proof's is it.",
        "✓ Checked: It is even.",
        "✓ Checked: It stands alone.",
        "Code of Figure 3.1",
        "Read on · 1 min",
        *("One.", "Two.", "Four.", "Five.", "Nothing.", "Something."),
        "A hint",
    ]
    assert not one.find_all("details", open=True)


def test_a_check_and_a_proof_hold_their_code(one: BeautifulSoup) -> None:
    proof = one.select_one("details.fold-proof")
    assert proof
    assert "By counting" in said(proof)
    assert len(proof.select("details.fold-check pre")) == 2
    alone = one.select("details.fold-check")[-1]
    assert alone.find_parent("details") is None
    assert "assert True is not False" in said(alone)
    assert said(alone.select_one("summary em")) == "It stands alone."


def test_hidden_code_folds_and_its_figure_stays(
    book: Path, one: BeautifulSoup
) -> None:
    figure = one.find("figure")
    assert isinstance(figure, Tag)
    assert figure.find_parent("details") is None
    assert "SVG(" in said(one.select_one("details.fold-code"))
    # Two cells in a row that show nothing share a fold.
    two = page(book, "two")
    assert summaries(two) == ["Code"]
    assert len(two.select("details.fold-code pre")) == 2


def test_records_are_not_on_the_page(one: BeautifulSoup) -> None:
    assert "IPython.display" not in one.get_text()


def test_a_deep_section_shows_its_answer_alone(one: BeautifulSoup) -> None:
    section = one.find(id="is-there-more")
    assert isinstance(section, Tag)
    names = [x.name for x in section.find_all(recursive=False)]
    assert names == ["span", "h2", "p", "details"]
    assert "There is, says" in said(section.p)
    inside = section.details
    assert inside
    assert "A folded paragraph." in said(inside)
    assert inside.find(id="below")


def test_numbers_belong_to_their_page(book: Path, one: BeautifulSoup) -> None:
    assert "It is 2.0, by" in said(one.select_one(".answer"))
    two = said(page(book, "two").body)
    assert "It is 5 here. There it is 2.00, in short 2.0." in two


def test_the_line_under_the_title(book: Path, one: BeautifulSoup) -> None:
    line = one.select_one("h1 + p.times")
    assert line
    assert said(line.find(string=True)) == (
        "1 min · 2 min with everything unfolded · runs in 30 s"
    )
    assert said(line.button) == "Unfold all"
    assert said(page(book, "two").select_one("p.times")) == "1 min Unfold all"
    assert not page(book, "index").select("p.times")


def test_the_notebook_keeps_everything_in_order(book: Path) -> None:
    cells = nbformat.read(book / "_build/notebooks/one.ipynb", 4).cells
    text = "\n".join(cell.source for cell in cells)
    assert "<details" not in text
    assert "1 min" not in text
    places = [
        text.index(x)
        for x in (
            "What is one and one?",
            'glue("share"',
            "Does it add up?",
            "By counting",
            "# The sum is two,",
            "# It is even.",
            "# It stands alone.",
            "SVG(",
            "Is there more?",
            "This one is the answer.",
            "A folded paragraph.",
            "Below",
            "1 + 2",
            "that was **one** of them",
        )
    ]
    assert places == sorted(places)


# Cards, questions, quizzes --------------------------------------------------


def test_cards_are_copied_with_their_links(book: Path) -> None:
    card = page(book, "cards").select_one(".answer.admonition")
    assert said(card).startswith("One: What is one and one? It is 2.0, by")
    assert card
    links = [str(x["href"]) for x in card.find_all("a")]
    assert links == ["one.html", "one.html#thm-one"]


def test_the_times_of_chapters_add_up(book: Path, tmp_path: Path) -> None:
    assert "All in 5 min, proofs: 5 min." in said(page(book, "cards").body)
    copy = Path(shutil.copytree(book, tmp_path / "book"))
    longer = ONE.replace("A paragraph.", "A long one." + " More." * 13_000)
    # A page without a card is no chapter, and can be asked for all the same.
    other = TWO + "\n\nMore." + " More." * 2_000
    cards = CARDS.replace("unfolded one two", "unfolded two three")
    complaint = build(copy, one=longer, two=other, cards=cards)
    assert "cards.md:3: WARNING: 'three' is no page" in complaint
    found = said(page(copy, "cards").body)
    assert "All in 1 h 5 min, proofs: 10 min." in found


def test_questions_are_answered(book: Path) -> None:
    entries = page(book, "questions").select("section section li")
    assert [said(x) for x in entries] == [
        "Does it add up? It does, to 2.",
        "Is there more? This one is the answer.",
    ]
    links = [str(x["href"]) for entry in entries for x in entry.find_all("a")]
    assert links == ["one.html#does-it-add-up", "one.html#is-there-more"]


def test_pages_that_collect_follow_the_chapters(
    book: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(book, tmp_path / "book"))
    changed = ONE.replace("It is even.\n-", "It is *new*.\n-")
    changed = changed.replace("It does, to", "It surely does, to")
    changed = changed.replace('"share", 2.0', '"share", 3.0')
    assert build(copy, one=changed) == ""
    assert "It is new." in page(copy, "cards").get_text()
    assert "It surely does" in page(copy, "questions").get_text()
    assert "There it is 3.00" in said(page(copy, "two").body)


def test_pages_that_collect_wait_for_what_they_collect(
    book: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(book, tmp_path / "book"))
    pages = ("one", "two", "cards", "questions")
    files = {x: copy / f"_build/html/{x}.html" for x in pages}
    assert build(copy) == ""  # in this folder, all is new

    def written(change: str, to: str) -> list[str]:
        before = {x: path.stat().st_mtime_ns for x, path in files.items()}
        assert change in ONE
        assert build(copy, one=ONE.replace(change, to)) == ""
        return [
            x
            for x, path in files.items()
            if path.stat().st_mtime_ns != before[x]
        ]

    # The page with the times follows each word.
    assert written("A folded paragraph.", "A hidden paragraph.") == ["one"]
    assert written("A folded paragraph.", "Folded.") == ["one", "cards"]
    assert written("It does, to", "It does so, to") == [
        "one", "cards", "questions",
    ]  # fmt: skip


def test_a_quiz_hides_its_verdicts(one: BeautifulSoup) -> None:
    quiz = one.select_one(".quiz")
    assert quiz
    choices = quiz.select("li > details")
    kinds = [x["class"] for x in choices]
    assert kinds == [["fold", "fold-no"], ["fold", "fold-yes"]]
    assert said(choices[0].p) == "No: that was one of them."


LACKING = [
    ("What is one and one?", "One and one", "is no question"),
    ("- It is small.\n", "", "a card has three lines"),
    ("**You need** nothing.", "Nothing.", "a card has three lines"),
    ("{.theory}\n", "", "lacks .choosing or"),
    ("{.theory}", "{.theory .memory}", "lacks .choosing or"),
    ("## Does it add up?", "## It adds up", "no question: It adds"),
    ("## What is still open?", "## Open?", "a chapter closes with"),
    ("It does, to", "### Why?\n\nIt does, to", "begins with head"),
    (":::{quiz} And nothing?", ":::{note}", "2 quizzes, not three to five"),
]


@pytest.mark.parametrize(("old", "new", "fault"), LACKING)
def test_what_a_chapter_lacks_is_named(old: str, new: str, fault: str) -> None:
    assert list(form.missing(form.Chapter(ONE))) == []
    assert old in ONE
    found = list(form.missing(form.Chapter(ONE.replace(old, new))))
    assert any(fault in text for _, text in found), found
    lines = ONE.replace(old, new).split("\n")
    assert all(0 < line <= len(lines) for line, _ in found)


def test_without_a_card_nothing_is_lacking() -> None:
    assert list(form.missing(form.Chapter("# Two\n\n## No question\n"))) == []


def test_mistakes_fail_the_build(book: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(book, tmp_path / "book"))
    broken = ONE.replace("# It is even.\n", "")
    broken = broken.replace("display=False)", "display=False); 7")
    broken = broken.replace("{.theory}\n", "")
    broken = broken.replace("assert 1 + 1", "1 + 1")
    broken = broken.replace("Yes.\n- Something.", "Yes. - Something.")
    for old, new in (("No.\n:::", ":::"), ("\n  No: that", "\n  Yes: that")):
        assert old in broken
        broken = broken.replace(old, new, 1)
    found = build(copy, one=broken)
    for complaint in (
        "a check begins with a comment",
        "a check asserts nothing",
        "a record cell shows something",
        "one.md:26: WARNING: Does it add up? lacks .choosing",
        "not with ['Yes']",
        "not with ['Yes', 'nothing']",
        "a choice of this quiz stands in a line's middle",
    ):
        assert complaint in found


# In the browser -------------------------------------------------------------

PRINT = "dispatchEvent(new Event('beforeprint'))"
PRINTED = "dispatchEvent(new Event('afterprint'))"


def opened(browser: Browser, book: Path, address: str) -> int:
    """Return how many folds are open at an address of the small book."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(f"file://{book}/_build/html/{address}")
    # The search marks its words a moment after the page has been loaded.
    tab.wait_for_timeout(300)
    count = tab.locator("details[open]").count()
    context.close()
    return count


def test_links_into_folds_open_them(book: Path, browser: Browser) -> None:
    assert opened(browser, book, "one.html") == 0
    assert opened(browser, book, "one.html#does-it-add-up") == 0
    assert opened(browser, book, "one.html#below") == 1


def test_words_that_the_search_marks_are_open(
    book: Path, browser: Browser
) -> None:
    assert opened(browser, book, "one.html?highlight=folded") == 1
    assert opened(browser, book, "one.html?highlight=theorem") == 0


def test_a_link_on_the_page_opens_its_target_twice(
    book: Path, browser: Browser
) -> None:
    tab = browser.new_page()
    tab.goto(f"file://{book}/_build/html/one.html")
    tab.evaluate(
        "document.querySelector('h1').innerHTML += "
        "'<a id=to href=#below>Below</a>'"
    )
    for _ in range(2):
        tab.click("#to")
        assert tab.locator("details.fold-depth[open]").count() == 1
        tab.evaluate("document.querySelector('.fold-depth').open = false")
    tab.close()


def test_print_is_light_and_open_and_leaves_no_trace(
    book: Path, browser: Browser
) -> None:
    tab = browser.new_page()
    tab.goto(f"file://{book}/_build/html/one.html#below")
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.evaluate(PRINT)
    assert tab.locator("details:not([open])").count() == 0
    assert tab.locator("html[data-theme=light]").count() == 1
    tab.evaluate(PRINTED)
    assert tab.locator("details[open]").count() == 1
    assert tab.locator("html[data-theme=dark]").count() == 1
    tab.close()


def test_a_button_opens_all_that_gives_nothing_away(
    book: Path, browser: Browser
) -> None:
    tab = browser.new_page()
    tab.goto(f"file://{book}/_build/html/one.html")
    button = tab.locator(".unfold")
    verdicts = tab.locator(".quiz details")
    others = tab.locator("details").count() - verdicts.count()
    assert others > 5
    verdicts.first.locator("summary").click()
    for key, opened, says in (
        ("Enter", others, "Fold all"),
        ("Space", 0, "Unfold all"),
    ):
        button.focus()
        tab.keyboard.press(key)
        assert tab.locator("details[open]:not(.quiz *)").count() == opened
        assert button.text_content() == says
        # The one that a reader opened is left alone.
        assert tab.locator(".quiz details[open]").count() == 1
    tab.close()


def test_folds_open_without_scripts(book: Path, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(f"file://{book}/_build/html/one.html")
    tab.locator("summary").first.focus()
    tab.keyboard.press("Enter")
    assert tab.get_by_text("By counting").is_visible()
    context.close()
