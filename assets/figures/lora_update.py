"""Draw an update and its two factors, to scale.

    python assets/figures/lora_update.py

It writes `lora_update.svg` beside this file. The areas compare as the
numbers in the matrices do, and every number is computed here.
"""

from pathlib import Path

from lorabook.plot import COLORS, DARK_INK, INK, MUTED

D_OUT, D_IN, R = 256, 256, 8
UNIT = 0.8  # drawing units for one row or column
GAP, TOP, LEFT = 34.0, 40.0, 6.0

STYLE = f"""
  svg {{ --ink: {INK} }}
  @media (prefers-color-scheme: dark) {{ svg {{ --ink: {DARK_INK} }} }}
  text {{ fill: var(--ink); font: 17px system-ui, sans-serif }}
  .name {{ font-size: 22px; font-weight: 600; text-anchor: middle }}
  .whole {{ fill: {MUTED}; fill-opacity: .3; stroke: var(--ink) }}
  .thin {{ fill: {COLORS["blue"]}; stroke: {COLORS["blue"]} }}
"""


def box(kind: str, x: float, y: float, columns: int, rows: int) -> str:
    """Return a matrix as a rectangle."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" '
        f'width="{UNIT * columns:.1f}" height="{UNIT * rows:.1f}"/>'
    )


def text(words: str, x: float, y: float, kind: str = "") -> str:
    """Return one line of text."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{words}</text>'


def draw() -> str:
    """Return the drawing as SVG."""
    side, thin = UNIT * D_IN, UNIT * R
    tall = UNIT * D_OUT
    at_B = LEFT + side + 2 * GAP
    at_A = at_B + thin + GAP
    middle = TOP + tall / 2
    bottom = TOP + tall
    numbers = R * (D_OUT + D_IN)
    width = at_A + side + LEFT
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {width:.0f} {bottom + 62:.0f}" '
            f'width="{width:.0f}" height="{bottom + 62:.0f}">',
            f"<style>{STYLE}</style>",
            box("whole", LEFT, TOP, D_IN, D_OUT),
            box("thin", at_B, TOP, R, D_OUT),
            box("thin", at_A, TOP, D_IN, R),
            text("BA", LEFT + side / 2, middle + 8, "name"),
            text("=", LEFT + side + GAP, middle + 8, "name"),
            text("B", at_B + thin / 2, TOP - 14, "name"),
            text("A", at_A + side / 2, TOP - 14, "name"),
            text(f"{D_OUT} × {D_IN}", LEFT + side / 2 - 38, middle + 36),
            text(f"{D_OUT} × {R}", at_B + thin + 8, middle + 8),
            text(f"{R} × {D_IN}", at_A + side / 2 - 28, TOP + thin + 24),
            text(f"{D_OUT * D_IN:,} numbers", LEFT, bottom + 24),
            text(f"{numbers:,} numbers", at_B, bottom + 24),
            text(
                f"{numbers / (D_OUT * D_IN):.2%} as many",
                at_B,
                bottom + 48,
            ),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf8")
