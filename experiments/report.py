"""What an experiment shows, for people: per metric every number, or why there is none.

A report is made from the same comparisons as the decision. Where nothing can be said there is an
`Insufficient` with its reason, never a number that looks like one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from sys import float_info
from typing import Literal

from experiments.assessment import (
    Assessment,
    Finding,
    Verdicts,
    borders,
    harm_log_e,
    not_inferior_log_e,
    superior_log_e,
)
from experiments.comparison import compared, levels
from experiments.decision import Plan, assess_plan
from experiments.evidence import Evidence, Matured, StageEvidence
from experiments.looks import Look, Spent
from experiments.methods import Comparison, Effect, Level, Method, Shrunk
from experiments.methods.choice import method_of
from experiments.metric import Goal, Guardrail
from experiments.model import Declaration
from experiments.reported import (
    AnyTest,
    ChallengerReport,
    EffectReport,
    EvidenceReport,
    LevelOrNot,
    LevelReport,
    LookReport,
    MarginReport,
    MaturedReport,
    MetricReport,
    Range,
    Report,
    SegmentReport,
    ShrunkReport,
    StageReport,
)
from experiments.stats.combine import e_benjamini_hochberg
from experiments.stats.intervals import Insufficient
from experiments.stats.stages import Side
from registry.refs import Version


def report(
    declaration: Declaration,
    evidence: Evidence,
    found: Assessment,
    looks: Sequence[Look] = (),
) -> Report:
    """Return everything that can be said from what was seen.

    Args:
        found: The same evidence, assessed.
        looks: Looks at the goal that were taken, within a horizon.
    """
    reporters = [
        _Reporter(declaration, evidence, verdicts, tuple(looks)) for verdicts in found.challengers
    ]
    alone = {
        (reporter.verdicts.version, segment, asked.metric.key): harm_log_e(asked, seen)
        for reporter in reporters
        for segment, asked, seen in reporter.in_segments()
    }
    worse = e_benjamini_hochberg(tuple(alone.values()), alpha=declaration.alpha.harm)
    marked = {
        key: (log_e, is_worse) for (key, log_e), is_worse in zip(alone.items(), worse, strict=True)
    }
    return Report(
        tuple(reporter.challenger(marked) for reporter in reporters),
        _test("sample ratio", found.sample_ratio),
    )


def measure(plan: Plan, evidence: Evidence) -> Mapping[str, tuple[float | None, ...]]:
    """Return what a picture over time shows of each metric.

    Returns:
        By `VERSION/METRIC`: estimate, low and high of the main effect, and the log e-value of the
        test in favour of the challenger; None where there is no number.
    """
    values: dict[str, tuple[float | None, ...]] = {}
    for verdicts in assess_plan(plan, evidence).challengers:
        reporter = _Reporter(plan.declaration, evidence, verdicts, plan.looks)
        for asked in plan.declaration.asked:
            interval = reporter.effects(reporter.seen(asked, evidence.stages))[0].interval
            first = reporter.tests(asked)[0]
            numbers = (
                (None, None, None)
                if isinstance(interval, Insufficient)
                else (interval.estimate, interval.low, interval.high)
            )
            log_e = first.log_e if isinstance(first, EvidenceReport) else None
            values[f"{verdicts.version}/{asked.metric.key}"] = (*numbers, log_e)
    return values


_Alone = tuple[float, bool]
"""Log e-value of harm in a segment by itself, and whether it is among those found worse."""


@dataclass(frozen=True, slots=True)
class _Reporter:
    """Reports on one challenger."""

    declaration: Declaration
    evidence: Evidence
    verdicts: Verdicts
    looks: tuple[Look, ...]

    def challenger(self, alone: Mapping[tuple[Version, str, str], _Alone]) -> ChallengerReport:
        version = self.verdicts.version
        return ChallengerReport(
            version=version,
            any_harm=_test("harm", self.verdicts.any_harm),
            metrics=tuple(self._metric(asked) for asked in self.declaration.asked),
            segments=tuple(
                self._segment(segment, asked, seen, alone[version, segment, asked.metric.key])
                for segment, asked, seen in self.in_segments()
            ),
        )

    def in_segments(self) -> Iterator[tuple[str, Goal | Guardrail, Comparison]]:
        """Yield every comparison within a segment."""
        for segment, stages in self.evidence.segments.items():
            for asked in self.declaration.asked:
                yield segment, asked, self.seen(asked, stages)

    def seen(self, asked: Goal | Guardrail, stages: Sequence[StageEvidence]) -> Comparison:
        """Return the comparison of one metric."""
        found = compared(asked.metric, stages, self.verdicts.version)
        return self._method(asked).compare(found)

    def effects(self, seen: Comparison) -> tuple[EffectReport, ...]:
        """Return how large the difference is.

        Two-sided, so that each end of an interval errs as rarely as a promotion, over all
        challengers together.
        """
        alpha = 2 * self.declaration.alpha.promote / len(self.declaration.challengers)
        return tuple(_effect(effect, 1 - alpha) for effect in seen.effects(alpha=alpha))

    def tests(self, asked: Goal | Guardrail) -> tuple[AnyTest, ...]:
        """Return the tests of one metric for everybody: in favour of the challenger, then harm."""
        key, verdicts = asked.metric.key, self.verdicts
        harm = next(f for f in verdicts.harm if f.metric == key and f.segment is None)
        if isinstance(asked, Goal):
            return (self._superior(), _test("harm", harm))
        safe = next(finding for finding in verdicts.not_inferior if finding.metric == key)
        return (_test("not inferior", safe), _test("harm", harm))

    def _superior(self) -> AnyTest:
        found = self.verdicts.superior
        if not isinstance(found, Spent):
            return _test("superior", found)
        assert self.declaration.horizon is not None
        return LookReport(
            z=None if found.z is None else _finite(found.z),
            boundary=_finite(found.boundary),
            time=min(found.time, 1.0),
            units=self.declaration.horizon.units,
            looks=sum(look.version == self.verdicts.version for look in self.looks),
            reached=found.reached,
        )

    def _method(self, asked: Goal | Guardrail) -> Method:
        return method_of(asked, returning=self.declaration.returning)

    def _levels(
        self, asked: Goal | Guardrail, stages: Sequence[StageEvidence]
    ) -> tuple[LevelOrNot, LevelOrNot]:
        champion, challenger = levels(
            self._method(asked), asked.metric, stages, self.verdicts.version
        )
        return _level(champion), _level(challenger)

    def _metric(self, asked: Goal | Guardrail) -> MetricReport:
        stages = self.evidence.stages
        seen = self.seen(asked, stages)
        champion, challenger = self._levels(asked, stages)
        matured = self.evidence.matured.get(asked.metric.key)
        return MetricReport(
            metric=asked.metric.key,
            kind=asked.metric.kind.kind,
            role="goal" if isinstance(asked, Goal) else "guardrail",
            champion=champion,
            challenger=challenger,
            effects=self.effects(seen),
            shrunk=_shrunk(seen.shrunk()),
            margins=() if isinstance(asked, Goal) else _margins(asked),
            tests=self.tests(asked),
            stages=tuple(
                self._stage(asked, stage)
                for stage in stages
                if self.verdicts.version in stage.challengers
            ),
            matured=None if matured is None else _matured(matured),
        )

    def _stage(self, asked: Goal | Guardrail, stage: StageEvidence) -> StageReport:
        seen = self.seen(asked, (stage,))
        champion, challenger = self._levels(asked, (stage,))
        return StageReport(
            stage=stage.stage,
            share=stage.probability,
            champion_units=stage.champion.units,
            challenger_units=stage.challengers[self.verdicts.version].units,
            champion=champion,
            challenger=challenger,
            effect=self.effects(seen)[0],
            in_favour=self._in_favour(asked, seen),
            against=_finite(harm_log_e(asked, seen)),
        )

    def _in_favour(self, asked: Goal | Guardrail, seen: Comparison) -> float | None:
        if isinstance(asked, Guardrail):
            return _finite(not_inferior_log_e(asked, seen))
        if self.declaration.horizon is not None:
            return None
        return _finite(superior_log_e(asked, seen))

    def _segment(
        self, segment: str, asked: Goal | Guardrail, seen: Comparison, alone: _Alone
    ) -> SegmentReport:
        key = asked.metric.key
        champion, challenger = self._levels(asked, self.evidence.segments[segment])
        harm = next(f for f in self.verdicts.harm if (f.metric, f.segment) == (key, segment))
        log_e, is_worse = alone
        return SegmentReport(
            segment=segment,
            metric=key,
            kind=asked.metric.kind.kind,
            champion=champion,
            challenger=challenger,
            effect=self.effects(seen)[0],
            harm=_test("harm", harm),
            alone=_finite(log_e),
            worse=is_worse,
        )


def _test(
    question: Literal["superior", "harm", "not inferior", "sample ratio"], found: Finding
) -> EvidenceReport:
    return EvidenceReport(
        question=question,
        log_e=_finite(found.log_e),
        needed=found.needed,
        e=found.e_text,
        p=max(found.p_value, float_info.min),
        reached=found.reached,
        segment=found.segment,
    )


NOTHING_RULED_OUT = Insufficient("too little was seen to rule anything out")


def _effect(found: Effect, level: float) -> EffectReport:
    interval = found.interval
    if isinstance(interval, Insufficient):
        return EffectReport(found.scale, level, _in_words(interval))
    estimate = None if interval.estimate is None else _finite(interval.estimate)
    lowest = 0.0 if found.scale == "ratio" else -inf
    if interval.low <= lowest and interval.high == inf and estimate is None:
        return EffectReport(found.scale, level, NOTHING_RULED_OUT)
    bounds = Range(_finite(interval.low), _finite(interval.high), estimate)
    return EffectReport(found.scale, level, bounds)


def _shrunk(found: Shrunk | Insufficient) -> ShrunkReport | Insufficient:
    if isinstance(found, Insufficient):
        return _in_words(found)
    return ShrunkReport(found.scale, found.value)


def _margins(asked: Guardrail) -> tuple[MarginReport, ...]:
    relative = asked.max_ratio is not None
    return tuple(
        MarginReport(
            scale="ratio" if relative else "difference",
            value=margin.ratio if relative else margin.difference,
            worse="higher" if side is Side.GREATER else "lower",
        )
        for side, margin in borders(asked)
    )


def _level(found: Level) -> LevelOrNot:
    return (
        Insufficient(found.words) if found.value is None else LevelReport(found.value, found.words)
    )


def _matured(found: Matured) -> MaturedReport:
    return MaturedReport(found.units, found.of, found.share)


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def _in_words(found: Insufficient) -> Insufficient:
    """Write a reason of the statistics in the words of an experiment."""
    return Insufficient(
        found.reason.replace("treatment", "challenger").replace("control", "champion")
    )
