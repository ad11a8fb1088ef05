"""Layers of the libraries that people use, to compare with."""

import warnings
from typing import Any

from torch import nn


def peft_layer(base: nn.Linear, **settings: Any) -> Any:
    """Wrap a linear layer as PEFT does.

    Parameters
    ----------
    base : nn.Linear
        Frozen, and kept inside.
    **settings
        Those of ``peft.LoraConfig``, as ``r=8, lora_alpha=16``.

    Returns
    -------
    peft.tuners.lora.Linear
        Its weights are ``base_layer.weight``, ``lora_A.default.weight`` and
        ``lora_B.default.weight``.

    Raises
    ------
    ImportError
        If PEFT is not installed.
    """
    with warnings.catch_warnings():
        # tqdm misses its widgets.
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model
    config = LoraConfig(target_modules=["0"], **settings)
    model: Any = get_peft_model(nn.Sequential(base), config)
    return model.base_model.model[0]
