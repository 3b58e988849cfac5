"""Log lines into counts: what one batch of evidence holds. Pure, and the agent's busiest loop.

Lines are split once and counted in place; a value per line would cost more than all the rest.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from experiments.errors import InvalidDeclaration
from experiments.evidence import LOST, UNITS
from experiments.metric import ERROR_RATE, LATENCY
from experiments.model import ExperimentName, Variant, experiment_name
from experiments.stats.latency_grid import bucket_of
from experiments.store import Batch, Cell
from experiments.store.slots import SLOTS
from registry.refs import Version
from serving.routes import NOTHING_MORE, Route, Watch

Watches = Mapping[ExperimentName, Watch]

_VERSION = b"2"
_NONE = b"-"
_MODEL = 3
_FAILOVER = b"failover"
_BITS = tuple(1 << bit for bit in range(8))

# Index of whatever a unit can only have or not have.
_HAPPENED = 1

# Looking a bucket up costs less than searching the histogram's edges; most answers take less.
_BUCKETS = tuple(map(bucket_of, range(2001)))


def _bucket_of(milliseconds: int) -> int:
    return _BUCKETS[milliseconds] if milliseconds < len(_BUCKETS) else bucket_of(milliseconds)


class AppliedSlots:
    """Which units the store has already taken in, per experiment, name and stage.

    It only saves sending them again: forgetting is always safe, remembering is safe only for what
    the store has acknowledged.

    Args:
        most: Names remembered at once, each stage's by itself; one takes half a megabyte.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._bits: dict[tuple[ExperimentName, str, int], bytearray] = {}

    def bits(self, experiment: ExperimentName, name: str, stage: int) -> bytes | bytearray:
        """Return a bitmap of slots; nothing may be written to it."""
        return self._bits.get((experiment, name, stage), _NO_SLOTS)

    def remember(self, batch: Batch) -> None:
        """Take note of the units in a batch that the store has applied."""
        for cell, slots in batch.slots.items():
            key = (cell.experiment, cell.name, cell.stage)
            bits = self._bits.pop(key, None) or bytearray(SLOTS // 8)
            self._bits[key] = bits
            for slot in slots:
                bits[slot >> 3] |= _BITS[slot & 7]
        while len(self._bits) > self._most:
            del self._bits[next(iter(self._bits))]

    def forget(self) -> None:
        """Assume that the store knows of no unit."""
        self._bits.clear()


_NO_SLOTS = bytes(SLOTS // 8)


@dataclass(slots=True)
class _Units:
    """What distinct units gave under one name in one stage and arm, as far as this batch has seen.

    Whatever a unit gives under the name, it gives once a stage: the first counts.

    Args:
        applied: Units that the store has counted under the name in the stage.
        met: Units that this batch has met under the name in the stage, in whichever arm.
        fresh: Those of them that were met here first, by what they gave.
        alone: Requests that were a unit of their own, by what they gave.
    """

    applied: bytes | bytearray
    met: set[int]
    fresh: dict[int, set[int]] = field(default_factory=dict)
    alone: dict[int, int] = field(default_factory=dict)

    def add(self, slot: int, index: int) -> None:
        if slot < 0:
            self.alone[index] = self.alone.get(index, 0) + 1
        elif slot not in self.met and not self.applied[slot >> 3] & _BITS[slot & 7]:
            self.met.add(slot)
            if index in self.fresh:
                self.fresh[index].add(slot)
            else:
                self.fresh[index] = {slot}


@dataclass(slots=True)
class _Arm:
    """What is counted for one arm of one stage in one segment.

    Args:
        cell: Where it belongs; the counter is filled in for each count.
        cohort_ms: Length of a cohort; 0 where units are not told apart by when they came.
        units: By cohort.
        histogram: By bucket; None where nobody asks for it.
    """

    cell: Cell
    cohort_ms: int
    units: _Units
    errors: _Units
    slow: tuple[tuple[int, str, _Units], ...]
    histogram: _Units | None
    requests: int = 0
    failovers: int = 0
    failed: int = 0

    def counts(self) -> Iterator[tuple[Cell, int]]:
        """Yield how often everything happened that counts each time."""
        yield replace(self.cell, counter="requests"), self.requests
        yield replace(self.cell, counter="failovers"), self.failovers
        yield replace(self.cell, counter="errors"), self.failed
        for name, units in self._named():
            for index, count in units.alone.items():
                yield self._indexed(name, index), count

    def slots(self) -> Iterator[tuple[Cell, set[int]]]:
        """Yield the units of everything that counts once a unit."""
        for name, units in self._named():
            for index, fresh in units.fresh.items():
                yield self._indexed(name, index), fresh

    def _named(self) -> Iterator[tuple[str, _Units]]:
        yield UNITS, self.units
        yield ERROR_RATE, self.errors
        for _, name, units in self.slow:
            yield name, units
        if self.histogram is not None:
            yield LATENCY, self.histogram

    def _indexed(self, name: str, index: int) -> Cell:
        if name == UNITS:
            return replace(self.cell, counter=UNITS, cohort=index)
        return replace(self.cell, counter=f"{name}:{index}")


_Key = tuple[bytes, bytes, bytes, bytes, bytes]
"""Experiment, stage, variant, version and segment, as the log writes them."""


class Aggregate:
    """Counts over a stretch of the log. Give it whole lines, then take the batch.

    Attributes:
        lines: Requests counted, in an experiment or not.
        models: The same by model, as the log writes it.
        malformed: Lines that could not be read, and were skipped.
        lost: Bytes that were dropped from the log before they could be counted.
    """

    def __init__(self, watches: Watches, applied: AppliedSlots) -> None:
        self._watches = watches
        self._applied = applied
        self._arms: dict[_Key, _Arm] = {}
        self._met: dict[tuple[ExperimentName, str, int], set[int]] = {}
        self.lines = 0
        self.models: dict[bytes, int] = {}
        self.malformed = 0
        self.lost = 0

    def add(self, body: bytes) -> None:
        """Count `body`: complete lines, with their line ends."""
        arms, models = self._arms, self.models
        lines = body.split(b"\n")
        lines.pop()
        for line in lines:
            try:
                fields = line.split(b"\t")
                form, at, _, _, version, name, stage, side, slot, part, status, took, _, by = fields
                if form != _VERSION:
                    raise ValueError(form)
                if name != _NONE:
                    unit = -1 if slot == _NONE else int(slot)
                    if unit >= SLOTS or (unit < 0 and slot != _NONE):
                        raise ValueError(slot)
                    code = int(status)
                    milliseconds = int(took)
                    key = (name, stage, side, version, part)
                    arm = arms.get(key) or self._open(key)
                    arm.units.add(unit, int(at) // arm.cohort_ms if arm.cohort_ms else 0)
                    arm.requests += 1
                    answered_by_other = by == _FAILOVER
                    if answered_by_other:
                        arm.failovers += 1
                    if code >= 500 or code < 0 or answered_by_other:
                        arm.failed += 1
                        arm.errors.add(unit, _HAPPENED)
                    for above_ms, _, units in arm.slow:
                        if milliseconds > above_ms:
                            units.add(unit, _HAPPENED)
                    if arm.histogram is not None and milliseconds >= 0:
                        arm.histogram.add(unit, _bucket_of(milliseconds))
                self.lines += 1
                models[fields[_MODEL]] = models.get(fields[_MODEL], 0) + 1
            except ValueError:
                self._skip(line)

    def batch(self, source: str, start: int, end: int, running: Iterable[Route]) -> Batch:
        """Return what was counted as the evidence of `source` in [start, end).

        Args:
            running: Routes whose trials lost bytes are charged to: what was in them is unknown.
        """
        counts: Counter[Cell] = Counter()
        slots: dict[Cell, frozenset[int]] = {}
        for arm in self._arms.values():
            for cell, count in arm.counts():
                counts[cell] += count
            for cell, fresh in arm.slots():
                slots[cell] = slots.get(cell, frozenset()) | fresh
        for route in running:
            if route.trial is not None:
                experiment, stage = route.trial.experiment, route.trial.stage
                counts[Cell(experiment, stage, Variant.CHAMPION, route.control, LOST)] += self.lost
        return Batch(source, start, end, {c: n for c, n in counts.items() if n}, slots)

    def _open(self, key: _Key) -> _Arm:
        experiment, stage, variant, version, segment = (part.decode("ascii") for part in key)
        try:
            name = experiment_name(experiment)
        except InvalidDeclaration as error:
            raise ValueError(experiment) from error
        cell = Cell(name, int(stage), Variant(variant), Version(int(version)), "", int(segment))
        if cell.stage < 0 or cell.version < 1 or cell.segment < 0:
            raise ValueError(key)
        watch = self._watches.get(name, NOTHING_MORE)
        arm = self._arms[key] = _Arm(
            cell=cell,
            cohort_ms=1000 * (watch.cohort_seconds or 0),
            units=self._units(cell, UNITS),
            errors=self._units(cell, ERROR_RATE),
            slow=tuple(
                (mark.above_ms, mark.counter, self._units(cell, mark.counter))
                for mark in watch.slow
            ),
            histogram=self._units(cell, LATENCY) if watch.histogram else None,
        )
        return arm

    def _units(self, cell: Cell, name: str) -> _Units:
        met = self._met.setdefault((cell.experiment, name, cell.stage), set())
        return _Units(self._applied.bits(cell.experiment, name, cell.stage), met)

    def _skip(self, line: bytes) -> None:
        # Zero bytes are a hole in the log: not a line that went wrong, but lines that are gone.
        if b"\0" in line:
            self.lost += len(line) + 1
        else:
            self.malformed += 1
