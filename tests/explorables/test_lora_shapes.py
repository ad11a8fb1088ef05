"""The explorable `lora-shapes`: its counts, against Python's."""

from __future__ import annotations

import re

import pytest
from node import call

SIZES = [
    (16, 16, 1),
    (16, 16, 16),
    (16, 16384, 16),
    (16384, 16, 4),
    (64, 48, 27),
    (64, 48, 28),
    (512, 512, 8),
    (768, 3072, 4),
    (1000, 333, 7),
    (4096, 4096, 1),
    (4096, 4096, 8),
    (4096, 4096, 2048),
    (4096, 4096, 2049),
    (4096, 4096, 4096),
    (12288, 12288, 4),
    (14336, 4096, 16),
    (16384, 16384, 1),
    (16384, 16384, 16384),
]


def test_counts():
    found = call(
        "lora-shapes",
        """sizes => sizes.map(([d, k, r]) => [LR.shapes.texts(d, k, r),
          LR.shapes.note(d, k, r, LR.shapes.layout(d, k, r, 650, 240))])""",
        SIZES,
    )
    for (d, k, r), (text, note) in zip(SIZES, found, strict=True):
        count = r * (d + k)
        assert text["w0"] == f"{d * k:,}"
        assert text["ab"] == f"{count:,}"
        share = float(text["share"].rstrip("%")) / 100
        assert share == pytest.approx(count / (d * k), rel=0.02, abs=1e-5)
        assert float(text["even"]) == pytest.approx(d * k / (d + k), abs=0.051)
        size, unit = text["bytes"].split()
        factor = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
        assert float(size) * factor == pytest.approx(2 * count, rel=6e-3)
        more = re.search(r"From r = (\d+) on", note)
        assert (more is not None) == (count > d * k)
        if more:
            first = int(more[1])
            assert first * (d + k) > d * k >= (first - 1) * (d + k)


@pytest.mark.parametrize("room", [650, 320, 280])
def test_drawn_to_one_scale(room):
    found = call(
        "lora-shapes",
        """(sizes, room) => sizes.map(([d, k, r]) => {
          const at = LR.shapes.layout(d, k, r, room, 240);
          return [at, LR.shapes.note(d, k, r, at)];
        })""",
        SIZES,
        room,
    )
    thin = 0
    for (d, k, r), (at, note) in zip(SIZES, found, strict=True):
        unit = at["W0"][2] / k
        boxes = {"W0": (k, d), "B": (r, d), "A": (k, r)}
        for name, (wide, tall) in boxes.items():
            x, _, w, t = at[name]
            if not at["thin"]:
                assert (w, t) == pytest.approx((unit * wide, unit * tall))
            assert x + w <= room
            assert t <= 240 + 1e-9
        assert at["W0"][0] + at["W0"][2] < at["B"][0]
        assert at["B"][0] + at["B"][2] < at["A"][0]
        assert at["thin"] == (r * unit < 1.5 - 1e-9)
        if at["thin"]:
            true = float(re.search(r"([\d.]+) pixels", note)[1])
            assert true == pytest.approx(r * unit, rel=0.06, abs=5e-3)
        else:
            assert note.endswith("All is drawn to one scale.")
        thin += at["thin"]
    assert 3 < thin < len(SIZES) - 3
