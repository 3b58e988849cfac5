"""What would be seen, if the arms had known values: evidence as it would be on average.

The tests themselves are asked what they make of it, so that a forecast cannot disagree with the
verdicts that it is about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Literal, assert_never

from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.methods.choice import is_grouped
from experiments.metric import (
    GROUPS,
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Mean,
    Quantile,
    Ratio,
    Score,
    Slow,
)
from experiments.model import Declaration
from experiments.planning.ramp import Ramp
from experiments.stats.intervals import Insufficient
from experiments.stats.moments import Moments


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a metric beforehand.

    Args:
        baseline: The champion's value.
        spread: Standard deviation of one unit's outcome; None for shares of units.
        scale: What errors are of: the difference, or the logarithm of the ratio.
    """

    asked: Goal | Guardrail
    baseline: float
    spread: float | None
    scale: Literal["difference", "ratio"]

    @property
    def limits(self) -> tuple[float, float]:
        """Between which values the metric can lie."""
        match self.asked.metric.kind:
            case Binary() | Slow() | Count():
                return 0.0, 1.0
            case Score(low, high) | Mean(low, high):
                return low, high
            case _:
                return -1e15, 1e15

    def variance(self, value: float) -> float:
        """Variance of one unit, on the scale that errors are of."""
        if self.spread is not None:
            return self.spread**2
        return 1.0 / value if self.scale == "ratio" else value * (1.0 - value)

    def apart(self, value: float) -> float:
        """How far a value is from the baseline, on the scale that errors are of."""
        return log(value / self.baseline) if self.scale == "ratio" else value - self.baseline

    def at(self, distance: float) -> float:
        """Return the value so far from the baseline, or the last one that there can be."""
        if self.scale == "ratio":
            value = self.baseline * exp(min(distance, _FARTHEST_RATIO))
        else:
            value = self.baseline + distance
        low, high = self.limits
        return min(max(value, low), high)

    def error(self, ramp: Ramp, units: float, value: float) -> float:
        """Standard error after so many units, if the challenger has this value."""
        each = ramp.informations(self.variance(value), self.variance(self.baseline))
        return 1.0 / sqrt(ramp.gathered(units, each))


_FARTHEST_RATIO = 100.0

SMALLEST = 1e-5
"""Effects of fewer standard deviations need more than a million million units."""

_RAREST = 1e-9
LEAST_ALPHA = 1e-12


def known(asked: Goal | Guardrail) -> Known | Insufficient:
    """Return what the file tells of a metric, or what it would have to tell."""
    found = _told(asked)
    if isinstance(found, Insufficient):
        return found
    key, baseline = asked.metric.key, found.baseline
    low, high = found.limits
    if not low < baseline < high:
        return Insufficient(f"{key} lies between {low:g} and {high:g}, it cannot be {baseline:g}")
    if found.spread is None and not _RAREST <= baseline <= 1.0 - _RAREST:
        return Insufficient(f"a share of {100 * baseline:g} % is never seen to change")
    size = _size(found) / sqrt(found.variance(baseline))
    if not SMALLEST <= size <= 1.0 / SMALLEST:
        small = "more units than ever come" if size < SMALLEST else "no statistics"
        return Insufficient(f"a change of {size:.1g} standard deviations of {key} needs {small}")
    return found


def _size(known: Known) -> float:
    """The change that matters, on the scale that errors are of."""
    asked = known.asked
    if isinstance(asked, Goal):
        effect = asked.min_effect if asked.direction is Direction.INCREASE else -asked.min_effect
        ratio = 1.0 + effect
    elif asked.max_ratio is None:
        assert asked.max_difference is not None
        return asked.max_difference
    else:
        ratio = asked.max_ratio
    if known.scale == "ratio":
        return abs(log(ratio)) if ratio > 0.0 else inf
    return abs(known.baseline) * abs(ratio - 1.0)


def _told(asked: Goal | Guardrail) -> Known | Insufficient:
    kind = asked.metric.kind
    if isinstance(kind, Quantile):
        return Insufficient(
            f"how many units a quantile needs depends on how the times of {asked.metric.name} are "
            "spread around it: run `tiltyard simulate`, or watch the share of units `above` a limit"
        )
    by_share = isinstance(kind, Binary | Slow | Count)
    missing = [] if asked.baseline is not None else [f"baseline: {'5%' if by_share else '12.5'}"]
    missing += [] if by_share or asked.spread is not None else ["spread: 3.2"]
    if missing:
        what = {"b": "the champion's value", "s": "the standard deviation of an outcome"}
        words = " and ".join(what[each[0]] for each in missing)
        or_here = ", or --baseline" if isinstance(asked, Goal) and len(missing) == 1 else ""
        return Insufficient(f"{words} must be known: give `{', '.join(missing)}`, say{or_here}")
    assert asked.baseline is not None
    by_ratio = isinstance(kind, Slow | Count)
    return Known(asked, asked.baseline, asked.spread, "ratio" if by_ratio else "difference")


def evidence_of(
    declaration: Declaration,
    ramp: Ramp,
    units: float,
    sample: Callable[[bool, int], Sample],
    *,
    key: str,
    first_stage: bool = False,
) -> Evidence:
    """Return what so many units would show of one metric; of all others nothing is seen.

    Args:
        sample: What an arm of so many units shows; the first argument says whether it is the first
            challenger's. Of other challengers nothing is seen.
        first_stage: Units come in the first stage alone, however many they are.
    """
    parts = (units,) if first_stage else ramp.parts(units)
    version, others = declaration.challengers[0], declaration.challengers[1:]
    stages = []
    for rung, part in zip(ramp.rungs, parts, strict=False):
        n1, n0 = round(part * rung.lane), round(part * rung.rest)
        stages.append(
            StageEvidence(
                stage=rung.number,
                champion=Tally(units=n0, samples={key: sample(False, n0)}),
                challengers={version: Tally(units=n1, samples={key: sample(True, n1)})}
                | dict.fromkeys(others, Tally()),
                odds=(rung.odds.numerator, rung.odds.denominator),
            )
        )
    return Evidence(tuple(stages))


def sample_of(known: Known, value: float, n: int, *, returning: bool) -> Sample:
    """Return what `n` units show on average if the metric has this value.

    Where units give outcomes again and again, each is taken to give one.
    """
    kind, metric = known.asked.metric.kind, known.asked.metric
    spread = known.spread if known.spread is not None else sqrt(max(value * (1.0 - value), 0.0))
    if is_grouped(metric, returning=returning):
        return Sample(moments=_groups(value, spread, n))
    match kind:
        case Binary():
            return Sample(counts={1: round(n * value), 0: n - round(n * value)})
        case Slow() if not metric.at_edge:
            return Sample(counts={1: round(n * value), 0: n - round(n * value)})
        case Slow() | Count():
            return Sample(counts={1: round(n * value)})
        case Mean():
            return Sample(moments={0: Moments(n, value, n * spread**2)} if n else {})
        case Score():
            return Sample(counts=_scores(kind, value, spread, n))
        case Ratio() | Quantile():
            raise AssertionError(f"{kind} is planned elsewhere")
    assert_never(kind)


def _groups(value: float, spread: float, n: int) -> dict[int, Moments]:
    """Hash groups that lie apart as chance lets them: every other one too high."""
    found = {}
    for group in range(GROUPS):
        if each := n // GROUPS + (group < n % GROUPS):
            off = spread / sqrt(each) * (1.0 if group % 2 else -1.0)
            found[group] = Moments(each, value + off, each * spread**2, mean_x=1.0)
    return found


def _scores(kind: Score, mean: float, spread: float, n: int) -> dict[int, int]:
    """Scores with this mean and spread: some at the ends of the range, the rest near the mean."""
    grid = kind.grid
    step = grid[1] - grid[0]
    last = len(grid) - 1
    below = min(max(int((mean - kind.low) / step), 0), last - 1)
    near = (mean - grid[below]) / step
    tight, wide = (near * (1.0 - near) * step**2), (mean - kind.low) * (kind.high - mean)
    at_ends = min(max((spread**2 - tight) / (wide - tight), 0.0), 1.0) if wide > tight else 0.0
    top = (mean - kind.low) / (kind.high - kind.low)
    counts = dict.fromkeys((0, last, below, below + 1), 0)
    counts[0] += round(n * at_ends * (1.0 - top))
    counts[last] += round(n * at_ends * top)
    counts[below + 1] += round(n * (1.0 - at_ends) * near)
    counts[below] += max(0, n - sum(counts.values()))
    return counts
