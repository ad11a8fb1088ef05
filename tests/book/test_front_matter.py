"""The pages around the chapters say what is so."""

from __future__ import annotations

import base64
import io
import math
import re
import runpy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import contents
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from lorabook import data, linalg

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "assets" / "figures"
SVG = "{http://www.w3.org/2000/svg}"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf8")


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


# index.md -------------------------------------------------------------------


def test_the_map_links_every_page_and_no_other() -> None:
    root, *pages = contents.pages(ROOT)
    assert root == "index"
    labels = [
        re.search(r"^\((ch-[a-z-]+)\)=$", read(f"{page}.md"), re.M)[1]
        for page in pages
    ]
    linked = re.findall(
        r"^- \{ref\}`(.*?)`", section(read("index.md"), "What is in it?"), re.M
    )
    assert linked == labels


def test_the_parts_are_those_of_the_reading_order() -> None:
    shown = re.findall(
        r"^\*\*(.*)\*\*$", section(read("index.md"), "What is in it?"), re.M
    )
    captions = contents.parts(ROOT)
    assert [name for name in shown if name in captions] == captions


def test_the_readme_lists_every_chapter_in_order() -> None:
    rows = section(read("README.md"), "The chapters").splitlines()
    linked = [m[1] for x in rows if (m := re.match(r"\| \[.*\]\((.*?)\)", x))]
    chapters = [x for x in contents.chapters(ROOT) if "/lab_" not in x]
    assert linked == [f"{page}.md" for page in chapters]


@pytest.mark.parametrize("page", ["index.md", "README.md", "CONTRIBUTING.md"])
def test_every_make_command_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    # Where make is the first word of a line or of a piece of code.
    named = re.findall(r"(?:^|`)make ([a-z]+)\b(?!=)", read(page), re.M)
    assert {"serve", "test"} <= set(named) <= targets


# chapters/settings.md -------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*deprecated.*:FutureWarning")
def test_the_settings_are_what_peft_and_transformers_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = read("chapters/settings.md")
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code
    said: dict[str, Any] = {}
    # Without a GPU they are refused, unless one asks for that.
    exec(code[1].replace("bf16=True", "bf16=True, use_cpu=True"), said)
    adapter, run = said["adapter"], said["run"]
    assert (adapter.r, adapter.lora_alpha) == (16, 32)
    assert not run.gradient_checkpointing_kwargs["use_reentrant"]
    # The values are the table's.
    assert "- [α](settings-alpha)\n  - 32\n" in page
    assert "- [Rank](settings-rank)\n  - 8 or 16\n" in page
    assert "- [Batch](settings-batch)\n  - 4 to 16 sequences\n" in page
    batch = run.per_device_train_batch_size * run.gradient_accumulation_steps
    assert batch == 16


def test_each_setting_has_its_paragraph() -> None:
    page = read("chapters/settings.md")
    rows = re.findall(r"^\* - \[.*?\]\((.*?)\)$", page, re.M)
    assert len(rows) == 13
    assert sorted(rows) == sorted(
        re.findall(r"^\((settings-.*?)\)=$", page, re.M)
    )


# The figure of index.md -----------------------------------------------------


@pytest.fixture(scope="module")
def drawing() -> str:
    return (FIGURES / "two_strips.svg").read_text(encoding="utf8")


def numbers(text: str) -> set[int]:
    return {int(x.replace(",", "")) for x in re.findall(r"\d[\d,]*\b", text)}


def test_figure_comes_from_its_script(drawing: str) -> None:
    def without_pixels(svg: str) -> str:
        # Another version of Pillow may compress them differently.
        return re.sub(r'href="data:[^"]*"', "", svg)

    script = runpy.run_path(str(FIGURES / "two_strips.py"))
    assert without_pixels(drawing) == without_pixels(script["draw"]())


def test_numbers_in_the_figure(drawing: str) -> None:
    m, n = data.photo().shape
    r = 16
    words = " ".join(
        x.text for x in ElementTree.fromstring(drawing).iter(f"{SVG}text")
    )
    assert numbers(words) == {m, n, r, r * (m + n), m * n}
    alt = re.search(r'^alt: "(.*?)"\n---', read("index.md"), re.S | re.M)
    assert alt
    assert numbers(alt[1]) == numbers(words)


def test_figure_is_to_scale(drawing: str) -> None:
    root = ElementTree.fromstring(drawing)
    areas = sorted(
        float(x.get("width")) * float(x.get("height"))
        for x in root.iter(f"{SVG}image")
    )
    m, n = data.photo().shape
    for area, count in zip(areas, (16 * n, 16 * m, m * n), strict=True):
        assert area / areas[2] == pytest.approx(count / (m * n), rel=1e-3)


def test_figure_shows_the_best_picture_of_its_rank(drawing: str) -> None:
    photo = data.photo().numpy()
    values, Q = np.linalg.eigh(photo @ photo.T)
    assert (np.diff(values) >= 0).all()
    best = (Q[:, -16:] @ (Q[:, -16:].T @ photo)).clip(0, 1)
    assert np.linalg.matrix_rank(Q[:, -16:].T @ photo) == 16
    pixels = base64.b64decode(
        re.search(r"data:image/webp;base64,([^\"]*)", drawing)[1]
    )
    with Image.open(io.BytesIO(pixels)) as image:
        shown = np.asarray(image.convert("L")) / 255
    error = np.sqrt(np.mean((shown - best) ** 2))
    assert error < 0.015 < np.sqrt(np.mean((shown - photo) ** 2))


def test_figure_is_light_and_has_two_themes(drawing: str) -> None:
    assert len(drawing.encode()) < 40_000
    assert "prefers-color-scheme: dark" in drawing


# notation.md ----------------------------------------------------------------


def test_code_of_the_notation_page_runs() -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", read("chapters/notation.md"), re.S
    )
    assert len(blocks) == 1
    exec(blocks[0], {})
    with pytest.raises(AssertionError):
        exec(blocks[0].replace("W0.T, A.T, B.T", "W0.T, -A.T, B.T"), {})


def code_of_a_table(name: str) -> list[tuple[str, list[str]]]:
    """Return each symbol of a list-table with its code that computes."""
    page = read("chapters/notation.md")
    table = re.search(rf":name: {name}\n(.*?)\n```", page, re.S)
    assert table
    rows = re.findall(r"^\* - (.*)\n  -(.*)\n", table[1], re.M)
    found = [(symbol, re.findall(r"`(.*?)`", code)) for symbol, code in rows]
    computed = [
        (symbol, [x for x in codes if not x.isidentifier()])
        for symbol, codes in found
    ]
    return [row for row in computed if row[1]]


def algebra() -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Return the letters, and what each symbol is by NumPy."""
    torch.manual_seed(0)
    M, u, v = torch.randn(4, 4).double(), torch.randn(4), torch.randn(3)
    x, n, i, r, dtype = torch.randn(4), 4, 2, 2, torch.float32
    U, S, Vh = torch.linalg.svd(M)
    letters = {
        **vars(torch.linalg),
        **dict(torch=torch, finfo=torch.finfo, mean=x.mean, m=4, **locals()),
        "numerical_rank": linalg.numerical_rank,
    }
    left, s, right = np.linalg.svd(M.numpy())
    size = range(4)
    return letters, {
        r"$\R^n$": [x.shape],
        r"$\R^{m \times n}$": [M.shape],
        r"$M^\top$": [[[M[j, i] for j in size] for i in size]],
        "$M^{-1}$, $M^+$": [
            np.linalg.solve(M, np.eye(4)),
            np.linalg.lstsq(M, np.eye(4), rcond=None)[0],
        ],
        "$I_n$": [np.identity(4)],
        r"$uv^\top$": [[[a * b for b in v] for a in u]],
        r"$\rank M$": [np.linalg.matrix_rank(M)],
        r"$\tr M$": [sum(M[i, i] for i in size)],
        r"$\norm{x}$": [math.hypot(*x)],
        r"$\norm{M}_2$": [np.linalg.norm(M, 2)],
        r"$\norm{M}_F$": [math.hypot(*M.flatten())],
        r"$\norm{M}_*$": [np.linalg.norm(M, "nuc")],
        r"$\E$": [sum(x) / 4],
        r"$\sigma_i$": [s[1]],
        r"$\Sigma$": [np.diag(s)],
        "$U$, $u_i$": [left[:, 1]],
        "$V$, $v_i$": [right.T, right[1]],
        r"$U_r \Sigma_r V_r^\top$": [
            sum(s[k] * np.outer(left[:, k], right[k]) for k in size)
        ],
        r"$\varepsilon$": [np.finfo(np.float32).eps],
    }


@pytest.mark.parametrize("name", ["tbl-notation-algebra", "tbl-notation-svd"])
def test_code_of_the_tables(name: str) -> None:
    letters, expected = algebra()
    found = code_of_a_table(name)
    assert len(found) >= 5
    for symbol, codes in found:
        for code, number in zip(codes, expected[symbol], strict=True):
            value = np.asarray(eval(code, dict(letters)))
            wanted = np.asarray(number, dtype=float)
            assert value.shape == wanted.shape, symbol
            if code.startswith(("Vh", "U[")):  # these have no sign
                value, wanted = abs(value), abs(wanted)
            np.testing.assert_allclose(
                value, wanted, rtol=1e-5, err_msg=symbol
            )


def initialisers_are_misled() -> bool:
    d_in, r = 1024, 4
    A, turned = torch.empty(r, d_in), torch.empty(d_in, r)
    for tensor in (A, turned):
        torch.nn.init.kaiming_uniform_(tensor, a=5**0.5)
    return bool(turned.std() > 10 * A.std())


def a_multiply_add_is_two() -> bool:
    with FlopCounterMode(display=False) as counter:
        torch.randn(2, 3) @ torch.randn(3, 5)
    return counter.get_total_flops() == 2 * (2 * 3 * 5)


@pytest.mark.parametrize(
    ("sentence", "holds"),
    [
        (
            "PyTorch's initialisers take the number of inputs from the second "
            "axis, and would find $r$ there instead of `d_in`: the same call "
            "then draws much larger numbers.",
            initialisers_are_misled,
        ),
        (
            "a multiply-add counts as *two* floating-point operations, as in "
            "PyTorch's own counter",
            a_multiply_add_is_two,
        ),
    ],
)
def test_what_the_notation_page_says_of_pytorch(
    sentence: str, holds: Callable[[], bool]
) -> None:
    assert sentence in " ".join(read("chapters/notation.md").split())
    assert holds()


# glossary.md ----------------------------------------------------------------


def entries() -> dict[str, str]:
    body = read("chapters/glossary.md").split("```{glossary}\n")[1]
    found = re.findall(
        r"^(\S.*)\n((?:  .*\n|\n)+)", body.split("```")[0], re.M
    )
    terms = [term for term, _ in found]
    assert len(set(terms)) == len(terms) >= 50
    return dict(found)


def test_terms_are_in_alphabetical_order() -> None:
    def key(term: str) -> str:
        return re.sub(r"[-–]", " ", term).casefold()

    wrong = [(x, y) for x, y in pairwise(entries()) if key(x) >= key(y)]
    assert wrong == []


def test_definitions_are_short() -> None:
    for term, text in entries().items():
        plain = re.sub(r"\$.*?\$|`.*?`|\[.*?\]", "X", text, flags=re.S)
        sentences = re.findall(r"[.:](?=\s)", plain)
        assert text.strip().endswith("."), term
        assert len(sentences) <= 5, term
        assert len(plain.split()) <= 60, term


# CITATION.cff ---------------------------------------------------------------


def test_citation_names_the_book() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    config = yaml.safe_load(read("_config.yml"))
    book = citation["preferred-citation"]
    # In lower case, because a footer names them after "By".
    author = config["author"][0].upper() + config["author"][1:]
    assert citation["cff-version"] == "1.2.0"
    for entry in (citation, book):
        assert entry["title"] == config["title"]
        assert entry["authors"] == [{"name": author}]
    assert (citation["license"], book["license"]) == ("MIT", "CC-BY-4.0")
    assert citation["version"] == book["version"]
    for name in ("MIT License", "CC BY 4.0", author):
        assert name in read("LICENSE")
