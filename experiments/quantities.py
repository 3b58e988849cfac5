"""Numbers, percentages and durations as people write them in an experiment file, and back.

Each reader raises `ValueError` with a message that says what to write instead.
"""

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import TypeAlias

from experiments.model import BasisPoints
from experiments.spelling import shown

LONGEST = timedelta(days=3650)

LARGEST_NUMBER = 1e12
"""The square of what is larger, summed over all units, may leave floating point."""

Bounds: TypeAlias = tuple[float, float]
"""The least and the most."""

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


def read_number(value: object) -> float:
    """Return a plain number.

    Raises:
        ValueError: `value` is no number, is not finite, or is beyond a million millions.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {shown(value)}")
    if not math.isfinite(value) or abs(value) > LARGEST_NUMBER:
        raise ValueError(f"must be a finite number of at most {LARGEST_NUMBER:.0e} in size")
    return float(value) + 0.0  # without a sign, if it is 0


def read_bounds(value: object) -> Bounds:
    """Return `[1, 5]` as the two numbers.

    Raises:
        ValueError: `value` is not two numbers, the smaller first.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"must be two numbers such as [1, 5], not {shown(value)}")
    low, high = (read_number(each) for each in value)
    if low >= high:
        raise ValueError(f"the first must be below the second, not {shown(value)}")
    return low, high


def read_cap(value: object) -> Bounds:
    """Return `600` as -600 and 600, and `[0, 600]` as it is.

    Raises:
        ValueError: `value` is neither a number above 0 nor two numbers.
    """
    if isinstance(value, list):
        return read_bounds(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number such as 600, or two, [0, 600], not {shown(value)}")
    cap = read_number(value)
    if cap <= 0:
        raise ValueError(f"must be above 0, or two numbers such as [-5, 0], not {value}")
    return -cap, cap


def write_number(number: float) -> str:
    """Return a number as people write it.

    Examples:
        >>> write_number(5.0), write_number(0.25)
        ('5', '0.25')
    """
    return f"{number:.12g}"


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
