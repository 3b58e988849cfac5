"""Values of a batch are summed up, each unit's once a stage, in memory and on a real Redis."""

from math import inf, nan

import pytest

from experiments.stats.moments import Moments
from experiments.store import Batch, Readings, Store
from experiments.store.pairs import LARGEST
from experiments.store.slots import SLOTS
from tests.contract.conftest import DIGITS, assert_close, cell

DIFFERENCE = cell("pair_difference:1")


def batch(start: int, *values: tuple[int | None, float], **of: int) -> Batch:
    where = cell("pair_difference:1", **of)
    return Batch("edge-0:pairs", start, start + 1, values={where: values})


async def test_every_value_without_a_slot_counts(store: Store) -> None:
    await store.apply(batch(0, (None, 1.0), (None, 3.0)))
    await store.apply(batch(1, (None, 5.0)))
    wanted = {DIFFERENCE: Moments.of([1.0, 3.0, 5.0])}
    assert_close((await store.readings(DIGITS)).moments, wanted)


async def test_a_unit_s_first_value_in_a_stage_counts(store: Store) -> None:
    await store.apply(batch(0, (7, 1.0), (7, 9.0), (8, 2.0)))
    await store.apply(batch(1, (8, 9.0), (SLOTS - 1, 3.0)))
    await store.apply(batch(2, (7, 4.0), stage=1))
    assert_close(
        (await store.readings(DIGITS)).moments,
        {
            DIFFERENCE: Moments.of([1.0, 2.0, 3.0]),
            cell("pair_difference:1", stage=1): Moments.of([4.0]),
        },
    )


async def test_units_are_known_by_name_whether_counted_or_summed_up(store: Store) -> None:
    counted, other = cell("pair_difference:0"), cell("pair_latency:1")
    await store.apply(
        Batch(
            "edge-0:pairs",
            0,
            1,
            slots={counted: frozenset({7})},
            values={DIFFERENCE: [(7, 1.0), (8, 2.0)], other: [(7, 3.0)]},
        )
    )
    readings = await store.readings(DIGITS)
    assert readings.counts == {counted: 1}
    assert_close(readings.moments, {DIFFERENCE: Moments.of([2.0]), other: Moments.of([3.0])})


async def test_a_batch_s_values_are_summed_up_once_however_often_it_comes(store: Store) -> None:
    told = batch(0, (None, 1.0), (7, 3.0))
    assert [await store.apply(told) for _ in range(3)] == [1, 1, 1]
    assert_close((await store.readings(DIGITS)).moments, {DIFFERENCE: Moments.of([1.0, 3.0])})


async def test_values_that_are_forgotten_may_come_again(store: Store) -> None:
    await store.apply(batch(0, (7, 1.0)))
    await store.forget(DIGITS)
    await store.apply(batch(1, (7, 2.0)))
    assert_close((await store.readings(DIGITS)).moments, {DIFFERENCE: Moments.of([2.0])})


@pytest.mark.parametrize(
    "bad", [(None, nan), (None, inf), (None, 2 * LARGEST), (-1, 1.0), (SLOTS, 1.0)]
)
async def test_what_would_spoil_moments_or_bitmaps_is_refused(
    store: Store, bad: tuple[int | None, float]
) -> None:
    with pytest.raises(ValueError, match="are numbers from"):
        await store.apply(batch(0, (None, 1.0), bad))
    assert await store.readings(DIGITS) == Readings()
    assert await store.position("edge-0:pairs") is None
