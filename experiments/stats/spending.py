"""A bounded horizon: how much of the error may be spent by when, and the boundary it buys."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from math import e, inf, log1p, sqrt
from typing import Literal, Self, TypeAlias

from scipy.special import ndtr, ndtri

from experiments.stats.brownian import FARTHEST_Z, Step
from experiments.stats.intervals import require_alpha

Sides: TypeAlias = Literal[1, 2]
Looks: TypeAlias = tuple[tuple[float, float], ...]
"""Time and information at each look so far, oldest first."""

Spending: TypeAlias = Callable[[float, float], float]
"""From time in (0, 1] and the level of one side to the error that this side may have spent."""

LEAST_GROWTH = 1e-5
"""Information must grow by this share before a look counts as another look."""

_ANCHOR = 100


def obrien_fleming(time: float, alpha: float) -> float:
    """Spend next to nothing early and nearly everything at the end.

    *Estimand*: the error that one side may have spent by `time`.

    *Valid*: per side. A two-sided test at level alpha gives alpha / 2 to each of its sides, as
    ldbounds and gsDesign do; spending a two-sided alpha in one piece is another boundary.

    *Source*: Lan and DeMets (1983), Biometrika 70, the first of their spending functions.

    Examples:
        >>> obrien_fleming(1.0, 0.025), round(obrien_fleming(0.5, 0.025), 6)
        (0.025, 0.001525)
    """
    return alpha if time >= 1.0 else 2.0 * float(ndtr(ndtri(alpha / 2.0) / sqrt(time)))


def pocock_type(time: float, alpha: float) -> float:
    """Spend so that the boundary is nearly flat.

    *Estimand*: the error that one side may have spent by `time`.

    *Valid*: per side.

    *Source*: Lan and DeMets (1983), Biometrika 70, the second of their spending functions.

    Examples:
        >>> round(pocock_type(0.5, 0.025), 6)
        0.015503
    """
    return alpha if time >= 1.0 else alpha * log1p((e - 1.0) * time)


@dataclass(frozen=True, slots=True)
class PowerFamily:
    """Spend alpha * time ** exponent.

    *Estimand*: the error that one side may have spent by a time.

    *Valid*: per side.

    *Source*: Kim and DeMets (1987), Biometrika 74.

    Examples:
        >>> PowerFamily(2.0)(0.5, 0.025)
        0.00625
    """

    exponent: float

    def __post_init__(self) -> None:
        if not 0.0 < self.exponent < inf:
            raise ValueError(f"the exponent must be positive, got {self.exponent}")

    def __call__(self, time: float, alpha: float) -> float:
        """Error that one side may have spent by `time`."""
        return alpha * float(min(time, 1.0) ** self.exponent)


@dataclass(frozen=True, slots=True, eq=False)
class Monitor:
    """A test looked at as often as one likes up to a declared end; each look gives the next.

    *Estimand*: at each look the z-score from which on the null is rejected.

    *Assumes*: z-scores are those of a mean that gathers independent information, and when to
    look is not chosen by their values. *When* includes what time it is said to be.

    *Valid*: rejecting as soon as a z-score (or with two sides its absolute value) exceeds its
    boundary errs with probability alpha over all looks together. Asymptotic, like the z-scores.

    *Source*: Lan and DeMets (1983), Biometrika 70; the recursion is that of Armitage, McPherson
    and Rowe (1969), JRSS A 132, as told by Jennison and Turnbull (2000), Group Sequential Methods,
    chapter 19, here with Gauss-Legendre panels in place of Simpson's rule.

    Examples:
        >>> monitor = Monitor.begin(0.05, sides=2)
        >>> first, monitor = monitor.look(0.5, 1_000.0)
        >>> last, monitor = monitor.look(1.0, 2_000.0)
        >>> round(first, 3), round(last, 3), round(monitor.spent, 12)
        (2.963, 1.969, 0.05)
    """

    alpha: float
    sides: Sides
    spending: Spending
    spent_per_side: float = 0.0
    boundary: float = inf
    """At the last look."""

    step: Step | None = None
    """The way to the last look; absent before the first."""

    @classmethod
    def begin(cls, alpha: float, *, sides: Sides = 1, spending: Spending = obrien_fleming) -> Self:
        """Before the first look.

        Raises:
            ValueError: `alpha` is no level, or there are neither one nor two sides.
        """
        require_alpha(alpha)
        if sides not in (1, 2):
            raise ValueError(f"a test has one side or two, got {sides}")
        return cls(alpha, sides, spending)

    @property
    def spent(self) -> float:
        """Probability of having rejected a true null by now, on all sides."""
        return self.sides * self.spent_per_side

    def look(self, time: float, information: float) -> "tuple[float, Monitor]":
        """The boundary at this look, and the monitor that goes on from it.

        Args:
            time: Share of the declared end that is reached; from 1 on all that is left is spent.
            information: One over the squared standard error, in any unit that stays the same.

        Returns:
            The boundary, at most 8, is infinite if this look is none: information has not grown
            by a hundred-thousandth since the last, or the end has been reached before.

        Raises:
            ValueError: `time` or `information` is not positive.
        """
        if not (0.0 < time < inf and 0.0 < information < inf):
            raise ValueError(f"time and information must be positive: {time}, {information}")
        level = self.alpha / self.sides
        if self.spent_per_side >= level:
            return inf, self
        if self.step is None:
            step = Step.first(information)
        else:
            least = self.step.end * (1.0 + LEAST_GROWTH)
            if information < least and time < 1.0:
                return inf, self
            low = -(self.boundary if self.sides == 2 else FARTHEST_Z)
            step = self.step.then(low, self.boundary, max(information, least))
        allowed = level if time >= 1.0 else self.spending(time, level)
        boundary = step.z_exceeded_with(max(allowed - self.spent_per_side, 0.0))
        boundary = max(boundary, 0.0) if self.sides == 2 else boundary
        spent = level if time >= 1.0 else self.spent_per_side + step.above(boundary)
        return boundary, replace(self, spent_per_side=spent, boundary=boundary, step=step)


def boundary(
    looks: Looks, *, alpha: float, sides: Sides = 1, spending: Spending = obrien_fleming
) -> float:
    """The z-score from which on the null is rejected at the last of these looks.

    *Estimand*, *Assumes*, *Valid*: as `Monitor`; this is the same computed from scratch.

    Args:
        looks: All looks so far, with time and information. Monitors are remembered by their
            looks, so that one look more costs one look.
        alpha: Level over all looks and sides.
        sides: One or two; with two, compare the absolute z-score.
        spending: When to spend it.

    Returns:
        The boundary, infinite where `Monitor.look` says that the last look is none.

    *Source*: as `Monitor`.

    Examples:
        >>> fifths = tuple((k / 5.0, float(k)) for k in range(1, 6))
        >>> [round(boundary(fifths[:k], alpha=0.05, sides=2), 3) for k in range(1, 6)]
        [4.877, 3.357, 2.68, 2.29, 2.031]
    """
    if not looks:
        raise ValueError("there is no boundary before the first look")
    # Anchors keep the recursion shallow when nothing is remembered yet.
    for end in range(_ANCHOR, len(looks), _ANCHOR):
        _after(looks[:end], alpha, sides, spending)
    return _after(looks, alpha, sides, spending)[0]


@lru_cache(maxsize=2048)
def _after(looks: Looks, alpha: float, sides: Sides, spending: Spending) -> tuple[float, Monitor]:
    if looks[1:]:
        _, monitor = _after(looks[:-1], alpha, sides, spending)
    else:
        monitor = Monitor.begin(alpha, sides=sides, spending=spending)
    return monitor.look(*looks[-1])
