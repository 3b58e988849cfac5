"""The agent's process: what `serving.edge.agent` and `collector` do by steps, done forever.

Each loop lives through a store that is away. Anything unforeseen ends the process: whoever
supervises it starts it again, and nothing is lost by that.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from experiments.errors import StoreUnavailable
from experiments.store import Kind, Store
from serving.clock import Clock, utc_now
from serving.edge.agent import Agent
from serving.edge.breakglass import Door
from serving.edge.collector import Collector
from serving.edge.config import EdgeFiles
from serving.edge.exposition import CountsIncidents, exposition
from serving.edge.following import Bounds
from serving.edge.haproxy import Runtime
from serving.edge.listening import listen
from serving.edge.lock import alone
from serving.edge.pairs import PairsCollector
from serving.edge.routebook import RouteBook
from serving.settings import Settings

BEAT_SECONDS = 1.0
BEATS_A_LEASE = 3
"""At least: one that is late ends no lease."""
LOG_SECONDS = 0.1
"""Pause between two looks at a log,"""
BEHIND_BYTES = 256 * 1024
"""unless so much of it waits to be counted."""
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5)
STARTING_SECONDS = 0.1
"""Pause between two looks for a HAProxy that is not running."""
LEASE_SECONDS = 0.05
"""Least pause between two looks at a lease that is over."""
FLUSH_SECONDS = 2.0
LOCK_SECONDS = 0.5
"""For how long somebody may stand in for this agent before another must be running."""

_log = logging.getLogger(__name__)


class WatchedRuntime(Runtime, CountsIncidents, Protocol):
    """All that an agent's process asks HAProxy for."""


async def run(
    settings: Settings,
    store: Store,
    runtime: WatchedRuntime,
    *,
    stop: asyncio.Event,
    now: Clock = utc_now,
) -> None:
    """Be the agent of one edge until `stop` is set, then count what the log still holds.

    Raises:
        UnusableEdgeFolder: the folder cannot be used, or another agent uses it.
    """
    folder = settings.edge_dir
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with alone(folder, patience=LOCK_SECONDS):
        book = RouteBook(folder)
        collector = Collector(
            EdgeFiles(folder).log,
            edge=settings.edge_name,
            store=store,
            known=lambda: book.known,
            bounds=Bounds(log=settings.log_limit_bytes),
            made=runtime.made,
        )
        pairs = PairsCollector(
            EdgeFiles(folder).pairs,
            edge=settings.edge_name,
            store=store,
            known=lambda: book.known,
            bounds=Bounds(log=settings.log_limit_bytes),
        )
        logs = (collector, pairs)

        def forget() -> None:
            for log in logs:
                log.forget()

        agent = Agent(
            settings.edge_name,
            book=book,
            store=store,
            runtime=runtime,
            lease=settings.edge_lease,
            policy=settings.partition_policy,
            now=now,
            progress=lambda: collector.progress,
            on_loss=forget,
        )
        await agent.start()
        loops = Loops(agent, logs, store)
        door = Door(agent, lambda: exposition(agent, collector, pairs.progress, runtime, now()))
        await _until(stop, loops, door, settings.agent_socket)
        collector.ask_again()
        for log in logs:
            await _flush(log)
        with suppress(StoreUnavailable):
            await agent.leave()


class Log(Protocol):
    """What an edge has written down, on its way into the store."""

    @property
    def backlog_bytes(self) -> int:
        """How much of it is not there yet."""

    async def step(self) -> bool:
        """Take a part of it there; return whether there was any.

        Raises:
            StoreUnavailable: nothing is lost; it is to be tried again.
        """


class Loops:
    """What goes on side by side in an agent's process."""

    def __init__(self, agent: Agent, logs: Sequence[Log], store: Store) -> None:
        self.agent = agent
        self.logs = logs
        self._store = store
        self._away = False

    async def follow_routes(self) -> None:
        """Obey and acknowledge each route as it is written."""
        await self._through_outages(self._watch)

    async def beat(self) -> None:
        """Tell that this edge lives, and look for routes that were missed."""
        pause = min(BEAT_SECONDS, self.agent.lease.length / BEATS_A_LEASE)
        await self._through_outages(self._beat_and_enrol, pause=lambda: pause)

    async def mend(self) -> None:
        """Keep HAProxy's memory as it should be."""
        while True:
            await self.agent.mend()
            await asyncio.sleep(BEAT_SECONDS if self.agent.haproxy_up else STARTING_SECONDS)

    async def heed_lease(self) -> None:
        """Act on the end of the lease when it ends, not when the store is next asked in vain."""
        while True:
            await asyncio.sleep(max(self.agent.lease.remaining, LEASE_SECONDS))
            await self.agent.heed_lease()

    async def collect(self, log: Log) -> None:
        """Turn a log's lines into evidence, many at a time: a batch costs more than its lines."""
        # A log without news is read without asking the store, so it proves nothing.
        await self._through_outages(
            log.step,
            pause=lambda: 0 if log.backlog_bytes > BEHIND_BYTES else LOG_SECONDS,
            proves_store=False,
        )

    async def _watch(self) -> None:
        async with self._store.watch(Kind.ROUTE) as changes:
            await self._beat_once()
            self._is_back()
            async for _, name in changes:
                if await self.agent.pull(name):
                    await self.agent.beat()

    async def _beat_once(self) -> None:
        await self.agent.sync()
        await self.agent.beat()
        if not self.agent.lease.is_waited_for:
            await self.agent.sync()

    async def _beat_and_enrol(self) -> None:
        await self._beat_once()
        # Apart from the heartbeat, because the disk is waited for.
        await self.agent.enrol()

    async def _through_outages(
        self,
        step: Callable[[], Awaitable[object]],
        pause: Callable[[], float] = lambda: RETRY_SECONDS[0],
        *,
        proves_store: bool = True,
    ) -> None:
        tries = 0
        while True:
            try:
                await step()
            except StoreUnavailable as error:
                self._is_away(error)
                wait = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)]
                tries += 1
            else:
                if proves_store:
                    self._is_back()
                tries = 0
                wait = pause()
            await asyncio.sleep(wait)

    def _is_away(self, error: StoreUnavailable) -> None:
        self.agent.miss_store(error.message)
        if not self._away:
            self._away = True
            _log.warning("the store is away; routes stay as they are, the log waits: %s", error)

    def _is_back(self) -> None:
        if self._away:
            self._away = False
            _log.info("the store is back")


async def _until(stop: asyncio.Event, loops: Loops, door: Door, socket: Path) -> None:
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(door.serve([listen(socket)]))
        endless: list[Callable[[], Coroutine[Any, Any, None]]] = [
            loops.follow_routes,
            loops.beat,
            loops.mend,
            loops.heed_lease,
            *(partial(loops.collect, log) for log in loops.logs),
        ]
        working = [group.create_task(loop()) for loop in endless]
        await stop.wait()
        for task in working:
            task.cancel()
        door.should_exit = True
        await opened


async def _flush(log: Log) -> None:
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            while await log.step():
                pass
