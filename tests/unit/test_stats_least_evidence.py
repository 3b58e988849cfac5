"""The search for the least evidence looks at few places, and misses nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.stats.latency_grid import OVERFLOW
from experiments.stats.least_evidence import greater_and_less_log_e, greater_log_e
from experiments.stats.quantile_bets import QuantileStage, quantile_bets
from experiments.stats.quantiles import quantile_log_e, quantile_log_es
from experiments.stats.stages import Side

HISTOGRAMS = st.dictionaries(
    st.integers(190, 230) | st.sampled_from([0, 1, OVERFLOW - 1, OVERFLOW]),
    st.integers(0, 40) | st.integers(0, 10**9),
    max_size=30,
)
STAGES = st.lists(st.builds(QuantileStage.of_histograms, HISTOGRAMS, HISTOGRAMS), max_size=3)


@given(
    STAGES,
    st.sampled_from([0.01, 0.5, 0.9, 0.999]),
    st.sampled_from([10.0, 2_000.0]),
    st.integers(-12, 12) | st.sampled_from([-600, 600]),
)
def test_it_finds_what_looking_everywhere_finds(stages, p, tuned_n, shift):
    bets = quantile_bets(p, tuned_n, 0.05, one_sided=True)
    seen = [stage for stage in stages if stage.comparable]
    greater = sum(bets.greater(stage, shift) for stage in seen)
    less = sum(bets.greater(stage.swapped(), -shift) for stage in seen)
    assert greater_log_e(bets, stages, shift) == pytest.approx(greater, rel=1e-9, abs=1e-9)
    both = greater_and_less_log_e(bets, stages, shift, shift)
    assert both == pytest.approx((greater, less), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("ratio", [0.8, 1.0, 1.2])
def test_both_sides_in_one_go_are_each_of_them(ratio):
    rng = np.random.default_rng(3)
    stages = [
        QuantileStage.of_histograms(*(dict(enumerate(rng.poisson(9, 400))) for _ in range(2)))
        for _ in range(3)
    ]
    found = quantile_log_es(stages, p=0.9, tuned_n=2_000, ratio=ratio)
    for side, log_e in found.items():
        alone = quantile_log_e(stages, p=0.9, tuned_n=2_000, ratio=ratio, side=side)
        assert log_e == pytest.approx(alone, rel=1e-12)
    assert set(found) == {Side.GREATER, Side.LESS}


def test_values_of_stages_may_lie_on_grids_of_different_length():
    few = QuantileStage.of_values([1.0, 2.0, 3.0], [2.0, 2.5])
    many = QuantileStage.of_values([3.0, 4.0, 5.0, 6.0], [1.0, 1.5, 2.0, 7.0])
    bets = quantile_bets(0.5, 10.0, 0.05, one_sided=True)
    alone = bets.greater(few, 0) + bets.greater(many, 0)
    assert greater_log_e(bets, [few, many], 0) == pytest.approx(alone, rel=1e-12)
