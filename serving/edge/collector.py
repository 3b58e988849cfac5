"""The request log into evidence.

The numbers in the lines tell which are missing between two others. Which are missing at the end,
because nothing can be written any more, HAProxy tells: it counts the lines that it makes.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from time import monotonic

from experiments.evidence import LOST_REQUESTS
from experiments.store import Batch, Store
from registry.refs import ModelName
from serving.edge.aggregate import Aggregate, charged, line_moment, line_number
from serving.edge.following import Bounds, LogFollower, on_trial
from serving.edge.haproxy import Made
from serving.edge.requestlog import RequestLog
from serving.edge.routebook import Known
from serving.edge.traffic import Traffic
from serving.errors import EdgeUnavailable
from serving.lanes import is_lane

ASK_SECONDS = 1.0
"""How often HAProxy is asked how many lines it has made."""


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
    """Follows one edge's request log and applies it to the store.

    Args:
        made: Asks HAProxy for the lines that it has made. By default nobody is asked, and missing
            lines count once another follows.
    """

    _progress = Progress()

    def __init__(
        self,
        path: Path,
        *,
        edge: str,
        store: Store,
        known: Callable[[], Known],
        bounds: Bounds | None = None,
        made: Callable[[], Awaitable[Made]] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        super().__init__(path, edge=edge, store=store, known=known, bounds=bounds)
        self._ask = made
        self._clock = clock
        self._ask_at = clock()
        self._made: Made | None = None
        self._begins_anew = False

    @cached_property
    def traffic(self) -> Traffic:
        """How the requests that were counted were answered."""
        return Traffic()

    @property
    def progress(self) -> Progress:
        """Where the collector is now."""
        return replace(self._progress, backlog_bytes=self.backlog_bytes)

    def waiting_since(self) -> datetime | None:
        """Return when the oldest request was routed that is not in the store; None if all are."""
        routed_at = line_moment(self.oldest())
        return datetime.fromtimestamp(routed_at / 1000, UTC) if routed_at else None

    def ask_again(self) -> None:
        """Compare with HAProxy's count at the next step, however short the time since the last."""
        self._ask_at = self._clock()

    async def step(self) -> bool:
        """Do what `LogFollower.step` does; at the end of the log, count what is missing there."""
        # Asked before the log is read: what was made by then is found there, or is lost.
        if self._ask_at <= self._clock():
            self._made = made = await self._asked()
            self._ask_at = self._clock() + ASK_SECONDS
            # Less than had been read by then is of another HAProxy, of which no line is known.
            self._begins_anew = made is not None and (self._after or 0) > made.lines
        return await super().step() or await self._reckon()

    async def _asked(self) -> Made | None:
        if self._ask is None:
            return None
        try:
            return await self._ask()
        except EdgeUnavailable:
            return None  # One that does not run makes no lines; one that hangs is asked again.

    async def _reckon(self) -> bool:
        """Charge the lines after the last one in the log; all that are there have been read."""
        file, made = self._file, self._made
        if file is None or self._position is None or made is None:
            return False
        if self._after is None:
            self._after = made.lines
        after = 0 if self._begins_anew else self._after
        if after < made.lines:
            source = _end_of(file, made)
            start = await self._store.position(source) or 0
            lost = max(0, made.lines - max(start, after))
            cells = charged(self._lately.values()).values()
            counts = {replace(cell, counter=LOST_REQUESTS): lost for cell in cells if lost}
            if await self._store.apply(Batch(source, start, made.lines, counts)) == made.lines:
                lost_so_far = self._progress.lost_requests + lost
                self._progress = replace(self._progress, lost_requests=lost_so_far)
                self._after = made.lines
                self._lately = on_trial(self._known())
        self._made = None
        return after < made.lines

    async def _find_position(self, file: RequestLog) -> int:
        """Return where to go on; what was charged beyond that is not charged once more."""
        if self._position is not None:
            return await super()._find_position(file)
        made = await self._asked()
        ended = await self._store.position(_end_of(file, made)) if made else None
        position = await super()._find_position(file)
        if made and ended and self._after is not None:
            self._after = max(ended, self._after if self._after <= made.lines else 0)
        return position

    def _begin(self, known: Known) -> Aggregate:
        return Aggregate(known.watches, self._applied, after=self._after)

    def _number_of(self, line: bytes) -> int | None:
        return line_number(line)

    def _counted(self, counts: Aggregate) -> None:
        self._begins_anew = False
        so_far = self._progress
        requests = dict(so_far.requests)
        routed = {model.encode(): model for model in self._known().routes}
        self.traffic.add(counts.answers(), [name for name in routed if not is_lane(routed[name])])
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


def _end_of(file: RequestLog, made: Made) -> str:
    """Name what HAProxy made and the log does not hold; a position there is a number of lines."""
    return f"{file.source}:{made.run}"
