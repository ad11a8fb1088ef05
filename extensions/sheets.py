"""One style sheet in place of a dozen: a page is drawn when it has them all.

The theme loads one file after the other, and the first of them asks for a
further one. On a slow network that is a second of white page.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from sphinx.errors import ExtensionError

JOINED = "styles.css"
LINK = re.compile(r'<link\b[^>]*\brel="stylesheet"[^>]*>')
ADDRESS = re.compile(r'href="([^":?]*?_static/)([^"?]+\.css)')
PARTS = re.compile(r'data-parts="([^"]*)"')
IMPORT = re.compile(r"""@import\s+["']([^"']+)["']\s*;""")
URL = re.compile(r"""url\(\s*(["']?)(?!data:|#|/|\w+:)([^"')]+)\1\s*\)""")


def with_one_link(text: str) -> tuple[str, list[str]]:
    """Return a page that loads one style sheet, and the names of its parts.

    The link names the parts, so that doing this again changes nothing. What
    is for some media only stays by itself, as what is none of the site's own.
    """
    parts: dict[str, None] = {}
    folder = ""
    for link in LINK.findall(text):
        if (found := ADDRESS.search(link)) and "media=" not in link:
            folder = folder or found[1]
            known = PARTS.search(link)
            parts |= dict.fromkeys(known[1].split() if known else [found[2]])
    one = (
        f'<link rel="stylesheet" href="{folder}{JOINED}" '
        f'data-parts="{" ".join(parts)}" />'
    )
    first = True

    def joined(match: re.Match[str]) -> str:
        nonlocal first
        if "media=" in match[0] or not ADDRESS.search(match[0]):
            return match[0]
        kept, first = one if first else "", False
        return kept

    return LINK.sub(joined, text), list(parts)


def in_order(pages: Iterable[list[str]]) -> list[str]:
    """Return all parts of all pages, in the order that each page has."""
    order: list[str] = []
    for parts in sorted(pages, key=lambda x: (-len(x), x)):
        at = len(order)
        for name in reversed(parts):
            if name in order:
                at = order.index(name)
            else:
                order.insert(at, name)
    return order


def flat(static: Path, name: str, used: set[str]) -> str:
    """Return a style sheet with what it imports, as if it lay in `static`.

    The names of the files that were read are added to `used`.
    """
    css = (static / name).read_text(encoding="utf8")
    used.add(name)
    folder = posixpath.dirname(name)

    def moved(match: re.Match[str]) -> str:
        return f'url("{posixpath.normpath(posixpath.join(folder, match[2]))}")'

    def imported(match: re.Match[str]) -> str:
        other = posixpath.normpath(posixpath.join(folder, match[1]))
        return flat(static, other, used)

    css = re.sub(r'^@charset "[^"]*";', "", css, flags=re.I)
    return IMPORT.sub(imported, URL.sub(moved, css))


def join(static: Path, parts: list[str]) -> None:
    """Write the one style sheet, and remove what it is made of.

    Where no page was written, it is there already, and what an extension
    writes in every build besides is part of it.
    """
    there = [name for name in parts if (static / name).exists()]
    if len(there) < len(parts) and (static / JOINED).exists():
        for name in there:
            (static / name).unlink()
        return
    used: set[str] = set()
    css = "\n".join(flat(static, name, used) for name in parts)
    # Behind other rules, a browser would pass over it.
    if "@import" in css:
        raise ExtensionError("a style sheet has an @import that cannot move")
    (static / JOINED).write_text(css, encoding="utf8")
    for name in used:
        (static / name).unlink()
