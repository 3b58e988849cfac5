"""What one outcome says of a metric: a value that its kind can take, and where that is counted."""

import math
from dataclasses import dataclass
from typing import assert_never

from experiments.errors import InvalidOutcome
from experiments.metric import Binary, Count, Mean, Metric, Quantile, Ratio, Score, Slow
from experiments.quantities import LARGEST_NUMBER, write_number
from experiments.spelling import shown
from experiments.stats.latency_grid import bucket_of

ROUNDING = 1e-9
"""Part of a score's range. Who multiplies out 115 steps of 0.001 sends 0.11500000000000002."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What is counted.

    Args:
        index: Which of the metric's cells it belongs to.
        pair: What is merged into the cell's moments; None to count 1.
    """

    index: int
    pair: tuple[float, float] | None = None


def observe(
    metric: Metric, value: object, denominator: object, covariate: object, *, group: int | None
) -> Observation | None:
    """Return what is counted for an outcome; None if it is of no events, so that nothing is.

    Args:
        value, denominator, covariate: JSON values as they were sent; the latter two may be None.
        group: Hash group of the unit, where all that units do is summed; None where only what a
            unit does first is counted.

    Raises:
        InvalidOutcome: the metric cannot take such values.
    """
    name = metric.name
    _refuse_what_is_not_taken(metric, denominator, covariate)
    match metric.kind:
        case Binary():
            index = _binary(name, value)
            found = float(index)
        case Mean(low, high):
            # Cut off before it becomes a float: a whole number may be too large for one.
            found = float(min(max(_number(name, value), low), high))
            if group is None and covariate is None:
                return Observation(0, (found, 0.0))
            if group is None:
                return Observation(1, (found, _bounded(f"the covariate of {name}", covariate)))
            return Observation(group, (found, 1.0))
        case Score() as score:
            index, found = _on_grid(name, value, score)
        case Ratio():
            assert group is not None
            return Observation(group, (_bounded(name, value), _denominator(name, denominator)))
        case Slow(above_ms):
            return Observation(int(_latency(name, value) > above_ms))
        case Quantile():
            return Observation(bucket_of(_latency(name, value)))
        case Count():
            return Observation(1) if _events(name, value) else None
        case _:
            assert_never(metric.kind)
    return Observation(index) if group is None else Observation(group, (found, 1.0))


def _refuse_what_is_not_taken(metric: Metric, denominator: object, covariate: object) -> None:
    is_ratio = isinstance(metric.kind, Ratio)
    if is_ratio and denominator is None:
        raise InvalidOutcome(f"{metric.name} is a ratio: send its denominator beside its value")
    if not is_ratio and denominator is not None:
        kind = metric.kind.kind
        raise InvalidOutcome(f"{metric.name} takes no denominator: it is a {kind}, and no ratio")
    takes_covariate = isinstance(metric.kind, Mean) and metric.kind.covariate
    if covariate is not None and not takes_covariate:
        raise InvalidOutcome(
            f"{metric.name} takes no covariate: the experiment does not declare `covariate: true`"
        )


def _binary(name: str, value: object) -> int:
    match value:
        case bool(flag):
            raise InvalidOutcome(f"{name} is a number: send {int(flag)} instead of {shown(flag)}")
        case float(number) if not math.isfinite(number):
            raise InvalidOutcome(f"{name} must be 0 or 1, not {number}: not finite")
        case (0 | 1) as number:
            return int(number)
        case other:
            raise InvalidOutcome(f"{name} must be the number 0 or 1, not {shown(other)}")


def _number(name: str, value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOutcome(f"{name} must be a number, not {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidOutcome(f"{name} must be a number, not {value}: not finite")
    return value


def _bounded(name: str, value: object) -> float:
    number = _number(name, value)
    if abs(number) > LARGEST_NUMBER:
        largest = write_number(LARGEST_NUMBER)
        raise InvalidOutcome(f"{name} must be at most {largest} in size, not {shown(value)}")
    return float(number)


def _denominator(name: str, value: object) -> float:
    denominator = _bounded(f"the denominator of {name}", value)
    if denominator < 0:
        raise InvalidOutcome(f"the denominator of {name} must not be negative, not {shown(value)}")
    return denominator


def _on_grid(name: str, value: object, score: Score) -> tuple[int, float]:
    number = _number(name, value)
    slack = ROUNDING * (score.high - score.low)
    if not score.low - slack <= number <= score.high + slack:
        bounds = f"{write_number(score.low)} to {write_number(score.high)}"
        raise InvalidOutcome(f"{name} must be from {bounds}, not {shown(value)}")
    width = score.high - score.low
    steps = round(width / score.step)
    index = round((number - score.low) / width * steps)
    return index, score.low + index * width / steps


def _latency(name: str, value: object) -> int | float:
    number = _number(name, value)
    if number < 0:
        raise InvalidOutcome(f"{name} must be milliseconds, not negative, not {shown(value)}")
    return number


def _events(name: str, value: object) -> int | float:
    number = _number(name, value)
    if number < 0 or number % 1:
        raise InvalidOutcome(f"{name} must be a whole number of events from 0, not {shown(value)}")
    return number
