"""The drawings of the layer: from their scripts, to scale, in two themes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "assets" / "figures"
CHAPTER = ROOT / "chapters" / "lora_in_one_page.md"
SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["lora_layer", "lora_update"]


def drawing(name: str) -> str:
    return (FIGURES / f"{name}.svg").read_text(encoding="utf8")


def numbers(text: str) -> set[float]:
    return {
        float(x.replace(",", "")) for x in re.findall(r"\d[\d,.]*\d|\d", text)
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_comes_from_its_script(name: str) -> None:
    script = runpy.run_path(str(FIGURES / f"{name}.py"))
    assert drawing(name) == script["draw"]()


@pytest.mark.parametrize("name", NAMES)
def test_a_drawing_is_light_and_has_two_themes(name: str) -> None:
    assert len(drawing(name).encode()) < 5_000
    assert "prefers-color-scheme: dark" in drawing(name)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_leaves_the_drawing(name: str) -> None:
    root = ElementTree.fromstring(drawing(name))
    width, height = (float(root.get(k)) for k in ("width", "height"))
    for rect in root.iter(f"{SVG}rect"):
        x, y, w, h = (
            float(rect.get(k)) for k in ["x", "y", "width", "height"]
        )
        assert min(x, y) >= 0
        assert x + w <= width
        assert y + h <= height
    for polygon in root.iter(f"{SVG}polygon"):
        for point in polygon.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_the_update_is_to_scale() -> None:
    root = ElementTree.fromstring(drawing("lora_update"))
    sizes = {
        rect.get("class") + str(i): float(rect.get("width"))
        * float(rect.get("height"))
        for i, rect in enumerate(root.iter(f"{SVG}rect"))
    }
    whole, B, A = sizes.values()
    assert B / whole == pytest.approx(8 / 256, rel=1e-2)
    assert A / whole == pytest.approx(8 / 256, rel=1e-2)


def test_the_numbers_of_the_update() -> None:
    root = ElementTree.fromstring(drawing("lora_update"))
    words = " ".join(x.text for x in root.iter(f"{SVG}text"))
    count = 8 * (256 + 256)
    assert numbers(words) == {256, 8, 256**2, count, 100 * count / 256**2}
    alt = re.search(
        r'lora_update\.svg\n---.*?alt: "(.*?)"\n---',
        CHAPTER.read_text("utf8"),
        re.S,
    )
    assert alt
    assert numbers(alt[1]) == numbers(words)
