"""A running or finished experiment: what was declared, where it stands, every stage it had."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Final, Self, assert_never

from experiments.codec import decode
from experiments.decision import (
    Continue,
    Decision,
    Drop,
    Halt,
    Inconclusive,
    Pass,
    Plan,
    Promote,
    RollBack,
)
from experiments.lifecycle import INITIAL, Event, State, advance, is_final
from experiments.looks import Look
from experiments.model import (
    BEFORE_RAMP,
    NOTHING,
    WHOLE,
    BasisPoints,
    Declaration,
    Stage,
)
from experiments.store import Stored
from registry.refs import Version

DECODED_KEPT: Final = 2048
"""Experiments that need not be decoded again."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What the store keeps of an experiment, besides its counters.

    Args:
        champion: The champion when it started: what the challengers are compared with.
        ended_at: When it was over; known before it is final if an edge had ended it by itself.
        reasons: Why it is in its present state.
        receipt: The receipt of the last decision that changed anything; None before the first.
        dropped: Challengers that were found harmful while others went on.
        winner: The challenger that was promoted, or is being promoted; None before that.
        looks: Those that a bounded experiment has taken; each has spent its part of the error rate.
    """

    declaration: Declaration
    champion: Version
    state: State
    stages: tuple[Stage, ...]
    started_at: datetime
    ended_at: datetime | None = None
    reasons: tuple[str, ...] = ()
    receipt: str | None = None
    dropped: tuple[Version, ...] = ()
    winner: Version | None = None
    looks: tuple[Look, ...] = ()

    @classmethod
    def begin(cls, declaration: Declaration, champion: Version, now: datetime) -> Self:
        """Open the first stage: the shadow, if there is one."""
        shadow = declaration.shadow
        rung = 0 if shadow is None else BEFORE_RAMP
        share = declaration.ramp[0] if shadow is None else shadow.share
        stage = Stage(0, rung, share, now, declaration.challengers)
        return cls(declaration, champion, INITIAL, (stage,), started_at=now)

    @property
    def plan(self) -> Plan:
        return Plan(
            self.declaration,
            self.state,
            self.stages,
            self.started_at,
            dropped=self.dropped,
            winner=self.winner,
            looks=self.looks,
        )

    @property
    def remaining(self) -> tuple[Version, ...]:
        """Challengers that are still on trial: none dropped, and once one has won, it alone."""
        if self.winner is not None:
            return (self.winner,)
        return tuple(each for each in self.stage.challengers if each not in self.dropped)

    @property
    def stage(self) -> Stage:
        return self.stages[-1]

    @property
    def is_final(self) -> bool:
        return is_final(self.state)

    def after(
        self,
        event: Event,
        now: datetime,
        *,
        reasons: tuple[str, ...] = (),
        receipt: str | None = None,
    ) -> Self:
        """Return the experiment after `event`; what is not given stays as it was.

        Raises:
            WrongState: the lifecycle does not allow `event` now.
        """
        state = advance(self.state, event)
        return replace(
            self,
            state=state,
            ended_at=(self.ended_at or now) if is_final(state) else self.ended_at,
            reasons=reasons or self.reasons,
            receipt=receipt or self.receipt,
        )

    def following(self, decision: Decision, now: datetime, *, receipt: str) -> Self:
        """Return the experiment as a decision that changes it leaves it.

        Raises:
            WrongState: the lifecycle does not allow that now.
        """
        reasons = decision.reasons
        match decision:
            case Continue(to_rung=rung):
                assert rung is not None
                return self.at_rung(rung, now, reasons=reasons, receipt=receipt)
            case Drop(versions=versions):
                return self.without(versions, now, reasons=reasons, receipt=receipt)
            case Promote(version=version):
                held_back = self.declaration.holdback and self.winner is None
                won = self.holding_back if held_back else self.promoting
                return won(version, now, reasons=reasons, receipt=receipt)
            case Pass():
                event = Event.PASS
            case RollBack():
                event = Event.ROLL_BACK
            case Halt():
                event = Event.HALT
            case Inconclusive():
                event = Event.GIVE_UP
            case _:
                assert_never(decision)
        return self.after(event, now, reasons=reasons, receipt=receipt)

    def at_rung(self, rung: int, now: datetime, *, reasons: tuple[str, ...], receipt: str) -> Self:
        """Return the experiment with a new stage at `ramp[rung]`.

        Raises:
            WrongState: the ramp does not move in the present state.
        """
        moved = self.after(Event.ADVANCE, now, reasons=reasons, receipt=receipt)
        # A dropped challenger keeps its lane, so that nobody changes from one to another.
        share, lanes = self.declaration.ramp[rung], self.declaration.challengers
        return moved._with_stage(rung, share, lanes, now)

    def without(
        self,
        versions: tuple[Version, ...],
        now: datetime,
        *,
        reasons: tuple[str, ...],
        receipt: str,
    ) -> Self:
        """Return the experiment with some of its challengers dropped; the stage goes on.

        Raises:
            WrongState: nothing can be dropped in the present state.
        """
        fewer = self.after(Event.DROP, now, reasons=reasons, receipt=receipt)
        return replace(fewer, dropped=(*self.dropped, *versions))

    def promoting(
        self, winner: Version, now: datetime, *, reasons: tuple[str, ...], receipt: str
    ) -> Self:
        """Return the experiment in which `winner` is to become the champion for everybody.

        Raises:
            WrongState: nothing can be promoted in the present state.
        """
        won = self.after(Event.PROMOTE, now, reasons=reasons, receipt=receipt)
        return replace(won, winner=winner)

    def holding_back(
        self, winner: Version, now: datetime, *, reasons: tuple[str, ...], receipt: str
    ) -> Self:
        """Return the experiment in which `winner` is the champion, except for those held back.

        Raises:
            WrongState: nothing can be promoted in the present state.
        """
        holdback = self.declaration.holdback
        assert holdback is not None
        won = self.after(Event.HOLD_BACK, now, reasons=reasons, receipt=receipt)
        share = BasisPoints(WHOLE - holdback.share)
        beyond = len(self.declaration.ramp)
        return replace(won, winner=winner)._with_stage(beyond, share, (winner,), now)

    def having_looked(self, looks: tuple[Look, ...]) -> Self:
        """Return the experiment with looks that its bounded test has taken."""
        return replace(self, looks=(*self.looks, *looks))

    def _with_stage(
        self, rung: int, share: BasisPoints, challengers: tuple[Version, ...], now: datetime
    ) -> Self:
        # Units that may have met a challenger already are veterans; a request never comes back, and
        # in the shadow nobody meets one.
        may_have_met = self.declaration.returning and not self.stage.shadow
        floor = min(self.stage.share, share) if may_have_met else NOTHING
        stage = Stage(len(self.stages), rung, share, now, challengers, floor)
        return replace(self, stages=(*self.stages, stage))


def read_all(documents: Mapping[str, Stored]) -> list[tuple[Experiment, int]]:
    """Return experiments with their revisions, in the order in which they were started."""
    found = [(_decoded(stored.body), stored.revision) for stored in documents.values()]
    return sorted(found, key=lambda pair: pair[0].started_at)


@lru_cache(maxsize=DECODED_KEPT)
def _decoded(body: bytes) -> Experiment:
    """Return the experiment that `body` is. Most are over, and read again at every look."""
    return decode(Experiment, body)
