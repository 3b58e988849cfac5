"""Who can meet a challenger: conditions on headers, all of which must hold.

Everybody else is served by the champion and counted nowhere. A header that is missing counts as an
empty one, and as no number.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import TypeAlias
from urllib.parse import quote, unquote

from experiments.errors import InvalidDeclaration
from experiments.unit import require_header

MOST_CONDITIONS = 8
MOST_VALUES = 50
LONGEST_VALUE = 64

_NUMBER = re.compile(rb"-?[0-9]{1,15}(\.[0-9]{1,15})?")
_NEITHER, _EITHER = "not_in", "in"


class Order(StrEnum):
    """How a number in a header is compared with one that is declared."""

    ABOVE = "above"
    AT_LEAST = "at_least"
    AT_MOST = "at_most"
    BELOW = "below"


_HOLDS: dict[Order, Callable[[float, float], bool]] = {
    Order.ABOVE: gt,
    Order.AT_LEAST: ge,
    Order.AT_MOST: le,
    Order.BELOW: lt,
}


@dataclass(frozen=True, slots=True)
class Among:
    """A header has one of these values, or, where `others` is set, any other value or none.

    Args:
        values: As clients send them, without blanks around them; the empty one stands for a header
            that is missing as well.
    """

    header: str
    values: tuple[str, ...]
    others: bool = False

    def __post_init__(self) -> None:
        require_header(self.header)
        for value in self.values:
            require_value(value)
        if not 1 <= len(self.values) <= MOST_VALUES or len(set(self.values)) < len(self.values):
            raise InvalidDeclaration(f"1 to {MOST_VALUES} values are needed, none of them twice")

    def __str__(self) -> str:
        values = ",".join(quote(value, safe="") for value in self.values)
        return f"{self.header}:{_NEITHER if self.others else _EITHER}:{values}"

    def holds(self, value: bytes | None) -> bool:
        """Whether a request with this value, or without the header, meets the condition."""
        return ((value or b"") in (each.encode() for each in self.values)) != self.others


@dataclass(frozen=True, slots=True)
class Compared:
    """A header holds a number on this side of `number`: digits, perhaps with a sign and a point."""

    header: str
    order: Order
    number: float

    def __post_init__(self) -> None:
        require_header(self.header)
        if not math.isfinite(self.number):
            raise InvalidDeclaration(f"{self.number} is not a number to compare with")

    def __str__(self) -> str:
        return f"{self.header}:{self.order}:{self.number!r}"

    def holds(self, value: bytes | None) -> bool:
        """Whether a request with this value, or without the header, meets the condition."""
        if value is None or not _NUMBER.fullmatch(value):
            return False
        return _HOLDS[self.order](float(value), self.number)


Condition: TypeAlias = Among | Compared


@dataclass(frozen=True, slots=True)
class Audience:
    """Those whose requests meet every condition."""

    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if not self.conditions:
            raise InvalidDeclaration("an audience has at least one condition")

    def __str__(self) -> str:
        return ";".join(map(str, self.conditions))

    def admits(self, headers: Mapping[str, bytes]) -> bool:
        """Whether a request is of this audience.

        Args:
            headers: The last value of each header, by name in lower case, without blanks around it.

        Examples:
            >>> adults = parse_audience("x-country:in:de,at;x-age:at_least:18.0")
            >>> adults.admits({"x-country": b"at", "x-age": b"18"}), adults.admits({})
            (True, False)
        """
        return all(each.holds(headers.get(each.header)) for each in self.conditions)


def parse_audience(text: str) -> Audience:
    """Read an audience as it is written in the edge's map.

    Raises:
        InvalidDeclaration: `text` is none.
    """
    return Audience(tuple(map(_condition, text.split(";"))))


def require_value(value: str) -> None:
    """Make sure that a header can have this value.

    Raises:
        InvalidDeclaration: it cannot.
    """
    if value != value.strip(" \t") or not value.isprintable() or len(value) > LONGEST_VALUE:
        raise InvalidDeclaration(
            f"{value!r} is not a header's value without blanks around it, of at most "
            f"{LONGEST_VALUE} characters"
        )


def _condition(text: str) -> Condition:
    try:
        header, word, operand = text.split(":")
        if word in (_EITHER, _NEITHER):
            return Among(header, tuple(map(unquote, operand.split(","))), word == _NEITHER)
        return Compared(header, Order(word), float(operand))
    except ValueError as error:
        raise InvalidDeclaration(f"{text!r} is not a condition") from error
