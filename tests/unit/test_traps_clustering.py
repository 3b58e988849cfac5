"""Users are randomised, requests are observed: requests of one user are no independent units."""

from math import log

import numpy as np
import pytest

from experiments.stats.binary import UNKNOWN_RATE, randomisation_log_e
from experiments.stats.means import StageMoments, mean_log_e
from experiments.stats.moments import Moments
from experiments.stats.ratio import GroupedStage, GroupSums, ratio_log_e
from experiments.stats.stages import Side, StageCounts

RUNS, GROUPS, USERS = 100, 64, 600
ENOUGH = log(20.0)


def users(rng, *, binary):
    """Requests and their outcomes per user: some ask often, and outcomes stick to the user."""
    requests = 1 + rng.poisson(20.0, USERS)
    if binary:
        return requests, rng.binomial(requests, rng.beta(0.5, 2.0, USERS))
    level = rng.normal(0.0, 1.0, USERS)
    noise = rng.normal(0.0, 1.0, USERS) * np.sqrt(requests)
    return requests, requests * level + noise


def grouped(requests, outcomes):
    bucket = np.arange(USERS) % GROUPS
    return GroupSums(
        tuple(np.bincount(bucket, outcomes, GROUPS).tolist()),
        tuple(np.bincount(bucket, requests, GROUPS).tolist()),
    )


def as_if_independent(requests, outcomes):
    n, mean = int(requests.sum()), outcomes.sum() / requests.sum()
    return Moments(n, float(mean), float(2.0 * n))


@pytest.mark.parametrize("binary", [False, True], ids=["value", "outcome seen many times a user"])
def test_requests_of_a_user_are_not_independent(binary):
    rng = np.random.default_rng(29)
    naive_found = grouped_found = 0
    for _ in range(RUNS):
        (n1, y1), (n0, y0) = users(rng, binary=binary), users(rng, binary=binary)
        if binary:
            (s1, t1), (s0, t0) = (int(y1.sum()), int(n1.sum())), (int(y0.sum()), int(n0.sum()))
            counts = StageCounts(s1, t1 - s1, s0, t0 - s0, share=0.5)
            naive = randomisation_log_e([counts], tau=0.1, planning_rate=UNKNOWN_RATE)
        else:
            stage = StageMoments(as_if_independent(n1, y1), as_if_independent(n0, y0))
            naive = mean_log_e([stage], side=Side.TWO_SIDED, tau=0.1)
        naive_found += naive > ENOUGH
        stage = GroupedStage(grouped(n1, y1), grouped(n0, y0))
        grouped_found += ratio_log_e([stage], side=Side.TWO_SIDED, tau=0.05) > ENOUGH
    assert naive_found > 0.15 * RUNS
    assert grouped_found <= 0.05 * RUNS


def test_users_who_stay_over_stages_are_not_new_ones():
    """Stage after stage the same users answer: their groups' residuals add up, not their squares.

    Taking stages as independent would make the error of four stages half that of one.
    """
    rng = np.random.default_rng(31)
    one, other = grouped(*users(rng, binary=False)), grouped(*users(rng, binary=False))
    stage = GroupedStage(one, other)
    once = ratio_log_e([stage], side=Side.GREATER, tau=0.1, difference=-0.5)
    often = ratio_log_e([stage] * 4, side=Side.GREATER, tau=0.1, difference=-0.5)
    assert often == pytest.approx(once, rel=1e-9)
