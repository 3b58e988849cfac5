"""What to do next, as a pure function of what was agreed, what was seen, and the time.

`experiments.assessment` turns evidence into e-values, `decide` turns e-values into one of five
decisions. Both are pure, so a receipt that holds their arguments can be recomputed by anybody,
years later.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil
from typing import Literal, TypeAlias

from experiments.assessment import Assessment, assess
from experiments.evidence import Evidence
from experiments.lifecycle import State
from experiments.model import Declaration, Stage
from experiments.reasons import (
    goal_sentence,
    harm_sentence,
    sample_ratio_sentence,
    share_sentence,
    waiting_sentence,
)

METHODS = "tiltyard-evaluator/1"
"""Names the formulas below; a receipt made by others is not recomputed by these."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was agreed and how far the ramp is.

    Args:
        stages: Every stage opened so far, oldest first; never empty.
    """

    declaration: Declaration
    state: State
    stages: tuple[Stage, ...]
    started_at: datetime

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    @property
    def on_last_rung(self) -> bool:
        return self.stage.rung == len(self.declaration.ramp) - 1


@dataclass(frozen=True, slots=True)
class Continue:
    """Leave the challenger in; `to_rung` is set when the gate to a larger share is open."""

    reasons: tuple[str, ...]
    to_rung: int | None = None
    kind: Literal["continue"] = "continue"


@dataclass(frozen=True, slots=True)
class Promote:
    """Make the challenger the champion."""

    reasons: tuple[str, ...]
    kind: Literal["promote"] = "promote"


@dataclass(frozen=True, slots=True)
class RollBack:
    """Send everybody to the champion: the challenger does harm beyond doubt.

    Args:
        culprits: Metrics that are worse, each beyond doubt or, if none is alone, the worst.
    """

    reasons: tuple[str, ...]
    culprits: tuple[str, ...]
    kind: Literal["roll_back"] = "roll_back"


@dataclass(frozen=True, slots=True)
class Halt:
    """Send everybody to the champion: the data cannot be trusted, so no result may be read."""

    reasons: tuple[str, ...]
    kind: Literal["halt"] = "halt"


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """Send everybody to the champion: time is up and nothing was shown."""

    reasons: tuple[str, ...]
    kind: Literal["inconclusive"] = "inconclusive"


Decision: TypeAlias = Continue | Promote | RollBack | Halt | Inconclusive


def decide(plan: Plan, evidence: Evidence, now: datetime) -> Decision:
    """Choose the next step. Trust is asked first, harm second, benefit last.

    A paused experiment is still watched, but neither grows nor is promoted. Evidence that is
    missing is never taken for success.

    Args:
        now: Passed in, so the same arguments always give the same decision.
    """
    return conclude(plan, evidence, assess(plan.declaration, evidence), now)


def conclude(plan: Plan, evidence: Evidence, found: Assessment, now: datetime) -> Decision:
    """Choose the next step from tests that `assess` has already made."""
    if found.sample_ratio.reached:
        return Halt((sample_ratio_sentence(evidence, found.sample_ratio),))
    if found.any_harm.reached:
        culprits = _culprits(found)
        return RollBack(tuple(harm_sentence(evidence, found, name) for name in culprits), culprits)
    ramping = plan.state is State.RAMPING
    missing = _missing_for_promotion(plan, evidence, found, now)
    if ramping and not missing:
        return Promote((goal_sentence(plan.declaration, evidence, found), *_safe(found)))
    if now - plan.started_at >= plan.declaration.limits.max_runtime:
        limit = plan.declaration.limits.max_runtime
        return Inconclusive((f"{limit} have passed without a verdict.", *missing))
    if not ramping:
        return Continue(("Paused: harm is watched, nothing else is decided.",))
    if plan.on_last_rung:
        return Continue(missing)
    if closed := _gate(plan, evidence, found, now):
        return Continue(closed)
    rung = plan.stage.rung + 1
    return Continue((share_sentence(plan.declaration.ramp[rung]),), to_rung=rung)


def _culprits(found: Assessment) -> tuple[str, ...]:
    named = tuple(finding.metric for finding in found.harm if finding.reached)
    return named or (max(found.harm, key=lambda finding: finding.log_e).metric,)


def _safe(found: Assessment) -> tuple[str, ...]:
    return tuple(
        f"{finding.metric} is within its margin (e = {finding.e_text})."
        for finding in found.not_inferior
    )


def _missing_for_promotion(
    plan: Plan, evidence: Evidence, found: Assessment, now: datetime
) -> tuple[str, ...]:
    """Return what stands between the challenger and promotion; empty if nothing does.

    The last stage has its gate like every other: a share is proved by serving it.
    """
    limits = plan.declaration.limits
    units = evidence.challenger_units()
    ran = now - plan.started_at
    missing = list(_gate(plan, evidence, found, now))
    if not plan.on_last_rung:
        missing.append("The ramp has not reached its last share.")
    if ran < limits.min_runtime:
        missing.append(waiting_sentence("runtime", ran, limits.min_runtime))
    if units < limits.min_units:
        missing.append(f"The challenger has met {units} of at least {limits.min_units} units.")
    for finding in (found.superior, *found.not_inferior):
        if not finding.reached:
            question = "better" if finding is found.superior else "within its margin"
            missing.append(
                f"{finding.metric} is not yet shown to be {question}: "
                f"e = {finding.e_text}, {finding.needed_text} is needed."
            )
    return tuple(missing)


def _gate(plan: Plan, evidence: Evidence, found: Assessment, now: datetime) -> tuple[str, ...]:
    """Return why this stage is not passed yet; empty if it is.

    Each stage has its part of the minimum runtime, and half of its part of the minimum units, so
    that chance does not hold up a population that is just large enough. A suspicion of harm
    half-way to the threshold (in log e) keeps the gate closed until it is confirmed or has faded.
    """
    rungs = len(plan.declaration.ramp)
    limits = plan.declaration.limits
    anew = plan.stage.share - plan.stage.floor
    needed = ceil(Fraction(limits.min_units * anew, 2 * plan.declaration.ramp[-1]))
    units = evidence.challenger_units(plan.stage.number)
    ran = now - plan.stage.opened_at
    closed = []
    if ran < limits.min_runtime / rungs:
        closed.append(waiting_sentence("time at this share", ran, limits.min_runtime / rungs))
    if units < needed:
        closed.append(f"The challenger has met {units} of {needed} units at this share.")
    if found.any_harm.log_e >= found.any_harm.needed / 2:
        closed.append(f"Harm is suspected (e = {found.any_harm.e_text}); the share waits.")
    if not evidence.rollback_target_hot:
        closed.append("The champion, which would be rolled back to, is not hot.")
    return tuple(closed)
