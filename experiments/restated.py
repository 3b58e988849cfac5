"""Tests, intervals and levels as the values that a report is made of."""

from math import inf, isfinite
from sys import float_info

from experiments.evidence import Matured
from experiments.finding import Finding
from experiments.methods import Effect, Level, Shrunk
from experiments.metric import Guardrail
from experiments.questions import borders
from experiments.reported import (
    EffectReport,
    EvidenceReport,
    LevelOrNot,
    LevelReport,
    MarginReport,
    MaturedReport,
    Question,
    Range,
    ShrunkReport,
)
from experiments.stats.intervals import Insufficient, IntervalOrNot
from experiments.stats.stages import Side


def test_of(question: Question, found: Finding) -> EvidenceReport:
    """Return a test by e-value."""
    return EvidenceReport(
        question=question,
        log_e=finite(found.log_e),
        needed=found.needed,
        e=found.e_text,
        p=max(found.p_value, float_info.min),
        reached=found.reached,
        segment=found.segment,
    )


NOTHING_RULED_OUT = Insufficient("too little was seen to rule anything out")


def range_of(interval: IntervalOrNot) -> Range | Insufficient:
    """Return an interval, or why there is none."""
    if isinstance(interval, Insufficient):
        return in_words(interval)
    estimate = None if interval.estimate is None else finite(interval.estimate)
    return Range(finite(interval.low), finite(interval.high), estimate)


def effect_of(found: Effect, level: float) -> EffectReport:
    """Return how large a difference is."""
    interval = found.interval
    if isinstance(interval, Insufficient):
        return EffectReport(found.scale, level, in_words(interval))
    estimate = None if interval.estimate is None else finite(interval.estimate)
    lowest = 0.0 if found.scale == "ratio" else -inf
    if interval.low <= lowest and interval.high == inf and estimate is None:
        return EffectReport(found.scale, level, NOTHING_RULED_OUT)
    return EffectReport(found.scale, level, range_of(interval))


def shrunk_of(found: Shrunk | Insufficient) -> ShrunkReport | Insufficient:
    """Return an estimate that is corrected for having been looked at."""
    if isinstance(found, Insufficient):
        return in_words(found)
    return ShrunkReport(found.scale, found.value)


def margins_of(asked: Guardrail) -> tuple[MarginReport, ...]:
    """Return where harm begins."""
    relative = asked.max_ratio is not None
    return tuple(
        MarginReport(
            scale="ratio" if relative else "difference",
            value=margin.ratio if relative else margin.difference,
            worse="higher" if side is Side.GREATER else "lower",
        )
        for side, margin in borders(asked)
    )


def level_of(found: Level) -> LevelOrNot:
    """Return what one arm shows, or that it shows nothing yet."""
    return (
        Insufficient(found.words) if found.value is None else LevelReport(found.value, found.words)
    )


def matured_of(found: Matured) -> MaturedReport:
    """Return how much is old enough to be looked at."""
    return MaturedReport(found.units, found.of, found.share)


def finite(number: float) -> float | None:
    """Return a number as JSON can hold it."""
    return number if isfinite(number) else None


def in_words(found: Insufficient) -> Insufficient:
    """Write a reason of the statistics in the words of an experiment."""
    return Insufficient(
        found.reason.replace("treatment", "challenger").replace("control", "champion")
    )
