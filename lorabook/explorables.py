"""Explorables: figures that the reader can move, in the book and in Jupyter.

Each is a custom element in plain JavaScript, in ``assets/explorables``. In
the book (environment variable ``LORABOOK_SITE``) `show` writes the element
alone, and the Sphinx extension of the same name loads its scripts; elsewhere
the output carries everything that it needs.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

from lorabook.architectures import ARCHITECTURES
from lorabook.assets import assets_folder
from lorabook.cost import BASES, TARGETS

# Stands for the folder of the explorables until the depth of the page is
# known; the Sphinx extension replaces it.
STATIC = "lorabook-static:"
LARGEST = 100  # of a matrix entry
RANKS = 137  # of the photograph, which is 160 x 137
LINALG = ("core.js", "linalg.js")  # the scripts of those that compute


@dataclass(frozen=True)
class Attribute:
    """What an attribute may be: in words, and as a check.

    `write` turns a value into the text of the HTML attribute; it raises
    ValueError or TypeError for what does not fit.
    """

    allowed: str
    write: Callable[[Any], str]


@dataclass(frozen=True)
class Entry:
    """One explorable: its picture in words, attributes, and files."""

    alt: str
    attributes: dict[str, Attribute]
    scripts: tuple[str, ...]
    data: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explorable:
    """An explorable with its attributes checked; Jupyter displays it."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def alt(self) -> str:
        """The still picture in words."""
        return REGISTRY[self.name].alt

    def html(self, inline: bool) -> str:
        """Return the element, with all it needs or for a page of the book.

        Parameters
        ----------
        inline : bool
            Carry scripts, data and the still picture along. Otherwise the
            page has to load the scripts, and addresses start with `STATIC`.
        """
        entry = REGISTRY[self.name]
        given = "".join(
            f' {key}="{escape(text)}"' for key, text in self.attributes.items()
        )
        picture = f"fallback/{self.name}.svg"
        if inline:
            raw = base64.b64encode(_file(picture)).decode()
            source = f"data:image/svg+xml;base64,{raw}"
        else:
            source = STATIC + picture
        still = (
            f'<img src="{source}" alt="{escape(self.alt)}" '
            'style="width:100%;max-width:34rem">'
        )
        if not inline:
            # Where scripts run, the browser does not even fetch it. A notebook
            # that is not trusted drops the scripts and shows what is left.
            still = f"<noscript>{still}</noscript>"
        tag = f"lr-{self.name}"
        html = (
            f'<div class="lr-explorable"><{tag}{given}>{still}</{tag}></div>'
        )
        if inline:
            data = (f"data/{name}.js" for name in entry.data)
            for path in ("core.js", *data, *entry.scripts[1:]):
                html += f"\n<script>{_file(path).decode()}</script>"
        return html

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        inline = "LORABOOK_SITE" not in os.environ
        return {
            "text/html": self.html(inline=inline),
            "text/plain": f"[{self.name}, an interactive figure: {self.alt}]",
        }


def show(name: str, **attributes: Any) -> Explorable:
    """Return an explorable to display: ``show("svd-image", rank=20)``.

    Parameters
    ----------
    name : str
        One of `REGISTRY`.
    **attributes
        How it starts; each explorable has its own, in `REGISTRY`.

    Returns
    -------
    Explorable
        The last expression of a notebook cell, it appears below the cell.

    Raises
    ------
    ValueError
        If there is no such explorable or attribute, or if a value does not
        fit. The message says what is allowed.
    """
    if name not in REGISTRY:
        raise ValueError(
            f"there is no explorable {name!r}; there are {', '.join(REGISTRY)}"
        )
    known = REGISTRY[name].attributes
    texts = {}
    for key, value in attributes.items():
        if key not in known:
            raise ValueError(
                f"{name} has no attribute {key!r}; it has {', '.join(known)}"
            )
        try:
            texts[key] = known[key].write(value)
        except (ArithmeticError, TypeError, ValueError):
            raise ValueError(
                f"{key}={value!r} does not fit: "
                f"{key} must be {known[key].allowed}"
            ) from None
    return Explorable(name, texts)


def _file(path: str) -> bytes:
    return (assets_folder() / "explorables" / path).read_bytes()


def _whole(low: int, high: int) -> Attribute:
    def write(value: Any) -> str:
        number = int(value)
        if number != float(value) or not low <= number <= high:
            raise ValueError
        return str(number)

    return Attribute(f"a whole number from {low} to {high}", write)


def _real(low: float, high: float, of: str = "") -> Attribute:
    def write(value: Any) -> str:
        if not low <= float(value) <= high:
            raise ValueError
        return repr(float(value))

    return Attribute(f"a number {of}from {low} to {high}", write)


def _power(low: int, high: int) -> Attribute:
    """Take a power of two, from 2^low to 2^high."""

    def write(value: Any) -> str:
        exponent = math.log2(float(value))
        if exponent != int(exponent) or not low <= exponent <= high:
            raise ValueError
        return repr(float(value)) if exponent < 0 else str(int(float(value)))

    first, last = (f"1/{2**-k}" if k < 0 else str(2**k) for k in (low, high))
    return Attribute(f"a power of two from {first} to {last}", write)


def _one_of(*words: str) -> Attribute:
    def write(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return Attribute(f"one of {', '.join(words)}", write)


def _map() -> Attribute:
    """Take the name of a linear map of the book's model, or "all"."""
    maps = ("attention.q", "attention.k", "attention.v", "attention.o")
    names = {
        f"blocks.{b}.{m}" for b in range(4) for m in (*maps, "up", "down")
    }
    inner = _one_of("all", *sorted(names))
    return Attribute(
        '"all" or the name of a map, like "blocks.2.attention.q"', inner.write
    )


def _square(*sizes: int) -> Attribute:
    """Take "3 0; 4 5", nested lists, or anything with `tolist`."""

    def write(value: Any) -> str:
        if isinstance(value, str):
            value = value.replace(",", " ").split(";")
            value = [row.split() for row in value]
        elif hasattr(value, "tolist"):
            value = value.tolist()
        rows = [[float(x) for x in row] for row in value]
        if len(rows) not in sizes or any(
            len(row) != len(rows) or not all(abs(x) <= LARGEST for x in row)
            for row in rows
        ):
            raise ValueError
        return "; ".join(" ".join(f"{x:.12g}" for x in row) for row in rows)

    count = " or ".join(map(str, sizes))
    return Attribute(
        f'{count} rows like "3 0; 4 5", entries from −{LARGEST} to {LARGEST}',
        write,
    )


REGISTRY: dict[str, Entry] = {
    "lora-shapes": Entry(
        alt=(
            "A square W₀ of 512 by 512 beside two strips drawn to the same "
            "scale, B of 512 by 8 and A of 8 by 512. The strips hold 8,192 "
            "numbers, 3.13% of the 262,144 in the square."
        ),
        attributes={
            "outputs": _whole(16, 16384),
            "inputs": _whole(16, 16384),
            "rank": _whole(1, 16384),
        },
        scripts=("core.js", "lora-shapes.js"),
    ),
    "rank-collapse": Entry(
        alt=(
            "Four pictures. The unit circle; its image under the matrix with "
            "the columns (3, 4) and (0, 5), an ellipse with half axes 6.708 "
            "and 2.236; a thinner ellipse, the columns closer together; a "
            "segment: both columns are (1.5, 4.5), and the rank is 1."
        ),
        attributes={
            "matrix": _square(2, 3),
            "tolerance": _real(0, 1),
        },
        scripts=(*LINALG, "plane.js", "rank-collapse.js"),
    ),
    "svd-image": Entry(
        alt=(
            "A photograph of 160 by 137 pixels, beside the sums of its first "
            "5 and its first 20 layers: 5 show a blurred figure, 20 a face "
            "that can be recognised."
        ),
        attributes={
            "rank": _whole(1, RANKS),
            "picture": _one_of(
                "photograph", "checkerboard", "diagonal", "noise"
            ),
        },
        scripts=(*LINALG, "chart.js", "svd-image.js"),
        data=("photo",),
    ),
    "svd-ellipse": Entry(
        alt=(
            "Four pictures. The unit circle with the perpendicular vectors "
            "v₁ and v₂; turned by Vᵀ, so that they lie on the axes; "
            "stretched by Σ along the axes, an ellipse; turned by U to its "
            "place, where the vectors are σ₁u₁ and σ₂u₂, still perpendicular."
        ),
        attributes={
            "matrix": _square(2),
            "angle": _real(0, 360, of="of degrees "),
        },
        scripts=(*LINALG, "plane.js", "svd-ellipse.js"),
    ),
    "truncation-race": Entry(
        alt=(
            "Four pictures for the matrix with the rows (3, 0) and (4, 5): "
            "the unit circle with u₁ and with v₁, the ellipse that the matrix "
            "makes of it, and the segment that its best approximation of "
            "rank one makes, at a distance of σ₂ = 2.236."
        ),
        attributes={"matrix": _square(2)},
        scripts=(*LINALG, "plane.js", "truncation-race.js"),
    ),
    "descent": Entry(
        alt=(
            "Two charts over 800 steps. The loss falls in a staircase to "
            "zero; the singular values of BA rise one after the other to 1, "
            "0.5, 0.25 and 0.125, each taking about twice as long as the one "
            "before."
        ),
        attributes={
            "start": _one_of("small", "lora", "zero"),
            "size": _real(1e-6, 1),
            "rank": _whole(1, 6),
            "rate": _real(0.01, 3),
        },
        scripts=(*LINALG, "chart.js", "descent.js"),
    ),
    "gradient-rank": Entry(
        alt=(
            "Two charts for batches of 3 tokens and a weight of 16 by 16. "
            "Left, rank against steps: a gradient stays at 3, LoRA's update "
            "at 2, the sum of the steps climbs by 3 a step and reaches 16 at "
            "the sixth. Right, their singular values after it."
        ),
        attributes={
            "tokens": _whole(1, 20),
            "optimizer": _one_of("sgd", "adam"),
            "rank": _whole(1, 16),
        },
        scripts=(*LINALG, "chart.js", "gradient-rank.js"),
    ),
    "lora-calculator": Entry(
        alt=(
            "Two bars, the memory of training llama-3-8b in full and with "
            "adapters of rank 16 on all its linear maps. In full it takes "
            "160.6 GB, two fifths of it what Adam remembers; with LoRA "
            "18.4 GB, nearly all of it the frozen weights."
        ),
        attributes={
            "model": _one_of(*ARCHITECTURES),
            "rank": _whole(1, 16384),
            "targets": _one_of(*TARGETS),
            "base": _one_of(*BASES),
        },
        scripts=("core.js", "cost.js", "calculator.js", "lora-calculator.js"),
        data=("architectures",),
    ),
    "update-spectrum": Entry(
        alt=(
            "Against r, from 1 to 128: the share of the energy that the first "
            "r directions hold of the updates, the weights and noise, and of "
            "the gain in loss that is left. For r = 8 they hold 54% of the "
            "updates, 46% of the weights and 18% of noise, and 85% of the "
            "gain is left."
        ),
        attributes={"layer": _map(), "rank": _whole(1, 128)},
        scripts=("core.js", "chart.js", "spectrum.js", "update-spectrum.js"),
        data=("updates",),
    ),
    "alpha-lr": Entry(
        alt=(
            "Two charts of the size of ΔW over 30 steps of Adam, yours with "
            "α = 64 and hers with α = 16. Left her rate is 4 times yours: "
            "the curves part. Right her rate and the start of her A are 2 "
            "times yours: the curves are one."
        ),
        attributes={
            "optimizer": _one_of("adam", "sgd"),
            "scaling": _one_of("r", "root"),
            "alpha": _power(0, 8),
            "rank": _power(0, 4),
            "lr": _power(-10, -1),
        },
        scripts=(*LINALG, "chart.js", "two-runs.js", "alpha-lr.js"),
    ),
}
