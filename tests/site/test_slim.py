"""What is cut away from styles and fonts, and what is not."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuts
import fonts
import pytest
import sheets
import slim
import tinycss2
from fontTools.ttLib import TTFont
from hypothesis import given
from hypothesis import strategies as st
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"a", "b", "ab", "c-d"}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("p", True),
        (".a", True),
        (".a.b > #c-d", True),
        (".x", False),
        (".a .x", False),
        ("#x", False),
        ("p.ab:hover", True),
        (".abc", False),
        # What need not be there does not count.
        (".a:not(.x)", True),
        (".a:is(.x, .b)", True),
        (".a:not(:is(.x))", True),
        (".x:not(.a)", False),
        # A name that CSS has to escape.
        (r".w\\:1", False),
        (r".c\-d", True),
    ],
)
def test_a_selector_needs_all_its_names(selector: str, expected: bool) -> None:
    assert cuts.can_match(selector, NAMES) is expected


@pytest.mark.parametrize(
    ("selectors", "expected"),
    [
        ("a", ["a"]),
        ("a, b > c ,d", ["a", "b > c", "d"]),
        # Commas of others: in brackets, in strings.
        (":is(a, b) c, d", [":is(a, b) c", "d"]),
        ('[x="1, 2"], b', ['[x="1, 2"]', "b"]),
    ],
)
def test_selectors_are_split_at_their_own_commas(
    selectors: str, expected: list[str]
) -> None:
    prelude = tinycss2.parse_component_value_list(selectors)
    assert cuts.split_selectors(prelude) == expected


@pytest.mark.parametrize(
    ("css", "expected"),
    [
        (".a { x: y }", ".a{ x: y }"),
        (".x { x: y }", ""),
        (".x, .a, .b .x { x: y }", ".a{ x: y }"),
        ("/* said */ p { x: y }", "p{ x: y }"),
        (
            "@media print { .x { x: y } .b { x: y } }",
            "@media print {.b{ x: y }}",
        ),
        ("@media print { .x { x: y } }", ""),
        ("@supports (x: y) { @media print { .x { x: y } } }", ""),
        # Rules that name no class: fonts, animations, imports.
        ('@font-face { src: url("x") }', '@font-face { src: url("x") }'),
        ("@keyframes x { to { x: y } }", "@keyframes x { to { x: y } }"),
        ('@import "x.css";', '@import "x.css";'),
    ],
)
def test_rules_that_match_nothing_go(css: str, expected: str) -> None:
    made = cuts.cut_style(css, NAMES).decode()
    assert made == expected
    # To trim twice is to trim once.
    assert cuts.cut_style(made, NAMES).decode() == made


RULES = [".a{x:y}", ".b .x{x:y}", ".y:not(.z){x:y}", ".z{x:y}"]


@given(st.sets(st.sampled_from("abxyz")), st.sets(st.sampled_from("abxyz")))
def test_more_names_keep_more(some: set[str], more: set[str]) -> None:
    kept = [cuts.cut_style("".join(RULES), x) for x in (some, some | more)]
    few, many = ({x for x in RULES if x.encode() in css} for css in kept)
    assert few <= many


@pytest.mark.parametrize(
    ("css", "shown"),
    [
        (r'a::before { content: "\f0f3" }', "\uf0f3"),
        ('a::before { content: "\uf0f3" }', "\uf0f3"),
        (r"a { --icon: '\f0f3'; color: red }", "\uf0f3"),
        (r'a { content: "\2211 x}" / "y" }', "\u2211x}y"),
        ('a { src: url("b.woff"); content: url("c.svg") }', ""),
        ('a { font-family: "Names" } b { --x: url("data:y") }', ""),
    ],
)
def test_characters_that_a_style_shows(css: str, shown: str) -> None:
    assert cuts.shown_by(css) == set(shown)


def test_a_font_has_what_was_asked_for() -> None:
    font = next(slim.ICONS.glob("fa-solid*.woff2"))
    assert cuts.cut_font(font, "\uf0f3") == cuts.cut_font(font, "\uf0f3")
    assert characters(cuts.cut_font(font, "\uf0f3x")) >= {0xF0F3}
    assert 0xF071 not in characters(cuts.cut_font(font, "\uf0f3"))
    assert 0xF071 in characters(cuts.cut_font(font, None))


def test_the_text_fonts_draw_what_the_pages_show(tmp_path: Path) -> None:
    site = tmp_path / "html"
    (site / "_static/explorables").mkdir(parents=True)
    (site / "index.html").write_text("<p>LoRA é</p>", encoding="utf8")
    script = site / "_static/explorables/x.js"
    script.write_text('"≤ 漢"', encoding="utf8")
    app: Any = SimpleNamespace(
        outdir=site, builder=SimpleNamespace(format="html")
    )
    fonts.write(app, None)
    folder = site / "_static/fonts"
    style = (ROOT / "assets/book.css").read_text(encoding="utf8")
    named = re.findall(r'url\("fonts/(.*?)"\)', style)
    assert sorted(named) == sorted(x.name for x in folder.glob("*.woff2"))
    for name in named:
        with TTFont(folder / name) as font:
            drawn = {chr(x) for x in font.getBestCmap()}
            named_so = [x for x in font["name"].names if x.nameID in (1, 4, 6)]
        assert drawn >= set("LoRA é≤")
        assert not drawn & set("Bx漢")
        # Whoever changes these fonts may not use their names.
        assert named_so == []
    for licence in folder.glob("*.txt"):
        assert "SIL OPEN FONT LICENSE" in licence.read_text("utf8").upper()
    assert len(list(folder.glob("*.txt"))) == 2


def characters(font: bytes) -> set[int]:
    return set(TTFont(io.BytesIO(font)).getBestCmap())


def test_what_was_cut_is_kept(tmp_path: Path) -> None:
    kept, asked = cuts.Cuts(tmp_path / "cuts"), []

    def cut() -> bytes:
        asked.append(1)
        return b"made"

    assert kept(b"a", "x", cut) == kept(b"a", "x", cut) == b"made"
    assert len(asked) == 1
    for source, uses in ((b"b", "x"), (b"a", "y"), (b"ax", "")):
        kept(source, uses, cut)
    assert len(asked) == 4
    kept.forget(but=2)
    assert len(list((tmp_path / "cuts").iterdir())) == 2


def test_names_are_those_of_pages_and_scripts() -> None:
    used = slim.Used()
    used.by_page(
        '<p class="one two" id="three">four</p><i class=\'five\'></i>'
        '<style>.six { content: "x" }</style><p data-class="x">'
    )
    assert used.names >= {"one", "two", "three", "five"}
    assert not used.names & {"four", "six"}
    assert used.styles == {'.six { content: "x" }'}
    used.by_script('e.classList.add("seven"); e.id = `eight-${nine}`')
    assert used.names >= {"seven", "eight-", "nine"}


PAGE = (
    '<link href="{up}_static/a/one.css?v=1" rel="stylesheet" />\n'
    '<link rel="stylesheet" href="https://example.org/_static/x.css">\n'
    '<link rel="stylesheet" href="{up}_static/x.css" media="print">\n'
    '<link rel="stylesheet" type="text/css" href="{up}_static/two.css" />\n'
    '<link rel="icon" href="{up}_static/x.svg" />'
)


@pytest.mark.parametrize("up", ["", "../", "/lora/"])
def test_a_page_loads_one_style_sheet_of_its_own(up: str) -> None:
    page = PAGE.format(up=up)
    made, parts = sheets.with_one_link(page)
    assert parts == ["a/one.css", "two.css"]
    assert re.findall(r'href="([^"]*)"', made) == [
        f"{up}_static/styles.css",
        "https://example.org/_static/x.css",
        f"{up}_static/x.css",
        f"{up}_static/x.svg",
    ]
    versions = {"_static/styles.css": "1234", "_static/x.css": "5"}
    known = slim.with_versions("page", made, versions)
    assert sheets.with_one_link(known)[1] == parts
    again, _ = sheets.with_one_link(known)
    assert slim.with_versions("page", again, versions) == known
    assert sheets.with_one_link("<p>") == ("<p>", [])


def test_parts_keep_the_order_of_each_page() -> None:
    pages = [["a", "b", "d"], ["a", "c", "d"], ["d", "e"], []]
    for given_ in (pages, pages[::-1]):
        order = sheets.in_order(given_)
        assert sorted(order) == ["a", "b", "c", "d", "e"]
        for page in pages:
            assert [x for x in order if x in page] == page
        assert order == sheets.in_order(pages)


def test_a_joined_style_sheet_finds_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    texts = {
        "a/one.css": '@charset "UTF-8";@import "../base.css";\n'
        'b{src:url("../f/x.woff2"),url(y.svg)}',
        "base.css": "i{src:url('z.svg'),url(data:w),url(#v)}",
        "two.css": "u{src:url(https://example.org/t.svg)}",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf8")
    for again in (False, True):
        if again:  # no page was written, but an extension wrote its own
            (tmp_path / "two.css").write_text("u{}", encoding="utf8")
        sheets.join(tmp_path, ["a/one.css", "two.css"])
        (made,) = (x for x in tmp_path.rglob("*") if x.is_file())
        assert made.name == "styles.css"
        assert made.read_text(encoding="utf8").split() == [
            'i{src:url("z.svg"),url(data:w),url(#v)}',
            'b{src:url("f/x.woff2"),url("a/y.svg")}',
            "u{src:url(https://example.org/t.svg)}",
        ]
    late = tmp_path / "late.css"
    late.write_text('p{} @import url("x.css");', encoding="utf8")
    with pytest.raises(ExtensionError, match="that cannot move"):
        sheets.join(tmp_path, ["late.css"])


def test_versions_are_written_and_missing_files_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    versions = {"_static/x.css": "1234", "_static/a/y.js": "5678"}
    page = (
        '<link href="../_static/x.css?digest=0"><a href="_static/z.pdf">'
        '<script src="/lora/_static/a/y.js"></script>'
        '<a href="https://example.org/_static/z.js">'
    )
    made = slim.with_versions("page.html", page, versions)
    assert 'href="../_static/x.css?v=1234"' in made
    assert 'src="/lora/_static/a/y.js?v=5678"' in made
    assert 'href="https://example.org/_static/z.js"' in made
    assert slim.with_versions("page.html", made, versions) == made
    assert not caplog.messages
    assert slim.with_versions("page.html", page, {}) == page
    assert "loads _static/x.css, which is not there" in caplog.messages
