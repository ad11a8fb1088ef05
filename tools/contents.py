"""What stands in the book, and in which order."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from sphinx_external_toc.parsing import MalformedError, parse_toc_yaml


class ContentsError(Exception):
    """`_toc.yml` cannot be read, or names what is not there."""


def pages(root: Path) -> list[str]:
    """Return the pages that `_toc.yml` names, in reading order.

    Raises
    ------
    ContentsError
        If that file is missing or malformed, or if a page is missing.
    """
    try:
        toc = parse_toc_yaml(root / "_toc.yml")
    except (OSError, MalformedError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise ContentsError(f"_toc.yml cannot be read: {why}") from None
    found = [str(page).removesuffix(".md") for page in toc]
    for page in found:
        if not (root / f"{page}.md").is_file():
            raise ContentsError(
                f"_toc.yml names {page}, but there is no {page}.md"
            )
    return found


def parts(root: Path) -> list[str]:
    """Return the captions of the book's parts, in reading order."""
    toc = parse_toc_yaml(root / "_toc.yml")
    return [str(part.caption) for part in toc.root.subtrees]


def is_chapter(path: Path) -> bool:
    """Return whether a page is a text notebook (jupytext, MyST format)."""
    head = path.read_text(encoding="utf8")[:1000]
    return re.search(r"^\s*format_name:\s*myst\s*$", head, re.M) is not None


def chapters(root: Path) -> list[str]:
    """Return the pages that are executed, in reading order."""
    return [page for page in pages(root) if is_chapter(root / f"{page}.md")]
