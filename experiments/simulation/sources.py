"""Outcomes that a unit gives once: drawn for many units at a time, by the exact distribution."""

from dataclasses import dataclass
from functools import lru_cache
from math import log, log1p, sqrt
from typing import Protocol

import numpy as np
from scipy.special import betaln, gammaln, ndtr, ndtri

from experiments.metric import Mean, Quantile, Score
from experiments.simulation.heaps import Counts, Floats, Heap, Ints, Sums
from experiments.stats.latency_grid import BUCKETS, EDGES

USUAL_SIGMA = 0.5
"""Of the logarithm of a time."""

COVARIATE_CORRELATION = 0.6
"""Of an outcome's logarithm with what was known before."""


class Source(Protocol):
    """Where the outcomes of a metric come from."""

    def draw(self, rng: np.random.Generator, sizes: Ints, factor: float) -> Heap:
        """Return the outcomes of as many units as `sizes` says for each segment.

        Args:
            factor: What the metric's value is multiplied with.
        """

    @property
    def relative_variance(self) -> float:
        """Variance of what one unit tells of the value's logarithm, with the champion."""


@dataclass(frozen=True, slots=True)
class Events:
    """A unit has it or not.

    Args:
        both: Whether units without it are counted too.
    """

    rate: float
    both: bool

    def draw(self, rng: np.random.Generator, sizes: Ints, factor: float) -> Counts:
        having = rng.binomial(sizes, min(1.0, self.rate * factor))
        if not self.both:
            return Counts(having[:, None], (1,))
        return Counts(np.stack([sizes - having, having], axis=1), (0, 1))

    @property
    def relative_variance(self) -> float:
        rate = max(self.rate, 1e-6)
        return (1.0 - rate) / rate


@dataclass(frozen=True, slots=True)
class Grades:
    """Scores on a grid: beta-binomial, so that the mean is met exactly."""

    kind: Score
    mean: float
    spread: float | None

    def draw(self, rng: np.random.Generator, sizes: Ints, factor: float) -> Counts:
        chances = self._chances(self.mean * factor)
        return Counts(rng.multinomial(sizes, chances), tuple(range(len(chances))))

    @property
    def relative_variance(self) -> float:
        grid, chances = np.array(self.kind.grid), self._chances(self.mean)
        variance = float(chances @ (grid - self.mean) ** 2)
        return variance / max(self.mean * self.mean, 1e-12)

    def _chances(self, mean: float) -> Floats:
        extent = self.kind.high - self.kind.low
        at = min(max((mean - self.kind.low) / extent, 0.0), 1.0)
        spread = extent / 5.0 if self.spread is None else self.spread
        return beta_binomial(len(self.kind.grid) - 1, at, spread / extent)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds, lognormal, in the buckets of the histogram."""

    kind: Quantile
    value: float

    def draw(self, rng: np.random.Generator, sizes: Ints, factor: float) -> Counts:
        chances = lognormal_buckets(self.kind.p, self.value * factor)
        return Counts(rng.multinomial(sizes, chances), tuple(range(BUCKETS)))

    @property
    def relative_variance(self) -> float:
        p = self.kind.p
        density = float(np.exp(-0.5 * ndtri(p) ** 2)) / sqrt(2.0 * np.pi) / USUAL_SIGMA
        return p * (1.0 - p) / (density * density)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Numbers without natural bounds: lognormal if they can be, else normal; cut off at the cap.

    The value is that before the cap. A covariate is what the same unit gave before: of the same
    distribution, and correlated.
    """

    kind: Mean
    mean: float
    spread: float

    def draw(self, rng: np.random.Generator, sizes: Ints, factor: float) -> Sums:
        n = int(sizes.sum())
        scores = rng.standard_normal(n)
        ys = np.clip(
            amounts(scores, self.mean, self.spread) * factor, self.kind.low, self.kind.high
        )
        xs = np.zeros(n)
        if self.kind.covariate:
            rest = sqrt(1.0 - COVARIATE_CORRELATION**2)
            before = COVARIATE_CORRELATION * scores + rest * rng.standard_normal(n)
            xs = amounts(before, self.mean, self.spread)
        return Sums.of(
            ys,
            xs,
            segments=np.repeat(np.arange(len(sizes)), sizes),
            columns=np.zeros(n, dtype=np.int64),
            shape=(len(sizes), 1),
            indices=(int(self.kind.covariate),),
        )

    @property
    def relative_variance(self) -> float:
        return (self.spread / max(abs(self.mean), 1e-12)) ** 2


def amounts(scores: Floats, mean: float, spread: float) -> Floats:
    """Turn standard normal scores into amounts: lognormal where the mean is above 0."""
    if mean <= 0.0:
        return np.asarray(mean + spread * scores)
    sigma2 = log1p((spread / mean) ** 2)
    return np.asarray(np.exp(log(mean) - sigma2 / 2.0 + sqrt(sigma2) * scores))


@lru_cache(maxsize=256)
def lognormal_buckets(p: float, value: float) -> Floats:
    """Return the chance of each bucket if a part `p` of the times is at most `value`."""
    median = log(max(value, 1e-3)) - USUAL_SIGMA * float(ndtri(p))
    below = ndtr((np.log(np.array(EDGES)) - median) / USUAL_SIGMA)
    return _normalised(np.diff(below, prepend=0.0, append=1.0))


@lru_cache(maxsize=256)
def beta_binomial(steps: int, at: float, spread: float) -> Floats:
    """Return the chances of 0 to `steps`, with mean `at` and this spread, in parts of `steps`.

    The spread is met where it is possible: no score on a grid varies less than a binomial one or
    more than one that is always the least or the most.
    """
    chances = np.zeros(steps + 1)
    if at in (0.0, 1.0):
        chances[round(at * steps)] = 1.0
        return chances
    most = at * (1.0 - at)
    # Variance in parts: most * (1 + (steps - 1) * alike) / steps.
    alike = (spread * spread * steps / most - 1.0) / max(steps - 1, 1)
    alike = min(max(alike, 1e-6), 0.999)
    a, b = at * (1.0 / alike - 1.0), (1.0 - at) * (1.0 / alike - 1.0)
    ks = np.arange(steps + 1)
    ways = gammaln(steps + 1) - gammaln(ks + 1) - gammaln(steps - ks + 1)
    return _normalised(np.exp(ways + betaln(ks + a, steps - ks + b) - betaln(a, b)))


def _normalised(chances: Floats) -> Floats:
    chances = np.maximum(chances, 0.0)
    return np.asarray(chances / chances.sum())
