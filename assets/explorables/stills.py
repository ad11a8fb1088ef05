"""Write the explorables' data and their still pictures.

    python assets/explorables/stills.py

writes the scripts in ``assets/explorables/data`` and the pictures in
``assets/explorables/fallback``, which stand in where scripts do not run. Both
are in git: ``make assets`` runs it again when this file, the style of the
figures, the photograph, a table of the package or a result has changed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, fields

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from lorabook import cost, data, linalg, plot
from lorabook.architectures import ARCHITECTURES
from lorabook.assets import assets_folder

Array = NDArray[np.float64]

FOLDER = assets_folder() / "explorables"
BLUE, ORANGE, GREEN, *_ = plot.COLORS.values()
# Without scripts nobody knows the theme of the page around: a plate follows
# the system, as the ink does.
PLATE = (
    "svg{background:#fff}"
    "@media(prefers-color-scheme:dark){svg{background:#121212}}"
)
SPECTRA = {"update": "ΔW", "weight": "W₀", "noise": "noise"}
SHEAR, ASKED = np.array([[[1.0, 1], [0, 1]], [[3, 0], [4, 5]]])


def script(name: str, content: object) -> str:
    """Return the script that hands `content` to the explorables."""
    text = json.dumps(content, separators=(",", ":"))
    return f"LR.data.{name} = {text.replace('},', '},' + chr(10))};\n"


def photo() -> NDArray[np.uint8]:
    """Return the photograph, 160 rows of 137 pixels from 0 to 255."""
    grey: Array = np.rint(255 * data.photo(160).numpy())
    return grey.astype(np.uint8)


def photo_script() -> str:
    """Return the script with the photograph."""
    rows, columns = photo().shape
    text = base64.b64encode(photo().tobytes()).decode()
    return script("photo", {"rows": rows, "columns": columns, "pixels": text})


def architectures_script() -> str:
    """Return the script with the tables of the calculator."""
    models = {name: asdict(m) for name, m in ARCHITECTURES.items()}
    groups = (
        *("targets", "reads", "formats", "bases", "optimizers"),
        *("losses", "shardings", "cards"),
    )
    tables = {key: getattr(cost, key.upper()) for key in groups}
    return script("architectures", {"models": models, **tables})


def updates_script() -> str:
    """Return the script with spectra and losses of updates."""
    found = data.results("update_spectra")
    about, few = found["provenance"]["settings"], found["few"]

    def losses(by_rank: dict[str, float]) -> list[float]:
        return [round(by_rank[r], 6) for r in found["all"]]

    def layer(of: dict[str, list[float]]) -> dict[str, list[float]]:
        # Enough for energies in tenths of a percent.
        return {k: [float(f"{x:.4g}") for x in of[k]] for k in SPECTRA}

    content = {key: about[key] for key in ("seed", "lr", "steps")} | {
        "bytes": {"all": about["bytes of test text"], "few": few["bytes"]},
        "few": {key: round(few[key], 6) for key in ("before", "after")},
        "ranks": [int(r) for r in found["all"]],
        "all": losses(found["all"]),
        "layers": {
            name: layer(of) | {k: losses(of[k]) for k in ("alone", "among")}
            for name, of in found["layers"].items()
        },
    }
    return script("updates", content)


def still(draw: Callable[[], Figure]) -> str:
    """Return a drawing as an SVG with a plate of its own."""
    # As outlines, its few words would be most of it.
    with mpl.rc_context({**plot.STYLE, "svg.fonttype": "none"}):
        svg = plot.to_svg(draw(), two_themes=True)
    return svg.replace("<style>", f"<style>{PLATE}", 1) + "\n"


def places(rows: int, columns: int, tall: float) -> tuple[Figure, list[Axes]]:
    """Return a figure, `tall` inches high, and its axes."""
    figure = Figure(figsize=(6.4, tall))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def planes(
    *pictures: tuple[str, Array, Array, Iterable[str], float],
) -> Figure:
    """Draw what matrices make of the unit circle and of vectors.

    A picture is a title, the matrix, the vectors as columns, the names of
    their images, and how far it reaches.
    """
    figure, axes = places(2, 2, 6.4)
    circle = np.exp(2j * np.pi * np.linspace(0, 1, 61)).view(float)
    for ax, picture in zip(axes, pictures, strict=True):
        title, M, vectors, names, reach = picture
        ax.plot(*(M @ circle.reshape(-1, 2).T), color=plot.INK, linestyle="-")
        for (x, y), name, color in zip((M @ vectors).T, names, (BLUE, ORANGE)):  # noqa: B905
            style = {"arrowstyle": "->", "color": color, "linewidth": 2.2}
            ax.annotate("", (x, y), (0, 0), arrowprops=style)
            out = 1 + 0.15 * reach / np.hypot(x, y)
            ax.text(out * x, out * y, name, size=12, ha="center", va="center")
        limits = (-reach, reach)
        ax.set(title=title, xlim=limits, ylim=limits, aspect="equal")
        ax.set(xticks=[0], yticks=[0], xticklabels=[], yticklabels=[])
    return figure


def turned(W: Array) -> tuple[Array, Array, Array]:
    """Return U, s and Vt, with V a rotation and v₁ upwards."""
    U, s, Vt = np.linalg.svd(W)
    first = np.sign(Vt[0, 1])
    signs = np.array([first, first * np.linalg.det(Vt)])
    return U * signs, s, signs[:, None] * Vt


def rank_collapse() -> Figure:
    """Draw an ellipse on its way to the nearest matrix of rank 1."""
    (U, s, Vt), eye, names = turned(ASKED), np.eye(2), ("w₁", "w₂")
    thinner, flat = (U * [s[0], share * s[1]] @ Vt for share in (0.4, 0))
    return planes(
        ("the unit circle", eye, eye, ("e₁", "e₂"), 1.6),
        ("rank 2", ASKED, eye, names, 8),
        ("rank 2, nearly 1", thinner, eye, names, 8),
        ("rank 1: w₁ = w₂", flat, eye, ("", ""), 8),
    )


def svd_ellipse() -> Figure:
    """Draw the three steps of a shear."""
    _, s, Vt = turned(SHEAR)
    return planes(
        ("the unit circle", np.eye(2), Vt.T, ("v₁", "v₂"), 2.5),
        ("turned by Vᵀ", Vt, Vt.T, ("e₁", "e₂"), 2.5),
        ("stretched by Σ", s[:, None] * Vt, Vt.T, ("σ₁e₁", "σ₂e₂"), 2.5),
        ("turned by U: the image", SHEAR, Vt.T, ("σ₁u₁", "σ₂u₂"), 2.5),
    )


def truncation_race() -> Figure:
    """Draw the best pair of directions, and what is left without the rest."""
    (U, s, Vt), eye, name = turned(ASKED), np.eye(2), ("σ₁u₁",)
    u, v = U[:, :1], Vt[:1].T
    return planes(
        ("v₁ reads", eye, v, ("v₁",), 1.6),
        ("u₁ writes", eye, u, ("u₁",), 1.6),
        ("the matrix", ASKED, v, name, 8),
        ("its best of rank 1", s[0] * u @ v.T, v, name, 8),
    )


def svd_image() -> Figure:
    """Show the photograph beside its sums of 5 and of 20 layers."""
    U, s, Vt = np.linalg.svd(photo() / 255, full_matrices=False)
    figure, axes = places(1, 3, 2.8)
    for ax, r in zip(axes, (len(s), 5, 20), strict=True):
        grey = (U[:, :r] * s[:r] @ Vt[:r]).clip(0, 1)
        # Every other pixel in 16 greys: the page is lighter.
        few = np.rint(15 * grey[::2, ::2])
        ax.imshow(few, cmap="gray", vmin=0, vmax=15, interpolation="none")
        ax.set_title(f"{r} layers" if r < len(s) else "the photograph")
        ax.set_axis_off()
    return figure


def lora_shapes() -> Figure:
    """Draw a weight of 512 by 512 and factors of rank 8, to scale."""
    side, r, gap = 512, 8, 100
    figure, (ax,) = places(1, 1, 3.2)
    for name, x, wide, tall, color in (
        ("W₀", 0, side, side, plot.MUTED),
        ("B", side + gap, r, side, BLUE),
        ("A", side + r + 2 * gap, side, r, BLUE),
    ):
        ax.bar(x, tall, wide, -tall, align="edge", color=color, linewidth=0)
        ax.text(x + wide / 2, 15, name, ha="center", size=13)
    words = f"{r * 2 * side:,} numbers instead of {side * side:,}"
    ax.text(side + gap, -side - 20, words, ha="center", va="top")
    ax.set(aspect="equal")
    ax.set_axis_off()
    return figure


def lora_calculator() -> Figure:
    """Draw the memory of full fine-tuning and of LoRA, part by part."""
    colors = {
        **{"weights": plot.MUTED, "adapter": GREEN, "gradients": BLUE},
        "optimizer": ORANGE,
    }
    names = {"optimizer": "optimiser", "temporary": "for a moment"}
    figure, (ax,) = places(1, 1, 2.4)
    for y, r in ((1, None), (0, 16)):
        found, x = cost.training_memory("llama-3-8b", r), 0.0
        name = f"LoRA, r = {r}" if r else "full fine-tuning"
        ax.text(0, y + 0.36, f"{name}: {found.total / 1e9:.1f} GB")
        for part in (each.name for each in fields(found)):
            size = getattr(found, part) / 1e9
            if not size:
                continue
            # What is held for a while only is an empty box.
            color = colors.get(part, "none")
            ax.barh(y, size, 0.5, x, color=color, ec=plot.INK, linewidth=0.6)
            if size > 20:
                words, at = names.get(part, part), (x + size / 2, y - 0.3)
                ax.text(*at, words, ha="center", va="top")
            x += size
    ax.set(ylim=(-0.4, 1.7))
    ax.set_axis_off()
    return figure


def update_spectrum() -> Figure:
    """Draw which share of energy and gain the first r of 128 hold."""
    found = data.results("update_spectra")
    figure, (ax,) = places(1, 1, 3.2)
    for kind, name in SPECTRA.items():
        squares = np.array([x[kind] for x in found["layers"].values()]) ** 2
        share = squares.cumsum(1) / squares.sum(1, keepdims=True)
        ax.plot(range(1, 129), share.mean(0), label=f"energy of {name}")
    before, *losses = found["all"].values()
    gains = [(before - x) / (before - losses[-1]) for x in losses]
    ranks = [int(r) for r in found["all"]][1:]
    ax.plot(ranks, gains, "o", color=plot.INK, label="gain in loss")
    ax.set_xscale("log", base=2, subs=[])
    ax.set_xticks(ranks, labels=[str(r) for r in ranks])
    ax.set(xlabel="r", ylabel="share kept by the first r")
    ax.legend(loc="lower right")
    return figure


def some(draw: np.random.Generator, m: int, n: int, size: float) -> Tensor:
    """Draw a matrix of normal numbers, to be trained."""
    M = torch.from_numpy(size * draw.standard_normal((m, n)))
    return M.requires_grad_()


def steps(
    rule: Optimizer, loss: Callable[[], Tensor], count: int
) -> Iterator[None]:
    """Pause before each step, its gradients at hand, and after the last."""
    for _ in range(count + 1):
        rule.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        yield
        rule.step()


def descent() -> Figure:
    """Draw the loss and the singular values of a run from a tiny start."""
    draw, sigma = np.random.default_rng(1), [1, 0.5, 0.25, 0.125]
    W = torch.diag(torch.tensor([*sigma, 0, 0], dtype=torch.float64))
    B, A = some(draw, 6, 4, 1e-3), some(draw, 4, 6, 1e-3)
    rule = SGD([B, A], lr=0.1)
    run = steps(rule, lambda: (B @ A - W).square().sum() / 2, 800)
    products = torch.stack([(B @ A).detach() for _ in run])
    figure, (left, right) = places(1, 2, 2.8)
    left.plot((products - W).square().sum((1, 2)) / 2, color=BLUE)
    left.set(xlabel="step", title="loss")
    values = torch.linalg.svdvals(products)[:, :4]
    right.plot(values, color=BLUE, linestyle="-")
    right.set(xlabel="step", title="singular values of BA", yticks=sigma)
    return figure


def alpha_run(alpha: float, lr: float, size: float) -> Tensor:
    """Return ΔW at the steps 0 to 30 of Adam; `size` is that of A's start."""
    draw, s = np.random.default_rng(0), alpha / 8
    T, X = some(draw, 16, 24, 1 / 8), some(draw, 32, 24, 24**-0.5)
    A, B = some(draw, 8, 24, size * 24**-0.5), some(draw, 16, 8, 0)
    rule = Adam([A, B], lr=lr, eps=1e-30)
    run = steps(rule, lambda: (X @ (s * B @ A - T).T).square().sum(), 30)
    return torch.stack([(s * B @ A).detach() for _ in run])


def alpha_lr() -> Figure:
    """Draw a pair of runs that differ, and one that does not."""
    figure, axes = places(1, 2, 2.8)
    yours = alpha_run(64, 2**-7, 1)
    for ax, by, size in zip(axes, (4, 2), (1, 2), strict=True):
        hers = alpha_run(16, by * 2**-7, size)
        ax.plot(yours.norm(dim=(1, 2)), linewidth=5, label="yours")
        ax.plot(hers.norm(dim=(1, 2)), label="hers")
        apart = (hers[-1] - yours[-1]).norm() / yours[-1].norm()
        words = f"{apart:.0%} apart" if apart else "the same, to the bit"
        ax.set(xlabel=f"step; at the last: {words}", ylim=(0, None))
        ax.set_title(f"rate × {by}, start × {size}")
    axes[0].legend(title="size of ΔW")
    return figure


def gradient_rank() -> Figure:
    """Draw the ranks of gradients and of their sum, for batches of three."""
    draw, side = np.random.default_rng(0), 16
    C, D = some(draw, side, side, 0.1), some(draw, side, side, 0)
    A, B = some(draw, 2, side, 0.2), some(draw, side, 2, 0)

    def loss() -> Tensor:
        x, noise = some(draw, 3, side, 0.25), some(draw, 3, side, 0.1)
        off = [x @ (update - C).T - noise for update in (D, 2 * B @ A)]
        return torch.stack(off).square().sum() / 6

    run = steps(SGD([A, B, D], lr=0.5), loss, 24)
    found = [(D.detach().clone(), D.grad, (B @ A).detach()) for _ in run]
    names = ("sum of the steps", "one gradient", "LoRA’s ΔW")
    figure, (left, right) = places(1, 2, 2.9)
    for name, matrices in zip(names, zip(*found, strict=True), strict=True):
        ranks = [linalg.numerical_rank(M) for M in matrices]
        left.plot(range(1, 25), ranks[1:], label=name)
        s = torch.linalg.svdvals(matrices[6])[: ranks[6]]
        right.semilogy(range(1, len(s) + 1), s / s[0])
    left.set(xlabel="steps", title="rank", xticks=[1, 6, 24])
    left.set_yticks([2, 3, 16])
    left.legend(loc="center right")
    right.set(xlabel="direction", title="singular values after 6 steps")
    return figure


DRAWINGS: tuple[Callable[[], Figure], ...] = (
    alpha_lr, descent, gradient_rank, lora_calculator, lora_shapes,
    rank_collapse, svd_ellipse, svd_image, truncation_race, update_spectrum,
)  # fmt: skip


def files() -> Iterator[tuple[str, str]]:
    """Yield the path and the text of all that this script writes."""
    yield "data/architectures.js", architectures_script()
    yield "data/photo.js", photo_script()
    yield "data/updates.js", updates_script()
    for draw in DRAWINGS:
        name = draw.__name__.replace("_", "-")
        yield f"fallback/{name}.svg", still(draw)


if __name__ == "__main__":
    for name, text in files():
        (FOLDER / name).write_text(text, encoding="utf-8")
