"""Boundaries fixed beforehand: how often they are crossed, and the classical ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from typing import Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from experiments.stats.brownian import FARTHEST_Z, Array, Step
from experiments.stats.intervals import require_alpha
from experiments.stats.spending import Monitor, Sides, Spending, obrien_fleming

POCOCK = 0.5
OBRIEN_FLEMING = 0.0
"""Shapes of classical boundaries: how they fall with the share of the looks."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Looks at known information with known boundaries.

    *Estimand*: how probable it is that a boundary is crossed first at each look.

    *Assumes*: normal scores with independent increments; rejecting ends the test.

    *Source*: as `Monitor`; drifts by the likelihood ratio of paths with and without one.

    Examples:
        >>> design = Design.of([1.0, 2.0], [2.178, 2.178], sides=2)
        >>> round(float(design.rejections().sum()), 3)
        0.05
    """

    steps: tuple[Step, ...]
    boundaries: tuple[float, ...]
    sides: Sides

    @classmethod
    def of(cls, information: Sequence[float], boundaries: Sequence[float], *, sides: Sides) -> Self:
        """From growing information and the z-score that rejects at each look."""
        step = Step.first(information[0])
        steps = [step]
        for boundary, to in zip(boundaries, information[1:], strict=False):
            step = step.then(-(boundary if sides == 2 else FARTHEST_Z), boundary, to)
            steps.append(step)
        return cls(tuple(steps), tuple(boundaries), sides)

    @classmethod
    def spending(
        cls,
        times: Sequence[float],
        *,
        alpha: float,
        sides: Sides,
        spending: Spending = obrien_fleming,
    ) -> Self:
        """From looks at shares of the end; information is the time itself."""
        monitor = Monitor.begin(alpha, sides=sides, spending=spending)
        steps, boundaries = [], []
        for time in times:
            boundary, monitor = monitor.look(time, time)
            if monitor.step is not None and boundary <= FARTHEST_Z:
                steps.append(monitor.step)
                boundaries.append(boundary)
        return cls(tuple(steps), tuple(boundaries), sides)

    @property
    def information(self) -> Array:
        """At each look."""
        return np.array([step.end for step in self.steps])

    def rejections(self, drift: float = 0.0) -> Array:
        """Probability of rejecting first at each look, on either side that the test has."""
        looks = zip(self.steps, self.boundaries, strict=True)
        if self.sides == 1:
            return np.array([step.above(z, drift=drift) for step, z in looks])
        return np.array(
            [step.above(z, drift=drift) + step.below(-z, drift=drift) for step, z in looks]
        )

    def drift_for(self, power: float) -> float:
        """The drift that is found with this probability by the last look."""
        _require_power(power, float(self.rejections().sum()))

        def missing(drift: float) -> float:
            return float(self.rejections(drift).sum()) - power

        farthest = 1.0 / sqrt(self.steps[-1].end)
        while missing(farthest) < 0.0:
            farthest *= 2.0
        return float(brentq(missing, 0.0, farthest, xtol=1e-12))


@lru_cache(maxsize=256)
def boundary_constant(
    looks: int, *, alpha: float, sides: Sides = 2, shape: float = OBRIEN_FLEMING
) -> float:
    """The constant of a classical boundary at equally spaced looks.

    *Estimand*: C such that rejecting at look k of K when z exceeds C * (k / K) ** (shape - 1/2)
    errs with probability alpha over all looks.

    *Assumes*: as `Design`.

    *Valid*: for the number of looks agreed beforehand, equally spaced in information.

    Args:
        looks: How many.
        alpha: Level over all looks and sides.
        sides: One or two.
        shape: 1/2 for Pocock's constant boundary, 0 for O'Brien and Fleming's.

    Returns:
        The constant, on the scale of z-scores at the last look.

    *Source*: Wang and Tsiatis (1987), Biometrics 43; Jennison and Turnbull (2000), Group
    Sequential Methods, tables 2.1 and 2.3, which it reproduces.

    Examples:
        >>> round(boundary_constant(5, alpha=0.05), 3)
        2.04
        >>> round(boundary_constant(5, alpha=0.05, shape=POCOCK), 3)
        2.413
    """
    require_alpha(alpha)
    least = -float(ndtri(alpha / sides))
    if looks == 1:
        return least
    most = -float(ndtri(alpha / (sides * looks)))

    def excess(constant: float) -> float:
        return float(_classical(looks, constant, sides, shape).rejections().sum()) - alpha

    return float(brentq(excess, least, most, xtol=1e-10))


@lru_cache(maxsize=256)
def inflation(
    looks: int, *, alpha: float, power: float, sides: Sides = 2, shape: float = OBRIEN_FLEMING
) -> float:
    """How much larger than a fixed sample the last look of a classical design must be.

    *Estimand*: largest sample of the design over the sample of one look, at equal power.

    *Assumes*, *Valid*: as `boundary_constant`.

    Args:
        looks: How many.
        alpha: Level over all looks and sides.
        power: Probability of rejecting by the last look.
        sides: One or two.
        shape: As for `boundary_constant`.

    *Source*: Jennison and Turnbull (2000), Group Sequential Methods, tables 2.2 and 2.4, which
    it reproduces.

    Examples:
        >>> round(inflation(5, alpha=0.05, power=0.8), 3)
        1.028
    """
    constant = boundary_constant(looks, alpha=alpha, sides=sides, shape=shape)
    design = _classical(looks, constant, sides, shape)
    return (design.drift_for(power) / fixed_signal(alpha=alpha, sides=sides, power=power)) ** 2


def fixed_signal(*, alpha: float, sides: Sides, power: float) -> float:
    """How many standard errors an effect must measure to be found at one look.

    Rejecting on the wrong side is not counted as finding it.

    Examples:
        >>> round(fixed_signal(alpha=0.05, sides=2, power=0.8), 4)
        2.8016
    """
    require_alpha(alpha)
    _require_power(power, alpha / sides)
    return float(ndtri(power)) - float(ndtri(alpha / sides))


def _classical(looks: int, constant: float, sides: Sides, shape: float) -> Design:
    shares = np.arange(1, looks + 1) / looks
    return Design.of(shares.tolist(), (constant * shares ** (shape - 0.5)).tolist(), sides=sides)


def _require_power(power: float, level: float) -> None:
    if not level < power < 1.0:
        raise ValueError(f"power must lie between the level {level:g} and 1, got {power}")
