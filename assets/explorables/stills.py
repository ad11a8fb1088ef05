"""Write the explorables' data and their still pictures.

    python assets/explorables/stills.py

writes the scripts in ``assets/explorables/data`` and the pictures in
``assets/explorables/fallback``, which stand in where scripts do not run. Both
are in git: run it again, or ``make assets``, only when this file, the
photograph, a table of the package or a file of ``assets/results`` changes.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lorabook import cost, data
from lorabook.architectures import ARCHITECTURES
from lorabook.assets import assets_folder

Array = NDArray[np.float64]

HEIGHT = 160
SPECTRA = ("update", "weight", "noise")
PANEL, GAP, TITLE = 200, 12, 26
# The colours of the explorables, on a plate of their own: without scripts,
# nobody knows the theme of the page around.
STYLE = (
    "<style>svg{--bg:#fff;--ink:#222832;--soft:#d3d4d6;--c1:#2f53b6;"
    "--c2:#a34f0e}@media(prefers-color-scheme:dark){svg{--bg:#14181e;"
    "--ink:#ced6dd;--soft:#3d4248;--c1:#6387e9;--c2:#d38040}}"
    "text{font:600 15px system-ui,sans-serif;fill:var(--ink);"
    "text-anchor:middle;paint-order:stroke;stroke:var(--bg);stroke-width:4px}"
    "path{fill:none;stroke-width:2;stroke:var(--ink)}"
    ".g{stroke:var(--soft);stroke-width:1}path.c1{stroke:var(--c1)}"
    "path.c2{stroke:var(--c2)}text.c1{fill:var(--c1)}"
    "text.c2{fill:var(--c2)}</style>"
)


def photo_pixels() -> NDArray[np.uint8]:
    """Return the photograph, 160 rows of 137 pixels from 0 to 255."""
    grey = data.photo(HEIGHT).numpy()
    pixels: NDArray[np.uint8] = np.rint(grey * 255).astype(np.uint8)
    return pixels


def photo_script() -> str:
    """Return the script that hands the photograph to the explorables."""
    pixels = photo_pixels()
    rows, columns = pixels.shape
    text = base64.b64encode(pixels.tobytes()).decode()
    return (
        f"LR.data.photo = {{rows: {rows}, columns: {columns}, "
        f'pixels: "{text}"}};\n'
    )


def architectures_script() -> str:
    """Return the script with the tables of the calculator."""
    tables = {
        "models": {
            name: {
                "layers": m.layers,
                "width": m.width,
                "heads": m.heads,
                "vocabulary": m.vocabulary,
                "other": m.other,
                "decoder": m.decoder,
                "linears": m.linears,
            }
            for name, m in ARCHITECTURES.items()
        },
        "targets": cost.TARGETS,
        "formats": cost.FORMATS,
        "bases": cost.BASES,
        "optimizers": cost.OPTIMIZERS,
    }
    return f"LR.data.architectures = {json.dumps(tables)};\n"


def update_results() -> dict[str, Any]:
    """Return what ``experiments/update_spectra.py`` has measured."""
    file = assets_folder() / "results" / "update_spectra.json"
    found: dict[str, Any] = json.loads(file.read_text("utf8"))
    return found


def updates_script() -> str:
    """Return the script that hands spectra and losses to the explorables."""
    found = update_results()
    about = found["provenance"]["settings"]
    ranks = list(found["all"])

    def spectrum(values: list[float]) -> list[float]:
        # Enough for energies in tenths of a percent.
        return [float(f"{x:.4g}") for x in values]

    def losses(by_rank: dict[str, float]) -> list[float]:
        return [round(by_rank[r], 6) for r in ranks]

    content = {
        "seed": about["seed"],
        "lr": about["lr"],
        "steps": about["steps"],
        "bytes": {
            "all": about["bytes of test text"],
            "few": found["few"]["bytes"],
        },
        "few": {k: round(found["few"][k], 6) for k in ("before", "after")},
        "ranks": [int(r) for r in ranks],
        "all": losses(found["all"]),
        "layers": {
            name: {
                **{k: spectrum(layer[k]) for k in SPECTRA},
                **{k: losses(layer[k]) for k in ("alone", "among")},
            }
            for name, layer in found["layers"].items()
        },
    }
    text = json.dumps(content, separators=(",", ":"))
    return f"LR.data.updates = {text.replace('},', '},' + chr(10))};\n"


def svg(width: float, height: float, body: str) -> str:
    """Wrap `body` in a picture that follows the theme."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {width:g} {height:g}">{STYLE}'
        f'<rect width="100%" height="100%" rx="8" style="fill:var(--bg)"/>'
        f"{body}</svg>\n"
    )


def panels(pictures: list[tuple[str, str]]) -> str:
    """Set titled squares out in two columns."""
    body = ""
    for k, (title, content) in enumerate(pictures):
        x = GAP + k % 2 * (PANEL + GAP)
        y = GAP + k // 2 * (PANEL + TITLE + GAP)
        half = PANEL / 2
        body += (
            f'<text x="{x + half:g}" y="{y + 16}">{title}</text>'
            f'<svg x="{x}" y="{y + TITLE}" width="{PANEL}" height="{PANEL}" '
            f'viewBox="{-half:g} {-half:g} {PANEL} {PANEL}">'
            f'{content}</svg><path class="g" d="M{x} {y + TITLE}'
            f'h{PANEL}v{PANEL}h{-PANEL}z"/>'
        )
    width = 2 * PANEL + 3 * GAP
    return svg(width, 2 * (PANEL + TITLE) + 3 * GAP, body)


class Plane:
    """A picture of the square from -reach to reach, y upwards."""

    def __init__(self, reach: float):
        self.scale = PANEL / 2 / reach
        self.body = ""
        for d in ("M-100 0H100", "M0-100V100"):
            self.body += f'<path class="g" d="{d}"/>'

    def line(self, points: Array, kind: str = "") -> None:
        """Draw through `points`, shape (n, 2)."""
        steps = (points * [self.scale, -self.scale]).round(1)
        d = "L".join(f"{x:g} {y:g}" for x, y in steps + 0.0)
        self.body += f'<path class="{kind}" d="M{d}"/>'

    def arrow(self, tip: Array, kind: str, label: str) -> None:
        """Draw from the origin to `tip`, shape (2,), and name it."""
        size = float(np.hypot(*tip))
        along = tip / size * 9 / self.scale
        across = np.array([-along[1], along[0]]) / 2
        self.line(np.array([0 * tip, tip]), kind)
        barbs = [tip - along + across, tip, tip - along - across]
        self.line(np.array(barbs), kind)
        x, y = (tip + tip / size * 18 / self.scale) * self.scale
        self.body += (
            f'<text class="{kind}" x="{x:.1f}" y="{5 - y:.1f}">{label}</text>'
        )


def circle() -> Array:
    """Return points of the unit circle, shape (2, 61)."""
    angle = np.linspace(0, 2 * np.pi, 61)
    return np.array([np.cos(angle), np.sin(angle)])


def image_of(
    M: Array, columns: Array, names: tuple[str, str], reach: float
) -> str:
    """Draw what M makes of the circle and of two `columns`."""
    plane = Plane(reach)
    plane.line((M @ circle()).T)
    for k in (0, 1):
        plane.arrow((M @ columns)[:, k], f"c{k + 1}", names[k])
    return plane.body


def rank_collapse() -> str:
    """Draw an ellipse on its way to the nearest matrix of rank 1."""
    A = np.array([[3.0, 0.0], [4.0, 5.0]])
    U, s, Vt = np.linalg.svd(A)
    thinner, flat = (
        U @ np.diag([s[0], share * s[1]]) @ Vt for share in (0.4, 0)
    )
    eye = np.eye(2)
    return panels(
        [
            ("the unit circle", image_of(eye, eye, ("e₁", "e₂"), 1.6)),
            ("rank 2", image_of(A, eye, ("a₁", "a₂"), 8)),
            ("rank 2, nearly 1", image_of(thinner, eye, ("a₁", "a₂"), 8)),
            ("rank 1", image_of(flat, eye, ("", "a₁ = a₂"), 8)),
        ]
    )


def svd_ellipse() -> str:
    """Draw the three steps of the shear [[1, 1], [0, 1]]."""
    A = np.array([[1.0, 1.0], [0.0, 1.0]])
    _, s, Vt = np.linalg.svd(A)
    # The sign of a pair of singular vectors is free: v1 points upwards, and
    # v2 follows at a right angle. As det A > 0, U is a rotation too.
    first = np.sign(Vt[0, 1])
    Vt *= np.array([[first], [first * np.linalg.det(Vt)]])
    steps = [
        ("the unit circle", np.eye(2), ("v₁", "v₂")),
        ("turned by Vᵀ", Vt, ("e₁", "e₂")),
        ("stretched by Σ", np.diag(s) @ Vt, ("σ₁e₁", "σ₂e₂")),
        ("turned by U: the image", A, ("σ₁u₁", "σ₂u₂")),
    ]
    return panels(
        [(title, image_of(M, Vt.T, names, 2.5)) for title, M, names in steps]
    )


def svd_image() -> str:
    """Show the photograph beside its sums of 5 and of 20 layers."""
    pixels = photo_pixels()
    U, s, Vt = np.linalg.svd(pixels / 255, full_matrices=False)
    pictures = [("the photograph", pixels)]
    for r in (5, 20):
        sum_ = (U[:, :r] * s[:r]) @ Vt[:r]
        grey = np.rint(sum_.clip(0, 1) * 255).astype(np.uint8)
        pictures.append((f"{r} layers", grey))
    height, width = pixels.shape
    body = ""
    for k, (title, grey) in enumerate(pictures):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "JPEG", quality=60, optimize=True)
        raw = base64.b64encode(file.getvalue()).decode()
        x = GAP + k * (width + GAP)
        body += (
            f'<text x="{x + width / 2:g}" y="{GAP + 14}">{title}</text>'
            f'<image x="{x}" y="{GAP + TITLE}" width="{width}" '
            f'height="{height}" href="data:image/jpeg;base64,{raw}"/>'
        )
    return svg(3 * width + 4 * GAP, height + TITLE + 2 * GAP, body)


def lora_shapes() -> str:
    """Draw a weight of 512 by 512 and factors of rank 8, to scale."""
    side, r, unit, x, y = 512, 8, 0.36, GAP, GAP + TITLE
    whole, strip = side * unit, r * unit
    body = ""
    for name, left, width, height, kind in (
        ("W₀", x, whole, whole, "g"),
        ("B", x + whole + 40, strip, whole, "c1"),
        ("A", x + whole + 80 + strip, whole, strip, "c1"),
    ):
        body += (
            f'<path class="{kind}" d="M{left:g} {y}h{width:g}v{height:g}'
            f'h{-width:g}z"/><text x="{left + width / 2:g}" y="{y - 9}">'
            f"{name}</text>"
        )
    words = f"{r * 2 * side:,} numbers instead of {side * side:,}"
    width = 2 * whole + 80 + strip + 2 * GAP
    body += f'<text x="{width / 2:g}" y="{y + whole + 26:g}">{words}</text>'
    return svg(width, y + whole + 26 + GAP, body)


def truncation_race() -> str:
    """Draw the best pair of directions, and what is left without the rest."""
    A = np.array([[3.0, 0.0], [4.0, 5.0]])
    U, s, Vt = np.linalg.svd(A)
    sign = np.sign(Vt[0, 1])
    u, v = sign * U[:, 0], sign * Vt[0]
    pictures = []
    for vector, name, kind in ((v, "v₁", "c2"), (u, "u₁", "c1")):
        plane = Plane(1.6)
        plane.line(circle().T)
        plane.arrow(vector, kind, name)
        pictures.append(plane.body)
    for M in (A, s[0] * np.outer(u, v)):
        plane = Plane(8)
        plane.line((M @ circle()).T)
        plane.arrow(s[0] * u, "c1", "σ₁u₁")
        pictures.append(plane.body)
    titles = ("v₁ reads", "u₁ writes", "the matrix", "its best of rank 1")
    return panels(list(zip(titles, pictures, strict=True)))


def random(seed: int) -> Iterator[float]:
    """Yield the numbers of `LR.random`: mulberry32."""

    def product(a: int, b: int) -> int:
        return a * b & 0xFFFFFFFF

    while True:
        seed = seed + 0x6D2B79F5 & 0xFFFFFFFF
        t = product(seed ^ seed >> 15, 1 | seed)
        t ^= t + product(t ^ t >> 7, 61 | t) & 0xFFFFFFFF
        yield (t ^ t >> 14) / 2**32


def descent_run() -> tuple[Array, Array]:
    """Return losses and singular values of the run that `descent` starts."""
    W, r, rate = np.zeros((8, 6)), 4, 0.1
    np.fill_diagonal(W, [1, 0.5, 0.25, 0.125, 0, 0])
    numbers = random(1)

    def normal(m: int, n: int) -> Array:
        draws = [
            np.sqrt(-2 * np.log(1 - next(numbers)))
            * np.cos(2 * np.pi * next(numbers))
            for _ in range(m * n)
        ]
        return 1e-3 * np.array(draws).reshape(m, n)

    B, A = normal(8, r), normal(r, 6)
    losses, values = [], []
    for step in range(801):
        R = B @ A - W
        if step % 8 == 0:
            losses.append((R**2).sum() / 2)
            values.append(np.linalg.svd(B @ A, compute_uv=False)[:r])
        B, A = B - rate * R @ A.T, A - rate * B.T @ R
    return np.array(losses), np.array(values)


def descent() -> str:
    """Draw the loss and the singular values of a run."""
    losses, values = descent_run()
    width, height, body = 260, 170, ""
    for k, (title, curves) in enumerate(
        [("loss", losses[:, None] / 0.7), ("singular values", values / 1.1)]
    ):
        x, y = GAP + k * (width + GAP), GAP + TITLE
        body += (
            f'<text x="{x + width / 2:g}" y="{y - 9}">{title}</text>'
            f'<path class="g" d="M{x} {y}v{height}h{width}"/>'
        )
        for curve in curves.T:
            points = "L".join(
                f"{x + width * i / 100:g} {y + height * (1 - v):.1f}"
                for i, v in enumerate(curve)
            )
            body += f'<path class="c1" d="M{points}"/>'
        body += (
            f'<text x="{x + width / 2:g}" y="{y + height + 20}">'
            "800 steps</text>"
        )
    return svg(2 * width + 3 * GAP, y + height + 20 + GAP, body)


def lora_calculator() -> str:
    """Draw the memory of full fine-tuning and of LoRA, part by part."""
    found = {
        "full fine-tuning": cost.training_memory("llama-3-8b"),
        "LoRA, r = 16": cost.training_memory("llama-3-8b", 16),
    }
    width, tall, y, body = 520, 34, GAP, ""
    scale = (width - 2 * GAP) / found["full fine-tuning"].total
    styles = {
        "weights": "var(--ink)",
        "adapter": "var(--c1)",
        "gradients": "var(--c1)",
        "optimizer": "var(--c2)",
        "activations": "none",
        "peak": "none",
    }
    for name, memory in found.items():
        x = float(GAP)
        body += (
            f'<text style="text-anchor:start" x="{GAP}" y="{y + 16}">{name}: '
            f"{memory.total / 1e9:.1f} GB</text>"
        )
        for part, fill in styles.items():
            w = getattr(memory, part) * scale
            body += (
                f'<path style="fill:{fill};stroke-width:1" '
                f'd="M{x:.1f} {y + TITLE}h{w:.1f}v{tall}h{-w:.1f}z"/>'
            )
            if w > 70:
                body += (
                    f'<text x="{x + w / 2:.1f}" y="{y + TITLE + 22}">'
                    f"{part}</text>"
                )
            x += w
        y += TITLE + tall + GAP
    return svg(width, y, body)


def update_spectrum() -> str:
    """Draw which share of energy and gain the first r of 128 hold."""
    found = update_results()
    width, height, left, y = 400, 220, 54, GAP + TITLE + 8

    def at(r: float, share: float) -> Array:
        across, down = width * np.log2(r) / 7, height * (1 - share)
        return np.array([left + across, y + down]).round(1)

    def text(
        place: Array,
        words: str,
        kind: str = "",
        aside: tuple[int, int] = (0, 0),
    ) -> str:
        x, down = place + np.array(aside)
        return f'<text class="{kind}" x="{x:g}" y="{down:g}">{words}</text>'

    middle = np.array([left + width / 2, GAP + 14])
    body = text(middle, "kept by the first r: ● gain in loss, lines: energy")
    body += f'<path class="g" d="M{left} {y}v{height}h{width}"/>'
    for kind, style, name, r, aside in (
        ("update", "c1", "ΔW", 2.2, (0, -10)),
        ("weight", "c2", "W₀", 5, (16, 14)),
        ("noise", "", "noise", 20, (34, 10)),
    ):
        squares = np.array([x[kind] for x in found["layers"].values()]) ** 2
        shares = squares.cumsum(1) / squares.sum(1, keepdims=True)
        mean = shares.mean(0)  # (128,)
        points = [at(i + 1, e) for i, e in enumerate(mean)]
        d = "L".join(f"{x:g} {down:g}" for x, down in points)
        dash = {"update": "none", "weight": "8 4", "noise": "2 4"}[kind]
        body += f'<path class="{style}" stroke-dasharray="{dash}" d="M{d}"/>'
        body += text(at(r, mean[int(r) - 1]), name, style, aside)
    losses = {int(r): x for r, x in found["all"].items()}
    for r in list(losses)[1:]:
        gain = (losses[0] - losses[r]) / (losses[0] - losses[128])
        x, down = at(r, gain)
        body += (
            f'<circle cx="{x:g}" cy="{down:g}" r="4.5" '
            'style="fill:var(--ink)"/>'
        )
        body += text(at(r, 0), str(r), aside=(0, 20))
    for share in (0, 0.5, 1):
        body += text(at(1, share), f"{share:.0%}", aside=(-26, 5))
    return svg(left + width + 3 * GAP, y + height + 24 + GAP, body)


def alpha_problem() -> tuple[Array, Array, Array]:
    """Return start, target and covariance of the problem of `alpha-lr`."""
    numbers = random(1)

    def uniform(m: int, n: int) -> Array:
        draws = [2 * next(numbers) - 1 for _ in range(m * n)]
        return np.array(draws).reshape(m, n)

    A, X = uniform(16, 24) / np.sqrt(24), uniform(32, 24)
    for j in range(1, 24):
        X[:, j] += 0.8 * X[:, j - 1]
    T = uniform(16, 8) / np.arange(1, 9) @ uniform(8, 24)
    T *= 4 / np.linalg.norm(T)
    C = X.T @ X
    return A, T, C * 2 / (T @ C * T).sum()


def alpha_run(alpha: float, lr: float, size: float) -> Array:
    """Return ΔW at the steps 0 to 30 of a run with Adam and rank 8.

    `size` is that of the start of A. Shape (31, 16, 24).
    """
    A, T, C = alpha_problem()
    factors = {"B": np.zeros((16, 8)), "A": size * A[:8]}
    s, found = alpha / 8, []
    mean = {name: 0 * X for name, X in factors.items()}
    square = {name: 0 * X for name, X in factors.items()}
    for t in range(1, 32):
        B, A = factors["B"], factors["A"]
        found.append(s * B @ A)
        G = (found[-1] - T) @ C
        for name, g in (("B", s * G @ A.T), ("A", s * B.T @ G)):
            mean[name] = 0.9 * mean[name] + 0.1 * g
            square[name] = 0.999 * square[name] + 0.001 * g**2
            step = mean[name] / (1 - 0.9**t)
            step /= np.sqrt(square[name] / (1 - 0.999**t)) + 1e-30
            factors[name] = factors[name] - lr * step
    return np.array(found)


def alpha_lr() -> str:
    """Draw a pair of runs that differ, and one that does not."""
    yours = alpha_run(64, 2**-7, 1)
    width, height, body = 260, 170, ""
    for k, (title, lr, size) in enumerate(
        [("rate × 4", 2**-5, 1), ("rate × 2, start × 2", 2**-6, 2)]
    ):
        x, y = GAP + k * (width + GAP), GAP + TITLE
        body += (
            f'<text x="{x + width / 2:g}" y="{y - 9}">{title}</text>'
            f'<path class="g" d="M{x} {y}v{height}h{width}"/>'
        )
        hers = alpha_run(16, lr, size)
        for run, kind, style in (
            (yours, "c1", "stroke-width:5"),
            (hers, "c2", "stroke-dasharray:6 4"),
        ):
            norms = np.linalg.norm(run, axis=(1, 2))
            points = "L".join(
                f"{x + width * t / 30:.1f} {y + height * (1 - v / 4):.1f}"
                for t, v in enumerate(norms)
            )
            body += f'<path class="{kind}" style="{style}" d="M{points}"/>'
        apart = np.linalg.norm(hers[-1] - yours[-1])
        apart /= np.linalg.norm(yours[-1])
        words = f"{apart:.0%} apart" if apart else "the same, to the bit"
        body += (
            f'<text x="{x + width / 2:g}" y="{y + height + 20}">{words}</text>'
        )
    return svg(2 * width + 3 * GAP, y + height + 20 + GAP, body)


FILES: dict[str, Callable[[], str]] = {
    "data/architectures.js": architectures_script,
    "data/photo.js": photo_script,
    "data/updates.js": updates_script,
    "fallback/alpha-lr.svg": alpha_lr,
    "fallback/descent.svg": descent,
    "fallback/lora-calculator.svg": lora_calculator,
    "fallback/lora-shapes.svg": lora_shapes,
    "fallback/rank-collapse.svg": rank_collapse,
    "fallback/svd-ellipse.svg": svd_ellipse,
    "fallback/svd-image.svg": svd_image,
    "fallback/truncation-race.svg": truncation_race,
    "fallback/update-spectrum.svg": update_spectrum,
}

if __name__ == "__main__":
    for name, write in FILES.items():
        path = assets_folder() / "explorables" / name
        path.write_text(write(), encoding="utf-8")
        print(f"{name}: {path.stat().st_size:,} bytes")
