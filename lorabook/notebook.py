"""What a chapter prints, quotes and shows."""

import inspect
import os
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from IPython import get_ipython
from IPython.display import Markdown, display
from torch import Tensor

from lorabook.explorables import show
from lorabook.numbers import written

__all__ = ["report", "show", "show_source", "table"]

Plain = bool | int | float | str


def report(**values: Any) -> None:
    """Print each value by name, or let the chapter's prose quote it.

    In the book, ``{glue:text}`name:.2f` `` writes the value into a sentence,
    and nothing is printed: the reader would see it twice. Elsewhere, where
    the sentence shows a name only, it is printed.

    Parameters
    ----------
    **values
        Numbers, strings, or NumPy and PyTorch scalars. Floats are printed
        with four significant digits, and glued with all.

    Raises
    ------
    TypeError
        If a value is anything else; nothing is printed then.
    ValueError
        If a value is NaN, likewise: a sentence cannot quote what is no
        number.
    """
    plain = {name: _plain(name, value) for name, value in values.items()}
    if "LORABOOK_SITE" not in os.environ:
        for name, value in plain.items():
            print(f"{name} = {_brief(value)}")
    # A reader who only runs the chapter need not have the book's tools.
    if get_ipython() is not None and find_spec("myst_nb") is not None:
        from myst_nb import glue

        for name, value in plain.items():
            glue(name, value, display=False)


def _plain(name: str, value: Any, caller: str = "report") -> Plain:
    """Convert a scalar of any library to Python's own type."""
    # A NumPy scalar has no dimensions either. Even numpy.float64, a subclass
    # of float, has to go: its repr, which is what gets glued, is no number.
    if isinstance(value, Tensor | np.ndarray | np.generic) and not value.ndim:
        value = value.item()
    if not isinstance(value, Plain):
        raise TypeError(
            f"{caller} takes numbers and strings, "
            f"but {name} is a {type(value).__name__}"
        )
    if value != value:
        raise ValueError(f"{caller} takes numbers, but {name} is NaN")
    return value


def _brief(value: Plain) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def table(rows: Iterable[Sequence[Any]], columns: Mapping[str, str]) -> None:
    """Display results as a table, numbers written as in sentences.

    Parameters
    ----------
    rows
        One sequence of values a row: numbers, strings, NumPy or PyTorch
        scalars, or None for an empty place.
    columns
        The title of each column, which may hold Markdown, and the format of
        its numbers, as ``".2%"``; an empty one prints floats with four
        significant digits. A column that holds a number is aligned right.

    Raises
    ------
    TypeError
        If a value is none of these.
    ValueError
        If a row is not as long as there are columns, or if a value is NaN.
    """
    cells = [list(row) for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(
                f"a row needs {len(columns)} values, one a column, "
                f"but {row} has {len(row)}"
            )
    lines = [list(columns), []]
    for column in zip(*cells, strict=True):
        number = any(not isinstance(x, str | None) for x in column)
        lines[1].append("--:" if number else ":--")
    lines[1] = lines[1] or [":--"] * len(columns)
    for row in cells:
        pairs = zip(row, columns.items(), strict=True)
        lines.append([_entry(x, *column) for x, column in pairs])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    display(Markdown(text))  # type: ignore[no-untyped-call]


def _entry(value: Any, title: str, spec: str) -> str:
    """Write one value of a table."""
    if value is None or isinstance(value, str):
        return value or ""
    plain = _plain(title, value, "table")
    return written(format(plain, spec) if spec else _brief(plain))


def show_source(obj: Any) -> None:
    """Display the source of a class or function, as it runs.

    Parameters
    ----------
    obj : class, function, method or module
        Anything whose source Python can find.

    Raises
    ------
    TypeError
        If `obj` has no source in Python, as a built-in function.
    OSError
        If the source cannot be found.
    """
    source = textwrap.dedent(inspect.getsource(obj)).rstrip()
    # Longer than any fence that a docstring may hold.
    longest = max(map(len, re.findall(r"`{3,}", source)), default=2)
    fence = "`" * (longest + 1)
    text = f"{fence}python\n{source}\n{fence}"
    display(Markdown(text))  # type: ignore[no-untyped-call]
