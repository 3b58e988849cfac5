"""One simulated experiment, from its start to its end."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import isfinite

import numpy as np

from experiments.assessment import Verdicts
from experiments.decision import (
    Continue,
    Decision,
    Drop,
    Halt,
    Promote,
    RollBack,
    assess_plan,
    decide,
)
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.finding import Finding
from experiments.lifecycle import Event, State, is_transitional
from experiments.model import Declaration
from experiments.simulation.division import CONTROL
from experiments.simulation.traffic import Traffic
from experiments.simulation.truth import Truth
from registry.refs import Version

START = datetime(2000, 1, 1, tzinfo=UTC)
"""When every simulated experiment begins."""


_FIRST_BATCH, _GROWTH = 50, 10
"""Batches begin small, and grow with the tenth of what has been seen."""

_HOLDBACK_LOOKS = 100
_NO_RECEIPT = "simulated"


class End(StrEnum):
    """How a simulated experiment ended."""

    PROMOTED = "promoted"
    PASSED = "passed"
    ROLLED_BACK = "rolled_back"
    INCONCLUSIVE = "inconclusive"
    HALTED = "halted"


@dataclass(frozen=True, slots=True)
class Reached:
    """A stage that was opened.

    Args:
        rung: Of the ramp; its length for the holdback, and `BEFORE_RAMP` for the shadow.
        units: That had arrived before it.
        after: Time since the start.
    """

    rung: int
    units: int
    after: timedelta


@dataclass(frozen=True, slots=True)
class Point:
    """Where the evidence stood at one look, for the challenger that is nearest to a verdict.

    Args:
        benefit: Log e-value of the goal, or z within a horizon; without a goal, of what is weakest
            of all that is to be shown. None while nothing can be said.
        needed: What it takes; None before the first look within a horizon.
        harm: Log e-value of any harm.
    """

    units: int
    benefit: float | None
    needed: float | None
    harm: float


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in one simulated experiment.

    Args:
        state: The final state of its lifecycle.
        winner: The challenger that was promoted to the end.
        dropped: Challengers that were taken out while others went on.
        blamed: Challengers that were found harmful: the dropped, and those of a rollback.
        culprits: Metrics that decided: the goal if promoted, what was worse if rolled back; none
            if all have passed.
        units, took: Until the verdict; a holdback that finds nothing is not counted.
        looks: Times that it was decided.
        path: One point a look, if that was asked for.
    """

    end: End
    state: State
    winner: Version | None
    dropped: tuple[Version, ...]
    blamed: tuple[Version, ...]
    culprits: tuple[str, ...]
    reasons: tuple[str, ...]
    units: int
    took: timedelta
    looks: int
    stages: tuple[Reached, ...]
    path: tuple[Point, ...] = ()


def simulate(
    declaration: Declaration,
    truth: Truth,
    *,
    rng: np.random.Generator,
    batch: int,
    most_units: int,
    rate: float | None = None,
    watch: bool = False,
) -> Run:
    """Run a declared experiment until it ends.

    Args:
        truth: What the first challenger changes.
        batch: Units between two looks, at most; at first there are fewer, so that gross harm is
            found as early as it would be. Each look is a call of `decide`.
        most_units: Units that arrive; then only the clock goes on. In a holdback more of them do.
        rate: Units a second; where it is None, all arrive within the longest runtime.
        watch: Keep the evidence of every look.

    Raises:
        ValueError: `truth` does not suit the declaration, or there is no traffic.
    """
    if batch < 1 or most_units < 1 or (rate is not None and rate <= 0):
        raise ValueError("a simulation needs a unit or more, in batches of one or more")
    usual = most_units / declaration.limits.max_runtime.total_seconds()
    course = _Course(
        Experiment.begin(declaration, CONTROL, START),
        Traffic(declaration, truth, rng),
        rate=usual if rate is None else rate,
        most_units=most_units,
        drift=truth.drift,
        watch=watch,
    )
    for n, now in course.moments(batch):
        course.live(n, now)
    return course.run()


class _Course:
    """An experiment on its way, as the controller moves it at every tick."""

    def __init__(
        self,
        experiment: Experiment,
        traffic: Traffic,
        *,
        rate: float,
        most_units: int,
        drift: float,
        watch: bool,
    ) -> None:
        self.experiment = experiment
        self._traffic = traffic
        self._rate = rate
        self._most_units = most_units
        self._drift = drift
        self._watch = watch
        self._units = 0
        self._looks = 0
        self._path: list[Point] = []
        self._reached = [Reached(experiment.stage.rung, 0, timedelta(0))]
        self._culprits: tuple[str, ...] = ()
        self._blamed: tuple[Version, ...] = ()
        self._decided: Reached | None = None

    def moments(self, batch: int) -> Iterator[tuple[int, datetime]]:
        """Yield how many units arrive next, and by when, until the experiment is over."""
        now, rest = START, 0.0
        while not self.experiment.is_final:
            n = self._next_batch(batch)
            if n:
                spent = n / self._rate + rest
                now, before = now + timedelta(seconds=spent), now
                rest = spent - (now - before).total_seconds()
            else:
                now = self._next_moment(now)
            yield n, now

    def live(self, n: int, now: datetime) -> None:
        """Let units arrive, look, and act."""
        experiment = self.experiment
        if n:
            part = min(1.0, (self._units + n / 2) / self._most_units)
            self._traffic.arrive(
                n,
                experiment.stage,
                experiment.dropped,
                now,
                drift=1.0 + self._drift * part,
            )
            self._units += n
        evidence = self._traffic.evidence(experiment.stages, now)
        decision = self._decide(evidence, now)
        self._looks += 1
        if self._watch:
            self._path.append(_point(self.experiment, evidence, self._units))
        if isinstance(decision, Continue) and (decision.to_rung is None or decision.looks):
            return
        self._follow(decision, now)

    def run(self) -> Run:
        """Return what has happened."""
        experiment = self.experiment
        end = _ENDS[experiment.state]
        last = self._decided or self._here(experiment.ended_at or START)
        return Run(
            end=end,
            state=experiment.state,
            winner=experiment.winner if end is End.PROMOTED else None,
            dropped=experiment.dropped,
            blamed=self._blamed,
            culprits=self._culprits,
            reasons=experiment.reasons,
            units=last.units,
            took=last.after,
            looks=self._looks,
            stages=tuple(self._reached),
            path=tuple(self._path),
        )

    def _decide(self, evidence: Evidence, now: datetime) -> Decision:
        """Decide; a look that is due is written down first, as the controller does it."""
        decision = decide(self.experiment.plan, evidence, now)
        if isinstance(decision, Continue) and decision.looks:
            self.experiment = self.experiment.having_looked(decision.looks)
            decision = decide(self.experiment.plan, evidence, now)
        return decision

    def _follow(self, decision: Decision, now: datetime) -> None:
        opened = len(self.experiment.stages)
        self._blame(decision, now)
        after = self.experiment.following(decision, now, receipt=_NO_RECEIPT)
        if after.state is State.HALTED:
            # Nothing comes of it by itself: a person reads why, and stops it.
            after = after.after(Event.STOP, now)
        if is_transitional(after.state):
            after = after.after(Event.DONE, now)
        self.experiment = after
        if len(after.stages) > opened:
            self._reached.append(replace(self._here(now), rung=after.stage.rung))

    def _blame(self, decision: Decision, now: datetime) -> None:
        match decision:
            case RollBack(culprits=culprits):
                self._culprits, self._decided = culprits, None
                self._blamed += self.experiment.remaining
            case Drop(versions=versions):
                self._blamed += versions
            case Promote() if self._decided is None:
                self._culprits = (self.experiment.declaration.sought.metric.key,)
                self._decided = self._here(now)
            case Halt():
                self._culprits, self._decided = ("units",), None
            case _:
                pass

    def _here(self, now: datetime) -> Reached:
        return Reached(self.experiment.stage.rung, self._units, now - START)

    def _next_batch(self, batch: int) -> int:
        if self.experiment.state is State.HOLDING_BACK:
            holdback = self.experiment.declaration.holdback
            assert holdback is not None
            in_all = self._rate * holdback.span.total_seconds()
            return max(batch, int(in_all / _HOLDBACK_LOOKS))
        growing = max(_FIRST_BATCH, self._units // _GROWTH)
        return min(batch, growing, self._most_units - self._units)

    def _next_moment(self, now: datetime) -> datetime:
        """Return when time alone can change something."""
        experiment = self.experiment
        limits = experiment.declaration.limits
        at_gate = limits.min_runtime / experiment.declaration.gates
        awaited = [
            self._traffic.next_ripe(),
            experiment.stage.opened_at + at_gate,
            experiment.started_at + limits.min_runtime,
        ]
        last = experiment.started_at + limits.max_runtime
        if now >= last:
            # Past the last moment there is always something to decide.
            return now + timedelta(seconds=1)
        return min(
            (each for each in awaited if each is not None and now < each < last), default=last
        )


_ENDS = {
    State.PROMOTED: End.PROMOTED,
    State.PASSED: End.PASSED,
    State.ROLLED_BACK: End.ROLLED_BACK,
    State.INCONCLUSIVE: End.INCONCLUSIVE,
    State.STOPPED: End.HALTED,
}


def _point(experiment: Experiment, evidence: Evidence, units: int) -> Point:
    found = assess_plan(experiment.plan, evidence)
    benefits = [each for each in map(_benefit, found.challengers) if each is not None]
    benefit, needed = max(benefits, default=(None, None), key=lambda each: each[0])
    return Point(units, benefit, needed, max(each.any_harm.log_e for each in found.challengers))


def _benefit(found: Verdicts) -> tuple[float, float | None] | None:
    superior = found.superior
    if superior is None:
        return _weakest(found)
    if isinstance(superior, Finding):
        return superior.log_e, superior.needed
    if superior.z is None:
        return None
    return superior.z, superior.boundary if isfinite(superior.boundary) else None


def _weakest(found: Verdicts) -> tuple[float, float | None] | None:
    tests = found.in_shadow
    if tests is None:
        return None
    asked = (*tests.not_inferior, *(() if tests.agreement is None else (tests.agreement,)))
    return min(((each.log_e, each.needed) for each in asked), default=None)
