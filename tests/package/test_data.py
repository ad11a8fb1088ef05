"""The data are what the docstrings and the chapters say they are."""

import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch.testing import assert_close

from lorabook import assets, data


def test_the_photo_is_the_documented_grey() -> None:
    with get_sample_data("grace_hopper.jpg") as file, Image.open(file) as im:
        rgb = np.asarray(im)
        luma = np.asarray(im.convert("L"))
    photo = data.photo()
    assert photo.shape == (600, 512)
    assert photo.dtype == torch.float64
    r, g, b = rgb[300, 200] / 255
    assert_close(photo[300, 200].item(), 0.299 * r + 0.587 * g + 0.114 * b)
    # Pillow's own conversion is the same luma, rounded to 8 bits.
    difference = photo * 255 - torch.tensor(luma)
    assert difference.abs().max() <= 1


def test_the_photo_uses_its_range() -> None:
    photo = data.photo()
    assert 0 <= photo.min() < 0.05
    assert 0.95 < photo.max() <= 1
    assert 0.1 < photo.std() < 0.4


@pytest.mark.parametrize(
    ("height", "width"), [(300, 256), (100, 85), (600, 512), (1, 1)]
)
def test_a_smaller_photo_keeps_proportions_and_brightness(
    height: int, width: int
) -> None:
    small = data.photo(height)
    assert small.shape == (height, width)
    assert small.dtype == torch.float64
    assert 0 <= small.min() <= small.max() <= 1
    assert abs(small.mean() - data.photo().mean()) < 0.02


def test_a_smaller_photo_shows_the_same() -> None:
    """Blocks of the photo have nearly the brightness of their pixel."""
    small = data.photo(100)[:, :85]
    blocks = data.photo()[:, : 85 * 6].reshape(100, 6, 85, 6).mean((1, 3))
    correlation = torch.corrcoef(
        torch.stack([small.flatten(), blocks.flatten()])
    )[0, 1]
    assert correlation > 0.98
    # And neither flipped nor turned: that is far less like it.
    for other in (blocks.flip(0), blocks.flip(1)):
        rows = torch.stack([small.flatten(), other.flatten()])
        assert torch.corrcoef(rows)[0, 1] < 0.9


def test_at_its_own_size_the_photo_is_unchanged() -> None:
    assert_close(data.photo(600), data.photo(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("height", [0, -5, 601])
def test_the_height_must_fit(height: int) -> None:
    with pytest.raises(ValueError, match="need 1 <= height <= 600, got"):
        data.photo(height)


def test_the_elevation_is_in_metres() -> None:
    terrain = data.elevation()
    assert terrain.shape == (344, 403)
    assert terrain.dtype == torch.float64
    # Stored as whole metres; these mountains reach about 1000 m.
    assert torch.equal(terrain, terrain.round())
    assert 200 < terrain.min() < 300
    assert 1000 < terrain.max() < 1100


def test_the_digits_are_scikit_learns() -> None:
    X, y = data.digits()
    assert (X.shape, X.dtype) == ((1797, 64), torch.float32)
    assert (y.shape, y.dtype) == ((1797,), torch.int64)
    assert (X.min(), X.max()) == (0, 1)
    assert torch.equal(X * 16, (X * 16).round())
    assert y[:10].tolist() == list(range(10))
    assert (y.bincount() > 170).all()


@pytest.mark.parametrize("load", [data.photo, data.elevation, data.digits])
def test_each_call_returns_its_own_copy(load) -> None:
    def first(loaded):
        return loaded[0] if isinstance(loaded, tuple) else loaded

    first(load()).fill_(-1)
    assert first(load()).min() >= 0


@pytest.mark.parametrize("name", ["elevation", "digits"])
def test_other_data_are_refused(name: str, monkeypatch) -> None:
    monkeypatch.setattr(data, f"{name.upper()}_SHA256", "0" * 64)
    with pytest.raises(RuntimeError, match=f"data set {name!r} is not the"):
        getattr(data, name)()


def test_shifted_digits_are_numpys() -> None:
    X, _ = data.digits()
    images = X.reshape(-1, 8, 8).numpy()
    for down, right in ((0, 1), (2, 0), (-1, -3), (8, 0), (0, -8), (0, 0)):
        expected = np.zeros_like(images)
        for i in range(8):
            for j in range(8):
                if 0 <= i - down < 8 and 0 <= j - right < 8:
                    expected[:, i, j] = images[:, i - down, j - right]
        moved = data.shift_digits(X, down=down, right=right)
        assert np.array_equal(moved.reshape(-1, 8, 8).numpy(), expected)


def test_a_shift_makes_new_images() -> None:
    X, _ = data.digits()
    before = X.clone()
    data.shift_digits(X).fill_(-1)
    assert torch.equal(X, before)
    assert data.shift_digits(X[0], right=1).shape == (64,)


def test_a_shift_must_fit() -> None:
    X, _ = data.digits()
    with pytest.raises(ValueError, match="from -8 to 8, got 0 and 9"):
        data.shift_digits(X, right=9)
    with pytest.raises(ValueError, match="images of 64 pixels, got 63"):
        data.shift_digits(X[:, 1:])


def test_the_assets_are_found_in_the_package_or_beside_it(
    tmp_path, monkeypatch
) -> None:
    module = tmp_path / "lorabook" / "assets.py"
    monkeypatch.setattr(assets, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match="install the package"):
        assets.assets_folder()
    (tmp_path / "assets" / "explorables").mkdir(parents=True)
    assert assets.assets_folder() == tmp_path / "assets"
    (tmp_path / "lorabook" / "assets" / "explorables").mkdir(parents=True)
    assert assets.assets_folder() == tmp_path / "lorabook" / "assets"


def test_the_corpora_are_text_without_repetitions() -> None:
    """No long passage of a validation or test text stands in the others."""
    for name, size in (("docs", 250_000), ("code", 1_000_000)):
        texts = {
            split: data.corpus(name, split)
            for split in ("train", "validation", "test")
        }
        assert texts["train"].dtype == torch.uint8
        assert len(texts["train"]) > size
        plain = {
            split: bytes(text.tolist()).decode("utf8")
            for split, text in texts.items()
        }
        for held_out in ("validation", "test"):
            runs = shingles(plain[held_out])
            others = shingles(
                "\n".join(plain[split] for split in plain if split != held_out)
            )
            assert len(runs & others) < 0.05 * len(runs)


def shingles(text: str) -> set[tuple[str, ...]]:
    """Return all runs of twelve words."""
    words = text.lower().split()
    return {tuple(words[i : i + 12]) for i in range(len(words) - 11)}


def test_other_corpora_are_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match="docs and code, got 'poems'"):
        data.corpus("poems")
    with pytest.raises(ValueError, match="validation and test, got 'dev'"):
        data.corpus("docs", "dev")
    monkeypatch.setattr(data.np, "fromfile", lambda *a, **k: np.zeros(3))
    with pytest.raises(RuntimeError, match=r"'python_docs\.test\.txt' is not"):
        data.corpus("docs", "test")


def test_the_corpora_hold_no_path_of_the_machine_that_wrote_them() -> None:
    for name in ("docs", "code"):
        for split in ("train", "validation", "test"):
            text = bytes(data.corpus(name, split).tolist())
            assert b"/.pyenv/" not in text
