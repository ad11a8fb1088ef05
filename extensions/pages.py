"""Everything about the pages that the theme leaves to its user.

Addresses (canonical, sitemap, repository links) from one name, "owner/name";
descriptions; and pages that are read again when they, what they show, their
results, the assets or these extensions change.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

IMPORTED = ("assets", "explorables", "numbers")
PHONE = 38  # letters of code in a line that is 390 pixels wide
PREVIEW = "http://127.0.0.1:8000/"  # where `make serve` shows the book


def name_addresses(app: Sphinx, config: Config) -> None:
    """Derive every address from the repository's name, if it has one."""
    repository = config.launch_repository
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
            # Of the package, what the extensions import.
            *(root / "lorabook" / f"{x}.py" for x in IMPORTED),
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
    """Yield the pages to read again although no file of theirs is newer."""
    del added, changed, removed
    root = Path(app.srcdir)
    state: dict[str, Any] = {"look": look(root), "results": results(root)}
    before = getattr(env, "lorabook_state", {"look": "", "results": {}})
    env.lorabook_state = state  # type: ignore[attr-defined]
    noted = contents(env)
    for page in env.found_docs:
        new_results = state["results"].get(page) != before["results"].get(page)
        files = noted.get(page, {})
        if (
            new_results
            or state["look"] != before["look"]
            or files != digests(root, files)
        ):
            yield page


def contents(env: BuildEnvironment) -> dict[str, dict[str, str]]:
    """Return what each page was made from: its files and their digests.

    Sphinx asks whether a file is newer than what it has read. One that was
    moved here, or taken from a backup with its time, may be older.
    """
    if not hasattr(env, "lorabook_contents"):
        env.lorabook_contents = {}  # type: ignore[attr-defined]
    found: dict[str, dict[str, str]] = env.lorabook_contents  # type: ignore[attr-defined]
    return found


def digests(root: Path, files: Iterable[str]) -> dict[str, str]:
    """Hash files; one that is not there is left out."""
    paths = {file: root / file for file in files}
    return {
        file: hashlib.sha256(path.read_bytes()).hexdigest()
        for file, path in paths.items()
        if path.is_file()
    }


def note_contents(app: Sphinx, doctree: nodes.document) -> None:
    """Note what a page is made from, when it has been read."""
    del doctree
    env, root = app.env, Path(app.srcdir)
    page = env.docname
    source = env.doc2path(page, base=False)
    files = {str(source), *map(str, env.dependencies[page])}
    contents(env)[page] = digests(root, files)


def merge_contents(
    app: Sphinx, env: BuildEnvironment, pages: Iterable[str], other: Any
) -> None:
    """Take over what another process has read."""
    del app
    contents(env).update({x: contents(other)[x] for x in pages})


def drop_duplicate_handlers(app: Sphinx) -> None:
    """Let other builders see the HTML handlers of every extension.

    sphinx-exercise registers its nodes for `singlehtml` by name, which hides
    all handlers registered for `html` from that builder.
    """
    handlers = app.registry.translation_handlers
    for node, functions in handlers.get("html", {}).items():
        if "singlehtml" in handlers:
            handlers["singlehtml"].setdefault(node, functions)


def names(env: BuildEnvironment) -> str:
    """Return all of a page that another page may quote or refer to.

    Titles, numbers, labels, terms and works. An edited sentence is not among
    it; for pages that collect from others, see `cards.py`.
    """
    cited = env.get_domain("cite").data["citations"]
    return repr(
        [
            # Pages, sections, figures, terms ... of all domains.
            *(sorted(domain.get_objects()) for domain in env.domains.values()),
            sorted(env.get_domain("math").data["objects"].items()),
            sorted(getattr(env, "proof_list", {}).items()),
            sorted((x.key, x.formatted_entry.label, x.entry) for x in cited),
            sorted(env.toctree_includes.items()),
            sorted(env.toc_secnumbers.items()),
            sorted(env.toc_fignumbers.items()),
        ]
    )


def find_affected(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return every page when something changed that others may refer to.

    Sphinx does not follow references: it would leave old titles on pages
    whose text is unchanged, and links to labels that are gone. All pages are
    written again, not read: what they refer to is looked up while writing,
    and what is not found is a warning.
    """
    del app
    now = names(env)
    before = getattr(env, "lorabook_names", "")
    env.lorabook_names = now  # type: ignore[attr-defined]
    return sorted(env.found_docs) if now != before else []


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


def lighten_body(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Drop marks of code that show nothing; let wide code have the focus.

    Names, brackets and spaces have the colour of plain text. Code that is
    wider than a phone scrolls there, and whoever scrolls by keyboard has to
    be able to get to it.
    """
    del app, pagename, templatename, doctree

    def lighter(match: re.Match[str]) -> str:
        code = re.sub(
            r'<span class="(?:n|p|w)">([^<]*)</span>', r"\1", match[1]
        )
        text = html.unescape(re.sub(r"<[^>]*>", "", code))
        wide = max(map(len, text.split("\n"))) > PHONE
        focus = ' tabindex="0"' if wide else ""
        return f"<pre{focus}>{code}</pre>"

    context["body"] = re.sub(
        r"<pre>(.*?)</pre>", lighter, context.get("body") or "", flags=re.S
    )


def show_ways_on(
    app: Sphinx,
    pagename: str,
    templatename: str,
    context: dict[str, Any],
    doctree: nodes.document | None,
) -> None:
    """Let the page of a wrong address lead somewhere."""
    del templatename, doctree
    if pagename == "404":
        start, search = map(context["pathto"], ("index", "search"))
        context["body"] = (
            "<h1>Page not found</h1>"
            "<p>There is no page at this address.</p>"
            f'<ul><li><a href="{start}">Start of the book</a></li>'
            f'<li><a href="{search}">Search the book</a></li></ul>'
        )


def remove_old_pages(app: Sphinx, exception: Exception | None) -> None:
    """Remove the pages of chapters that are gone."""
    if exception or app.builder.format != "html":
        return
    generated = {"404", "genindex", "search"}
    site = Path(app.outdir)
    for page in site.rglob("*.html"):
        name = page.relative_to(site).with_suffix("").as_posix()
        hidden = name.startswith("_")
        if not hidden and name not in app.env.found_docs | generated:
            page.unlink()
            (site / "_sources" / f"{name}.md").unlink(missing_ok=True)


def write_sitemap(app: Sphinx, exception: Exception | None) -> None:
    """List every page, also those that this build did not write."""
    if exception or app.builder.format != "html":
        return
    urlset = ElementTree.Element(
        "urlset", xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"
    )
    for page in sorted(app.env.found_docs):
        url = ElementTree.SubElement(urlset, "url")
        address = f"{app.config.html_baseurl}{page}.html"
        ElementTree.SubElement(url, "loc").text = address
    ElementTree.ElementTree(urlset).write(
        Path(app.outdir) / "sitemap.xml",
        encoding="utf-8",
        xml_declaration=True,
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.setup_extension("repository")
    app.connect("config-inited", name_addresses, priority=100)
    app.connect("builder-inited", drop_duplicate_handlers)
    app.connect("env-get-outdated", find_outdated)
    app.connect("env-merge-info", merge_contents)
    # When others have said on what the page depends.
    app.connect("doctree-read", note_contents, priority=900)
    app.connect("html-page-context", describe_page, priority=899)
    app.connect("html-page-context", lighten_body)
    # When sphinx-notfound-page has made all paths absolute, at 400.
    app.connect("html-page-context", show_ways_on, priority=450)
    # First: the theme's and others' scripts build on it.
    app.add_js_file("page.js", priority=100)
    # After Sphinx has given its numbers.
    app.connect("env-get-updated", find_affected, priority=900)
    app.connect("build-finished", remove_old_pages)
    app.connect("build-finished", write_sitemap)
    return {"version": "1", "parallel_read_safe": True}
