"""Changing a route: a new epoch in the store, and every live edge's word that it obeys.

This is the one way in which traffic moves, for the controller, the API and a person alike, and the
one place in which the time that it takes is measured.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Final

from experiments.errors import StaleRevision
from experiments.experiment import Experiment
from experiments.store import Fence, Kind, Store
from registry import ChampionChange
from registry.errors import UnknownModel
from registry.refs import ModelName
from serving.intent import wanted_route
from serving.records import Held, Records
from serving.routes import Route

ATTEMPTS: Final = 5
"""Times that a change is tried again when somebody else changed the route in between."""

PATIENCE: Final = 3.0
"""Seconds to wait for edges. A dead edge's report has expired by then, so nobody waits for it."""


@dataclass(frozen=True, slots=True)
class Switched:
    """A route that was changed.

    Args:
        obeyed: Edges that have applied it.
        silent: Live edges that have not said so in time.
        milliseconds: From the start of the command to the last acknowledgement.
    """

    before: Route | None
    after: Route
    obeyed: tuple[str, ...]
    silent: tuple[str, ...]
    milliseconds: float

    @property
    def changed(self) -> bool:
        return self.before is None or self.before.epoch != self.after.epoch


Change = Callable[[Route | None], Awaitable[Route]]
"""Given the route as it stands, return it one epoch on; or return it as it is to change nothing."""


class Switch:
    """Publishes routes and waits until they are obeyed.

    Args:
        patience: Seconds to wait for edges.
    """

    def __init__(self, store: Store, records: Records, *, patience: float = PATIENCE) -> None:
        self._store = store
        self._records = records
        self._patience = patience

    async def change(
        self, model: ModelName, change: Change, *, fence: Fence | None = None
    ) -> Switched:
        """Change the route of `model` and wait for every live edge.

        Raises:
            StaleRevision: others kept changing it at the same time.
            LeaseLost: `fence` is no longer the leader's.
            StoreUnavailable: nothing was changed, or the acknowledgements cannot be read.
        """
        began = monotonic()
        async with self._store.watch(Kind.EDGE) as reports:
            before, after = await self._publish(model, change, fence)
            obeyed, silent = await self._acknowledged(model, after.epoch)
            news = asyncio.ensure_future(anext(reports))
            try:
                # What was changed before has been waited for: then this is a look, at every tick.
                while (
                    silent
                    and after != before
                    and (left := self._patience - (monotonic() - began)) > 0
                ):
                    # Without news, look again at who is alive: an edge may have died.
                    await asyncio.wait({news}, timeout=min(left, 0.5))
                    if news.done():
                        news.result()
                        news = asyncio.ensure_future(anext(reports))
                    obeyed, silent = await self._acknowledged(model, after.epoch)
            finally:
                await _cancelled(news)
        return Switched(before, after, obeyed, silent, (monotonic() - began) * 1000)

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
            # Read after the route. Whoever ends the experiment writes it first and the route
            # second, so either this sees the end, or the route is not the one read any more.
            latest = (await self._records.experiment(declaration.name)).value
            return wanted_route(route, latest, by=by, at=at)

        return await self.change(declaration.model, change, fence=fence)

    async def _publish(
        self, model: ModelName, change: Change, fence: Fence | None
    ) -> tuple[Route | None, Route]:
        for attempt in range(ATTEMPTS):
            held = await self._held(model)
            before = held.value if held else None
            after = await change(before)
            if after == before:
                return before, after
            after = _with_history(before, after)
            expected = held.revision if held else 0
            try:
                await self._records.write_route(after, expected=expected, fence=fence)
            except StaleRevision:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return before, after
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _held(self, model: ModelName) -> Held[Route] | None:
        try:
            return await self._records.route(model)
        except UnknownModel:
            return None

    async def _acknowledged(
        self, model: ModelName, epoch: int
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        reports = await self._records.edges()
        obeyed = tuple(r.edge for r in reports if r.epochs.get(model, 0) >= epoch)
        return obeyed, tuple(r.edge for r in reports if r.edge not in obeyed)


def _with_history(before: Route | None, after: Route) -> Route:
    """Have the change of champion, and those before it, recorded once the registry answers."""
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


async def _cancelled(task: asyncio.Future[tuple[Kind, str]]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()  # Retrieved, so that a broken connection is not reported a second time.
