"""The request log into evidence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from experiments.store import Store
from registry.refs import ModelName
from serving.edge.aggregate import Aggregate, line_moment, line_number
from serving.edge.following import Bounds, LogFollower
from serving.edge.routebook import Known
from serving.edge.traffic import Traffic
from serving.lanes import is_lane


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the collector is; the counts are since it started.

    Args:
        lost_requests: Those that HAProxy has numbered, and that no line tells of.
        requests: Those seen by model, for models that have a route.
    """

    backlog_bytes: int = 0
    lost_bytes: int = 0
    lost_requests: int = 0
    requests_seen: int = 0
    malformed_lines: int = 0
    requests: Mapping[ModelName, int] = field(default_factory=dict)


class Collector(LogFollower[Aggregate]):
    """Follows one edge's request log and applies it to the store."""

    def __init__(
        self,
        path: Path,
        *,
        edge: str,
        store: Store,
        known: Callable[[], Known],
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__(path, edge=edge, store=store, known=known, bounds=bounds)
        self._progress = Progress()
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """How the requests that were counted were answered."""
        return self._traffic

    @property
    def progress(self) -> Progress:
        """Where the collector is now."""
        return replace(self._progress, backlog_bytes=self.backlog_bytes)

    def waiting_since(self) -> datetime | None:
        """Return when the oldest request was routed that is not in the store; None if all are."""
        routed_at = line_moment(self.oldest())
        return datetime.fromtimestamp(routed_at / 1000, UTC) if routed_at else None

    def _begin(self, known: Known) -> Aggregate:
        return Aggregate(known.watches, self._applied, after=self._after)

    def _number_of(self, line: bytes) -> int | None:
        return line_number(line)

    def _counted(self, counts: Aggregate) -> None:
        so_far = self._progress
        requests = dict(so_far.requests)
        routed = {model.encode(): model for model in self._known().routes}
        self._traffic.add(counts.answers(), [name for name in routed if not is_lane(routed[name])])
        for name, _, _, answers in counts.answers():
            if model := routed.get(name):
                requests[model] = requests.get(model, 0) + sum(answers.values())
        self._progress = Progress(
            lost_bytes=so_far.lost_bytes + counts.lost,
            lost_requests=so_far.lost_requests + counts.missing,
            requests_seen=so_far.requests_seen + counts.lines,
            malformed_lines=so_far.malformed_lines + counts.malformed,
            requests=requests,
        )
