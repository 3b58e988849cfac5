"""The calibration, small enough for every test run: it counts rightly, finds what is planted."""

from math import isclose, log

import numpy as np
import pytest

from experiments.stats.mixture import normal_mixture_log_e
from tests.calibration import canary, shadow
from tests.calibration.cases import cases
from tests.calibration.judged import Rate
from tests.calibration.margins import margins
from tests.calibration.race import CONTROL, KNOWN, draw, evidence_at, open_ended
from tests.calibration.rivals import every_look, mixture_log_e
from tests.calibration.shadow import shadows
from tests.calibration.work import generator, judge, judge_chunk

ALL = (*cases(), *margins(), *shadows())
EVERY = {case.name: case for case in ALL}
SEED = 1


def test_a_rate_is_too_high_only_beyond_doubt():
    assert Rate(25, 1_000, 0.025).kept
    assert Rate(35, 1_000, 0.025).kept
    assert not Rate(50, 1_000, 0.025).kept


def test_cases_have_names_of_their_own():
    assert len(EVERY) == len(ALL)


@pytest.mark.parametrize(
    "name",
    [
        "binary, ramp and drift",
        "mean, covariate, ramp",
        "score, half and half",
        "ratio, clustered, ramp",
        "count, half and half",
        "three challengers, ramp and drift",
        "three segments, half and half",
        "labels late, one arm's sooner, ramp and drift",
        "binary, absolute, at its margin, ramp",
        "pairs, three challengers, at its margin, half and half",
        "pairs, then users, at its margin, half and half",
    ],
)
def test_a_few_runs_of_each_sort_stay_within_what_is_promised(name):
    case = EVERY[name]
    rates = judge(case, SEED, 3)
    assert set(rates) == set(case.verdicts)
    assert all(rate.kept for rate in rates.values())


def test_the_same_seed_gives_the_same_verdicts():
    case = EVERY["binary, ramp"]
    assert judge_chunk(case, SEED, 3, 2) == judge_chunk(case, SEED, 3, 2)


def test_the_units_of_a_history_are_those_of_its_traffic():
    source = EVERY["binary, ramp"].source
    *_, last = source.histories(np.random.default_rng(SEED), 1).looks(0)
    units = sum(
        s.champion.units + sum(c.units for c in s.challengers.values()) for s in last.stages
    )
    assert units == source.traffic.units


def test_a_large_effect_is_promoted():
    counts = draw(np.random.default_rng(SEED), 2, 2.0 * CONTROL, reach=0.2)
    assert all(open_ended(KNOWN, evidence_at(counts, run)) > 0 for run in range(2))


def test_a_z_test_at_every_look_finds_what_is_not_there():
    counts = draw(np.random.default_rng(SEED), 100, CONTROL, reach=1.0)
    assert (every_look(counts) >= 0).mean() > 0.2


def test_many_log_e_values_at_once_are_those_of_the_engine():
    z, w = np.array([-3.0, 0.5, 40.0]), np.array([0.1, 8.0, 300.0])
    expected = [normal_mixture_log_e(*each) for each in zip(z.tolist(), w.tolist(), strict=True)]
    assert all(map(isclose, mixture_log_e(z, w).tolist(), expected))
    assert normal_mixture_log_e(40.0, 8.0) > log(20.0)


def test_a_canary_that_never_succeeds_is_rolled_back_and_one_as_good_is_not():
    broken = canary.seen(generator(SEED, "broken"), 2, rate=0.0)
    assert all(canary.rolled_back(run.tolist()) < 1_000 for run in broken)
    alike = canary.seen(generator(SEED, "alike"), 1, rate=canary.RATE)[:, :20]
    assert canary.rolled_back(alike[0].tolist()) == np.inf


def test_a_challenger_that_fails_in_the_shadow_is_rolled_back_and_one_that_does_not_is_let_out():
    failing = shadow.watch(SEED, 0, 2, shadow.FAILING)
    assert failing[:, 1].all()
    assert (failing[:, 0] < 500).all()
    (pairs, rolled_back), *_ = shadow.watch(SEED, 0, 1, shadow.LIKE)
    assert (pairs >= 500, bool(rolled_back)) == (True, False)
