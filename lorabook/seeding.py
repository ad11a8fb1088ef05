"""Seeds, and the one place that can shift them all.

A claim about chance should survive other seeds. The environment variable
``LORABOOK_SEED``, a whole number from 0 (the default), is added to every seed
that is given to a function of this module: one run of the book is then
repeated with other random numbers, and with no other change. It is read at
each call.
"""

import os
import random
from numbers import Integral

import numpy as np
import torch

SHIFT = "LORABOOK_SEED"


def seed_shift() -> int:
    """Return what ``LORABOOK_SEED`` adds to every seed; 0 if it is unset.

    Raises
    ------
    ValueError
        If it is set to anything but a whole number from 0 to 2**32 - 1.
    """
    text = os.environ.get(SHIFT, "0")
    # Only plain digits: `int` also takes "1_000", " 7" and "-0".
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise ValueError(
            f"need a whole number with 0 <= {SHIFT} < 2**32, got {text!r}"
        )
    return int(text)


def seed_all(seed: int, *, shifted: bool = True) -> None:
    """Seed Python's, NumPy's and PyTorch's global random generators.

    PyTorch's seed covers the CPU and every GPU. Two things are beyond it:

    - The order of sets of strings follows ``PYTHONHASHSEED``, which Python
      reads once, when it starts. Set it in the shell.
    - A seed fixes the random numbers, not the order in which a GPU adds
      floating-point numbers. See ``torch.use_deterministic_algorithms``.

    Parameters
    ----------
    seed : int
        From 0 to 2**32 - 1, the range that NumPy accepts, the shift
        included. NumPy integers are welcome.
    shifted : bool
        Whether to add the shift. Not where a run that is stored is made
        again: it had none.

    Raises
    ------
    ValueError
        For anything else, before any generator is touched.
    """
    seed = _shifted(seed) if shifted else _checked(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def generator(seed: int) -> torch.Generator:
    """Return a random generator of PyTorch's own kind, on the CPU.

    Parameters
    ----------
    seed : int
        As in `seed_all`.

    Returns
    -------
    torch.Generator
        Without a shift, its numbers are those of
        ``torch.Generator().manual_seed(seed)``.

    Raises
    ------
    ValueError
        As `seed_all`.
    """
    return torch.Generator().manual_seed(_shifted(seed))


def rng(seed: int) -> np.random.Generator:
    """Return a random generator of NumPy's.

    Parameters
    ----------
    seed : int
        As in `seed_all`.

    Returns
    -------
    numpy.random.Generator
        Without a shift, its numbers are those of
        ``numpy.random.default_rng(seed)``.

    Raises
    ------
    ValueError
        As `seed_all`.
    """
    return np.random.default_rng(_shifted(seed))


def _checked(seed: int) -> int:
    """Return a seed as Python's own integer."""
    whole = isinstance(seed, Integral) and not isinstance(seed, bool)
    if not (whole and 0 <= seed < 2**32):
        raise ValueError(
            f"need a whole number with 0 <= seed < 2**32, got {seed!r}"
        )
    return int(seed)


def _shifted(seed: int) -> int:
    """Check a seed and add the shift."""
    total = _checked(seed) + seed_shift()
    if total >= 2**32:
        raise ValueError(
            f"need seed + {SHIFT} < 2**32, got {seed} + {seed_shift()}"
        )
    return total
