"""What a rollback drill is, and what it shows."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil
from typing import Final, Self

from registry.refs import ModelName
from serving.break_glass import RolledBack

SILENCE: Final = timedelta(seconds=60)
"""After so long without a word a drill that has not ended never will."""


class DrillState(StrEnum):
    """How far a drill is."""

    RUNNING = "running"
    ENDED = "ended"
    INTERRUPTED = "interrupted"
    """Control ended in its middle."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of several rollbacks.

    Args:
        p50, p95, p99: The smallest of them that so many per cent do not exceed.
    """

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, milliseconds: Iterable[float]) -> Self:
        """Summarise at least one time.

        Examples:
            >>> Spread.of(range(1, 101))
            Spread(count=100, p50=50, p95=95, p99=99, max=100)
        """
        found = sorted(milliseconds)
        p50, p95, p99 = (found[ceil(part * len(found) / 100) - 1] for part in (50, 95, 99))
        return cls(len(found), p50, p95, p99, found[-1])


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill: who wanted it, how far it is, what it has shown.

    Args:
        times: How many rollbacks were asked for.
        done: How many were tried so far, the failed ones included.
        failures: Why rollbacks failed, and how many for each reason.
        rollback: From each command to the last edge's acknowledgement; None before the first.
        edges: The same to the acknowledgement of each edge.
        lost: Edges whose lease ran out meanwhile: nobody waits for them.
        milliseconds: Each time that `rollback` sums up; only of a model's latest drill.
    """

    model: ModelName
    holder: str
    by: str
    started_at: datetime
    heard_at: datetime
    times: int
    ended_at: datetime | None = None
    done: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)
    rollback: Spread | None = None
    edges: Mapping[str, Spread] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    milliseconds: tuple[float, ...] = ()

    @property
    def failed(self) -> int:
        """How many rollbacks failed."""
        return sum(self.failures.values())

    def state(self, now: datetime) -> DrillState:
        """Return how far it is, as far as anybody has heard."""
        if self.ended_at is not None:
            return DrillState.ENDED
        quiet = now - self.heard_at > SILENCE
        return DrillState.INTERRUPTED if quiet else DrillState.RUNNING


class Tally:
    """What a drill has shown so far."""

    def __init__(self) -> None:
        self.total: list[float] = []
        self.by_edge: defaultdict[str, list[float]] = defaultdict(list)
        self.failures: Counter[str] = Counter()
        self.lost: set[str] = set()
        self.done = 0
        self.in_a_row = 0

    def add(self, done: RolledBack) -> None:
        """Take a rollback in."""
        if done.silent:
            self.fail(f"no word in time from {', '.join(done.silent)}")
        elif not done.edges:
            self.fail("no edge is alive")
        else:
            self.total.append(done.milliseconds)
            self.done, self.in_a_row = self.done + 1, 0
        for edge, milliseconds in done.acknowledged.items():
            self.by_edge[edge].append(milliseconds)
        self.lost |= set(done.lost)

    def fail(self, why: str) -> None:
        """Take in that one failed."""
        self.done, self.in_a_row = self.done + 1, self.in_a_row + 1
        self.failures[why] += 1

    def on(self, drill: Drill, now: datetime) -> Drill:
        """Return the drill with what it has shown."""
        return replace(
            drill,
            heard_at=now,
            done=self.done,
            failures=dict(self.failures),
            rollback=Spread.of(self.total) if self.total else None,
            edges={edge: Spread.of(times) for edge, times in sorted(self.by_edge.items())},
            lost=tuple(sorted(self.lost)),
        )
