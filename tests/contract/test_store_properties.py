"""Whatever is delivered, in whatever order and however often: each event counts once."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.model import ExperimentName, Variant
from experiments.stats.moments import Moments
from experiments.store import Applied, Batch, Cell, OutcomeRecord, Store
from experiments.store.memory import MemoryStore
from registry.refs import Version
from tests.contract.conftest import RedisServer, assert_close, open_redis_store

EXPERIMENTS = [ExperimentName("one"), ExperimentName("two")]
SOURCES = ["edge-0", "edge-1"]
FEW_UNITS = st.integers(0, 12)


@dataclass(frozen=True)
class Event:
    """One line of a request log: a unit met a variant."""

    cell: Cell
    slot: int


@dataclass(frozen=True)
class Delivery:
    """Send the events [start, end) of a source, whether or not it is their turn."""

    source: str
    start: int
    end: int


def cells(*counters: str) -> st.SearchStrategy[Cell]:
    return st.builds(
        Cell,
        experiment=st.sampled_from(EXPERIMENTS),
        stage=st.integers(0, 2),
        variant=st.sampled_from(Variant),
        version=st.sampled_from([Version(2), Version(3)]),
        counter=st.sampled_from(counters),
        segment=st.integers(0, 1),
        cohort=st.sampled_from([0, 20_000]),
    )


events = st.builds(Event, cells("units", "error_rate:1", "took:1", "took:2"), FEW_UNITS)
logs = st.fixed_dictionaries({source: st.lists(events, max_size=12) for source in SOURCES})
deliveries = st.lists(
    st.builds(Delivery, st.sampled_from(SOURCES), st.integers(0, 12), st.integers(0, 12)),
    max_size=25,
)
one_redis_for_all_examples = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def batch(log: Sequence[Event], delivery: Delivery) -> Batch:
    """Return the stretch of `log` as its collector would add it up."""
    end = min(delivery.end, len(log))
    start = min(delivery.start, end)
    events = log[start:end]
    counts = Counter(replace(event.cell, counter="n") for event in events)
    slots: dict[Cell, set[int]] = {}
    for event in events:
        slots.setdefault(event.cell, set()).add(event.slot)
    frozen = {cell: frozenset(met) for cell, met in slots.items()}
    return Batch(delivery.source, start, end, counts, frozen)


async def deliver(
    store: Store, logs: dict[str, list[Event]], unruly: Sequence[Delivery]
) -> list[int]:
    """Send what `unruly` says, then all that is missing, as a sender does that was restarted."""
    applied = [await store.apply(Batch(source, 0, 0)) for source in SOURCES]
    applied += [await store.apply(batch(logs[sent.source], sent)) for sent in unruly]
    for source, log in logs.items():
        position = await store.position(source) or 0
        applied.append(await store.apply(batch(log, Delivery(source, position, len(log)))))
    return applied


@one_redis_for_all_examples
@given(logs=logs, unruly=deliveries)
async def test_repeated_overlapping_and_reordered_batches_count_each_event_once(
    redis_server: RedisServer, logs: dict[str, list[Event]], unruly: list[Delivery]
) -> None:
    async with open_redis_store(redis_server) as on_redis:
        in_memory = MemoryStore()
        assert await deliver(on_redis, logs, unruly) == await deliver(in_memory, logs, unruly)
        for experiment in EXPERIMENTS:
            readings = await in_memory.readings(experiment)
            assert await on_redis.readings(experiment) == readings
            events = [e for log in logs.values() for e in log if e.cell.experiment == experiment]
            requests = {cell: n for cell, n in readings.counts.items() if cell.counter == "n"}
            assert requests == Counter(replace(event.cell, counter="n") for event in events)
            counted: Counter[tuple[str, int]] = Counter()
            for cell, n in readings.counts.items():
                if cell.counter != "n":
                    counted[cell.name, cell.stage] += n
            met = {(event.cell.name, event.cell.stage, event.slot) for event in events}
            assert counted == Counter((name, stage) for name, stage, _ in met)


values = st.integers(-8_000, 8_000).map(lambda eighths: eighths / 8)


@st.composite
def outcome_records(draw: st.DrawFn) -> OutcomeRecord:
    cell = draw(cells("correct:0", "correct:1", "revenue:0", "revenue:1"))
    return OutcomeRecord(
        cell,
        token=f"{draw(st.integers(0, 15))}/{cell.name}",
        slot=draw(st.none() | FEW_UNITS),
        expires_at=datetime.now(UTC) + timedelta(days=1),
        pair=draw(st.tuples(values, values)) if cell.name == "revenue" else None,
    )


@one_redis_for_all_examples
@given(reports=st.lists(st.lists(outcome_records(), max_size=8), max_size=8))
async def test_outcomes_count_each_prediction_once_and_each_unit_in_the_order_of_stages(
    redis_server: RedisServer, reports: list[list[OutcomeRecord]]
) -> None:
    sent = [record for report in reports for record in report]
    judged = expected(sent)
    async with open_redis_store(redis_server) as on_redis:
        for store in (on_redis, MemoryStore()):
            results = [await store.observe(report) for report in reports]
            assert [applied for result in results for applied in result] == judged
            for experiment in EXPERIMENTS:
                readings = await store.readings(experiment)
                counted = [
                    record
                    for record, applied in zip(sent, judged, strict=True)
                    if applied is Applied.COUNTED and record.cell.experiment == experiment
                ]
                assert readings.counts == Counter(r.cell for r in counted if r.pair is None)
                assert_close(readings.moments, summed_up(counted))


def summed_up(counted: Sequence[OutcomeRecord]) -> dict[Cell, Moments]:
    pairs: dict[Cell, list[tuple[float, float]]] = defaultdict(list)
    for record in counted:
        if record.pair is not None:
            pairs[record.cell].append(record.pair)
    return {cell: Moments.of(*zip(*told, strict=True)) for cell, told in pairs.items()}


def expected(sent: Sequence[OutcomeRecord]) -> list[Applied]:
    """Judge as the contract says, one outcome at a time."""
    used: set[str] = set()
    last_stage: dict[tuple[str, str, int], int] = {}
    judged = []
    for record in sent:
        if record.token in used:
            judged.append(Applied.DUPLICATE)
            continue
        used.add(record.token)
        if record.slot is not None:
            unit = (record.cell.experiment, record.cell.name, record.slot)
            if last_stage.get(unit, -1) >= record.cell.stage:
                judged.append(Applied.REPEATED_UNIT)
                continue
            last_stage[unit] = record.cell.stage
        judged.append(Applied.COUNTED)
    return judged
