"""What follows a change of traffic, and never precedes it: names and history in the registry.

While the registry is away nothing of this happens and nothing else waits for it; the next tick
makes up for it.
"""

from contextlib import suppress
from dataclasses import replace

from experiments.errors import StaleRevision
from experiments.model import BasisPoints
from experiments.store import Fence, Store
from registry import Aliases, Catalog
from registry.refs import ModelName, Version
from serving.clock import Clock
from serving.hosts import HostState, statuses
from serving.intent import CONTROLLER
from serving.lanes import is_lane
from serving.records import Held, Records
from serving.routes import Route
from serving.switch import Switch

FIRST = "The first version deployed."

ADOPT = "adopt"
"""What a receipt calls the beginning of a model's first route."""


class Bookkeeping:
    """Keeps the registry's names in line with the routes, one tick at a time."""

    def __init__(
        self, store: Store, records: Records, catalog: Catalog, switch: Switch, clock: Clock
    ) -> None:
        self._store = store
        self._records = records
        self._catalog = catalog
        self._switch = switch
        self._clock = clock
        # Epochs whose holdout the registry was seen to have: one read less at every tick.
        self._compared: dict[ModelName, int] = {}

    async def tick(self, fence: Fence) -> list[str]:
        """Adopt models that have no champion yet, and record what the routes say.

        Raises:
            CatalogUnavailable: the registry is away; routes stand as they are.
            StoreUnavailable: nothing can be observed.
            LeaseLost: another process leads now.
        """
        acted = await self._adopt(fence)
        for model, held in (await self._records.routes()).items():
            if not is_lane(model):  # The registry does not know lanes.
                acted += await self._record(held, fence)
        return acted

    async def _adopt(self, fence: Fence) -> list[str]:
        """Make a champion of a model that serves nothing yet: there is none it could replace."""
        routes = await self._records.routes()
        deployed: dict[ModelName, dict[Version, HostState]] = {}
        for ref, status in (await statuses(self._store)).items():
            if status.wanted and ref.model not in routes and not is_lane(ref.model):
                deployed.setdefault(ref.model, {})[ref.version] = status.state
        acted = []
        for model, states in deployed.items():
            aliases = await self._catalog.aliases(model)
            # The oldest, even if a newer one is hot first: which one wins must not be a race.
            champion = aliases.champion or min(states)
            if states.get(champion) is HostState.HOT:
                previous = aliases.previous if aliases.previous in states else None
                why = "The registry's champion." if aliases.champion else FIRST
                await self._begin(model, champion, previous, why, fence)
                acted.append(f"{model}: version {champion} is the champion. {why}")
        return acted

    async def _begin(
        self, model: ModelName, champion: Version, previous: Version | None, why: str, fence: Fence
    ) -> None:
        """Give the model its first route, or the first since every other was lost."""
        history = await self._catalog.history(model)
        # Beyond every epoch that the history has: it knows each change by its epoch.
        epoch = 1 + max((change.epoch for change in history), default=0)
        now = self._clock()
        receipt = await self._records.keep_act(
            ADOPT, (why,), model=model, by=CONTROLLER, at=now, route=None
        )
        holdout = BasisPoints(await self._catalog.holdout(model))
        route = Route(
            model,
            epoch,
            champion,
            previous,
            trials=(),
            by=CONTROLLER,
            why=why,
            at=now,
            receipt=receipt,
            holdout=holdout,
        )
        if history and history[-1].after == champion:
            await self._records.write_route(route, expected=0, fence=fence)
            return

        async def change(found: Route | None) -> Route:
            return found or route

        await self._switch.change(model, change, fence=fence)

    async def _record(self, held: Held[Route], fence: Fence) -> list[str]:
        route = held.value
        acted = []
        for change in route.unrecorded:
            await self._catalog.record(change)
            acted.append(f"{route.model}: history has epoch {change.epoch}")
        wanted = Aliases(
            champion=route.champion,
            challenger=_challenger(route),
            previous=route.previous,
        )
        if await self._catalog.aliases(route.model) != wanted:
            await self._catalog.set_aliases(route.model, wanted)
            acted.append(f"{route.model}: registry names follow epoch {route.epoch}")
        if self._compared.get(route.model) != route.epoch:
            if await self._catalog.holdout(route.model) != route.holdout:
                await self._catalog.set_holdout(route.model, route.holdout)
                acted.append(f"{route.model}: the registry has the holdout of epoch {route.epoch}")
            self._compared[route.model] = route.epoch
        if route.unrecorded:
            # If the route has moved on, recording twice is recording once.
            with suppress(StaleRevision):
                await self._records.write_route(
                    replace(route, unrecorded=()), expected=held.revision, fence=fence
                )
        return acted


def _challenger(route: Route) -> Version | None:
    """Return the version that the registry calls the challenger: it has one name for all.

    In a holdback there is none: who is watched is the champion.
    """
    return next((version for version in route.active if version != route.champion), None)
