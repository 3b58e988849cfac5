"""Values are summed up around their mean, nothing twice, in memory and on a real Redis."""

import asyncio
from math import inf, nan

import pytest

from experiments.model import ExperimentName
from experiments.stats.moments import Moments
from experiments.store import Applied, Readings, Store
from experiments.store.pairs import LARGEST
from tests.contract.conftest import DIGITS, assert_close, cell, outcome

REVENUE = cell("revenue:1")
PAIRS = [(3.5, 2.0), (-1.25, 0.0), (0.0, 7.5), (3.5, 2.0), (1e-3, -4.0)]


async def observe(store: Store, *pairs: tuple[float, float], prediction: str = "p") -> None:
    told = [
        outcome(f"{prediction}{number}", counter="revenue:1", pair=pair)
        for number, pair in enumerate(pairs)
    ]
    assert await store.observe(told) == [Applied.COUNTED] * len(pairs)


def summary(*pairs: tuple[float, float]) -> Moments:
    return Moments.of([y for y, _ in pairs], [x for _, x in pairs])


async def test_values_and_what_goes_with_them_are_summed_up(store: Store) -> None:
    await observe(store, *PAIRS)
    readings = await store.readings(DIGITS)
    assert readings.counts == {}
    assert_close(readings.moments, {REVENUE: summary(*PAIRS)})


async def test_the_first_value_is_kept_as_it_is(store: Store) -> None:
    await observe(store, (0.1, 1 / 3))
    assert (await store.readings(DIGITS)).moments == {REVENUE: Moments(1, 0.1, 0.0, 1 / 3)}


@pytest.mark.parametrize("size", [1, 2, 3])
async def test_it_does_not_matter_how_values_are_divided_into_calls(
    store: Store, size: int
) -> None:
    for start in range(0, len(PAIRS), size):
        await observe(store, *PAIRS[start : start + size], prediction=f"{start}/")
    assert_close((await store.readings(DIGITS)).moments, {REVENUE: summary(*PAIRS)})


async def test_a_mean_of_a_thousand_million_leaves_a_variance_of_one(store: Store) -> None:
    pairs = [(1e9 + step, -1e9 - step) for step in (-1.0, 0.0, 1.0)] * 100
    await observe(store, *pairs)
    found = (await store.readings(DIGITS)).moments[REVENUE]
    assert found.n == 300
    assert found.mean == pytest.approx(1e9, rel=1e-15)
    assert found.variance == pytest.approx(200 / 299, rel=1e-6)
    assert found.variance_x == pytest.approx(200 / 299, rel=1e-6)
    assert found.covariance == pytest.approx(-200 / 299, rel=1e-6)


async def test_values_that_are_all_equal_have_no_spread_at_all(store: Store) -> None:
    await observe(store, *[(0.1, 1e9 / 7)] * 200)
    expected = Moments(200, 0.1, 0.0, 1e9 / 7)
    assert (await store.readings(DIGITS)).moments == {REVENUE: expected}


@pytest.mark.parametrize("values", [(LARGEST, -LARGEST, LARGEST), (5e-324, 0.0, -0.0)])
async def test_the_largest_and_the_smallest_values_do_no_harm(
    store: Store, values: tuple[float, ...]
) -> None:
    pairs = [(value, -value) for value in values]
    await observe(store, *pairs)
    assert_close((await store.readings(DIGITS)).moments, {REVENUE: summary(*pairs)})


@pytest.mark.parametrize("bad", [nan, inf, -inf, 2 * LARGEST])
@pytest.mark.parametrize("place", [0, 1])
async def test_a_value_that_would_spoil_the_moments_is_refused(
    store: Store, bad: float, place: int
) -> None:
    pair = (bad, 1.0) if place == 0 else (1.0, bad)
    with pytest.raises(ValueError, match="values are numbers from"):
        await store.observe([outcome("a"), outcome("b", pair=pair)])
    assert await store.readings(DIGITS) == Readings()


async def test_an_outcome_is_merged_once(store: Store) -> None:
    told = outcome("a", counter="revenue:1", pair=(2.0, 1.0))
    other = outcome("a", counter="revenue:1", pair=(9.0, 9.0))
    assert await store.observe([told, told]) == [Applied.COUNTED, Applied.DUPLICATE]
    assert await store.observe([other]) == [Applied.DUPLICATE]
    assert (await store.readings(DIGITS)).moments == {REVENUE: Moments(1, 2.0, 0.0, 1.0)}


async def test_a_unit_is_merged_once_a_stage_in_the_order_of_stages(store: Store) -> None:
    told = [
        outcome("a", slot=5, counter="revenue:1", pair=(2.0, 1.0), stage=1),
        outcome("b", slot=5, counter="revenue:0", pair=(9.0, 0.0), stage=1),
        outcome("c", slot=5, counter="revenue:1", pair=(9.0, 9.0), stage=0),
        outcome("d", slot=5, counter="revenue:1", pair=(4.0, 3.0), stage=2),
    ]
    assert await store.observe(told) == [
        Applied.COUNTED,
        Applied.REPEATED_UNIT,
        Applied.REPEATED_UNIT,
        Applied.COUNTED,
    ]
    assert (await store.readings(DIGITS)).moments == {
        cell("revenue:1", stage=1): Moments(1, 2.0, 0.0, 1.0),
        cell("revenue:1", stage=2): Moments(1, 4.0, 0.0, 3.0),
    }


async def test_where_every_outcome_counts_a_unit_is_merged_each_time(store: Store) -> None:
    await observe(store, (1.0, 1.0), (3.0, 1.0))
    await observe(store, (5.0, 1.0), prediction="later")
    found = (await store.readings(DIGITS)).moments[REVENUE]
    assert (found.n, found.mean, found.variance) == (3, 3.0, 4.0)


async def test_cells_that_differ_in_one_thing_are_summed_up_apart(store: Store) -> None:
    told = [
        outcome("a", counter="revenue:1", pair=(1.0, 0.0)),
        outcome("b", counter="revenue:0", pair=(2.0, 0.0)),
        outcome("c", counter="revenue:1", pair=(3.0, 0.0), version=3),
        outcome("d", counter="revenue:1", pair=(4.0, 0.0), segment=1),
        outcome("e", counter="revenue:1", pair=(5.0, 0.0), cohort=20_000),
        outcome("f", counter="revenue:1", pair=(6.0, 0.0), stage=1),
        outcome("g", counter="revenue:1", pair=(7.0, 0.0), experiment="other"),
    ]
    await store.observe(told)
    found = dict((await store.readings(DIGITS)).moments)
    found |= (await store.readings(ExperimentName("other"))).moments
    assert found == {record.cell: Moments(1, float(n)) for n, record in enumerate(told, start=1)}


async def test_a_cell_may_be_counted_and_summed_up(store: Store) -> None:
    await store.observe([outcome("a"), outcome("b", pair=(2.0, 0.0)), outcome("c")])
    assert await store.readings(DIGITS) == Readings(
        {cell("correct:1"): 2}, {cell("correct:1"): Moments(1, 2.0)}
    )


async def test_many_outcomes_in_many_groups_are_all_summed_up(store: Store) -> None:
    told = [
        outcome(str(n), counter=f"revenue:{n % 100}", pair=(float(n), 1.0)) for n in range(1000)
    ]
    await store.observe(told)
    groups = {
        cell(f"revenue:{group}"): summary(*[(float(n), 1.0) for n in range(group, 1000, 100)])
        for group in range(100)
    }
    assert_close((await store.readings(DIGITS)).moments, groups)


async def test_what_is_read_is_of_one_moment(store: Store) -> None:
    """A report adds to both, so whoever reads between reports finds as many in each."""

    async def report() -> None:
        for n in range(100):
            await store.observe([outcome(f"c{n}"), outcome(f"m{n}", pair=(1.0, 0.0))])

    reporting = asyncio.create_task(report())
    while not reporting.done():
        readings = await store.readings(DIGITS)
        counted = readings.counts.get(cell("correct:1"), 0)
        assert readings.moments.get(cell("correct:1"), Moments(0)).n == counted
        await asyncio.sleep(0)
    await reporting
