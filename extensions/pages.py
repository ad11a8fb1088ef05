"""Everything about the pages that the theme leaves to its user.

Addresses (canonical, sitemap, repository links) from one name, "owner/name";
pages that are read again when their results, the assets or these extensions
change; and a lighter, more accessible page than the theme writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydata_sphinx_theme
from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

PREVIEW = "http://127.0.0.1:8000/"  # where `make serve` shows the book
ICONS = Path(pydata_sphinx_theme.__file__).parent.joinpath(
    "theme/pydata_sphinx_theme/static/vendor/fontawesome/webfonts"
)

# What to change in every written page, and why.
REPAIRS = [
    # 1.5 MB of script to draw icons that the style sheet draws as well.
    (
        r"\s*<!-- So that users can add custom icons -->"
        r'\s*<script defer src="[^"]*fontawesome\.js[^"]*"></script>',
        "",
    ),
    (
        r'<link rel="preload" as="script" href="[^"]*fontawesome[^"]*" ?/?>',
        "",
    ),
    # The theme writes the viewport twice.
    (
        r'(<meta name="viewport"[^>]*>)(.*?)\s*<meta name="viewport"[^>]*>',
        r"\1\2",
    ),
    # A notebook would otherwise open in the tab, as JSON.
    (
        r'(<a href="[^"]*_sources/[^"]*\.(?:ipynb|md)")(?! download)',
        r"\1 download",
    ),
    # Names for screen readers.
    (
        r'<summary><span class="toctree-toggle"',
        '<summary aria-label="Show or hide subsections">'
        '<span class="toctree-toggle"',
    ),
    (
        r'(<button class="btn search-button-field[^>]*?) aria-label="Search"',
        r"\1",
    ),
    # Roles that docutils gives a bibliography and ARIA does not allow there.
    (r' role="doc-biblioentry"', ""),
    (
        r'<div role="list" class="citation-list">',
        '<div class="citation-list">',
    ),
]

# What to change besides in every page but the search page.
LIGHTEN = [
    # The theme loads the search index with every page, however long the book.
    (
        r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js'
        r'[^"]*"></script>',
        "",
    ),
    # Scripts that may wait until the page stands. documentation_options.js
    # must not: inline scripts build on it.
    (
        r'<script( [^>]*?)?(?<!defer) (src="[^"]*_static/(?:doctools|'
        r"sphinx_highlight|clipboard\.min|copybutton|togglebutton|design-tabs|"
        r'scripts/sphinx-book-theme)\.js[^"]*">)',
        r"<script\1 defer \2",
    ),
]


def name_addresses(app: Sphinx, config: Config) -> None:
    """Derive every address from the repository's name, if it has one."""
    repository = config.launch_repository or os.environ.get(
        "GITHUB_REPOSITORY", ""
    )
    config.launch_repository = repository
    base, prefix = PREVIEW, "/"
    if repository:
        owner, name = repository.split("/")
        base, prefix = (
            f"https://{owner.lower()}.github.io/{name}/",
            f"/{name}/",
        )
        options = {
            "repository_url": f"https://github.com/{repository}",
            "repository_branch": "main",
            "use_repository_button": True,
            "use_issues_button": True,
            "use_edit_page_button": True,
        }
        config.html_theme_options.update(options)
    config.html_baseurl = config.html_baseurl or base
    config.ogp_site_url = config.html_baseurl
    config.notfound_urls_prefix = prefix


def results(root: Path) -> dict[str, float]:
    """Return when each chapter was last executed."""
    file = root / "_build" / "runs.json"
    if not file.exists():
        return {}
    return {
        page: run["finished"]
        for page, run in json.loads(file.read_text()).items()
    }


def look(root: Path) -> str:
    """Hash what shapes every page besides its text."""
    found = hashlib.sha256()
    for path in sorted(
        [
            *root.glob("assets/*.*"),
            *root.glob("assets/explorables/**/*.*"),
            *root.glob("extensions/*.*"),
            *root.glob("lorabook/explorables.py"),
        ]
    ):
        found.update(f"\0{path.relative_to(root)}\0".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def find_outdated(
    app: Sphinx,
    env: BuildEnvironment,
    added: set[str],
    changed: set[str],
    removed: set[str],
) -> Iterator[str]:
    """Yield the pages to read again although their text did not change."""
    del added, changed, removed
    root = Path(app.srcdir)
    state: dict[str, Any] = {"look": look(root), "results": results(root)}
    before = getattr(env, "lorabook_state", {"look": "", "results": {}})
    env.lorabook_state = state  # type: ignore[attr-defined]
    for page in env.found_docs:
        new_results = state["results"].get(page) != before["results"].get(page)
        if new_results or state["look"] != before["look"]:
            yield page


def repair_pages(app: Sphinx, exception: Exception | None) -> None:
    """Repair the written pages; doing it twice changes nothing."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for page in site.rglob("*.html"):
        text = repaired = page.read_text(encoding="utf8")
        rules = REPAIRS + (LIGHTEN if page.name != "search.html" else [])
        for pattern, replacement in rules:
            repaired = re.sub(pattern, replacement, repaired, flags=re.S)
        if repaired != text:
            page.write_text(repaired, encoding="utf8")
    cut_icons(site)
    script = site / "_static/scripts/fontawesome.js"
    for unused in [script, *script.parent.glob("*.map")]:
        unused.unlink(missing_ok=True)


def cut_icons(site: Path) -> None:
    """Cut the icon fonts (160 kB) to the icons that the pages show."""
    folder = site / "_static/vendor/fontawesome/webfonts"
    fonts = [
        font
        for font in folder.glob("*.woff2")
        # Sphinx copies the theme's fonts anew when it writes pages.
        if font.stat().st_size == (ICONS / font.name).stat().st_size
    ]
    if not fonts:
        return
    styles = "".join(
        path.read_text(encoding="utf8")
        for path in (site / "_static").rglob("*.css")
    )
    code_of: dict[str, int] = {}
    rule = r'((?:\.fa-[\w-]+(?:::?before)?,?\s*)+)\{[^}]*?"\\([0-9a-f]{2,5})'
    for names, code in re.findall(rule, styles):
        for name in re.findall(r"fa-([\w-]+)", names):
            code_of[name] = int(code, 16)
    used = set()
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf8")
        used.update(re.findall(r"\bfa-([\w-]+)", text))
    for path in (site / "_static").rglob("*.js"):
        text = path.read_text(encoding="utf8", errors="ignore")
        used.update(re.findall(r"\bfa-([\w-]+)", text))
    codes = {code_of[name] for name in used if name in code_of}
    # Icons that style sheets name directly, as for admonitions and links.
    rest = re.sub(r"\.fa-[^{}]*\{[^}]*\}", "", styles)
    direct = r'(?:--pst-icon-[\w-]+|content):\s*"\\([0-9a-f]{3,5})'
    codes.update(int(code, 16) for code in re.findall(direct, rest))
    for path in fonts:
        font = TTFont(path)
        cut = subset.Subsetter(subset.Options(flavor="woff2"))
        cut.populate(unicodes=sorted(codes))
        cut.subset(font)
        font.flavor = "woff2"
        font.save(path)


def drop_duplicate_handlers(app: Sphinx) -> None:
    """Let other builders see the HTML handlers of every extension.

    sphinx-exercise registers its nodes for `singlehtml` by name, which hides
    all handlers registered for `html` from that builder.
    """
    handlers = app.registry.translation_handlers
    for node, functions in handlers.get("html", {}).items():
        if "singlehtml" in handlers:
            handlers["singlehtml"].setdefault(node, functions)


def describe_page(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Let the page's own description serve social cards too.

    The description that sphinxext-opengraph gathers from the text holds raw
    TeX. Generated pages get one of their own.
    """
    del app, templatename, doctree
    tags = context.get("metatags", "")
    found = re.search(r'<meta content="([^"]*)" name="description"', tags)
    if found:
        tags = re.sub(
            r'(<meta property="og:description" content=")[^"]*"',
            lambda match: f'{match[1]}{found[1]}"',
            tags,
        )
    elif pagename == "search":
        tags += '<meta name="description" content="Search the book." />'
    context["metatags"] = tags


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_config_value("launch_repository", "", "env", types=[str])
    app.connect("config-inited", name_addresses, priority=100)
    app.connect("builder-inited", drop_duplicate_handlers)
    app.connect("env-get-outdated", find_outdated)
    app.connect("html-page-context", describe_page, priority=899)
    # After the formulas: their fonts are counted from the written pages.
    app.connect("build-finished", repair_pages, priority=900)
    return {"version": "1", "parallel_read_safe": True}
