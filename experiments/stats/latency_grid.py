"""The grid that latencies are counted on. Its edges never change, so counts may always be added.

The edge counts tens of thousands of requests a second with it, so nothing heavy is imported here.
"""

from bisect import bisect_left
from itertools import accumulate, repeat
from math import inf

GROWTH = 1.02
_FINITE = 557


def _multiplied(edge: float, growth: float) -> float:
    return edge * growth


EDGES: tuple[float, ...] = tuple(accumulate(repeat(GROWTH, _FINITE - 1), _multiplied, initial=1.0))
"""Upper edges in milliseconds. By products, which are the same on every machine; powers are not."""

OVERFLOW = len(EDGES)
BUCKETS = OVERFLOW + 1


def bucket_of(value: float) -> int:
    """Which bucket a latency is counted in.

    Args:
        value: Milliseconds, not negative.

    Examples:
        >>> bucket_of(0), bucket_of(1), bucket_of(250), bucket_of(10**9) == OVERFLOW
        (0, 0, 279, True)
    """
    if not value >= 0.0:
        raise ValueError(f"a latency is not negative, got {value}")
    return bisect_left(EDGES, value)


def upper_edge(bucket: int) -> float:
    """The most that a value in this bucket can be; infinite for the overflow bucket.

    Examples:
        >>> upper_edge(0), round(upper_edge(279), 3), upper_edge(OVERFLOW)
        (1.0, 250.87, inf)
    """
    require_bucket(bucket)
    return EDGES[bucket] if bucket < OVERFLOW else inf


def lower_edge(bucket: int) -> float:
    """What every value in this bucket is above, or 0 for the first.

    Examples:
        >>> lower_edge(0), lower_edge(1)
        (0.0, 1.0)
    """
    require_bucket(bucket)
    return EDGES[bucket - 1] if bucket else 0.0


def require_bucket(bucket: int) -> None:
    if not 0 <= bucket < BUCKETS:
        raise ValueError(f"no bucket {bucket}")
