"""Quantiles of latencies: valid for any true quantile, honest about what a bucket hides."""

from itertools import product
from math import comb, exp, inf, isfinite, log, prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.stats.bands import count_radius, distribution_radius
from experiments.stats.beta import log_relative_beta, log_relative_lower_beta
from experiments.stats.beta_arrays import log_relative_betas, log_relative_lower_betas
from experiments.stats.events import conditional_log_e
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.latency_grid import BUCKETS, GROWTH, OVERFLOW, bucket_of, upper_edge
from experiments.stats.quantile_bets import quantile_bets
from experiments.stats.quantiles import (
    QuantileStage,
    quantile_interval,
    quantile_log_e,
    quantile_ratio_interval,
)
from experiments.stats.stages import Side

SIDES = list(Side)
TUNED = {"p": 0.5, "tuned_n": 100}
HISTOGRAMS = st.dictionaries(
    st.sampled_from([0, 1, 3, 200, 201, 202, 230, OVERFLOW - 1, OVERFLOW]),
    st.integers(0, 40) | st.integers(0, 10**9),
    max_size=6,
)


def bell(middle, *, width=20, scale=1):
    """A histogram whose median is in bucket `middle`."""
    return {
        middle + k: scale * comb(2 * width, width + k) // 4 ** (width - 8)
        for k in range(-width, width + 1)
    }


def expected_e(treatment, control, *, n, **given_):
    """The exact expectation of the e-value for n units per arm; keys are buckets."""
    total = 0.0
    arms = [_multinomials(control, n), _multinomials(treatment, n)]
    for (chance0, counts0), (chance1, counts1) in product(*arms):
        stage = QuantileStage.of_histograms(counts1, counts0)
        total += chance0 * chance1 * exp(quantile_log_e([stage], **given_))
    return total


def _multinomials(chances, n):
    """All histograms of n units, with their probabilities."""
    buckets = list(chances)
    for counts in product(range(n + 1), repeat=len(buckets)):
        if sum(counts) == n:
            ways, left = 1, n
            for count in counts:
                ways, left = ways * comb(left, count), left - count
            chance = ways * prod(chances[b] ** c for b, c in zip(buckets, counts, strict=True))
            yield chance, dict(zip(buckets, counts, strict=True))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("treatment", "control"),
    [
        ({200: 0.5, 210: 0.5}, {200: 0.5, 230: 0.5}),
        ({200: 0.2, 210: 0.3, 220: 0.5}, {190: 0.5, 215: 0.5}),
        ({200: 0.3, 210: 0.7}, {205: 0.4, 210: 0.4, 220: 0.2}),
    ],
    ids=["at one edge", "at an edge, spread", "within one bucket"],
)
def test_expectation_is_at_most_one_if_the_quantile_is_the_same(treatment, control, side):
    assert expected_e(treatment, control, n=4, p=0.5, tuned_n=4, side=side) <= 1.0 + 1e-12


def test_expectation_is_at_most_one_at_and_inside_the_margin():
    base, slower = {200: 0.4, 210: 0.6}, {205: 0.4, 215: 0.6}
    given_ = {"n": 4, "p": 0.5, "tuned_n": 4}
    at = GROWTH**5
    assert expected_e(slower, base, side=Side.GREATER, ratio=at, **given_) <= 1.0
    assert expected_e(slower, base, side=Side.LESS, ratio=at, **given_) <= 1.0
    assert expected_e(slower, base, side=Side.TWO_SIDED, ratio=at, **given_) <= 1.0
    assert expected_e(base, slower, side=Side.GREATER, **given_) <= 1.0


@given(HISTOGRAMS, HISTOGRAMS, st.sampled_from([0.5, 0.99]), st.integers(-600, 600))
def test_the_least_evidence_is_found_among_all_buckets(treatment, control, p, shift):
    stage = QuantileStage.of_histograms(treatment, control)
    if not stage.comparable:
        return
    bets = quantile_bets(p, 100.0, 0.05, one_sided=True)
    n1, n0 = sum(treatment.values()), sum(control.values())
    evidence = []
    for bucket in {0, OVERFLOW, *control, *(b - shift for b in treatment)} & set(range(BUCKETS)):
        last = OVERFLOW if bucket == OVERFLOW else max(bucket + shift, 0)
        most1 = sum(count for b, count in treatment.items() if b <= last)
        fewest0 = sum(count for b, count in control.items() if b < bucket)
        prior = (bets.a, bets.b)
        few = conditional_log_e(most1, n1 - most1, share=p, prior=prior, side=Side.LESS)
        many = conditional_log_e(fewest0, n0 - fewest0, share=p, prior=prior, side=Side.GREATER)
        evidence.append(few + many)
    assert bets.greater(stage, shift) == pytest.approx(min(evidence), rel=1e-7, abs=1e-7)


@given(HISTOGRAMS, HISTOGRAMS, st.sampled_from(SIDES), st.sampled_from([1.0, 1.1, 0.9, 3.0]))
def test_swapping_the_arms_swaps_the_sides(a, b, side, ratio):
    mirrored = {Side.GREATER: Side.LESS, Side.LESS: Side.GREATER}.get(side, side)
    found = quantile_log_e([QuantileStage.of_histograms(a, b)], side=side, ratio=ratio, **TUNED)
    assert isfinite(found)
    if side is not Side.TWO_SIDED or ratio == 1.0:
        swapped = [QuantileStage.of_histograms(b, a)]
        other = quantile_log_e(swapped, side=mirrored, ratio=1.0 / ratio, **TUNED)
        assert other == pytest.approx(found, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("side", SIDES)
def test_arms_within_one_bucket_never_differ(side):
    stage = QuantileStage.of_histograms({200: 10**9}, {200: 10**9})
    assert quantile_log_e([stage], side=side, **TUNED) <= 0.0
    overflown = QuantileStage.of_histograms({OVERFLOW: 10**9}, {OVERFLOW: 10**9})
    assert quantile_log_e([overflown], side=side, **TUNED) <= 0.0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("arms", [({}, {}), ({200: 9}, {}), ({}, {200: 10**9})])
def test_an_empty_arm_is_no_evidence(arms, side):
    assert quantile_log_e([QuantileStage.of_histograms(*arms)], side=side, **TUNED) == 0.0


def test_a_slower_treatment_is_found_on_its_side_and_up_to_its_ratio():
    stage = [QuantileStage.of_histograms(bell(210), bell(200))]
    assert quantile_log_e(stage, side=Side.GREATER, **TUNED) > log(1000.0)
    assert quantile_log_e(stage, side=Side.LESS, **TUNED) < 0.0
    assert quantile_log_e(stage, **TUNED) > log(1000.0)
    assert quantile_log_e(stage, side=Side.GREATER, ratio=GROWTH**10, **TUNED) < 0.0
    assert quantile_log_e(stage, side=Side.LESS, ratio=GROWTH**20, **TUNED) > log(1000.0)


@pytest.mark.parametrize(("ratio", "buckets"), [(1.019, 1), (1.02, 1), (1.021, 2), (0.99, 0)])
def test_a_ratio_between_buckets_is_rounded_away_from_rejection(ratio, buckets):
    stage = [QuantileStage.of_histograms(bell(205), bell(200))]
    rounded = quantile_log_e(stage, side=Side.GREATER, ratio=GROWTH**buckets, **TUNED)
    assert quantile_log_e(stage, side=Side.GREATER, ratio=ratio, **TUNED) == rounded


def test_a_ramp_with_drift_is_no_evidence_stage_by_stage_though_pooled_it_is():
    slow, fast = bell(250), bell(200)
    stages = [
        QuantileStage.of_histograms(slow, {b: 19 * c for b, c in slow.items()}),
        QuantileStage.of_histograms({b: 9 * c for b, c in fast.items()}, fast),
    ]
    pooled = QuantileStage(
        stages[0].treatment + stages[1].treatment, stages[0].control + stages[1].control, GROWTH
    )
    for side in SIDES:
        assert quantile_log_e(stages, side=side, **TUNED) < 0.0
    assert quantile_log_e([pooled], **TUNED) > log(1e6)


def test_raw_values_need_no_histogram_but_have_no_ratio():
    rng = np.random.default_rng(7)
    fast, slow = rng.exponential(1.0, 2_000), rng.exponential(1.4, 2_000)
    stage = QuantileStage.of_values(slow, fast)
    assert quantile_log_e([stage], p=0.5, tuned_n=2_000, side=Side.GREATER) > log(20.0)
    with pytest.raises(ValueError):
        quantile_log_e([stage], ratio=1.1, **TUNED)
    with pytest.raises(ValueError):
        quantile_ratio_interval([stage], alpha=0.05, **TUNED)


@given(HISTOGRAMS, st.sampled_from([0.5, 0.99]))
def test_the_interval_of_one_arm_holds_its_empirical_quantile(counts, p):
    found = quantile_interval(counts, p=p, alpha=0.05, tuned_n=100)
    if not any(counts.values()):
        assert isinstance(found, Insufficient)
    else:
        assert isinstance(found, Interval)
        assert 0.0 <= found.low <= (found.estimate or inf) <= found.high


def test_intervals_narrow_from_everything_to_a_bucket():
    few = quantile_interval({200: 2}, alpha=0.05, **TUNED)
    assert (few.low, few.high) == (0.0, inf)
    many = quantile_interval({200: 10**9}, alpha=0.05, **TUNED)
    assert (many.low, many.high) == (upper_edge(199), upper_edge(200))


def test_the_ratio_interval_is_the_tests_inverted():
    stages = [
        QuantileStage.of_histograms(bell(205), bell(200, scale=19)),
        QuantileStage.of_histograms(bell(165), bell(160)),
    ]
    found = quantile_ratio_interval(stages, alpha=0.05, **TUNED)
    assert found.low < found.estimate < found.high
    assert found.estimate == pytest.approx(GROWTH**5)
    for end, side, step in ((found.low, Side.GREATER, 1.02), (found.high, Side.LESS, 1 / 1.02)):
        tuned = {"side": side, "alpha": 0.025, **TUNED}
        assert quantile_log_e(stages, ratio=end, **tuned) >= log(40.0)
        assert quantile_log_e(stages, ratio=end * step, **tuned) < log(40.0)


def test_a_ratio_is_unbounded_with_little_data_and_unknown_with_one_arm():
    few = quantile_ratio_interval(
        [QuantileStage.of_histograms({200: 1}, {210: 1})], alpha=0.05, **TUNED
    )
    assert (few.low, few.high) == (0.0, inf)
    overflown = QuantileStage.of_histograms({OVERFLOW: 50}, {200: 50})
    lost = quantile_ratio_interval([overflown], alpha=0.05, **TUNED)
    assert (lost.high, lost.estimate) == (inf, None)
    assert lost.low > 100.0
    alone = [QuantileStage.of_histograms({200: 5}, {})]
    assert isinstance(quantile_ratio_interval(alone, alpha=0.05, **TUNED), Insufficient)


@pytest.mark.parametrize("wrong", [{"p": 0.0}, {"p": 1.0}, {"tuned_n": 0}, {"ratio": 0.0}])
def test_what_is_no_quantile_is_refused(wrong):
    stage = QuantileStage.of_histograms({bucket_of(100): 1}, {bucket_of(100): 1})
    with pytest.raises(ValueError):
        quantile_log_e([stage], **{**TUNED, **wrong})


@pytest.mark.parametrize("x", [0.01, 0.5, 0.99])
def test_integrals_of_whole_arrays_are_those_of_their_elements(x):
    a = np.array([0.3, 5.0, 29.0, 31.0, 4e3, 1e6, 1e9, 1e9, 7.0])
    b = np.array([0.7, 2e3, 40.0, 31.0, 50.0, 1e6, 1e9, 3.0, 1e9])
    pairs = list(zip(a.tolist(), b.tolist(), strict=True))
    whole = [log_relative_beta(*pair, x) for pair in pairs]
    lower = [log_relative_lower_beta(*pair, x) for pair in pairs]
    assert log_relative_betas(a, b, x) == pytest.approx(whole, rel=1e-12, abs=1e-9)
    assert log_relative_lower_betas(a, b, x) == pytest.approx(lower, rel=1e-8, abs=1e-8)


def test_radii_never_exceed_what_is_possible_and_fall_with_n():
    assert count_radius(3, p=0.5, alpha=1e-9, tuned_n=3) == 1.5
    one_sided = count_radius(400, p=0.5, alpha=0.05, tuned_n=400, one_sided=True)
    assert one_sided < count_radius(400, p=0.5, alpha=0.05, tuned_n=400)
    assert distribution_radius(99, alpha=0.05, first_n=100) == inf
    radii = [distribution_radius(n, alpha=0.05, first_n=100) for n in (100, 10**4, 10**9)]
    assert radii == sorted(radii, reverse=True)
