"""What an experiment shows, for people: per metric every number, or why there is none.

A report is made from the same comparisons as the decision. Where nothing can be said there is an
`Insufficient` with its reason, never a number that looks like one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.assessment import Assessment, Verdicts
from experiments.comparison import compared, levels
from experiments.decision import Plan, assess_plan
from experiments.evidence import Evidence, StageEvidence
from experiments.looks import Look, Spent
from experiments.methods import Comparison, Method
from experiments.methods.choice import method_of
from experiments.metric import Goal, Guardrail
from experiments.model import Declaration
from experiments.questions import harm_log_e, not_inferior_log_e, superior_log_e
from experiments.reported import (
    AnyTest,
    ChallengerReport,
    EffectReport,
    EvidenceReport,
    LevelOrNot,
    LookReport,
    MetricReport,
    Report,
    SegmentReport,
    StageReport,
)
from experiments.restated import (
    effect_of,
    finite,
    level_of,
    margins_of,
    matured_of,
    shrunk_of,
    test_of,
)
from experiments.shadow_report import interval_alpha, measure_shadow, report_shadow
from experiments.stats.combine import e_benjamini_hochberg
from experiments.stats.intervals import Insufficient
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
        test_of("sample ratio", found.sample_ratio),
    )


def measure(plan: Plan, evidence: Evidence) -> Mapping[str, tuple[float | None, ...]]:
    """Return what a picture over time shows of each metric.

    Returns:
        By `VERSION/METRIC`: estimate, low and high of the main effect, and the log e-value of the
        test in favour of the challenger; None where there is no number.
    """
    values: dict[str, tuple[float | None, ...]] = {}
    for verdicts in assess_plan(plan, evidence).challengers:
        values |= measure_shadow(plan.declaration, evidence, verdicts.version)
        reporter = _Reporter(plan.declaration, evidence, verdicts, plan.looks)
        for asked in reporter.with_users:
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
            any_harm=test_of("harm", self.verdicts.any_harm),
            metrics=tuple(self._metric(asked) for asked in self.with_users),
            segments=tuple(
                self._segment(segment, asked, seen, alone[version, segment, asked.metric.key])
                for segment, asked, seen in self.in_segments()
            ),
            shadow=report_shadow(self.declaration, self.evidence, self.verdicts),
        )

    @property
    def with_users(self) -> tuple[Goal | Guardrail, ...]:
        """What is compared where users meet the challenger."""
        return () if self.declaration.shadow_only else self.declaration.asked

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
        """Return how large the difference is."""
        alpha = interval_alpha(self.declaration)
        return tuple(effect_of(effect, 1 - alpha) for effect in seen.effects(alpha=alpha))

    def tests(self, asked: Goal | Guardrail) -> tuple[AnyTest, ...]:
        """Return the tests of one metric for everybody: in favour of the challenger, then harm."""
        key, verdicts = asked.metric.key, self.verdicts
        harm = next(
            f for f in verdicts.harm if f.metric == key and f.segment is None and not f.shadow
        )
        if isinstance(asked, Goal):
            return (self._superior(), test_of("harm", harm))
        safe = next(finding for finding in verdicts.not_inferior if finding.metric == key)
        return (test_of("not inferior", safe), test_of("harm", harm))

    def _superior(self) -> AnyTest:
        found = self.verdicts.superior
        assert found is not None
        if not isinstance(found, Spent):
            return test_of("superior", found)
        assert self.declaration.horizon is not None
        return LookReport(
            z=None if found.z is None else finite(found.z),
            boundary=finite(found.boundary),
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
        return level_of(champion), level_of(challenger)

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
            shrunk=shrunk_of(seen.shrunk()),
            margins=() if isinstance(asked, Goal) else margins_of(asked),
            tests=self.tests(asked),
            stages=tuple(
                self._stage(asked, stage)
                for stage in stages
                if self.verdicts.version in stage.challengers
            ),
            matured=None if matured is None else matured_of(matured),
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
            against=finite(harm_log_e(asked, seen)),
        )

    def _in_favour(self, asked: Goal | Guardrail, seen: Comparison) -> float | None:
        if isinstance(asked, Guardrail):
            return finite(not_inferior_log_e(asked, seen))
        if self.declaration.horizon is not None:
            return None
        return finite(superior_log_e(asked, seen))

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
            harm=test_of("harm", harm),
            alone=finite(log_e),
            worse=is_worse,
        )
