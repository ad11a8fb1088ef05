"""What the libraries' layers are, as we wrap them."""

import warnings

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lorabook.rivals import peft_layer


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
