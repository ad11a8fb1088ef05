"""Print what each chapter spends of its readers' time, and what breaks it.

    python tools/budget.py

Counts come from the sources, by `extensions/form.py`: nothing is built. A
chapter with an answer card has to keep to the budget; without one it has the
older shape, and a lab has no budget.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import contents

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "extensions"))

import form  # noqa: E402

SECTIONS = (4, 6)
LINES, MINUTES, SECTION_WORDS, SECTION_CELLS = 110, 15, 350, 3
SILENT = 1 / 5  # of the visible cells
NUMBERS = 4  # in a paragraph
HEAD = (
    f"{'chapter':28}{'words':>6}{'cells':>6}{'lines':>6}{'silent':>7}"
    f"{'numbers':>8}{'section':>8}{'For LoRA':>9}{'told':>5}"
    f"{'min':>5}{'of':>5}  verdict"
)


@dataclass(frozen=True)
class Limits:
    """How much of a page may be open."""

    words: int = 1900
    cells: int = 14


LIMITS = {"lora_in_one_page": Limits(1100, 8)}


def spine(chapter: form.Chapter) -> list[form.Section]:
    """Return the sections that are open from beginning to end."""
    return [x for x in chapter.questions if not x.deep]


def numbers(item: form.Item) -> int:
    """Return how many computed numbers a paragraph quotes."""
    return len(form.NUMBER.findall(item.text)) if item.kind != "cell" else 0


def for_lora(section: form.Section) -> bool:
    """Return whether the last open words of a section are "For LoRA."."""
    texts = [x.text for x in section.items if x.open and x.kind == "text"]
    return bool(texts) and texts[-1].startswith("**For LoRA.**")


def given_away(items: list[form.Item]) -> Iterator[form.Item]:
    """Yield the assertions that stand between a guess and its answer.

    The answer is what shows first: a cell's output, a figure, or a sentence
    with a number.
    """
    waiting = False
    for item in items:
        if item.kind == "guess-title" or item.text.startswith("*Guess"):
            waiting = True
        elif item.kind == "cell" and waiting:
            told = item.asserts and not item.tags & form.HIDDEN
            if told:
                yield item
            waiting = not (told or item.shows)
        elif item.kind in ("figure", "explorable") or numbers(item):
            waiting = False


@dataclass(frozen=True)
class Spent:
    """What a chapter spends."""

    words: int
    cells: int
    lines: int
    silent: int
    numbers: int
    section: int
    minutes: float
    unfolded: float


def spent(chapter: form.Chapter) -> Spent:
    """Count what is open, and how long it and all the rest takes."""
    items = chapter.items
    seen = [x for x in items if x.open]
    cells = [x for x in seen if x.kind == "cell"]
    return Spent(
        words=sum(x.words for x in seen),
        cells=len(cells),
        lines=sum(x.lines for x in cells),
        silent=sum(not x.shows for x in cells),
        numbers=max(map(numbers, seen), default=0),
        section=max((x.words for x in spine(chapter)), default=0),
        minutes=form.minutes(items, folded=False),
        unfolded=form.minutes(items, folded=True),
    )


def broken(chapter: form.Chapter, limits: Limits) -> Iterator[tuple[int, str]]:
    """Yield where and how a chapter breaks its budget."""
    yield from form.missing(chapter)
    now, sections = spent(chapter), spine(chapter)
    for what, value, limit in (
        ("words", now.words, limits.words),
        ("visible cells", now.cells, limits.cells),
        ("visible lines of code", now.lines, LINES),
        ("minutes", round(now.minutes), MINUTES),
        ("silent cells", now.silent, int(SILENT * now.cells)),
    ):
        if value > limit:
            yield 1, f"{value} {what}, more than {limit}"
    if not SECTIONS[0] <= len(sections) <= SECTIONS[1]:
        yield 1, f"{len(sections)} sections in the spine, not four to six"
    for section in sections:
        seen = [x for x in section.items if x.open]
        figures = sum(x.kind == "figure" for x in seen)
        cells = sum(x.kind == "cell" for x in seen)
        for what, value, limit in (
            ("words", section.words, SECTION_WORDS),
            ("visible cells", cells, SECTION_CELLS),
            ("figures", figures, 1),
        ):
            if value > limit:
                yield section.line, f"{value} {what}, more than {limit}"
        if not for_lora(section):
            yield section.line, "does not end in **For LoRA.**"
    for item in chapter.items:
        if item.open and numbers(item) > NUMBERS:
            yield item.line, f"{numbers(item)} numbers, more than {NUMBERS}"
    for item in given_away(chapter.items):
        yield item.line, "an assertion gives the guess's answer away"


def row(slug: str, chapter: form.Chapter, verdict: str) -> str:
    """Return a chapter's line of the table."""
    now, sections = spent(chapter), spine(chapter)
    ended = f"{sum(map(for_lora, sections))}/{len(sections)}"
    silent = f"{now.silent / now.cells:.0%}" if now.cells else "–"
    told = len(list(given_away(chapter.items)))
    return (
        f"{slug:28}{now.words:6,}{now.cells:6}{now.lines:6}{silent:>7}"
        f"{now.numbers:8}{now.section:8}{ended:>9}{told:5}"
        f"{now.minutes:5.0f}{now.unfolded:5.0f}  {verdict}"
    )


def report(root: Path) -> tuple[list[str], bool]:
    """Return the lines to print, and whether every budget is kept."""
    lines, complaints = [HEAD], []
    for page in contents.pages(root):
        path = root / f"{page}.md"
        text = path.read_text(encoding="utf8")
        if "\nkernelspec:" not in text[:1000]:
            continue
        chapter = form.Chapter(text)
        verdict = "lab" if chapter.title.startswith("Lab: ") else "not yet"
        if chapter.card:
            limits = LIMITS.get(path.stem, Limits())
            found = sorted(set(broken(chapter, limits)))
            verdict = f"{len(found)} over" if found else "ok"
            name = path.relative_to(root)
            complaints += [f"{name}:{line}: {what}" for line, what in found]
        lines.append(row(path.stem, chapter, verdict))
    return [*lines, "", *complaints] if complaints else lines, not complaints


def main(root: Path = ROOT) -> int:
    """Print the table; fail if a chapter breaks its budget."""
    lines, kept = report(root)
    print("\n".join(lines))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
