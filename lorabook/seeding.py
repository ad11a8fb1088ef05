"""Seeds, and deterministic algorithms for as long as they are wanted."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def seed_all(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global random generators.

    PyTorch's seed covers the CPU and every GPU. Two things are beyond it:

    - The order of sets of strings follows ``PYTHONHASHSEED``, which Python
      reads once, when it starts. Set it in the shell.
    - A seed fixes the random numbers, not the order in which a GPU adds
      floating-point numbers. See `deterministic`.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1, the range that NumPy accepts. NumPy integers
        are welcome.

    Raises
    ------
    ValueError
        For anything else, before any generator is touched.
    """
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not (whole and 0 <= seed < 2**32):
        raise ValueError(
            f"need a whole number with 0 <= seed < 2**32, got {seed!r}"
        )
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic algorithms inside a ``with`` block.

    Inside, PyTorch raises an error where it only has an algorithm whose
    result may differ between runs, and cuDNN neither uses such algorithms
    nor picks one by a race. Afterwards, also after an error, every setting
    is what it was before.

    cuDNN itself stays on: it has deterministic algorithms, and switching it
    off only costs time. Equal results are promised on the same machine
    with the same versions, not across machines. cuBLAS reads
    ``CUBLAS_WORKSPACE_CONFIG`` when a process first uses it, so in a process
    that has multiplied matrices on a GPU before, set it in the shell.
    """
    cudnn = torch.backends.cudnn
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn_settings = cudnn.deterministic, cudnn.benchmark
    workspace = os.environ.get(_WORKSPACE)
    try:
        os.environ.setdefault(_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = cudnn_settings
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace
