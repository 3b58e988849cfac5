"""What an experiment's counters held after every batch, as the evidence that the engine reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from registry.refs import Version
from tests.calibration.traffic import Traffic

ALL = slice(None)


@dataclass(frozen=True, slots=True)
class Generated:
    """Several runs of the same experiment.

    Args:
        units: Runs x batches x segments x arms; the champion is the last arm. New units only.
        cells: The same x cells: what adds up over units, of whatever kind.
    """

    units: np.ndarray
    cells: np.ndarray


class World(Protocol):
    """A truth to draw experiments from."""

    def generate(self, rng: np.random.Generator, traffic: Traffic, runs: int) -> Generated:
        """Draw this many runs."""

    def sample(self, cells: np.ndarray) -> Sample:
        """Return what the counters would say for cells added up over batches."""


@dataclass(frozen=True, slots=True)
class Histories:
    """Every look of every run."""

    world: World
    traffic: Traffic
    generated: Generated
    key: str
    segments: tuple[str, ...] = ()

    def looks(self, run: int) -> Iterator[Evidence]:
        """Yield the evidence after each batch."""
        past: list[StageEvidence] = []
        past_segments: dict[str, list[StageEvidence]] = {value: [] for value in self.segments}
        stage_of = np.array(self.traffic.stage_of)
        for number in range(len(self.traffic.stages)):
            batches = np.flatnonzero(stage_of == number)
            units = self.generated.units[run, batches].cumsum(axis=0)
            cells = self.generated.cells[run, batches].cumsum(axis=0)
            for look in range(len(batches)):
                now = self._stage(number, units[look].sum(axis=0), cells[look].sum(axis=0))
                inside = {
                    value: self._stage(number, units[look, index], cells[look, index])
                    for index, value in enumerate(self.segments, start=1)
                }
                yield Evidence(
                    (*past, now),
                    {value: (*past_segments[value], inside[value]) for value in self.segments},
                )
            past.append(now)
            for value in self.segments:
                past_segments[value].append(inside[value])

    def _stage(self, number: int, units: np.ndarray, cells: np.ndarray) -> StageEvidence:
        stage = self.traffic.stages[number]
        *challengers, champion = (
            Tally(int(n), 0, int(n), {self.key: self.world.sample(seen)})
            for n, seen in zip(units, cells, strict=True)
        )
        return StageEvidence(
            stage=number,
            champion=champion,
            challengers=dict(zip(map(Version, stage.challengers), challengers, strict=True)),
            odds=(stage.probability.numerator, stage.probability.denominator),
        )
