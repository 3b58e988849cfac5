"""How long the two modes take to decide, in multiples of the sample that one look needs."""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import inf, sqrt
from typing import assert_never

import numpy as np

from experiments.stats.brownian import Array
from experiments.stats.designs import Design, fixed_signal
from experiments.stats.mixture import normal_mixture_radius
from experiments.stats.spending import Sides
from experiments.stats.stages import Side
from experiments.stats.tuning import omega_star

REFERENCE_POWER = 0.8
"""The fixed sample, of which all samples here are multiples, has this power."""

OPEN_ENDED_REACH = 4.0
"""Open-ended tests are followed up to this many fixed samples."""

_OPEN_ENDED_LOOKS = 400
_BOUNDED_LOOKS = 100


class Mode(StrEnum):
    """How a test pays for being looked at all the time."""

    OPEN_ENDED = "open_ended"
    BOUNDED = "bounded"


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How probable a decision is by when; samples are multiples of the fixed sample."""

    samples: Array
    decided: Array
    """Probability of having rejected by each of the samples."""

    def decided_by(self, sample: float) -> float:
        """Probability of having rejected by then."""
        return float(np.interp(sample, [0.0, *self.samples], [0.0, *self.decided]))

    def sample_for(self, probability: float) -> float:
        """When that many of the tests have rejected; infinity if that does not happen."""
        if probability > self.decided[-1]:
            return inf
        return float(np.interp(probability, [0.0, *self.decided], [0.0, *self.samples]))

    @property
    def expected_sample(self) -> float:
        """Mean sample to a rejection or to the last look."""
        stopped = np.diff(self.decided, prepend=0.0)
        undecided = 1.0 - float(self.decided[-1])
        return float(stopped @ self.samples) + undecided * float(self.samples[-1])


@dataclass(frozen=True, slots=True)
class Multiplier:
    """What a probability of finding the planned effect costs."""

    power: float
    sample: float
    """Units, as a multiple of the fixed sample: at which an open-ended test has decided with
    this probability, or at which a bounded one must end."""

    expected: float
    """Mean units to the decision, likewise."""


def open_ended_course(
    *, alpha: float, sides: Sides = 2, tuned_at: float = 1.0, effect: float = 1.0
) -> Course:
    """How a tuned confidence sequence that is looked at all the time comes to decide.

    *Estimand*: the probability of having rejected by each sample, up to four fixed samples.

    *Assumes*: normal scores with independent increments; a look every hundredth of the fixed
    sample.

    *Valid*: computed, not simulated; asymptotic, as the sequence is.

    Args:
        alpha: Level of the sequence, and of the fixed test that it is compared with.
        sides: One or two, of both.
        tuned_at: Where the sequence is narrowest, in fixed samples.
        effect: True effect as a multiple of the planned one; 0 for the false alarms.

    *Source*: recursion as `Design`; the sequence is that of Waudby-Smith, Arbour, Sinha, Kennedy
    and Ramdas (2024), Annals of Statistics 52, arXiv 2103.06476; one-sided, the half-normal
    mixture of Robbins (1970), Ann. Math. Stat. 41.

    Examples:
        >>> course = open_ended_course(alpha=0.05)
        >>> round(course.sample_for(0.8), 2), round(course.expected_sample, 2)
        (1.66, 1.12)
        >>> round(open_ended_course(alpha=0.05, effect=0.0).decided_by(4.0), 3)
        0.027
    """
    design = _open_ended_design(alpha, sides, tuned_at)
    drift = effect * fixed_signal(alpha=alpha, sides=sides, power=REFERENCE_POWER)
    return Course(design.information, np.cumsum(design.rejections(drift)))


def bounded_course(
    horizon: float, *, alpha: float, sides: Sides = 2, effect: float = 1.0
) -> Course:
    """How alpha spending at a hundred equal looks comes to decide.

    *Estimand*: the probability of having rejected by each sample, up to the horizon.

    *Assumes*: normal scores with independent increments.

    *Valid*: computed, not simulated; asymptotic.

    Args:
        horizon: The declared end, in fixed samples.
        alpha: Level over all looks, and of the fixed test that it is compared with.
        sides: One or two, of both.
        effect: True effect as a multiple of the planned one; 0 for the false alarms.

    *Source*: as `Monitor` and `Design`, spending like O'Brien and Fleming.

    Examples:
        >>> course = bounded_course(1.055, alpha=0.05)
        >>> round(course.decided_by(1.055), 2), round(course.expected_sample, 2)
        (0.8, 0.77)
    """
    if not 0.0 < horizon < inf:
        raise ValueError(f"the horizon must be positive, got {horizon}")
    design = _bounded_design(alpha, sides)
    signal = fixed_signal(alpha=alpha, sides=sides, power=REFERENCE_POWER)
    decided = np.cumsum(design.rejections(effect * signal * sqrt(horizon)))
    return Course(design.information * horizon, decided)


@lru_cache(maxsize=256)
def multiplier(mode: Mode, *, alpha: float, sides: Sides = 2, power: float) -> Multiplier:
    """What it costs to find the planned effect with this probability.

    *Estimand*: units in multiples of the sample that one look needs for 80 % power at the same
    level and sides.

    *Assumes*, *Valid*, *Source*: as `open_ended_course`, tuned at the fixed sample, and
    `bounded_course`.

    Args:
        mode: How looks are paid for.
        alpha: Level of the test.
        sides: One or two.
        power: Probability of finding the planned effect.

    Returns:
        The sample is infinite for an open-ended test that needs more than four fixed samples.

    Examples:
        >>> open_ended = multiplier(Mode.OPEN_ENDED, alpha=0.05, power=0.9)
        >>> bounded = multiplier(Mode.BOUNDED, alpha=0.05, power=0.9)
        >>> round(open_ended.sample, 2), round(bounded.sample, 2)
        (2.11, 1.41)
    """
    match mode:
        case Mode.OPEN_ENDED:
            course = open_ended_course(alpha=alpha, sides=sides)
            return Multiplier(power, course.sample_for(power), course.expected_sample)
        case Mode.BOUNDED:
            signal = fixed_signal(alpha=alpha, sides=sides, power=REFERENCE_POWER)
            horizon = (_bounded_design(alpha, sides).drift_for(power) / signal) ** 2
            course = bounded_course(horizon, alpha=alpha, sides=sides)
            return Multiplier(power, horizon, course.expected_sample)
        case _:
            assert_never(mode)


@lru_cache(maxsize=16)
def _open_ended_design(alpha: float, sides: Sides, tuned_at: float) -> Design:
    step = OPEN_ENDED_REACH / _OPEN_ENDED_LOOKS
    samples = [step * k for k in range(1, _OPEN_ENDED_LOOKS + 1)]
    # A level of one half or more on one side has no narrowest point; the limit does.
    tuning = omega_star(min(alpha * (3 - sides), 0.999))
    side = Side.TWO_SIDED if sides == 2 else Side.GREATER
    boundaries = [
        normal_mixture_radius(tuning * sample / tuned_at, alpha=alpha, side=side)
        for sample in samples
    ]
    return Design.of(samples, boundaries, sides=sides)


@lru_cache(maxsize=16)
def _bounded_design(alpha: float, sides: Sides) -> Design:
    times = [k / _BOUNDED_LOOKS for k in range(1, _BOUNDED_LOOKS + 1)]
    return Design.spending(times, alpha=alpha, sides=sides)
