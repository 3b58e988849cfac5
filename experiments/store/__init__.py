"""The hot state, as a port: versioned documents, heartbeats, one lease, evidence counters.

`experiments.store.redis` and `experiments.store.memory` are its adapters. What a document
means is its owner's business (`experiments.records`, `serving.routes`): here it is bytes.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType, Protocol

from experiments.model import ExperimentName, Variant
from experiments.stats.moments import Moments
from registry.refs import Version

Fence = NewType("Fence", int)

ANY = -1
"""Revision to expect when whatever is stored may be replaced."""


class Kind(StrEnum):
    """Drawers of the store; one document a name in each."""

    ROUTE = "route"
    EXPERIMENT = "experiment"
    HOST = "host"
    RECEIPT = "receipt"
    EDGE = "edge"
    """Heartbeats of the edge agents; these expire, and a store that is started again has none."""
    MEMBER = "member"
    """Edges that have not ended in order; these expire a day after they were last heard of."""
    DRILL = "drill"
    """A model's rollback drills."""
    TRAIL = "trail"
    """How an experiment's intervals moved over time, for pictures."""
    LANE = "lane"
    """Who uses a synthetic lane of a model; these expire."""
    OVERRIDE = "override"
    """Rollbacks made at an edge while the store was away, to be reconciled."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A document and how often it has been written (from 1)."""

    body: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Write:
    """A document to be written.

    Args:
        expected: Revision that the caller read; 0 to create; `ANY` to replace blindly.
    """

    kind: Kind
    name: str
    body: bytes
    expected: int


@dataclass(frozen=True, slots=True)
class Cell:
    """Where a count belongs.

    Args:
        version: The version that the unit was assigned to.
        counter: `requests`, `units`, ... or `METRIC:INDEX`, what stands before the colon being
            what a unit gives once a stage.
        segment: Index of the declared segment, from 1; 0 for all others.
        cohort: When the prediction was made, in cohorts since 1970; 0 where nobody asks.
    """

    experiment: ExperimentName
    stage: int
    variant: Variant
    version: Version
    counter: str
    segment: int = 0
    cohort: int = 0

    @property
    def name(self) -> str:
        """What a unit gives once a stage: the counter up to its colon."""
        return self.counter.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Batch:
    """Evidence from one source, for the stretch [start, end) of what that source has seen.

    Args:
        counts: How much to add to each cell.
        slots: Units seen, per cell, as slot numbers. A slot adds 1 to its cell only the first
            time that it is met under the cell's name in the cell's stage, in whichever cell:
            a unit counts once a stage.
        values: What to merge into each cell's moments, in order, with the slots of the units that
            gave it: the first value of a slot counts, as above, and every value without one.
    """

    source: str
    start: int
    end: int
    counts: Mapping[Cell, int] = field(default_factory=dict)
    slots: Mapping[Cell, frozenset[int]] = field(default_factory=dict)
    values: Mapping[Cell, Sequence[tuple[int | None, float]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """A checked outcome of a genuine prediction.

    Args:
        token: Unique per (prediction, metric); seen twice, it is a duplicate.
        slot: The unit's slot, or None where each request is a unit of its own, or where every
            outcome of a unit counts.
        expires_at: After this moment the token need not be remembered: it would be late.
        pair: The outcome's value, and its covariate or denominator, to be merged into the cell's
            moments; None to add 1 to the cell's counter instead.
    """

    cell: Cell
    token: str
    slot: int | None
    expires_at: datetime
    pair: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything counted for an experiment."""

    counts: Mapping[Cell, int] = field(default_factory=dict)
    moments: Mapping[Cell, Moments] = field(default_factory=dict)


class Applied(StrEnum):
    """What became of an outcome."""

    COUNTED = "counted"
    REPEATED_UNIT = "repeated_unit"
    """Genuine, but the unit was observed on this metric in this stage, or in a later one."""
    DUPLICATE = "duplicate"


class Store(Protocol):
    """Every method may raise `StoreUnavailable`."""

    async def read(self, kind: Kind, name: str) -> Stored | None:
        """Return the document, or None if there is none."""

    async def read_all(self, kind: Kind) -> Mapping[str, Stored]:
        """Return every document of `kind` by name. Heartbeats that expired are not among them."""

    async def write(
        self, kind: Kind, name: str, body: bytes, *, expected: int, fence: Fence | None = None
    ) -> int:
        """Replace one document: `write_all` with a single `Write`.

        Raises:
            StaleRevision, LeaseLost: as for `write_all`.
        """
        (revision,) = await self.write_all([Write(kind, name, body, expected)], fence=fence)
        return revision

    async def write_all(self, writes: Sequence[Write], *, fence: Fence | None = None) -> list[int]:
        """Replace documents, all of them or none, and return their new revisions in this order.

        Nobody sees a moment at which some of them are written and others are not, a store that is
        started again included. The watchers of each are told, in this order.

        Args:
            writes: Each of another document.
            fence: Refuse the writes unless this is the leader's present token.

        Raises:
            StaleRevision: the stored revision of one is not what was expected; it says which.
            LeaseLost: `fence` is not, or no longer, the leader's.
        """

    async def delete(self, kind: Kind, name: str) -> None:
        """Remove a document if it is there."""

    async def beat(self, kind: Kind, name: str, body: bytes, *, ttl: timedelta) -> None:
        """Write a document that disappears unless it is written again within `ttl`."""

    async def age(self) -> timedelta:
        """Return for how long, at least, the store has been there without a break.

        Only a heartbeat that is missing for less than that is missing because nobody sent it.
        """

    def watch(self, *kinds: Kind) -> AbstractAsyncContextManager[AsyncIterator[tuple[Kind, str]]]:
        """Tell the name of each document of these kinds that is written or beaten from now on.

        Nothing written after the context was entered is missed while the store is reachable.
        The iterator raises `StoreUnavailable` when the connection breaks.
        """

    async def lead(self, holder: str, *, ttl: timedelta) -> Fence | None:
        """Take or keep the leader's lease; None if another holds it.

        The token grows each time that the lease changes hands, and stays while it is kept.
        """

    async def resign(self, fence: Fence) -> None:
        """Give the lease back if `fence` still is the leader's."""

    async def apply(self, batch: Batch) -> int:
        """Add a batch exactly once, and return the position up to which `source` is applied.

        A batch that does not start at the applied position is ignored (the caller goes on from
        the position returned). A source never seen before starts wherever its batch starts.
        """

    async def position(self, source: str) -> int | None:
        """Return up to where `source` has been applied; None if it is unknown."""

    async def observe(self, outcomes: Sequence[OutcomeRecord]) -> list[Applied]:
        """Count outcomes, each (prediction, metric) once and each unit once per metric and stage.

        An outcome that comes after one of a later stage, of the same unit, is not counted: what
        the later one has revealed would make its variant no longer a matter of chance.
        """

    async def forget(self, experiment: ExperimentName) -> None:
        """Remove everything counted for an experiment, once it is of no use to anybody."""

    async def readings(self, experiment: ExperimentName) -> Readings:
        """Return everything counted for an experiment, as of one moment."""
