"""Which unit a request names: the reference that the edge's Lua agrees with, byte for byte.

Whatever names the unit, blanks around the name do not belong to it, and a request without it is a
unit of its own. Of several headers of one name the last counts; of several cookies, parameters or
fields of a body the first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from experiments.errors import UnitEmpty, UnitTooLong
from experiments.json_path import json_value
from experiments.unit import CookieUnit, HeaderUnit, JsonUnit, QueryUnit, RequestUnit, Unit

MAX_UNIT_BYTES = 256

MOST_PARTS = 256
"""How many cookies, or parameters of a query, are looked at."""

JSON_LENGTH = "inference-header-content-length"
"""Where tensors follow as bytes, the header that says how long the JSON before them is."""

_BLANKS = b" \t"
_ENCODED = re.compile(rb"%([0-9A-Fa-f]{2})")
_LENGTH = re.compile(rb"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is read of a request.

    Args:
        headers: Names in lower case and values, in the order in which they were sent.
        query: What follows the question mark; None if there is none.
    """

    headers: Sequence[tuple[str, bytes]] = ()
    query: bytes | None = None
    body: bytes = b""

    @property
    def latest(self) -> dict[str, bytes]:
        """The last value of each header, without the blanks around it."""
        return {name: value.strip(_BLANKS) for name, value in self.headers}

    def header(self, name: str) -> bytes | None:
        """Return the last value of a header, without the blanks around it."""
        return self.latest.get(name)


def unit_of(asked: Asked, unit: Unit, *, longest_body: int) -> bytes | None:
    """Return the unit that a request names; None if it is a unit of its own.

    Args:
        longest_body: How many bytes of a body the edge reads before it routes the request.

    Raises:
        UnitEmpty: it names one, and nothing is left of it without the blanks.
        UnitTooLong: it has more than 256 bytes.

    Examples:
        >>> from experiments.unit import parse_unit
        >>> asked = Asked([("cookie", b'a=1; id="u 1"')], b"user=u%201", b'{"user": {"id": "u 1"}}')
        >>> for text in ("cookie:id", "query:user", "json:$.user.id", "header:x-unit-id"):
        ...     print(unit_of(asked, parse_unit(text), longest_body=1000))
        b'u 1'
        b'u 1'
        b'u 1'
        None
    """
    found: bytes | None
    match unit:
        case RequestUnit():
            return None
        case HeaderUnit(header):
            found = asked.header(header)
        case CookieUnit(cookie):
            found = cookie_value(asked.header("cookie") or b"", cookie)
        case QueryUnit(parameter):
            found = parameter_value(asked.query or b"", parameter)
        case JsonUnit():
            found = json_value(json_part(asked, longest_body), unit.steps)
        case _:
            assert_never(unit)
    return None if found is None else unit_bytes(found)


def unit_bytes(value: str | bytes) -> bytes:
    """Return the unit that a value names: its bytes without the blanks around them.

    Raises:
        UnitEmpty: nothing is left.
        UnitTooLong: more than 256 bytes are left.

    Examples:
        >>> unit_bytes(" user-1 ")
        b'user-1'
    """
    raw = value.encode() if isinstance(value, str) else value
    unit = raw.strip(_BLANKS)
    if not unit:
        raise UnitEmpty("what names the unit is empty")
    if len(unit) > MAX_UNIT_BYTES:
        raise UnitTooLong(f"what names the unit has {len(unit)} bytes")
    return unit


def cookie_value(line: bytes, cookie: str) -> bytes | None:
    """Return the value of the first cookie of this name, without blanks and quotes around it.

    Browsers send the cookie of the longest path first.

    Examples:
        >>> cookie_value(b'other=1; id="a"; id=b', "id")
        b'a'
    """
    for crumb in _parts(line, b";"):
        name, equals, value = crumb.partition(b"=")
        if equals and name.strip(_BLANKS) == cookie.encode():
            bare = value.strip(_BLANKS)
            is_quoted = len(bare) >= 2 and bare[:1] == bare[-1:] == b'"'
            return bare[1:-1] if is_quoted else bare
    return None


def parameter_value(query: bytes, parameter: str) -> bytes | None:
    """Return the value of the first parameter of this name, as forms in browsers write it.

    `+` is a blank, `%41` a byte, and a percent sign without two hexadecimal digits is itself.

    Examples:
        >>> parameter_value(b"user=a%2Bb+c&user=d", "user"), parameter_value(b"user", "user")
        (b'a+b c', b'')
    """
    for pair in _parts(query, b"&"):
        name, _, value = pair.partition(b"=")
        if _decoded(name) == parameter.encode():
            return _decoded(value)
    return None


def json_part(asked: Asked, longest_body: int) -> bytes:
    """Return the JSON of a body: all of it, or what comes before the bytes of tensors.

    Nothing where the edge does not see all of that JSON before it routes the request.
    """
    said = asked.header(JSON_LENGTH)
    if said is None:
        return asked.body if len(asked.body) <= longest_body else b""
    length = int(said) if _LENGTH.fullmatch(said) else len(asked.body) + 1
    return asked.body[:length] if length <= min(longest_body, len(asked.body)) else b""


def _parts(text: bytes, between: bytes) -> Sequence[bytes]:
    return [part for part in text.split(between) if part][:MOST_PARTS]


def _decoded(text: bytes) -> bytes:
    return _ENCODED.sub(lambda found: bytes([int(found[1], 16)]), text.replace(b"+", b" "))
