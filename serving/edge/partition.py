"""What an edge serves while the store does not hear of it, and what it says of that."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from serving.edge.lease import Lease

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
