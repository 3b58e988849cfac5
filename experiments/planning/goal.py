"""When the goal is decided, in either mode, and what one look at the end would have needed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite, sqrt

import numpy as np
from scipy.optimize import brentq

from experiments.assessment import assess
from experiments.finding import Finding
from experiments.metric import Direction
from experiments.model import Declaration
from experiments.planning.expected import LEAST_ALPHA, Known, evidence_of, known, sample_of
from experiments.planning.ramp import Ramp
from experiments.stats.brownian import FARTHEST_Z, Step
from experiments.stats.designs import Design, fixed_signal
from experiments.stats.intervals import Insufficient
from experiments.stats.planning import OPEN_ENDED_REACH, REFERENCE_POWER, Course, Mode, multiplier
from experiments.stats.spending import Monitor, obrien_fleming

POWERS = (0.5, 0.8, 0.9)

LOOKS = 400
BOUNDED_LOOKS = 100
_CLOSE_ENOUGH = 2e-3
_PROBES = np.geomspace(0.05, OPEN_ENDED_REACH, 16)


@dataclass(frozen=True, slots=True)
class Need:
    """What one probability of a verdict costs.

    Args:
        power: The probability.
        units: That come until then, over the whole ramp; None if more than can be foreseen.
        compared: Those of them that are compared: no veterans. A horizon counts these.
        stages: `units` by stage.
        seconds: Until then, or until the minimum runtime and units are reached, if that is later;
            None where the traffic is not known.
    """

    power: float
    units: int | None
    compared: int | None
    stages: tuple[int, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GoalForecast:
    """What the goal needs.

    Args:
        effect: The change looked for, in the metric's unit: `min_effect` of the baseline.
        alpha: One-sided level that one challenger has.
        at_one_look: As it would be if only one look were taken, at the end.
        open_ended: As a declaration without a horizon decides.
        bounded: As one with a horizon does; `compared` is the horizon to declare.
        expected: Mean number of units until a decision, where the effect is the one looked for;
            bounded, with the horizon for 80 % power.
        declared: Probability of a decision by the end of the horizon, if one is declared.
    """

    metric: str
    baseline: float
    effect: float
    alpha: float
    at_one_look: tuple[Need, ...]
    open_ended: tuple[Need, ...]
    bounded: tuple[Need, ...]
    expected: dict[Mode, int]
    declared: float | None


@dataclass(frozen=True, slots=True, eq=False)
class GoalCourse:
    """How a goal comes to be decided, along a ramp.

    Args:
        fixed: Information that one look needs for 80 % power.
        each: Information per unit that comes, in each stage.
        late: Seconds that an outcome is waited for.
    """

    declaration: Declaration
    ramp: Ramp
    known: Known
    target: float
    fixed: float
    each: tuple[float, ...]
    late: float

    @classmethod
    def of(cls, declaration: Declaration, ramp: Ramp) -> "GoalCourse | Insufficient":
        """Look at a goal; nothing is computed yet."""
        goal = declaration.sought
        found = known(goal)
        if isinstance(found, Insufficient):
            return found
        sign = 1.0 if goal.direction is Direction.INCREASE else -1.0
        target = found.baseline * (1.0 + sign * goal.min_effect)
        low, high = found.limits
        if not low <= target <= high:
            return Insufficient(
                f"{goal.metric.key} cannot move from {found.baseline:g} to {target:g}: "
                f"it lies between {low:g} and {high:g}"
            )
        if alpha_of(declaration) < LEAST_ALPHA:
            return Insufficient("alpha.promote is too small for any forecast")
        signal = fixed_signal(alpha=alpha_of(declaration), sides=1, power=REFERENCE_POWER)
        each = ramp.informations(found.variance(target), found.variance(found.baseline))
        window = goal.metric.window
        return cls(
            declaration=declaration,
            ramp=ramp,
            known=found,
            target=target,
            fixed=(signal / found.apart(target)) ** 2,
            each=tuple(each),
            late=window.total_seconds() if window else 0.0,
        )

    @property
    def alpha(self) -> float:
        return alpha_of(self.declaration)

    @property
    def drift(self) -> float:
        """How many standard errors the effect measures at the fixed sample."""
        return fixed_signal(alpha=self.alpha, sides=1, power=REFERENCE_POWER)

    def units(self, multiple: float) -> float:
        """Units that come until so many fixed samples of information are gathered."""
        return self.ramp.until(multiple * self.fixed, self.each)

    def multiple(self, units: float) -> float:
        return self.ramp.gathered(units, self.each) / self.fixed

    def need(self, power: float, multiple: float) -> Need:
        units = self.units(multiple)
        if not isfinite(units):
            return Need(power, None, None, (), None)
        seconds = self.ramp.seconds(max(units + self.late * (self.ramp.rate or 0.0), self.least))
        return Need(
            power=power,
            units=round(units),
            compared=round(self.ramp.gathered(units, self.ramp.compared)),
            stages=whole(self.ramp.parts(units)),
            seconds=seconds,
        )

    @property
    def least(self) -> float:
        return self.ramp.least

    def open_ended(self) -> Course:
        """How an e-process that is looked at all the time comes to decide.

        The boundary is the test's own: it is asked at some samples which z-score would do.
        """
        at_probes = [self._radius(float(multiple)) for multiple in _PROBES]
        samples = [OPEN_ENDED_REACH * k / LOOKS for k in range(1, LOOKS + 1)]
        boundaries = np.interp(np.log(samples), np.log(_PROBES), at_probes)
        design = Design.of(samples, boundaries.tolist(), sides=1)
        return Course(design.information, np.cumsum(design.rejections(self.drift)))

    def bounded(self, power: float) -> tuple[Course, float]:
        """How alpha spending comes to decide, with the horizon that has this power.

        Time is spent by units, information comes by stage, so the boundaries depend on the ramp.
        """
        horizon = multiplier(Mode.BOUNDED, alpha=self.alpha, sides=1, power=power).sample
        while True:
            design = self._spending(self.units(horizon))
            ratio = (design.drift_for(power) / self.drift) ** 2
            horizon = float(design.information[-1]) * ratio
            if abs(ratio - 1.0) < _CLOSE_ENOUGH:
                return self._course(design), horizon

    def within(self, horizon: float) -> Course:
        """How alpha spending comes to decide within so many compared units."""
        return self._course(self._spending(self.ramp.until(horizon, self.ramp.compared)))

    def _course(self, design: Design) -> Course:
        return Course(design.information, np.cumsum(design.rejections(self.drift)))

    def _spending(self, units: float) -> Design:
        """Looks at every hundredth of the compared units; information in fixed samples."""
        horizon = self.ramp.gathered(units, self.ramp.compared)
        monitor = Monitor.begin(self.alpha, sides=1, spending=obrien_fleming)
        steps: list[Step] = []
        boundaries: list[float] = []
        for k in range(1, BOUNDED_LOOKS + 1):
            time = k / BOUNDED_LOOKS
            seen = self.ramp.until(time * horizon, self.ramp.compared)
            boundary, monitor = monitor.look(time, self.multiple(seen))
            if monitor.step is not None and boundary <= FARTHEST_Z:
                steps.append(monitor.step)
                boundaries.append(boundary)
        return Design(tuple(steps), tuple(boundaries), 1)

    def _radius(self, multiple: float) -> float:
        """The z-score from which on the goal counts as better, after so many fixed samples."""
        units = self.units(multiple)
        error = 1.0 / sqrt(multiple * self.fixed)
        sign = 1.0 if self.known.apart(self.target) > 0.0 else -1.0

        def short(z: float) -> float:
            found = self._superior(units, self.known.at(sign * z * error))
            return found.log_e - found.needed

        if short(FARTHEST_Z) < 0.0:
            return FARTHEST_Z
        return float(brentq(short, 0.0, FARTHEST_Z, xtol=1e-3))

    def _superior(self, units: float, value: float) -> Finding:
        declaration = replace(self.declaration, guardrails=(), segments=None, horizon=None)
        values = (self.known.baseline, value)
        evidence = evidence_of(
            declaration,
            self.ramp,
            units,
            lambda treated, n: sample_of(
                self.known, values[treated], n, returning=declaration.returning
            ),
            key=declaration.sought.metric.key,
        )
        found = assess(declaration, evidence).challengers[0].superior
        assert isinstance(found, Finding)
        return found


def forecast_goal(course: GoalCourse) -> tuple[GoalForecast, Course, Course]:
    """Return what a goal needs, and the courses of the open-ended and of the bounded mode.

    *Estimand*: units until a verdict, if the challenger is better by just `min_effect`.

    *Assumes*: units come evenly; each gives one outcome; the suspicion of harm holds no gate up.

    *Valid*: asymptotic, computed and not simulated. A verdict is the first look at which the goal
    counts as better; a promotion waits for the last stage and for the guardrails besides.

    *Source*: as `experiments.stats.planning`, along the ramp's information instead of one share.
    """
    declaration = course.declaration
    open_ended = course.open_ended()
    bounded = {power: course.bounded(power) for power in POWERS}
    spent, _ = bounded[REFERENCE_POWER]
    if declaration.horizon is not None:
        spent = course.within(declaration.horizon.units)
    found = GoalForecast(
        metric=declaration.sought.metric.key,
        baseline=course.known.baseline,
        effect=course.target - course.known.baseline,
        alpha=course.alpha,
        at_one_look=tuple(
            course.need(p, (fixed_signal(alpha=course.alpha, sides=1, power=p) / course.drift) ** 2)
            for p in POWERS
        ),
        open_ended=tuple(course.need(p, open_ended.sample_for(p)) for p in POWERS),
        bounded=tuple(course.need(p, bounded[p][1]) for p in POWERS),
        expected={
            Mode.OPEN_ENDED: _mean(course, open_ended),
            Mode.BOUNDED: _mean(course, bounded[REFERENCE_POWER][0]),
        },
        declared=float(spent.decided[-1]) if declaration.horizon is not None else None,
    )
    return found, open_ended, spent


def alpha_of(declaration: Declaration) -> float:
    """Return the one-sided level that one challenger's promotion has."""
    return declaration.alpha.promote / len(declaration.challengers)


def whole(parts: tuple[float, ...]) -> tuple[int, ...]:
    """Round parts so that they add up to the rounded whole."""
    found: list[int] = []
    so_far = 0.0
    for part in parts:
        so_far += part
        found.append(round(so_far) - sum(found))
    return tuple(found)


def _mean(course: GoalCourse, by: Course) -> int:
    """Mean units to a rejection or to the last look: the mean over the looks, by the ramp."""
    units: Callable[[float], float] = course.units
    stopped = np.diff(by.decided, prepend=0.0)
    at = np.array([units(float(sample)) for sample in by.samples])
    undecided = 1.0 - float(by.decided[-1])
    mean = float(stopped @ at) + undecided * float(at[-1])
    return round(mean) if mean < inf else 0
