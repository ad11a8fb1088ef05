"""Regular expressions of strangers, matched without backtracking.

Python's `re` tries one way after another through a pattern, and there can be
exponentially many: ``(a+)+b`` on thirty letters never ends. Here all ways go
on at once. A step maps the set of places that a match has reached to the set
that it can reach next, and sets are small. They are held as bits of an int:
bit i says that i characters have been matched.
"""

import re
from collections.abc import Callable
from typing import NoReturn

# What may follow one another in a pattern. A class is read by `re`, which
# decides about one character at a time; what it warns of is left out.
TOKEN = re.compile(
    r"(?P<text>(?:(?:\w|\\\.)(?![*+?{]))+)"
    r"|(?P<repeat>(?:[*+?]"
    r"|\{(?=\d|,\d)(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\})\??)"
    r"|(?P<open>\(\?[:=!]|\((?!\?))"
    r"|(?P<place>\\b|[\^$])"
    r"|(?P<one>\[\^?\]?(?:\\[^a-zA-Z0-9]|\\[dDwWsS]|[^\[\]\\])*\]"
    r"|\\[^a-zA-Z0-9]|\\[dDwWsS]|[^\\()|*+?{\[])",
    re.DOTALL,
)
DEPTH, STEPS = 30, 5_000_000


# Part of a pattern: where in a text can a match go on from these places?
Step = Callable[[str, int], int]


class Pattern:
    r"""A regular expression that always ends.

    Parameters
    ----------
    pattern : str
        As in `re`, without flags, names, references, looks behind, braces
        that count nothing, and escapes of letters but ``\d \w \s \D \W \S``
        and ``\b``.

    Raises
    ------
    ValueError
        If it is not a pattern of this kind.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern, self._at, self._depth = pattern, 0, 0
        self._left = STEPS
        self._step = self._either()
        if self._at < len(pattern):
            self._refuse()

    def fullmatch(self, text: str, starts: int = 1) -> bool:
        """Tell whether the pattern matches all of `text`.

        Parameters
        ----------
        text : str
        starts : int
            Bits for the places where the match may begin; only at 0 if
            nothing is said.

        Raises
        ------
        ValueError
            If this pattern has needed too many steps by now.
        """
        return bool(self._step(text, starts) >> len(text) & 1)

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"the pattern has {self.pattern[self._at :][:10]!r} at "
            f"{self._at}: need letters, signs, classes, groups, (?= ) and "
            "(?! ), in good order"
        )

    # What a pattern consists of.

    def _either(self) -> Step:
        """Read alternatives, up to a closing parenthesis or the end."""
        options = [self._sequence()]
        while self.pattern.startswith("|", self._at):
            self._at += 1
            options.append(self._sequence())

        def step(text: str, places: int) -> int:
            ends = 0
            for option in options:
                ends |= option(text, places)
            return ends

        return step if len(options) > 1 else options[0]

    def _sequence(self) -> Step:
        parts: list[Step] = []
        repeatable = False
        while self._at < len(self.pattern):
            if self.pattern[self._at] in "|)":
                break
            token = TOKEN.match(self.pattern, self._at)
            if token is None:
                self._refuse()
            if token["text"]:
                parts.append(_text(token["text"].replace("\\", "")))
                self._at = token.end()
                repeatable = False
            elif token["repeat"]:
                if not repeatable:
                    self._refuse()
                parts.append(self._repeat(parts.pop(), token))
                self._at = token.end()
                repeatable = False
            elif token["open"]:
                parts.append(self._group(token))
                repeatable = token["open"] in ("(", "(?:")
            else:
                place = token["place"]
                read = self._place if place else self._one
                parts.append(read(token[0]))
                self._at = token.end()
                repeatable = not place

        def step(text: str, places: int) -> int:
            for part in parts:
                if not places:
                    return 0
                self._count()
                places = part(text, places)
            return places

        return step

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise ValueError(
                f"the pattern {self.pattern[:40]!r} takes too many steps"
            )

    def _group(self, token: re.Match[str]) -> Step:
        start, self._at = self._at, token.end()
        self._depth += 1
        if self._depth > DEPTH:
            self._refuse()
        inner = self._either()
        self._depth -= 1
        if not self.pattern.startswith(")", self._at):
            self._at = start
            self._refuse()
        self._at += 1
        if token["open"] in ("(", "(?:"):
            return inner
        wanted = token["open"] == "(?="
        return _where(lambda text, i: bool(inner(text, 1 << i)) == wanted)

    def _repeat(self, part: Step, token: re.Match[str]) -> Step:
        sign = token[0][0]
        if sign == "{":
            low = int((token["low"] or "0")[:9])
            high = int((token["high"] or "999999999")[:9])
            high = high if token["comma"] else low
            if low > high:
                self._refuse()
        else:
            low = int(sign == "+")
            high = 1 if sign == "?" else 999999999

        def step(text: str, places: int) -> int:
            # After as many rounds as places nothing new can happen.
            for _ in range(min(low, len(text) + 2)):
                self._count()
                places = part(text, places)
            ends = new = places
            for _ in range(min(high - low, len(text) + 2)):
                self._count()
                new = part(text, new) & ~ends
                if not new:
                    break
                ends |= new
            return ends

        return step

    def _one(self, token: str) -> Step:
        """Return the step over one character."""
        if any(pair in token for pair in ("--", "&&", "~~", "||")):
            self._refuse()
        try:
            fits = re.compile(token).fullmatch
        except re.error:
            self._refuse()

        def step(text: str, places: int) -> int:
            ends = 0
            for i in _bits(places):
                if i < len(text) and fits(text[i]):
                    ends |= 2 << i
            return ends

        return step

    def _place(self, token: str) -> Step:
        if token == "^":
            return _where(lambda text, i: i == 0)
        if token == "$":
            return _where(lambda text, i: text[i:] in ("", "\n"))
        word = re.compile(r"\w").fullmatch

        def edge(text: str, i: int) -> bool:
            before, after = text[max(i - 1, 0) : i], text[i : i + 1]
            return bool(word(before)) != bool(word(after))

        return _where(edge)


def _text(wanted: str) -> Step:
    """Return the step over several characters, none of which is repeated."""

    def step(text: str, places: int) -> int:
        return sum(
            1 << i + len(wanted)
            for i in _bits(places)
            if text.startswith(wanted, i)
        )

    return step


def _where(holds: Callable[[str, int], bool]) -> Step:
    """Return the step that stays where something holds."""

    def step(text: str, places: int) -> int:
        return sum(1 << i for i in _bits(places) if holds(text, i))

    return step


def _bits(places: int) -> list[int]:
    return [i for i in range(places.bit_length()) if places >> i & 1]
