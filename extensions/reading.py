"""The spine of a page and the depth folded under it; how long both take.

Cells tagged `check` or `record`, sections of class `depth`, proofs of class
`fold`, quizzes and hidden code: CONTRIBUTING.md says how they are written.
The folds are made when the notebook has been written, so that a notebook has
everything open and in order. They are `<details>`: no script is needed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import form
from cards import is_quiz
from docutils import nodes
from myst_nb.ext.glue.roles import PasteTextRole
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx_design.dropdown import dropdown_main
from sphinx_proof.nodes import proof_node

LOGGER = logging.getLogger(__name__)
# `assets/reading.js` does what it says; without scripts it is not shown.
UNFOLD = (
    '<button class="unfold" data-do="unfold" type="button">Unfold all</button>'
)


class Fold(nodes.General, nodes.Element):
    """A `<details>`; its first child is its summary."""

    tag = "details"


class Summary(nodes.General, nodes.TextElement):
    """A `<summary>`."""

    tag = "summary"


class Number(PasteTextRole):  # type: ignore[misc]
    """``{n}`share:.2%` ``, or of another page ``{n}`rank::share:.2%` ``."""

    text: str

    def run(self) -> Any:
        """Complete what MyST-NB wants of another page: suffix and format."""
        page, _, rest = self.text.rpartition("::")
        if page:
            rest = rest if ":" in rest else f"{rest}:s"
            self.text = f"{page.removesuffix('.md')}.md::{rest}"
        return super().run()


def fold(kind: str, inside: list[nodes.Node], *summary: nodes.Node) -> Fold:
    """Put nodes of one parent into a fold, which takes their place."""
    made = Fold(
        "", Summary("", "", *summary), classes=["fold", f"fold-{kind}"]
    )
    inside[0].parent.replace(inside[0], made)
    for node in inside[1:]:
        node.parent.remove(node)
    made.extend(inside)
    return made


def visit(self: Any, node: Any) -> None:
    """Write the start of a fold or a summary."""
    self.body.append(self.starttag(node, node.tag, ""))


def depart(self: Any, node: Any) -> None:
    """Write its end."""
    self.body.append(f"</{node.tag}>\n")


def fold_cell(app: Sphinx, cell: nodes.Element, numbers: Any) -> None:
    """Fold a check, remove a record, and name what hidden code draws."""
    tags = cell["cell_metadata"].get("tags", [])
    if "record" in tags:
        if cell.children[1:]:
            LOGGER.warning("a record cell shows something", location=cell)
        cell.parent.remove(cell)
    if "check" in tags:
        found = re.match(r"(#.*(\n|$))+", cell[0].astext())
        if not found:
            LOGGER.warning("a check begins with a comment", location=cell)
        if not form.asserts(cell[0].astext()):
            LOGGER.warning("a check asserts nothing", location=cell)
        comment = re.sub(r"\s*#\s*", " ", found[0] if found else "").strip()
        checked = nodes.emphasis("", comment)
        fold("check", [cell], nodes.Text("✓ Checked: "), checked)
    for hidden in [x for x in cell if isinstance(x, HideCodeCellNode)]:
        said = "Output" if "below-input" in hidden["classes"] else "Code"
        for name in (y for x in cell.findall(nodes.figure) for y in x["ids"]):
            number = ".".join(map(str, numbers.get(name, ["?"])))
            said += f" of {app.config.numfig_format['figure'] % number}"
        if hidden["prompt_show"] != app.config.nb_code_prompt_show:
            said = hidden["prompt_show"]  # the author's own
        inside = hidden.children[:]
        cell.replace(hidden, inside)
        made = fold("code", inside, nodes.Text(said))
        # What it shows comes first.
        cell.remove(made)
        cell.append(made)


def is_code_alone(node: nodes.Node | None) -> bool:
    """Return whether a cell is a fold "Code" and shows nothing."""
    return (
        isinstance(node, nodes.container)
        and node.get("nb_element") == "cell_code"
        and len(node.children) == 1
        and isinstance(node[0], Fold)
        and node[0][0].astext() == "Code"
    )


def join_code(cell: nodes.container) -> None:
    """Move code that shows nothing into the fold of such a cell before it."""
    place = cell.parent.index(cell)
    before: Any = cell.parent[place - 1] if place else None
    if is_code_alone(cell) and is_code_alone(before):
        before[0].extend(cell[0].children[1:])
        cell.parent.remove(cell)


def title_proof(proof: nodes.Element, folded: bool) -> None:
    """Set the word "Proof." in italics; a fold's summary has it already."""
    first = next(proof.findall(nodes.Text))
    rest = nodes.Text(first.removeprefix("Proof. "))
    word = nodes.emphasis("", "Proof.")
    first.parent.replace(
        first, rest if folded else [word, nodes.Text(" "), rest]
    )


def fold_proof(proof: nodes.Element) -> None:
    """Fold a proof of class `fold`, together with the checks that follow."""
    inside: list[nodes.Node] = [proof]
    after = proof.parent.children[proof.parent.index(proof) + 1 :]
    for node in after:
        if not isinstance(node, Fold) or "fold-check" not in node["classes"]:
            break
        inside.append(node)
    checks = len(inside) - 1
    more = f" · ✓ {checks} check{'s' * (checks > 1)}" if checks else ""
    fold("proof", inside, nodes.Text(f"Proof{more}"))


def fold_section(section: nodes.Element, minutes: float) -> None:
    """Fold what follows the first paragraph of a deep section."""
    texts = [x for x in section if isinstance(x, nodes.paragraph)]
    first = texts[0] if texts else section[0]
    rest = section.children[section.index(first) + 1 :]
    if rest:
        said = f"Read on · {max(1, round(minutes))} min"
        fold("depth", rest, nodes.Text(said))


def fold_page(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Fold a page for HTML, and say under its title how long it takes."""
    source = Path(app.env.doc2path(docname))
    if app.builder.format != "html" or source.suffix != ".md":
        return
    numbers = app.env.toc_fignumbers.get(docname, {}).get("figure", {})
    for cell in list(doctree.findall(nodes.container)):
        if cell.get("nb_element") == "cell_code":
            fold_cell(app, cell, numbers)
    for cell in list(doctree.findall(nodes.container)):
        join_code(cell)
    for proof in list(doctree.findall(proof_node)):
        hidden = "fold" in proof[0]["classes"]
        title_proof(proof, hidden)
        if hidden:
            fold_proof(proof)
    for more in list(doctree.findall(dropdown_main)):
        title, body = more.children
        more.parent.replace(more, body)
        made = fold("more", [body], *title.children[0].children)
        made["ids"] += more["ids"]
    for quiz in doctree.findall(is_quiz):
        for item in quiz.findall(nodes.list_item):
            yes = item[1].astext().startswith("Yes")
            summary = item.pop(0).children
            fold("yes" if yes else "no", item.children[:], *summary)
    chapter = form.Chapter(source.read_text(encoding="utf8"))
    top = next(doctree.findall(nodes.section))
    sections = [x for x in top if isinstance(x, nodes.section)]
    for section, read in zip(sections, chapter.sections[1:], strict=False):
        if read.deep:
            folded = [x for x in read.items if x.folded]
            fold_section(section, form.minutes(folded, folded=True))
    if "kernelspec" in app.env.metadata[docname]:
        said = times(chapter, Path(app.srcdir), docname)
        line = nodes.paragraph("", said, classes=["times"])
        if any(doctree.findall(Fold)):
            line += [nodes.Text(" "), nodes.raw("", UNFOLD, format="html")]
        top.insert(1, line)


def times(chapter: form.Chapter, root: Path, docname: str) -> str:
    """Return "15 min · 50 min with everything unfolded · runs in 30 s"."""
    some, every = (
        max(1, round(form.minutes(chapter.items, folded=x)))
        for x in (False, True)
    )
    said = [f"{some} min"]
    if every > some:
        said.append(f"{every} min with everything unfolded")
    runs = root / "_build" / "runs.json"
    log = json.loads(runs.read_text()) if runs.exists() else {}
    if docname in log:
        seconds = max(10, round(log[docname]["seconds"], -1))
        said.append(f"runs in {seconds:.0f} s")
    return " · ".join(said)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_node(Fold, html=(visit, depart))
    app.add_node(Summary, html=(visit, depart))
    app.add_role("n", Number())
    app.add_js_file("reading.js", loading_method="defer")
    # After the notebook has been written, at 400.
    app.connect("doctree-resolved", fold_page, priority=600)
    return {"version": "1", "parallel_read_safe": True}
