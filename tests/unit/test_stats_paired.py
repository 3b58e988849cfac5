"""Paired tests: exact by enumeration, and what they make of answers that are bad together."""

from itertools import product
from math import exp, factorial, log, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.moments import Moments
from experiments.stats.paired import (
    Pairs,
    mcnemar_log_e,
    paired_difference_interval,
    paired_log_e,
    paired_mean_interval,
    paired_ratio_interval,
)
from experiments.stats.stages import Side

ONE_SIDED = (Side.GREATER, Side.LESS)

counts = st.integers(min_value=0, max_value=10**6)
hundreds = st.integers(min_value=0, max_value=999)
tables = st.builds(Pairs, counts, counts, counts, counts)


def expected(log_e_of: object, n: int, rates: tuple[float, float, float, float]) -> float:
    """Return the expectation of an e-value over every outcome of `n` pairs."""
    assert callable(log_e_of)
    mean = 0.0
    for seen in product(range(n + 1), repeat=4):
        if sum(seen) == n:
            ways = factorial(n) / prod(map(factorial, seen))
            chance = prod(rate**times for rate, times in zip(rates, seen, strict=True))
            mean += ways * chance * exp(log_e_of(Pairs(*seen)))
    return mean


def rates_of(treatment: float, control: float, both: float) -> tuple[float, float, float, float]:
    return 1.0 - treatment - control + both, treatment - both, control - both, both


@pytest.mark.parametrize("side", Side)
def test_mcnemars_e_value_is_worth_one_if_both_versions_are_bad_equally_often(side: Side) -> None:
    found = expected(lambda pairs: mcnemar_log_e(pairs, side=side), 6, rates_of(0.3, 0.3, 0.1))
    assert found == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("side", ONE_SIDED)
@pytest.mark.parametrize(
    ("ratio", "difference"), [(2.0, 0.0), (0.5, 0.0), (1.0, 0.1), (1.5, -0.05)]
)
@pytest.mark.parametrize("together", [0.0, 0.5, 1.0])
def test_on_the_margin_the_e_value_is_worth_one_however_much_is_bad_together(
    side: Side, ratio: float, difference: float, together: float
) -> None:
    control = 0.2
    treatment = ratio * control + difference
    rates = rates_of(treatment, control, together * min(treatment, control))
    found = expected(
        lambda pairs: paired_log_e(pairs, side=side, ratio=ratio, difference=difference), 5, rates
    )
    assert found == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(("side", "treatment"), [(Side.GREATER, 0.3), (Side.LESS, 0.5)])
def test_inside_the_null_the_e_value_is_worth_less_than_one(side: Side, treatment: float) -> None:
    rates = rates_of(treatment, 0.2, 0.1)
    assert expected(lambda pairs: paired_log_e(pairs, side=side, ratio=2.0), 5, rates) < 0.99


@given(pairs=st.builds(Pairs, counts, hundreds, hundreds, counts), side=st.sampled_from(ONE_SIDED))
def test_without_a_margin_the_bets_are_mcnemars_test(pairs: Pairs, side: Side) -> None:
    assert paired_log_e(pairs, side=side) == pytest.approx(
        mcnemar_log_e(pairs, side=side), abs=1e-6
    )


@given(pairs=tables, margin=st.floats(min_value=1.0, max_value=10.0))
def test_both_sides_are_the_same_question_with_the_answers_exchanged(
    pairs: Pairs, margin: float
) -> None:
    found = paired_log_e(pairs, side=Side.LESS, ratio=margin)
    exchanged = paired_log_e(pairs.mirrored, side=Side.GREATER, ratio=1.0 / margin)
    assert found == pytest.approx(exchanged, rel=1e-9, abs=1e-9)


def test_the_bets_are_those_of_jeffreys_prior() -> None:
    pairs = Pairs(40, 5, 2, 3)

    def capital(u: float) -> float:
        bet = np.sin(u)
        return float((1 + bet / 2) ** 5 * (1 - bet) ** 2 * (1 - bet / 2) ** 3) * 2 / np.pi

    integral = quad(capital, 0.0, np.pi / 2)[0]
    assert paired_log_e(pairs, side=Side.GREATER, ratio=2.0) == pytest.approx(log(integral))


def test_answers_that_are_bad_together_make_no_ratio_of_rates() -> None:
    """In pairs with one bad answer alone it is ten to one; the rates are 11 % and 10.1 %."""
    pairs = Pairs(89_000, 1_000, 100, 10_000)
    assert mcnemar_log_e(pairs, side=Side.GREATER) > log(1e6)
    assert paired_log_e(pairs, side=Side.GREATER, ratio=1.5) < 0.0
    assert paired_log_e(pairs, side=Side.LESS, ratio=1.5) > log(1e6)


def test_a_version_that_alone_is_bad_is_found_in_tens_of_pairs() -> None:
    assert paired_log_e(Pairs(20, 20, 0, 0), side=Side.GREATER, ratio=2.0) > log(1 / 0.05)
    assert mcnemar_log_e(Pairs(0, 7, 0, 0), side=Side.GREATER) > log(1 / 0.05)


def test_pairs_without_a_bad_answer_say_nothing_of_a_ratio() -> None:
    assert paired_log_e(Pairs(10_000, 0, 0, 0), side=Side.LESS, ratio=2.0) == 0.0
    assert isinstance(paired_ratio_interval(Pairs(10_000, 0, 0, 0), alpha=0.05), Insufficient)


@pytest.mark.parametrize("side", ONE_SIDED)
def test_no_pairs_are_no_evidence(side: Side) -> None:
    nothing = Pairs(0, 0, 0, 0)
    assert paired_log_e(nothing, side=side, ratio=2.0) == 0.0
    assert mcnemar_log_e(nothing, side=side) == 0.0
    assert paired_difference_interval(nothing, alpha=0.05) == Interval(-1.0, 1.0)


@given(pairs=tables)
def test_intervals_hold_their_estimate(pairs: Pairs) -> None:
    difference = paired_difference_interval(pairs, alpha=0.05)
    assert -1.0 <= difference.low <= difference.high <= 1.0
    assert difference.estimate is None or (
        difference.low - 1e-9 <= difference.estimate <= difference.high + 1e-9
    )
    ratio = paired_ratio_interval(pairs, alpha=0.05)
    if isinstance(ratio, Interval) and ratio.estimate is not None:
        assert ratio.low <= ratio.estimate * (1 + 1e-6)
        assert ratio.estimate <= ratio.high * (1 + 1e-6)


@pytest.mark.parametrize("pairs", [Pairs(0, 50, 0, 0), Pairs(0, 0, 50, 0), Pairs(0, 0, 0, 50)])
def test_intervals_reach_to_the_ends_of_what_is_possible(pairs: Pairs) -> None:
    found = paired_difference_interval(pairs, alpha=0.05)
    assert found.estimate is not None
    assert found.low <= found.estimate <= found.high
    assert found.high - found.low < 0.25


def test_an_interval_excludes_what_the_test_refutes() -> None:
    pairs = Pairs(900, 40, 8, 30)
    low = paired_ratio_interval(pairs, alpha=0.05)
    assert isinstance(low, Interval)
    for ratio, refuted in [(0.99 * low.low, True), (1.01 * low.low, False)]:
        found = paired_log_e(pairs, side=Side.GREATER, ratio=ratio)
        assert (found >= log(2 / 0.05)) is refuted


@pytest.mark.parametrize(
    ("ratio", "difference"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (1.0, -1.0), (0.5, -0.5)]
)
def test_a_margin_that_no_rate_can_reach_is_refused(ratio: float, difference: float) -> None:
    with pytest.raises(ValueError, match="no rate"):
        paired_log_e(Pairs(1, 1, 1, 1), side=Side.GREATER, ratio=ratio, difference=difference)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Pairs(1, -1, 0, 0)


def test_a_mean_of_differences_is_shown_once_there_are_enough() -> None:
    steady = Moments.of([1.0, -1.0, 2.0, 0.0] * 50)
    found = paired_mean_interval(steady, alpha=0.05, planned=200)
    assert isinstance(found, Interval)
    assert found.estimate == 0.5
    assert found.low < 0.5 < found.high
    few = paired_mean_interval(Moments(24, 1.0, 9.0), alpha=0.05, planned=200)
    assert isinstance(few, Insufficient)
    same = paired_mean_interval(Moments(400, 0.0, 0.0), alpha=0.05, planned=200)
    assert same == Insufficient("all 400 pairs differ by the same 0")
