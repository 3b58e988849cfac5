"""What has been seen: mergeable summaries per stage and arm, and nothing else.

Units come back, and after a ramp step some of them are no longer randomised: whoever met a
challenger before meets it for certain. These veterans are counted apart. Everybody else is divided
anew: given that a unit's bucket is not below the last stage's cut, it is below the new cut with a
known probability, whatever the unit did before. So stages may be multiplied as if they had
different units.

Where labels come late, predictions are counted by the cohort in which they were made, and a cohort
is looked at once its window has closed: both arms are then seen at the same age, even if one of
them answers faster than the other.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from experiments.metric import Metric
from experiments.model import Declaration, Stage, Variant
from experiments.pairs import NO_PAIR, Paired, gather_pairs
from experiments.stats.moments import EMPTY, Moments
from experiments.store import Cell, Readings
from registry.refs import Version

LOST = "lost_bytes"
LOST_REQUESTS = "lost_requests"
LATE = "late"
REFUSED = "refused_outcomes"
UNITS = "units"


@dataclass(frozen=True, slots=True)
class Sample:
    """One metric in one arm of one stage.

    Args:
        counts: How many units gave each value. By kind the index is the outcome (0 or 1), the
            place on the score's grid, the bucket of the histogram, or 1 for an event.
        moments: Summaries of values. By kind the index is the hash group of the units, or 1 for
            values with a covariate and 0 for those without.
    """

    counts: Mapping[int, int] = field(default_factory=dict)
    moments: Mapping[int, Moments] = field(default_factory=dict)


NOTHING_SEEN = Sample()


@dataclass(frozen=True, slots=True)
class Tally:
    """One arm in one stage.

    Args:
        requests: Requests assigned to the arm, whoever answered them.
        failovers: Those that the fallback answered.
        units: Distinct units that met the arm.
        samples: What they showed, by metric key.
        matured: Of the units, those whose window has closed, by the key of a metric with a window.
    """

    requests: int = 0
    failovers: int = 0
    units: int = 0
    samples: Mapping[str, Sample] = field(default_factory=dict)
    matured: Mapping[str, int] = field(default_factory=dict)

    def sample(self, key: str) -> Sample:
        return self.samples.get(key, NOTHING_SEEN)

    def units_of(self, key: str) -> int:
        """Return the units that a metric is a share of: those old enough to have shown it.

        Without this, units too young to complain would speak for a version.
        """
        return self.matured.get(key, self.units)


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """Every arm over one stretch of constant allocation.

    Args:
        challengers: The arms that were on trial in this stage.
        odds: A unit that met one challenger or the champion met the challenger with probability
            odds[0] / odds[1].
        veterans: Units that were not randomised in this stage, and are compared with nobody.
    """

    stage: int
    champion: Tally
    challengers: Mapping[Version, Tally]
    odds: tuple[int, int]
    veterans: Tally = Tally()

    @property
    def probability(self) -> float:
        return self.odds[0] / self.odds[1]


@dataclass(frozen=True, slots=True)
class Matured:
    """How much of a metric with a window is old enough to be looked at.

    Args:
        units: Units whose window has closed.
        of: All units, in every arm that is compared.
    """

    units: int
    of: int

    @property
    def share(self) -> float | None:
        """From 0 to 1; None while there is no unit."""
        return self.units / self.of if self.of else None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a decision may look at, besides the clock.

    Args:
        stages: Those in which users met challengers.
        shadow: By challenger, how its answers compare before anybody met it; empty without.
        segments: The same as `stages` for each declared segment alone, by its value.
        matured: Per metric with a window, by key.
        rollback_target_hot: The champion is loaded, probed and has all its replicas.
        lost_bytes: Request log that was dropped before it was counted; 0 if complete.
        lost_requests: Requests that no line tells of, at the edges that ran the experiment; how
            many of them were the experiment's is unknown. 0 if complete.
        late: Outcomes that came after their window, and were not counted.
        refused_outcomes: Outcomes that came while the store was away and no more could be kept;
            whoever sent them was told to send them again, and may have done so.
    """

    stages: tuple[StageEvidence, ...]
    segments: Mapping[str, tuple[StageEvidence, ...]] = field(default_factory=dict)
    matured: Mapping[str, Matured] = field(default_factory=dict)
    rollback_target_hot: bool = True
    lost_bytes: int = 0
    lost_requests: int = 0
    late: int = 0
    refused_outcomes: int = 0
    shadow: Mapping[Version, Paired] = field(default_factory=dict)

    def paired(self, version: Version) -> Paired:
        """Return what was seen of a challenger in the shadow."""
        return self.shadow.get(version, NO_PAIR)

    def challenger_units(self, version: Version, stage: int | None = None) -> int:
        """Distinct units that met a challenger, in one stage or in all."""
        return sum(
            s.challengers[version].units
            for s in self.stages
            if version in s.challengers and stage in (None, s.stage)
        )


def gather(
    declaration: Declaration,
    stages: Iterable[Stage],
    readings: Readings,
    now: datetime,
    *,
    rollback_target_hot: bool,
) -> Evidence:
    """Arrange the store's readings by stage and arm, leaving out what is too young to look at.

    Args:
        now: Decides which cohorts have matured.
    """
    stages = tuple(stages)
    live = tuple(stage for stage in stages if not stage.shadow)
    shelves = _Shelves.of(declaration, readings, now)
    values = declaration.segments.values if declaration.segments else ()
    return Evidence(
        stages=tuple(shelves.stage(stage, None) for stage in live),
        segments={
            value: tuple(shelves.stage(stage, index) for stage in live)
            for index, value in enumerate(values, start=1)
        },
        matured=shelves.matured,
        rollback_target_hot=rollback_target_hot,
        lost_bytes=_everywhere(readings, LOST),
        lost_requests=_everywhere(readings, LOST_REQUESTS),
        late=_everywhere(readings, LATE),
        refused_outcomes=_everywhere(readings, REFUSED),
        shadow=gather_pairs(declaration, stages, readings),
    )


def _everywhere(readings: Readings, counter: str) -> int:
    return sum(count for cell, count in readings.counts.items() if cell.counter == counter)


_Arm = tuple[int, Variant, Version | None, int | None]
"""Stage, variant, version (None for the champion and for veterans), segment (None for all)."""


@dataclass(frozen=True, slots=True)
class _Shelves:
    """Readings that may be looked at, by arm, name and index."""

    metrics: tuple[Metric, ...]
    counts: Mapping[_Arm, Mapping[str, Mapping[int, int]]]
    moments: Mapping[_Arm, Mapping[str, Mapping[int, Moments]]]
    ripe_units: Mapping[_Arm, Mapping[str, int]]
    matured: Mapping[str, Matured]

    @classmethod
    def of(cls, declaration: Declaration, readings: Readings, now: datetime) -> "_Shelves":
        ripe = _Ripeness(declaration, now)
        counts: dict[_Arm, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
        moments: dict[_Arm, dict[str, dict[int, Moments]]] = defaultdict(lambda: defaultdict(dict))
        for cell, count in readings.counts.items():
            if ripe(cell):
                name, index = _indexed(cell)
                for arm in _arms(cell):
                    shelf = counts[arm][name]
                    shelf[index] = shelf.get(index, 0) + count
        for cell, found in readings.moments.items():
            if ripe(cell):
                name, index = _indexed(cell)
                for arm in _arms(cell):
                    pile = moments[arm][name]
                    pile[index] = pile.get(index, EMPTY).merged(found)
        units = _ripe_units(ripe, readings)
        return cls(declaration.metrics, counts, moments, units, ripe.matured(readings))

    def stage(self, stage: Stage, segment: int | None) -> StageEvidence:
        return StageEvidence(
            stage=stage.number,
            champion=self._tally((stage.number, Variant.CHAMPION, None, segment)),
            challengers={
                version: self._tally((stage.number, Variant.CHALLENGER, version, segment))
                for version in stage.challengers
            },
            odds=(stage.probability.numerator, stage.probability.denominator),
            veterans=self._tally((stage.number, Variant.VETERAN, None, segment)),
        )

    def _tally(self, arm: _Arm) -> Tally:
        counts, moments = self.counts.get(arm, {}), self.moments.get(arm, {})

        def count(name: str) -> int:
            return counts.get(name, {}).get(0, 0)

        return Tally(
            requests=count("requests"),
            failovers=count("failovers"),
            units=count(UNITS),
            samples={
                metric.key: Sample(
                    dict(counts.get(metric.counter, {})), dict(moments.get(metric.counter, {}))
                )
                for metric in self.metrics
                if metric.counter in counts or metric.counter in moments
            },
            matured={
                metric.key: self.ripe_units.get(arm, {}).get(metric.key, 0)
                for metric in self.metrics
                if metric.window is not None
            },
        )


def _ripe_units(ripe: "_Ripeness", readings: Readings) -> dict[_Arm, dict[str, int]]:
    found: dict[_Arm, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for cell, count in readings.counts.items():
        if cell.counter == UNITS:
            for key in ripe.keys(cell.cohort):
                for arm in _arms(cell):
                    found[arm][key] += count
    return found


class _Ripeness:
    """Which cells are old enough to be looked at."""

    def __init__(self, declaration: Declaration, now: datetime) -> None:
        self._cohort = declaration.cohort
        self._windows = {m.counter: m.window for m in declaration.metrics if m.window is not None}
        self._keys = {m.key: m.window for m in declaration.metrics if m.window is not None}
        self._now = now.timestamp()

    def __call__(self, cell: Cell) -> bool:
        window = self._windows.get(cell.name) if self._windows else None
        return window is None or self._closed(cell.cohort, window.total_seconds())

    def keys(self, cohort: int) -> list[str]:
        """Return the metrics whose window has closed for a cohort."""
        return [
            k for k, window in self._keys.items() if self._closed(cohort, window.total_seconds())
        ]

    def _closed(self, cohort: int, window: float) -> bool:
        assert self._cohort is not None
        return (cohort + 1) * self._cohort.total_seconds() + window <= self._now

    def matured(self, readings: Readings) -> dict[str, Matured]:
        units = [
            (cell.cohort, count)
            for cell, count in readings.counts.items()
            if cell.counter == UNITS and cell.variant is not Variant.VETERAN
        ]
        total = sum(count for _, count in units)
        return {
            key: Matured(
                sum(n for cohort, n in units if self._closed(cohort, window.total_seconds())),
                total,
            )
            for key, window in self._keys.items()
        }


def _indexed(cell: Cell) -> tuple[str, int]:
    name, colon, index = cell.counter.rpartition(":")
    return (name, int(index)) if colon else (cell.counter, 0)


def _arms(cell: Cell) -> tuple[_Arm, _Arm]:
    version = cell.version if cell.variant is Variant.CHALLENGER else None
    return (
        (cell.stage, cell.variant, version, None),
        (cell.stage, cell.variant, version, cell.segment),
    )
