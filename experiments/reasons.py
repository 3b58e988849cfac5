"""Why, in a sentence with the numbers in it."""

from datetime import timedelta
from typing import Protocol

from experiments.assessment import Superiority, Verdicts
from experiments.comparison import levels
from experiments.evidence import Evidence, StageEvidence
from experiments.finding import Finding
from experiments.methods.choice import method_of
from experiments.methods.events import share_of
from experiments.metric import Goal, Guardrail
from experiments.model import BasisPoints, Declaration
from experiments.pairs import AGREEMENT, Paired
from registry.refs import Version


class Agreed(Protocol):
    """What the sentences need of a plan."""

    @property
    def declaration(self) -> Declaration: ...

    @property
    def on_trial(self) -> tuple[Version, ...]: ...


def goal_sentence(plan: Agreed, evidence: Evidence, found: Verdicts) -> str:
    """Say that the goal moved, by how much, and how sure that is."""
    assert found.superior is not None
    levels = _levels(plan, evidence.stages, plan.declaration.sought, found.version)
    return f"{found.superior.metric} is {levels} ({_how_sure(found.superior)})."


def missing_goal_sentence(found: Superiority) -> str:
    """Say that the goal is not shown to have moved, and what it would take."""
    how_sure = (
        f"e = {found.e_text}, {found.needed_text} is needed"
        if isinstance(found, Finding)
        else _how_sure(found)
    )
    return f"{found.metric} is not yet shown to be better: {how_sure}."


def harm_sentence(plan: Agreed, evidence: Evidence, found: Verdicts, culprit: Finding) -> str:
    """Say which metric is worse, by how much, and how sure that is."""
    declaration = plan.declaration
    if culprit.shadow:
        seen = evidence.paired(found.version)
        return (
            f"{culprit.where} is {_in_pairs(declaration, seen, culprit.metric)} "
            f"(harm: e = {found.any_harm.e_text}, {found.any_harm.needed_text} was needed)."
        )
    asked = next(each for each in declaration.asked if each.metric.key == culprit.metric)
    stages = evidence.segments[culprit.segment] if culprit.segment else evidence.stages
    return (
        f"{culprit.where} is {_levels(plan, stages, asked, found.version)} "
        f"(harm: e = {found.any_harm.e_text}, {found.any_harm.needed_text} was needed)."
    )


def sample_ratio_sentence(plan: Agreed, evidence: Evidence, finding: Finding) -> str:
    """Say that the variants did not receive the units that they were meant to."""
    here = there = 0
    meant = 0.0
    for stage in evidence.stages:
        arms = [stage.challengers[v].units for v in plan.on_trial if v in stage.challengers]
        here, there = here + sum(arms), there + stage.champion.units
        lanes = len(arms) * stage.probability / (1 - stage.probability)
        meant += (sum(arms) + stage.champion.units) * lanes / (1 + lanes)
    return (
        f"The challenger met {here:,} of {here + there:,} units where {meant:,.0f} were meant "
        f"(e = {finding.e_text}): something loses or doubles units, so no result can be trusted."
    )


def missing_margin_sentence(found: Finding) -> str:
    """Say that a guardrail is not shown to be within its margin, and what it would take."""
    return (
        f"{found.metric} is not yet shown to be within its margin: "
        f"e = {found.e_text}, {found.needed_text} is needed."
    )


def kept_margin_sentence(found: Finding) -> str:
    """Say that a guardrail is kept."""
    return f"{found.metric} is within its margin (e = {found.e_text})."


def suspicion_sentence(worst: Finding) -> str:
    """Say that harm may be there, so that no more units are to meet it."""
    return f"Harm is suspected (e = {worst.e_text}); the share waits."


def agreement_sentence(declaration: Declaration, seen: Paired, found: Finding) -> str:
    """Say that answers agree as often as declared, and how sure that is."""
    agreed = _in_pairs(declaration, seen, found.metric)
    return f"Agreement is {agreed} (e = {found.e_text}, {found.needed_text} was needed)."


def missing_agreement_sentence(found: Finding) -> str:
    """Say that answers are not shown to agree as often as declared, and what it would take."""
    return (
        "Answers are not yet shown to agree as often as declared: "
        f"e = {found.e_text}, {found.needed_text} is needed."
    )


def missing_pairs_sentence(seen: Paired, needed: int) -> str:
    """Say how many pairs there are, of how many."""
    return f"{seen.units:,} of {needed:,} units have had a request answered by both."


def dropped_sentence(seen: Paired) -> str:
    """Say that too many pairs are missing for the others to speak for all."""
    return (
        f"{100 * seen.dropped_share:.0f} % of the repeated requests were not compared "
        f"({seen.dropped:,} of {seen.pairs + seen.dropped:,}), so the others may not speak for all."
    )


def revealed_sentence(share: BasisPoints) -> str:
    """Say that the shadow is passed, and the first users are to meet the challenger."""
    return f"No sign of harm in the shadow: {share / 100:g} % of the units meet the challenger."


PAUSED = "Paused: harm is watched, nothing else is decided."

NOT_HOT = "The champion, which would be rolled back to, is not hot."


def share_sentence(share: BasisPoints) -> str:
    """Say that the gate is open."""
    return f"No sign of harm at this share: it grows to {share / 100:g} %."


def waiting_sentence(what: str, passed: timedelta, needed: timedelta) -> str:
    """Say how long something still takes."""
    return f"{what.capitalize()} is {_seconds(passed)} of at least {_seconds(needed)}."


def _levels(
    plan: Agreed, stages: tuple[StageEvidence, ...], asked: Goal | Guardrail, version: Version
) -> str:
    method = method_of(asked, returning=plan.declaration.returning)
    there, here = levels(method, asked.metric, stages, version)
    who = "the challenger" if len(plan.declaration.challengers) == 1 else f"version {version}"
    return f"{here} with {who} and {there} with the champion"


def _in_pairs(declaration: Declaration, seen: Paired, metric: str) -> str:
    if metric == AGREEMENT:
        assert declaration.shadow is not None
        assert declaration.shadow.agreement is not None
        declared = f"{100 * declaration.shadow.agreement:g} % are declared"
        return f"{share_of(seen.agreed.yes, seen.agreed.n)} where {declared}"
    pairs = seen.bad[metric]
    here, there = share_of(pairs.treatment_bad, pairs.n), share_of(pairs.control_bad, pairs.n)
    return f"{here} with the challenger and {there} with the champion, for the same requests"


def _how_sure(found: Superiority) -> str:
    if isinstance(found, Finding):
        return f"e = {found.e_text}, {found.needed_text} was needed"
    seen = f"{100 * min(found.time, 1.0):.0f} % of the horizon seen"
    if found.z is None:
        return f"nothing to compare yet, {seen}"
    limit = f", {found.boundary:.3g} was needed at the last look" if found.boundary < 100 else ""
    return f"z = {found.z:.3g}{limit}, {seen}"


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.1f} s"
