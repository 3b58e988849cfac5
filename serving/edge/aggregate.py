"""Log lines into counts: what one batch of evidence holds. Pure, and the agent's busiest loop.

Lines are split once and counted in place; a value per line would cost more than all the rest.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from experiments.errors import InvalidDeclaration
from experiments.evidence import LOST
from experiments.model import ExperimentName, Variant, experiment_name
from experiments.store import Batch, Cell
from experiments.store.slots import SLOTS
from serving.routes import SlowMark, Trial

Marks = Mapping[ExperimentName, tuple[SlowMark, ...]]

UNITS = "units"
ERROR_RATE = "error_rate"

_VERSION = b"1"
_NONE = b"-"
_FAILOVER = b"failover"
_BITS = tuple(1 << bit for bit in range(8))


class AppliedSlots:
    """Which units the store has already taken in, per experiment, counter and stage.

    It only saves sending them again: forgetting is always safe, remembering is safe only for what
    the store has acknowledged.

    Args:
        most: Counters remembered at once, each stage's by itself; one takes half a megabyte.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._bits: dict[tuple[ExperimentName, str, int], bytearray] = {}

    def bits(self, experiment: ExperimentName, counter: str, stage: int) -> bytes | bytearray:
        """Return a bitmap of slots; nothing may be written to it."""
        return self._bits.get((experiment, counter, stage), _NO_SLOTS)

    def remember(self, batch: Batch) -> None:
        """Take note of the units in a batch that the store has applied."""
        for cell, slots in batch.slots.items():
            key = (cell.experiment, cell.counter, cell.stage)
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
    """One counter of distinct units in one stage and arm, as far as this batch has seen.

    Args:
        applied: Units that the store has counted in the stage.
        met: Units that this batch has met under the counter in the stage, in whichever arm.
        fresh: Those of them that were met in this arm first.
        alone: Requests that were a unit of their own.
    """

    applied: bytes | bytearray
    met: set[int]
    fresh: set[int] = field(default_factory=set)
    alone: int = 0

    def add(self, slot: int) -> None:
        if slot < 0:
            self.alone += 1
        elif slot not in self.met and not self.applied[slot >> 3] & _BITS[slot & 7]:
            self.met.add(slot)
            self.fresh.add(slot)


@dataclass(slots=True)
class _Arm:
    units: _Units
    errors: _Units
    slow: tuple[tuple[int, str, _Units], ...]
    requests: int = 0
    failovers: int = 0
    failed: int = 0


class Aggregate:
    """Counts over a stretch of the log. Give it whole lines, then take the batch.

    Attributes:
        lines: Requests counted, in an experiment or not.
        malformed: Lines that could not be read, and were skipped.
        lost: Bytes that were dropped from the log before they could be counted.
    """

    def __init__(self, marks: Marks, applied: AppliedSlots) -> None:
        self._marks = marks
        self._applied = applied
        self._arms: dict[tuple[bytes, bytes, bytes], _Arm] = {}
        self._cells: dict[tuple[bytes, bytes, bytes], Cell] = {}
        self._met: dict[tuple[ExperimentName, str, int], set[int]] = {}
        self.lines = 0
        self.malformed = 0
        self.lost = 0

    def add(self, body: bytes) -> None:
        """Count `body`: complete lines, with their line ends."""
        arms = self._arms
        lines = body.split(b"\n")
        lines.pop()
        for line in lines:
            try:
                version, _, _, _, _, experiment, stage, variant, slot, status, took, _, server = (
                    line.split(b"\t")
                )
                if version != _VERSION:
                    raise ValueError(version)
                if experiment != _NONE:
                    unit = -1 if slot == _NONE else int(slot)
                    if unit >= SLOTS or (unit < 0 and slot != _NONE):
                        raise ValueError(slot)
                    code = int(status)
                    milliseconds = int(took)
                    key = (experiment, stage, variant)
                    arm = arms.get(key) or self._open(key)
                    arm.requests += 1
                    arm.units.add(unit)
                    answered_by_other = server == _FAILOVER
                    if answered_by_other:
                        arm.failovers += 1
                    if code >= 500 or code < 0 or answered_by_other:
                        arm.failed += 1
                        arm.errors.add(unit)
                    for above_ms, _, units in arm.slow:
                        if milliseconds > above_ms:
                            units.add(unit)
                self.lines += 1
            except ValueError:
                self._skip(line)

    def batch(self, source: str, start: int, end: int, running: Iterable[Trial]) -> Batch:
        """Return what was counted as the evidence of `source` in [start, end).

        Args:
            running: The trials that lost bytes are charged to: what was in them is unknown.
        """
        counts: dict[Cell, int] = {}
        slots: dict[Cell, frozenset[int]] = {}
        for key, arm in self._arms.items():
            cell = self._cells[key]
            plain = (("requests", arm.requests), ("failovers", arm.failovers))
            for counter, count in (*plain, ("errors", arm.failed)):
                _put(counts, cell, counter, count)
            distinct = ((UNITS, arm.units), (ERROR_RATE, arm.errors))
            for counter, units in (*distinct, *((name, units) for _, name, units in arm.slow)):
                _put(counts, cell, counter, units.alone)
                if units.fresh:
                    slots[_named(cell, counter)] = frozenset(units.fresh)
        if self.lost:
            for trial in running:
                cell = Cell(trial.experiment, trial.stage, Variant.CHAMPION, LOST)
                counts[cell] = counts.get(cell, 0) + self.lost
        return Batch(source, start, end, counts, slots)

    def _open(self, key: tuple[bytes, bytes, bytes]) -> _Arm:
        experiment, stage, variant = (part.decode("ascii") for part in key)
        try:
            name = experiment_name(experiment)
        except InvalidDeclaration as error:
            raise ValueError(experiment) from error
        cell = Cell(name, int(stage), Variant(variant), UNITS)
        if cell.stage < 0:
            raise ValueError(stage)
        self._cells[key] = cell
        arm = self._arms[key] = _Arm(
            units=self._units(cell, UNITS),
            errors=self._units(cell, ERROR_RATE),
            slow=tuple(
                (mark.above_ms, mark.counter, self._units(cell, mark.counter))
                for mark in self._marks.get(name, ())
            ),
        )
        return arm

    def _units(self, cell: Cell, counter: str) -> _Units:
        met = self._met.setdefault((cell.experiment, counter, cell.stage), set())
        return _Units(self._applied.bits(cell.experiment, counter, cell.stage), met)

    def _skip(self, line: bytes) -> None:
        # Zero bytes are a hole in the log: not a line that went wrong, but lines that are gone.
        if b"\0" in line:
            self.lost += len(line) + 1
        else:
            self.malformed += 1


def _named(cell: Cell, counter: str) -> Cell:
    return Cell(cell.experiment, cell.stage, cell.variant, counter)


def _put(counts: dict[Cell, int], cell: Cell, counter: str, count: int) -> None:
    if count:
        named = _named(cell, counter)
        counts[named] = counts.get(named, 0) + count
