"""A running or finished experiment: its declaration, where it stands, and every stage it had."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from experiments.codec import decode
from experiments.decision import Plan
from experiments.lifecycle import INITIAL, Event, State, advance, is_final
from experiments.model import BasisPoints, Declaration, HeaderUnit, Stage
from experiments.store import Stored
from registry.refs import Version


@dataclass(frozen=True, slots=True)
class Experiment:
    """What the store keeps of an experiment, besides its counters.

    Args:
        champion: The champion when it started: what the challenger is compared with.
        reasons: Why it is in its present state.
        receipt: The receipt of the last decision that changed anything; None before the first.
    """

    declaration: Declaration
    champion: Version
    state: State
    stages: tuple[Stage, ...]
    started_at: datetime
    ended_at: datetime | None = None
    reasons: tuple[str, ...] = ()
    receipt: str | None = None

    @classmethod
    def begin(cls, declaration: Declaration, champion: Version, now: datetime) -> Self:
        """Open the first stage."""
        stage = Stage(number=0, rung=0, share=declaration.ramp[0], opened_at=now)
        return cls(declaration, champion, INITIAL, (stage,), started_at=now)

    @property
    def plan(self) -> Plan:
        return Plan(self.declaration, self.state, self.stages, self.started_at)

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
            ended_at=now if is_final(state) else None,
            reasons=reasons or self.reasons,
            receipt=receipt or self.receipt,
        )

    def at_rung(self, rung: int, now: datetime, *, reasons: tuple[str, ...], receipt: str) -> Self:
        """Return the experiment with a new stage at `ramp[rung]`.

        Raises:
            WrongState: the ramp does not move in the present state.
        """
        moved = self.after(Event.ADVANCE, now, reasons=reasons, receipt=receipt)
        stage = Stage(
            number=len(self.stages),
            rung=rung,
            share=self.declaration.ramp[rung],
            opened_at=now,
            floor=self._veterans(),
        )
        return replace(moved, stages=(*self.stages, stage))

    def _veterans(self) -> BasisPoints:
        """Buckets of units that may have met the challenger already; a request never comes back."""
        returning = isinstance(self.declaration.unit, HeaderUnit)
        return self.stage.share if returning else BasisPoints(0)


def read_all(documents: Mapping[str, Stored]) -> list[tuple[Experiment, int]]:
    """Return experiments with their revisions, in the order in which they were started."""
    found = [(decode(Experiment, stored.body), stored.revision) for stored in documents.values()]
    return sorted(found, key=lambda pair: pair[0].started_at)
