"""What the search finds: the sections of the book, their titles and numbers.

Sphinx's own index has words without their order, of whole pages, and forgets
a part of it in every rebuild. Here each page leaves its sections in a file
when it is written, and all of them together become a script that the search
page loads (`assets/search.js`).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from docutils import nodes
from markdown import bare, expand
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

INDEX = "searchindex.js"
# How readers call what Sphinx numbers under another name.
KINDS = {"displaymath": "equation", "code-block": "listing"}
SIGNS = {
    "approx": "≈",
    "cdot": "·",
    "dots": "…",
    "ge": "≥",
    "in": "∈",
    "infty": "∞",
    "ldots": "…",
    "le": "≤",
    "lVert": "‖",
    "lvert": "|",
    "nabla": "∇",
    "ne": "≠",
    "rVert": "‖",
    "rvert": "|",
    "sqrt": "√",
    "sum": "Σ",
    "times": "×",
    "to": "→",
    "top": "ᵀ",
}
UNSAID = (nodes.Invisible, nodes.raw, nodes.image, addnodes.glossary)


def plain(tex: str) -> str:
    r"""Return a formula as a line of text: `\Delta W` is ΔW, more or less."""

    def sign(match: re.Match[str]) -> str:
        name = match[1]
        size = "SMALL" if name.islower() else "CAPITAL"
        greek = f"GREEK {size} LETTER {name.upper()}"
        try:
            return unicodedata.lookup(greek)
        except KeyError:
            return SIGNS.get(name, "") + match[2]

    text = re.sub(r"\\\\|\\(?:begin|end)\{\w+\*?\}", " ", tex)
    text = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(r"\\([A-Za-z]+)( ?)", sign, text)
    return re.sub(r"[\\{}$_^&~]+", "", text)


@dataclass
class Words:
    """The words of a part of a page, and the names in its code."""

    macros: dict[str, Any]  # of TeX
    code: set[str] = field(default_factory=set)

    def __call__(self, node: nodes.Node) -> str:
        """Return the text of a node without code, sections and titles."""
        return " ".join(self.text(node).split())

    def text(self, node: nodes.Node) -> str:
        """Return it with the spaces that it has."""
        if isinstance(node, nodes.Text):
            return node.astext()
        if isinstance(node, nodes.math | nodes.math_block):
            return plain(expand(bare(node.astext()), self.macros))
        if isinstance(node, nodes.literal_block):
            self.code.update(re.findall(r"[A-Za-z_]\w{3,}", node.astext()))
            return ""
        if isinstance(node, UNSAID) or is_output(node):
            return ""
        children = node.children
        if is_titled(node):
            children = [x for x in children[1:] if not is_titled(x)]
        between = "" if isinstance(node, nodes.TextElement) else " "
        return between.join(map(self.text, children))


def is_output(node: nodes.Node) -> bool:
    """Return whether a node is what a cell printed; captions are none."""
    return (
        isinstance(node, nodes.container)
        and "output" in node.get("classes", [])
        and not any(node.findall(nodes.caption))
    )


def is_titled(node: nodes.Node) -> TypeGuard[nodes.section]:
    """Return whether a node is a section; boxes have untitled ones inside."""
    return isinstance(node, nodes.section) and isinstance(node[0], nodes.title)


def sections(
    doctree: nodes.document, uri: str, macros: dict[str, Any]
) -> Iterator[list[str]]:
    """Yield the place, the title, the text and the names in code."""
    found = filter(is_titled, doctree.findall(nodes.section))
    for number, section in enumerate(found):
        words = Words(macros)
        title, text = words(section[0]), words(section)
        place = f"{uri}#{section['ids'][0]}" if number else uri
        yield [place, title, text, " ".join(sorted(words.code))]
    for term in doctree.findall(nodes.term):
        if term["ids"]:
            words = Words(macros)
            text = words(term.parent.children[-1])
            yield [f"{uri}#{term['ids'][0]}", words(term), text, ""]


def kept(app: Sphinx, docname: str) -> Path:
    """Return where the sections of a page are kept between builds."""
    return Path(app.outdir).parent / "search" / f"{docname}.json"


def find_missing(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Return the pages to write again because their sections are gone."""
    del added, changed
    if app.builder.format != "html":
        return []
    for page in removed:
        kept(app, page).unlink(missing_ok=True)
    return [x for x in env.found_docs if not kept(app, x).exists()]


def keep_sections(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Leave the sections of a page for the index."""
    if app.builder.format == "html":
        path = kept(app, docname)
        path.parent.mkdir(parents=True, exist_ok=True)
        uri = app.builder.get_target_uri(docname)
        macros = (app.config.mathjax3_config or {}).get("tex", {})
        found = list(sections(doctree, uri, macros.get("macros", {})))
        path.write_text(json.dumps(found, ensure_ascii=False), "utf8")


def numbers(app: Sphinx) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield "theorem 4.2" and the like, with the place and a title."""
    env = app.env
    for page, by_kind in sorted(env.toc_fignumbers.items()):
        uri = app.builder.get_target_uri(page)
        for kind, found in by_kind.items():
            for anchor, number in found.items():
                said = ".".join(map(str, number))
                name = f"{KINDS.get(kind, kind)} {said}"
                where = f"{uri}#{anchor}"
                yield name, {"place": where, "title": name.capitalize()}
    for page, numbered in sorted(env.toc_secnumbers.items()):
        if chapter := numbered.get(""):
            name = f"chapter {'.'.join(map(str, chapter))}"
            uri = app.builder.get_target_uri(page)
            yield name, {"place": uri, "title": env.titles[page].astext()}


def write_index(app: Sphinx, exception: Exception | None) -> None:
    """Write the index of all pages."""
    if exception or app.builder.format != "html":
        return
    pages = sorted(app.env.found_docs)
    found = [
        section
        for page in pages
        for section in json.loads(kept(app, page).read_text("utf8"))
    ]
    index = {
        "pages": {
            app.builder.get_target_uri(page): app.env.titles[page].astext()
            for page in pages
        },
        "numbers": dict(numbers(app)),
        "sections": found,
    }
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    path = Path(app.outdir) / INDEX
    path.write_text(f"const SEARCH_INDEX = {text};\n", "utf8")


def without_index(app: Sphinx) -> None:
    """Tell Sphinx to write no index, and no page for it."""
    app.builder.search = False  # type: ignore[attr-defined]


def add_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the search page, which the theme has a template for."""
    if app.builder.format == "html":
        yield "search", {}, "search.html"


def add_scripts(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Load the search where it is used."""
    del templatename, context, doctree
    if pagename == "search":
        app.add_js_file("search.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("builder-inited", without_index)
    app.connect("env-get-outdated", find_missing)
    app.connect("doctree-resolved", keep_sections, priority=400)
    app.connect("html-collect-pages", add_page)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_index)
    return {"version": "1", "parallel_read_safe": True}
