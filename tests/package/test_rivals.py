"""What the libraries' layers are, as we wrap them."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lorabook.rivals import peft_layer, peft_model, peft_read, quietly
from lorabook.small import logits_of, small_model


@pytest.mark.parametrize("bias", [False, True])
def test_pefts_layer_is_lora(bias: bool) -> None:
    base = nn.Linear(7, 5, bias=bias, dtype=torch.float64)
    layer = peft_layer(base, r=3, lora_alpha=12)
    assert layer.base_layer is base
    assert not base.weight.requires_grad
    A, B = layer.lora_A.default.weight, layer.lora_B.default.weight
    assert A.requires_grad
    assert (A.shape, B.shape) == ((3, 7), (5, 3))
    assert not B.any()
    nn.init.normal_(B)
    x = torch.randn(4, 7, dtype=torch.float64)
    assert_close(layer(x), base(x) + 12 / 3 * (x.to(A.dtype) @ A.T @ B.T))


def test_settings_are_pefts_own() -> None:
    layer = peft_layer(nn.Linear(7, 5), r=4, lora_alpha=8, use_rslora=True)
    assert layer.scaling["default"] == 8 / 4**0.5
    with pytest.raises(TypeError, match="unexpected keyword"):
        peft_layer(nn.Linear(7, 5), rank=4)


def test_warnings_are_ours_again_afterwards() -> None:
    peft_layer(nn.Linear(7, 5))
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


@pytest.mark.parametrize("targets", ["all-linear", ["c_attn", "wte"]])
def test_a_model_is_adapted_written_and_read(
    targets: str | list[str], tmp_path: Path
) -> None:
    """Of a GPT-2 PEFT has much to say, and all warnings are errors here."""
    base = small_model("gpt2")
    theirs = peft_model(copy.deepcopy(base), r=2, target_modules=targets)
    for p in theirs.parameters():
        if p.requires_grad:
            nn.init.normal_(p)
    with quietly():
        theirs.save_pretrained(tmp_path)
    read = peft_read(copy.deepcopy(base), tmp_path)
    x = torch.randint(32, (1, 5))
    with torch.no_grad():
        expected = logits_of(theirs.eval(), x)
        assert torch.equal(logits_of(read, x), expected)
        assert not torch.allclose(logits_of(base, x), expected)
    assert not read.training
    assert not any(p.requires_grad for p in read.parameters())


def test_errors_are_raised_and_warnings_are_not() -> None:
    with pytest.raises(ValueError, match="Target modules"):
        peft_model(nn.Sequential(nn.Linear(2, 2)), target_modules=["1"])
    with quietly():
        warnings.warn("not heard", stacklevel=1)
