"""Make the written pages lighter and more accessible than the theme does.

Everything here works on the finished site, and doing it twice changes
nothing. Sphinx copies the theme's files anew whenever it writes pages, so
each step starts from the originals.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydata_sphinx_theme
import tinycss2
from fontTools import subset
from fontTools.ttLib import TTFont
from PIL import Image
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

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
    # The themes repeat the viewport, which Sphinx writes with "1.0".
    (
        r'\s*<meta name="viewport" content="[^"]*initial-scale=1" ?/>',
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
    # Boxes of theorems and exercises share an id, which nothing refers to.
    (r' id="(?:proof|exercise|solution)(?:-content)?"', ""),
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


# The theme's script measures every code cell when a page is loaded, to let
# those that scroll be reached by keyboard. That lays out the whole chapter,
# which `content-visibility` in book.css avoids. So: measure what is laid out,
# and the rest when the reader comes near.
SCRIPT = "_static/scripts/pydata-sphinx-theme.js"
SCRIPT_REPAIRS = [
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
        '"contentvisibilityautostatechange",t),new MutationObserver',
    ),
]


def repair_script(site: Path) -> None:
    """Repair the theme's script, unless that is done."""
    file = site / SCRIPT
    text = file.read_text(encoding="utf8")
    for old, new in SCRIPT_REPAIRS:
        if new not in text:
            if old not in text:
                raise ExtensionError(
                    f"{SCRIPT} is not the one that slim.py repairs: "
                    "look at SCRIPT_REPAIRS after an update of the theme"
                )
            text = text.replace(old, new)
    file.write_text(text, encoding="utf8")


def repair_pages(app: Sphinx, exception: Exception | None) -> None:
    """Repair the written pages, and trim what they load."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for page in site.rglob("*.html"):
        text = repaired = page.read_text(encoding="utf8")
        rules = REPAIRS + (LIGHTEN if page.name != "search.html" else [])
        for pattern, replacement in rules:
            repaired = re.sub(pattern, replacement, repaired, flags=re.S)
        repaired = size_images(page, repaired)
        if repaired != text:
            page.write_text(repaired, encoding="utf8")
    cut_icons(site)
    trim_styles(site)
    repair_script(site)
    script = site / "_static/scripts/fontawesome.js"
    for unused in [script, *script.parent.glob("*.map")]:
        unused.unlink(missing_ok=True)


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


TRIMMED = "/* Rules that no page of the book needs are left out. */\n"
LARGE = 5000  # bytes; smaller style sheets are left alone


def trim_styles(site: Path) -> None:
    """Leave out of large style sheets what no page and no script can use.

    A rule goes when it names a class or an id that stands nowhere in a page
    or a script of the site, not even as a part of a text.
    """
    sheets = {
        path: text
        for path in (site / "_static").rglob("*.css")
        if len(text := path.read_text(encoding="utf8")) > LARGE
        and not text.startswith(TRIMMED)
    }
    if not sheets:
        return
    words: set[str] = set()
    scripts = (site / "_static").rglob("*.js")
    for path in [*site.rglob("*.html"), *scripts]:
        text = path.read_text(encoding="utf8", errors="ignore")
        words.update(re.findall(r"[A-Za-z_][\w-]*", text))
    for path, text in sheets.items():
        rules = tinycss2.parse_stylesheet(
            text, skip_comments=True, skip_whitespace=True
        )
        path.write_text(TRIMMED + trim(rules, words), encoding="utf8")


def trim(rules: Iterable[Any], words: set[str]) -> str:
    """Write the rules of which at least one selector can match."""
    kept = []
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [
                selector
                for selector in split_selectors(rule.prelude)
                if can_match(selector, words)
            ]
            if selectors:
                body = tinycss2.serialize(rule.content)
                kept.append(f"{','.join(selectors)}{{{body}}}")
        elif rule.type == "at-rule" and rule.lower_at_keyword in (
            "media",
            "supports",
        ):
            inside = tinycss2.parse_rule_list(
                rule.content, skip_comments=True, skip_whitespace=True
            )
            if body := trim(inside, words):
                condition = tinycss2.serialize(rule.prelude)
                kept.append(f"@{rule.at_keyword}{condition}{{{body}}}")
        else:
            kept.append(rule.serialize())
    return "".join(kept)


def split_selectors(prelude: Iterable[Any]) -> list[str]:
    """Split a list of selectors at its own commas."""
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tinycss2.serialize(part).strip() for part in parts]


def can_match(selector: str, words: set[str]) -> bool:
    """Return whether every class and id of a selector is among the words."""
    # What stands in :not(), :is() ... need not be there for a match.
    before = ""
    while before != selector:
        before = selector
        selector = re.sub(r":(?:not|is|where|has)\([^()]*\)", "", selector)
    names = re.findall(r"[.#](-?[A-Za-z_](?:[\w-]|\\.)*)", selector)
    return all(name.replace("\\", "") in words for name in names)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # After the formulas: their fonts are counted from the written pages.
    app.connect("build-finished", repair_pages, priority=900)
    return {"version": "1", "parallel_read_safe": True}
