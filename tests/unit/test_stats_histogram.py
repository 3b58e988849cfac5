"""Latency buckets: fixed edges, sums, and quantiles rounded outward."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.stats.histogram import count_above, dense, histogram_quantile
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.latency_grid import (
    BUCKETS,
    EDGES,
    GROWTH,
    OVERFLOW,
    bucket_of,
    lower_edge,
    upper_edge,
)

LATENCIES = st.floats(0.0, 1e7) | st.integers(0, 10**7)


def test_edges_grow_by_two_percent_from_a_millisecond_to_a_minute():
    assert EDGES[0] == 1.0
    assert EDGES[-2] < 60_000.0 <= EDGES[-1]
    assert all(
        upper_edge(i) == lower_edge(i + 1) and upper_edge(i + 1) == upper_edge(i) * GROWTH
        for i in range(OVERFLOW - 1)
    )


def test_the_grid_never_changes():
    assert (len(EDGES), EDGES[100].hex(), EDGES[-1].hex()) == (
        557,
        "0x1.cfa848313f2dfp+2",
        "0x1.d89751b72eb24p+15",
    )


@given(LATENCIES)
def test_a_value_is_above_the_edge_before_its_bucket_and_not_above_its_own(value):
    bucket = bucket_of(value)
    assert value <= upper_edge(bucket)
    assert value > lower_edge(bucket) or bucket == 0


@pytest.mark.parametrize("bucket", range(0, OVERFLOW, 50))
def test_an_edge_is_in_the_bucket_that_it_closes(bucket):
    edge = EDGES[bucket]
    assert bucket_of(edge) == bucket
    assert bucket_of(edge * (1.0 + 1e-9)) == bucket + 1


def test_what_is_beyond_the_last_edge_overflows():
    assert bucket_of(EDGES[-1] + 1.0) == bucket_of(inf) == OVERFLOW
    assert upper_edge(OVERFLOW) == inf


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_no_latency_is_negative_or_not_a_number(value):
    with pytest.raises(ValueError):
        bucket_of(value)


@pytest.mark.parametrize("counts", [{-1: 1}, {BUCKETS: 1}, {3: -1}])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError):
        dense(counts)


@given(st.lists(LATENCIES, min_size=1, max_size=30), st.sampled_from([0.01, 0.5, 0.9, 0.99]))
def test_the_quantile_of_the_values_is_within_the_edges(values, p):
    counts = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    found = histogram_quantile(counts, p=p)
    ordered = sorted(values)
    quantile = next(v for i, v in enumerate(ordered, 1) if i >= p * len(values) * (1 - 1e-12))
    assert found.low <= quantile <= found.high


def test_a_part_that_is_a_whole_number_of_values_is_not_rounded_up():
    assert histogram_quantile({10: 7, 20: 93}, p=0.07).high == upper_edge(10)


def test_no_observations_have_no_quantile_and_the_overflow_bucket_no_estimate():
    assert isinstance(histogram_quantile({}, p=0.5), Insufficient)
    assert histogram_quantile({OVERFLOW: 1}, p=0.5) == Interval(EDGES[-1], inf)


def test_values_above_a_limit_are_counted_from_its_next_edge():
    counts = {bucket_of(99): 1, bucket_of(100): 2, bucket_of(105): 4, OVERFLOW: 8}
    assert count_above(counts, 100.0) == 12
    assert count_above(counts, 1e9) == 0
