"""How large the differences of an experiment are: intervals that hold at every look."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from typing import Literal, TypeAlias

from experiments.assessment import EVENT_SAFETY, bad_events, goal_counts
from experiments.evidence import Evidence, StageEvidence
from experiments.model import Declaration, Goal, Guardrail
from experiments.stats.effects import rate_ratio_interval, risk_difference_interval
from experiments.stats.intervals import Insufficient

USUAL_BASELINE = 0.5
"""Rate that sizes the mixture where none is declared; it costs width, never truth."""

EXPECTED_EFFECTS = 3.0
"""Differences that the interval is sharpest for, in multiples of the smallest one of interest."""


@dataclass(frozen=True, slots=True)
class KnownEffect:
    """An interval at every moment of the experiment at once, with probability `level`.

    Args:
        effect: `difference` of the goal's rates, challenger minus champion, from -1 to 1; or
            `ratio` of the rates of bad units, challenger over champion.
        high: None if nothing bounds the ratio from above yet.
        estimate: None for a ratio while a variant has no bad unit.
    """

    metric: str
    effect: Literal["difference", "ratio"]
    level: float
    low: float
    high: float | None
    estimate: float | None


@dataclass(frozen=True, slots=True)
class UnknownEffect:
    """Nothing can be said of the size yet, and why."""

    metric: str
    effect: Literal["difference", "ratio"]
    reason: str


Effect: TypeAlias = KnownEffect | UnknownEffect


def view_effects(declaration: Declaration, evidence: Evidence) -> tuple[Effect, ...]:
    """Return the size of the goal's difference, and of every guardrail's ratio."""
    alpha = 2 * declaration.alpha.promote
    return (
        _difference(declaration.goal, evidence.stages, alpha),
        *(_ratio(guardrail, evidence.stages, alpha) for guardrail in declaration.guardrails),
    )


def _difference(goal: Goal, stages: Sequence[StageEvidence], alpha: float) -> Effect:
    baseline = USUAL_BASELINE if goal.baseline is None else goal.baseline
    tau = EXPECTED_EFFECTS * goal.min_effect * baseline
    found = risk_difference_interval(goal_counts(stages), alpha=alpha, tau=tau)
    if isinstance(found, Insufficient):
        return UnknownEffect(goal.metric, "difference", _said(found.reason))
    return KnownEffect(goal.metric, "difference", 1 - alpha, found.low, found.high, found.estimate)


def _ratio(guardrail: Guardrail, stages: Sequence[StageEvidence], alpha: float) -> Effect:
    events = bad_events(guardrail, stages)
    if not any(stage.treatment + stage.control for stage in events):
        return UnknownEffect(guardrail.key, "ratio", "no bad unit with either variant")
    found = rate_ratio_interval(events, alpha=alpha, tau=EVENT_SAFETY)
    high = None if isinf(found.high) else found.high
    return KnownEffect(guardrail.key, "ratio", 1 - alpha, found.low, high, found.estimate)


def _said(reason: str) -> str:
    """Write a reason of the statistics in the words of an experiment."""
    return reason.replace("treatment", "challenger").replace("control", "champion")
