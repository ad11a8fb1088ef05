"""Patterns that always end, against Python's own."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorabook import patterns
from lorabook.patterns import Pattern

NAMES = (
    *("", "a", "ab", "aab", "aaaa", "bbbbb", "ab.1", "a-b", "]", "a]", "a\n"),
    *("model.layers.0.q", "a.b.a1", "1.0.b", "layers.12.mlp.up_proj"),
)
PIECES = (
    *("a", "b", "ab", ".", r"\.", "[ab]", "[^a]", "[]a]", r"[\w.]", "-", " "),
    *(r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"\b", "^", "$", "|", "]"),
    *("*", "+", "?", "*?", "+?", "??", "{2}", "{1,}", "{,2}", "{1,2}?"),
    *("(", "(?:", "(?=", "(?!", ")", "(a|ab)", "(a+)+", "(a*b*)*", "(a?)*"),
    *("(?!.*1$)", ".*", ".*?", "layers", r"\d+", "(q|up_proj)"),
)


@pytest.mark.slow
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
@settings(max_examples=1500)
def test_it_matches_what_re_matches(pattern: str) -> None:
    try:
        theirs = re.compile(pattern)
    except re.error:
        theirs = None
    try:
        ours = Pattern(pattern)
    except ValueError:
        # A look ahead that is repeated is one, to Python.
        assert theirs is None or re.search(r"[*+?}]", pattern)
        return
    assert theirs is not None, pattern
    for name in NAMES:
        expected = theirs.fullmatch(name) is not None
        assert ours.fullmatch(name) == expected, (pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*\.layers\.\d+\.(q|v)",
        r"^(?!.*vision).*(?:q|up_proj)$",
        r"(?:.*?(?:model|text).*?(?:attn|mlp|layers).*?(?:q|up_proj).*?)"
        r"|(?:\bmodel\.layers\.[\d]{1,}\.(?:mlp|attn)\.(?:(?:q|v)))",
        "model.layers.0.q|layers.12.mlp.up_proj",
    ],
)
def test_patterns_as_people_write_them(pattern: str) -> None:
    found = [n for n in NAMES if Pattern(pattern).fullmatch(n)]
    assert found == [n for n in NAMES if re.fullmatch(pattern, n)]
    assert found


def test_a_match_may_begin_at_several_places() -> None:
    starts = 1 << 0 | 1 << 2 | 1 << 5
    for pattern in ("a", "^a", "b.a", "^x.b.a", r"\ba", "b", "xx|a"):
        expected = any(
            re.compile(f"(?:{pattern})$").match("x.b..a", i)
            for i in (0, 2, 5)
            if not (i and pattern.startswith("^"))
        )
        assert Pattern(pattern).fullmatch("x.b..a", starts) == expected


@pytest.mark.parametrize(
    ("pattern", "at"),
    [
        ("(", 0),
        ("a)|(b", 1),
        ("*", 0),
        ("a**", 2),
        ("^*", 1),
        ("(?i)a", 0),
        ("(?P<x>a)", 0),
        (r"(a)\1", 3),
        ("(?<=a)b", 0),
        ("[a", 0),
        ("[z-a]", 0),
        ("[a--b]", 0),
        ("a{2,1}", 1),
        ("a{b", 1),
        (r"\x41", 0),
        ("(" * 40 + ")" * 40, 31),
    ],
)
def test_what_is_not_read_is_said(pattern: str, at: int) -> None:
    with pytest.raises(ValueError, match=rf"^the pattern .* at {at}: need"):
        Pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*b",
        "(a|aa)+$x",
        "(.*)*x",
        "(a|a)" * 40 + "b",
        "a?" * 60 + "a" * 60 + "b",
        "((((a*)*)*)*)*b",
        "((a{1,99}b?){1,99}c?){1,99}d",
        "((((((a*b?)*c?)*d?)*e?)*f?)*g?)*h",
    ],
)
def test_no_pattern_runs_away(pattern: str) -> None:
    read = Pattern(pattern)
    assert not read.fullmatch("a" * 60)
    # Not timed: counted. Backtracking would take about 2 ** 60 steps.
    assert patterns.STEPS - read._left < 1_000_000


def test_too_many_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "STEPS", 100)
    with pytest.raises(ValueError, match=r"'\(a\+b\?\)\*' takes too many"):
        Pattern("(a+b?)*").fullmatch("a" * 90)
