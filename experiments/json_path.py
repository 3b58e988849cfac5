"""The string or number at a path into a body: the reference for the edge, which has no JSON parser.

The body is read up to there and not checked beyond. What is no JSON a host refuses, whichever
version is asked; of what is JSON, this finds what any parser finds, unless the way to it is long:
the edge has others to serve. Numbers in lists cost nothing, however many there are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_STEPS = 1024
"""How many strings, brackets, places in lists and escapes are passed on the way to a value."""

_BLANK = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^,\[\]{}": \t\n\r]+')
_NUMBER = re.compile(rb"(-?[0-9][-+.0-9eE]*)(?=[,\]} \t\n\r]|\Z)")
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|u((?![dD][89a-fA-F])[0-9a-fA-F]{4})"
    rb'|(["\\/bfnrt]))'
)
_SHORT = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_BRACKETS = {b"[": b"]", b"{": b"}"}


class _Absent(Exception):
    """There is no such value, or no JSON on the way to it, or too long a way."""


def json_value(body: bytes, steps: Sequence[str | int]) -> bytes | None:
    """Return the text of the string or number at the end of a path; None if there is none.

    A string counts as it is meant, with its escapes resolved, a number as it is written. Of several
    fields of one name the first counts.

    Args:
        steps: Names of fields, and places in lists, from the outside in.

    Examples:
        >>> json_value(b'{"a": ["x", {"b": 1.50}]}', ("a", 1, "b"))
        b'1.50'
    """
    way = _Way(body)
    try:
        at = way.behind_blanks(0)
        for step in steps:
            at = way.to_field(at, step) if isinstance(step, str) else way.to_place(at, step)
        if way.is_at(at, b'"'):
            return _meant(body[at + 1 : way.behind_string(at) - 1])
        return way.match(_NUMBER, at)[1]
    except _Absent:
        return None


@dataclass(slots=True)
class _Way:
    """The way through a body; every method may raise `_Absent`."""

    body: bytes
    left: int = MOST_STEPS

    def to_field(self, at: int, name: str) -> int:
        """Return where the value of a field begins, in the object at `at`."""
        self._require(at, b"{")
        while True:
            at = self.behind_blanks(at + 1)
            self._require(at, b'"')
            end = self.behind_string(at)
            is_meant = _meant(self.body[at + 1 : end - 1]) == name.encode()
            at = self.behind_blanks(end)
            self._require(at, b":")
            at = self.behind_blanks(at + 1)
            if is_meant:
                return at
            at = self.behind_blanks(self._behind_value(at))
            self._require(at, b",")

    def to_place(self, at: int, place: int) -> int:
        """Return where the value at a place begins, in the list at `at`."""
        self._require(at, b"[")
        at = self.behind_blanks(at + 1)
        for _ in range(place):
            at = self.behind_blanks(self._behind_value(at))
            self._require(at, b",")
            at = self.behind_blanks(at + 1)
            self._pass(1)
        return at

    def behind_string(self, at: int) -> int:
        """Return where the string that begins at `at` has ended."""
        quote = at
        while (quote := self.body.find(b'"', quote + 1)) >= 0:
            escapes = 0
            while self.is_at(quote - escapes - 1, b"\\"):
                escapes += 1
            self._pass(1 + escapes)
            if escapes % 2 == 0:
                return quote + 1
        raise _Absent

    def behind_blanks(self, at: int) -> int:
        return self.match(_BLANK, at).end()

    def is_at(self, at: int, letter: bytes) -> bool:
        return self.body[at : at + 1] == letter

    def match(self, pattern: re.Pattern[bytes], at: int) -> re.Match[bytes]:
        found = pattern.match(self.body, at)
        if found is None:
            raise _Absent
        return found

    def _behind_value(self, at: int) -> int:
        match self.body[at : at + 1]:
            case b'"':
                return self.behind_string(at)
            case b"{" | b"[":
                return self._behind_nested(at)
            case _:
                return self.match(_PLAIN, at).end()

    def _behind_nested(self, at: int) -> int:
        """Return where the list or object at `at` is closed: its kind of bracket alone is counted.

        A stretch without text is left behind in one step, if all that is opened in it is closed.
        """
        opening = self.body[at : at + 1]
        marks = re.compile(rb'["%s]' % re.escape(opening + _BRACKETS[opening]))
        depth, tried = 0, -1
        while mark := marks.search(self.body, at):
            self._pass(1)
            place = mark.start()
            if mark[0] == b'"':
                at = self.behind_string(place)
                continue
            at = place + 1
            if mark[0] != opening:
                depth -= 1
            else:
                text = self.body.find(b'"', place) % (len(self.body) + 1)
                closed = _closed(self.body[place:text], opening) if tried != text else None
                tried = text
                at = at if closed is None else place + closed
                depth += closed is None
            if depth <= 0:
                return at
        raise _Absent

    def _require(self, at: int, wanted: bytes) -> None:
        if not self.is_at(at, wanted):
            raise _Absent

    def _pass(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _Absent


def _closed(text: bytes, opening: bytes) -> int | None:
    """Return where the bracket that begins a text is closed in it, if it is."""
    depth = 0
    for at in range(len(text)):
        letter = text[at : at + 1]
        depth += (letter == opening) - (letter == _BRACKETS[opening])
        if depth == 0:
            return at + 1
    return None


def _meant(raw: bytes) -> bytes | None:
    """Return what a string means; None if an escape means nothing, such as half a surrogate."""
    if b"\\" in _ESCAPE.sub(b"", raw):
        return None
    return _ESCAPE.sub(_resolved, raw)


def _resolved(escape: re.Match[bytes]) -> bytes:
    high, low, plain, short = escape.groups()
    if short is not None:
        return _SHORT.get(short, short)
    if plain is not None:
        return chr(int(plain, 16)).encode()
    return chr(0x10000 + (int(high, 16) - 0xD800) * 0x400 + int(low, 16) - 0xDC00).encode()
