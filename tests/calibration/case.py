"""An experiment to be run many times, in which some verdicts would be false."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from experiments.evidence import Evidence
from experiments.model import Declaration
from tests.calibration.history import Histories, World
from tests.calibration.judged import HALTED, HARMED, PROMOTED, PROMOTED_IN_TIME
from tests.calibration.traffic import Traffic

FIXED, RAMPED, DRIFTING = "half and half", "ramp", "ramp and drift"
MOVING = "half and half, drift"
"""Levels and spreads treble within one stage."""


GOAL_VERDICTS = (PROMOTED, PROMOTED_IN_TIME, HARMED, HALTED)


class Runs(Protocol):
    """Drawn runs, each to be looked at from its first batch to its last."""

    def looks(self, run: int) -> Iterator[Evidence]:
        """Yield the evidence after each batch."""


class Source(Protocol):
    """Where runs come from."""

    def histories(self, rng: np.random.Generator, runs: int) -> Runs:
        """Draw runs."""


@dataclass(frozen=True, slots=True)
class Simple:
    """A world with its traffic."""

    world: World
    traffic: Traffic
    key: str
    segments: tuple[str, ...] = ()

    def histories(self, rng: np.random.Generator, runs: int) -> Histories:
        """Draw runs."""
        drawn = self.world.generate(rng, self.traffic, runs)
        return Histories(self.world, self.traffic, drawn, self.key, self.segments)


@dataclass(frozen=True, slots=True)
class Case:
    """An experiment to be run many times, and the verdicts that would be false.

    Args:
        runs: How many, in full.
        chunk: Runs that are drawn at once.
        horizon: Units with an outcome at which a bounded experiment ends.
    """

    kind: str
    setting: str
    declaration: Declaration
    source: Source
    runs: int
    chunk: int = 100
    horizon: int | None = None
    verdicts: tuple[str, ...] = GOAL_VERDICTS

    @property
    def name(self) -> str:
        return f"{self.kind}, {self.setting}"
