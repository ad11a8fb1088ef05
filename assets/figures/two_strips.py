"""Draw the figure of the index page: a portrait out of two thin strips.

    python assets/figures/two_strips.py

It writes `two_strips.svg` beside this file. The photograph is the sum of its
first R layers, B A, with B = U √S and A = √S Vᵀ as in
`LowRankLinear.from_dense`. The strips are these factors, on the picture's own
scale. Every number in the drawing is computed here.
"""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lorabook import data, linalg
from lorabook.plot import COLORS, DARK_INK, INK, MUTED

Array = NDArray[np.float64]

R = 16
PIXEL = (73, 23)  # row and column of the entry that is picked out
UNIT = 0.8  # drawing units for one entry, in the picture and in the strips
GAP = 12.0  # between the strips and the picture
LEFT, TOP = 30.0, 32.0  # room for the strips' names

STYLE = f"""
  svg {{ --ink: {INK} }}
  @media (prefers-color-scheme: dark) {{ svg {{ --ink: {DARK_INK} }} }}
  text {{ fill: var(--ink); font: 18px system-ui, sans-serif }}
  .halo {{ fill: none; stroke: #fff; stroke-width: 3.2; opacity: .75 }}
  .path {{ fill: none; stroke: {COLORS["red"]}; stroke-width: 1.6 }}
  .edge {{ fill: none; stroke: {MUTED}; stroke-width: .8 }}
"""


def factors(M: Tensor, r: int) -> tuple[Array, Array]:
    """Return B (m, r) and A (r, n), whose product is M's best of rank r."""
    U, S, Vh = linalg.truncated_svd(M, r)
    root = S.sqrt()
    return (U * root).numpy(), (root[:, None] * Vh).numpy()


def photograph(M: Array) -> str:
    """Encode brightness from 0 to 1 as a data address."""
    image = Image.fromarray((255 * M.clip(0, 1)).round().astype(np.uint8))
    return encode(image, "webp", quality=80, method=6)


def strip(M: Array, axis: int) -> str:
    """Encode a factor: blue above zero, orange below, clear at zero.

    Each of the R vectors, along `axis`, is drawn on its own scale: its
    largest entries would otherwise hide all the others.
    """
    scale = np.quantile(np.abs(M), 0.95, axis=axis, keepdims=True)
    level = (7 * (M / scale).clip(-1, 1)).round().astype(int)
    image = Image.fromarray((level + 7).astype(np.uint8))
    low, high = (to_rgb(COLORS[name]) for name in ("orange", "blue"))
    image.putpalette([round(255 * x) for x in low * 7 + high * 8])
    opacity = bytes(round(255 * abs(k) / 7) for k in range(-7, 8))
    return encode(image, "png", transparency=opacity, optimize=True, bits=4)


def encode(image: Image.Image, kind: str, **options: object) -> str:
    """Return an image as a data address."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    content = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind};base64,{content}"


def draw() -> str:
    """Return the drawing as SVG."""
    photo = data.photo()
    B, A = factors(photo, R)
    (m, n), (i, j) = photo.shape, PIXEL
    thick = UNIT * R
    x0, y0 = LEFT + thick + GAP, TOP + thick + GAP  # the picture's corner
    width, height = UNIT * n, UNIT * m
    x, y = x0 + UNIT * (j + 0.5), y0 + UNIT * (i + 0.5)
    way = f"M{LEFT} {y:.1f}H{x - 7:.1f}M{x:.1f} {TOP}V{y - 7:.1f}"
    ring = f'cx="{x:.1f}" cy="{y:.1f}" r="7"'

    def image(place: tuple[float, float, float, float], address: str) -> str:
        at = 'x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"'
        frame = at.format(*place)
        return (
            f'<image {frame} preserveAspectRatio="none" href="{address}"/>'
            f'<rect class="edge" {frame}/>'
        )

    def text(words: str, x: float, y: float, extra: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{words}</text>'

    bottom = y0 + height
    total = (x0 + width + 2, bottom + 56)
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {total[0]:.0f} {total[1]:.0f}" '
            f'width="{total[0]:.0f}" height="{total[1]:.0f}">',
            f"<style>{STYLE}</style>",
            image((x0, TOP, width, thick), strip(A, 1)),
            image((LEFT, y0, thick, height), strip(B, 0)),
            image((x0, y0, width, height), photograph(B @ A)),
            f'<path class="halo" d="{way}"/><circle class="halo" {ring}/>',
            f'<path class="path" d="{way}"/><circle class="path" {ring}/>',
            text(f"A: {R} × {n:,}", x0, TOP - 9),
            text(
                f"B: {m:,} × {R}",
                -bottom,
                LEFT - 9,
                'transform="rotate(-90)"',
            ),
            text(
                f"{B.size + A.size:,} numbers in the two strips,",
                x0,
                bottom + 24,
            ),
            text(f"{m * n:,} in the picture", x0, bottom + 47),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf8")
