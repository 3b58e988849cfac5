"""Labels that come late, and sooner from one arm than from the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from experiments.evidence import Evidence, gather
from experiments.metric import Binary, Metric
from experiments.model import BasisPoints, Declaration, Stage, Variant
from experiments.store import Cell, Readings
from registry.refs import Version
from tests.calibration.declared import CHALLENGER, NAME, START, declaration
from tests.calibration.traffic import traffic

LATE = "labels late, one arm's sooner"
WINDOW = timedelta(hours=24)
STEPS = 12
"""Cohorts, and batches, in a window."""

BATCHES, SIZE, RATE = 48, 250, 0.1


def _delays(leaving: float) -> np.ndarray:
    """Return the chances of a label's age in steps; all come within the window."""
    chances = (1.0 - leaving) ** np.arange(STEPS)
    return chances / chances.sum()


DELAYS = {
    (CHALLENGER, 1): _delays(0.9),
    (CHALLENGER, 0): _delays(0.2),
    (None, 1): _delays(0.15),
    (None, 0): _delays(0.2),
}
"""By arm and outcome. The challenger's successes are known at once, all else takes its time."""


@dataclass(frozen=True, slots=True)
class LateLabels:
    """A binary goal with a window, read as the store holds it.

    Args:
        patient: Declare the window. Without one, outcomes are looked at as they come.
    """

    ramp: tuple[BasisPoints, ...]
    drift: bool = False
    patient: bool = True

    @property
    def declaration(self) -> Declaration:
        metric = Metric("outcome", Binary(), window=WINDOW if self.patient else None)
        return declaration(metric, baseline=RATE, effect=0.15, ramp=self.ramp)

    @property
    def units(self) -> int:
        return BATCHES * SIZE

    def histories(self, rng: np.random.Generator, runs: int) -> "LateHistories":
        """Draw runs."""
        levels = 0.5 + np.linspace(0.0, 1.0, BATCHES) if self.drift else np.ones(BATCHES)
        rungs = len(self.ramp)
        opened = traffic(rungs, rungs, ramp=self.ramp).stages
        each = BATCHES // rungs
        step = WINDOW / STEPS
        stages = tuple(
            Stage(s.number, s.rung, s.share, START + s.number * each * step, s.challengers)
            for s in opened
        )
        treated = np.repeat([float(stage.share) / 1e4 for stage in stages], each)
        units = rng.binomial(SIZE, treated, (runs, BATCHES))
        labels = {}
        for version, n in ((CHALLENGER, units), (None, SIZE - units)):
            good = rng.binomial(n, RATE * levels)
            for outcome, count in ((1, good), (0, n - good)):
                drawn = rng.multinomial(count, DELAYS[version, outcome])
                labels[version, outcome] = drawn.cumsum(axis=-1)
        return LateHistories(self.declaration, stages, each, units, labels)


@dataclass(frozen=True, slots=True)
class LateHistories:
    """Labels by arm and outcome: runs x cohorts x age, those that have come by that age."""

    declaration: Declaration
    stages: tuple[Stage, ...]
    batches_a_stage: int
    units: np.ndarray
    labels: dict[tuple[Version | None, int], np.ndarray]

    def looks(self, run: int) -> Iterator[Evidence]:
        """Yield what the engine gathers from the store after each batch, and until all is in."""
        step = WINDOW / STEPS
        cohort = self.declaration.cohort
        assert cohort in (None, step)
        first = int(START.timestamp() // step.total_seconds())
        for look in range(BATCHES + STEPS + 1):
            counts: dict[Cell, int] = {}
            for batch in range(min(look + 1, BATCHES)):
                at = first + batch if cohort else 0
                self._count(counts, run, batch, look - batch, at)
            # A label that comes by the end of a step is counted just before the look.
            now = START + (look + 1) * step
            open_now = [s for s in self.stages if s.opened_at < now]
            yield gather(
                self.declaration, open_now, Readings(counts), now, rollback_target_hot=True
            )

    def _count(self, counts: dict[Cell, int], run: int, batch: int, age: int, cohort: int) -> None:
        stage = batch // self.batches_a_stage
        treated = int(self.units[run, batch])
        for version, n in ((CHALLENGER, treated), (None, SIZE - treated)):
            variant = Variant.CHAMPION if version is None else Variant.CHALLENGER
            assigned = Version(1) if version is None else version
            cells = {"units": n}
            for outcome in (0, 1):
                come = self.labels[version, outcome][run, batch, min(age, STEPS - 1)]
                cells[f"outcome:{outcome}"] = int(come)
            for counter, count in cells.items():
                cell = Cell(NAME, stage, variant, assigned, counter, 0, cohort)
                counts[cell] = counts.get(cell, 0) + count
