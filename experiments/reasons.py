"""Why, in a sentence with the numbers in it."""

from datetime import timedelta

from experiments.assessment import Assessment, Finding
from experiments.evidence import Evidence, Tally
from experiments.model import BasisPoints, Declaration


def percent(part: int, whole: int) -> str:
    """Write a share of units; without units there is no share.

    Examples:
        >>> percent(3, 40), percent(0, 0)
        ('7.5 % (3 of 40)', 'nothing yet')
    """
    return f"{100 * part / whole:.3g} % ({part:,} of {whole:,})" if whole else "nothing yet"


def _totals(evidence: Evidence) -> tuple[list[Tally], list[Tally]]:
    return [s.challenger for s in evidence.stages], [s.champion for s in evidence.stages]


def _goal_rate(tallies: list[Tally]) -> str:
    successes = sum(t.successes for t in tallies)
    return percent(successes, successes + sum(t.failures for t in tallies))


def _bad_rate(tallies: list[Tally], key: str) -> str:
    return percent(sum(t.bad.get(key, 0) for t in tallies), sum(t.units for t in tallies))


def goal_sentence(declaration: Declaration, evidence: Evidence, found: Assessment) -> str:
    """Say that the goal moved, by how much, and how sure that is."""
    challenger, champion = _totals(evidence)
    return (
        f"{declaration.goal.metric} is {_goal_rate(challenger)} with the challenger and "
        f"{_goal_rate(champion)} with the champion (e = {found.superior.e_text}, "
        f"{found.superior.needed_text} was needed)."
    )


def harm_sentence(evidence: Evidence, found: Assessment, metric: str) -> str:
    """Say which metric is worse, by how much, and how sure that is."""
    challenger, champion = _totals(evidence)
    is_goal = metric == found.superior.metric
    here = _goal_rate(challenger) if is_goal else _bad_rate(challenger, metric)
    there = _goal_rate(champion) if is_goal else _bad_rate(champion, metric)
    return (
        f"{metric} is {here} of units with the challenger and {there} with the champion "
        f"(harm: e = {found.any_harm.e_text}, {found.any_harm.needed_text} was needed)."
    )


def sample_ratio_sentence(evidence: Evidence, finding: Finding) -> str:
    """Say that the variants did not receive the units that they were meant to."""
    challenger, champion = _totals(evidence)
    here, there = sum(t.units for t in challenger), sum(t.units for t in champion)
    meant = sum(s.probability * (s.challenger.units + s.champion.units) for s in evidence.stages)
    return (
        f"The challenger met {here:,} of {here + there:,} units where {meant:,.0f} were meant "
        f"(e = {finding.e_text}): something loses or doubles units, so no result can be trusted."
    )


def share_sentence(share: BasisPoints) -> str:
    """Say that the gate is open."""
    return f"No sign of harm at this share: it grows to {share / 100:g} %."


def waiting_sentence(what: str, passed: timedelta, needed: timedelta) -> str:
    """Say how long something still takes."""
    return f"{what.capitalize()} is {_seconds(passed)} of at least {_seconds(needed)}."


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():.1f} s"
