"""Units that arrive, are divided among the arms, and show what becomes of them, now or later."""

from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np

from experiments.evidence import Evidence, Matured, Sample, StageEvidence, Tally
from experiments.model import Declaration, Stage
from experiments.simulation.division import CHAMPION, parts_of
from experiments.simulation.generated import source_of
from experiments.simulation.heaps import Heap
from experiments.simulation.pairing import Pairing
from experiments.simulation.sources import Source
from experiments.simulation.truth import Truth, premises
from registry.refs import Version

Sizes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(slots=True)
class _Arm:
    """One arm in one stage: units by segment, and a heap for each metric.

    Args:
        ripe: Units whose window has closed, for each metric with a window.
    """

    units: Sizes
    ripe: dict[str, Sizes]
    heaps: dict[str, Heap] = field(default_factory=dict)
    shown: dict[int | None, Tally] = field(default_factory=dict)

    def take(self, key: str, heap: Heap) -> None:
        self.shown.clear()
        if key in self.heaps:
            self.heaps[key].add(heap)
        else:
            self.heaps[key] = heap

    def tally(self, segment: int | None) -> Tally:
        if segment not in self.shown:
            units = _within(self.units, segment)
            samples: dict[str, Sample] = {
                key: heap.sample(segment) for key, heap in self.heaps.items()
            }
            matured = {key: _within(ripe, segment) for key, ripe in self.ripe.items()}
            self.shown[segment] = Tally(
                requests=units, units=units, samples=samples, matured=matured
            )
        return self.shown[segment]


def _within(sizes: Sizes, segment: int | None) -> int:
    return int(sizes.sum() if segment is None else sizes[segment])


@dataclass(frozen=True, slots=True)
class _Ripening:
    """Outcomes that are not old enough to be looked at."""

    ripe_at: datetime
    arm: _Arm
    heap: Heap
    sizes: Sizes


class Traffic:
    """Everything that has been seen so far, and what is still to come of it.

    Units of a batch arrive at its end, for the first time in their stage.
    """

    def __init__(self, declaration: Declaration, truth: Truth, rng: np.random.Generator) -> None:
        self._declaration = declaration
        self._truth = truth
        self._rng = rng
        found = premises(declaration, truth)
        self._sources: dict[str, Source] = {
            each.key: source_of(each, truth, returning=declaration.returning) for each in found
        }
        values = declaration.segments.values if declaration.segments else ()
        self._segments = len(values) + 1
        self._values = values
        self._arms: dict[tuple[int, Version | None], _Arm] = {}
        self._veterans: dict[int, int] = defaultdict(int)
        self._ripening: dict[str, deque[_Ripening]] = {
            metric.key: deque() for metric in declaration.metrics if metric.window is not None
        }
        self._matured: dict[str, int] = dict.fromkeys(self._ripening, 0)
        self._compared = 0
        self._pairing = Pairing(declaration, truth, rng)

    def arrive(
        self, n: int, stage: Stage, dropped: tuple[Version, ...], now: datetime, *, drift: float
    ) -> None:
        """Divide `n` units, and let each show its outcomes.

        Args:
            drift: What every metric's value is multiplied with at this moment, in every arm.
        """
        if stage.shadow:
            self._pairing.arrive(n, stage, dropped, drift=drift)
            return
        parts = parts_of(stage, dropped)
        rest = max(0.0, 1.0 - sum(parts.values()))
        *met, veterans = self._rng.multinomial(n, [*parts.values(), rest]).tolist()
        self._veterans[stage.number] += veterans
        for version, units in zip(parts, met, strict=True):
            self._meet(stage, version, units, now, drift)

    def evidence(self, stages: tuple[Stage, ...], now: datetime) -> Evidence:
        """Return what may be looked at by now."""
        self._ripen(now)
        live = tuple(stage for stage in stages if not stage.shadow)
        return Evidence(
            stages=tuple(self._stage(stage, None) for stage in live),
            segments={
                value: tuple(self._stage(stage, index) for stage in live)
                for index, value in enumerate(self._values, start=1)
            },
            matured={key: Matured(units, self._compared) for key, units in self._matured.items()},
            shadow=self._pairing.evidence(stages),
        )

    def next_ripe(self) -> datetime | None:
        """Return when outcomes can next be looked at that cannot be now."""
        return min((queue[0].ripe_at for queue in self._ripening.values() if queue), default=None)

    def _meet(
        self, stage: Stage, version: Version | None, units: int, now: datetime, drift: float
    ) -> None:
        arm = self._arm(stage.number, version)
        sizes = self._rng.multinomial(units, [1.0 / self._segments] * self._segments)
        arm.units = arm.units + sizes
        arm.shown.clear()
        self._compared += units
        for asked in self._declaration.asked:
            key, window = asked.metric.key, asked.metric.window
            changed = version == self._declaration.challengers[0]
            factor = drift * (self._truth.factor(asked) if changed else 1.0)
            heap = self._sources[key].draw(self._rng, sizes, factor)
            if window is None:
                arm.take(key, heap)
            else:
                ripe_at = self._ripe_at(now, window)
                self._ripening[key].append(_Ripening(ripe_at, arm, heap, sizes))

    def _ripe_at(self, now: datetime, window: timedelta) -> datetime:
        """Return when the cohort of units that arrive now may be looked at."""
        cohort = self._declaration.cohort
        assert cohort is not None
        seconds = cohort.total_seconds()
        closes = (int(now.timestamp() // seconds) + 1) * seconds
        return datetime.fromtimestamp(closes, now.tzinfo) + window

    def _ripen(self, now: datetime) -> None:
        for key, queue in self._ripening.items():
            while queue and queue[0].ripe_at <= now:
                ripe = queue.popleft()
                ripe.arm.ripe[key] = ripe.arm.ripe[key] + ripe.sizes
                ripe.arm.take(key, ripe.heap)
                self._matured[key] += int(ripe.sizes.sum())

    def _arm(self, stage: int, version: Version | None) -> _Arm:
        if (stage, version) not in self._arms:
            nobody = np.zeros(self._segments, dtype=np.int64)
            self._arms[stage, version] = _Arm(nobody, dict.fromkeys(self._ripening, nobody))
        return self._arms[stage, version]

    def _stage(self, stage: Stage, segment: int | None) -> StageEvidence:
        probability = stage.probability
        tallies: Mapping[Version, Tally] = {
            version: self._arm(stage.number, version).tally(segment)
            for version in stage.challengers
        }
        units = self._veterans[stage.number] if segment is None else 0
        return StageEvidence(
            stage=stage.number,
            champion=self._arm(stage.number, CHAMPION).tally(segment),
            challengers=tallies,
            odds=(probability.numerator, probability.denominator),
            veterans=Tally(requests=units, units=units),
        )
