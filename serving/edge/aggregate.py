"""Log lines into counts: what one batch of evidence holds. Pure, and the agent's busiest loop.

Lines are split once and counted in place; a value per line would cost more than all the rest.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from experiments.errors import InvalidDeclaration
from experiments.evidence import LOST, LOST_REQUESTS, UNITS
from experiments.metric import ERROR_RATE, LATENCY
from experiments.model import ExperimentName, Variant, experiment_name
from experiments.stats.latency_grid import bucket_of
from experiments.store import Batch, Cell
from experiments.store.slots import SLOTS
from registry.refs import Version
from serving.edge.answers import Answers
from serving.routes import NOTHING_MORE, Route, Watch

Watches = Mapping[ExperimentName, Watch]

_VERSION = b"3"
_NONE = b"-"
_FIELDS = 17
_DIGITS = 15
_FIRST_LINE = b"3\t1\t"
_ANSWERS = Answers()
_TAIL = 11
"""Fields before those that tell of the answer, which are read as one."""
_BITS = tuple(1 << bit for bit in range(8))

# Index of whatever a unit can only have or not have.
_HAPPENED = 1

# Looking a bucket up costs less than searching the histogram's edges; most answers take less.
_BUCKETS = tuple(map(bucket_of, range(2001)))


def line_number(line: bytes) -> int | None:
    """Return which of HAProxy's lines since its start `line` is, or None if it does not say."""
    return _whole_number(line, 1)


def line_moment(line: bytes) -> int | None:
    """Return when the request of `line` was routed, in ms since 1970; None if it does not say."""
    return _whole_number(line, 2)


def _whole_number(line: bytes, place: int) -> int | None:
    fields = line.split(b"\t")
    if len(fields) != _FIELDS or fields[0] != _VERSION:
        return None
    found = fields[place]
    return int(found) if found.isdigit() and len(found) <= _DIGITS else None


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

    def counts(self) -> Iterator[tuple[Cell, int]]:
        """Yield what counts each time where each request is a unit."""
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


@dataclass(slots=True)
class _Group:
    """Requests that were routed alike.

    Args:
        arm: None outside of any experiment.
        answers: How often they were answered how, as the log writes it.
    """

    arm: _Arm | None
    answers: dict[bytes, int] = field(default_factory=dict)

    def counts(self) -> Iterator[tuple[Cell, int]]:
        """Yield how often everything happened that counts each time."""
        if self.arm is not None:
            found = [(_ANSWERS[answer], count) for answer, count in self.answers.items()]
            cell = self.arm.cell
            yield replace(cell, counter="requests"), sum(count for _, count in found)
            yield replace(cell, counter="failovers"), sum(n for it, n in found if it.failed_over)
            yield replace(cell, counter="errors"), sum(n for it, n in found if it.failed)
            yield from self.arm.counts()


_Key = tuple[bytes, bytes, bytes, bytes, bytes, bytes]
"""Model, version, experiment, stage, variant and segment, as the log writes them."""


def charged(routes: Iterable[Route]) -> dict[ExperimentName, Cell]:
    """Return, for each experiment with a trial in one of these routes, where to charge it."""
    return {
        trial.experiment: Cell(trial.experiment, trial.stage, Variant.CHAMPION, route.control, "")
        for route in routes
        for trial in route.trials
    }


class Aggregate:
    """Counts over a stretch of the log. Give it whole lines, then take the batch.

    Args:
        after: Number of the last line before; 0 if HAProxy had just started, None if unknown.

    Attributes:
        after: The same of the last line so far.
        lines: Requests counted, in an experiment or not.
        malformed: Lines that could not be read, and were skipped.
        lost: Bytes that were dropped from the log before they could be counted.
        missing: Requests that HAProxy has numbered and nobody could count, whether their lines
            were dropped, damaged or never written.
    """

    def __init__(
        self, watches: Watches, applied: AppliedSlots, *, after: int | None = None
    ) -> None:
        self._watches = watches
        self._applied = applied
        self._groups: dict[_Key, _Group] = {}
        self._met: dict[tuple[ExperimentName, str, int], set[int]] = {}
        self.lines = 0
        self.malformed = 0
        self.lost = 0
        self.missing = 0
        self.after = after

    def add(self, body: bytes) -> None:
        """Count `body`: complete lines, with their line ends."""
        groups, skipped, number = self._groups, 0, b""
        lines = body.split(b"\n")
        lines.pop()
        for line in lines:
            try:
                head = line.split(b"\t", _TAIL)
                form, number, at, _, model, version, name, stage, side, slot, part, tail = head
                if form != _VERSION:
                    raise ValueError(form)
                _, _, took_ms, _, failed = _ANSWERS[tail]
                key = (model, version, name, stage, side, part)
                group = groups.get(key) or self._open(key)
                arm = group.arm
                if arm is not None:
                    unit = -1 if slot == _NONE else int(slot)
                    if unit >= SLOTS or (unit < 0 and slot != _NONE):
                        raise ValueError(slot)
                    arm.units.add(unit, int(at) // arm.cohort_ms if arm.cohort_ms else 0)
                    if failed:
                        arm.errors.add(unit, _HAPPENED)
                    for above_ms, _, units in arm.slow:
                        if took_ms > above_ms:
                            units.add(unit, _HAPPENED)
                    if arm.histogram is not None and took_ms >= 0:
                        arm.histogram.add(unit, _bucket_of(took_ms))
                group.answers[tail] = group.answers.get(tail, 0) + 1
            except ValueError:
                skipped += 1
                self._skip(line)
        counted = len(lines) - skipped
        self.lines += counted
        # Numbers are looked at one by one only where the last does not follow from how many.
        complete = self.after is not None and number == b"%d" % (self.after + counted)
        begins_anew = body.startswith(_FIRST_LINE) or b"\n" + _FIRST_LINE in body
        if complete and not begins_anew:
            self.after = int(number)
        else:
            self._account(lines, counted)

    def answers(self) -> Iterator[tuple[bytes, bytes, bytes, Mapping[bytes, int]]]:
        """Yield model, version, variant and how often requests were answered how."""
        for (model, version, _, _, variant, _), group in self._groups.items():
            yield model, version, variant, group.answers

    def batch(self, source: str, start: int, end: int, running: Iterable[Route]) -> Batch:
        """Return what was counted as the evidence of `source` in [start, end).

        Args:
            running: Routes whose trials are charged with what is lost, as are those that the lines
                tell of: whose it was is unknown.
        """
        counts: Counter[Cell] = Counter()
        slots: dict[Cell, frozenset[int]] = {}
        for group in self._groups.values():
            for cell, count in group.counts():
                counts[cell] += count
            for cell, fresh in group.arm.slots() if group.arm else ():
                slots[cell] = slots.get(cell, frozenset()) | fresh
        for cell in (self._own() | charged(running)).values():
            counts[replace(cell, counter=LOST)] += self.lost
            counts[replace(cell, counter=LOST_REQUESTS)] += self.missing
        return Batch(source, start, end, {c: n for c, n in counts.items() if n}, slots)

    def _own(self) -> dict[ExperimentName, Cell]:
        """Return where to charge the experiments that the lines tell of."""
        arms = [group.arm.cell for group in self._groups.values() if group.arm]
        # The champion's, where it has one.
        arms.sort(key=lambda cell: cell.variant is Variant.CHAMPION)
        return {cell.experiment: replace(cell, segment=0) for cell in arms}

    def _account(self, lines: Iterable[bytes], counted: int) -> None:
        """Take note of how many numbers went by, while so many lines could be counted."""
        made, after = 0, self.after
        for number in filter(None, map(line_number, lines)):
            if after is None:
                after = number - 1
            # A number that is no larger than the one before is of a HAProxy that began anew.
            made += number - after if number > after else number
            after = number
        self.after = after
        self.missing += max(0, made - counted)

    def _open(self, key: _Key) -> _Group:
        arm = None if key[2] == _NONE else self._arm(*(part.decode("ascii") for part in key[1:]))
        group = self._groups[key] = _Group(arm)
        return group

    def _arm(self, version: str, experiment: str, stage: str, variant: str, segment: str) -> _Arm:
        try:
            name = experiment_name(experiment)
        except InvalidDeclaration as error:
            raise ValueError(experiment) from error
        cell = Cell(name, int(stage), Variant(variant), Version(int(version)), "", int(segment))
        if cell.stage < 0 or cell.version < 1 or cell.segment < 0:
            raise ValueError(cell)
        watch = self._watches.get(name, NOTHING_MORE)
        return _Arm(
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

    def _units(self, cell: Cell, name: str) -> _Units:
        met = self._met.setdefault((cell.experiment, name, cell.stage), set())
        return _Units(self._applied.bits(cell.experiment, name, cell.stage), met)

    def _skip(self, line: bytes) -> None:
        # Zero bytes are a hole in the log: not a line that went wrong, but lines that are gone.
        if b"\0" in line:
            self.lost += len(line) + 1
        else:
            self.malformed += 1
