"""What to do next, as a pure function of what was agreed, what was seen, and the time.

`experiments.assessment` turns evidence into e-values, `decide` turns e-values into one of seven
decisions. Both are pure, so a receipt that holds their arguments can be recomputed by anybody,
years later.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil
from typing import Literal, TypeAlias

from experiments.assessment import Assessment, Verdicts, assess
from experiments.evidence import Evidence
from experiments.finding import Finding
from experiments.lifecycle import State
from experiments.looks import Look, Spent, due
from experiments.model import Declaration, Stage
from experiments.quantities import write_duration
from experiments.reasons import (
    NOT_HOT,
    PAUSED,
    goal_sentence,
    harm_sentence,
    kept_margin_sentence,
    missing_goal_sentence,
    missing_margin_sentence,
    revealed_sentence,
    sample_ratio_sentence,
    share_sentence,
    suspicion_sentence,
    waiting_sentence,
)
from experiments.shadow_gate import not_passed, passed_because
from registry.refs import Version

METHODS = "tiltyard-evaluator/3"
"""Names the formulas below; a receipt made by others is not recomputed by these."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was agreed and how far the ramp is.

    Args:
        stages: Every stage opened so far, oldest first; never empty.
        dropped: Challengers that are no longer on trial.
        winner: The challenger that was promoted; None before that.
        looks: Looks at the goal that were taken, within a horizon.
    """

    declaration: Declaration
    state: State
    stages: tuple[Stage, ...]
    started_at: datetime
    dropped: tuple[Version, ...] = ()
    winner: Version | None = None
    looks: tuple[Look, ...] = ()

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    @property
    def on_last_rung(self) -> bool:
        return self.stage.rung >= len(self.declaration.ramp) - 1

    @property
    def on_trial(self) -> tuple[Version, ...]:
        """Challengers that may still be promoted, or were."""
        if self.winner is not None:
            return (self.winner,)
        return tuple(v for v in self.declaration.challengers if v not in self.dropped)


@dataclass(frozen=True, slots=True)
class Continue:
    """Leave the challengers in.

    Args:
        to_rung: Set when the gate to a larger share is open.
        looks: Looks that are due; each is written down before anything is decided from it.
    """

    reasons: tuple[str, ...]
    to_rung: int | None = None
    looks: tuple[Look, ...] = ()
    kind: Literal["continue"] = "continue"


@dataclass(frozen=True, slots=True)
class Drop:
    """Take some of several challengers out: they do harm beyond doubt. The others stay.

    Args:
        culprits: Metrics that are worse.
    """

    reasons: tuple[str, ...]
    versions: tuple[Version, ...]
    culprits: tuple[str, ...]
    kind: Literal["drop"] = "drop"


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a challenger the champion; after a holdback, for everybody."""

    reasons: tuple[str, ...]
    version: Version
    kind: Literal["promote"] = "promote"


@dataclass(frozen=True, slots=True)
class Pass:
    """End an experiment that no user was in: the challengers have shown what they were to show."""

    reasons: tuple[str, ...]
    versions: tuple[Version, ...]
    kind: Literal["pass"] = "pass"


@dataclass(frozen=True, slots=True)
class RollBack:
    """Send everybody to the champion: no challenger is left that does no harm.

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


Decision: TypeAlias = Continue | Drop | Promote | Pass | RollBack | Halt | Inconclusive


def decide(plan: Plan, evidence: Evidence, now: datetime) -> Decision:
    """Choose the next step. Trust is asked first, harm second, benefit last.

    A paused experiment is still watched, but neither grows nor is promoted. Evidence that is
    missing is never taken for success.

    Args:
        now: Passed in, so the same arguments always give the same decision.
    """
    return conclude(plan, evidence, assess_plan(plan, evidence), now)


def assess_plan(plan: Plan, evidence: Evidence) -> Assessment:
    """Make every test of the challengers that are still on trial."""
    return assess(
        plan.declaration, evidence, dropped=plan.dropped, winner=plan.winner, looks=plan.looks
    )


def conclude(plan: Plan, evidence: Evidence, found: Assessment, now: datetime) -> Decision:
    """Choose the next step from tests that `assess_plan` has already made."""
    if found.sample_ratio.reached:
        return Halt((sample_ratio_sentence(plan, evidence, found.sample_ratio),))
    if harmful := [verdicts for verdicts in found.challengers if verdicts.any_harm.reached]:
        return _against(plan, evidence, found, harmful)
    if plan.state is State.HOLDING_BACK:
        return _held_back(plan, found, now)
    if plan.stage.shadow:
        return _in_shadow(plan, evidence, found, now)
    ramping = plan.state is State.RAMPING
    if ramping and (looks := _looks(plan, evidence)):
        return Continue(("A look at the goal is due.",), looks=looks)
    missing = {v.version: _missing(plan, evidence, v, now) for v in found.challengers}
    ready = [verdicts for verdicts in found.challengers if not missing[verdicts.version]]
    if ramping and ready:
        best = max(ready, key=strength)
        reasons = (
            goal_sentence(plan, evidence, best),
            *map(kept_margin_sentence, best.not_inferior),
        )
        return Promote(reasons, best.version)
    if over := _is_over(plan, found, now):
        return Inconclusive((over, *_said(plan, missing)))
    if not ramping:
        return Continue((PAUSED,))
    if plan.on_last_rung:
        return Continue(_said(plan, missing))
    if closed := _gate(plan, evidence, found.challengers, now):
        return Continue(closed)
    rung = plan.stage.rung + 1
    return Continue((share_sentence(plan.declaration.ramp[rung]),), to_rung=rung)


def _against(
    plan: Plan, evidence: Evidence, found: Assessment, harmful: list[Verdicts]
) -> Drop | RollBack:
    """Take out whoever does harm; without anybody left, go back."""
    blamed = [(verdicts, finding) for verdicts in harmful for finding in _culprits(verdicts)]
    reasons = tuple(harm_sentence(plan, evidence, *each) for each in blamed)
    culprits = tuple(dict.fromkeys(finding.metric for _, finding in blamed))
    if len(harmful) == len(found.challengers):
        return RollBack(reasons, culprits)
    return Drop(reasons, tuple(verdicts.version for verdicts in harmful), culprits)


def _culprits(verdicts: Verdicts) -> tuple[Finding, ...]:
    named = tuple(finding for finding in verdicts.harm if finding.reached)
    return named or (max(verdicts.harm, key=lambda finding: finding.log_e),)


def _held_back(plan: Plan, found: Assessment, now: datetime) -> Decision:
    """Harm was looked for before; once the holdback's time has passed, promotion is complete."""
    holdback = plan.declaration.holdback
    assert holdback is not None
    assert plan.winner is not None
    ran = now - plan.stage.opened_at
    if ran < holdback.span:
        return Continue((waiting_sentence("holdback", ran, holdback.span),))
    worst = found.of(plan.winner).any_harm
    return Promote(
        (
            f"No harm in {write_duration(holdback.span)} beside the old champion "
            f"(e = {worst.e_text}).",
        ),
        plan.winner,
    )


def _in_shadow(plan: Plan, evidence: Evidence, found: Assessment, now: datetime) -> Decision:
    """Nobody meets a challenger yet: the next step is that somebody does, or that all is shown."""
    declaration = plan.declaration
    missing = {v.version: not_passed(plan, evidence, v, now) for v in found.challengers}
    passed = plan.state is State.RAMPING and not any(missing.values())
    if passed and declaration.shadow_only:
        reasons = tuple(why for v in found.challengers for why in passed_because(plan, evidence, v))
        return Pass(reasons, plan.on_trial)
    if over := _is_over(plan, found, now):
        return Inconclusive((over, *_said(plan, missing)))
    if plan.state is not State.RAMPING:
        return Continue((PAUSED,))
    if not passed:
        return Continue(_said(plan, missing))
    return Continue((revealed_sentence(declaration.ramp[0]),), to_rung=0)


def _looks(plan: Plan, evidence: Evidence) -> tuple[Look, ...]:
    if plan.declaration.horizon is None:
        return ()
    found = (due(plan.declaration, evidence, v, plan.looks) for v in plan.on_trial)
    return tuple(look for look in found if look is not None)


def _is_over(plan: Plan, found: Assessment, now: datetime) -> str | None:
    """Return why nothing more can come of it; None if something can."""
    longest = plan.declaration.limits.max_runtime
    if now - plan.started_at >= longest:
        return f"{write_duration(longest)} have passed without a verdict."
    horizon = plan.declaration.horizon
    spent = [v.superior for v in found.challengers if isinstance(v.superior, Spent)]
    if horizon is not None and spent and all(s.over and not s.reached for s in spent):
        return f"The horizon of {horizon.units:,} units is reached without a verdict."
    return None


def strength(verdicts: Verdicts) -> float:
    """Return how far the goal's test is; larger is nearer to promotion."""
    match verdicts.superior:
        case Finding(log_e=log_e):
            return log_e
        case Spent(z=float(z)):
            return z
    return 0.0


def _said(plan: Plan, missing: dict[Version, tuple[str, ...]]) -> tuple[str, ...]:
    """Tell what is missing; with several challengers, of which."""
    if len(plan.declaration.challengers) == 1:
        return next(iter(missing.values()), ())
    return tuple(
        f"Version {version}: {reason}" for version, found in missing.items() for reason in found
    )


def _missing(plan: Plan, evidence: Evidence, found: Verdicts, now: datetime) -> tuple[str, ...]:
    """Return what stands between a challenger and promotion; empty if nothing does.

    The last stage has its gate like every other: a share is proved by serving it.
    """
    limits = plan.declaration.limits
    units = evidence.challenger_units(found.version)
    ran = now - plan.started_at
    missing = list(_gate(plan, evidence, (found,), now))
    if not plan.on_last_rung:
        missing.append("The ramp has not reached its last share.")
    if ran < limits.min_runtime:
        missing.append(waiting_sentence("runtime", ran, limits.min_runtime))
    if units < limits.min_units:
        missing.append(f"The challenger has met {units} of at least {limits.min_units} units.")
    assert found.superior is not None
    if not found.superior.reached:
        missing.append(missing_goal_sentence(found.superior))
    missing += [
        missing_margin_sentence(finding) for finding in found.not_inferior if not finding.reached
    ]
    return tuple(missing)


def _gate(
    plan: Plan, evidence: Evidence, challengers: tuple[Verdicts, ...], now: datetime
) -> tuple[str, ...]:
    """Return why this stage is not passed yet; empty if it is.

    Each stage has its part of the minimum runtime, and half of its part of the minimum units, so
    that chance does not hold up a population that is just large enough. A suspicion of harm
    half-way to the threshold (in log e) keeps the gate closed until it is confirmed or has faded.
    """
    limits = plan.declaration.limits
    least = limits.min_runtime / plan.declaration.gates
    anew = plan.stage.share - plan.stage.floor
    lanes = len(plan.stage.challengers)
    needed = ceil(Fraction(limits.min_units * anew, 2 * plan.declaration.ramp[-1] * lanes))
    ran = now - plan.stage.opened_at
    closed = []
    if ran < least:
        closed.append(waiting_sentence("time at this share", ran, least))
    units = min(evidence.challenger_units(v.version, plan.stage.number) for v in challengers)
    if units < needed:
        closed.append(f"The challenger has met {units} of {needed} units at this share.")
    worst = max((v.any_harm for v in challengers), key=lambda finding: finding.log_e)
    if worst.log_e >= worst.needed / 2:
        closed.append(suspicion_sentence(worst))
    if not evidence.rollback_target_hot:
        closed.append(NOT_HOT)
    return tuple(closed)
