"""The ramp as a timetable: how many units come in each stage, and what they tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction
from math import ceil, inf
from typing import Self

from experiments.model import NOTHING, WHOLE, BasisPoints, Declaration, Stage

_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)


class HeldBy(StrEnum):
    """What a stage lasts for, at the least."""

    RUNTIME = "runtime"
    UNITS = "units"


@dataclass(frozen=True, slots=True)
class Rung:
    """A stage that is still to come.

    Args:
        lane, rest: Parts of all units that one challenger, and the champion, are compared by.
        fresh: The same for all challengers. What is missing to the whole are veterans.
        odds: Chance that a unit of one challenger or the champion is the challenger's.
        least: Units that come before the gate to the next share can open.
        held_by: Which of the gate's conditions that is.
    """

    number: int
    share: BasisPoints
    lane: float
    rest: float
    fresh: float
    odds: Fraction
    least: float
    held_by: HeldBy

    def information(self, treatment: float, control: float) -> float:
        """One over squared standard error, per unit that comes.

        Args:
            treatment, control: Variance of one unit in each arm.
        """
        return self.lane * self.rest / (treatment * self.rest + control * self.lane)


@dataclass(frozen=True, slots=True)
class Ramp:
    """Every stage, and how fast units come.

    What comes is counted in *units that come*: those of the champion, of all challengers, and
    veterans. The last stage has no end of its own.

    Args:
        rate: Units that come in a second; None if that is not known.
        least: Units that come before anything can be promoted.
    """

    rungs: tuple[Rung, ...]
    rate: float | None
    least: float

    @classmethod
    def of(cls, declaration: Declaration, rate: float | None) -> Self:
        """Lay out what is declared.

        Args:
            rate: Units a second. Without it no stage is held by its runtime.
        """
        limits, lanes = declaration.limits, len(declaration.challengers)
        part = limits.min_runtime.total_seconds() / declaration.gates
        rungs = []
        for stage in _stages(declaration):
            fresh = (stage.share - stage.floor) / WHOLE
            needed = Fraction(
                limits.min_units * (stage.share - stage.floor), 2 * declaration.ramp[-1] * lanes
            )
            by_units, by_time = ceil(needed) * lanes / fresh, (rate or 0.0) * part
            rungs.append(
                Rung(
                    number=stage.number,
                    share=stage.share,
                    lane=fresh / lanes,
                    rest=(WHOLE - stage.share) / WHOLE,
                    fresh=fresh,
                    odds=stage.probability,
                    least=max(by_units, by_time),
                    held_by=HeldBy.UNITS if by_units >= by_time else HeldBy.RUNTIME,
                )
            )
        ramp = cls(tuple(rungs), rate, 0.0)
        met = ramp.until(float(limits.min_units), [rung.lane for rung in rungs])
        gates = sum(rung.least for rung in rungs)
        return cls(tuple(rungs), rate, max(gates, met, part * len(rungs) * (rate or 0.0)))

    def parts(self, units: float) -> tuple[float, ...]:
        """Say how many of the first `units` come in each stage; their sum is `units`."""
        parts = []
        for rung in self.rungs[:-1]:
            parts.append(min(units, rung.least))
            units -= parts[-1]
        return (*parts, units)

    def until(self, amount: float, each: Sequence[float]) -> float:
        """Say how many units come until an amount is reached.

        Args:
            each: What a unit brings, per stage.

        Returns:
            Infinity if the last stage brings nothing.
        """
        units = 0.0
        for rung, brings in zip(self.rungs[:-1], each, strict=False):
            if amount <= rung.least * brings:
                return units + amount / brings if amount > 0.0 else units
            units, amount = units + rung.least, amount - rung.least * brings
        return units + amount / each[-1] if each[-1] > 0.0 and amount < inf else inf

    def gathered(self, units: float, each: Sequence[float]) -> float:
        """Say what amount has been reached after so many units; the inverse of `until`."""
        return sum(n * brings for n, brings in zip(self.parts(units), each, strict=True))

    @property
    def compared(self) -> list[float]:
        """Of a unit that comes, what counts for a horizon: all but veterans."""
        return [rung.fresh + rung.rest for rung in self.rungs]

    def informations(self, treatment: float, control: float) -> list[float]:
        """Information per unit that comes, in each stage."""
        return [rung.information(treatment, control) for rung in self.rungs]

    def seconds(self, units: float) -> float | None:
        """Say how long so many units take to come; None if nobody knows."""
        return units / self.rate if self.rate else None


def _stages(declaration: Declaration) -> list[Stage]:
    stages = []
    floor = NOTHING
    for rung, share in enumerate(declaration.ramp):
        stages.append(Stage(rung, rung, share, _SOME_TIME, declaration.challengers, floor))
        floor = share if declaration.returning else NOTHING
    return stages
