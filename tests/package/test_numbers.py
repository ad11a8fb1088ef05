"""How numbers are written in sentences and tables."""

from __future__ import annotations

import pytest

from lorabook.numbers import written


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("6e-05", "6\u00a0×\u00a010⁻⁵"),
        ("-1.5e+12", "−1.5\u00a0×\u00a010¹²"),
        ("-0.130 (-0.140 to -0.119)", "−0.130 (−0.140 to −0.119)"),
        ("12,345", "12,345"),
        ("float-16", "float-16"),
        ("-.5", "−.5"),
        # Words stay as they are, and so do the numbers in names.
        ("llama-2-7b", "llama-2-7b"),
        ("from r = 1e-3 on", "from r = 1\u00a0×\u00a010⁻³ on"),
        ("worse", "worse"),
    ],
)
def test_a_number_as_a_sentence_has_it(number: str, text: str) -> None:
    assert written(number) == text
