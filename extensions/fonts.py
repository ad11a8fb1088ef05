"""The book's two typefaces, cut to the characters that its pages show.

Source Serif and Source Sans, by Adobe, come in Python packages and are under
the SIL Open Font Licence, which goes with them. It reserves their names: the
cut fonts have others, those of book.css.
"""

from __future__ import annotations

import shutil
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from cuts import Cuts, cut_font
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx

# What book.css calls them: the package, and the file in it.
FACES = {
    "serif": ("font_source_serif_pro", "SourceSerifPro-Regular.ttf"),
    "serif-italic": ("font_source_serif_pro", "SourceSerifPro-It.ttf"),
    "serif-bold": ("font_source_serif_pro", "SourceSerifPro-Semibold.ttf"),
    "sans": ("font_source_sans_pro", "SourceSansPro-Regular.ttf"),
    "sans-bold": ("font_source_sans_pro", "SourceSansPro-Semibold.ttf"),
}
LICENCE = "LICENSE.txt"


def shown_in(site: Path) -> set[str]:
    """Return at least the characters that pages and scripts can show."""
    shown: set[str] = set()
    pages = [x for x in site.rglob("*.html") if "_static" not in x.parts]
    for path in [*pages, *(site / "_static").glob("explorables/**/*.js")]:
        shown.update(path.read_text(encoding="utf8"))
    return shown


def write(app: Sphinx, exception: Exception | None) -> None:
    """Write the fonts, and their licence, into the finished site."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    folder, cuts = site / "_static" / "fonts", Cuts(site.parent / "cuts")
    folder.mkdir(parents=True, exist_ok=True)
    shown = shown_in(site)
    for name, (package, file) in FACES.items():
        font = Path(str(files(package) / "files" / file))
        with TTFont(font) as whole:
            drawn = {chr(x) for x in whole.getBestCmap()}
        wanted = sorted(shown & drawn)
        made = cuts(
            font.read_bytes(), repr(wanted), partial(cut_font, font, wanted)
        )
        (folder / f"{name}.woff2").write_bytes(made)
        licence = Path(str(files(package) / "files" / LICENCE))
        shutil.copyfile(licence, folder / f"{package}-{LICENCE}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    # When the pages have been written and repaired.
    app.connect("build-finished", write, priority=950)
    return {"version": "1", "parallel_read_safe": True}
