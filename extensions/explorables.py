"""Explorables in the book: their scripts, and a directive for plain pages.

A page loads the scripts of the explorables that it shows, and no others.
Cells write them with ``show("svd-image", rank=20)``; a page without a kernel
can use::

    :::{explorable} svd-image
    :rank: 20
    :::
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from lorabook.explorables import REGISTRY, STATIC, show

logger = logging.getLogger(__name__)
FOLDER = "explorables"  # under _static, as under assets


class ExplorableDirective(SphinxDirective):
    """``{explorable} name``, with the attributes of `show` as options."""

    required_arguments = 1
    option_spec: ClassVar = {
        attribute: directives.unchanged_required
        for entry in REGISTRY.values()
        for attribute in entry.attributes
    }

    def run(self) -> list[nodes.Node]:
        """Check name and options as `show` does; a mistake is an error."""
        try:
            explorable = show(self.arguments[0], **self.options)
        except ValueError as error:
            raise self.error(str(error)) from None
        node = nodes.raw("", explorable.html(inline=False), format="html")
        self.set_source_info(node)
        return [node]


def used_in(body: str) -> list[str]:
    """Return the names of the explorables in a page's HTML."""
    found = set(re.findall(r"<lr-([a-z-]+)", body))
    return [name for name in REGISTRY if name in found]


def add_files(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Load what the page uses, and resolve addresses to its depth."""
    body = context.get("body") or ""
    names = used_in(body)
    unknown = set(re.findall(r"<lr-([a-z-]+)", body)) - set(names)
    for name in sorted(unknown):
        logger.warning("there is no explorable %r", name, location=pagename)
    if not names:
        return
    root = context["pathto"](f"_static/{FOLDER}/", 1)
    context["body"] = body.replace(STATIC, root)
    app.add_css_file(f"{FOLDER}/explorables.css")
    scripts = [path for name in names for path in REGISTRY[name].scripts]
    for order, path in enumerate(dict.fromkeys(scripts)):
        app.add_js_file(
            f"{FOLDER}/{path}", loading_method="defer", priority=800 + order
        )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and the loader."""
    app.add_directive("explorable", ExplorableDirective)
    app.connect("html-page-context", add_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
