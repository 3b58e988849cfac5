"""Each outcome counts once, and each unit in the order of stages, in memory and on Redis."""

import asyncio

import pytest

from experiments.model import Variant
from experiments.stats.moments import Moments
from experiments.store import Applied, Batch, OutcomeRecord, Readings, Store
from tests.contract.conftest import DIGITS, cell, counts, outcome


class TestOutcomes:
    async def test_no_outcomes_give_no_results(self, store: Store) -> None:
        assert await store.observe([]) == []

    async def test_an_outcome_counts_once(self, store: Store) -> None:
        assert await store.observe(
            [outcome("a"), outcome("b", counter="correct:0"), outcome("a")]
        ) == [
            Applied.COUNTED,
            Applied.COUNTED,
            Applied.DUPLICATE,
        ]
        assert await store.observe([outcome("a", counter="correct:0")]) == [Applied.DUPLICATE]
        assert await counts(store, DIGITS) == {cell("correct:1"): 1, cell("correct:0"): 1}

    async def test_in_a_stage_a_unit_counts_once_per_metric_whatever_the_value(
        self, store: Store
    ) -> None:
        reported = [
            outcome("a", slot=5),
            outcome("b", slot=5, counter="correct:0"),
            outcome("b", slot=5, counter="correct:0"),
            outcome("c", slot=5, counter="clicked:1"),
            outcome("d", slot=6),
        ]
        assert await store.observe(reported) == [
            Applied.COUNTED,
            Applied.REPEATED_UNIT,
            Applied.DUPLICATE,
            Applied.COUNTED,
            Applied.COUNTED,
        ]
        assert await counts(store, DIGITS) == {cell("correct:1"): 2, cell("clicked:1"): 1}

    async def test_a_repeated_unit_has_used_its_prediction(self, store: Store) -> None:
        await store.observe([outcome("a", slot=5), outcome("b", slot=5)])
        assert await store.observe([outcome("b", slot=5)]) == [Applied.DUPLICATE]

    async def test_a_unit_counts_again_in_a_later_stage(self, store: Store) -> None:
        for stage in (0, 1, 9, 19):
            reported = [outcome(f"{stage}/{n}", slot=5, stage=stage) for n in "ab"]
            assert await store.observe(reported) == [Applied.COUNTED, Applied.REPEATED_UNIT]
        assert await counts(store, DIGITS) == {
            cell("correct:1", stage=stage): 1 for stage in (0, 1, 9, 19)
        }

    @pytest.mark.parametrize("in_one_call", [True, False])
    async def test_an_outcome_that_comes_after_one_of_a_later_stage_is_not_counted(
        self, store: Store, in_one_call: bool
    ) -> None:
        reported = [
            outcome("a", slot=5, stage=2, variant=Variant.VETERAN),
            outcome("b", slot=5, stage=0),
            outcome("c", slot=5, stage=1, variant=Variant.CHAMPION),
            outcome("d", slot=5, stage=3),
            outcome("b", slot=5, stage=0),
        ]
        if in_one_call:
            results = await store.observe(reported)
        else:
            results = [applied for each in reported for applied in await store.observe([each])]
        assert results == [
            Applied.COUNTED,
            Applied.REPEATED_UNIT,
            Applied.REPEATED_UNIT,
            Applied.COUNTED,
            Applied.DUPLICATE,
        ]
        assert await counts(store, DIGITS) == {
            cell("correct:1", stage=2, variant=Variant.VETERAN): 1,
            cell("correct:1", stage=3): 1,
        }

    async def test_the_order_of_stages_is_asked_of_each_unit_metric_and_experiment_by_itself(
        self, store: Store
    ) -> None:
        await store.observe([outcome("a", slot=5, stage=1)])
        others = [
            outcome("b", slot=6),
            outcome("c", slot=5, counter="clicked:1"),
            outcome("d", slot=5, experiment="other"),
            outcome("e"),
        ]
        assert await store.observe(others) == [Applied.COUNTED] * 4

    async def test_a_request_that_is_a_unit_of_its_own_counts_in_whichever_order(
        self, store: Store
    ) -> None:
        reported = [outcome(str(stage), stage=stage) for stage in (3, 0, 2)]
        assert await store.observe(reported) == [Applied.COUNTED] * 3

    async def test_of_concurrent_outcomes_of_one_unit_in_two_stages_the_later_always_counts(
        self, store: Store
    ) -> None:
        for slot in range(20):
            early, later = outcome(f"a{slot}", slot=slot), outcome(f"b{slot}", slot=slot, stage=1)
            await asyncio.gather(store.observe([early]), store.observe([later]))
        counted = await counts(store, DIGITS)
        assert counted[cell("correct:1", stage=1)] == 20
        assert counted.get(cell("correct:1"), 0) <= 20

    async def test_units_met_by_batches_may_still_have_outcomes(self, store: Store) -> None:
        await store.apply(Batch("edge-0", 0, 1, slots={cell("units"): frozenset({5})}))
        assert await store.observe([outcome("a", slot=5)]) == [Applied.COUNTED]

    async def test_a_thousand_outcomes_are_answered_one_by_one(self, store: Store) -> None:
        reported = [outcome(f"token-{i % 900}", slot=i % 700) for i in range(1000)]
        expected = [
            Applied.COUNTED if i < 700 else Applied.REPEATED_UNIT if i < 900 else Applied.DUPLICATE
            for i in range(1000)
        ]
        assert await store.observe(reported) == expected
        assert await counts(store, DIGITS) == {cell("correct:1"): 700}

    async def test_a_thousand_outcomes_of_many_stages_are_answered_one_by_one(
        self, store: Store
    ) -> None:
        grown = [outcome(f"t{i}", slot=i % 50, stage=i // 50) for i in range(1000)]
        assert await store.observe(grown) == [Applied.COUNTED] * 1000
        again = [outcome(f"u{i}", slot=i % 50, stage=i // 50) for i in range(1000)]
        assert await store.observe(again) == [Applied.REPEATED_UNIT] * 1000

    async def test_of_concurrent_reports_of_one_outcome_one_counts(self, store: Store) -> None:
        results = await asyncio.gather(*(store.observe([outcome("a")]) for _ in range(20)))
        assert sum(result == [Applied.COUNTED] for result in results) == 1
        assert await counts(store, DIGITS) == {cell("correct:1"): 1}

    @pytest.mark.parametrize(
        "again",
        [
            outcome("b", slot=5, counter="correct:0"),
            outcome("b", slot=5, version=3),
            outcome("b", slot=5, variant=Variant.CHAMPION),
            outcome("b", slot=5, segment=1),
            outcome("b", slot=5, cohort=20_000),
            outcome("b", slot=5, pair=(1.0, 0.0)),
        ],
        ids=["index", "version", "variant", "segment", "cohort", "moments"],
    )
    async def test_a_unit_is_the_same_whatever_else_its_cell_says(
        self, store: Store, again: OutcomeRecord
    ) -> None:
        assert await store.observe([outcome("a", slot=5), again]) == [
            Applied.COUNTED,
            Applied.REPEATED_UNIT,
        ]
        assert await store.readings(DIGITS) == Readings({cell("correct:1"): 1})

    async def test_a_unit_whose_outcome_counted_is_not_counted_by_a_batch_under_that_name(
        self, store: Store
    ) -> None:
        await store.observe([outcome("a", slot=5)])
        await store.apply(Batch("edge-0", 0, 1, slots={cell("correct:0"): frozenset({5, 6})}))
        assert await counts(store, DIGITS) == {cell("correct:1"): 1, cell("correct:0"): 1}

    async def test_one_observation_gives_every_metric_its_record(self, store: Store) -> None:
        told = [
            outcome("nonce:took", slot=5, counter="took>250:1"),
            outcome("nonce:took:quantile", slot=5, counter="took:31"),
            outcome("nonce:took:mean", slot=5, counter="took_mean:0", pair=(312.0, 0.0)),
        ]
        assert await store.observe(told) == [Applied.COUNTED] * 3
        assert await store.observe(told) == [Applied.DUPLICATE] * 3
        assert await store.readings(DIGITS) == Readings(
            {cell("took>250:1"): 1, cell("took:31"): 1}, {cell("took_mean:0"): Moments(1, 312.0)}
        )
