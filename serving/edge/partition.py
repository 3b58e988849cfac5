"""What an edge serves while the store does not hear of it, and what it says of that."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from serving.edge.haproxy import Runtime
from serving.edge.lease import AHEAD, Lease
from serving.errors import EdgeUnavailable

_log = logging.getLogger(__name__)


class PartitionPolicy(StrEnum):
    """What an edge serves while it is cut off from the store."""

    KEEP = "keep"
    """The routes that it knows."""
    CHAMPION = "champion"
    """The control alone: no challenger meets anybody."""


_SERVED = {
    PartitionPolicy.KEEP: "the routes stay as they are",
    PartitionPolicy.CHAMPION: "no challenger meets anybody here until it has",
}


@dataclass(frozen=True, slots=True)
class CutOff:
    """A time for which the store did not hear of an edge for longer than the edge's lease.

    Args:
        until: None while it lasts.
    """

    since: datetime
    until: datetime | None


class Fence:
    """HAProxy's own end of the lease, for an agent that hangs cannot tell it to stop.

    HAProxy counts from a moment before the heartbeat was sent, by its own clocks: so its end is no
    later than the agent's, however long either of them was held up.
    """

    def __init__(self, partition: "Partition", runtime: Runtime) -> None:
        self._lease = partition.lease
        self._is_needed = partition.policy is PartitionPolicy.CHAMPION
        self._runtime = runtime
        self._since = ""

    async def begin(self) -> None:
        """Where none is needed, take away what an agent with another policy has put up."""
        if not self._is_needed:
            with suppress(EdgeUnavailable):
                await self._runtime.let_meet_for_ever()

    async def moment(self) -> str:
        """Return HAProxy's moment, for `heard`; nothing if it does not say."""
        if self._is_needed:
            # A HAProxy that hangs serves nobody; it may not keep the heartbeat.
            with suppress(EdgeUnavailable, TimeoutError):
                async with asyncio.timeout(self._lease.length * AHEAD):
                    return await self._runtime.moment()
        return ""

    async def heard(self, since: str) -> None:
        """Note that a heartbeat sent after `since` has arrived."""
        self._since = since
        await self.put_off()

    async def put_off(self) -> None:
        """Let HAProxy go on with challengers until the lease ends, if no route can be missed."""
        if self._since and self._lease.is_waited_for:
            with suppress(EdgeUnavailable, TimeoutError):
                async with asyncio.timeout(self._lease.length * AHEAD):
                    await self._runtime.let_meet(self._since, self._lease.length)


class Partition:
    """An edge's lease, and what follows from it.

    Attributes:
        lease: Renewed by heartbeats.
        policy: What was declared.
        cut_off: The last time that the lease was over; None if it never was.
        cut_offs: How often it was.
    """

    def __init__(self, lease: Lease, policy: PartitionPolicy, now: Callable[[], datetime]) -> None:
        self.lease = lease
        self.policy = policy
        self.cut_off: CutOff | None = None
        self.cut_offs = 0
        self._now = now

    @property
    def is_cut_off(self) -> bool:
        return self.cut_off is not None and self.cut_off.until is None

    @property
    def is_fenced(self) -> bool:
        """Whether no challenger may meet anybody now.

        So it is when the agent starts: whoever was agent before may have been cut off for long.
        """
        return self.policy is PartitionPolicy.CHAMPION and not self.lease.is_waited_for

    def look(self) -> None:
        """Note, and say, when the lease has ended and when it runs again."""
        over = self.lease.is_over
        if over and not self.is_cut_off:
            self.cut_off = CutOff(self._now(), None)
            self.cut_offs += 1
            _log.warning("cut off: the store has not heard of this edge; %s", _SERVED[self.policy])
        elif not over and self.is_cut_off and self.cut_off is not None:
            self.cut_off = replace(self.cut_off, until=self._now())
            _log.info("no longer cut off; it was since %s", self.cut_off.since)
