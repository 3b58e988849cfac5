"""How soon harm is found in a 5 % canary when nobody knew the success rate beforehand."""

from math import log
from statistics import median

import numpy as np
import pytest

from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e
from experiments.stats.events import event_ratio_log_e
from experiments.stats.stages import Side, StageCounts, StageEvents

SHARE = 0.05
REJECT = log(20.0)
RUNS = 40


@pytest.mark.parametrize(
    ("control_rate", "treatment_rate", "looks", "bound"),
    [
        (0.02, 0.0, range(50, 1_000, 25), 400),
        (0.90, 0.70, range(5, 200, 5), 45),
        (0.97, 0.93, range(50, 1_500, 50), 400),
    ],
)
def test_harm_is_found_within_a_bound(control_rate, treatment_rate, looks, bound):
    rng = np.random.default_rng(11)
    needed = [_canary_units(rng, control_rate, treatment_rate, looks) for _ in range(RUNS)]
    print(f"{control_rate} -> {treatment_rate}: median {median(needed)} canary units")  # noqa: T201
    assert median(needed) <= bound


def test_no_harm_is_found_where_there_is_none():
    rng = np.random.default_rng(12)
    looks = range(50, 1_050, 50)
    found = [_canary_units(rng, 0.9, 0.9, looks) < looks.stop for _ in range(RUNS)]
    assert sum(found) <= 0.15 * RUNS


def test_a_few_errors_in_the_treatment_alone_are_enough():
    needed = next(
        errors
        for errors in range(1, 100)
        if event_ratio_log_e([StageEvents(errors, 0, SHARE)], tau=(0.7, 3.0), side=Side.GREATER)
        >= log(60.0)
    )
    print(f"{needed} treatment errors without one in the control")  # noqa: T201
    assert needed <= 6


def _canary_units(rng, control_rate, treatment_rate, looks):
    """Canary units at the first look that rejects, or the end of the looks."""
    seen = [0, 0, 0, 0]
    before = 0
    for look in looks:
        treated, before = look - before, look
        control = int(rng.negative_binomial(treated, SHARE))
        s1 = int(rng.binomial(treated, treatment_rate))
        s0 = int(rng.binomial(control, control_rate))
        seen = [a + b for a, b in zip(seen, (s1, treated - s1, s0, control - s0), strict=True)]
        log_e = randomisation_log_e(
            [StageCounts(*seen, share=SHARE)],
            tau=1.5,
            planning_rate=UNKNOWN_RATE,
            side=Side.LESS,
            scale=Scale.ODDS_RATIO,
        )
        if log_e >= REJECT:
            return look
    return looks.stop
