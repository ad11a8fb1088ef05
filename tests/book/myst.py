"""Reading a chapter's source: its blocks, its cells, its sentences.

MyST-Parser says where a block begins and ends, as it does for the book.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
EXTENSIONS = set(CONFIG["parse"]["myst_enable_extensions"])
PARSER = create_md_parser(
    MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML
)
# What stands in these blocks is no MyST.
LITERAL = ("", "code-cell", "code-block", "math", "bibliography", "raw")


@dataclass
class Block:
    """A fenced block, with what stands in it."""

    name: str
    title: str
    line: int
    options: dict[str, Any] = field(default_factory=dict)
    body: str = ""
    rest: str = ""
    children: list[Block] = field(default_factory=list)


@dataclass
class Parsed:
    """A text taken apart; `rest` is what stands outside of blocks.

    A heading is its line, its level and its text.
    """

    rest: str = ""
    blocks: list[Block] = field(default_factory=list)
    headings: list[tuple[int, int, str]] = field(default_factory=list)
    unclosed: list[int] = field(default_factory=list)


def parse(text: str, first: int = 1) -> Parsed:
    """Take a text apart; `first` is the number of its first line."""
    lines = text.split("\n")
    found = Parsed()
    tokens = PARSER.parse(text)
    for i, token in enumerate(tokens):
        begin, end = token.map or (0, 0)
        if token.type == "heading_open":
            level, words = int(token.tag[1:]), tokens[i + 1].content
            found.headings.append((first + begin, level, words))
        if token.type not in ("fence", "colon_fence"):
            continue
        mark, count = token.markup[0], len(token.markup)
        closing = rf"\s*{mark}{{{count},}}\s*"
        if begin == end - 1 or not re.fullmatch(closing, lines[end - 1]):
            found.unclosed.append(first + begin)
        inner = token.content.removesuffix("\n").split("\n")
        block = read_block(token.info, inner, first + begin)
        if block.name not in LITERAL:
            skipped = len(inner) - len(block.body.split("\n"))
            nested = parse(block.body, first + begin + 1 + skipped)
            block.rest, block.children = nested.rest, nested.blocks
            found.unclosed += nested.unclosed
        found.blocks.append(block)
        lines[begin:end] = [""] * (end - begin)
    found.rest = "\n".join(lines)
    return found


def read_block(info: str, lines: list[str], line: int) -> Block:
    """Read a block's name and title, its options, and the rest."""
    named = re.fullmatch(r"\{([^}\s]+)\}\s*(.*)", info.strip())
    if not named:
        return Block("", "", line, body="\n".join(lines))
    block = Block(named[1], named[2], line)
    taken = 0
    if lines[0].strip() == "---":
        end = lines.index("---", 1)
        block.options = yaml.safe_load("\n".join(lines[1:end])) or {}
        taken = end + 1
    else:
        for text in lines:
            option = re.fullmatch(r"\s*:([\w-]+):\s*(.*)", text)
            if not option:
                break
            block.options[option[1]] = option[2]
            taken += 1
    block.body = "\n".join(lines[taken:])
    return block


def flatten(blocks: list[Block]) -> Iterator[Block]:
    """Yield blocks and those inside them."""
    for block in blocks:
        yield block
        yield from flatten(block.children)


class Chapter:
    """A chapter's text, taken apart."""

    def __init__(self, text: str) -> None:
        self.text = text
        head = re.match(r"---\n(.*?)\n---\n", text, re.S)
        self.head = yaml.safe_load(head[1]) if head else {}
        start = head.end() if head else 0
        self.first = text[:start].count("\n") + 1
        self.lines = text.split("\n")
        parsed = parse(text[start:], self.first)
        self.rest, self.top = parsed.rest, parsed.blocks
        self.headings, self.unclosed = parsed.headings, parsed.unclosed
        self.blocks = list(flatten(self.top))
        self.cells = [x for x in self.blocks if x.name == "code-cell"]
        # The mark of the chapters' form with a spine; else, of the older.
        self.card = next(
            (x for x in self.top if x.options.get("class") == "answer"), None
        )
        # An appendix notebook: true as a chapter, and without its shape.
        self.lab = any(x.startswith("Lab: ") for _, _, x in self.headings)
        label = re.search(r"^\(ch-([^)]+)\)=$", self.rest, re.M)
        self.slug = label[1] if label else ""

    def named(self, *names: str) -> list[Block]:
        """Return the blocks of these kinds, in order."""
        return [x for x in self.blocks if x.name in names]

    def section_end(self, line: int) -> int:
        """Return the line of the next second-level heading."""
        later = [at for at, level, _ in self.headings if level <= 2]
        return min((x for x in later if x > line), default=10**9)

    def prose(self) -> str:
        """Return the sentences: no code, formulas, roles or addresses."""
        parts = [self.rest]
        for block in self.blocks:
            if block.name.startswith(("admonition", "prf:")):
                parts.append(block.title)
            if block.name not in (*LITERAL, "exercise"):
                parts.append(block.rest)
            parts.append(figure_of(block).get("caption", ""))
        text = "\n\n".join(parts)
        for pattern, replacement in (
            (r"<!--.*?-->", ""),
            (r"^\s*%.*$|^\(.*\)=$", ""),
            (r"\$\$.*?\$\$(\s*\([\w-]+\))?", " F "),
            (r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", " F "),
            (r"\{cite[\w:]*\}`[^`]*`", " CITED "),
            (r"\{[\w:.-]+\}(`+).+?\1", " R "),
            (r"(`+).+?\1", " C "),
            (r"(?<!\\)\$(?:\\.|[^$\\])+\$", " F "),
            (r"\]\([^)]*\)|<https?:[^>]*>|https?://\S+", "] "),
        ):
            text = re.sub(pattern, replacement, text, flags=re.S | re.M)
        return text


@cache
def chapter(path: Path) -> Chapter:
    """Read a chapter, once for all its checks."""
    return Chapter(path.read_text(encoding="utf8"))


# Cells ----------------------------------------------------------------------


def figure_of(cell: Block) -> dict[str, Any]:
    """Return the figure options of a code cell, or nothing."""
    if cell.name != "code-cell":
        return {}
    found: dict[str, Any] = cell.options.get("mystnb", {}).get("figure", {})
    return found


def tree_of(cell: Block) -> ast.AST:
    """Parse a cell; commands for IPython are no Python."""
    return ast.parse(re.sub(r"^(\s*)[%!].*", r"\1pass", cell.body, flags=re.M))


def asserts(cell: Block) -> bool:
    """Return whether a cell asserts something that could be false."""
    for node in ast.walk(tree_of(cell)):
        if isinstance(node, ast.Assert):
            if not isinstance(node.test, ast.Constant):
                return True
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).split(".")[-1]
            if name.startswith("assert_"):
                return True
    return False


def reported(cell: Block) -> Iterator[str]:
    """Yield patterns of the names that a cell reports."""
    for node in ast.walk(tree_of(cell)):
        if not isinstance(node, ast.Call):
            continue
        if ast.unparse(node.func) not in ("report", "glue"):
            continue
        names: list[ast.AST] = []
        for keyword in node.keywords:
            if keyword.arg:
                yield keyword.arg
            else:  # report(**{f"rank_{r}": ... for r in ranks})
                names += getattr(keyword.value, "keys", [])
                names += [getattr(keyword.value, "key", None)]
        for name in names:
            if isinstance(name, ast.Constant):
                yield str(name.value)
            elif isinstance(name, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else ".+"
                    for part in name.values
                )


# The book -------------------------------------------------------------------

PAGES = [ROOT / f"{page}.md" for page in parse_toc_yaml(ROOT / "_toc.yml")]
CHAPTERS = [
    page
    for page in PAGES
    if page.exists() and "format_name: myst" in page.read_text("utf8")[:500]
]
