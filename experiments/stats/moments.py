"""Count, mean and spread of values: summaries that merge, never rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import fsum, isfinite
from operator import mul
from typing import Self


@dataclass(frozen=True, slots=True)
class Moments:
    """What is kept of pairs (y, x): x is a covariate, a ratio's denominator, or 0 where unused.

    Spread is kept around the mean. Sums of squares lose it: at a mean of 1e9 and a variance of 1
    nothing is left.
    """

    n: int
    mean: float = 0.0
    m2: float = 0.0
    """Sum of squared deviations of y from its mean."""
    mean_x: float = 0.0
    m2_x: float = 0.0
    co: float = 0.0
    """Sum of products of both deviations."""

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError(f"a count must not be negative, got {self.n}")
        if not isfinite(self.mean + self.m2 + self.mean_x + self.m2_x + self.co):
            raise ValueError(f"moments must be finite, got {self}")
        if self.m2 < 0.0 or self.m2_x < 0.0:
            raise ValueError(f"sums of squares must not be negative, got {self}")

    @classmethod
    def of(cls, ys: Sequence[float], xs: Sequence[float] | None = None) -> Self:
        """Summarise values, and what goes with each.

        Examples:
            >>> Moments.of([1e9, 1e9 + 1.0, 1e9 + 2.0]).variance
            1.0
        """
        if xs is not None and len(xs) != len(ys):
            raise ValueError(f"{len(ys)} values need as many x, got {len(xs)}")
        if not len(ys):
            return cls(0)
        mean, y = _centred(ys)
        if xs is None:
            return cls(len(y), mean, _product(y, y))
        mean_x, x = _centred(xs)
        return cls(len(y), mean, _product(y, y), mean_x, _product(x, x), _product(x, y))

    def merged(self, other: Self) -> Self:
        """Both together, as if summarised at once.

        *Source*: Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance",
        The American Statistician 37, pairwise updating; covariances likewise.

        Examples:
            >>> Moments.of([1.0, 2.0]).merged(Moments.of([6.0])) == Moments.of([1.0, 2.0, 6.0])
            True
        """
        if self.n == 0:
            return other
        if other.n == 0:
            return self
        n = self.n + other.n
        part = other.n / n
        between = self.n * part
        step, step_x = other.mean - self.mean, other.mean_x - self.mean_x
        return type(self)(
            n,
            self.mean + step * part,
            self.m2 + other.m2 + step * step * between,
            self.mean_x + step_x * part,
            self.m2_x + other.m2_x + step_x * step_x * between,
            self.co + other.co + step * step_x * between,
        )

    @property
    def variance(self) -> float | None:
        """Unbiased variance of y; none below two values."""
        return self.m2 / (self.n - 1) if self.n > 1 else None

    @property
    def variance_x(self) -> float | None:
        """Unbiased variance of x; none below two values."""
        return self.m2_x / (self.n - 1) if self.n > 1 else None

    @property
    def covariance(self) -> float | None:
        """Unbiased covariance of both; none below two values."""
        return self.co / (self.n - 1) if self.n > 1 else None


EMPTY = Moments(0)
"""Of no values; merging it changes nothing."""


def total(parts: Iterable[Moments]) -> Moments:
    """All parts together.

    Examples:
        >>> total([]).n, total([Moments(2, 1.0), Moments(2, 3.0)]).mean
        (0, 2.0)
    """
    return reduce(Moments.merged, parts, EMPTY)


def _centred(values: Sequence[float]) -> tuple[float, list[float]]:
    """Mean and deviations; exactly 0 where all are equal.

    Deviations from the first value keep the digits that the values differ in.
    """
    start = float(values[0])
    shifted = [float(value) - start for value in values]
    step = fsum(shifted) / len(shifted)
    return start + step, [each - step for each in shifted]


def _product(a: Sequence[float], b: Sequence[float]) -> float:
    return fsum(map(mul, a, b))
