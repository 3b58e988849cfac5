"""The agent's process: what `serving.edge.agent` and `collector` do by steps, done forever.

Each loop lives through a store that is away. Anything unforeseen ends the process: whoever
supervises it starts it again, and nothing is lost by that.
"""

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from experiments.errors import StoreUnavailable
from experiments.store import Kind, Store
from serving.clock import Clock, utc_now
from serving.edge.agent import Agent, Runtime
from serving.edge.breakglass import Door, listen
from serving.edge.collector import Bounds, Collector
from serving.edge.config import EdgeFiles
from serving.edge.routebook import RouteBook
from serving.errors import UnusableEdgeFolder
from serving.settings import Settings

BEAT_SECONDS = 1.0
LOG_SECONDS = 0.1
"""Pause between two looks at the request log."""
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5)
STARTING_SECONDS = 0.1
"""Pause between two looks for a HAProxy that is not running."""
FLUSH_SECONDS = 2.0

_log = logging.getLogger(__name__)


async def run(
    settings: Settings,
    store: Store,
    runtime: Runtime,
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
    with _alone(folder):
        book = RouteBook(folder)
        collector = Collector(
            EdgeFiles(folder).log,
            edge=settings.edge_name,
            store=store,
            known=lambda: book.known,
            bounds=Bounds(log=settings.log_limit_bytes),
        )
        agent = Agent(
            settings.edge_name,
            book=book,
            store=store,
            runtime=runtime,
            lease=settings.edge_lease,
            now=now,
            progress=lambda: collector.progress,
            on_loss=collector.forget,
        )
        await agent.start()
        await _until(stop, Loops(agent, collector, store), folder)
        await _flush(collector)


class Loops:
    """What goes on side by side in an agent's process."""

    def __init__(self, agent: Agent, collector: Collector, store: Store) -> None:
        self.agent = agent
        self._collector = collector
        self._store = store
        self._away = False

    async def follow_routes(self) -> None:
        """Obey and acknowledge each route as it is written."""
        await self._through_outages(self._watch)

    async def beat(self) -> None:
        """Tell that this edge lives, and look for routes that were missed."""
        await self._through_outages(self._beat_once, pause=lambda: BEAT_SECONDS)

    async def mend(self) -> None:
        """Keep HAProxy's memory as it should be."""
        while True:
            await self.agent.mend()
            await asyncio.sleep(BEAT_SECONDS if self.agent.haproxy_up else STARTING_SECONDS)

    async def collect(self) -> None:
        """Turn log lines into evidence as they are written."""
        busy = False

        async def step() -> None:
            nonlocal busy
            busy = await self._collector.step()

        # A log without news is read without asking the store, so it proves nothing.
        await self._through_outages(
            step, pause=lambda: 0 if busy else LOG_SECONDS, proves_store=False
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
        if not self._away:
            self._away = True
            _log.warning("the store is away; routes stay as they are, the log waits: %s", error)

    def _is_back(self) -> None:
        if self._away:
            self._away = False
            _log.info("the store is back")


async def _until(stop: asyncio.Event, loops: Loops, folder: Path) -> None:
    door = Door(loops.agent)
    async with asyncio.TaskGroup() as group:
        opened = group.create_task(door.serve([listen(folder)]))
        working = [
            group.create_task(loop())
            for loop in (loops.follow_routes, loops.beat, loops.mend, loops.collect)
        ]
        await stop.wait()
        for task in working:
            task.cancel()
        door.should_exit = True
        await opened


async def _flush(collector: Collector) -> None:
    with suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            while await collector.step():
                pass


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second agent out of `folder`. The lock dies with the process."""
    lock = os.open(folder / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnusableEdgeFolder(f"another agent runs in {folder}") from error
        yield
    finally:
        os.close(lock)
