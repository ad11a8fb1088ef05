"""Make the written pages lighter and more accessible than the theme does.

Everything here works on the finished site, and doing it twice changes
nothing. Sphinx copies the theme's files anew whenever it writes pages, so
each step starts from the originals.
"""

from __future__ import annotations

import itertools
import re
import shutil
import zlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pydata_sphinx_theme
from cuts import Cuts, cut_font, cut_style, names_in, shown_by
from PIL import Image
from sheets import in_order, join, with_one_link
from sphinx.application import Sphinx
from sphinx.builders import Builder
from sphinx.errors import ExtensionError
from sphinx.util import logging
from typeset import write_fonts

LOGGER = logging.getLogger(__name__)
ICONS = Path(pydata_sphinx_theme.__file__).parent.joinpath(
    "theme/pydata_sphinx_theme/static/vendor/fontawesome/webfonts"
)

LARGE = 5000  # bytes; smaller style sheets are left alone

# What a page may load and run: the site's own files, and no script that
# stands in the page. Firefox takes `file:` for a page's own disk.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' file:",
        "style-src 'self' 'unsafe-inline' file:",
        "img-src 'self' data: file:",
        "font-src 'self' file:",
        "connect-src 'self'",
        "form-action 'self' file:",
        "base-uri 'none'",
    ]
)

# What to change in every written page, and why.
REPAIRS = [
    (
        r'(<meta charset="utf-8" ?/>)(?!<meta http)',
        r'\1<meta http-equiv="Content-Security-Policy" '
        rf'content="{POLICY}" />',
    ),
    # Scripts in the page, which the policy forbids. page.js does what they
    # did, but for the two that set what nothing asks for.
    (r'<script data-cfasync="false">.*?</script>', ""),
    (
        r"<script>(?:let toggle\w+|var togglebuttonSelector|"
        r"DOCUMENTATION_OPTIONS\.(?:pagename|search_as_you_type)) = "
        r"[^<]*</script>",
        "",
    ),
    (r"<script>\s*// Activate the search field.*?</script>", ""),
    (r'onclick="window\.print\(\)"', 'data-do="print"'),
    (r'onclick="toggleFullScreen\(\)"', 'data-do="fullscreen"'),
    # It asks for the fonts, so it comes before the style sheets.
    (
        r"(<meta http-equiv=[^>]*>)(.*?)"
        r'\s*(<script src="[^"]*_static/page\.js[^"]*"></script>)',
        r"\1\3\2",
    ),
    # Without scripts, "auto" would have no colours.
    (r'data-theme="auto"', 'data-theme="light"'),
    # 1.5 MB of script to draw icons that the style sheet draws as well.
    (
        r"<!-- So that users can add custom icons -->"
        r'\s*<script defer src="[^"]*fontawesome\.js[^"]*"></script>',
        "",
    ),
    (
        r'<link rel="preload" as="script" href="[^"]*fontawesome[^"]*" ?/?>',
        "",
    ),
    # The book has a search of its own.
    (
        r'<script src="[^"]*(?:searchtools|language_data)\.js[^"]*">'
        r"</script>",
        "",
    ),
    # The themes repeat the viewport, which Sphinx writes with "1.0".
    (
        r'<meta name="viewport" content="[^"]*initial-scale=1" ?/>',
        "",
    ),
    # A notebook would otherwise open in the tab, as JSON.
    (
        r'(<a href="[^"]*_sources/[^"]*\.(?:ipynb|md)")(?! download)',
        r"\1 download",
    ),
    # The sidebar's logo would lie outside all landmarks.
    (
        r'(<div id="pst-primary-sidebar" class="[^"]*")>',
        r'\1 role="region" aria-label="Book and contents">',
    ),
    # Names for screen readers, and none that hides the words on a button.
    (
        r'<summary><span class="toctree-toggle"',
        '<summary aria-label="Show or hide subsections">'
        '<span class="toctree-toggle"',
    ),
    (
        r'(<button class="btn search-button-field[^>]*?) aria-label="Search"',
        r"\1",
    ),
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # Boxes of theorems and exercises share an id, which nothing refers to.
    (r' id="(?:proof|exercise|solution)(?:-content)?"', ""),
    # Roles that docutils gives a bibliography and ARIA does not allow there.
    (r' role="doc-biblioentry"', ""),
    (
        r'<div role="list" class="citation-list">',
        '<div class="citation-list">',
    ),
    # Scripts that may wait until the page stands. documentation_options.js
    # must not: others build on it.
    (
        r'<script( [^>]*?)?(?<!defer) (src="[^"]*_static/(?:doctools|'
        r"sphinx_highlight|clipboard\.min|copybutton|togglebutton|design-tabs|"
        r'scripts/sphinx-book-theme)\.js[^"]*">)',
        r"<script\1 defer \2",
    ),
]

# What to change besides in every page but the search page.
LIGHTEN = [
    # The theme loads the search index with every page, however long the book.
    (r'<script src="[^"]*searchindex\.js[^"]*"></script>', ""),
]

# The theme's script measures every code cell when a page is loaded, to let
# those that scroll be reached by keyboard. That lays out the whole chapter,
# which `content-visibility` in book.css avoids. So: measure what is laid out,
# and the rest when the reader comes near, or unfolds it.
#
# The other script marks the words of a search, in the whole page.
SCRIPT_REPAIRS = {
    "scripts/pydata-sphinx-theme.js": [
        (
            "e.tabIndex=e.scrollWidth>e.clientWidth"
            "||e.scrollHeight>e.clientHeight?0:-1",
            "e.checkVisibility({contentVisibilityAuto:!0})&&"
            "(e.tabIndex=e.scrollWidth>e.clientWidth"
            "||e.scrollHeight>e.clientHeight?0:-1)",
        ),
        (
            'window.addEventListener("resize",t),new MutationObserver',
            'window.addEventListener("resize",t),document.addEventListener('
            '"contentvisibilityautostatechange",t),document.addEventListener('
            '"toggle",t,!0),new MutationObserver',
        ),
    ],
    "sphinx_highlight.js": [
        (
            'document.querySelectorAll("div.body")',
            'document.querySelectorAll("article.bd-article")',
        ),
    ],
}
UNUSED = [
    "scripts/fontawesome.js",
    "scripts/*.map",
    "searchtools.js",
    "language_data.js",
]


def repair_scripts(static: Path) -> None:
    """Repair the scripts of others, unless that is done."""
    for name, repairs in SCRIPT_REPAIRS.items():
        file = static / name
        text = file.read_text(encoding="utf8")
        for old, new in repairs:
            if new not in text:
                if old not in text:
                    raise ExtensionError(
                        f"{name} is not the one that slim.py repairs: look "
                        "at SCRIPT_REPAIRS after an update of what it is from"
                    )
                text = text.replace(old, new)
        write(file, text)


def write(path: Path, text: str) -> None:
    """Write a file, unless it says that already."""
    if path.read_text(encoding="utf8") != text:
        path.write_text(text, encoding="utf8")


@dataclass
class Used:
    """What pages and scripts name, and so have to be given."""

    names: set[str] = field(default_factory=set)  # of classes and ids
    styles: set[str] = field(default_factory=set)  # that stand in the page

    def by_page(self, text: str) -> None:
        """Add what a page names."""
        found = set(re.findall(r"""\b(?:class|id)=["']([^"']*)""", text))
        self.names.update(*map(str.split, found))
        self.styles.update(re.findall(r"<style>(.*?)</style>", text, re.S))

    def by_script(self, text: str) -> None:
        """Add every word of a script: it may make any of them a class."""
        self.names.update(re.findall(r"[A-Za-z_][\w-]*", text))


def clear(app: Sphinx, builder: Builder) -> None:
    """Remove the site's scripts, styles and pictures before they are copied.

    Sphinx copies all of them whenever it writes a page, but it never removes
    what is no more among them.
    """
    if builder.format == "html":
        shutil.rmtree(Path(app.outdir) / "_static", ignore_errors=True)


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Repair the written pages, and trim what they load.

    Each page is read once. To do all this again changes nothing.
    """
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    static, cuts = site / "_static", Cuts(site.parent / "cuts")
    for pattern in UNUSED:
        for path in static.glob(pattern):
            path.unlink()
    repair_scripts(static)
    used, pages, parts = Used(), {}, []
    for path in sorted(site.rglob("*.html")):
        if "_static" not in path.relative_to(site).parts:
            before = path.read_text(encoding="utf8")
            text = size_images(path, repair(path.stem, before))
            text, sheets = with_one_link(text)
            parts.append(sheets)
            pages[path] = before, text
            used.by_page(text)
    for path in static.rglob("*.js"):
        used.by_script(path.read_text(encoding="utf8", errors="ignore"))
    # Before they are trimmed, so that to do it again changes nothing.
    join(static, in_order(parts))
    styles = trim_styles(static, used.names, cuts)
    cut_icons(static, styles, cuts)
    write_fonts(site, used.styles, cuts)
    cuts.forget()
    versions = {
        f"_static/{path.relative_to(static).as_posix()}": version(path)
        for path in static.rglob("*.*")
        if path.suffix in (".css", ".js")
    }
    for path, (before, text) in pages.items():
        name = path.relative_to(site).as_posix()
        if (new := with_versions(name, text, versions)) != before:
            path.write_text(new, encoding="utf8")


def repair(name: str, text: str) -> str:
    """Apply the repairs to a page."""
    for pattern, replacement in REPAIRS + LIGHTEN * (name != "search"):
        text = re.sub(pattern, replacement, text, flags=re.S)
    return text


def version(path: Path) -> str:
    """Return a checksum of a file, as Sphinx takes it."""
    return f"{zlib.crc32(path.read_bytes()):08x}"


def with_versions(page: str, text: str, versions: dict[str, str]) -> str:
    """Let every address of a script or a style sheet say its version.

    A browser then loads again what has changed, and nothing else. Sphinx
    writes most of them, but before the files are trimmed, or even there. A
    page that loads what is not there is warned of.
    """

    def versioned(match: re.Match[str]) -> str:
        start, up, file = match.groups()
        if file not in versions:
            LOGGER.warning("loads %s, which is not there", file, location=page)
            return match[0]
        return f'{start}{up}{file}?v={versions[file]}"'

    pattern = (
        r'((?:href|src)=")((?:\.\./)*|/[^":?]*?)'
        r'(_static/[^"?]*\.(?:css|js))(?:\?[^"]*)?"'
    )
    return re.sub(pattern, versioned, text)


def size_images(page: Path, text: str) -> str:
    """Give each picture its size, so that the text need not jump for it.

    All but the first are loaded when the reader comes near.
    """
    number = itertools.count()

    def sized(match: re.Match[str]) -> str:
        tag, source = match.groups()
        late = ' loading="lazy"' if next(number) else ""
        if "decoding=" in tag:
            return match[0]
        file = page.parent / source
        if file.suffix == ".svg":
            head = file.read_text(encoding="utf8")[:2000]
            box = re.search(r'viewBox="\S+ \S+ (\S+) (\S+)"', head)
            unit = re.search(r'<svg[^>]* width="[\d.]+pt"', head)
            if not box:
                return match[0]
            # Matplotlib's points are 4/3 of a CSS pixel.
            scale = 4 / 3 if unit else 1
            width, height = (round(float(x) * scale) for x in box.groups())
        else:
            with Image.open(file) as picture:
                width, height = picture.size
        tag = re.sub(r' (?:width|height)="[^"]*"', "", tag).rstrip(" /")
        return (
            f'{tag} width="{width}" height="{height}"{late} decoding="async">'
        )

    return re.sub(
        r'(<img [^>]*?src="([^"]*_images/[^"]*)"[^>]*)>', sized, text
    )


def trim_styles(static: Path, names: set[str], cuts: Cuts) -> str:
    """Trim the large style sheets; return what they say, all together."""
    styles = []
    for path in sorted(static.rglob("*.css")):
        css = path.read_text(encoding="utf8")
        if len(css) > LARGE:
            wanted = sorted(names_in(css) & names)
            cut = partial(cut_style, css, names)
            css = cuts(css.encode(), repr(wanted), cut).decode()
            write(path, css)
        styles.append(css)
    return "".join(styles)


def cut_icons(static: Path, styles: str, cuts: Cuts) -> None:
    """Cut the icon fonts (160 kB) to the icons that the trimmed styles show.

    Style sheets name an icon by its code or by the character itself.
    """
    icons = sorted(shown_by(styles))
    for path in (static / "vendor/fontawesome/webfonts").glob("*.woff2"):
        file = ICONS / path.name
        made = cuts(
            file.read_bytes(), repr(icons), partial(cut_font, file, icons)
        )
        path.write_bytes(made)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("write-started", clear)
    # When every other extension has written its style sheets.
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True}
