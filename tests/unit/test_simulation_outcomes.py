"""Generated outcomes have the values that are supposed, and are kept as the store keeps them."""

from math import sqrt

import numpy as np
import pytest

from experiments.metric import GROUPS, Binary, Mean, Quantile, Ratio, Score
from experiments.simulation.clustered import Visits
from experiments.simulation.heaps import Sums
from experiments.simulation.sources import Amounts, Events, Grades, Times, beta_binomial
from experiments.stats.histogram import histogram_quantile
from experiments.stats.moments import Moments, total

N = 20_000
SIZES = np.array([N // 4, 3 * N // 4])


def rng():
    return np.random.default_rng(7)


def near(found, wanted, variance, n=N):
    """Six standard errors: once in 500 million seeds by chance."""
    return abs(found - wanted) < 6.0 * sqrt(variance / n)


@pytest.mark.parametrize("both", [True, False])
def test_events_happen_at_their_rate(both):
    sample = Events(0.2, both).draw(rng(), SIZES, 1.5).sample(None)
    assert near(sample.counts[1] / N, 0.3, 0.21)
    assert sample.counts.get(0) == (N - sample.counts[1] if both else None)


@pytest.mark.parametrize("spread", [None, 0.9])
def test_scores_have_their_mean_and_stay_on_the_grid(spread):
    kind = Score(1.0, 5.0, 0.5)
    sample = Grades(kind, 3.0, spread).draw(rng(), SIZES, 1.1).sample(None)
    assert set(sample.counts) <= set(range(len(kind.grid)))
    mean = sum(kind.grid[place] * count for place, count in sample.counts.items()) / N
    assert near(mean, 3.3, 1.0)


@pytest.mark.parametrize(("at", "spread"), [(0.0, 0.2), (1.0, 0.2), (0.01, 5.0), (0.5, 0.0)])
def test_a_score_whose_spread_cannot_be_met_keeps_its_mean(at, spread):
    chances = beta_binomial(10, at, spread)
    assert chances.sum() == pytest.approx(1.0)
    assert chances @ np.arange(11) / 10 == pytest.approx(at)


def test_times_have_their_quantile():
    sample = Times(Quantile(0.9), 120.0).draw(rng(), SIZES, 1.25).sample(None)
    found = histogram_quantile(sample.counts, p=0.9)
    assert 0.95 * 150 < found.low <= found.high < 1.05 * 150


@pytest.mark.parametrize("covariate", [True, False])
def test_amounts_have_their_mean_and_spread_and_are_cut_off(covariate):
    kind = Mean(0.0, 1e6, covariate)
    sample = Amounts(kind, 20.0, 10.0).draw(rng(), SIZES, 1.1).sample(None)
    found = sample.moments[int(covariate)]
    assert found.n == N
    assert near(found.mean, 22.0, 121.0)
    assert found.variance == pytest.approx(121.0, rel=0.1)
    assert (found.co > 0.4 * sqrt(found.m2 * found.m2_x)) == covariate
    capped = Amounts(Mean(0.0, 21.0), 20.0, 10.0).draw(rng(), SIZES, 1.0).sample(None)
    assert capped.moments[0].mean < 20.0


@pytest.mark.parametrize(
    ("kind", "mean"),
    [(Binary(), 0.3), (Score(0.0, 5.0, 1.0), 3.0), (Mean(0.0, 1e6), 9.0), (Ratio(), 10.0)],
)
def test_outcomes_of_every_request_have_their_value_in_hash_groups_that_vary_more(kind, mean):
    sample = Visits(kind, mean, mean, visits=4.0, alike=0.6).draw(rng(), SIZES, 1.0).sample(None)
    assert set(sample.moments) == set(range(GROUPS))
    whole = total(sample.moments.values())
    assert whole.n > 3 * N
    assert whole.mean / whole.mean_x == pytest.approx(mean, rel=0.1)
    # As if requests were independent, groups would vary less than they do.
    means = [group.mean / group.mean_x for group in sample.moments.values()]
    naive = np.mean(
        [group.variance / group.n / group.mean_x**2 for group in sample.moments.values()]
    )
    assert isinstance(kind, Ratio) or np.var(means) > 1.3 * naive


def test_sums_are_the_moments_of_each_cell_and_merge_to_those_of_all():
    ys, xs = rng().normal(1e9, 1.0, 600), rng().normal(5.0, 2.0, 600)
    segments, columns = np.arange(600) % 2, np.arange(600) // 2 % 3

    def heaped(part):
        return Sums.of(
            ys[part],
            xs[part],
            segments=segments[part],
            columns=columns[part],
            shape=(2, 3),
            indices=(10, 11, 12),
        )

    heap = heaped(slice(0, 250))
    heap.add(heaped(slice(250, 600)))
    for segment in (0, 1, None):
        for column in range(3):
            inside = (columns == column) & ((segments == segment) | (segment is None))
            wanted = Moments.of(ys[inside], xs[inside])
            found = heap.sample(segment).moments[10 + column]
            assert found.n == wanted.n
            assert found.mean == pytest.approx(wanted.mean, rel=1e-12)
            assert (found.m2, found.m2_x, found.co) == pytest.approx(
                (wanted.m2, wanted.m2_x, wanted.co), rel=1e-6
            )
