"""Latencies, counted in buckets that never change, so that counts may always be added.

Bucket i holds what is above the edge of bucket i - 1 and not above its own. Each edge is 2 %
above the one before it, from 1 ms; what is above the last one is in the overflow bucket. So
"how many took at most this long" is exact at every edge, and nowhere else.
"""

from collections.abc import Mapping
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

from experiments.stats.intervals import Insufficient, Interval, IntervalOrNot
from experiments.stats.latency_grid import (
    BUCKETS,
    bucket_of,
    lower_edge,
    require_bucket,
    upper_edge,
)

Counts = npt.NDArray[np.int64]


def dense(counts: Mapping[int, int]) -> Counts:
    """Counts of all buckets, in order.

    Raises:
        ValueError: There is no such bucket, or a count is negative.

    Examples:
        >>> int(dense({3: 7, 5: 1}).sum())
        8
    """
    filled = np.zeros(BUCKETS, dtype=np.int64)
    if counts:
        for outermost in (min(counts), max(counts)):
            require_bucket(outermost)
        fewest = min(counts.values())
        if fewest < 0:
            raise ValueError(f"counts must not be negative, got {fewest}")
        size = len(counts)
        places = np.fromiter(counts.keys(), np.int64, size)
        filled[places] = np.fromiter(counts.values(), np.int64, size)
    return filled


def count_above(counts: Mapping[int, int], limit: float) -> int:
    """How many took longer than `limit`, which is rounded up to the next edge.

    Examples:
        >>> count_above({bucket_of(100): 5, bucket_of(300): 2}, 200.0)
        2
    """
    last = bucket_of(limit)
    return sum(count for bucket, count in counts.items() if bucket > last)


def histogram_quantile(counts: Mapping[int, int], *, p: float) -> IntervalOrNot:
    """Between which edges the empirical quantile lies.

    *Estimand*: the least value that at least a part `p` of the observations does not exceed.

    *Assumes*: nothing.

    *Valid*: of these observations, exactly; it says nothing about others.

    Args:
        counts: Observations per bucket.
        p: Which quantile, in (0, 1).

    Returns:
        The edges of its bucket, with the geometric mean of both as the estimate (none in the
        overflow bucket); `Insufficient` without observations.

    *Source*: the definition of a quantile.

    Examples:
        >>> found = histogram_quantile({bucket_of(100): 98, bucket_of(900): 2}, p=0.99)
        >>> found.low < 900 <= found.high
        True
    """
    require_part(p)
    below = np.cumsum(dense(counts))
    if not below[-1]:
        return Insufficient("no observations")
    # Products such as 0.07 * 100 end just above the whole number that they should be.
    wanted = p * float(below[-1]) * (1.0 - 1e-12)
    return bucket_interval(int(np.searchsorted(below, wanted)))


def bucket_interval(bucket: int) -> Interval:
    """The edges of a bucket, and their geometric mean where there is one."""
    low, high = lower_edge(bucket), upper_edge(bucket)
    if high == inf:
        return Interval(low, high)
    return Interval(low, high, sqrt(low * high) if low else high / 2.0)


def require_part(p: float) -> None:
    """Refuse a quantile that is none.

    Raises:
        ValueError: `p` does not lie strictly between 0 and 1.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"a quantile lies strictly between 0 and 1, got {p}")
