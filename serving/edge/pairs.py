"""The pairs' log into evidence: how a challenger's answers compare with the champion's.

Everything but the plain numbers of pairs counts once a unit and stage, where requests have units: a
user who asks a thousand times the same is one example.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from experiments.evidence import LOST
from experiments.model import ExperimentName, Variant
from experiments.pairs import (
    AGREEMENT,
    DIFFERENCE,
    DROPPED,
    LATENCY_DIFFERENCE,
    PAIR_ERROR,
    PAIR_SLOW,
    PAIRS,
    SLOWER,
)
from experiments.store import Batch, Cell
from experiments.store.pairs import LARGEST
from registry.refs import ModelName
from serving.edge.aggregate import AppliedSlots, Watches, charged
from serving.edge.following import LogFollower
from serving.edge.pairline import About, Drops, Pair, Reason, UnreadablePairLine, failed, parse
from serving.edge.routebook import Known
from serving.routes import NOTHING_MORE, Route


class PairCounts:
    """Counts over a stretch of the log. Give it whole lines, then take the batch.

    Args:
        applied: Units that the store has counted.

    Attributes:
        pairs, dropped: By model, and by reason.
        malformed: Lines that could not be read, and were skipped.
        lost: Bytes that were dropped from the log before they could be counted.
    """

    after: int | None = None

    def __init__(self, watches: Watches, applied: AppliedSlots) -> None:
        self._watches = watches
        self._applied = applied
        self._counts: Counter[Cell] = Counter()
        self._slots: dict[Cell, set[int]] = {}
        self._values: dict[Cell, list[tuple[int | None, float]]] = {}
        self._met: dict[tuple[ExperimentName, str, int], set[int]] = {}
        self.pairs: Counter[ModelName] = Counter()
        self.dropped: Counter[Reason] = Counter()
        self.malformed = 0
        self.lost = 0

    def add(self, body: bytes) -> None:
        """Count `body`: complete lines, with their line ends."""
        for line in body.split(b"\n")[:-1]:
            try:
                found = parse(line.decode("ascii"))
            except (UnreadablePairLine, UnicodeDecodeError):
                # Zero bytes are a hole in the log: not a line that went wrong, but lines gone.
                if b"\0" in line:
                    self.lost += len(line) + 1
                else:
                    self.malformed += 1
                continue
            match found:
                case Pair():
                    self._pair(found)
                case Drops():
                    self._counts[_cell(found.about, DROPPED)] += found.count
                    self.dropped[found.reason] += found.count
                case _:
                    assert_never(found)

    def batch(self, source: str, start: int, end: int, running: Iterable[Route]) -> Batch:
        """Return what was counted as the evidence of `source` in [start, end).

        Args:
            running: Routes whose shadows are charged with what is lost, as are those that the lines
                tell of: whose it was is unknown.
        """
        counts = Counter(self._counts)
        own = {cell.experiment: cell for cell in self._counts}
        for cell in (own | charged(_in_the_shadow(running))).values() if self.lost else ():
            counts[replace(cell, counter=LOST)] += self.lost
        slots = {cell: frozenset(found) for cell, found in self._slots.items()}
        return Batch(source, start, end, counts, slots, dict(self._values))

    def _pair(self, pair: Pair) -> None:
        self.pairs[pair.about.model] += 1
        self._counts[_cell(pair.about, PAIRS)] += 1
        champion, challenger = failed(pair.champion), failed(pair.challenger)
        self._happened(pair, PAIR_ERROR, 2 * champion + challenger)
        for mark in self._watches.get(pair.about.experiment, NOTHING_MORE).slow:
            slow = 2 * (pair.champion_ms > mark.above_ms) + (pair.challenger_ms > mark.above_ms)
            self._happened(pair, f"{PAIR_SLOW}{mark.above_ms}", slow)
        if pair.agreed is not None:
            self._happened(pair, AGREEMENT, int(pair.agreed))
        if pair.difference is not None and pair.difference <= LARGEST:
            self._measured(pair, DIFFERENCE, pair.difference)
        # One that fails at once is not fast.
        if not champion and not challenger:
            longer = pair.challenger_ms - pair.champion_ms
            self._measured(pair, LATENCY_DIFFERENCE, longer)
            if longer:
                self._happened(pair, SLOWER, int(longer > 0))

    def _happened(self, pair: Pair, name: str, index: int) -> None:
        cell = _cell(pair.about, f"{name}:{index}")
        if pair.slot is None:
            self._counts[cell] += 1
        elif self._is_new(cell, pair.slot):
            self._slots.setdefault(cell, set()).add(pair.slot)

    def _measured(self, pair: Pair, name: str, value: float) -> None:
        cell = _cell(pair.about, f"{name}:1")
        if pair.slot is None or self._is_new(cell, pair.slot):
            self._values.setdefault(cell, []).append((pair.slot, value))

    def _is_new(self, cell: Cell, slot: int) -> bool:
        key = cell.experiment, cell.name, cell.stage
        met = self._met.setdefault(key, set())
        if slot in met or self._applied.bits(*key)[slot >> 3] & 1 << (slot & 7):
            return False
        met.add(slot)
        return True


def _in_the_shadow(routes: Iterable[Route]) -> Iterator[Route]:
    for route in routes:
        yield replace(route, trials=tuple(trial for trial in route.trials if trial.shadow))


def _cell(about: About, counter: str) -> Cell:
    return Cell(about.experiment, about.stage, Variant.CHALLENGER, about.version, counter)


@dataclass(frozen=True, slots=True)
class PairsProgress:
    """How far the pairs' collector is; the counts are since it started.

    Args:
        pairs: By model.
        dropped: Requests that were to be repeated and became no pair, by reason.
    """

    backlog_bytes: int = 0
    lost_bytes: int = 0
    malformed_lines: int = 0
    pairs: Mapping[ModelName, int] = field(default_factory=dict)
    dropped: Mapping[Reason, int] = field(default_factory=dict)


class PairsCollector(LogFollower[PairCounts]):
    """Follows one edge's pairs and applies them to the store."""

    _progress = PairsProgress()

    @property
    def progress(self) -> PairsProgress:
        """Where the collector is now."""
        return replace(self._progress, backlog_bytes=self.backlog_bytes)

    def _begin(self, known: Known) -> PairCounts:
        return PairCounts(known.watches, self._applied)

    def _number_of(self, line: bytes) -> int | None:  # noqa: ARG002  no line has one
        return None

    def _counted(self, counts: PairCounts) -> None:
        so_far = self._progress
        self._progress = PairsProgress(
            lost_bytes=so_far.lost_bytes + counts.lost,
            malformed_lines=so_far.malformed_lines + counts.malformed,
            pairs=Counter(so_far.pairs) + counts.pairs,
            dropped=Counter(so_far.dropped) + counts.dropped,
        )
