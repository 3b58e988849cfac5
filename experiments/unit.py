"""What is randomised, and where a request says which one it is."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from experiments.errors import InvalidDeclaration

STAMPS = frozenset(
    {
        "x-experiment",
        "x-failover",
        "x-model-version",
        "x-prediction-id",
        "x-route-epoch",
        "x-variant",
    }
)
"""Headers of answers. The edge removes them from requests, so they can name no unit."""

DEEPEST = 8
"""How many steps a path into a body may have."""

_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"[A-Za-z0-9_.~-]{1,63}", re.ASCII)
_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]{0,62})|\[(0|[1-9][0-9]{0,3})\]", re.ASCII)

FORMS = "`request`, `header:NAME`, `cookie:NAME`, `query:NAME` or `json:$.PATH`"


def require_header(name: str) -> None:
    """Make sure that `name` is a header that clients may send, in lower case.

    Raises:
        InvalidDeclaration: it is not.
    """
    if not _HEADER.fullmatch(name):
        raise InvalidDeclaration(f"{name!r} is not a header name in lower case")
    if name in STAMPS or name.startswith("x-tiltyard-"):
        raise InvalidDeclaration(f"{name!r} is a header that the edge itself sets")


@dataclass(frozen=True, slots=True)
class RequestUnit:
    """Every request is randomised by itself."""

    def __str__(self) -> str:
        return "request"


@dataclass(frozen=True, slots=True)
class HeaderUnit:
    """Whoever sends the same value in this header always meets the same variant.

    A request without the header is a unit of its own; so it is with whatever else names a unit.
    """

    header: str

    def __post_init__(self) -> None:
        require_header(self.header)

    def __str__(self) -> str:
        return f"header:{self.header}"


@dataclass(frozen=True, slots=True)
class CookieUnit:
    """The value of a cookie names the unit; of several of that name, the first."""

    cookie: str

    def __post_init__(self) -> None:
        _require_name(self.cookie, "a cookie")

    def __str__(self) -> str:
        return f"cookie:{self.cookie}"


@dataclass(frozen=True, slots=True)
class QueryUnit:
    """A parameter of the query string names the unit; of several of that name, the first."""

    parameter: str

    def __post_init__(self) -> None:
        _require_name(self.parameter, "a parameter of a query")

    def __str__(self) -> str:
        return f"query:{self.parameter}"


@dataclass(frozen=True, slots=True)
class JsonUnit:
    """A string or number in the body names the unit.

    Args:
        path: From `$`, such as `$.parameters.user` or `$.inputs[0].data[0]`.
    """

    path: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= DEEPEST or self._written() != self.path:
            raise InvalidDeclaration(
                f"{self.path!r} is not a path of 1 to {DEEPEST} steps such as $.parameters.user "
                "or $.inputs[0].data[0]"
            )

    def __str__(self) -> str:
        return f"json:{self.path}"

    @property
    def steps(self) -> tuple[str | int, ...]:
        """Names of fields, and places in lists, from the outside in."""
        found = _STEP.findall(self.path)
        return tuple(name or int(place) for name, place in found)

    def _written(self) -> str:
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)
        return f"${''.join(steps)}"


Unit: TypeAlias = RequestUnit | HeaderUnit | CookieUnit | QueryUnit | JsonUnit

_KINDS: dict[str, Callable[[str], Unit]] = {
    "header": HeaderUnit,
    "cookie": CookieUnit,
    "query": QueryUnit,
    "json": JsonUnit,
}


def parse_unit(text: str) -> Unit:
    """Read a unit as it is written in experiment files and maps.

    Raises:
        InvalidDeclaration: `text` is no unit.
    """
    kind, colon, name = text.partition(":")
    if text == "request":
        return RequestUnit()
    if colon and kind in _KINDS:
        return _KINDS[kind](name)
    raise InvalidDeclaration(f"{text!r} is not a unit: use {FORMS}")


def _require_name(name: str, of: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidDeclaration(
            f"{name!r} is not the name of {of}: use letters, digits, '_', '.', '~' and '-', "
            "at most 63 of them"
        )
