"""Real data that come with the packages or the book: no downloads."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from lorabook.assets import assets_folder, read_stored

Array = NDArray[np.float64]
Run = Mapping[str, Any]

# Red, green and blue in grey: the luma of ITU-R BT.601.
LUMA = (0.299, 0.587, 0.114)
ELEVATION_SHA256 = (
    "0c7e9f894eb7c8d444ca4475e64249e060d96c90ab63fdf439a0381c590ed502"
)
DIGITS_SHA256 = (
    "68aea062d35a127749050fa0e52dca09d6569ac08092c925610e0954e172dde2"
)


def photo(height: int | None = None) -> Tensor:
    """Return the portrait of Grace Hopper that matplotlib ships, in grey.

    Grey is the luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, of the
    stored (gamma-encoded) colours. Decoders of JPEG may differ by a rounding,
    hence also the last digits of what is computed from the photograph.

    Parameters
    ----------
    height : int, optional
        Rows to shrink it to by Lanczos resampling, from 1 to 600; the
        width keeps the proportions.

    Returns
    -------
    Tensor, shape (600, 512) or (height, width), float64
        Brightness from 0 (black) to 1 (white).

    Raises
    ------
    ValueError
        If `height` is out of range.
    """
    # matplotlib's own annotation leaves open what kind of file it opens.
    file: Any = get_sample_data("grace_hopper.jpg")
    with file, Image.open(file) as image:
        rgb = np.asarray(image.convert("RGB"), dtype=np.float64)
    grey = rgb @ np.array(LUMA) / 255
    if height is not None:
        grey = _shrink(grey, height)
    return torch.from_numpy(grey)


def _shrink(grey: Array, height: int) -> Array:
    rows, columns = grey.shape
    if not 1 <= height <= rows:
        raise ValueError(f"need 1 <= height <= {rows}, got {height}")
    width = max(1, round(columns * height / rows))
    image = Image.fromarray(grey.astype(np.float32))
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    # Lanczos overshoots at edges.
    return np.asarray(image, dtype=np.float64).clip(0, 1)


def elevation() -> Tensor:
    """Return the terrain around the Jacksboro fault, Tennessee.

    Returns
    -------
    Tensor, shape (344, 403), float64
        Metres above sea level. Row 0 is the north; a step is 1/1200 of a
        degree, about 93 m from row to row and 74 m from column to column.
    """
    archive: Any = get_sample_data("jacksboro_fault_dem.npz")
    with archive:
        metres = archive["elevation"]
    _check_sha256("elevation", metres.astype("<i2"), ELEVATION_SHA256)
    return torch.from_numpy(metres.astype(np.float64))


def digits() -> tuple[Tensor, Tensor]:
    """Return the handwritten digits that scikit-learn ships.

    Returns
    -------
    X : Tensor, shape (1797, 64), float32
        One 8 x 8 image a row, ink from 0 to 1 in steps of 1/16.
    y : Tensor, shape (1797,), int64
        The digits, 0 to 9.
    """
    bunch = load_digits()
    stored = np.column_stack([bunch.data, bunch.target]).astype("u1")
    _check_sha256("digits", stored, DIGITS_SHA256)
    X = torch.from_numpy((bunch.data / 16).astype(np.float32))
    return X, torch.from_numpy(bunch.target.astype(np.int64))


def corpus(name: str, split: str = "train") -> Tensor:
    """Return one of the two texts that come with the book, as bytes.

    Snapshots of Python's own documentation and standard library (licence in
    ``assets/data/LICENSE-PSF.txt``), without their repetitions; see
    ``experiments/make_corpora.py``.

    Parameters
    ----------
    name : str
        ``"docs"``, English with some code, or ``"code"``.
    split : str
        ``"train"``, ``"validation"`` to choose settings, or ``"test"``.

    Returns
    -------
    Tensor, shape (n,), uint8

    Raises
    ------
    ValueError
        If there is no such corpus or split.
    RuntimeError
        If the file is not the one that the book was written with.
    """
    if name not in ("docs", "code"):
        raise ValueError(f"the corpora are docs and code, got {name!r}")
    if split not in ("train", "validation", "test"):
        raise ValueError(
            f"the splits are train, validation and test, got {split!r}"
        )
    folder = assets_folder() / "data"
    file = f"python_{name}.{split}.txt"
    files = read_stored(folder / "corpora.json")["files"]
    text = np.fromfile(folder / file, dtype=np.uint8)
    _check_sha256(file, text, files[file]["sha256"])
    return torch.from_numpy(text)


@dataclass(frozen=True)
class Results:
    """What an experiment has stored.

    Attributes
    ----------
    content : mapping
        All of the file. ``results["all"]`` is short for
        ``results.content["all"]``.
    """

    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        """Return one part of the content."""
        return self.content[key]

    @property
    def provenance(self) -> Mapping[str, Any]:
        """How the file came about: command, commit, settings, versions."""
        found: Mapping[str, Any] = self.content["provenance"]
        return found

    @property
    def runs(self) -> list[Run]:
        """All runs, in the order in which they were made."""
        return list(self.content["runs"])

    def pick(self, **wanted: Any) -> list[Run]:
        """Return the runs that have all of these settings.

        Parameters
        ----------
        **wanted
            Settings and their values, as ``method="lora", seed=0``.

        Returns
        -------
        list of mapping

        Raises
        ------
        ValueError
            If there are none.
        """
        found = [x for x in self.runs if wanted.items() <= x.items()]
        if not found:
            raise ValueError(f"no run has the settings {wanted}")
        return found

    def best(self, **kind: Any) -> Run:
        """Return the run that validation chose.

        Of the runs with seed 0, it is the one with the least loss on the
        validation text; of equal ones, the first. All seeds use its learning
        rate, and its α if it has one.

        Parameters
        ----------
        **kind
            As in `pick`, but for the seed and for what is to be chosen.

        Returns
        -------
        mapping

        Raises
        ------
        ValueError
            If there is no such run, or none that did not fail.
        """
        tried = self.pick(seed=0, **kind)
        done = [x for x in tried if x["validation"] is not None]
        if not done:
            raise ValueError(f"every run with the settings {kind} failed")
        return min(done, key=lambda x: float(x["validation"]))

    def at_best(self, **kind: Any) -> list[Run]:
        """Return the runs with the settings of the best, by their seeds.

        Parameters
        ----------
        **kind
            As in `best`.

        Returns
        -------
        list of mapping

        Raises
        ------
        ValueError
            As `best`.
        """
        best = self.best(**kind)
        chosen = {x: best[x] for x in ("lr", "alpha") if x in best}
        return sorted(self.pick(**kind | chosen), key=lambda x: x["seed"])


def results(name: str, folder: str = "results") -> Results:
    """Return what one of the scripts in ``experiments`` has stored.

    Parameters
    ----------
    name : str
        That of a JSON file, as ``"adaptation"`` or ``"update_spectra"``.
    folder : str
        Where it lies in ``assets``: ``"results"``, or ``"checkpoints"`` for
        what is known of the book's language model, ``"tiny_gpt"``.

    Returns
    -------
    Results

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file does not say how it came about, or comes from a tree with
        changes that are in no commit.
    """
    return Results(read_stored(assets_folder() / folder / f"{name}.json"))


def shift_digits(X: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """Move the ink of 8 x 8 images; what leaves an image is lost.

    Parameters
    ----------
    X : Tensor, shape (..., 64)
        Images as `digits` returns them, row by row.
    down, right : int
        Pixels to move by, from -8 to 8; negative: up, left.

    Returns
    -------
    Tensor, shape (..., 64)
        New images; where nothing was moved to, there is no ink.

    Raises
    ------
    ValueError
        If `X` has other images, or if a step is out of range.
    """
    if X.shape[-1] != 64:
        raise ValueError(f"need images of 64 pixels, got {X.shape[-1]}")
    if not (-8 <= down <= 8 and -8 <= right <= 8):
        raise ValueError(f"need steps from -8 to 8, got {down} and {right}")
    images = X.reshape(*X.shape[:-1], 8, 8)
    # Negative padding crops: what is pushed in on one side leaves the other.
    moved = F.pad(images, (right, -right, down, -down))
    return moved.reshape(X.shape)


def _check_sha256(name: str, array: NDArray[Any], expected: str) -> None:
    """Refuse data on which the book's numbers were not computed."""
    found = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    if found != expected:
        raise RuntimeError(
            f"the data set {name!r} is not the one the book was written with"
        )
