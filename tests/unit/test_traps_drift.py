"""Time changes everything at once: what is compared across it is no effect."""

from math import inf, log

import numpy as np
import pytest

from experiments.stats.brownian import FARTHEST_Z, Step
from experiments.stats.means import StageMoments, mean_log_e
from experiments.stats.mixture import normal_mixture_log_e
from experiments.stats.moments import Moments
from experiments.stats.spending import boundary
from experiments.stats.stages import Side

ENOUGH = log(20.0)


def arm(n, mean, variance=1.0):
    return Moments(n, mean, variance * (n - 1))


def pooled(stages):
    one, other = stages[0].treatment, stages[0].control
    for stage in stages[1:]:
        one, other = one.merged(stage.treatment), other.merged(stage.control)
    return StageMoments(one, other)


def test_a_ramp_during_a_drift_is_no_effect_on_a_mean():
    """Both arms have equal means throughout; only their mix over time differs."""
    stages = [
        StageMoments(arm(500, 1.0), arm(9_500, 1.0)),
        StageMoments(arm(5_000, 1.5), arm(5_000, 1.5)),
    ]
    assert mean_log_e([pooled(stages)], side=Side.GREATER, tau=0.1) > 10.0 * ENOUGH
    assert mean_log_e(stages, side=Side.TWO_SIDED, tau=0.1) < 0.0


def test_arms_that_a_bandit_feeds_are_compared_where_their_shares_were_equal():
    """The share follows chance while the level rises; the arms never differ.

    Here the greedy allocation sends more to whichever arm has the larger raw mean, so that arm
    gets the late, high values, and stays ahead.
    """
    runs, rng = 60, np.random.default_rng(17)
    raw_found = stratified_found = 0
    for _ in range(runs):
        stages = []
        for batch in range(10):
            share = 0.5
            if stages:
                so_far = pooled(stages)
                share = 0.9 if so_far.treatment.mean > so_far.control.mean else 0.1
            treated = round(500 * share)
            level = 0.2 * batch
            stages.append(
                StageMoments(
                    Moments.of(rng.normal(level, 1.0, treated)),
                    Moments.of(rng.normal(level, 1.0, 500 - treated)),
                )
            )
        raw_found += mean_log_e([pooled(stages)], side=Side.TWO_SIDED, tau=0.1) > ENOUGH
        stratified_found += mean_log_e(stages, side=Side.TWO_SIDED, tau=0.1) > ENOUGH
    assert raw_found > 0.5 * runs
    assert stratified_found <= 0.05 * runs


def test_a_tau_taken_from_the_data_under_test_finds_what_is_not_there():
    """The likeliest tau, chosen anew at every look, forgets what looking costs.

    So its error grows without bound as data come in; looks here are ever further apart.
    """
    runs, looks, rng = 300, 150, np.random.default_rng(23)
    information = 1.2 ** np.arange(looks)
    steps = np.sqrt(np.diff(information, prepend=0.0))
    z = (rng.normal(size=(runs, looks)) * steps).cumsum(axis=1) / np.sqrt(information)

    def found(tau_squared):
        return sum(
            any(
                abs(value) > 1.0 and normal_mixture_log_e(value, tau_squared(value, n) * n) > ENOUGH
                for value, n in zip(row, information, strict=True)
            )
            for row in z.tolist()
        )

    refitted = found(lambda value, n: max(value * value - 1.0, 1e-9) / n)
    frozen = found(lambda _value, _n: 8.0 / information[50])
    assert refitted > 0.12 * runs
    assert frozen <= 0.05 * runs


def test_users_are_no_clock_for_what_is_known():
    """A ramp of 0.5 %, 1 % and 50 %: most of the users bring a fiftieth of the information.

    Boundaries for looks that are taken to be as far apart as their users let too much through.
    Computed, not drawn: the chance that a true null is rejected at any of the looks.
    """
    times = np.arange(1, 13) / 12
    shares = np.repeat([0.005, 0.01, 0.5], 4)
    information = np.cumsum(shares * (1.0 - shares))

    def rejected(believed):
        looks = tuple(zip(times.tolist(), believed.tolist(), strict=True))
        error, limit, step = 0.0, inf, None
        for place, known in enumerate(information.tolist()):
            step = step.then(-FARTHEST_Z, limit, known) if step else Step.first(known)
            limit = boundary(looks[: place + 1], alpha=0.025)
            error += step.above(limit)
        return error

    assert rejected(times) > 1.5 * 0.025
    assert rejected(information) == pytest.approx(0.025, rel=1e-6)


def test_the_clock_is_information_not_units():
    """A quiet hour brings as many units as a loud one, but ten times as much information.

    A tau in effect units is right at once in both; a mixture tuned to so many units expects the
    same of each.
    """
    quiet, loud = 0.01, 1.0
    log_es = []
    for variance in (quiet, loud):
        n = round(20_000 * variance)
        stages = [StageMoments(arm(n, 1.05, variance), arm(n, 1.0, variance))]
        log_es.append(mean_log_e(stages, side=Side.GREATER, tau=0.05))
    assert abs(log_es[0] - log_es[1]) < 0.1
    assert min(log_es) > ENOUGH
