"""Summaries: merged in any way they are those of all values at once."""

from functools import reduce
from math import isclose, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.stats.moments import EMPTY, Moments, total

numbers = st.floats(-1e6, 1e6)
pairs = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30)
few = settings(max_examples=25, deadline=None)


def of(values):
    return Moments.of([y for y, _ in values], [x for _, x in values])


def agree(one, other):
    spread = 1e-9 * (one.m2 + one.m2_x) + 1e-3
    return (
        one.n == other.n
        and isclose(one.mean, other.mean, rel_tol=1e-9, abs_tol=1e-7)
        and isclose(one.mean_x, other.mean_x, rel_tol=1e-9, abs_tol=1e-7)
        and isclose(one.m2, other.m2, rel_tol=1e-9, abs_tol=spread)
        and isclose(one.m2_x, other.m2_x, rel_tol=1e-9, abs_tol=spread)
        and isclose(one.co, other.co, rel_tol=1e-9, abs_tol=spread)
    )


@few
@given(pairs, st.integers(0, 30), st.integers(0, 30))
def test_splits_and_their_order_do_not_matter(values, cut, other_cut):
    low, high = sorted((min(cut, len(values)), min(other_cut, len(values))))
    parts = [of(values[:low]), of(values[low:high]), of(values[high:])]
    whole = of(values)
    assert agree(whole, total(parts))
    assert agree(whole, total(parts[::-1]))
    assert agree(whole, parts[0].merged(parts[1].merged(parts[2])))


@few
@given(pairs)
def test_one_value_at_a_time_is_as_good_as_all_at_once(values):
    assert agree(of(values), reduce(Moments.merged, (of([pair]) for pair in values), EMPTY))


@few
@given(pairs.filter(lambda values: len(values) > 1))
def test_variances_and_covariance_are_numpys(values):
    found = of(values)
    expected = np.cov(np.array(values).T)
    room = 1e-9 * float(np.trace(expected)) + 1e-6
    assert isclose(found.variance, expected[0, 0], rel_tol=1e-9, abs_tol=room)
    assert isclose(found.variance_x, expected[1, 1], rel_tol=1e-9, abs_tol=room)
    assert isclose(found.covariance, expected[0, 1], rel_tol=1e-9, abs_tol=room)


def test_equal_values_have_no_spread_at_all():
    assert Moments.of([0.1] * 7).m2 == 0.0
    assert Moments.of([0.1] * 7).merged(Moments.of([0.1])).m2 == 0.0


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_values_have_no_variance(n):
    found = Moments.of([3.0] * n)
    assert (found.variance, found.variance_x, found.covariance) == (None, None, None)


@pytest.mark.parametrize(
    "wrong",
    [{"n": -1}, {"n": 1, "mean": nan}, {"n": 2, "m2": -1.0}, {"n": 2, "m2_x": -1.0}],
)
def test_what_cannot_be_a_summary_is_refused(wrong):
    with pytest.raises(ValueError):
        Moments(**wrong)


def test_every_value_needs_its_x():
    with pytest.raises(ValueError, match="as many x"):
        Moments.of([1.0, 2.0], [1.0])
