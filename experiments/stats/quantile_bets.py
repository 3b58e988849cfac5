"""Bets on where a quantile lies, in one arm and in two."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log
from typing import Self

import numpy as np
from scipy.special import digamma, polygamma

from experiments.stats.beta import log_relative_beta, log_relative_lower_beta
from experiments.stats.beta_arrays import log_relative_betas, log_relative_lower_betas
from experiments.stats.histogram import Counts, dense, require_part
from experiments.stats.intervals import require_alpha
from experiments.stats.latency_grid import GROWTH
from experiments.stats.quadrature import Array


@dataclass(frozen=True, slots=True, eq=False)
class QuantileStage:
    """Observations of one stage, counted on a grid that both arms share."""

    treatment: Counts
    control: Counts
    growth: float | None
    """Ratio of neighbouring edges; absent if they are just values in order."""

    @classmethod
    def of_histograms(cls, treatment: Mapping[int, int], control: Mapping[int, int]) -> Self:
        """Counts per bucket of `histogram`."""
        return cls(dense(treatment), dense(control), GROWTH)

    @classmethod
    def of_values(cls, treatment: Sequence[float], control: Sequence[float]) -> Self:
        """Raw observations; the grid is all values that occur."""
        grid, places = np.unique(np.concatenate([treatment, control]), return_inverse=True)
        both = places[: len(treatment)], places[len(treatment) :]
        first, second = (np.bincount(arm, minlength=len(grid)) for arm in both)
        return cls(first, second, None)

    @property
    def comparable(self) -> bool:
        """Both arms have been observed."""
        return bool(self.treatment.any() and self.control.any())

    def swapped(self) -> Self:
        """The same with treatment and control exchanged."""
        return type(self)(self.control, self.treatment, self.growth)

    def shift(self, ratio: float) -> float:
        """A ratio in buckets."""
        if not 0.0 < ratio < inf:
            raise ValueError(f"a ratio must be positive and finite, got {ratio}")
        if ratio == 1.0:
            return 0.0
        if self.growth is None:
            raise ValueError("a ratio other than 1 needs a histogram")
        return log(ratio) / log(self.growth)


@dataclass(frozen=True, slots=True)
class QuantileBets:
    """Bets against "an observation is at or below x with probability p", for any x.

    A beta mixture over the probability, with mean p; on one side it is truncated at p.
    """

    p: float
    a: float
    b: float
    log_prior: float
    log_prior_below: float
    log_prior_above: float

    def two_sided(self, at_most: Array, n: float) -> Array:
        """Evidence that the probability is not p."""
        a, b = self.a + at_most, self.b + n - at_most
        return log_relative_betas(a, b, self.p) - self.log_prior

    def too_few(self, at_most: Array, n: float) -> Array:
        """Evidence that the probability is below p."""
        a, b = self.a + at_most, self.b + n - at_most
        return log_relative_lower_betas(a, b, self.p) - self.log_prior_below

    def too_many(self, below: Array, n: float) -> Array:
        """Evidence that the probability is above p."""
        a, b = self.a + below, self.b + n - below
        return log_relative_lower_betas(b, a, 1.0 - self.p) - self.log_prior_above

    def likeliest(self, n: int) -> float:
        """The count with the least two-sided evidence, not always a whole number."""
        return _likeliest(self.a, self.b, self.p, n)

    def unequal(self, stage: QuantileStage, down: int, up: int) -> float:
        """x in bucket i of the control, the treatment's quantile in buckets i + down to i + up."""
        n1, n0 = int(stage.treatment.sum()), int(stage.control.sum())
        fewest1, most1 = _fewest(stage.treatment, down), _most(stage.treatment, up)
        fewest0, most0 = _fewest(stage.control, 0), _most(stage.control, 0)
        worth = (fewest1 < most1) | (fewest0 < most0)
        s1 = np.clip(self.likeliest(n1), fewest1[worth], most1[worth])
        s0 = np.clip(self.likeliest(n0), fewest0[worth], most0[worth])
        return float((self.two_sided(s1, n1) + self.two_sided(s0, n0)).min())

    def greater(self, stage: QuantileStage, shift: int) -> float:
        """Too few of the treatment up to ratio x, or too many of the control below x.

        This is the definition; `least_evidence` finds the same without looking at every x.
        """
        n1, n0 = int(stage.treatment.sum()), int(stage.control.sum())
        most1, fewest0 = _most(stage.treatment, shift), _fewest(stage.control, 0)
        # Of equal counts in one arm, the least evidence is where the other arm's is least.
        firsts = np.concatenate([[True], most1[1:] > most1[:-1]])
        most1, fewest0 = most1[firsts], fewest0[firsts]
        lasts = np.concatenate([fewest0[1:] > fewest0[:-1], [True]])
        most1, fewest0 = most1[lasts], fewest0[lasts]
        return float((self.too_few(most1, n1) + self.too_many(fewest0, n0)).min())

    def one_sided(self, at_most: Array, n1: Array, below: Array, n0: Array) -> tuple[Array, Array]:
        """`too_few` at n1 and `too_many` at n0, worked out in one go."""
        found = log_relative_lower_betas(
            np.concatenate([self.a + at_most, self.b + n0 - below]),
            np.concatenate([self.b + n1 - at_most, self.a + below]),
            np.repeat([self.p, 1.0 - self.p], len(at_most)),
        )
        few, many = found.reshape(2, -1)
        return few - self.log_prior_below, many - self.log_prior_above


def _most(counts: Counts, shift: int) -> Array:
    """For x in bucket i: at most so many are at or below the edge `shift` buckets on."""
    last = len(counts) - 1
    places = np.clip(np.arange(len(counts)) + shift, 0, last)
    places[-1] = last
    return np.cumsum(counts).astype(np.float64)[places]


def _fewest(counts: Counts, shift: int) -> Array:
    """For x in bucket i: at least so many are below the x `shift` buckets on."""
    before = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
    found = before[np.clip(np.arange(len(counts)) + shift, 0, len(counts) - 1)]
    found[0] = 0.0
    return found


@lru_cache(maxsize=256)
def quantile_bets(p: float, tuned_n: float, alpha: float, *, one_sided: bool) -> QuantileBets:
    """The beta mixture that is most sensitive at `tuned_n` observations and level `alpha`.

    *Source*: Howard, Ramdas, McAuliffe and Sekhon (2021), "Time-uniform, nonparametric,
    nonasymptotic confidence sequences", Annals of Statistics 49: the beta-binomial mixture, and
    the approximate optimum of a normal mixture for its width.
    """
    require_part(p)
    require_alpha(alpha)
    if not 0.0 < tuned_n < inf:
        raise ValueError(f"tuned_n must be positive and finite, got {tuned_n}")
    spread = p * (1.0 - p)
    doubt = -2.0 * log(min(2.0 * alpha, 0.9) if one_sided else alpha)
    r = max(tuned_n * spread / (doubt + log(1.0 + doubt)) - spread, 1e-3 * spread)
    a, b = r / (1.0 - p), r / p
    return QuantileBets(
        p,
        a,
        b,
        log_relative_beta(a, b, p),
        log_relative_lower_beta(a, b, p),
        log_relative_lower_beta(b, a, 1.0 - p),
    )


@lru_cache(maxsize=4096)
def _likeliest(a: float, b: float, p: float, n: int) -> float:
    """Newton's method; the start is right to within rounding for large counts."""
    s = min(max(n * p - p + 0.5, 0.0), float(n))
    for _ in range(20):
        slope = float(digamma(a + s) - digamma(b + n - s)) - log(p / (1.0 - p))
        step = slope / float(polygamma(1, a + s) + polygamma(1, b + n - s))
        previous, s = s, min(max(s - step, 0.0), float(n))
        if abs(s - previous) < 1e-9 * (1.0 + s):
            break
    return s
