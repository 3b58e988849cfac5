"""Evidence to e-values: every test that a declaration asks for, at one look.

Pure: the same evidence gives the same numbers, on whatever machine and however often one asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from typing import TypeAlias

from experiments.comparison import compared
from experiments.evidence import Evidence, StageEvidence
from experiments.looks import Look, Spent, spent
from experiments.methods import Aim, Comparison, Margin
from experiments.methods.choice import method_of
from experiments.metric import Direction, Goal, Guardrail, Kind, Mean, Ratio, Score, Worse
from experiments.model import Declaration
from experiments.stats.combine import closed_log_e, e_holm, weighted_mean_log_e
from experiments.stats.sample_ratio import sample_ratio_log_e
from experiments.stats.stages import Side, StageEvents
from registry.refs import Version


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test has found, and what it would take.

    Args:
        log_e: Natural logarithm of the e-value; any look, any time.
        needed: `log_e` from which on the test has spoken.
        segment: The segment that was looked at; None for everybody.
    """

    metric: str
    log_e: float
    needed: float
    segment: str | None = None

    @property
    def reached(self) -> bool:
        return self.log_e >= self.needed

    @property
    def where(self) -> str:
        """The metric, and the segment if it is one's."""
        return self.metric if self.segment is None else f"{self.metric} in {self.segment}"

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


Superiority: TypeAlias = Finding | Spent
"""Open-ended, an e-value; within a horizon, a z-score against the boundary of its look."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Every test of one challenger, at one look, adjusted for there being others.

    Args:
        harm: Per metric and segment, adjusted for looking at all of them (e-Holm); names the
            culprits.
        any_harm: Weighted mean of the unadjusted e-values; decides on rollback.
        superior: The goal moved the way it was meant to.
        not_inferior: Per guardrail, within its margin.
    """

    version: Version
    harm: tuple[Finding, ...]
    any_harm: Finding
    superior: Superiority
    not_inferior: tuple[Finding, ...]


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


def e_text(log_e: float) -> str:
    """Write an e-value so that people can compare it.

    Examples:
        >>> e_text(0.0), e_text(3.7), e_text(800.0)
        ('1', '40.4', '10^347')
    """
    if log_e > log(1e6):
        return f"10^{log_e / log(10):.0f}"
    return f"{exp(log_e):.3g}"


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

    def verdicts(version: Version) -> Verdicts:
        found = raw[version]
        key = declaration.goal.metric.key
        return Verdicts(
            version=version,
            harm=tuple(
                Finding(metric, log_e, needed_harm, segment)
                for (metric, segment), log_e in zip(found.watched, e_holm(found.harm), strict=True)
            ),
            any_harm=Finding("any", any_harm[version], needed_harm),
            superior=(
                Finding(key, passed[version][0], needed_promote)
                if declaration.horizon is None
                else spent(declaration, evidence, version, looks)
            ),
            not_inferior=tuple(
                Finding(guardrail.key, log_e, needed_promote)
                for guardrail, log_e in zip(
                    declaration.guardrails, passed[version][1:], strict=True
                )
            ),
        )

    return Assessment(
        challengers=tuple(verdicts(version) for version in on_trial),
        sample_ratio=Finding(
            "units",
            _sample_ratio(evidence, in_play, of=len(declaration.challengers)),
            log(1 / declaration.alpha.sample_ratio),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Raw:
    """Log e-values of one challenger before any adjustment for the others."""

    watched: tuple[tuple[str, str | None], ...]
    harm: tuple[float, ...]
    any_harm: float
    superior: float
    not_inferior: tuple[float, ...]

    @property
    def weakest(self) -> float:
        return min(self.superior, *self.not_inferior, inf)


def _raw(declaration: Declaration, evidence: Evidence, version: Version) -> _Raw:
    asked = declaration.asked
    everybody = [_compare(declaration, each, evidence.stages, version) for each in asked]
    watched: list[tuple[str, str | None]] = [(each.metric.key, None) for each in asked]
    harm = [harm_log_e(each, seen) for each, seen in zip(asked, everybody, strict=True)]
    for segment, stages in evidence.segments.items():
        watched += [(each.metric.key, segment) for each in asked]
        harm += [harm_log_e(each, _compare(declaration, each, stages, version)) for each in asked]
    goal, *guardrails = everybody
    return _Raw(
        watched=tuple(watched),
        harm=tuple(harm),
        any_harm=weighted_mean_log_e(harm, _weights(len(asked), len(evidence.segments))),
        superior=0.0 if declaration.horizon else superior_log_e(declaration.goal, goal),
        not_inferior=tuple(
            not_inferior_log_e(guardrail, seen)
            for guardrail, seen in zip(declaration.guardrails, guardrails, strict=True)
        ),
    )


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
    tests = (raw[version].superior, *raw[version].not_inferior)
    if len(declared) == 1:
        return tests
    if declaration.horizon is not None:
        return tuple(log_e - log(len(declared)) for log_e in tests)
    others = [raw[v].weakest if v in raw else -inf for v in declared if v != version]
    return tuple(closed_log_e(log_e, others) for log_e in tests)


def _compare(
    declaration: Declaration,
    asked: Goal | Guardrail,
    stages: Sequence[StageEvidence],
    version: Version,
) -> Comparison:
    method = method_of(asked, returning=declaration.returning)
    return method.compare(compared(asked.metric, stages, version))


def superior_log_e(goal: Goal, seen: Comparison) -> float:
    """Return the evidence that the goal has moved the way it was meant to."""
    better = Side.GREATER if goal.direction is Direction.INCREASE else Side.LESS
    return seen.log_e(side=better, aim=Aim.BETTER)


def harm_log_e(asked: Goal | Guardrail, seen: Comparison) -> float:
    """Return the evidence that the challenger is worse: at the goal at all, or beyond a margin."""
    if isinstance(asked, Goal):
        worse = Side.LESS if asked.direction is Direction.INCREASE else Side.GREATER
        return seen.log_e(side=worse, aim=Aim.HARM)
    log_es = [seen.log_e(side=side, margin=margin, aim=Aim.HARM) for side, margin in borders(asked)]
    if asked.max_ratio is not None and _may_be_negative(asked.metric.kind):
        # Below zero the border lies on the better side of the champion: then all harm counts.
        at_all = [seen.log_e(side=side, aim=Aim.HARM) for side, _ in borders(asked)]
        log_es = list(map(min, log_es, at_all))
    return weighted_mean_log_e(log_es, [1 / len(log_es)] * len(log_es))


def _may_be_negative(kind: Kind) -> bool:
    return isinstance(kind, Ratio) or (isinstance(kind, Mean | Score) and kind.low < 0.0)


def not_inferior_log_e(guardrail: Guardrail, seen: Comparison) -> float:
    """Evidence that the guardrail is within its margin; two margins must both be kept."""
    return min(
        seen.log_e(side=_OPPOSITE[side], margin=margin, aim=Aim.SAFE)
        for side, margin in borders(guardrail)
    )


_OPPOSITE = {Side.GREATER: Side.LESS, Side.LESS: Side.GREATER}


def borders(guardrail: Guardrail) -> list[tuple[Side, Margin]]:
    """Return where harm begins: beyond each margin, on the side given with it."""
    if guardrail.max_ratio is not None:
        above, below = Margin(ratio=guardrail.max_ratio), Margin(ratio=1 / guardrail.max_ratio)
    else:
        assert guardrail.max_difference is not None
        above = Margin(difference=guardrail.max_difference)
        below = Margin(difference=-guardrail.max_difference)
    match guardrail.worse:
        case Worse.HIGHER:
            return [(Side.GREATER, above)]
        case Worse.LOWER:
            return [(Side.LESS, below)]
        case Worse.EITHER:
            return [(Side.GREATER, above), (Side.LESS, below)]


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
