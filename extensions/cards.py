"""What the book asks and answers: quizzes, cards, the list of questions.

A chapter has a card, an admonition of class `answer` below its title. The
directive `{cards}` shows all of them; `{questions} GROUP` lists the sections
of one group (a class on the heading), each with its answer: the sentence
marked `[...]{.answer}`, or else the section's first. `{quiz}` asks a reader,
and the role `{minutes}` adds up how long pages take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import form
from docutils import nodes
from myst_nb.ext.glue.utils import PendingGlueReference
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

LOGGER = logging.getLogger(__name__)
# What a page may collect from all others, besides the numbers of one.
TEXTS, TIMES = "*texts", "*times"


class Collected(nodes.General, nodes.Element):
    """The place of all cards, or of a group's questions."""


def is_quiz(node: nodes.Node) -> bool:
    """Return whether a node is a quiz."""
    return isinstance(node, nodes.container) and "quiz" in node["classes"]


class Quiz(SphinxDirective):
    """A question, choices, and under each its verdict: Yes or No."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the question and the list of choices."""
        words, _ = self.state.inline_text(self.arguments[0], self.lineno)
        question = nodes.paragraph("", "", nodes.strong("", "", *words))
        quiz = nodes.container("", question, classes=["quiz"])
        self.state.nested_parse(self.content, self.content_offset, quiz)
        choices = list(quiz.findall(nodes.list_item))
        verdicts = {
            re.split(r"\W", x[1].astext())[0] if x.children[1:] else "nothing"
            for x in choices
        }
        if any(re.search(r"\. - [A-Z]", x.astext()) for x in choices):
            raise self.error("a choice of this quiz stands in a line's middle")
        if len(choices) < 2 or verdicts != {"Yes", "No"}:
            raise self.error(
                "a quiz is a list of choices; under each stands a paragraph "
                f"that begins with Yes or No, not with {sorted(verdicts)}"
            )
        return [quiz]


class Collect(SphinxDirective):
    """`{cards}`, or `{questions}` of a group: made from all chapters."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Leave a place; it is filled when all chapters have been read."""
        group = (self.arguments or [""])[0]
        if (self.name == "questions") != (group in form.GROUPS):
            raise self.error(f"questions of which of {list(form.GROUPS)}?")
        return [Collected("", group=group)]


class Total(nodes.General, nodes.Element):
    """The place of a time that pages take together."""


class Minutes(SphinxRole):
    """How long pages take: "1 h 5 min", of what is open.

    Its text is their names, or `all` for the chapters; with `unfolded` before
    them, proofs, code and folded sections count.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Leave a place; it is filled when all chapters have been read."""
        pages = self.text.split()
        unfolded = pages[:1] == ["unfolded"]
        place = Total("", pages=pages[unfolded:], unfolded=unfolded)
        self.set_source_info(place)
        return [place], []


class Fill(SphinxPostTransform):
    """Put cards and questions in their places; then links are resolved."""

    default_priority = 1

    def run(self, **kwargs: Any) -> None:
        """Copy from the chapters, in reading order."""
        places = list(self.document.findall(Collected))
        tops = self.tops() if places else {}
        here, builder = self.env.docname, self.app.builder
        for place in places:
            found: list[nodes.Element] = []
            for page, top in tops.items():
                uri = builder.get_relative_uri(here, page)
                if place["group"]:
                    found += questions(top, place["group"], uri)
                else:
                    found.append(card(top, uri))
            many = nodes.bullet_list("", *found)
            place.replace_self(many if place["group"] and found else found)
            for node in self.document.findall(pending_xref):
                node["refdoc"] = self.env.docname
        for total in list(self.document.findall(Total)):
            total.replace_self(nodes.Text(self.added(total)))

    def tops(self) -> dict[str, nodes.Element]:
        """Read each chapter that has a card, once: that takes a while."""
        return {
            page: next(self.env.get_doctree(page).findall(nodes.section))
            for page in self.env.collect_relations()
            if "card" in self.env.metadata[page]
        }

    def added(self, total: nodes.Element) -> str:
        """Add up what pages take, to five minutes."""
        known = {
            page: noted["minutes"]
            for page, noted in self.env.metadata.items()
            if "minutes" in noted
        }
        pages = total["pages"]
        if pages == ["all"]:
            pages = [x for x in known if "card" in self.env.metadata[x]]
        for page in [x for x in pages if x not in known]:
            LOGGER.warning("%r is no page", page, location=total)
        minutes = sum(known[x][total["unfolded"]] for x in pages if x in known)
        hours, rest = divmod(5 * max(1, round(minutes / 5)), 60)
        said = [f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0)
        return " ".join(said)


def card(top: nodes.Element, uri: str) -> nodes.Element:
    """Return a copy of a chapter's card, headed by the chapter's name."""
    found: Any = next(
        x for x in top.findall(nodes.admonition) if "answer" in x["classes"]
    ).deepcopy()
    title: Any = top[0]
    link = nodes.reference("", title.astext(), refuri=uri, internal=True)
    found[0].insert(0, [link, nodes.Text(": ")])
    return without_ids(found)


def questions(
    top: nodes.Element, group: str, uri: str
) -> Iterator[nodes.Element]:
    """Yield the questions of a chapter that belong to a group."""
    for section in top.findall(nodes.section):
        if group in section["classes"]:
            title: Any = section[0]
            to = f"{uri}#{section['ids'][0]}"
            link = nodes.reference(
                "",
                title.astext(),
                refuri=to,
                internal=True,
                classes=["question"],
            )
            said = [link, nodes.Text(" "), *answer(section)]
            yield without_ids(
                nodes.list_item("", nodes.paragraph("", "", *said))
            )


def without_ids(copied: nodes.Element) -> nodes.Element:
    """Return a copied node to which no link can lead any more."""
    for node in copied.findall(nodes.Element):
        node["ids"], node["names"] = [], []
    return copied


def answer(section: nodes.Element) -> list[nodes.Node]:
    """Return the sentence marked as the answer, or else the first."""
    for span in section.findall(nodes.inline):
        if "answer" in span["classes"]:
            return [x.deepcopy() for x in span.children]
    first = next(section.findall(nodes.paragraph))
    found: list[nodes.Node] = []
    for child in first.children:
        end = re.search(r"[.!?](?=\s|$)", child.astext())
        if isinstance(child, nodes.Text) and end:
            return [*found, nodes.Text(child[: end.end()])]
        found.append(child.deepcopy())
    return found


def check_form(app: Sphinx, doctree: nodes.document) -> None:
    """Say what a chapter with a card lacks; note what others take from it."""
    env = app.env
    source = Path(env.doc2path(env.docname))
    noted = env.metadata[env.docname]
    if source.suffix == ".md":
        chapter = form.Chapter(source.read_text(encoding="utf8"))
        noted["minutes"] = [
            form.minutes(chapter.items, folded=x) for x in (False, True)
        ]
        if chapter.card:
            noted["card"] = chapter.card
            top = next(doctree.findall(nodes.section))
            noted["lends"] = [
                card(top, "").pformat(),
                *(
                    item.pformat()
                    for group in form.GROUPS
                    for item in questions(top, group, "")
                ),
            ]
        for line, fault in form.missing(chapter):
            LOGGER.warning(fault, location=(env.docname, line))
    collects = {x.refdoc for x in doctree.findall(PendingGlueReference)}
    for kind, name in ((Collected, TEXTS), (Total, TIMES)):
        if any(doctree.findall(kind)):
            collects.add(name)
    if collects:
        noted["collects"] = sorted(collects)


def lent(env: BuildEnvironment, page: str) -> dict[str, Any]:
    """Return what other pages may take from a page, by what they ask for."""
    noted = env.metadata.get(page, {})
    folder = Path(env.mystnb_config.output_folder)  # type: ignore[attr-defined]
    numbers = folder / f"{page}.glue.json"
    return {
        TEXTS: noted.get("lends"),
        TIMES: (noted.get("minutes"), "card" in noted),
        page: numbers.read_bytes() if numbers.exists() else b"",
    }


def note_lent(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Note what pages lend, before they are read again."""
    env.lorabook_lent = {  # type: ignore[attr-defined]
        page: lent(env, page) for page in docnames
    }


def find_collecting(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages to write again: what they collect has changed.

    They need not be read again, since they are filled while they are written.
    """
    del app
    changed: set[str] = set()
    for page, before in env.__dict__.pop("lorabook_lent").items():
        now = lent(env, page)
        changed |= {name for name in now if now[name] != before[name]}
    return [
        page
        for page in sorted(env.found_docs)
        if changed & set(env.metadata[page].get("collects", ()))
    ]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_role("minutes", Minutes())
    app.add_directive("quiz", Quiz)
    app.add_directive("cards", Collect)
    app.add_directive("questions", Collect)
    app.add_post_transform(Fill)
    app.connect("env-before-read-docs", note_lent)
    app.connect("doctree-read", check_form)
    app.connect("env-get-updated", find_collecting)
    return {"version": "1", "parallel_read_safe": True}
