"""Ways to be wrong that look right, each beside the engine."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.calibration.judged import Rate
from tests.calibration.pitfalls import (
    ANY_VERDICT,
    bandit,
    clock,
    clustering,
    late_labels,
    numbers,
    ramp_and_drift,
    tuning,
    zero_cells,
)
from tests.calibration.shadow import failing_together
from tests.calibration.work import Scale, generator, together

FALSE = "false verdicts"


@dataclass(frozen=True, slots=True)
class Trap:
    """A naive method and ours.

    Args:
        error: What is counted.
    """

    name: str
    naive_way: str
    our_way: str
    error: str
    naive: Rate
    ours: Rate


@dataclass(frozen=True, slots=True)
class Pair:
    """A trap to be run: it gives the naive method's errors and ours."""

    name: str
    naive_way: str
    our_way: str
    errors: Callable[[np.random.Generator, int], tuple[int, int]]
    runs: int
    alpha: float
    error: str = FALSE


MISSED_AT_MOST = 0.2
MISSED = "missed"
PAIRS = (
    Pair(
        "Zero cells",
        "z-score of the log ratio, refused at 0 successes",
        "exact, with failures as well",
        zero_cells,
        500,
        MISSED_AT_MOST,
        f"{MISSED} within 1,000 canary requests",
    ),
    Pair(
        "Ramp plus drift",
        "counts pooled over stages",
        "each stage within itself",
        ramp_and_drift,
        500,
        ANY_VERDICT,
    ),
    Pair(
        "Clustering",
        "requests as if independent",
        "variance between hash groups of users",
        clustering,
        500,
        ANY_VERDICT,
    ),
    Pair(
        "Clock",
        "users taken for information",
        "information as it is",
        clock,
        2_000,
        0.025,
        "false promotions",
    ),
    Pair(
        "Tuning",
        "the mixture's width from the data under test",
        "width fixed beforehand",
        tuning,
        1_000,
        ANY_VERDICT,
    ),
    Pair(
        "Bandits",
        "raw means under greedy allocation",
        "each allocation within itself",
        bandit,
        500,
        ANY_VERDICT,
    ),
    Pair(
        "Numbers",
        "variance by sums of squares, at a mean of 1e9",
        "merged deviations",
        numbers,
        400,
        MISSED_AT_MOST,
        f"{MISSED} differences of 0.3 standard deviations",
    ),
    Pair(
        "Late labels",
        "outcomes as they come",
        "both arms at equal age",
        late_labels,
        400,
        ANY_VERDICT,
    ),
    Pair(
        "Failing together",
        "ratio of pairs in which one alone fails",
        "ratio of the rates, from pairs",
        failing_together,
        400,
        0.05,
        "false rollbacks",
    ),
)


LEAST_PART = 0.4
"""Of the runs: with fewer, what is wrong is not seen to be."""


def traps(scale: Scale) -> tuple[Trap, ...]:
    """Run each trap."""
    scale = replace(scale, part=max(scale.part, LEAST_PART))
    tasks = [(_run, (pair, scale.seed, scale.runs(pair.runs))) for pair in PAIRS]
    found = dict(together(tasks, scale.jobs, "traps"))
    return tuple(
        Trap(
            pair.name,
            pair.naive_way,
            pair.our_way,
            pair.error,
            *(Rate(errors, scale.runs(pair.runs), pair.alpha) for errors in found[index]),
        )
        for index, pair in enumerate(PAIRS)
    )


def _run(pair: Pair, seed: int, runs: int) -> tuple[int, int]:
    return pair.errors(generator(seed, f"trap {pair.name}"), runs)
