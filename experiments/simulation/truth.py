"""What is supposed to be true in a simulation, and what that makes right and wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import assert_never

from experiments.metric import (
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Quantile,
    Ratio,
    Score,
    Slow,
    Worse,
)
from experiments.model import Declaration
from experiments.pairs import AGREEMENT
from experiments.quantities import write_number, write_rate
from experiments.spelling import did_you_mean

USUAL_RATE = 0.1
USUAL_SLOW = 0.005
USUAL_EVENTS = 0.001
USUAL_MILLISECONDS = 100.0
USUAL_RATIO = 1.0


class Origin(StrEnum):
    """Where a premise comes from."""

    FILE = "file"
    GIVEN = "given"
    USUAL = "usual"
    """Nobody said, so something plausible stands in."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the first challenger changes, and how traffic behaves; the others change nothing.

    Args:
        effect: True relative change of the goal's value; 0 for an A/A, -0.1 for 10 % less.
        harm: What guardrails are multiplied with, by metric key.
        baselines: The champion's values, by metric key; each goes before the file's.
        drift: Relative change of every value, with everybody, from the first unit to the last.
        visits: Mean number of requests of a unit, where units return.
        alike: How much outcomes of one unit resemble each other (intraclass correlation), 0 to 1;
            in the shadow, how much both answers do.
        agreement: Share of the first challenger's answers that agree in the shadow; the others'
            all do.
    """

    effect: float = 0.0
    harm: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, float] = field(default_factory=dict)
    drift: float = 0.0
    visits: float = 3.0
    alike: float = 0.3
    agreement: float = 1.0

    def __post_init__(self) -> None:
        if not -1.0 <= self.effect <= 1000.0:
            raise ValueError(
                f"an effect of {self.effect:g} is none: it is relative, so -0.1 for 10 % less; "
                "nothing loses more than all of itself"
            )
        for key, factor in self.harm.items():
            if not 0.0 <= factor <= 1000.0:
                raise ValueError(f"{key} is multiplied with a factor from 0 on, not {factor:g}")
        if not -1.0 < self.drift <= 10.0:
            raise ValueError(f"a drift is above -1 and at most 10, not {self.drift:g}")
        if not self.visits >= 1.0 or not 0.0 <= self.alike < 1.0:
            raise ValueError("a unit comes at least once, and `alike` is from 0 to below 1")
        if not 0.0 <= self.agreement <= 1.0:
            raise ValueError(f"an agreement is from 0% to 100%, not {self.agreement:g}")

    def factor(self, asked: Goal | Guardrail) -> float:
        """Return what the first challenger multiplies a metric's value with."""
        if isinstance(asked, Goal):
            return 1.0 + self.effect
        return self.harm.get(asked.key, 1.0)


@dataclass(frozen=True, slots=True)
class Premise:
    """The champion's value of a metric, as simulated.

    Args:
        spread: Standard deviation of an outcome; None where the value determines it.
    """

    asked: Goal | Guardrail
    value: float
    spread: float | None
    origin: Origin

    @property
    def key(self) -> str:
        return self.asked.metric.key

    @property
    def text(self) -> str:
        """The value as people write it."""
        return write_value(self.asked.metric, self.value)


def premises(declaration: Declaration, truth: Truth) -> tuple[Premise, ...]:
    """Return the champion's value of every metric: as given, as declared, or something usual.

    Raises:
        ValueError: `truth` names what is not declared, or a value that cannot be.
    """
    keys = [asked.metric.key for asked in declaration.asked]
    for key in (*truth.harm, *truth.baselines):
        if key not in keys:
            raise ValueError(
                f"{declaration.name} has no metric {key}{did_you_mean(key, keys)}; "
                f"it has {', '.join(keys)}"
            )
    goal = declaration.goal
    if goal is not None and goal.metric.key in truth.harm:
        raise ValueError(f"{goal.metric.key} is the goal: its change is the effect")
    if goal is None and truth.effect:
        raise ValueError("with mode: shadow there is no goal, so there is no effect on it")
    if declaration.shadow is None and truth.agreement != 1.0:
        raise ValueError(f"{declaration.name} has no shadow, so no answers are compared")
    found = tuple(_premise(asked, truth) for asked in declaration.asked)
    for premise in found:
        _can_be(premise, truth)
    return found


def is_better(declaration: Declaration, truth: Truth) -> bool:
    """Return whether the first challenger ought to be promoted, or to pass."""
    if _beyond(declaration, truth):
        return False
    return declaration.shadow_only or _gain(declaration, truth) > 0


def is_harmful(declaration: Declaration, truth: Truth) -> bool:
    """Return whether the first challenger ought to be rolled back."""
    return _gain(declaration, truth) < 0 or bool(_beyond(declaration, truth))


def write_value(metric: Metric, value: float) -> str:
    """Write a metric's value: a percentage where shares of units are compared."""
    if isinstance(metric.kind, Binary | Slow | Count):
        return write_rate(float(f"{value:.6g}")).replace("%", " %")
    return f"{write_number(value)} ms" if isinstance(metric.kind, Quantile) else write_number(value)


def _gain(declaration: Declaration, truth: Truth) -> float:
    if declaration.shadow_only:
        return 0.0
    up = declaration.sought.direction is Direction.INCREASE
    return truth.effect if up else -truth.effect


def _beyond(declaration: Declaration, truth: Truth) -> tuple[str, ...]:
    """Return what the first challenger leaves by more than is allowed: guardrails, agreement."""
    shadow = declaration.shadow
    least = shadow.agreement if shadow is not None else None
    apart = (AGREEMENT,) if least is not None and truth.agreement < least else ()
    return apart + tuple(
        premise.key
        for premise in premises(declaration, truth)
        if isinstance(premise.asked, Guardrail)
        and _is_beyond(premise.asked, premise.value, truth.factor(premise.asked))
    )


def _is_beyond(guardrail: Guardrail, value: float, factor: float) -> bool:
    if guardrail.max_ratio is not None:
        above, below = factor > guardrail.max_ratio, factor * guardrail.max_ratio < 1.0
    else:
        assert guardrail.max_difference is not None
        change = value * (factor - 1.0)
        above, below = change > guardrail.max_difference, -change > guardrail.max_difference
    match guardrail.worse:
        case Worse.HIGHER:
            return above
        case Worse.LOWER:
            return below
        case Worse.EITHER:
            return above or below
    assert_never(guardrail.worse)


def _premise(asked: Goal | Guardrail, truth: Truth) -> Premise:
    key = asked.metric.key
    if key in truth.baselines:
        value, origin = truth.baselines[key], Origin.GIVEN
    elif asked.baseline is not None:
        value, origin = asked.baseline, Origin.FILE
    else:
        value, origin = _usual(asked.metric), Origin.USUAL
    return Premise(asked, value, asked.spread, origin)


def _usual(metric: Metric) -> float:
    match metric.kind:
        case Binary():
            return USUAL_RATE
        case Mean(low, high):
            return high / 10.0 if low <= 0.0 < high else (low + high) / 2.0
        case Score(low, high):
            return (low + high) / 2.0
        case Ratio():
            return USUAL_RATIO
        case Slow():
            return USUAL_SLOW
        case Quantile():
            return USUAL_MILLISECONDS
        case Count():
            return USUAL_EVENTS
    assert_never(metric.kind)


def _can_be(premise: Premise, truth: Truth) -> None:
    """Refuse values that the metric cannot have, with either version, at any time."""
    metric = premise.asked.metric
    bounds = _bounds(metric)
    if bounds is None:
        return
    low, high = bounds
    changed = premise.value * truth.factor(premise.asked)
    for value in (premise.value, changed):
        for drifted in (value, value * (1.0 + truth.drift)):
            if not low <= drifted <= high:
                raise ValueError(
                    f"{premise.key} would be {write_value(metric, drifted)}, which is not "
                    f"from {write_value(metric, low)} to {write_value(metric, high)}: "
                    f"give another effect, or another baseline than {premise.text}"
                )


def _bounds(metric: Metric) -> tuple[float, float] | None:
    match metric.kind:
        case Binary() | Slow() | Count():
            return 0.0, 1.0
        case Score(low, high):
            return low, high
        case Quantile():
            return 0.0, 600_000.0
    return None
