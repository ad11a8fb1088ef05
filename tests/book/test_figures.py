"""The drawings of the layer: from their scripts, to scale, in two themes."""

from __future__ import annotations

import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "assets" / "figures"
SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["lora_layer"]


def drawing(name: str) -> str:
    return (FIGURES / f"{name}.svg").read_text(encoding="utf8")


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
