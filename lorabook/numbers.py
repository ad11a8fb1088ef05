"""How the book writes numbers, in sentences and in tables."""

import re

__all__ = ["written"]

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def written(number: str) -> str:
    """Write a number of Python's as a sentence has it.

    Parameters
    ----------
    number
        What Python's format gave.

    Returns
    -------
    str
        ``6e-05`` has become 6 × 10⁻⁵, and a hyphen before a number a minus
        sign.
    """
    number = re.sub(r"(?<![\w.])-(?=[\d.])", "−", number)
    return re.sub(
        r"(?<=\d)e([+-])(\d+)",
        lambda x: "\u00a0×\u00a010" + str(int(x[1] + x[2])).translate(_RAISED),
        number,
    )
