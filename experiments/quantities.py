"""Percentages and durations as people write them in an experiment file, and back.

Each reader raises `ValueError` with a message that says what to write instead.
"""

import re
from datetime import timedelta
from decimal import Decimal

from experiments.model import BasisPoints
from experiments.spelling import shown

LONGEST = timedelta(days=3650)

_PERCENT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,330})?)%", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,15})(ms|s|m|h|d)", re.ASCII)
_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}


def read_rate(value: object) -> float:
    """Return `1%` as 0.01.

    Raises:
        ValueError: `value` is not a percentage.
    """
    return float(_hundredths(value) / 100)


def read_share(value: object) -> BasisPoints:
    """Return `12.5%` as 1250 basis points.

    Raises:
        ValueError: `value` is not a percentage, or is finer than a basis point.
    """
    points = _hundredths(value) * 100
    if points != points.to_integral_value():
        raise ValueError(f"is finer than a share can be: {value} is not a multiple of 0.01%")
    return BasisPoints(int(points))


def read_duration(value: object) -> timedelta:
    """Return `500ms`, `10s`, `5m`, `24h` or `7d` as a time span.

    Raises:
        ValueError: `value` is no duration, or is longer than ten years.
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"must be a duration such as 500ms, 10s, 5m or 7d, not {shown(value)}")
    amount, unit = int(found[1]), _UNITS[found[2]]
    if amount > LONGEST // unit:
        raise ValueError(f"must be at most {write_duration(LONGEST)}, not {value}")
    return amount * unit


def write_rate(rate: float) -> str:
    """Return what `read_rate` reads as exactly this float.

    Examples:
        >>> write_rate(0.07)
        '7%'
    """
    return f"{_plain(Decimal(repr(rate)) * 100)}%"


def write_share(share: BasisPoints) -> str:
    """Return what `read_share` reads as this share.

    Examples:
        >>> write_share(BasisPoints(1250))
        '12.5%'
    """
    return f"{_plain(Decimal(share) / 100)}%"


def write_duration(span: timedelta) -> str:
    """Return what `read_duration` reads as `span`, in the largest unit that leaves it whole.

    Raises:
        ValueError: `span` is negative, longer than ten years, or finer than a millisecond.

    Examples:
        >>> write_duration(timedelta(minutes=90))
        '90m'
    """
    if not timedelta(0) <= span <= LONGEST:
        raise ValueError(f"{span} is not a duration of at most ten years")
    if not span:
        return "0s"
    for name, unit in _UNITS.items():
        if not span % unit:
            return f"{span // unit}{name}"
    raise ValueError(f"{span} is not a whole number of milliseconds")


def _hundredths(value: object) -> Decimal:
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is not None:
        return Decimal(found[1])
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"must carry a percent sign, {_example(value)}")
    raise ValueError(f"must be a percentage such as 5% or 12.5%, not {shown(value)}")


def _example(number: float) -> str:
    if 0 < number < 1:
        return f"so that its size is plain: write {write_rate(number)} for the fraction {number!r}"
    return f"such as 5% or 12.5%, not {shown(number)}"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
