"""The pages around the chapters say what is so."""

from __future__ import annotations

import base64
import io
import re
import runpy
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from lorabook import data

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
    toc = yaml.safe_load(read("_toc.yml"))
    pages = [x["file"] for part in toc["parts"] for x in part["chapters"]]
    labels = [
        re.search(r"^\((ch-[a-z-]+)\)=$", read(f"{page}.md"), re.M)[1]
        for page in pages
    ]
    linked = re.findall(
        r"^- \{ref\}`(.*?)`", section(read("index.md"), "What is in it?"), re.M
    )
    assert linked == labels


def test_the_parts_are_those_of_the_reading_order() -> None:
    toc = yaml.safe_load(read("_toc.yml"))
    shown = re.findall(
        r"^\*\*(.*)\*\*$", section(read("index.md"), "What is in it?"), re.M
    )
    captions = [part["caption"] for part in toc["parts"]]
    assert [name for name in shown if name in captions] == captions


@pytest.mark.parametrize("page", ["index.md", "README.md", "CONTRIBUTING.md"])
def test_every_make_command_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    # Where make is the first word of a line or of a piece of code.
    named = re.findall(r"(?:^|`)make ([a-z]+)\b(?!=)", read(page), re.M)
    assert {"serve", "test"} <= set(named) <= targets


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


def test_code_of_the_tables() -> None:
    M = torch.randn(5, 3, dtype=torch.float64)
    S = torch.linalg.svdvals(M)
    torch.testing.assert_close(S[0], torch.linalg.matrix_norm(M, 2))
    torch.testing.assert_close(M.norm(), M.square().sum().sqrt())


def test_transposed_storage_misleads_initialisers() -> None:
    d_in, r = 1024, 4
    A, turned = torch.empty(r, d_in), torch.empty(d_in, r)
    for tensor in (A, turned):
        torch.nn.init.kaiming_uniform_(tensor, a=5**0.5)
    ratio = (turned.std() / A.std()).item()
    assert ratio == pytest.approx((d_in / r) ** 0.5, rel=0.1)


def test_pytorch_counts_a_multiply_add_twice() -> None:
    with FlopCounterMode(display=False) as counter:
        torch.randn(2, 3) @ torch.randn(3, 5)
    assert counter.get_total_flops() == 2 * (2 * 3 * 5)


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
    assert citation["cff-version"] == "1.2.0"
    for entry in (citation, book):
        assert entry["title"] == config["title"]
        assert entry["authors"] == [{"name": config["author"]}]
    assert (citation["license"], book["license"]) == ("MIT", "CC-BY-4.0")
    assert citation["version"] == book["version"]
    for name in ("MIT License", "CC BY 4.0", config["author"]):
        assert name in read("LICENSE")
