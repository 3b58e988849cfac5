"""In the place of an agent that is dead: what cannot wait until it has been started again.

A HAProxy lives on when its agent dies, and obeys what it was last told. An edge's folder has a lock
that dies with the agent, so whoever is on the same machine and gets it may do the agent's work for
a moment, with the agent's own code. What it leaves behind is what any agent leaves behind.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from experiments.store import Store
from serving.clock import Clock, utc_now
from serving.edge.agent import Agent
from serving.edge.config import EdgeFiles
from serving.edge.lock import alone
from serving.edge.routebook import RouteBook
from serving.edge.runtime import EdgeRuntime
from serving.errors import UnusableEdgeFolder
from serving.settings import Settings

_log = logging.getLogger(__name__)


@asynccontextmanager
async def in_place_of_the_agent(
    edge: Settings, store: Store, *, now: Clock = utc_now
) -> AsyncIterator[Agent]:
    """Be the agent of an edge that has none.

    Raises:
        UnusableEdgeFolder: it has one, or there is no such edge on this machine.
    """
    files = EdgeFiles(edge.edge_dir)
    async with alone(files.folder):
        agent = Agent(
            edge.edge_name,
            book=RouteBook(files.folder),
            store=store,
            runtime=EdgeRuntime(files.admin_socket),
            lease=edge.edge_lease,
            # One that serves no challenger while nobody hears of it goes on so until it has an
            # agent that watches over its lease.
            policy=edge.partition_policy,
            now=now,
        )
        await agent.start()
        yield agent


class StandIn:
    """Has edges of this machine obey the store, and say so, while they have no agent."""

    def __init__(self, edges: Sequence[Settings], store: Store, clock: Clock = utc_now) -> None:
        self._edges = edges
        self._store = store
        self._clock = clock

    async def __call__(self, names: Collection[str]) -> None:
        """Look after those of these edges that are here and have no agent.

        Raises:
            StoreUnavailable: they obey what they knew before.
        """
        mine = [edge for edge in self._edges if edge.edge_name in names]
        await asyncio.gather(*map(self._stand_in, mine))

    async def _stand_in(self, edge: Settings) -> None:
        try:
            async with in_place_of_the_agent(edge, self._store, now=self._clock) as agent:
                await agent.sync()
                await agent.beat()
                await agent.enrol()
        except UnusableEdgeFolder:
            return  # Its agent lives, or is just being started: then it is only slow.
        _log.warning("%s has no agent at the moment; it was told what to obey", edge.edge_name)
