"""Whether the store counts this edge among the living, by the edge's own clock.

Whoever rolls back waits for every edge that lives. So an edge may serve a challenger as long as it
is waited for: while its lease runs, and after a break only once it has read the routes again
*after* a heartbeat has arrived. What was written before that heartbeat it has read then; for what
is written later it is waited for.
"""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic

AHEAD = 0.1
"""Share of the lease that is left when it counts as over: HAProxy has to be told in time."""


class Lease:
    """Runs from before each heartbeat is sent, so it ends here before it ends in the store.

    Args:
        length: What the store is told at each heartbeat.
        clock: Seconds, by a clock that is never set.
    """

    def __init__(self, length: timedelta, *, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._length = length.total_seconds() * (1 - AHEAD)
        self._ends = clock() + self._length
        self._lives_since: float | None = None
        self._read = False

    @property
    def length(self) -> float:
        """Seconds."""
        return self._length

    @property
    def remaining(self) -> float:
        """Seconds until it is over; not above 0 if it is."""
        return self._ends - self._clock()

    @property
    def is_over(self) -> bool:
        return self.remaining <= 0

    @property
    def is_waited_for(self) -> bool:
        """Whether no route can have been changed without this edge knowing, or being waited for."""
        return self._read and not self.is_over

    def now(self) -> float:
        """Return the moment, to be handed back in `heard` and `has_read`."""
        return self._clock()

    def heard(self, sent: float) -> None:
        """Note that a heartbeat sent at `sent` has arrived."""
        if self._lives_since is None or self.is_over:
            self._lives_since, self._read = self._clock(), False
        self._ends = max(self._ends, sent + self._length)

    def has_read(self, began: float) -> None:
        """Note that every route was read, beginning at `began`."""
        if self._lives_since is not None and began >= self._lives_since:
            self._read = True
