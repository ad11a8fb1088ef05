"""Write a resolved page as GitHub-flavoured Markdown with `$...$` formulas.

A chapter's MyST (roles, directives, glued numbers, numbered equations) means
nothing to plain Jupyter, Colab or VS Code. `Writer` takes the document after
Sphinx has resolved all of it, and returns blocks of Markdown, among them the
places of the code cells.
"""

from __future__ import annotations

import base64
import html
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urljoin, urlsplit

from docutils import nodes
from sphinx.application import Sphinx

TOKEN = re.compile(r"\\(?:[A-Za-z]+|.|$)|.", re.S)
CONTROL_WORD = re.compile(r"(?<!\\)(?:\\\\)*\\[A-Za-z]+$")
RULES = {"text-left": ":--", "text-center": ":-:", "text-right": "--:"}


# Formulas -------------------------------------------------------------------


def bare(tex: str) -> str:
    """Return a formula without comments and labels."""
    return re.sub(r"[ \t]*(?<!\\)%.*|\\label\{[^}]*\}", "", tex).strip()


def expand(tex: str, macros: dict[str, Any], depth: int = 0) -> str:
    r"""Replace the site's TeX macros by what they stand for.

    Plain Jupyter does not know them, and KaTeX (VS Code) forgets a
    `\newcommand` at the end of its formula.

    Parameters
    ----------
    tex
        A formula.
    macros
        As MathJax takes them: `name -> body` or `name -> [body, n]`, with
        `#1` to `#n` in the body.
    depth
        How many expansions enclose this one.

    Raises
    ------
    ValueError
        If an argument is missing, or a macro stands for itself.
    """
    if depth > 50:
        raise ValueError(f"a macro in {tex!r} stands for itself")
    parts: list[str] = []
    at = 0
    while at < len(tex):
        token = _token(tex, at)
        at += len(token)
        macro = macros.get(token[1:]) if token[0] == "\\" else None
        if macro is None:
            parts.append(token)
            continue
        body, count = (macro, 0) if isinstance(macro, str) else macro
        arguments = []
        for _ in range(count):
            argument, at = _argument(tex, at)
            arguments.append(argument)
        pieces = re.split(r"#([1-9])", body)
        pieces[1::2] = [arguments[int(number) - 1] for number in pieces[1::2]]
        meaning = expand(_join(pieces), macros, depth + 1)
        # A script takes one token, and the meaning may be several.
        script = "".join(parts).rstrip()[-1:] in ("^", "_")
        parts.append(f"{{{meaning}}}" if script else meaning)
    return _join(parts)


def _token(tex: str, at: int) -> str:
    """Return the TeX token at a position: a control sequence or a letter."""
    match = TOKEN.match(tex, at)
    assert match
    return match[0]


def _argument(tex: str, at: int) -> tuple[str, int]:
    """Return a macro's argument without its braces, and where it ends."""
    at += len(tex[at:]) - len(tex[at:].lstrip())
    start, level = at, 0
    while at < len(tex):
        token = _token(tex, at)
        at += len(token)
        level += (token == "{") - (token == "}")
        if level == 0:
            found = tex[start:at]
            return (found[1:-1] if token == "}" else found), at
    raise ValueError(f"a macro in {tex!r} lacks an argument")


def _join(parts: list[str]) -> str:
    r"""Join pieces of TeX; `\lVert` and `x` must not become `\lVertx`."""
    joined = ""
    for part in parts:
        if re.match("[A-Za-z]", part) and CONTROL_WORD.search(joined):
            joined += " "
        joined += part
    return joined


def outside_environments(tex: str) -> str:
    """Return what is left of a formula without matrices, cases, ..."""
    inner = r"\\begin\{(\w+\*?)\}(?:(?!\\begin).)*?\\end\{\1\}"
    while (rest := re.sub(inner, "", tex, flags=re.S)) != tex:
        tex = rest
    return tex


def display(tex: str, number: str = "", environment: bool = False) -> str:
    r"""Return the inside of a `$$` block for MathJax and KaTeX alike.

    `\tag` is an error beside `align`, so an amsmath environment becomes its
    inner form. Lines without an environment get one, as on the site.
    """
    tex = tex.strip()
    if environment:
        tex = re.sub(r"\\(begin|end)\{equation\*?\}", "", tex).strip()
        tex = re.sub(
            r"\\(begin|end)\{(align|alignat|gather)\*?\}", r"\\\1{\2ed}", tex
        )
        tex = re.sub(r"\\(begin|end)\{multline\*?\}", r"\\\1{gathered}", tex)
    elif r"\\" in outside_environments(tex):
        tex = rf"\begin{{aligned}} {tex} \end{{aligned}}"
    return rf"{tex} \tag{{{number}}}" if number else tex


# Text -----------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """The place of a code cell, by its index in the chapter's source."""

    index: int


Block: TypeAlias = str | Code


def escape(text: str) -> str:
    """Escape what Markdown or a formula would take for its own.

    A space that must not break a line stays one.
    """
    special = r"[\\`*<$]|(?<!\w)_|_(?!\w)|~(?=~)|&(?=#?\w+;)|\](?=[(\[:])"
    return re.sub(special, r"\\\g<0>", re.sub(r"[^\S\u00a0]+", " ", text))


def ticks(text: str) -> str:
    """Return backticks, one more than any run of them in a text."""
    return "`" * (1 + max(map(len, re.findall("`+", text)), default=0))


def nest(blocks: list[Block], first: str, rest: str, gap: str = "\n\n") -> str:
    """Return blocks as one whose lines begin with `first`, then `rest`.

    Formulas come to stand on one line: front ends would take the beginning
    of a line (`> `) for a part of the formula.
    """
    text = re.sub(
        r"^\$\$\n(.*?)\n\$\$$",
        lambda formula: f"$${' '.join(formula[1].split())}$$",
        gap.join(block for block in blocks if isinstance(block, str)),
        flags=re.S | re.M,
    )
    lines = text.split("\n")
    others = [f"{rest}{line}".rstrip() for line in lines[1:]]
    return "\n".join([first + lines[0], *others])


def quoted(blocks: list[Block]) -> list[Block]:
    """Return blocks as a block quote; code cells cannot be in one."""
    if any(isinstance(block, Code) for block in blocks):
        return blocks
    return [nest(blocks, "> ", "> ")]


def within(node: nodes.Node, *kinds: type) -> bool:
    """Return whether a node lies inside one of these kinds."""
    parent = node.parent
    return parent is not None and (
        isinstance(parent, kinds) or within(parent, *kinds)
    )


class Writer:
    """Turn the resolved document of a page into Markdown blocks.

    A method `block_KIND` or `inline_KIND` writes the nodes of class KIND or
    derived from it. What has no method is written as what it contains.
    """

    def __init__(self, app: Sphinx, docname: str) -> None:
        config = app.config
        mathjax = config.mathjax3_config or {}
        self.macros = mathjax.get("tex", {}).get("macros", {})
        self.formats = config.numfig_format
        self.numbers = app.env.toc_fignumbers.get(docname, {})
        number = app.env.toc_secnumbers.get(docname, {}).get("") or ()
        self.chapter = "".join(f"{part}." for part in number)
        self.folder = Path(app.srcdir)
        # A notebook travels: the address of a preview is of no use in it.
        base = config.html_baseurl
        local = urlsplit(base).hostname in (None, "localhost", "127.0.0.1")
        uri = app.builder.get_target_uri(docname)
        self.page = "" if local else urljoin(base, uri)

    def number(self, kind: str, node: nodes.Element) -> str:
        """Return the number that the site shows for a node, or nothing."""
        numbers = self.numbers.get(kind, {})
        found = next((numbers[x] for x in node["ids"] if x in numbers), ())
        return ".".join(map(str, found))

    def label(self, kind: str, node: nodes.Element) -> str:
        """Return "Fig. 3" or the like, as references to it say, or nothing."""
        number = self.number(kind, node)
        return self.formats[kind] % number if number else ""

    # Blocks

    def block(self, node: nodes.Node) -> list[Block]:
        """Return one node as Markdown blocks and code cells."""
        for kind in type(node).__mro__:
            method = getattr(self, f"block_{kind.__name__}", None)
            if method:
                return list(method(node))
        if isinstance(node, nodes.Text | nodes.Inline):
            return self.paragraph(self.inline(node))
        if isinstance(node, nodes.TextElement):
            return self.paragraph(self.text(node))
        return self.blocks(node)

    def blocks(self, node: nodes.Node, start: int = 0) -> list[Block]:
        """Return a node's children, from one on, as Markdown blocks."""
        return [
            x for child in node.children[start:] for x in self.block(child)
        ]

    def paragraph(self, text: str) -> list[Block]:
        """Return a paragraph whose start cannot pass for a list or heading."""
        text = re.sub(r"^(\d+)(?=[.)]\s)", r"\1\\", text.strip())
        text = re.sub(r"^(?=[-+#>=]|~~~)", r"\\", text)
        return [text] if text else []

    def block_Invisible(self, node: nodes.Node) -> list[Block]:
        """Leave out comments, targets, index entries and the like."""
        return []

    block_meta = block_label = block_colspec = block_Invisible

    def block_title(self, node: nodes.Element) -> list[Block]:
        """Write a heading, or a bold line where there is no section."""
        if isinstance(node.parent, nodes.section):
            top = isinstance(node.parent.parent, nodes.document)
            return [self.heading(node, self.chapter if top else "")]
        return [f"**{self.text(node)}**"]

    block_rubric = block_dropdown_title = block_sd_tab_label = block_title

    def heading(
        self, title: nodes.Node, before: str = "", add: int = 0
    ) -> str:
        """Return a heading, at the level of its section or lower."""
        level, node = add, title
        while node := node.parent:
            level += isinstance(node, nodes.section)
        words = "#" * min(level, 6), before, self.text(title)
        return " ".join(word for word in words if word)

    def block_bullet_list(self, node: nodes.Element) -> list[Block]:
        """Write a list; it is tight where each item is one paragraph."""
        numbered = isinstance(node, nodes.enumerated_list)
        loose = any(
            sum(not isinstance(x, nodes.Sequential) for x in item.children) > 1
            for item in node.children
        )
        gap = "\n\n" if loose else "\n"
        items = []
        for i, item in enumerate(node.children, node.get("start", 1)):
            marker = f"{i}. " if numbered else "- "
            pad = " " * len(marker)
            items.append(nest(self.blocks(item), marker, pad, gap))
        return [gap.join(items)]

    block_enumerated_list = block_bullet_list

    def block_definition_list_item(self, node: nodes.Element) -> list[Block]:
        """Write a bullet for a term: Markdown has no definition lists."""
        blocks = self.blocks(node)
        return [nest(blocks, "- ", "  ")]

    block_term = block_title

    def block_block_quote(self, node: nodes.Element) -> list[Block]:
        """Write a block quote."""
        return quoted(self.blocks(node))

    def block_Admonition(self, node: nodes.Element) -> list[Block]:
        """Write a bold title and what stands below it, as a block quote."""
        titled = isinstance(node.children[0], nodes.title)
        name = self.text(node[0]) if titled else type(node).__name__.title()
        if "realtype" in node:  # of sphinx-proof: "Theorem 2 (its title)"
            number = self.number(node["countertype"], node)
            name = f"{node['realtype'].title()} {number} {name}"
        title = f"**{' '.join(name.split())}**"
        return quoted([title, *self.blocks(node, int(titled))])

    def block_proof_node(self, node: nodes.Element) -> list[Block]:
        """Write a proof as running text."""
        blocks = self.blocks(node[0])
        if isinstance(blocks[0], str):
            blocks[0] = re.sub(r"^Proof\. *", "*Proof.* ", blocks[0])
        return blocks

    def block_exercise_node(self, node: nodes.Element) -> list[Block]:
        """Write an exercise below a heading: front ends can fold it."""
        label = self.label("exercise", node)
        return [self.heading(node[0], label, 1), *self.blocks(node, 1)]

    block_exercise_enumerable_node = block_exercise_node

    def block_solution_node(self, node: nodes.Element) -> list[Block]:
        """Write a solution below a heading, one level under its exercise."""
        return [self.heading(node[0], add=2), *self.blocks(node, 1)]

    def block_transition(self, node: nodes.Node) -> list[Block]:
        """Write a rule."""
        return ["---"]

    def block_literal_block(self, node: nodes.Element) -> list[Block]:
        """Write code that is not to be run."""
        text, language = node.astext(), node.get("language", "")
        fence = max("```", ticks(text), key=len)
        known = {"ipython3": "python", "none": "", "default": ""}
        return [f"{fence}{known.get(language, language)}\n{text}\n{fence}"]

    def block_math_block(self, node: nodes.Element) -> list[Block]:
        """Write a displayed formula with the number it has on the site."""
        number = ""
        if node.get("number"):
            number = self.number("displaymath", node) or str(node["number"])
        tex = display(self.tex(node), number, node.get("nowrap", False))
        return [f"$$\n{tex}\n$$"]

    def block_table(self, node: nodes.Element) -> list[Block]:
        """Write a table; one without a head gets an empty one."""
        found: list[Any] = list(node.findall(nodes.row))
        rows = [[self.cell(entry) for entry in row.children] for row in found]
        if not any(node.findall(nodes.thead)):
            rows.insert(0, [""] * len(rows[0]))
        rules = []
        for entry in found[0].children:
            rule = [RULES[name] for name in entry["classes"] if name in RULES]
            rules.append(rule[0] if rule else "---")
        rows.insert(1, rules)
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        titles = [x for x in node.children if isinstance(x, nodes.title)]
        return [*(self.caption("table", title) for title in titles), table]

    def cell(self, entry: nodes.Element) -> str:
        """Return the content of a table's cell, which is one line."""
        blocks = [x for x in self.blocks(entry) if isinstance(x, str)]
        return "<br>".join(blocks).replace("\n", " ")

    def caption(self, kind: str, caption: nodes.Element) -> str:
        """Return a caption in italics, with its number."""
        label = self.label(kind, caption.parent)
        return f"*{label + '. ' if label else ''}{self.text(caption)}*"

    def block_caption(self, node: nodes.Element) -> list[Block]:
        """Write a figure's caption."""
        return [self.caption("figure", node)]

    def block_container(self, node: nodes.Element) -> list[Block]:
        """Write a code cell's place and its figures' captions."""
        if node.get("nb_element") != "cell_code":
            return self.blocks(node)
        captions = node.findall(nodes.caption)
        return [
            Code(node["cell_index"]),
            *(self.caption("figure", caption) for caption in captions),
        ]

    def block_raw(self, node: nodes.Element) -> list[Block]:
        """Write HTML; an explorable needs scripts that only the site has."""
        text = self.inline_raw(node).strip()
        if re.search(r"<(script|[a-z]+-[a-z-]+)\b", text):
            page = f"[web page]({self.page})" if self.page else "web page"
            text = (
                f"*On the {page} of this chapter, this part is interactive.*"
            )
        return [text] if text else []

    def block_footnote(self, node: nodes.Element) -> list[Block]:
        """Write a footnote, which plain Jupyter cannot link."""
        first, *rest = self.blocks(node)
        return [f"<sup>{node[0].astext()}</sup> {first}", *rest]

    # Inline

    def text(self, node: nodes.Node) -> str:
        """Return the children of a node as one line of Markdown."""
        return "".join(self.inline(child) for child in node.children).strip()

    def inline(self, node: nodes.Node) -> str:
        """Return one inline node as Markdown."""
        for kind in type(node).__mro__:
            method = getattr(self, f"inline_{kind.__name__}", None)
            if method:
                return str(method(node))
        return "".join(self.inline(child) for child in node.children)

    def inline_Text(self, node: nodes.Text) -> str:
        """Write words."""
        text = escape(node.astext())
        return text.replace("|", r"\|") if within(node, nodes.entry) else text

    def inline_emphasis(self, node: nodes.Element) -> str:
        """Write emphasis; in a caption everything has it."""
        mark = "" if within(node, nodes.caption, nodes.emphasis) else "*"
        return f"{mark}{self.text(node)}{mark}"

    def inline_strong(self, node: nodes.Element) -> str:
        """Write strong emphasis; titles and terms have it."""
        has = (nodes.title, nodes.term, nodes.rubric, nodes.strong)
        mark = "" if within(node, *has) else "**"
        return f"{mark}{self.text(node)}{mark}"

    def inline_literal(self, node: nodes.Element) -> str:
        """Write code."""
        text = " ".join(node.astext().split())
        mark, space = ticks(text), " " if text.strip("`") != text else ""
        if within(node, nodes.entry):
            text = text.replace("|", r"\|")
        return f"{mark}{space}{text}{space}{mark}"

    def tex(self, node: nodes.Element) -> str:
        """Return a formula without comments, labels and macros."""
        return expand(bare(node.astext()), self.macros)

    def inline_math(self, node: nodes.Element) -> str:
        """Write a formula on one line; a bar would end a table's cell."""
        tex = " ".join(self.tex(node).split())
        if within(node, nodes.entry):
            tex = tex.replace(r"\|", r"\Vert ").replace("|", r"\vert ")
        return f"${tex}$"

    def inline_reference(self, node: nodes.Element) -> str:
        """Write a link, or words if its target has no address to travel."""
        text, uri = self.text(node), node.get("refuri", "")
        if node.get("internal"):
            uri = urljoin(self.page, uri) if self.page and uri else ""
        if not uri or uri.startswith("#"):
            return text
        uri = quote(uri, safe="/:?#[]@!$&'*+,;=%~")
        return f"<{uri}>" if uri == node.astext() else f"[{text}]({uri})"

    def inline_footnote_reference(self, node: nodes.Element) -> str:
        """Write a footnote's number."""
        return f"<sup>{self.text(node)}</sup>"

    def inline_raw(self, node: nodes.Element) -> str:
        """Write HTML such as a line break, but no icons."""
        text = node.astext() if "html" in node.get("format", "") else ""
        return "" if text.startswith("<svg") else text

    def inline_image(self, node: nodes.Element) -> str:
        """Write a picture inline: JupyterLab attaches no SVG to a cell."""
        uri, alt = node["uri"], html.escape(node.get("alt", ""))
        path, kind = self.folder / uri, mimetypes.guess_type(uri)[0]
        if path.is_file() and kind:
            content = base64.b64encode(path.read_bytes()).decode()
            uri = f"data:{kind};base64,{content}"
        return f'<img alt="{alt}" src="{uri}">'
