"""What is decided, from counts to verdicts, with the numbers in every reason."""

from dataclasses import replace
from datetime import timedelta
from math import log

import pytest

from experiments.assessment import assess
from experiments.decision import (
    Continue,
    Halt,
    Inconclusive,
    Promote,
    RollBack,
    decide,
)
from experiments.evidence import Evidence, Sample, Tally
from experiments.metric import Direction
from experiments.model import Alpha
from tests.unit.samples import (
    DECLARATION,
    ERRORS,
    LIMITS,
    NOBODY,
    SECOND,
    SLOW,
    START,
    evidence_of,
    plan_at,
    tally,
)

(CHALLENGER,) = DECLARATION.challengers
HARM, PROMOTE, RATIO = log(1 / 0.05), log(1 / 0.025), log(1 / 0.001)
NOW = START + 120 * SECOND
LAST = plan_at(2)
ENOUGH = evidence_of(*[(tally(100), tally(100))] * 3)
HAIR = 1e-9


TOO_LATE = START + LIMITS.max_runtime


def with_units(*challengers: int) -> Evidence:
    return evidence_of(*((tally(units), tally(100)) for units in challengers))


GOOD = tally(500, successes=400, failures=100), tally(1000, successes=600, failures=400)
RAMPED_WELL = ((tally(100), tally(1900)), (tally(420), tally(1580)), GOOD)
PROMOTION = evidence_of(*RAMPED_WELL)


def test_a_better_challenger_is_promoted_with_the_numbers() -> None:
    decision = decide(LAST, PROMOTION, NOW)
    assert isinstance(decision, Promote)
    goal, errors, slow = decision.reasons
    needed = assess(DECLARATION, PROMOTION).of(CHALLENGER).superior
    assert goal == (
        "correct is 80 % (400 of 500) with the challenger and 60 % (600 of 1,000) with the "
        f"champion (e = {needed.e_text}, 40 was needed)."
    )
    assert errors.startswith("error_rate is within its margin (e = ")
    assert slow.startswith("latency_ms>250 is within its margin (e = ")


def test_a_goal_that_is_meant_to_fall_is_promoted_when_it_falls() -> None:
    falling = replace(DECLARATION.goal, direction=Direction.DECREASE)
    rose = decide(plan_at(2, goal=falling), PROMOTION, NOW)
    fell = decide(plan_at(2, goal=falling), mirrored(PROMOTION), NOW)
    assert isinstance(rose, RollBack)
    assert rose.culprits == ("correct",)
    assert isinstance(fell, Promote)


def mirrored(evidence: Evidence) -> Evidence:
    """Return the evidence with success and failure exchanged."""

    def turned(seen: Tally) -> Tally:
        counts = seen.sample("correct").counts
        turned = Sample({0: counts.get(1, 0), 1: counts.get(0, 0)})
        return replace(seen, samples={**seen.samples, "correct": turned})

    return replace(
        evidence,
        stages=tuple(
            replace(
                s,
                challengers={v: turned(arm) for v, arm in s.challengers.items()},
                champion=turned(s.champion),
            )
            for s in evidence.stages
        ),
    )


def test_a_worse_challenger_is_rolled_back_with_the_numbers() -> None:
    seen = evidence_of(
        (tally(100, successes=20, failures=80), tally(1900, successes=1140, failures=760))
    )
    decision = decide(plan_at(0), seen, START)
    assert isinstance(decision, RollBack)
    assert decision.culprits == ("correct",)
    harm = assess(DECLARATION, seen).of(CHALLENGER).any_harm
    assert decision.reasons == (
        "correct is 20 % (20 of 100) with the challenger and 60 % (1,140 of 1,900) with "
        f"the champion (harm: e = {harm.e_text}, 20 was needed).",
    )


@pytest.mark.parametrize(
    ("metric", "bad"), [(ERRORS, {"errors": 60}), (SLOW, {"slow": 60}), ("correct", None)]
)
def test_each_metric_alone_is_reason_enough(metric, bad) -> None:
    challenger = tally(100, failures=100) if bad is None else tally(100, **bad)
    champion = tally(1900, errors=19, slow=19, successes=1900 if bad is None else 0)
    decision = decide(plan_at(0), evidence_of((challenger, champion)), START)
    assert isinstance(decision, RollBack)
    assert decision.culprits == (metric,)


def test_errors_only_with_the_challenger_are_found_before_many_units_met_it() -> None:
    decision = decide(plan_at(0), evidence_of((tally(12, errors=10), tally(200))), START)
    assert isinstance(decision, RollBack)
    assert "error_rate is 83.3 % (10 of 12)" in decision.reasons[0]
    assert "0 % (0 of 200)" in decision.reasons[0]


def test_units_that_get_lost_on_the_way_halt_with_the_numbers() -> None:
    decision = decide(plan_at(0), evidence_of((tally(300), tally(1900))), START)
    assert isinstance(decision, Halt)
    assert decision.reasons[0].startswith(
        "The challenger met 300 of 2,200 units where 110 were meant (e = "
    )


def test_what_was_meant_is_told_without_veterans() -> None:
    seen = evidence_of((tally(100), tally(1900)), (tally(900), tally(900)), veterans=tally(100_000))
    (reason,) = decide(plan_at(1), seen, START).reasons
    assert "met 1,000 of 3,800 units where 479 were meant" in reason


def test_when_time_is_up_all_that_is_missing_is_told() -> None:
    decision = decide(plan_at(0), with_units(3), TOO_LATE)
    assert isinstance(decision, Inconclusive)
    assert decision.reasons == (
        "7d have passed without a verdict.",
        "The challenger has met 3 of 10 units at this share.",
        "The ramp has not reached its last share.",
        "The challenger has met 3 of at least 200 units.",
        "correct is not yet shown to be better: e = 1, 40 is needed.",
        *(
            f"{each.metric} is not yet shown to be within its margin: "
            f"e = {each.e_text}, 40 is needed."
            for each in assess(DECLARATION, with_units(3)).of(CHALLENGER).not_inferior
        ),
    )


def test_a_gate_that_opens_says_how_far() -> None:
    assert decide(plan_at(0), evidence_of((tally(100), tally(1900))), NOW) == Continue(
        ("No sign of harm at this share: it grows to 25 %.",), to_rung=1
    )


@pytest.mark.parametrize("rung", [0, 1, 2])
@pytest.mark.parametrize("after", [timedelta(0), timedelta(days=1), timedelta(days=700)])
@pytest.mark.parametrize("stages", [True, False])
def test_no_data_is_never_success(rung, after, stages) -> None:
    nothing = evidence_of(*[(NOBODY, NOBODY)] * (rung + 1)) if stages else Evidence(())
    decision = decide(plan_at(rung), nothing, START + after)
    if after < LIMITS.max_runtime:
        assert isinstance(decision, Continue)
        assert decision.to_rung is None
    else:
        assert isinstance(decision, Inconclusive)


def test_a_challenger_that_nobody_met_is_not_promoted_however_bad_the_champion() -> None:
    awful = tally(0), tally(1000, failures=1000, errors=1000, slow=1000)
    assert not isinstance(decide(LAST, evidence_of(awful, awful, awful), NOW), Promote)


def test_units_without_outcomes_are_no_success() -> None:
    seen = evidence_of(
        (tally(100), tally(1900)), (tally(420), tally(1580)), (tally(500), tally(1000))
    )
    decision = decide(LAST, seen, NOW)
    assert decision == Continue(("correct is not yet shown to be better: e = 1, 40 is needed.",))


def test_a_stricter_alpha_needs_more() -> None:
    strict = plan_at(2, alpha=Alpha(promote=1e-30))
    assert isinstance(decide(strict, PROMOTION, NOW), Continue)
