"""What a report is made of: plain values, for people and as JSON.

As JSON, an analysis that is impossible is `{"reason": "..."}` in the place of its numbers, never 0,
NaN or null. Null stands for what is not there: an end of an interval that nothing bounds, an
estimate where there is no single best value, a boundary before the first look.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from experiments.stats.intervals import Insufficient
from registry.refs import Version

Scale: TypeAlias = Literal["difference", "ratio"]
Question: TypeAlias = Literal["superior", "harm", "not inferior", "sample ratio", "agrees"]


@dataclass(frozen=True, slots=True)
class LevelReport:
    """What one arm shows by itself.

    Args:
        value: A share from 0 to 1, milliseconds, or the metric's own unit.
        words: The same for people, and how much it rests on.
    """

    value: float
    words: str


LevelOrNot: TypeAlias = LevelReport | Insufficient


@dataclass(frozen=True, slots=True)
class Range:
    """An interval that holds at every moment of the experiment at once.

    Args:
        low, high: None where nothing bounds it on this side yet.
        estimate: None where there is no single best value.
    """

    low: float | None
    high: float | None
    estimate: float | None


@dataclass(frozen=True, slots=True)
class EffectReport:
    """How large the difference is.

    Args:
        scale: `difference`, challenger minus champion in the metric's own unit, or `ratio`,
            challenger over champion.
        level: Probability with which the interval holds, at all times together.
    """

    scale: Scale
    level: float
    interval: Range | Insufficient


@dataclass(frozen=True, slots=True)
class ShrunkReport:
    """The estimate drawn towards no effect: what to believe after a stop (winner's curse)."""

    scale: Scale
    value: float


@dataclass(frozen=True, slots=True)
class MarginReport:
    """Where harm begins: beyond this value of the difference or ratio, on the side of `worse`."""

    scale: Scale
    value: float
    worse: Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """A test by e-value.

    Args:
        log_e: Natural logarithm of the e-value; None if the e-value is 0.
        needed: `log_e` from which on the test has spoken.
        e: The e-value for people.
        p: Always-valid p-value; what is too small for a number is the smallest that there is.
        segment: None for everybody.
    """

    question: Question
    log_e: float | None
    needed: float
    e: str
    p: float
    reached: bool
    segment: str | None = None


@dataclass(frozen=True, slots=True)
class LookReport:
    """The test of the goal within a horizon.

    Args:
        z: None while nothing can be said.
        boundary: What it had to reach at the last look; None before the first.
        time: Part of the horizon that is seen.
        units: The horizon.
        looks: How many were taken.
    """

    z: float | None
    boundary: float | None
    time: float
    units: int
    looks: int
    reached: bool
    question: Literal["superior"] = "superior"


AnyTest: TypeAlias = EvidenceReport | LookReport


@dataclass(frozen=True, slots=True)
class StageReport:
    """A metric in one stage, by what was seen in it alone.

    Args:
        share: The challenger's part of the units compared.
        champion_units, challenger_units: Distinct units that met them.
        in_favour: Log e-value of the metric's first test; None within a horizon, and if the e-value
            is 0.
        against: Log e-value of harm; None if the e-value is 0.
    """

    stage: int
    share: float
    champion_units: int
    challenger_units: int
    champion: LevelOrNot
    challenger: LevelOrNot
    effect: EffectReport
    in_favour: float | None
    against: float | None


@dataclass(frozen=True, slots=True)
class MaturedReport:
    """How much of a metric with a window is old enough to be looked at.

    Args:
        units, of: Units whose window has closed, of all.
        share: From 0 to 1; None while there is no unit.
    """

    units: int
    of: int
    share: float | None


@dataclass(frozen=True, slots=True)
class MetricReport:
    """One metric of one challenger.

    Args:
        champion, challenger: What each arm shows.
        effects: The main scale first.
        shrunk: The estimate corrected for winner's curse, on the main scale.
        margins: Of a guardrail.
        matured: None if the metric has no window.
    """

    metric: str
    kind: str
    role: Literal["goal", "guardrail"]
    champion: LevelOrNot
    challenger: LevelOrNot
    effects: tuple[EffectReport, ...]
    shrunk: ShrunkReport | Insufficient
    margins: tuple[MarginReport, ...]
    tests: tuple[AnyTest, ...]
    stages: tuple[StageReport, ...]
    matured: MaturedReport | None


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """A metric in one segment.

    Args:
        harm: As it counts for the decision, adjusted for everything else that is looked at.
        alone: Log e-value of harm by itself; None if the e-value is 0.
        worse: One of those found worse when few of the found are to be wrong: e-BH over every
            segment, metric and challenger, with a false discovery rate of `alpha.harm`.
    """

    segment: str
    metric: str
    kind: str
    champion: LevelOrNot
    challenger: LevelOrNot
    effect: EffectReport
    harm: EvidenceReport
    alone: float | None
    worse: bool


@dataclass(frozen=True, slots=True)
class PairsReport:
    """A metric in the shadow: units by which of the two answers to their request was bad.

    Args:
        challenger_alone, champion_alone: In which this one's was, and the other's was not.
        effects: The difference of both shares first.
        tests: That a guardrail is kept, then harm; of the goal harm alone.
    """

    metric: str
    neither: int
    challenger_alone: int
    champion_alone: int
    both: int
    champion: LevelOrNot
    challenger: LevelOrNot
    effects: tuple[EffectReport, ...]
    margins: tuple[MarginReport, ...]
    tests: tuple[EvidenceReport, ...]


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """A challenger in the shadow: its answers beside the champion's, to the same requests.

    Args:
        units: Distinct units with a pair; each is compared by its first.
        needed: So many are asked for.
        pairs, dropped: Requests that were repeated and compared, and that were not.
        dropped_share: Of both; None while there is neither.
        agreement: Share of pairs whose answers agree.
        agreement_range: Where it lies, with probability `level` at all times together.
        declared: How often they have to agree; None if that is not asked.
        difference: How far the outputs lie apart, on average over pairs.
        latency: Milliseconds that the challenger takes longer, on average over pairs.
        slower: Share of pairs in which the challenger took longer, of those with a difference.
        slower_range: Where it lies; holds however heavy the tail of the times is.
        tests: That the agreement is as declared, then that it is not; empty if that is not asked.
    """

    level: float
    units: int
    needed: int
    pairs: int
    dropped: int
    dropped_share: float | None
    agreement: LevelOrNot
    agreement_range: Range | Insufficient
    declared: float | None
    difference: Range | Insufficient
    latency: Range | Insufficient
    slower: LevelOrNot
    slower_range: Range | Insufficient
    metrics: tuple[PairsReport, ...]
    tests: tuple[EvidenceReport, ...]


@dataclass(frozen=True, slots=True)
class ChallengerReport:
    """One challenger: every metric, and whether any of them, anywhere, is worse.

    Args:
        metrics: With users; empty where nobody is ever to meet it.
        shadow: None where there is no shadow.
    """

    version: Version
    any_harm: EvidenceReport
    metrics: tuple[MetricReport, ...]
    segments: tuple[SegmentReport, ...]
    shadow: ShadowReport | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Every challenger that was assessed."""

    challengers: tuple[ChallengerReport, ...]
    sample_ratio: EvidenceReport
