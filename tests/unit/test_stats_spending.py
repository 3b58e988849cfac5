"""Spending the error over looks: what is spent is what was declared, whenever one looks."""

from itertools import pairwise
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from experiments.stats.brownian import FARTHEST_Z, Step
from experiments.stats.designs import Design
from experiments.stats.spending import (
    LEAST_GROWTH,
    Monitor,
    PowerFamily,
    boundary,
    obrien_fleming,
    pocock_type,
)

spendings = st.sampled_from([obrien_fleming, pocock_type, PowerFamily(1.0), PowerFamily(3.0)])
sides = st.sampled_from([1, 2])
alphas = st.sampled_from([0.001, 0.025, 0.05, 0.2])
times = st.lists(st.integers(1, 999), unique=True, max_size=8).map(
    lambda found: [*(k / 1_000 for k in sorted(found)), 1.0]
)


def boundaries(looks, **declared):
    monitor = Monitor.begin(declared.pop("alpha"), **declared)
    found = []
    for time, information in looks:
        z, monitor = monitor.look(time, information)
        found.append(z)
    return found, monitor


def equal_looks(count):
    return [(k / count, float(k)) for k in range(1, count + 1)]


@pytest.mark.parametrize(
    ("count", "table"),
    [
        (2, [2.963, 1.969]),
        (3, [3.710, 2.511, 1.993]),
        (4, [4.333, 2.963, 2.359, 2.014]),
        (5, [4.877, 3.357, 2.680, 2.290, 2.031]),
    ],
)
def test_boundaries_are_those_of_the_tables(count, table):
    found, _ = boundaries(equal_looks(count), alpha=0.05, sides=2)
    assert found == pytest.approx(table, abs=6e-4)


def test_each_side_spends_half_rather_than_both_in_one_piece():
    """Spending the two-sided level as if it were one side's gives another boundary."""
    found, _ = boundaries(equal_looks(5), alpha=0.05, sides=2)
    in_one_piece, _ = boundaries(
        equal_looks(5), alpha=0.05, sides=2, spending=lambda t, a: obrien_fleming(t, 2.0 * a) / 2.0
    )
    assert in_one_piece == pytest.approx([4.383, 3.100, 2.553, 2.254, 2.064], abs=2e-3)
    assert found[0] - in_one_piece[0] > 0.4


@given(times=times, alpha=alphas, sides=sides, spending=spendings)
def test_a_true_null_is_rejected_with_the_declared_probability(times, alpha, sides, spending):
    found, monitor = boundaries(
        [(t, t) for t in times], alpha=alpha, sides=sides, spending=spending
    )
    again = Design.of(times, found, sides=sides)
    assert again.rejections().sum() == pytest.approx(alpha, rel=1e-8)
    assert monitor.spent == pytest.approx(alpha, rel=1e-12)


@given(times=times, alpha=alphas, sides=sides, spending=spendings)
def test_no_more_is_spent_by_any_time_than_may_be(times, alpha, sides, spending):
    found, _ = boundaries([(t, t) for t in times], alpha=alpha, sides=sides, spending=spending)
    spent = np.cumsum(Design.of(times, found, sides=sides).rejections())
    allowed = [sides * spending(t, alpha / sides) for t in times]
    assert spent == pytest.approx(allowed, rel=1e-6, abs=1e-13)


@given(times=times, alpha=alphas, sides=sides, spending=spendings)
def test_looking_more_often_only_raises_the_last_boundary(times, alpha, sides, spending):
    declared = {"alpha": alpha, "sides": sides, "spending": spending}
    many, _ = boundaries([(t, t) for t in times], **declared)
    one, _ = boundaries([(1.0, 1.0)], **declared)
    assert one == pytest.approx([-ndtri(alpha / sides)], rel=1e-9)
    assert many[-1] >= one[0] - 1e-9
    assert all(-ndtri(alpha / sides) - 1e-9 <= z <= FARTHEST_Z for z in many)


@given(times=times, unit=st.sampled_from([1e-9, 1.0, 1e12]))
def test_only_ratios_of_information_count(times, unit):
    first, _ = boundaries([(t, t) for t in times], alpha=0.05)
    second, _ = boundaries([(t, t * unit) for t in times], alpha=0.05)
    assert second == pytest.approx(first, rel=1e-9)


def test_obrien_fleming_boundaries_fall_from_look_to_look():
    found, _ = boundaries(equal_looks(40), alpha=0.05)
    assert all(later <= earlier for earlier, later in pairwise(found))


def test_a_resumed_monitor_goes_on_as_if_never_interrupted():
    looks = equal_looks(30)
    expected, _ = boundaries(looks, alpha=0.05, sides=2)
    resumed = [boundary(tuple(looks[:k]), alpha=0.05, sides=2) for k in range(1, 31)]
    assert resumed == expected


def test_many_looks_may_be_recomputed_at_once():
    looks = tuple((k / 120, k / 120) for k in range(1, 121))
    expected, _ = boundaries(looks, alpha=0.025)
    assert boundary(looks, alpha=0.025) == expected[-1]


@pytest.mark.parametrize(
    "times",
    [
        [1e-4, 1.0],
        [1e-4, 1.1e-4, 0.3, 0.3001, 0.5, 0.5002, 0.99, 1.0],
        [0.5, 0.5001, 0.5002, 1.0],
    ],
)
def test_looks_may_be_very_unequal(times):
    found, _ = boundaries([(t, t) for t in times], alpha=0.05, sides=2, spending=pocock_type)
    # Checked by a walk in small steps, that stops only at these looks.
    steps, at = [], []
    for time, z in zip(times, found, strict=True):
        before = steps[-1] if steps else 0.0
        steps += [before + (time - before) / 2.0, time]
        at += [30.0, z]
    assert Design.of(steps, at, sides=2).rejections().sum() == pytest.approx(0.05, rel=1e-8)


def test_a_look_without_news_is_none_and_costs_nothing():
    _, monitor = Monitor.begin(0.05).look(0.5, 1_000.0)
    for information in (1_000.0, 1_000.0 * (1.0 + LEAST_GROWTH / 2.0), 900.0):
        z, after = monitor.look(0.6, information)
        assert z == inf
        assert after is monitor


def test_the_last_look_spends_the_rest_even_without_news():
    _, monitor = Monitor.begin(0.05).look(0.5, 1_000.0)
    z, over = monitor.look(1.0, 1_000.0)
    assert monitor.spent < over.spent == 0.05
    assert z < monitor.boundary


def test_after_the_end_nothing_is_tested_any_more():
    _, over = Monitor.begin(0.05).look(1.3, 1_000.0)
    assert over.look(1.4, 2_000.0) == (inf, over)


def test_time_decides_what_is_spent_and_information_how_it_is_shared():
    slow, _ = boundaries([(0.5, 0.1), (1.0, 1.0)], alpha=0.05)
    fast, _ = boundaries([(0.5, 0.9), (1.0, 1.0)], alpha=0.05)
    assert slow[0] == pytest.approx(fast[0], rel=1e-12)
    # Nearly the same score is tested twice: that leaves more for the second time.
    assert fast[1] < slow[1]


def test_tiny_error_is_spent_at_eight_standard_errors():
    found, monitor = boundaries([(1e-4, 1e-4), (2e-4, 2e-4)], alpha=0.05)
    assert found == [FARTHEST_Z, FARTHEST_Z]
    assert monitor.spent < 1e-14


@pytest.mark.parametrize("alpha", [1e-12, 0.5, 0.99])
@pytest.mark.parametrize("sides", [1, 2])
def test_levels_may_be_extreme(alpha, sides):
    found, monitor = boundaries(equal_looks(4), alpha=alpha, sides=sides)
    assert np.isfinite(found).all()
    assert monitor.spent == alpha


def test_spending_ends_at_the_level():
    for spending in (obrien_fleming, pocock_type, PowerFamily(2.5)):
        spent = [spending(t, 0.025) for t in (1e-300, 1e-3, 0.5, 0.999, 1.0, 7.0)]
        assert spent == sorted(spent)
        assert spent[-2:] == [0.025, 0.025]


def test_drift_is_the_same_put_in_before_or_after():
    """A path with a drift, shifted step by step, against the likelihood ratio."""
    rng = np.random.default_rng(5)
    found, _ = boundaries(equal_looks(3), alpha=0.05)
    design = Design.of([1.0, 2.0, 3.0], found, sides=1)
    scores = np.cumsum(rng.normal(0.8, 1.0, (20_000, 3)), axis=1) / np.sqrt([1.0, 2.0, 3.0])
    share = (scores > found).any(axis=1).mean()
    assert design.rejections(0.8).sum() == pytest.approx(share, abs=0.015)
    assert Step.first(4.0).above(1.5, drift=1.0) == pytest.approx(0.6914625, abs=1e-7)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Monitor.begin(0.0),
        lambda: Monitor.begin(0.05, sides=3),
        lambda: Monitor.begin(0.05).look(0.0, 1.0),
        lambda: Monitor.begin(0.05).look(0.5, inf),
        lambda: Monitor.begin(0.05).look(0.5, float("nan")),
        lambda: PowerFamily(0.0),
        lambda: boundary((), alpha=0.05),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError):
        call()
