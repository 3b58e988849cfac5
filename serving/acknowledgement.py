"""What edges say of a route that was changed: who obeys it since when, and who may not."""

from collections.abc import Iterable
from time import monotonic

from serving.edge.partition import PartitionPolicy
from serving.edge.report import EdgeReport
from serving.routes import Route


class Word:
    """What edges have said of a route so far.

    Attributes:
        acknowledged: Milliseconds from the start of the command until an edge was heard to obey.
        pending: Edges that are alive, or may well be, and were not.
    """

    def __init__(
        self, before: Route | None, after: Route, began: float, reports: Iterable[EdgeReport]
    ) -> None:
        self._route = after
        # An edge that is cut off knows of no other control, but it can do without challengers.
        self._fences_help = before is not None and before.control == after.control
        self._began = began
        self._met: set[str] = set()
        self._alive: set[str] = set()
        self._expected: set[str] = set()
        self._fencing: set[str] = set()
        self.acknowledged: dict[str, float] = {}
        self.pending: tuple[str, ...] = ()
        self.hear(reports)

    def hear(self, reports: Iterable[EdgeReport]) -> None:
        """Take note of what every live edge says now."""
        milliseconds = (monotonic() - self._began) * 1000
        self._alive = set()
        for report in reports:
            self._alive.add(report.edge)
            if report.epochs.get(self._route.model, 0) >= self._route.epoch:
                self.acknowledged.setdefault(report.edge, milliseconds)
            if report.policy is PartitionPolicy.CHAMPION:
                self._fencing.add(report.edge)
        self._met |= self._alive
        self._look()

    def expect(self, edges: Iterable[str]) -> None:
        """Take these for alive, heard or not."""
        self._expected |= set(edges)
        self._met |= self._expected
        self._look()

    def _look(self) -> None:
        self.pending = tuple(sorted((self._alive | self._expected) - self.acknowledged.keys()))

    @property
    def silent(self) -> tuple[str, ...]:
        """Edges that were alive at any time since, and may serve the old route."""
        return tuple(sorted(self._met - self.acknowledged.keys() - self._fenced))

    @property
    def _fenced(self) -> set[str]:
        """Edges that serve no challenger any more, because their lease is over."""
        return self._fencing - self._alive - self._expected if self._fences_help else set()

    def lost_of(self, enrolled: Iterable[str]) -> tuple[str, ...]:
        """Return the edges that nobody waits for: not there at any time since, or fenced."""
        vanished = set(enrolled) - self._met
        return tuple(sorted((vanished | self._fenced) - self.acknowledged.keys()))
