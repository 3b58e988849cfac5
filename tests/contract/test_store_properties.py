"""Whatever is delivered, in whatever order and however often: each event counts once."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.model import ExperimentName, Variant
from experiments.store import Applied, Batch, Cell, OutcomeRecord, Store
from experiments.store.memory import MemoryStore
from tests.contract.conftest import RedisServer, open_redis_store

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


cells = st.builds(
    Cell,
    experiment=st.sampled_from(EXPERIMENTS),
    stage=st.integers(0, 2),
    variant=st.sampled_from(Variant),
    counter=st.sampled_from(["units", "error_rate"]),
)
logs = st.fixed_dictionaries(
    {source: st.lists(st.builds(Event, cells, FEW_UNITS), max_size=12) for source in SOURCES}
)
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
    counts = Counter(Cell(e.cell.experiment, e.cell.stage, e.cell.variant, "n") for e in events)
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
            counters = await in_memory.counters(experiment)
            assert await on_redis.counters(experiment) == counters
            events = [e for log in logs.values() for e in log if e.cell.experiment == experiment]
            requests = {cell: n for cell, n in counters.items() if cell.counter == "n"}
            assert requests == Counter(
                Cell(experiment, e.cell.stage, e.cell.variant, "n") for e in events
            )
            for counter in ("units", "error_rate"):
                counted: Counter[int] = Counter()
                for cell, n in counters.items():
                    counted[cell.stage] += n if cell.counter == counter else 0
                met = {(e.cell.stage, e.slot) for e in events if e.cell.counter == counter}
                assert counted == Counter(stage for stage, _ in met)


@st.composite
def outcome_records(draw: st.DrawFn) -> OutcomeRecord:
    metric = draw(st.sampled_from(["correct", "clicked"]))
    experiment = draw(st.sampled_from(EXPERIMENTS))
    value = draw(st.integers(0, 1))
    return OutcomeRecord(
        Cell(
            experiment, draw(st.integers(0, 2)), draw(st.sampled_from(Variant)), f"{metric}:{value}"
        ),
        token=f"{draw(st.integers(0, 15))}/{metric}",
        slot=draw(st.none() | FEW_UNITS),
        dedupe=metric,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )


@one_redis_for_all_examples
@given(reports=st.lists(st.lists(outcome_records(), max_size=8), max_size=8))
async def test_outcomes_count_each_prediction_once_and_each_unit_in_the_order_of_stages(
    redis_server: RedisServer, reports: list[list[OutcomeRecord]]
) -> None:
    async with open_redis_store(redis_server) as on_redis:
        in_memory = MemoryStore()
        results = [await on_redis.observe(report) for report in reports]
        assert results == [await in_memory.observe(report) for report in reports]
        for experiment in EXPERIMENTS:
            assert await on_redis.counters(experiment) == await in_memory.counters(experiment)

    sent = [record for report in reports for record in report]
    assert [applied for result in results for applied in result] == expected(sent)


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
            unit = (record.cell.experiment, record.dedupe, record.slot)
            if last_stage.get(unit, -1) >= record.cell.stage:
                judged.append(Applied.REPEATED_UNIT)
                continue
            last_stage[unit] = record.cell.stage
        judged.append(Applied.COUNTED)
    return judged
