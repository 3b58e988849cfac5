"""Each event counts once, and each unit once a stage, in memory and on a real Redis."""

import pytest

from experiments.model import ExperimentName, Variant
from experiments.store import Batch, Cell, Readings, Store
from experiments.store.slots import SLOTS
from tests.contract.conftest import DIGITS, cell, counts, outcome

ELSEWHERE = {
    "index": cell("score:2"),
    "variant": cell("score:1", variant=Variant.CHAMPION),
    "version": cell("score:1", version=3),
    "segment": cell("score:1", segment=1),
    "cohort": cell("score:1", cohort=20_000),
}
"""Cells that share the name, and differ from `score:1` in one thing only."""


class TestEvidence:
    async def test_nothing_is_known_at_first(self, store: Store) -> None:
        assert await store.position("edge-0") is None
        assert await store.readings(DIGITS) == Readings()

    async def test_counts_add_up(self, store: Store) -> None:
        requests, errors = cell("requests"), cell("errors", variant=Variant.CHAMPION, stage=3)
        assert await store.apply(Batch("edge-0", 0, 10, {requests: 4, errors: 1})) == 10
        assert await store.apply(Batch("edge-0", 10, 25, {requests: 6})) == 25
        assert await counts(store, DIGITS) == {requests: 10, errors: 1}
        assert await store.position("edge-0") == 25

    async def test_a_batch_counts_once_however_often_it_comes(self, store: Store) -> None:
        batch = Batch("edge-0", 0, 10, {cell("requests"): 4}, {cell(): frozenset({1, 2})})
        assert [await store.apply(batch) for _ in range(3)] == [10, 10, 10]
        assert await counts(store, DIGITS) == {cell("requests"): 4, cell(): 2}

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 10), (5, 10), (0, 15), (5, 15), (11, 20), (20, 30)]
    )
    async def test_a_batch_that_does_not_start_where_the_last_ended_is_ignored(
        self, store: Store, start: int, end: int
    ) -> None:
        await store.apply(Batch("edge-0", 0, 10, {cell("requests"): 4}))
        late = Batch("edge-0", start, end, {cell("requests"): 1}, {cell(): frozenset({1})})
        assert await store.apply(late) == 10
        assert await counts(store, DIGITS) == {cell("requests"): 4}
        assert await store.position("edge-0") == 10

    async def test_a_new_source_starts_wherever_its_batch_starts(self, store: Store) -> None:
        far = 2**45
        assert await store.apply(Batch("edge-0", far, far + 1, {cell(): 1})) == far + 1
        assert await store.apply(Batch("edge-0", far + 1, far + 2, {cell(): 1})) == far + 2
        assert await counts(store, DIGITS) == {cell(): 2}

    async def test_sources_do_not_disturb_each_other(self, store: Store) -> None:
        for source in ("edge-0", "edge-1"):
            await store.apply(Batch(source, 0, 10, {cell("requests"): 1}))
        assert await counts(store, DIGITS) == {cell("requests"): 2}

    async def test_a_batch_without_events_moves_the_position(self, store: Store) -> None:
        assert await store.apply(Batch("edge-0", 0, 10)) == 10
        assert await store.apply(Batch("edge-0", 10, 10)) == 10
        assert await store.apply(Batch("edge-0", 10, 12, {cell(): 0}, {cell(): frozenset()})) == 12
        assert await counts(store, DIGITS) == {}

    async def test_a_unit_counts_once_in_each_stage_from_whichever_source(
        self, store: Store
    ) -> None:
        first, later = cell(stage=0), cell(stage=1)
        await store.apply(Batch("edge-0", 0, 1, slots={first: frozenset({1, 2, 3})}))
        await store.apply(Batch("edge-0", 1, 2, slots={later: frozenset({2, 3, 4})}))
        await store.apply(Batch("edge-1", 0, 1, slots={first: frozenset({3, 4, 5})}))
        await store.apply(Batch("edge-1", 1, 2, slots={later: frozenset({4, 5})}))
        assert await counts(store, DIGITS) == {first: 5, later: 4}

    async def test_in_one_batch_a_unit_counts_in_each_stage_it_was_met_in(
        self, store: Store
    ) -> None:
        met = frozenset({1, 2})
        stages = {cell(stage=2): met, cell(stage=0): met, cell(stage=10): met}
        await store.apply(Batch("edge-0", 0, 1, slots=stages))
        assert await counts(store, DIGITS) == dict.fromkeys(stages, 2)

    async def test_within_a_stage_a_unit_counts_in_the_variant_it_was_met_in_first(
        self, store: Store
    ) -> None:
        seen = frozenset({1, 2})
        champion, veteran = cell(variant=Variant.CHAMPION), cell(variant=Variant.VETERAN)
        await store.apply(Batch("edge-0", 0, 1, slots={champion: seen}))
        await store.apply(Batch("edge-0", 1, 2, slots={cell(): seen, veteran: frozenset({2, 3})}))
        assert await counts(store, DIGITS) == {champion: 2, veteran: 1}

    async def test_veterans_are_counted_in_cells_of_their_own(self, store: Store) -> None:
        arms = {
            cell(stage=1, variant=variant): frozenset({number})
            for number, variant in enumerate(Variant)
        }
        requests = {cell("requests", stage=1, variant=variant): 3 for variant in Variant}
        await store.apply(Batch("edge-0", 0, 1, requests, arms))
        assert await counts(store, DIGITS) == requests | dict.fromkeys(arms, 1)

    async def test_each_counter_and_each_experiment_counts_the_unit(self, store: Store) -> None:
        seen = frozenset({7})
        cells = [cell("units"), cell("latency_ms>250"), cell(experiment="other")]
        await store.apply(Batch("edge-0", 0, 1, slots=dict.fromkeys(cells, seen)))
        assert await counts(store, DIGITS) == {cells[0]: 1, cells[1]: 1}
        assert await counts(store, ExperimentName("other")) == {cells[2]: 1}

    async def test_slots_at_the_edges_of_bytes_and_of_the_range_are_told_apart(
        self, store: Store
    ) -> None:
        edges = [0, 1, 7, 8, 15, 16, SLOTS - 9, SLOTS - 8, SLOTS - 1]
        for n, slot in enumerate(edges):
            await store.apply(Batch("edge-0", n, n + 1, slots={cell(): frozenset({slot})}))
            assert await counts(store, DIGITS) == {cell(): n + 1}
        await store.apply(Batch("edge-1", 0, 1, slots={cell(): frozenset(edges)}))
        assert await counts(store, DIGITS) == {cell(): len(edges)}

    @pytest.mark.parametrize("slot", [-1, SLOTS, 2**40])
    async def test_a_slot_that_cannot_be_is_refused(self, store: Store, slot: int) -> None:
        with pytest.raises(ValueError, match="slots are numbers from 0"):
            await store.apply(Batch("edge-0", 0, 1, slots={cell(): frozenset({1, slot})}))
        with pytest.raises(ValueError, match="slots are numbers from 0"):
            await store.observe([outcome("a", slot=1), outcome("b", slot=slot)])
        assert await counts(store, DIGITS) == {}
        assert await store.position("edge-0") is None

    async def test_a_hundred_thousand_units_fit_in_one_batch(self, store: Store) -> None:
        half = frozenset(range(0, SLOTS, 84))
        whole = frozenset(range(0, SLOTS, 42))
        assert len(whole) > 99_000
        await store.apply(Batch("edge-0", 0, 1, slots={cell(): half}))
        await store.apply(Batch("edge-0", 1, 2, slots={cell(): whole, cell(stage=1): half}))
        assert await counts(store, DIGITS) == {cell(): len(whole), cell(stage=1): len(half)}

    @pytest.mark.parametrize("other", ELSEWHERE.values(), ids=ELSEWHERE.keys())
    @pytest.mark.parametrize("in_one_batch", [True, False])
    async def test_a_unit_counts_once_under_a_name_in_the_cell_it_was_met_in_first(
        self, store: Store, other: Cell, in_one_batch: bool
    ) -> None:
        first, then = {cell("score:1"): frozenset({1, 2})}, {other: frozenset({2, 3})}
        if in_one_batch:
            await store.apply(Batch("edge-0", 0, 1, slots=first | then))
        else:
            await store.apply(Batch("edge-0", 0, 1, slots=first))
            await store.apply(Batch("edge-0", 1, 2, slots=then))
        assert await counts(store, DIGITS) == {cell("score:1"): 2, other: 1}

    async def test_cells_that_differ_in_one_thing_are_counted_apart(self, store: Store) -> None:
        cells = [cell("score:1"), cell("score:1", stage=1), cell("score"), *ELSEWHERE.values()]
        amounts = {where: number for number, where in enumerate(cells, start=1)}
        await store.apply(Batch("edge-0", 0, 1, amounts))
        assert await counts(store, DIGITS) == amounts

    async def test_a_name_that_another_begins_with_is_another_name(self, store: Store) -> None:
        met = dict.fromkeys(
            [cell("latency_ms:3"), cell("latency_ms>250:1"), cell("latency_ms>2501:1")],
            frozenset({7}),
        )
        await store.apply(Batch("edge-0", 0, 1, slots=met))
        assert await counts(store, DIGITS) == dict.fromkeys(met, 1)

    async def test_a_histogram_of_many_cells_counts_each_unit_once(self, store: Store) -> None:
        histogram = {
            cell(f"latency_ms:{bucket}"): frozenset(range(bucket, 2_000, 150))
            for bucket in range(150)
        }
        shifted = {
            cell(f"latency_ms:{bucket + 1}"): met | {2_000 + bucket}
            for bucket, met in enumerate(histogram.values())
        }
        await store.apply(Batch("edge-0", 0, 1, slots=histogram))
        once = await counts(store, DIGITS)
        assert once == {where: len(met) for where, met in histogram.items()}
        await store.apply(Batch("edge-0", 1, 2, slots=shifted))
        assert sum((await counts(store, DIGITS)).values()) == 2_000 + 150

    async def test_counts_go_to_a_thousand_million_and_beyond(self, store: Store) -> None:
        await store.apply(Batch("edge-0", 0, 1, {cell(): 2**40}))
        await store.apply(Batch("edge-0", 1, 2, {cell(): 1}, {cell(): frozenset({1})}))
        assert await counts(store, DIGITS) == {cell(): 2**40 + 2}

    async def test_what_is_forgotten_is_as_if_it_had_never_been_and_nothing_else_is(
        self, store: Store
    ) -> None:
        other = cell("units", experiment="letters-v2")
        batch = {cell("units"): frozenset({1, 2}), other: frozenset({1})}
        await store.apply(Batch("edge-0", 0, 10, {cell("requests"): 2}, batch))
        await store.observe([outcome("a", slot=1), outcome("b", counter="m:1", pair=(1.0, 0.0))])
        await store.forget(DIGITS)
        await store.forget(DIGITS)
        assert await store.readings(DIGITS) == Readings()
        assert await counts(store, ExperimentName("letters-v2")) == {other: 1}
        # Its units, too: they count again.
        await store.apply(Batch("edge-0", 10, 20, slots={cell("units"): frozenset({1})}))
        await store.observe([outcome("c", slot=1)])
        assert await counts(store, DIGITS) == {cell("units"): 1, cell("correct:1"): 1}
