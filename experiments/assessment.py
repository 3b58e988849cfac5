"""Evidence to e-values: every test that a declaration asks for, at one look.

Pure: the same counts give the same numbers, on whatever machine and however often they are asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from experiments.evidence import Evidence, StageEvidence
from experiments.model import Declaration, Direction, Guardrail
from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e
from experiments.stats.combine import e_holm, weighted_mean_log_e
from experiments.stats.events import event_ratio_log_e
from experiments.stats.proportion import below_rate_log_e
from experiments.stats.sample_ratio import sample_ratio_log_e
from experiments.stats.stages import Side, StageCounts, StageEvents

GOAL_HARM = 1.5
"""Scale of the log odds ratio for harm to the goal: finds gross harm in tens of units."""

EVENT_HARM = (0.7, 3.0)
"""Scales of the log rate ratio for harm to a guardrail: the mild kind, and a challenger that errs
where the champion never does."""

EVENT_SAFETY = 0.7
"""Scale of the log rate ratio for being within a guardrail's margin."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test has found, and what it would take.

    Args:
        log_e: Natural logarithm of the e-value; any look, any time.
        needed: `log_e` from which on the test has spoken.
    """

    metric: str
    log_e: float
    needed: float

    @property
    def reached(self) -> bool:
        return self.log_e >= self.needed

    @property
    def e_text(self) -> str:
        """The e-value for people: never overflows, never pretends to digits it has not."""
        return e_text(self.log_e)

    @property
    def needed_text(self) -> str:
        return e_text(self.needed)

    @property
    def p_value(self) -> float:
        """Always-valid p-value: min(1, 1/e)."""
        return min(1.0, exp(-self.log_e)) if self.log_e > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Assessment:
    """Every test of an experiment, at one look.

    Args:
        harm: Per metric, adjusted for looking at all of them (e-Holm); names the culprits.
        any_harm: Weighted mean of the unadjusted e-values; decides on rollback.
        superior: The goal moved the way it was meant to.
        not_inferior: Per guardrail, within its margin.
    """

    harm: tuple[Finding, ...]
    any_harm: Finding
    superior: Finding
    not_inferior: tuple[Finding, ...]
    sample_ratio: Finding


def e_text(log_e: float) -> str:
    """Write an e-value so that people can compare it.

    Examples:
        >>> e_text(0.0), e_text(3.7), e_text(800.0)
        ('1', '40.4', '10^347')
    """
    if log_e > log(1e6):
        return f"10^{log_e / log(10):.0f}"
    return f"{exp(log_e):.3g}"


def assess(declaration: Declaration, evidence: Evidence) -> Assessment:
    """Make every test that the declaration asks for.

    *Source*: `experiments.stats` for each test; Vovk and Wang (2021), Ann. Statist. 49(3), for the
    weighted mean of e-values under any dependence; e-Holm closed testing for naming culprits.
    """
    stages = evidence.stages
    alpha = declaration.alpha
    names = (declaration.goal.metric, *(g.key for g in declaration.guardrails))
    log_es = (
        _goal_harm(declaration, stages),
        *(_guardrail_harm(g, stages) for g in declaration.guardrails),
    )
    harm_needed = log(1 / alpha.harm)
    promote_needed = log(1 / alpha.promote)
    return Assessment(
        harm=tuple(
            Finding(name, log_e, harm_needed)
            for name, log_e in zip(names, e_holm(log_es), strict=True)
        ),
        any_harm=Finding(
            "any", weighted_mean_log_e(log_es, [1 / len(log_es)] * len(log_es)), harm_needed
        ),
        superior=Finding(
            declaration.goal.metric, _goal_superior(declaration, stages), promote_needed
        ),
        not_inferior=tuple(
            Finding(g.key, _not_inferior(g, stages), promote_needed) for g in declaration.guardrails
        ),
        sample_ratio=Finding("units", _sample_ratio(stages), log(1 / alpha.sample_ratio)),
    )


def goal_counts(stages: Sequence[StageEvidence]) -> list[StageCounts]:
    """Return what the tests of the goal look at."""
    return [
        StageCounts(
            s.challenger.successes,
            s.challenger.failures,
            s.champion.successes,
            s.champion.failures,
            s.probability,
        )
        for s in stages
    ]


def _better(declaration: Declaration) -> Side:
    return Side.GREATER if declaration.goal.direction is Direction.INCREASE else Side.LESS


def _worse(declaration: Declaration) -> Side:
    return Side.LESS if declaration.goal.direction is Direction.INCREASE else Side.GREATER


def _goal_superior(declaration: Declaration, stages: Sequence[StageEvidence]) -> float:
    return randomisation_log_e(
        goal_counts(stages),
        tau=(log(1 + declaration.goal.min_effect), log(1 + 10 * declaration.goal.min_effect)),
        planning_rate=_planning_rates(declaration),
        side=_better(declaration),
    )


def _goal_harm(declaration: Declaration, stages: Sequence[StageEvidence]) -> float:
    return randomisation_log_e(
        goal_counts(stages),
        tau=GOAL_HARM,
        planning_rate=_planning_rates(declaration),
        side=_worse(declaration),
        scale=Scale.ODDS_RATIO,
    )


def _planning_rates(declaration: Declaration) -> tuple[float, ...]:
    baseline = declaration.goal.baseline
    return UNKNOWN_RATE if baseline is None else (baseline,)


def bad_events(guardrail: Guardrail, stages: Sequence[StageEvidence]) -> list[StageEvents]:
    """Return what the tests of a guardrail look at."""
    return [
        StageEvents(
            s.challenger.bad.get(guardrail.key, 0),
            s.champion.bad.get(guardrail.key, 0),
            s.probability,
        )
        for s in stages
    ]


def _guardrail_harm(guardrail: Guardrail, stages: Sequence[StageEvidence]) -> float:
    return event_ratio_log_e(
        bad_events(guardrail, stages),
        tau=EVENT_HARM,
        side=Side.GREATER,
        margin_ratio=guardrail.max_ratio,
    )


def _not_inferior(guardrail: Guardrail, stages: Sequence[StageEvidence]) -> float:
    """Harmless is a ratio below the margin, or a rate so low that its ratio does not matter.

    Were the challenger harmful, both nulls would hold and both e-values be valid, so their mean is.
    """
    events = bad_events(guardrail, stages)
    units = sum(s.challenger.units for s in stages)
    bad = min(units, sum(e.treatment for e in events))
    return weighted_mean_log_e(
        (
            event_ratio_log_e(
                events, tau=EVENT_SAFETY, side=Side.LESS, margin_ratio=guardrail.max_ratio
            ),
            below_rate_log_e(bad, units, rate=guardrail.negligible),
        ),
        (0.5, 0.5),
    )


def _sample_ratio(stages: Sequence[StageEvidence]) -> float:
    return sample_ratio_log_e(
        [StageEvents(s.challenger.units, s.champion.units, s.probability) for s in stages]
    )
