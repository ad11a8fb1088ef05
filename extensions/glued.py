"""Numbers that cells hand to sentences, written as sentences have them.

MyST-NB pastes what Python's format gave: ``6e-05``, ``-0.2``. Here they are
written once, in the document, for the page, the search and the notebook
alike, and marked as what they are: computed when the page was made.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from lorabook.numbers import written

TITLE = "computed when this page was made"


class glued(nodes.inline):
    """What a cell handed to a sentence."""


class WriteGlued(SphinxPostTransform):
    """Write every number that MyST-NB has pasted into the document."""

    default_priority = 6  # after those of other pages have come, at 5

    def run(self, **kwargs: Any) -> None:
        """Replace MyST-NB's nodes by ours."""
        for node in list(self.document.findall(nodes.inline)):
            if "pasted-text" in node["classes"]:
                text = written(node.astext())
                # Not `replace_self`: it would keep the class, which is bold.
                node.parent.replace(node, glued(text, text))


def visit_glued(self: Any, node: glued) -> None:
    """Open the element."""
    self.body.append(
        self.starttag(node, "span", "", CLASS="glued", title=TITLE)
    )


def depart_glued(self: Any, node: glued) -> None:
    """Close it."""
    self.body.append("</span>")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the transform and how its nodes look on a page."""
    app.add_node(glued, html=(visit_glued, depart_glued))
    app.add_post_transform(WriteGlued)
    return {
        "version": "1",
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
