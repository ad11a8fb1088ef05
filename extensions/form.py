"""A chapter's source, as a reader meets it: what is open, folded, and long.

The page's line of times, the folds and the budget (`tools/budget.py`) count
by what stands here, so they cannot differ.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import yaml
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

WORDS, PROOF_WORDS, CODE_LINES = 200, 90, 12  # read in a minute
FIGURE, EXPLORABLE = 0.5, 3.0  # minutes
# Sections that ask nothing, in the order in which a chapter closes.
CLOSING = (
    "Can you now …?",
    "What is still open?",
    "Exercises",
    "Further reading",
)
UNCOUNTED = CLOSING[2:]
# What a section's question is about: a class on its heading.
GROUPS = {
    "choosing": "Choosing",
    "memory": "Memory",
    "speed": "Speed",
    "trouble": "It does not learn",
    "theory": "Theory",
}
HIDDEN = {
    *("check", "record", "hide-input", "hide-cell"),
    *("remove-input", "remove-cell"),
}
NUMBER = re.compile(r"\{(?:n|glue(?::text)?)\}`[^`]+`")
SHOWS = {"display", "print", "show", "show_source", "table"}
SILENT = {"report", "glue", "seed_all", "manual_seed"}
PARSER = create_md_parser(
    MdParserConfig(
        enable_extensions={
            *("amsmath", "attrs_block", "attrs_inline", "colon_fence"),
            *("deflist", "dollarmath", "substitution", "tasklist"),
        }
    ),
    RendererHTML,
)


@dataclass(frozen=True)
class Item:
    """Something that a reader meets.

    Its `kind` is text, head, proof, guess, quiz, card (each also with
    "-title"), cell, figure or explorable; `text` its words, or its code.
    """

    kind: str
    line: int
    text: str = ""
    tags: frozenset[str] = frozenset()
    folded: bool = False

    @property
    def words(self) -> int:
        """Return the number of words; a formula counts as one."""
        return 0 if self.kind == "cell" else len(words(self.text))

    @property
    def lines(self) -> int:
        """Return the number of lines of code, blank ones left out."""
        code = self.kind == "cell" and "remove-input" not in self.tags
        return len([x for x in self.text.split("\n") if code and x.strip()])

    @property
    def open(self) -> bool:
        """Return whether a page shows it; of a cell, its code."""
        hidden = self.kind == "cell" and self.tags & HIDDEN
        return not self.folded and not hidden

    @property
    def minutes(self) -> float:
        """Return how long it takes, unfolded."""
        if "record" in self.tags or "remove-cell" in self.tags:
            return 0.0
        rate = PROOF_WORDS if self.kind == "proof" else WORDS
        extra = {"figure": FIGURE, "explorable": EXPLORABLE}
        return (
            self.words / rate
            + self.lines / CODE_LINES
            + extra.get(self.kind, 0.0)
        )

    @property
    def asserts(self) -> bool:
        """Return whether a cell asserts something."""
        return asserts(self.text)

    @property
    def shows(self) -> bool:
        """Return whether a cell has something to show, judged by its code."""
        code = re.sub(r"^(\s*)[%!].*", r"\1pass", self.text, flags=re.M)
        tree = ast.parse(code)
        called = {
            ast.unparse(node.func).split(".")[-1]
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        if called & SHOWS:
            return True
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr) or code.rstrip().endswith(";"):
            return False
        name = ast.unparse(last.value).split("(")[0].split(".")[-1]
        return name not in SILENT and not name.startswith("assert_")


@dataclass
class Section:
    """A second-level section, or what stands before the first."""

    title: str
    line: int
    classes: frozenset[str]
    items: list[Item] = field(default_factory=list)

    @property
    def deep(self) -> bool:
        """Return whether the section folds after its first paragraph."""
        return "depth" in self.classes

    @property
    def words(self) -> int:
        """Return the number of words that are open."""
        return sum(x.words for x in self.items if x.open)


def asserts(code: str) -> bool:
    """Return whether code asserts something."""
    return bool(re.search(r"^\s*assert\b|\bassert_\w+\(", code, re.M))


def minutes(items: Iterable[Item], folded: bool) -> float:
    """Return how long items take: what is open, or also what is folded."""
    return sum(x.minutes for x in items if folded or x.open)


class Chapter:
    """A chapter's title, its card's question, and its sections."""

    def __init__(self, text: str) -> None:
        self.title, self.card = "", ""
        self.sections = [Section("", 1, frozenset())]
        self._read(PARSER.parse(text), 0)

    @property
    def items(self) -> list[Item]:
        """Return what is counted: all but exercises and further reading."""
        counted = [x for x in self.sections if x.title not in UNCOUNTED]
        return [item for section in counted for item in section.items]

    @property
    def questions(self) -> list[Section]:
        """Return the chapter's own sections, of the spine and deep."""
        return [x for x in self.sections[1:] if x.title not in CLOSING]

    def _read(
        self,
        tokens: list[Token],
        start: int,
        kind: str = "text",
        folded: bool = False,
    ) -> None:
        """Add what tokens hold; `start` is the number of lines before them."""
        parents: list[Token] = []
        begun: set[int] = set()  # a quiz's choices; their verdicts are folded
        for token in tokens:
            line = start + (token.map or [0])[0] + 1
            if token.nesting > 0:
                parents.append(token)
            elif token.nesting < 0:
                parents.pop()
            elif token.type == "inline" and parents[-1].tag[0] == "h":
                self._head(parents[-1], token.content, line, folded)
            elif token.type == "inline":
                item = id(parents[-2]) if len(parents) > 1 else 0
                hide = folded or (kind == "quiz" and item in begun)
                begun.add(item)
                self._add(Item(kind, line, token.content, folded=hide))
            elif token.type in ("fence", "colon_fence"):
                self._block(token, line, kind, folded)

    def _head(self, token: Token, title: str, line: int, folded: bool) -> None:
        """Begin a section, or note the chapter's title."""
        if token.tag == "h1":
            self.title = title
        elif token.tag == "h2":
            classes = frozenset(str(token.attrs.get("class", "")).split())
            self.sections.append(Section(title, line, classes))
        else:
            self._add(Item("head", line, title, folded=folded))

    def _add(self, item: Item) -> None:
        """Add an item; in a deep section all but the first are folded."""
        section = self.sections[-1]
        deep = "depth" in section.classes and bool(section.items)
        section.items.append(replace(item, folded=item.folded or deep))

    def _block(self, token: Token, line: int, kind: str, folded: bool) -> None:
        """Add a code cell, or a directive with what stands in it."""
        found = re.match(r"\s*\{([^}]+)\}\s*(.*)", token.info)
        if not found:
            return
        name, title = found.groups()
        options, body, skipped = split(token.content)
        classes = str(options.get("class", "")).split()
        folded = folded or not {"fold", "dropdown"}.isdisjoint(
            [name, *classes]
        )
        if name == "code-cell":
            for item in cell(line, options, body):
                self._add(replace(item, folded=folded))
        elif name in ("figure", "explorable"):
            text = body if name == "figure" else ""
            self._add(Item(name, line, text, folded=folded))
        elif name not in ("math", "code-block", "bibliography", "raw"):
            kinds = {"prf:proof": "proof", "quiz": "quiz"}
            kind = kinds.get(name, kind)
            if title.startswith("Guess"):
                kind = "guess"
            if "answer" in classes:
                self.card, kind = title, "card"
            if title:
                self._add(Item(f"{kind}-title", line, title, folded=folded))
            self._read(PARSER.parse(body), line + skipped, kind, folded)


def missing(chapter: Chapter) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of what a chapter with a card lacks."""
    if not chapter.card:
        return
    intro, *rest = chapter.sections
    titles = [x.title for x in rest]
    if chapter.card[-1] != "?":
        yield intro.line, "the card's title is no question"
    card = [x.text for x in intro.items if x.kind == "card"]
    if len(card) != 4 or not card[-1].startswith("**You need**"):
        yield intro.line, "a card has three lines, and **You need** ..."
    if [x for x in titles if x in CLOSING] != list(CLOSING):
        yield rest[-1].line, f"a chapter closes with {CLOSING}"
    for section in rest:
        if section.title == CLOSING[0]:
            asked = sum(x.kind == "quiz-title" for x in section.items)
            if not 3 <= asked <= 5:
                yield section.line, f"{asked} quizzes, not three to five"
        elif section.title not in CLOSING:
            if section.title[-1] != "?":
                yield section.line, f"no question: {section.title}"
            if len(section.classes & GROUPS.keys()) != 1:
                groups = " or ".join(f".{x}" for x in GROUPS)
                yield section.line, f"{section.title} lacks {groups}"
            first = section.items[0].kind if section.items else "nothing"
            if first != "text":
                yield section.line, f"{section.title} begins with {first}"


def cell(line: int, options: dict[str, Any], body: str) -> Iterator[Item]:
    """Yield a code cell and the picture that it shows."""
    tags = frozenset(map(str, options.get("tags") or []))
    yield Item("cell", line, body, tags)
    figure = options.get("mystnb", {}).get("figure", {})
    if figure:
        yield Item("figure", line, figure.get("caption", ""), tags)
    elif re.search(r"^show\(", body, re.M):
        yield Item("explorable", line, "", tags)


def split(content: str) -> tuple[dict[str, Any], str, int]:
    """Part a directive's options from its body; count the lines before it."""
    if content.startswith("---\n"):
        head, _, body = content[4:].partition("\n---")
        return yaml.safe_load(head) or {}, body, head.count("\n") + 3
    found = re.match(r"(?::[\w-]+:.*\n?)*", content)
    head = found[0] if found else ""
    # A role in an option is no YAML.
    options = dict(re.findall(r"^:([\w-]+): *(.*)", head, re.M))
    if "tags" in options:
        options["tags"] = yaml.safe_load(options["tags"])
    return options, content[len(head) :], head.count("\n")


def words(text: str) -> list[str]:
    """Return the words of a text; a formula, a role or code is one."""
    for pattern in (
        r"\{[\w:.-]+\}(`+).+?\1",
        r"(`+).+?\1",
        r"(?<!\\)\$(?:\\.|[^$\\])+\$",
    ):
        text = re.sub(pattern, " x ", text, flags=re.S)
    text = re.sub(r"\]\([^)]*\)|\]\{\.[^}]*\}", "] ", text)
    return [x for x in text.split() if re.search(r"\w", x)]
