"""Rollback drills: how long going back takes on every live edge, tried out where no user is.

A drill flips the route of a lane to another version and rolls it back, again and again, through
`Rollback` itself: the same reads, receipt, route, acknowledgements and clock as in earnest. The
lane needs no hosts, because nobody asks it anything.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from experiments.codec import decode, encode
from experiments.errors import StoreUnavailable
from experiments.store import ANY, Kind, Store
from registry.errors import TiltyardError
from registry.refs import ModelName, Version
from serving.break_glass import Order
from serving.clock import Clock
from serving.drill import Drill, Tally
from serving.errors import UnknownDrill, UnknownLane
from serving.lane_keeper import LaneKeeper
from serving.lanes import DRILL, STAND_IN, Lane
from serving.rollback import Rollback
from serving.routes import Route
from serving.switch import Switch

KEPT: Final = 20
"""Drills of a model that are remembered."""

BREATH: Final = 0.02
"""Seconds between two flips: rollbacks in earnest come one at a time."""

TOLD_EVERY: Final = 0.5
"""Seconds between two words on how far a drill is."""

RENEWED_EVERY: Final = 10.0
"""Seconds between two renewals of the lane: a fraction of its lease."""

GIVEN_UP: Final = 10
"""Failures in a row after which a drill ends: it will not get better by itself."""

OTHER: Final = Version(2)
"""What the lane is flipped to, and rolled back from. There is no such host."""

log = logging.getLogger(__name__)


class Drills:
    """Carries drills out, one of a model at a time, and remembers them.

    Args:
        observe: Told the seconds of each rollback; None of one that failed.
    """

    def __init__(
        self,
        store: Store,
        lanes: LaneKeeper,
        switch: Switch,
        rollback: Rollback,
        clock: Clock,
        *,
        observe: Callable[[float | None], None] = lambda _: None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._switch = switch
        self._rollback = rollback
        self._clock = clock
        self._observe = observe
        self._pause = pause
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, model: ModelName, times: int, *, by: str) -> Drill:
        """Begin a drill; it goes on by itself.

        Raises:
            UnknownModel: the model serves no traffic.
            LaneTaken: a drill of it is going on.
            StoreUnavailable: nothing was begun.
        """
        holder, now = secrets.token_hex(4), self._clock()
        lane = await self._lanes.hold(model, DRILL, holder=holder, by=by)
        drill = Drill(model, holder, by, now, now, times)
        await self._remember(drill)
        task = asyncio.create_task(self._carry_out(drill, lane))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return drill

    async def all(self, model: ModelName) -> tuple[Drill, ...]:
        """Return the drills of a model, the latest first.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        stored = await self._store.read(Kind.DRILL, model)
        return () if stored is None else decode(tuple[Drill, ...], stored.body)

    async def last(self, model: ModelName) -> Drill:
        """Return the latest drill of a model.

        Raises:
            UnknownDrill: there was none.
            StoreUnavailable: it cannot be read.
        """
        drills = await self.all(model)
        if not drills:
            raise UnknownDrill(f"There was no drill of {model!r} yet.")
        return drills[0]

    async def close(self) -> None:
        """End what is going on."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _carry_out(self, drill: Drill, lane: Lane) -> None:
        tally = Tally()
        told = renewed = monotonic()
        try:
            while tally.done < drill.times and tally.in_a_row < GIVEN_UP:
                await self._flip(lane, tally)
                await self._pause(BREATH)
                if monotonic() - renewed > RENEWED_EVERY:
                    renewed = monotonic()
                    await self._lanes.hold(drill.model, DRILL, holder=drill.holder, by=drill.by)
                if monotonic() - told > TOLD_EVERY:
                    told = monotonic()
                    await self._remember(tally.on(drill, self._clock()))
        except TiltyardError as error:
            log.warning("a drill of %s cannot go on: %s", drill.model, error)
            tally.failures[f"it could not go on: {error.message}"] += 1
        ended = replace(
            tally.on(drill, self._clock()),
            ended_at=self._clock(),
            milliseconds=tuple(round(each, 3) for each in tally.total),
        )
        try:
            await self._remember(ended)
            await self._lanes.end(lane)
        except StoreUnavailable as error:
            log.warning("what a drill of %s has shown is lost: %s", drill.model, error)

    async def _flip(self, lane: Lane, tally: Tally) -> None:
        """Flip the lane, roll it back, and leave nothing behind of that but its time."""
        order = Order(lane.model, lane.by, "A drill.", force=True)
        try:
            await self._switch.change(lane.model, self._forth(lane))
            done = await self._rollback(order)
        except TiltyardError as error:
            tally.fail(f"{error.code}: {error.message}")
            self._observe(None)
            return
        tally.add(done)
        self._observe(None if done.silent or not done.edges else done.milliseconds / 1000)
        if done.receipt is not None:
            # Written as in earnest; but of a drill it is the times that are kept.
            await self._store.delete(Kind.RECEIPT, done.receipt)

    def _forth(self, lane: Lane) -> Callable[[Route | None], Awaitable[Route]]:
        async def change(route: Route | None) -> Route:
            if route is None:
                raise UnknownLane(f"The lane {lane.model} is gone.")
            return replace(
                route,
                epoch=route.epoch + 1,
                champion=OTHER,
                previous=STAND_IN,
                by=lane.by,
                why="A drill.",
                at=self._clock(),
            )

        return change

    async def _remember(self, drill: Drill) -> None:
        others: Sequence[Drill] = await self.all(drill.model)
        before = [replace(each, milliseconds=()) for each in others if each.holder != drill.holder]
        drills = (drill, *before[: KEPT - 1])
        body = encode(tuple[Drill, ...], drills)
        await self._store.write(Kind.DRILL, drill.model, body, expected=ANY)
