"""Fonts and style sheets, cut to what the pages of the book use.

What was cut is kept beside the site: most builds want the same again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont

# It would say of every table of every font that it was kept or dropped.
logging.getLogger("fontTools").setLevel(logging.ERROR)


class Cuts:
    """What was cut before, by what it was cut from, and to what."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rules = Path(__file__).read_bytes()

    def __call__(
        self, source: bytes, uses: str, cut: Callable[[], bytes]
    ) -> bytes:
        """Return what `cut` makes of a source for these uses."""
        parts = self.rules, source, uses.encode()
        key = hashlib.sha256(b"".join(map(hash_of, parts))).hexdigest()
        kept = self.folder / key
        if kept.exists():
            kept.touch()
            return kept.read_bytes()
        self.folder.mkdir(parents=True, exist_ok=True)
        made = cut()
        # Whole or not at all, wherever a build is interrupted.
        new = kept.with_suffix(".new")
        new.write_bytes(made)
        new.replace(kept)
        return made

    def forget(self, but: int = 500) -> None:
        """Remove all but the cuts that were wanted last."""
        by_age = sorted(self.folder.glob("*"), key=lambda x: x.stat().st_mtime)
        for path in by_age[:-but]:
            path.unlink()


def hash_of(content: bytes) -> bytes:
    """Return a digest."""
    return hashlib.sha256(content).digest()


# Fonts ----------------------------------------------------------------------


def cut_font(font: Path, characters: Iterable[str] | None) -> bytes:
    """Return a font of these characters alone, or of all, as WOFF2.

    It says when it was made, which must not be now: two builds of one book
    are equal.
    """
    cut = TTFont(font, recalcTimestamp=False)
    if characters is not None:
        # Of its names, those of the owner and the licence: what was cut may
        # no longer bear the font's own.
        # Screens of today need no hints.
        options = subset.Options(
            notdef_outline=True,
            name_IDs=[0, 13, 14],
            hinting=False,
            layout_features=["kern", "liga"],
        )
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=[ord(x) for x in characters])
        subsetter.subset(cut)
    cut.flavor = "woff2"
    to = io.BytesIO()
    cut.save(to)
    return to.getvalue()


def css_string(value: str) -> str:
    r"""Return what a CSS string shows: `\2211 x` is `∑x`."""

    def character(match: re.Match[str]) -> str:
        code, other = match.groups()
        return chr(int(code, 16)) if code else other

    return re.sub(r"\\(?:([0-9A-Fa-f]{1,6})\s?|(.))", character, value)


STRING = r"""(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')"""
ADDRESS = re.compile(r"""url\(\s*(?:"[^"]*"|'[^']*'|[^)]*)\s*\)""")
SHOWS = re.compile(
    rf"""(?:content|--[\w-]+)\s*:(?:{STRING}|[^;{{}}"'])*""", re.S
)


def shown_by(css: str) -> set[str]:
    """Return the characters that a style sheet shows by itself."""
    shown: set[str] = set()
    for declaration in SHOWS.finditer(ADDRESS.sub("", css)):
        for double, single in re.findall(STRING, declaration[0], re.S):
            shown.update(css_string(double or single))
    return shown


# Style sheets ---------------------------------------------------------------


def cut_style(css: str, names: set[str]) -> bytes:
    """Return a style sheet without the rules that nothing can match.

    A rule goes when it names a class or an id that is none of `names`.
    """
    rules = tinycss2.parse_stylesheet(
        css, skip_comments=True, skip_whitespace=True
    )
    return trim(rules, names).encode()


def names_in(css: str) -> set[str]:
    """Return at least the names of the classes and ids in a style sheet."""
    found = re.findall(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)", css)
    return {name.replace("\\", "") for name in found}


def trim(rules: Iterable[Any], names: set[str]) -> str:
    """Write the rules of which at least one selector can match."""
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [
                selector
                for selector in split_selectors(rule.prelude)
                if can_match(selector, names)
            ]
            if selectors:
                body = tinycss2.serialize(rule.content)
                kept.append(f"{','.join(selectors)}{{{body}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in (
            "media",
            "supports",
        ):
            inside = tinycss2.parse_rule_list(
                rule.content, skip_comments=True, skip_whitespace=True
            )
            if body := trim(inside, names):
                condition = tinycss2.serialize(rule.prelude)
                kept.append(f"@{rule.at_keyword}{condition}{{{body}}}")
        else:
            kept.append(rule.serialize())
    return "".join(kept)


def split_selectors(prelude: Iterable[Any]) -> list[str]:
    """Split a list of selectors at its own commas."""
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tinycss2.serialize(part).strip() for part in parts]


def can_match(selector: str, names: set[str]) -> bool:
    """Return whether every class and id of a selector is one of `names`."""
    # What stands in :not(), :is() ... need not be there for a match.
    before = ""
    while before != selector:
        before = selector
        selector = re.sub(r":(?:not|is|where|has)\([^()]*\)", "", selector)
    return names_in(selector) <= names
