"""Numbers that cells hand to sentences, written as sentences have them.

MyST-NB pastes what Python's format gave: ``6e-05``, ``-0.2``. Here they are
written once, in the document, for the page, the search and the notebook
alike, and marked as what they are: computed when the page was made.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TITLE = "computed when this page was made"


def written(number: str) -> str:
    """Write a number of Python's as a sentence has it.

    ``6e-05`` becomes 6 × 10⁻⁵, and a hyphen before a number a minus sign.
    """
    number = re.sub(r"(?<![\w.])-(?=[\d.])", "−", number)
    return re.sub(
        r"(?<=\d)e([+-])(\d+)",
        lambda x: "\u00a0×\u00a010" + str(int(x[1] + x[2])).translate(RAISED),
        number,
    )


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
