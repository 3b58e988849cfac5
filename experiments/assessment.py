"""Evidence to e-values: every test that a declaration asks for, at one look.

Pure: the same evidence gives the same numbers, on whatever machine and however often one asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import TypeAlias

from experiments.comparison import compared
from experiments.evidence import Evidence, StageEvidence
from experiments.finding import Finding
from experiments.looks import Look, Spent, spent
from experiments.methods import Comparison
from experiments.methods.choice import method_of
from experiments.metric import Goal, Guardrail
from experiments.model import Declaration
from experiments.pairs import AGREEMENT
from experiments.questions import harm_log_e, not_inferior_log_e, superior_log_e
from experiments.shadow import ShadowTests, harm_weights, shadow_tests
from experiments.stats.combine import closed_log_e, e_holm, weighted_mean_log_e
from experiments.stats.sample_ratio import sample_ratio_log_e
from experiments.stats.stages import StageEvents
from registry.refs import Version

Superiority: TypeAlias = Finding | Spent
"""Open-ended, an e-value; within a horizon, a z-score against the boundary of its look."""


@dataclass(frozen=True, slots=True)
class InShadow:
    """What speaks for one challenger before anybody meets it.

    Args:
        agreement: Answers agree as often as declared; None if that is not asked.
        not_inferior: Per guardrail that pairs tell of, within its margin.
    """

    agreement: Finding | None
    not_inferior: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Every test of one challenger, at one look, adjusted for there being others.

    Args:
        harm: Per metric and segment, adjusted for looking at all of them (e-Holm); names the
            culprits. Those in the shadow come last.
        any_harm: Weighted mean of the unadjusted e-values; decides on rollback.
        superior: The goal moved the way it was meant to; None where there is no goal.
        not_inferior: Per guardrail, within its margin, where users meet the challenger.
        in_shadow: None where there is no shadow.
    """

    version: Version
    harm: tuple[Finding, ...]
    any_harm: Finding
    superior: Superiority | None
    not_inferior: tuple[Finding, ...]
    in_shadow: InShadow | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """Every test of an experiment, at one look.

    Args:
        challengers: Those that are still on trial, in the order of the declaration.
        sample_ratio: Units do not reach the arms in the promised shares.
    """

    challengers: tuple[Verdicts, ...]
    sample_ratio: Finding

    def of(self, version: Version) -> Verdicts:
        return next(found for found in self.challengers if found.version == version)


def assess(
    declaration: Declaration,
    evidence: Evidence,
    *,
    dropped: Sequence[Version] = (),
    winner: Version | None = None,
    looks: Sequence[Look] = (),
) -> Assessment:
    """Make every test that the declaration asks for.

    The error rates hold over all challengers that were declared. Who is promoted has passed every
    one of its tests, so the weakest of them speaks for it beside the others.

    Args:
        dropped: Challengers that were found harmful. Their tests are over, and what was seen since
            says nothing: their units went elsewhere. They still count for the error rates.
        winner: The challenger that was promoted; then it alone is on trial.
        looks: Looks at the goal that were taken and written down, within a horizon.

    *Source*: `experiments.stats` for each test; Vovk and Wang (2021), Ann. Statist. 49(3), for the
    weighted mean of e-values under any dependence; e-Holm closed testing for naming culprits, and
    for several challengers.
    """
    in_play = tuple(v for v in declaration.challengers if v not in dropped)
    on_trial = in_play if winner is None else (winner,)
    raw = {v: _raw(declaration, evidence, v) for v in in_play}
    needed_harm, needed_promote = (
        log(1 / declaration.alpha.harm),
        log(1 / declaration.alpha.promote),
    )
    # Every hypothesis that names a dropped challenger was rejected when it was dropped.
    any_harm = dict(zip(raw, e_holm([found.any_harm for found in raw.values()]), strict=True))
    passed = {v: _beside_others(declaration, raw, v) for v in on_trial}

    def superior(version: Version) -> Superiority | None:
        if declaration.goal is None:
            return None
        if declaration.horizon is not None:
            return spent(declaration, evidence, version, looks)
        return Finding(declaration.goal.metric.key, passed[version][0], needed_promote)

    def verdicts(version: Version) -> Verdicts:
        found = raw[version]
        return Verdicts(
            version=version,
            harm=tuple(
                Finding(metric, log_e, needed_harm, segment, shadow)
                for (metric, segment, shadow), log_e in zip(
                    found.watched, e_holm(found.harm), strict=True
                )
            ),
            any_harm=Finding("any", any_harm[version], needed_harm),
            superior=superior(version),
            not_inferior=tuple(
                Finding(guardrail.key, log_e, needed_promote)
                for guardrail, log_e in zip(
                    declaration.guardrails, passed[version][1:], strict=False
                )
            ),
            in_shadow=_in_shadow(declaration, raw, version),
        )

    return Assessment(
        challengers=tuple(verdicts(version) for version in on_trial),
        sample_ratio=Finding(
            "units",
            _sample_ratio(evidence, in_play, of=len(declaration.challengers)),
            log(1 / declaration.alpha.sample_ratio),
        ),
    )


_Watched: TypeAlias = tuple[str, str | None, bool]
"""Metric, segment (None for everybody), and whether it is looked at in the shadow."""


@dataclass(frozen=True, slots=True)
class _Raw:
    """Log e-values of one challenger before any adjustment for the others.

    Args:
        passed: What it must pass to be promoted: the goal, then each guardrail; empty where
            nobody meets it.
    """

    watched: tuple[_Watched, ...]
    harm: tuple[float, ...]
    any_harm: float
    passed: tuple[float, ...]
    shadow: ShadowTests | None

    @property
    def weakest(self) -> float:
        return min(self.passed, default=inf)


def _raw(declaration: Declaration, evidence: Evidence, version: Version) -> _Raw:
    watched, harm, passed = _with_users(declaration, evidence, version)
    weights = _weights(len(declaration.asked), len(evidence.segments)) if harm else []
    shadow = None
    if declaration.shadow is not None:
        shadow = shadow_tests(declaration, evidence.paired(version))
        weights = harm_weights(weights, len(shadow.harm))
        watched += [(key, None, True) for key in shadow.watched]
        harm += shadow.harm
    return _Raw(
        watched=tuple(watched),
        harm=tuple(harm),
        any_harm=weighted_mean_log_e(harm, weights),
        passed=passed,
        shadow=shadow,
    )


def _with_users(
    declaration: Declaration, evidence: Evidence, version: Version
) -> tuple[list[_Watched], list[float], tuple[float, ...]]:
    """Return what is watched of users, its harm, and what speaks for the challenger."""
    if declaration.shadow_only:
        return [], [], ()
    asked = declaration.asked
    everybody = [_compare(declaration, each, evidence.stages, version) for each in asked]
    watched: list[_Watched] = [(each.metric.key, None, False) for each in asked]
    harm = [harm_log_e(each, seen) for each, seen in zip(asked, everybody, strict=True)]
    for segment, stages in evidence.segments.items():
        watched += [(each.metric.key, segment, False) for each in asked]
        harm += [harm_log_e(each, _compare(declaration, each, stages, version)) for each in asked]
    goal, *guardrails = everybody
    superior = 0.0 if declaration.horizon else superior_log_e(declaration.sought, goal)
    not_inferior = (
        not_inferior_log_e(guardrail, seen)
        for guardrail, seen in zip(declaration.guardrails, guardrails, strict=True)
    )
    return watched, harm, (superior, *not_inferior)


def _weights(metrics: int, segments: int) -> list[float]:
    """Half of the error rate is kept for everybody together, half is shared by the segments."""
    if not segments:
        return [1 / metrics] * metrics
    return [0.5 / metrics] * metrics + [0.5 / (metrics * segments)] * (metrics * segments)


def _beside_others(
    declaration: Declaration, raw: Mapping[Version, _Raw], version: Version
) -> tuple[float, ...]:
    """Adjust what speaks for a challenger, the goal first, for there being others.

    A challenger is falsely promoted if one of its tests errs, whichever. Adjusting each test for
    the same test of the others would let one challenger err at the goal and another at a
    guardrail, each as often as all together may. Within a horizon every challenger has its part
    of the error rate.
    """
    declared = declaration.challengers
    tests = raw[version].passed
    if len(declared) == 1:
        return tests
    if declaration.horizon is not None:
        return tuple(log_e - log(len(declared)) for log_e in tests)
    others = [raw[v].weakest if v in raw else -inf for v in declared if v != version]
    return tuple(closed_log_e(log_e, others) for log_e in tests)


def _in_shadow(
    declaration: Declaration, raw: Mapping[Version, _Raw], version: Version
) -> InShadow | None:
    """Adjust what speaks for a challenger in the shadow as `_beside_others` does."""
    tests = raw[version].shadow
    if tests is None:
        return None
    others = [
        found.shadow.weakest if (found := raw.get(v)) and found.shadow else -inf
        for v in declaration.challengers
        if v != version
    ]
    needed = log(1 / declaration.alpha.promote)

    def finding(key: str, log_e: float) -> Finding:
        return Finding(key, closed_log_e(log_e, others), needed, shadow=True)

    return InShadow(
        agreement=None if tests.agreement is None else finding(AGREEMENT, tests.agreement),
        not_inferior=tuple(finding(key, log_e) for key, log_e in tests.not_inferior),
    )


def _compare(
    declaration: Declaration,
    asked: Goal | Guardrail,
    stages: Sequence[StageEvidence],
    version: Version,
) -> Comparison:
    method = method_of(asked, returning=declaration.returning)
    return method.compare(compared(asked.metric, stages, version))


def _sample_ratio(evidence: Evidence, versions: Sequence[Version], *, of: int) -> float:
    """Each challenger against the champion; the mean of e-values is one.

    Args:
        of: Challengers that were declared. Those dropped have an e-value of 0: were the mean taken
            over the others alone, it would grow by a drop.
    """
    log_es = [
        sample_ratio_log_e(
            [
                StageEvents(s.challengers[version].units, s.champion.units, s.probability)
                for s in evidence.stages
                if version in s.challengers
            ]
        )
        for version in versions
    ]
    log_es += [-inf] * (of - len(versions))
    return weighted_mean_log_e(log_es, [1 / of] * of)
