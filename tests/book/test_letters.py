"""The letters of notation.md mean the same in every chapter, as it promises.

What a letter stands for cannot be read off a formula. But some letters have
been used for two things, and that shows: in the index that a singular value
has, or in the word beside a letter.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "chapters").glob("*.md"))
MISUSED = {
    "a singular value is squared with its index; a spread is omega": (
        r"\\sigma\^|(?:variance|deviation)s?\s+\$\\sigma"
    ),
    "T counts steps, N tokens or examples": (
        r"\$T\$\s+(?:tokens|examples)|\$N\$\s+(?:steps|columns|neurons)"
        r"|widths?\s+\$[NT]\b"
    ),
    "alpha is no learning rate; that is eta": (
        r"(?:learning\s+rate|step\s+size)s?\s+\$\\alpha"
    ),
    "the product is BA": r"\$\\Delta W = (?:s\\?,?\s*)?AB\b",
}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize("rule", MISUSED)
def test_a_letter_means_one_thing(rule: str, page: Path) -> None:
    text = page.read_text(encoding="utf8")
    assert re.findall(MISUSED[rule], text) == []


@pytest.mark.parametrize(
    "words",
    [
        "the variance $\\sigma^2$",
        "a width $N$",
        "the learning\nrate $\\alpha$",
        "$\\Delta W = AB$",
    ],
)
def test_misuse_is_found(words: str) -> None:
    assert sum(bool(re.search(x, words)) for x in MISUSED.values()) == 1
