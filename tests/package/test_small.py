"""Small models of several architectures."""

import pytest
import torch

from lorabook.measure import parameter_count
from lorabook.small import NAMES, logits_of, small_model


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_a_text(name: str) -> None:
    model = small_model(name)
    assert model.config.model_type == name
    assert not model.training
    assert parameter_count(model) < 50_000
    assert logits_of(model, torch.zeros(2, 5).long()).shape == (2, 5, 32)


def test_it_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="llama, gpt2, t5, bert, got 'opt'"):
        small_model("opt")
