"""From how many units on something is so."""

from collections.abc import Callable
from math import inf, sqrt

FARTHEST = 1e12
"""Units beyond which nobody waits."""

_CLOSE_ENOUGH = 1.001


def first(is_so: Callable[[float], bool]) -> float:
    """Return from how many units on something is so; infinity if never.

    Examples:
        >>> 100.0 <= first(lambda units: units >= 100) <= 101.0
        True
        >>> first(lambda units: False)
        inf
    """
    high = 8.0
    while not is_so(high):
        high *= 2.0
        if high > FARTHEST:
            return inf
    low = high / 2.0
    while high / low > _CLOSE_ENOUGH and high - low > 1.0:
        middle = sqrt(low * high)
        low, high = (low, middle) if is_so(middle) else (middle, high)
    return high
