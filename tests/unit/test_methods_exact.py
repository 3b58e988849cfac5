"""What the exact methods promise, by enumeration: every assignment, each weighted with its chance.

A few units have outcomes that no variant changes. Whatever the mixture, margin or side, the
e-value is 1 on average (or, where the null has room, at most 1).
"""

from itertools import product
from math import exp, fsum, prod

import pytest

from experiments.evidence import Sample
from experiments.methods import NO_MARGIN, Aim, Compared, Margin, Side
from experiments.methods.choice import method_of
from experiments.metric import (
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Metric,
    Score,
    Slow,
    Worse,
)

SHARES = (0.05, 0.5)
STARS = Score(1.0, 5.0, 1.0)
GOAL = Goal(Metric("m", Binary()), Direction.INCREASE, 0.05)
KNOWN = Goal(Metric("m", Binary()), Direction.INCREASE, 0.05, baseline=0.6)
RATED = Goal(Metric("m", STARS), Direction.INCREASE, 0.05)
COUNTED = Guardrail(Metric("m", Count()), Worse.HIGHER, max_ratio=1.5, negligible=0.01)
SLOWED = Guardrail(Metric("m", Slow(250)), Worse.HIGHER, max_difference=0.1)


def enumerated(outcomes, stages, asked, *, reported=None, **question):
    """Return the mean e-value over all assignments of units with these (stage, index) outcomes.

    Args:
        reported: The challenger's true part of the outcomes; the promised one if left out.
    """
    comparisons = []
    for arms in product((True, False), repeat=len(outcomes)):
        chance = prod(
            (reported or stages[stage]) if treated else 1 - (reported or stages[stage])
            for (stage, _), treated in zip(outcomes, arms, strict=True)
        )
        seen = []
        for number, share in enumerate(stages):
            counts: dict[bool, dict[int, int]] = {True: {}, False: {}}
            for (stage, index), treated in zip(outcomes, arms, strict=True):
                if stage == number:
                    counts[treated][index] = counts[treated].get(index, 0) + 1
            units = {arm: sum(counts[arm].values()) for arm in counts}
            seen.append(
                Compared(
                    Sample(counts[True]), Sample(counts[False]), units[True], units[False], share
                )
            )
        method = method_of(asked, returning=False)
        comparisons.append(chance * exp(method.compare(seen).log_e(**question)))
    return fsum(comparisons)


TWO_STAGES = [(0, 1), (0, 0), (0, 1), (1, 1), (1, 0), (1, 1), (1, 1)]


@pytest.mark.parametrize("aim", [Aim.BETTER, Aim.HARM])
@pytest.mark.parametrize("side", [Side.GREATER, Side.LESS])
@pytest.mark.parametrize("goal", [GOAL, KNOWN])
def test_a_binary_goal_without_effect_is_worth_one_on_average(goal, side, aim):
    """Without a baseline some is given up, in case one arm reports fewer of its outcomes."""
    mean = enumerated(TWO_STAGES, SHARES, goal, side=side, aim=aim)
    if goal is GOAL and aim is Aim.BETTER:
        assert 0.1 < mean < 1
    else:
        assert mean == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.45])
def test_an_arm_that_reports_less_is_not_better_for_it(share):
    """However few outcomes the challenger reports, if as many of them are successes."""
    outcomes = [(0, 1), (0, 0), (0, 1), (0, 0)]
    mean = enumerated(outcomes, (0.5,), GOAL, side=Side.GREATER, aim=Aim.BETTER, reported=share)
    assert mean <= 1 + 1e-12


@pytest.mark.parametrize("aim", list(Aim))
@pytest.mark.parametrize("side", [Side.GREATER, Side.LESS])
def test_events_without_effect_are_worth_one_on_average(side, aim):
    """Asked for safety, they may be worth less: rare events are safe whatever their ratio."""
    mean = enumerated([(stage, 1) for stage, _ in TWO_STAGES], SHARES, COUNTED, side=side, aim=aim)
    assert mean <= 1 + 1e-9
    if aim is not Aim.SAFE:
        assert mean == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("side", [Side.GREATER, Side.LESS])
@pytest.mark.parametrize("aim", list(Aim))
def test_scores_without_effect_are_worth_one_on_average(side, aim):
    stars = [(0, 4), (0, 1), (1, 3), (1, 0), (1, 4), (1, 2)]
    assert enumerated(stars, SHARES, RATED, side=side, aim=aim) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(
    ("asked", "side", "margin"),
    [
        (GOAL, Side.GREATER, Margin(ratio=1.2)),
        (GOAL, Side.LESS, Margin(ratio=0.8)),
        (GOAL, Side.GREATER, Margin(difference=0.1)),
        (GOAL, Side.LESS, Margin(difference=-0.1)),
        (RATED, Side.GREATER, Margin(ratio=1.1)),
        (RATED, Side.LESS, Margin(ratio=0.9)),
        (RATED, Side.LESS, Margin(difference=-0.5)),
        (COUNTED, Side.GREATER, Margin(ratio=1.5)),
        (SLOWED, Side.GREATER, Margin(difference=0.1)),
    ],
)
@pytest.mark.parametrize("aim", list(Aim))
def test_no_effect_is_within_any_margin(asked, side, margin, aim):
    """Arms that do not differ are inside of the null, so the e-value is at most 1 on average."""
    mean = enumerated(TWO_STAGES, SHARES, asked, side=side, margin=margin, aim=aim)
    assert mean <= 1 + 1e-12


@pytest.mark.parametrize("asked", [GOAL, RATED, COUNTED])
def test_without_outcomes_there_is_no_evidence_neither_way(asked):
    seen = [Compared(Sample(), Sample(), 10, 10, 0.5)]
    for side in (Side.GREATER, Side.LESS):
        found = method_of(asked, returning=False).compare(seen)
        assert found.log_e(side=side, margin=NO_MARGIN, aim=Aim.HARM) == 0.0
