"""What chapters print and quote, here and in a real kernel."""

import inspect
import math
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from myst_nb.core.variables import format_plain_text
from nbclient import NotebookClient

from lorabook import notebook
from lorabook.layers import LoRALinear
from lorabook.notebook import report, show_source, table

ROOT = Path(__file__).resolve().parents[2]
GLUED = "application/papermill.record/text/plain"


# report, outside of a notebook


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (1e-9, "1e-09"),
        (12, "12"),
        (1234567, "1,234,567"),
        (-1234, "-1,234"),
        (True, "True"),
        ("a word", "a word"),
        (np.float64(0.5), "0.5"),
        (np.float32(0.1), "0.1"),
        (np.int64(4000), "4,000"),
        (np.bool_(True), "True"),
        (np.array(2.5), "2.5"),
        (torch.tensor(3), "3"),
        (torch.tensor(0.25, requires_grad=True), "0.25"),
        (torch.tensor(True), "True"),
    ],
)
def test_a_value_prints_short(value: object, text: str, capsys) -> None:
    report(name=value)
    assert capsys.readouterr() == (f"name = {text}\n", "")


def test_in_the_book_nothing_is_printed(monkeypatch, capsys) -> None:
    monkeypatch.setenv("LORABOOK_SITE", "1")
    report(b=1, a=2)
    assert capsys.readouterr() == ("", "")


def test_values_print_in_their_order(capsys) -> None:
    report(b=1, a=2)
    assert capsys.readouterr().out == "b = 1\na = 2\n"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (torch.ones(1), "Tensor"),
        (np.ones((1, 1)), "ndarray"),
        (np.complex64(1j), "complex"),
        (torch.tensor(1j), "complex"),
        (np.datetime64("2026-01-01"), "date"),
        ([1], "list"),
        (None, "NoneType"),
    ],
)
def test_other_kinds_are_refused_before_anything_prints(
    value: object, kind: str, capsys
) -> None:
    message = f"^report takes numbers and strings, but bad is a {kind}$"
    with pytest.raises(TypeError, match=message):
        report(good=1, bad=value)
    assert capsys.readouterr().out == ""


# Tables


def tabled(monkeypatch, *arguments: object) -> list[str]:
    shown = []
    monkeypatch.setattr(notebook, "display", lambda x: shown.append(x.data))
    table(*arguments)
    return shown[0].splitlines()


def test_a_table_aligns_numbers_and_formats_them(monkeypatch) -> None:
    rows = [
        ["dense", 4000, torch.tensor(1e-9), 0.5],
        ["thin", np.int64(12), None, -0.25],
    ]
    columns = {"layer": "", "$r$": "", "error": ".0e", "share": ".1%"}
    assert tabled(monkeypatch, rows, columns) == [
        "| layer | $r$ | error | share |",
        "| :-- | --: | --: | --: |",
        "| dense | 4,000 | 1\u00a0×\u00a010⁻⁹ | 50.0% |",
        "| thin | 12 |  | −25.0% |",
    ]


def test_a_table_without_rows_has_its_head(monkeypatch) -> None:
    assert tabled(monkeypatch, [], {"a": "", "b": ""}) == [
        "| a | b |",
        "| :-- | :-- |",
    ]


def test_a_table_refuses_what_it_cannot_write(monkeypatch) -> None:
    with pytest.raises(ValueError, match="needs 2 values, one a column, but"):
        tabled(monkeypatch, [[1]], {"a": "", "b": ""})
    message = "^table takes numbers and strings, but a is a list$"
    with pytest.raises(TypeError, match=message):
        tabled(monkeypatch, [[[1]]], {"a": ""})


@pytest.mark.parametrize(
    "value", [math.nan, np.float32("nan"), torch.tensor(math.nan)]
)
def test_what_is_no_number_is_not_reported(value, capsys) -> None:
    with pytest.raises(ValueError, match=r"^report .* but bad is NaN$"):
        report(good=1, bad=value)
    with pytest.raises(ValueError, match=r"^table .* but loss is NaN$"):
        table([[value]], {"loss": ".2f"})
    assert capsys.readouterr().out == ""
    report(far=math.inf)
    assert capsys.readouterr().out == "far = inf\n"


def test_any_name_can_be_reported(capsys) -> None:
    """Names belong to a page, and need no prefix."""
    names = ("share", "values", "name", "value", "self", "plain", "caller")
    report(**dict.fromkeys(names, 0.5))
    assert capsys.readouterr().out == "".join(f"{x} = 0.5\n" for x in names)


def test_large_integers_keep_their_digits(capsys) -> None:
    report(n=2**80 + 1, m=np.uint64(2**64 - 1))
    assert capsys.readouterr().out == (
        "n = 1,208,925,819,614,629,174,706,177\n"
        "m = 18,446,744,073,709,551,615\n"
    )


# In a kernel

CELLS = {
    "imports": """
import numpy as np
import torch
from lorabook.layers import LoRALinear
from lorabook.linalg import truncated_svd
from lorabook.notebook import report, show_source, table
""",
    "values": """
report(x=np.float64(2 / 3), n=torch.tensor(12345), word="adapter", yes=True)
""",
    "class": "show_source(LoRALinear)",
    "function": "show_source(truncated_svd)",
    "method": "show_source(LoRALinear.forward)",
    "mine": """
def mine():
    '''Hold a fence: ```` here.'''
    return 1


show_source(mine)
""",
}


@pytest.fixture(scope="module")
def outputs() -> dict[str, list[nbformat.NotebookNode]]:
    """Run the cells; return the outputs of each."""
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(s.strip()) for s in CELLS.values()]
    )
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},
    )
    client.execute()
    results = (cell.outputs for cell in notebook.cells)
    return dict(zip(CELLS, results, strict=True))


@pytest.mark.slow
def test_imports_show_nothing(outputs) -> None:
    assert outputs["imports"] == []


@pytest.mark.slow
def test_a_kernel_prints_all_values_in_one_block(outputs) -> None:
    printed = outputs["values"][0]
    assert printed.name == "stdout"
    assert printed.text == (
        "x = 0.6667\nn = 12,345\nword = adapter\nyes = True\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        ("x", ".2f", "0.67"),
        ("x", ".1%", "66.7%"),
        ("x", "s", "0.6666666666666666"),
        ("n", "s", "12345"),
        ("n", ",d", "12,345"),
        ("word", "s", "adapter"),
        ("yes", "s", "True"),
    ],
)
def test_prose_can_format_what_is_glued(
    outputs, name: str, spec: str, text: str
) -> None:
    glued = {
        output.metadata.scrapbook.name: output
        for output in outputs["values"][1:]
    }
    assert set(glued) == {"x", "n", "word", "yes"}
    # Only the book sees it: the notebook has printed the value already.
    assert set(glued[name].data) == {GLUED}
    assert glued[name].metadata.scrapbook.mime_prefix in GLUED
    assert format_plain_text(glued[name].data[GLUED], spec) == text


@pytest.mark.slow
def test_the_source_shown_is_the_source(outputs) -> None:
    (output,) = outputs["class"]
    source = inspect.getsource(LoRALinear).rstrip()
    assert output.data["text/markdown"] == f"```python\n{source}\n```"


@pytest.mark.slow
def test_a_method_is_shown_without_its_indentation(outputs) -> None:
    (output,) = outputs["method"]
    lines = output.data["text/markdown"].splitlines()
    assert lines[1].startswith("def forward(self, x: Tensor)")
    assert lines[2].startswith("    ")


@pytest.mark.slow
def test_a_fence_in_the_source_does_not_end_the_block(outputs) -> None:
    (output,) = outputs["mine"]
    lines = output.data["text/markdown"].splitlines()
    assert lines[0] == "`````python"
    assert lines[1] == "def mine():"
    assert lines[-1] == "`````"


def test_what_has_no_source_is_refused() -> None:
    with pytest.raises(TypeError, match="class, method, function"):
        show_source(len)


def test_without_myst_nb_a_notebook_only_prints(monkeypatch, capsys) -> None:
    """As on Colab: IPython is there, the book's tools are not."""
    monkeypatch.setattr(notebook, "get_ipython", lambda: object())
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "myst_nb", None)
    report(x=1)
    assert capsys.readouterr() == ("x = 1\n", "")


def test_show_is_the_one_of_the_explorables() -> None:
    from lorabook import explorables

    assert notebook.show is explorables.show


@pytest.mark.slow
def test_importing_has_no_side_effects() -> None:
    """No seed, style or backend changes, and nothing is printed."""
    code = """
import random, numpy, torch, matplotlib
import sklearn.datasets  # by itself draws random numbers
def state():
    return (
        random.getstate(), numpy.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(), torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        dict(matplotlib.rcParams),
    )
before = state()
import lorabook
from lorabook import data, linalg, layers, measure, notebook, plot, seeding
assert state() == before
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
