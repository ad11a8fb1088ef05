"""One style for every figure: it reads on a light and on a dark page.

In the book, a figure is a single transparent SVG. Its text and lines, the
"ink", take their colour from CSS variables that follow
``prefers-color-scheme``, which an SVG in an ``<img>`` inherits from the page
around it. A notebook's own page often says nothing about its theme: there,
the figure gets a white plate and dark ink.
"""

import base64
import hashlib
import io
import os
import re
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from IPython import get_ipython
from matplotlib.figure import Figure
from PIL import Image

# The six hues of Okabe and Ito's palette, moved in lightness and chroma until
# each has a contrast of at least 3 on the white and on the dark page, and
# each pair stays apart with every kind of colour blindness.
COLORS: dict[str, str] = {
    "blue": "#3565EE",
    "orange": "#CB8222",
    "green": "#2A7351",
    "pink": "#B2589B",
    "sky": "#0A9BDC",
    "red": "#C4230E",
}
# Colour is never the only cue: each line of the cycle has its own dashes.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (10, 2.5)),
    (0, (5, 1.5, 1.2, 1.5, 1.2, 1.5)),
)
# In the book's SVG these two stand for CSS variables, and become light ink
# on a dark page. So no data may be drawn in exactly these colours.
INK, MUTED = "#1f2329", "#b8bec7"
DARK_INK, DARK_MUTED = "#e4e6ea", "#59616b"

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": (
        cycler(color=list(COLORS.values())) + cycler(linestyle=DASHES)
    ),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": "medium",
    "boxplot.boxprops.color": INK,
    "boxplot.capprops.color": INK,
    "boxplot.flierprops.markeredgecolor": INK,
    "boxplot.whiskerprops.color": INK,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "figure.figsize": (6.4, 3.2),
    "font.size": 10,
    "grid.color": MUTED,
    "grid.linewidth": 0.5,
    "hatch.color": INK,
    "legend.edgecolor": MUTED,
    "legend.facecolor": "none",
    "legend.framealpha": 0,
    # Long enough to tell the dashes apart.
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.6,
    "patch.edgecolor": INK,
    "savefig.facecolor": "none",
    # As outlines, text looks the same whatever fonts the reader has.
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def use_style() -> None:
    """Use the book's style for every figure from here on.

    In IPython, figures are then displayed by `to_svg`. Elsewhere only
    matplotlib's rcParams change.
    """
    shell = get_ipython()
    if shell is not None:
        # Importing the backend sets up the shell, once: so this comes first.
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")  # type: ignore[no-untyped-call]
        formatter = shell.display_formatter.formatters["image/svg+xml"]
        formatter.for_type(Figure, to_svg)
    mpl.rcParams.update(STYLE)


def to_svg(figure: Figure, two_themes: bool | None = None) -> str:
    """Draw a figure, in the style of `use_style`, as an SVG.

    Parameters
    ----------
    figure : Figure
        The figure.
    two_themes : bool, optional
        Whether the ink follows the theme of the page. If not, the figure
        brings a white plate. By default true where the book is built,
        which sets the environment variable ``LORABOOK_SITE``.

    Returns
    -------
    str
        The ``<svg>`` element. The same code draws the same text, and its
        ids and style rules do not leak when several share a page.

    Raises
    ------
    ValueError
        If a curve or an image has no finite number: it would be missing, and
        nobody would know.
    """
    _check_drawn(figure)
    if two_themes is None:
        two_themes = "LORABOOK_SITE" in os.environ
    buffer = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(
        buffer,
        format="svg",
        bbox_inches="tight",
        pad_inches=0.04,
        metadata=no_metadata,
    )
    svg = _shrink(buffer.getvalue())
    name = "f" + hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = _REFERENCE.sub(rf"\g<1>{name}-\2", svg)
    svg = svg.replace(INK, "var(--ink)").replace(MUTED, "var(--muted)")
    head, body = svg.removeprefix("<svg").split(">", 1)
    return f'<svg id="{name}"{head}>{_css(name, two_themes)}{body}'


def _check_drawn(figure: Figure) -> None:
    """Refuse what would leave nothing behind."""
    for axes in figure.axes:
        curves = [(line, line.get_ydata(orig=False)) for line in axes.lines]
        images = [(image, image.get_array()) for image in axes.images]
        for artist, values in (*curves, *images):
            numbers: Any = np.ma.masked_invalid(np.ma.array(values, float))
            # Empty ones stand in for others in a legend.
            if numbers.size and not numbers.count():
                raise ValueError(
                    f"{artist.get_label()!r} has no finite number to draw"
                )


def _shrink(svg: str) -> str:
    """Leave out what no browser draws, and digits that no eye sees."""
    for useless in (
        r"^.*?(?=<svg\b)",  # the prolog, with a DTD on another host
        r"<defs>\s*<style.*?</style>\s*</defs>",  # `_css` has it, scoped
        r"<!--.*?-->",
        r"(?<=>)\s+(?=<)",
    ):
        svg = re.sub(useless, "", svg, flags=re.DOTALL)

    # Two decimals are 1/100 of a point. The scale of a glyph needs more.
    def shorten(numbers: re.Match[str]) -> str:
        return re.sub(
            r"-?\d+\.\d{3,}", lambda x: f"{float(x[0]):.2f}", numbers[0]
        )

    svg = re.sub(
        r'\b(?:d|x|y|width|height|viewBox)="[^"]*"|translate\([^)]*\)',
        shorten,
        svg,
    )
    svg = re.sub(r'(?<=data:image/png;base64,)[^"]+', _shrink_png, svg)
    return _number_ids(svg)


# An id, or a reference to one.
_REFERENCE = re.compile(r'(\bid="|\bhref="#|\burl\(#)([^")]+)')


def _number_ids(svg: str) -> str:
    """Keep the ids that something refers to, and number them.

    Matplotlib's own ids hash coordinates in full, beyond what is drawn.
    """
    used = {name for kind, name in _REFERENCE.findall(svg) if kind != 'id="'}
    svg = re.sub(r' id="([^"]+)"', lambda x: x[0] if x[1] in used else "", svg)
    names = dict.fromkeys(name for _, name in _REFERENCE.findall(svg))
    numbers = {name: str(i) for i, name in enumerate(names)}
    return _REFERENCE.sub(lambda x: x[1] + numbers[x[2]], svg)


def _shrink_png(encoded: re.Match[str]) -> str:
    """Store an image of at most 256 colours, unchanged, with a palette.

    Matplotlib writes four bytes a pixel, yet a colour map has 256 colours.
    """
    raw = base64.b64decode(encoded[0])
    pixels = np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA"))
    palette, index = np.unique(
        pixels.reshape(-1, 4), axis=0, return_inverse=True
    )
    if len(palette) > 256:
        return encoded[0]
    image = Image.fromarray(index.reshape(pixels.shape[:2]).astype(np.uint8))
    image.putpalette(palette.tobytes(), "RGBA")
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return base64.b64encode(png.getvalue()).decode()


def _css(name: str, two_themes: bool) -> str:
    """Write the rules of the SVG that has this id."""
    light = f"#{name}{{--ink:{INK};--muted:{MUTED}}}"
    dark = f"#{name}{{--ink:{DARK_INK};--muted:{DARK_MUTED}}}"
    lines = f"#{name} *{{stroke-linejoin:round;stroke-linecap:butt}}"
    if two_themes:
        theme = f"@media (prefers-color-scheme:dark){{{dark}}}"
    else:
        theme = f"#{name}{{background:#fff}}"
    return f"<style>{light}{lines}{theme}</style>"
