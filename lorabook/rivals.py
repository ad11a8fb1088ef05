"""Adapters of the libraries that people use, to compare with."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def quietly() -> Iterator[None]:
    """Let PEFT work without its advice, which fails a cell of the book.

    It warns of what it decides by itself, and that tqdm misses its widgets.
    Errors are raised as ever.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    model = peft_model(nn.Sequential(base), target_modules=["0"], **settings)
    return model.base_model.model[0]


def peft_model(model: nn.Module, **settings: Any) -> Any:
    """Give a model adapters of PEFT.

    Parameters
    ----------
    model : nn.Module
        It is changed in place, and frozen.
    **settings
        Those of ``peft.LoraConfig``, as ``target_modules="all-linear"``.

    Returns
    -------
    peft.PeftModel
        Around the model.

    Raises
    ------
    ImportError
        If PEFT is not installed.
    """
    with quietly():
        from peft import LoraConfig, get_peft_model

        return get_peft_model(model, LoraConfig(**settings))


def peft_read(model: nn.Module, folder: str | os.PathLike[str]) -> Any:
    """Give a model the adapters of a folder, as PEFT reads them.

    Parameters
    ----------
    model : nn.Module
        It is changed in place, and frozen.
    folder : str or path

    Returns
    -------
    peft.PeftModel
        Around the model, in evaluation mode.

    Raises
    ------
    ImportError
        If PEFT is not installed.
    """
    with quietly():
        from peft import PeftModel

        return PeftModel.from_pretrained(model, folder)
