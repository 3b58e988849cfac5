"""Under the null an e-value is 1 on average: counted out, not simulated."""

from itertools import product
from math import exp, factorial, fsum, isclose, prod

import pytest
from scipy.stats import binom

from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e
from experiments.stats.combine import e_holm, weighted_mean_log_e
from experiments.stats.events import conditional_log_e, event_ratio_log_e
from experiments.stats.proportion import below_rate_log_e
from experiments.stats.rate_ratio import shifted_share
from experiments.stats.sample_ratio import multinomial_log_e, sample_ratio_log_e
from experiments.stats.stages import Side, StageCounts, StageEvents

SIDES = list(Side)
SCALES = list(Scale)
ONE_SIDED = [Side.GREATER, Side.LESS]
BETS = {
    "one rate": {"tau": 0.3, "planning_rate": 0.2},
    "rates over 1 are capped": {"tau": 2.0, "planning_rate": 0.95},
    "several rates": {"tau": 0.5, "planning_rate": UNKNOWN_RATE},
    "several rates and taus": {"tau": (0.1, 3.0), "planning_rate": (0.02, 0.9)},
    "few nodes": {"tau": 1.0, "planning_rate": 0.5, "nodes": 3},
}


def _coin(n, share):
    return [(k, float(binom.pmf(k, n, share))) for k in range(n + 1)]


@pytest.mark.parametrize("bet", BETS.values(), ids=BETS.keys())
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("side", SIDES)
def test_randomisation_is_fair_whatever_the_outcomes(side, scale, bet):
    """The outcomes are given, and drift from stage to stage; only the assignment is random."""
    (successes, failures, share), (later_successes, later_failures, later_share) = (
        (2, 4, 0.05),
        (5, 1, 0.5),
    )
    mean = fsum(
        a * b * c * d
        * exp(
            randomisation_log_e(
                [
                    StageCounts(s, f, successes - s, failures - f, share),
                    StageCounts(t, g, later_successes - t, later_failures - g, later_share),
                ],
                side=side,
                scale=scale,
                **bet,
            )
        )
        for (s, a), (f, b), (t, c), (g, d) in product(
            _coin(successes, share),
            _coin(failures, share),
            _coin(later_successes, later_share),
            _coin(later_failures, later_share),
        )
    )  # fmt: skip
    assert isclose(mean, 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("bet", BETS.values(), ids=BETS.keys())
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("side", ONE_SIDED)
def test_a_good_treatment_is_no_evidence_of_harm_nor_the_reverse(side, scale, bet):
    better, worse, share, n = 0.7, 0.4, 0.3, 6
    treated, control = (worse, better) if side is Side.GREATER else (better, worse)
    chances = (
        share * treated,
        share * (1.0 - treated),
        (1.0 - share) * control,
        (1.0 - share) * (1.0 - control),
    )
    mean = fsum(
        _multinomial(cells, chances)
        * exp(
            randomisation_log_e([StageCounts(*cells, share=share)], side=side, scale=scale, **bet)
        )
        for cells in _splits(n, 4)
    )
    assert mean < 1.0


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.25])
@pytest.mark.parametrize("tau", [0.05, 0.7, (0.3, 3.0), 20.0])
@pytest.mark.parametrize("side", SIDES)
def test_event_ratio_is_fair_at_its_margin_and_unfair_to_us_beyond(side, tau, margin):
    def mean(ratio):
        return fsum(
            a * b
            * exp(
                event_ratio_log_e(
                    [StageEvents(k, 9 - k, 0.05), StageEvents(m, 7 - m, 0.5)],
                    tau=tau,
                    side=side,
                    margin_ratio=margin,
                )
            )
            for (k, a), (m, b) in product(
                _coin(9, shifted_share(0.05, ratio=ratio)),
                _coin(7, shifted_share(0.5, ratio=ratio)),
            )
        )  # fmt: skip

    assert isclose(mean(margin), 1.0, rel_tol=1e-12)
    if side is Side.GREATER:
        assert mean(margin * 0.8) < 1.0
    elif side is Side.LESS:
        assert mean(margin * 1.25) < 1.0


@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.6, 11.4), (50.0, 950.0)])
@pytest.mark.parametrize("side", SIDES)
def test_conditional_test_is_fair(side, prior):
    mean = fsum(
        p * exp(conditional_log_e(k, 30 - k, share=0.05, prior=prior, side=side))
        for k, p in _coin(30, 0.05)
    )
    assert isclose(mean, 1.0, rel_tol=1e-11)


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5, 0.97])
def test_a_rate_at_the_bound_is_no_evidence_and_above_it_even_less(rate):
    def mean(true_rate):
        return fsum(p * exp(below_rate_log_e(k, 40, rate=rate)) for k, p in _coin(40, true_rate))

    assert isclose(mean(rate), 1.0, rel_tol=1e-12)
    assert mean(rate + (1.0 - rate) / 3.0) < 1.0


def test_sample_ratio_is_fair_over_a_ramp():
    mean = fsum(
        a * b * exp(sample_ratio_log_e([StageEvents(k, 9 - k, 0.05), StageEvents(m, 7 - m, 0.5)]))
        for (k, a), (m, b) in product(_coin(9, 0.05), _coin(7, 0.5))
    )
    assert isclose(mean, 1.0, rel_tol=1e-12)


@pytest.mark.parametrize("concentration", [0.5, 100.0, 10_000.0])
def test_multinomial_is_fair_for_several_arms(concentration):
    shares = (0.7, 0.2, 0.1)
    mean = fsum(
        _multinomial(counts, shares)
        * exp(multinomial_log_e(counts, shares, concentration=concentration))
        for counts in _splits(8, 3)
    )
    assert isclose(mean, 1.0, rel_tol=1e-12)


def test_closed_testing_never_adds_evidence_and_keeps_the_order():
    log_es = [3.0, -1.0, 5000.0, 0.5]
    adjusted = e_holm(log_es)
    assert all(after <= before for after, before in zip(adjusted, log_es, strict=True))
    assert sorted(range(4), key=adjusted.__getitem__) == sorted(range(4), key=log_es.__getitem__)
    assert e_holm([]) == ()


def test_a_weighted_mean_holds_at_least_its_weighted_part_of_each():
    log_es, weights = [4.0, -2.0, 9.0], [0.2, 0.5, 0.3]
    merged = exp(weighted_mean_log_e(log_es, weights))
    assert isclose(merged, fsum(w * exp(e) for e, w in zip(log_es, weights, strict=True)))


def _splits(n, cells):
    if cells == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in _splits(n - first, cells - 1):
            yield (first, *rest)


def _multinomial(counts, chances):
    ways = factorial(sum(counts)) // prod(map(factorial, counts))
    return ways * prod(p**k for p, k in zip(chances, counts, strict=True))
