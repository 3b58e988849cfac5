"""Changing a route: a new epoch in the store, and every live edge's word that it obeys.

This is the one way in which traffic moves, for the controller, the API and a person alike, and the
one place in which the time that it takes is measured.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
)
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import count
from time import monotonic
from typing import Any, Final, TypeVar

from experiments.errors import StaleRevision
from experiments.experiment import Experiment
from experiments.store import Fence, Kind, Store, Write
from registry import ChampionChange
from registry.errors import UnknownModel
from registry.refs import ModelName
from serving.acknowledgement import Word
from serving.intent import wanted_route
from serving.lanes import is_lane
from serving.records import Held, Records, route_write
from serving.routes import Route
from serving.settings import EDGE_PATIENCE

T = TypeVar("T")
U = TypeVar("U")

ATTEMPTS: Final = 5
"""Times that a change is tried again when somebody else changed the route in between."""

PATIENCE: Final = EDGE_PATIENCE.total_seconds()
"""Seconds to wait for edges. A dead edge's report has expired by then, as no lease is longer, so
nobody waits for it."""

LEASE: Final = EDGE_PATIENCE

AT_ONCE: Final = 0.05
"""Seconds after which an edge that has said nothing is worth a look: others take a few ms."""

LOOK: Final = 0.25
"""Seconds between two looks at who is alive, while nobody says anything."""

STAND_IN_WITHIN: Final = 1.0
"""Seconds that are spent on edges which nobody waits for any more."""


@dataclass(frozen=True, slots=True)
class Switched:
    """A route that was changed.

    Args:
        acknowledged: Milliseconds from the start of the command to the word of each edge that has
            applied it.
        silent: Edges that were alive, have not said so in time, and may serve the old route.
        lost: Edges whose lease is over, and that nobody waits for: they had vanished before, or
            have fenced themselves meanwhile.
        milliseconds: From the start of the command to the last acknowledgement.
        waited: Milliseconds until nobody was waited for any more, the silent and lost included.
    """

    before: Route | None
    after: Route
    acknowledged: Mapping[str, float]
    silent: tuple[str, ...]
    lost: tuple[str, ...]
    milliseconds: float
    waited: float

    @property
    def obeyed(self) -> tuple[str, ...]:
        """The edges that have applied it, by name."""
        return tuple(sorted(self.acknowledged))

    @property
    def changed(self) -> bool:
        return self.before is None or self.before.epoch != self.after.epoch


StandIn = Callable[[Collection[str]], Awaitable[None]]
"""Does what the agents of these edges would, where that can be done from here and they are dead."""


async def nobody_stands_in(edges: Collection[str]) -> None:
    """Leave it to the agents."""


@dataclass(frozen=True, slots=True)
class Move:
    """A route as it is to be, and what is written with it: all of that, or nothing.

    Args:
        before: The route as it was read; None if the model has none.
        after: The route one epoch on; or as it is, to change nothing.
        beside: Other documents, each with the revision that was read.
    """

    before: Held[Route] | None
    after: Route
    beside: tuple[Write, ...] = ()

    @property
    def route(self) -> Route | None:
        """The route as it stands."""
        return self.before.value if self.before else None

    @property
    def writes(self) -> tuple[Write, ...]:
        """Everything that is to be written."""
        after = _with_history(self.route, self.after)
        return (
            route_write(after, expected=self.before.revision if self.before else 0),
            *self.beside,
        )


Planning = Callable[[], Awaitable[Move]]
"""Reads what there is and says what is to be. It is asked again if others were quicker."""

Change = Callable[[Route | None], Awaitable[Route]]
"""Given the route as it stands, return it one epoch on; or return it as it is to change nothing."""


class Switch:
    """Publishes routes and waits until they are obeyed.

    Args:
        patience: Seconds to wait for edges.
        lease: How long an edge's heartbeat counts.
        stand_in: Tried for edges that say nothing.
    """

    def __init__(
        self,
        store: Store,
        records: Records,
        *,
        patience: float = PATIENCE,
        lease: timedelta = LEASE,
        stand_in: StandIn = nobody_stands_in,
    ) -> None:
        self._store = store
        self._records = records
        self._patience = patience
        self._lease = lease
        self._stand_in = stand_in

    async def change(
        self,
        model: ModelName,
        change: Change,
        *,
        fence: Fence | None = None,
    ) -> Switched:
        """Change the route of `model` and wait for every live edge.

        Raises:
            StaleRevision, LeaseLost, StoreUnavailable: as for `carry_out`.
        """

        async def plan() -> Move:
            held = await self._records.route_if_any(model)
            return Move(held, await change(held.value if held else None))

        return await self.carry_out(plan, fence=fence)

    async def carry_out(
        self, plan: Planning, *, fence: Fence | None = None, began: float | None = None
    ) -> Switched:
        """Change a route, with all that belongs to it, and wait for every live edge.

        Args:
            began: When the command came, by the monotonic clock; by default now.

        Raises:
            StaleRevision: others kept changing it at the same time.
            LeaseLost: `fence` is no longer the leader's.
            StoreUnavailable: nothing was changed, or the acknowledgements cannot be read.
        """
        began = monotonic() if began is None else began
        async with AsyncExitStack() as stack:
            # Whoever answers the write has to be heard, so this is subscribed before it; but it
            # waits for the store beside what is read there, not after it.
            watching = stack.enter_async_context(self._store.watch(Kind.EDGE))
            move, reports = await _both(plan(), watching)
            move = await self._publish(move, plan, fence)
            before, after = move.route, move.after
            edges, enrolled = await _both(self._records.edges(), self._records.enrolled())
            word = Word(before, after, began, edges)
            if word.lost_of(enrolled) and await self._store.age() < self._lease:
                # Nobody was heard because there was nobody to hear it.
                word.expect(enrolled)
            # What was changed before has been waited for: then this is a look, at every tick.
            if after != before:
                await self._wait(word, reports)
        if after != before:
            await self._look_after(word.lost_of(enrolled), word)
        waited = (monotonic() - began) * 1000
        last = max(word.acknowledged.values(), default=waited)
        lost = word.lost_of(enrolled)
        return Switched(before, after, word.acknowledged, word.silent, lost, last, waited)

    async def _wait(self, word: Word, reports: AsyncIterator[tuple[Kind, str]]) -> None:
        """Wait until no live edge is silent, or patience is over."""
        ends, pause = monotonic() + self._patience, AT_ONCE
        news = asyncio.ensure_future(anext(reports))
        standing_in: asyncio.Future[None] | None = None
        try:
            while word.pending and (left := ends - monotonic()) > 0:
                # Without news, look again at who is alive: an edge may have died.
                await asyncio.wait({news}, timeout=min(left, pause))
                if news.done():
                    news.result()
                    news = asyncio.ensure_future(anext(reports))
                elif standing_in is None or standing_in.done():
                    standing_in, pause = asyncio.ensure_future(self._stand_in(word.pending)), LOOK
                word.hear(await self._records.edges())
        finally:
            await _cancelled(news)
            if standing_in is not None:
                await _cancelled(standing_in)

    async def _look_after(self, lost: Collection[str], word: Word) -> None:
        """Try to have edges obey that nobody waits for."""
        if lost:
            with suppress(TimeoutError):
                async with asyncio.timeout(STAND_IN_WITHIN):
                    await self._stand_in(lost)
            word.hear(await self._records.edges())

    async def settle(
        self, experiment: Experiment, *, by: str, at: datetime, fence: Fence | None = None
    ) -> Switched:
        """Bring the route into line with what the experiment's state asks for.

        Raises:
            UnknownModel: the model has lost its route; the controller rebuilds it.
            StaleRevision, LeaseLost, StoreUnavailable: as for `change`.
        """
        declaration = experiment.declaration

        async def change(route: Route | None) -> Route:
            if route is None:
                raise UnknownModel(f"{declaration.model} has lost its route.")
            # Read after the route. Whoever ends the experiment writes it with the route, or before
            # it, so either this sees the end, or the route is not the one read any more.
            latest = (await self._records.experiment(declaration.name)).value
            return wanted_route(route, latest, by=by, at=at)

        return await self.change(declaration.model, change, fence=fence)

    async def _publish(self, move: Move, plan: Planning, fence: Fence | None) -> Move:
        """Write what is planned; if others were quicker, plan anew from what they have written."""
        for attempt in count(1):
            if move.after == move.route:
                break
            try:
                await self._store.write_all(move.writes, fence=fence)
            except StaleRevision as error:
                if attempt == ATTEMPTS:
                    model = move.after.model
                    raise StaleRevision(f"{model} kept changing: {error.message}") from error
                move = await plan()
            else:
                break
        return move


def _with_history(before: Route | None, after: Route) -> Route:
    """Have the change of champion, and those before it, recorded once the registry answers."""
    if is_lane(after.model):
        return after  # The registry does not know it.
    waiting = before.unrecorded if before else ()
    if before is not None and before.champion == after.champion:
        return replace(after, unrecorded=waiting)
    change = ChampionChange(
        model=after.model,
        epoch=after.epoch,
        before=before.champion if before else None,
        after=after.champion,
        by=after.by,
        why=after.why,
        at=after.at,
    )
    return replace(after, unrecorded=(*waiting, change))


async def _both(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    """Wait for both at once. If one fails, the other is over too when that is raised."""
    found, beside = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(found, BaseException):
        raise found
    if isinstance(beside, BaseException):
        raise beside
    return found, beside


async def _cancelled(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # Retrieved, so that a broken connection is not reported a second time.
