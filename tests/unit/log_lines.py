"""Requests as HAProxy would log them, and what the contract makes of them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from experiments.model import BasisPoints, ExperimentName, Variant
from experiments.stats.latency_grid import bucket_of
from experiments.store import Cell, Store
from experiments.unit import RequestUnit
from registry.refs import ModelName, Version
from serving.edge.aggregate import line_number
from serving.edge.collector import Collector
from serving.edge.following import Bounds
from serving.edge.logline import BROKEN_OFF
from serving.edge.requestlog import BLOCK
from serving.edge.routebook import Known
from serving.routes import NOTHING_MORE, Route, SlowMark, Trial, Watch

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DIGITS, OTHER, DIAGNOSED = map(ExperimentName, ("digits-v2", "other", "diagnosed"))
SLOW = "latency_ms>250"
WATCH = Watch((SlowMark(SLOW, 250),))
EVERYTHING = Watch((SlowMark(SLOW, 250),), histogram=True, cohort_seconds=60)
WATCHES = {DIGITS: WATCH, DIAGNOSED: EVERYTHING}
CHAMPION, CHALLENGER = Version(1), Version(2)
MIDNIGHT = round(NOW.timestamp())


def on_trial(model: str, experiment: ExperimentName, watch: Watch) -> Route:
    trial = Trial(
        experiment=experiment,
        stage=1,
        challengers=(CHALLENGER,),
        cut=BasisPoints(500),
        unit=RequestUnit(),
        salt=experiment,
        deadline=timedelta(seconds=2),
        watch=watch,
    )
    return Route(ModelName(model), 3, CHAMPION, None, (trial,), "me", "a test", NOW)


KNOWN = (
    Known()
    .with_route(on_trial("digits", DIGITS, WATCH))
    .with_route(on_trial("scans", DIAGNOSED, EVERYTHING))
)


@dataclass(frozen=True)
class Line:
    """One request, as HAProxy would log it."""

    experiment: str = DIGITS
    stage: int = 0
    variant: Variant = Variant.CHALLENGER
    version: Version = CHALLENGER
    slot: int | None = 7
    segment: int = 0
    status: int = 200
    took: int = 12
    server: str = "host"
    at: int = MIDNIGHT
    number: int = 1
    first: int | None = 5
    end: str = "--"

    def __bytes__(self) -> bytes:
        where = (self.experiment, self.stage, self.variant)
        if self.experiment == "-":
            where = ("-", "-", "-")
        slot = "-" if self.slot is None else self.slot
        first = "-" if self.first is None else self.first
        head = (3, self.number, 1000 * self.at + 999, 3, "digits", self.version)
        answer = (self.status, first, self.took, "+1", self.server, self.end)
        fields = (*head, *where, slot, self.segment, *answer)
        return "\t".join(map(str, fields)).encode() + b"\n"


def cell(
    counter: str, *, stage: int = 0, variant: Variant = Variant.CHALLENGER, **more: object
) -> Cell:
    return Cell(DIGITS, stage, variant, **{"version": CHALLENGER, "counter": counter} | more)


def counts_for(line: Line) -> dict[str, bool]:
    """Say of each counter whether the line counts there, as the contract has it."""
    watch = WATCHES.get(line.experiment, NOTHING_MORE)
    failed = not 0 <= line.status < 500 or line.status == 429
    failed |= line.server == "failover" or line.end in BROKEN_OFF
    return {
        "requests": True,
        "failovers": line.server == "failover",
        "errors": failed,
        "units": True,
        "error_rate:1": failed,
        f"{SLOW}:1": bool(watch.slow) and line.took > 250,
        f"latency_ms:{bucket_of(max(0, line.took))}": watch.histogram and line.took >= 0,
    }


def expected(lines: list[Line]) -> Mapping[Cell, int]:
    """Count as the contract says, one line at a time."""
    counts: Counter[Cell] = Counter()
    met: set[tuple[str, str, int, int]] = set()
    for line in lines:
        cohorts = line.experiment == DIAGNOSED
        for counter, holds in counts_for(line).items() if line.experiment != "-" else ():
            name = counter.partition(":")[0]
            unit = (line.experiment, name, line.stage, line.slot or 0)
            distinct = name not in ("requests", "failovers", "errors") and line.slot is not None
            if holds and not (distinct and unit in met):
                cohort = line.at // 60 if cohorts and counter == "units" else 0
                where = ExperimentName(line.experiment), line.stage, line.variant, line.version
                counts[Cell(*where, counter, line.segment, cohort)] += 1
                if distinct:
                    met.add(unit)
    return counts


async def counted(store: Store) -> dict[Cell, int]:
    found = {}
    for name in (DIGITS, OTHER, DIAGNOSED):
        found |= (await store.readings(name)).counts
    return found


TINY = Bounds(batch=400, log=1 << 20, keep=0, free=BLOCK)


def collector_of(path: Path, store: Store, bounds: Bounds = TINY) -> Collector:
    return Collector(path, edge="edge-0", store=store, known=lambda: KNOWN, bounds=bounds)


async def drain(collector: Collector) -> None:
    while await collector.step():
        pass


def numbered(lines: Iterable[Line], *, after: int = 0) -> bytes:
    """Return the lines as a HAProxy writes them that has written `after` lines before."""
    together = enumerate(lines, start=after + 1)
    return b"".join(bytes(replace(line, number=number)) for number, line in together)


def write(path: Path, lines: list[Line] | bytes) -> None:
    """Append to the log; lines are numbered onwards from its last one."""
    with path.open("ab+") as log:
        if not isinstance(lines, bytes):
            log.seek(max(0, log.tell() - 1000))
            last = log.read().rstrip(b"\n").rpartition(b"\n")[2]
            lines = numbered(lines, after=line_number(last) or 0)
        log.write(lines)
