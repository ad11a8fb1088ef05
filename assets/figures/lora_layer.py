"""Draw the flow through an adapted layer.

    python assets/figures/lora_layer.py

It writes `lora_layer.svg` beside this file. Nothing in it is to scale.
"""

from pathlib import Path

from lorabook.plot import COLORS, DARK_INK, INK, MUTED

STYLE = f"""
  svg {{ --ink: {INK} }}
  @media (prefers-color-scheme: dark) {{ svg {{ --ink: {DARK_INK} }} }}
  text {{ fill: var(--ink); font: 17px system-ui, sans-serif;
    text-anchor: middle }}
  .name {{ font-size: 22px; font-weight: 600 }}
  .frozen {{ fill: {MUTED}; fill-opacity: .3; stroke: var(--ink);
    stroke-width: 1.5; stroke-dasharray: 6 4 }}
  .trained {{ fill: {COLORS["blue"]}; fill-opacity: .22;
    stroke: {COLORS["blue"]}; stroke-width: 2 }}
  .flow {{ fill: none; stroke: var(--ink); stroke-width: 1.5 }}
  .tip {{ fill: var(--ink) }}
"""
WIDTH, HEIGHT = 580, 430
LEFT, RIGHT = 150, 400  # the middles of the two branches
TOP, BOTTOM = 84, 330  # where they join, and where they part


def text(words: str, x: float, y: float, kind: str = "") -> str:
    """Return one line of text."""
    return f'<text class="{kind}" x="{x}" y="{y}">{words}</text>'


def shape(kind: str, *corners: tuple[float, float]) -> str:
    """Return a polygon."""
    points = " ".join(f"{x},{y}" for x, y in corners)
    return f'<polygon class="{kind}" points="{points}"/>'


def arrow(*stops: tuple[float, float]) -> str:
    """Return a line through the stops, with a tip that points up at last."""
    path = "L".join(f"{x} {y}" for x, y in stops)
    x, y = stops[-1]
    return f'<path class="flow" d="M{path}"/>' + shape(
        "tip", (x - 6, y + 9), (x, y - 2), (x + 6, y + 9)
    )


def draw() -> str:
    """Return the drawing as SVG."""
    middle = (LEFT + RIGHT) / 2
    frozen = shape("frozen", (60, 120), (240, 120), (240, 290), (60, 290))
    # Wide at the input, narrow in the middle, wide again at the output.
    A = shape("trained", (310, 290), (490, 290), (425, 228), (375, 228))
    B = shape("trained", (375, 182), (425, 182), (490, 120), (310, 120))
    return "\n".join(
        [
            '<svg xmlns="http://www.w3.org/2000/svg" '
            f'viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}">',
            f"<style>{STYLE}</style>",
            arrow((middle, 378), (middle, BOTTOM), (LEFT, BOTTOM),
                  (LEFT, 293)),
            arrow((middle, BOTTOM), (RIGHT, BOTTOM), (RIGHT, 293)),
            arrow((RIGHT, 228), (RIGHT, 185)),
            f'<path class="flow" d="M{LEFT} 120V{TOP}H{middle - 13}"/>',
            f'<path class="flow" d="M{RIGHT} 120V{TOP}H{middle + 13}"/>',
            f'<circle class="flow" cx="{middle}" cy="{TOP}" r="13"/>',
            text("+", middle, TOP + 6, "name"),
            arrow((middle, TOP - 13), (middle, 44)),
            frozen, A, B,
            text("W<tspan dy='5' font-size='15'>0</tspan>", LEFT, 200,
                 "name"),
            text("frozen", LEFT, 230),
            text("A", RIGHT, 267, "name"),
            text("B", RIGHT, 158, "name"),
            text("z: r numbers", RIGHT + 90, 211),
            text("times s", RIGHT + 45, 104),
            text("x: d_in numbers", middle, 402),
            text("y: d_out numbers", middle, 32),
            text("trained", RIGHT + 120, 158),
            text("trained", RIGHT + 120, 267),
            "</svg>\n",
        ]
    )  # fmt: skip


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(), encoding="utf8")
