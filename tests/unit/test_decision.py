"""What is decided, on evidence made by hand: each threshold from below, astride and from above."""

from dataclasses import replace
from datetime import timedelta
from math import inf, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.assessment import Assessment, Finding, assess, e_text
from experiments.codec import decode, encode
from experiments.decision import (
    Continue,
    Halt,
    Inconclusive,
    Plan,
    Promote,
    RollBack,
    conclude,
    decide,
)
from experiments.evidence import Evidence, StageEvidence, Tally
from experiments.lifecycle import State
from experiments.model import Alpha, BasisPoints, Direction, RequestUnit
from tests.unit import samples
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
    stages_until,
    tally,
)

HARM, PROMOTE, RATIO = log(1 / 0.05), log(1 / 0.025), log(1 / 0.001)
NOW = START + 120 * SECOND
LAST = plan_at(2)
ENOUGH = evidence_of(*[(tally(100), tally(100))] * 3)
HAIR = 1e-9


def found(
    *,
    any_harm: float = 0.0,
    superior: float = PROMOTE + 1,
    safe: tuple[float, float] = (PROMOTE + 1, PROMOTE + 1),
    ratio: float = 0.0,
    harm: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Assessment:
    """Return tests that are all in favour of the challenger, but for what is given."""
    names = ("correct", ERRORS, SLOW)
    return Assessment(
        harm=tuple(Finding(name, e, HARM) for name, e in zip(names, harm, strict=True)),
        any_harm=Finding("any", any_harm, HARM),
        superior=Finding("correct", superior, PROMOTE),
        not_inferior=tuple(
            Finding(name, e, PROMOTE) for name, e in zip(names[1:], safe, strict=True)
        ),
        sample_ratio=Finding("units", ratio, RATIO),
    )


def concluded(plan=LAST, evidence=ENOUGH, now=NOW, **tests):
    return conclude(plan, evidence, found(**tests), now)


def around(threshold: float) -> list[tuple[float, bool]]:
    """Return clearly below, just below, just there and clearly above, and whether it is reached."""
    far = threshold + 3
    return [(threshold - 3, False), (threshold - HAIR, False), (threshold, True), (far, True)]


def with_units(*challengers: int) -> Evidence:
    return evidence_of(*((tally(units), tally(100)) for units in challengers))


# Thresholds.


def test_all_in_favour_on_the_last_rung_is_promotion() -> None:
    assert isinstance(concluded(), Promote)


@pytest.mark.parametrize(("log_e", "reached"), around(RATIO))
def test_a_wrong_ratio_halts_from_its_threshold_on(log_e, reached) -> None:
    assert isinstance(concluded(ratio=log_e), Halt if reached else Promote)


@pytest.mark.parametrize(("log_e", "reached"), around(HARM))
def test_harm_rolls_back_from_its_threshold_on(log_e, reached) -> None:
    decision = concluded(plan_at(1), any_harm=log_e)
    assert isinstance(decision, RollBack if reached else Continue)


@pytest.mark.parametrize(("log_e", "reached"), around(HARM / 2))
@pytest.mark.parametrize("rung", [0, 1, 2])
def test_suspicion_keeps_every_gate_closed_from_half_way_on(rung, log_e, reached) -> None:
    decision = concluded(plan_at(rung), any_harm=log_e)
    if reached:
        if log_e < HARM:
            assert isinstance(decision, Continue)
            assert decision.to_rung is None
            assert f"Harm is suspected (e = {e_text(log_e)}); the share waits." in decision.reasons
    elif rung == 2:
        assert isinstance(decision, Promote)
    else:
        assert decision == replace(decision, to_rung=rung + 1)


@pytest.mark.parametrize(("log_e", "reached"), around(PROMOTE))
def test_a_promotion_needs_the_goal(log_e, reached) -> None:
    assert isinstance(concluded(superior=log_e), Promote if reached else Continue)


@pytest.mark.parametrize(("log_e", "reached"), around(PROMOTE))
@pytest.mark.parametrize("which", [0, 1])
def test_a_promotion_needs_every_guardrail(which, log_e, reached) -> None:
    safe = tuple(log_e if which == index else inf for index in range(2))
    assert isinstance(concluded(safe=safe), Promote if reached else Continue)


@pytest.mark.parametrize(
    ("units", "enough"), [(0, False), (50, False), (99, False), (100, True), (10**6, True)]
)
def test_a_promotion_needs_its_units_in_all(units, enough) -> None:
    decision = concluded(evidence=with_units(50, 50, units))
    assert isinstance(decision, Promote if enough else Continue)


@pytest.mark.parametrize(
    ("seconds", "enough"), [(1, False), (59.999, False), (60, True), (6000, True)]
)
def test_a_promotion_needs_its_runtime(seconds, enough) -> None:
    decision = concluded(now=START + seconds * SECOND)
    assert isinstance(decision, Promote if enough else Continue)


@pytest.mark.parametrize("rung", [0, 1])
def test_a_promotion_needs_the_last_rung(rung) -> None:
    assert concluded(plan_at(rung)).to_rung == rung + 1


def test_an_experiment_with_one_share_is_on_its_last_rung() -> None:
    plan = plan_at(0, ramp=(BasisPoints(2500),))
    assert isinstance(concluded(plan, with_units(200)), Promote)


def test_a_promotion_needs_somewhere_to_roll_back_to() -> None:
    decision = concluded(evidence=replace(ENOUGH, rollback_target_hot=False))
    assert decision == Continue(("The champion, which would be rolled back to, is not hot.",))


@pytest.mark.parametrize(
    ("after", "over"),
    [
        (timedelta(hours=1), False),
        (LIMITS.max_runtime - timedelta(microseconds=1), False),
        (LIMITS.max_runtime, True),
        (LIMITS.max_runtime * 9, True),
    ],
)
@pytest.mark.parametrize("state", [State.RAMPING, State.PAUSED])
def test_time_is_up_at_the_longest_runtime(state, after, over) -> None:
    decision = concluded(plan_at(2, state=state), now=START + after, superior=0.0)
    assert isinstance(decision, Inconclusive if over else Continue)


# The gate of each stage: 200 units in all are 10, 40 and 50 at least, 60 seconds are 20 each.


@pytest.mark.parametrize(("rung", "needed"), [(0, 10), (1, 40), (2, 50)])
@pytest.mark.parametrize("difference", [-10, -1, 0, 1, 1000])
def test_a_stage_needs_half_of_its_part_of_the_units(rung, needed, difference) -> None:
    units = [1000] * rung + [needed + difference]
    decision = concluded(plan_at(rung), with_units(*units))
    if difference < 0:
        words = f"The challenger has met {needed + difference} of {needed} units at this share."
        assert isinstance(decision, Continue)
        assert decision.to_rung is None
        assert words in decision.reasons
    else:
        assert isinstance(decision, Promote) if rung == 2 else decision.to_rung == rung + 1


@pytest.mark.parametrize("rung", [0, 1, 2])
@pytest.mark.parametrize("seconds", [0, 1, 19.999, 20, 21, 500])
def test_a_stage_needs_its_part_of_the_runtime(rung, seconds) -> None:
    opened = plan_at(rung).stage.opened_at
    decision = concluded(plan_at(rung), now=opened + seconds * SECOND)
    if seconds < 20:
        assert isinstance(decision, Continue)
        assert decision.to_rung is None
        assert any(reason.startswith("Time at this share is") for reason in decision.reasons)
    else:
        assert isinstance(decision, Promote) if rung == 2 else decision.to_rung == rung + 1


def test_units_of_other_stages_do_not_open_a_gate() -> None:
    assert concluded(plan_at(1), with_units(10**6, 0)).to_rung is None


def test_veterans_do_not_open_a_gate() -> None:
    few = evidence_of(*[(tally(5), tally(100))] * 2, veterans=tally(10**6))
    assert concluded(plan_at(1), few).to_rung is None


@pytest.mark.parametrize("rung", [0, 1])
def test_the_share_does_not_grow_without_somewhere_to_roll_back_to(rung) -> None:
    cold = replace(ENOUGH, rollback_target_hot=False)
    assert concluded(plan_at(rung), cold).to_rung is None


@pytest.mark.parametrize("share", [BasisPoints(350), BasisPoints(1234)])
def test_the_part_of_the_units_is_worked_out_exactly(share) -> None:
    """In floating point 7 % of 200 units, halved, is a hair over 7."""
    plan = plan_at(0, ramp=(share, BasisPoints(5000)))
    needed = -(-200 * share // 10_000)
    assert concluded(plan, with_units(needed)).to_rung == 1
    assert concluded(plan, with_units(needed - 1)).to_rung is None


def test_requests_as_units_have_gates_without_veterans() -> None:
    plan = plan_at(1, unit=RequestUnit())
    plan = replace(
        plan, stages=tuple(replace(stage, floor=BasisPoints(0)) for stage in plan.stages)
    )
    assert concluded(plan, with_units(100, 49)).to_rung is None
    assert concluded(plan, with_units(100, 50)).to_rung == 2


# Which comes first.

ALWAYS = {"ratio": RATIO, "any_harm": HARM, "superior": inf, "safe": (inf, inf)}
TOO_LATE = START + LIMITS.max_runtime


def test_trust_comes_before_harm_and_harm_before_benefit_and_benefit_before_the_clock() -> None:
    assert isinstance(concluded(now=TOO_LATE, **ALWAYS), Halt)
    assert isinstance(concluded(now=TOO_LATE, **ALWAYS | {"ratio": 0.0}), RollBack)
    good = ALWAYS | {"ratio": 0.0, "any_harm": 0.0}
    assert isinstance(concluded(now=TOO_LATE, **good), Promote)
    assert isinstance(concluded(now=TOO_LATE, **good | {"superior": 0.0}), Inconclusive)


@pytest.mark.parametrize("rung", [0, 1, 2])
@pytest.mark.parametrize("state", [State.RAMPING, State.PAUSED])
@pytest.mark.parametrize("hot", [True, False])
def test_distrust_and_harm_wait_for_nothing(rung, state, hot) -> None:
    early = {
        "plan": plan_at(rung, state=state),
        "evidence": replace(with_units(1), rollback_target_hot=hot),
        "now": START,
    }
    assert isinstance(concluded(**early, ratio=RATIO), Halt)
    assert isinstance(concluded(**early, any_harm=HARM), RollBack)


@pytest.mark.parametrize("rung", [0, 1, 2])
def test_while_paused_nothing_grows_and_nothing_is_promoted(rung) -> None:
    decision = concluded(plan_at(rung, state=State.PAUSED))
    assert decision == Continue(("Paused: harm is watched, nothing else is decided.",))


def test_culprits_are_those_beyond_doubt_by_themselves() -> None:
    alone = concluded(any_harm=HARM, harm=(HARM, 0.0, HARM + 1))
    assert alone.culprits == ("correct", SLOW)
    assert len(alone.reasons) == 2


def test_if_harm_is_beyond_doubt_only_in_sum_the_worst_is_named() -> None:
    assert concluded(any_harm=HARM, harm=(1.0, 2.5, 2.0)).culprits == (ERRORS,)


# From counts to decisions.

GOOD = tally(500, successes=400, failures=100), tally(1000, successes=600, failures=400)
RAMPED_WELL = ((tally(100), tally(1900)), (tally(420), tally(1580)), GOOD)
PROMOTION = evidence_of(*RAMPED_WELL)


def test_a_better_challenger_is_promoted_with_the_numbers() -> None:
    decision = decide(LAST, PROMOTION, NOW)
    assert isinstance(decision, Promote)
    goal, errors, slow = decision.reasons
    needed = assess(DECLARATION, PROMOTION).superior
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
    def turned(seen):
        return replace(seen, successes=seen.failures, failures=seen.successes)

    return replace(
        evidence,
        stages=tuple(
            replace(s, challenger=turned(s.challenger), champion=turned(s.champion))
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
    harm = assess(DECLARATION, seen).any_harm
    assert decision.reasons == (
        "correct is 20 % (20 of 100) of units with the challenger and 60 % (1,140 of 1,900) with "
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
        "7 days, 0:00:00 have passed without a verdict.",
        "The challenger has met 3 of 10 units at this share.",
        "The ramp has not reached its last share.",
        "The challenger has met 3 of at least 200 units.",
        "correct is not yet shown to be better: e = 1, 40 is needed.",
        *(
            f"{each.metric} is not yet shown to be within its margin: "
            f"e = {each.e_text}, 40 is needed."
            for each in assess(DECLARATION, with_units(3)).not_inferior
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


# Whatever was seen.

any_look = settings(max_examples=25, deadline=None)
plans = st.builds(plan_at, st.integers(0, 2), state=st.sampled_from([State.RAMPING, State.PAUSED]))
moments = st.sampled_from([START, START + 25 * SECOND, NOW, TOO_LATE])
wild = samples.evidences(stages_until(2))


@st.composite
def plausible(draw: st.DrawFn) -> Evidence:
    """Return evidence without a sample-ratio mismatch, in which every verdict is likely."""
    rates = st.sampled_from([0.5, 0.6, 0.9]), st.sampled_from([0.0, 0.001, 0.02, 0.2])

    def arm(units: int, right: float, wrong: float) -> Tally:
        successes, bad = round(units * right), round(units * wrong)
        return tally(
            units, successes=successes, failures=units - successes, errors=bad, slow=bad // 2
        )

    sides = [(draw(rates[0]), draw(rates[1])) for _ in range(2)]
    seen = []
    for stage in evidence_of(*[(NOBODY, NOBODY)] * 3).stages:
        units = draw(st.sampled_from([0, 300, 4000]))
        met = round(units * stage.probability)
        seen.append((arm(met, *sides[0]), arm(units - met, *sides[1])))
    return evidence_of(*seen)


@any_look
@given(plan=plans, evidence=wild, now=moments)
def test_whatever_was_seen_it_is_one_of_five_decisions_with_reasons(plan, evidence, now) -> None:
    decision = decide(plan, evidence, now)
    assert isinstance(decision, Continue | Promote | RollBack | Halt | Inconclusive)
    assert decision.reasons
    assert all(reason and "nan" not in reason for reason in decision.reasons)
    if isinstance(decision, Promote):
        assert plan.state is State.RAMPING
        assert plan.on_last_rung
        assert evidence.rollback_target_hot
        assert evidence.challenger_units() >= LIMITS.min_units


@any_look
@given(plan=plans, evidence=wild, now=moments)
def test_the_same_arguments_give_the_same_decision_here_and_elsewhere(plan, evidence, now) -> None:
    sent = decode(Plan, encode(Plan, plan)), decode(Evidence, encode(Evidence, evidence))
    assert decide(plan, evidence, now) == decide(plan, evidence, now) == decide(*sent, now)


def with_bad(evidence: Evidence, variant: str, key: str, stage: int, more: int) -> Evidence:
    """Return the evidence with more units that had a bad event, of those already seen."""

    def worse(seen: StageEvidence) -> StageEvidence:
        if seen.stage != stage:
            return seen
        arm = getattr(seen, variant)
        bad = {**arm.bad, key: arm.bad.get(key, 0) + more}
        return replace(seen, **{variant: replace(arm, bad=bad)})

    return replace(evidence, stages=tuple(map(worse, evidence.stages)))


worsening = {
    "key": st.sampled_from([ERRORS, SLOW]),
    "stage": st.integers(0, 2),
    "more": st.integers(1, 10**6),
}


@any_look
@given(plan=plans, evidence=plausible(), now=moments, **worsening)
def test_more_errors_of_the_challenger_never_undo_a_rollback(
    plan, evidence, now, key, stage, more
) -> None:
    before = decide(plan, evidence, now)
    after = decide(plan, with_bad(evidence, "challenger", key, stage, more), now)
    if isinstance(before, RollBack):
        assert isinstance(after, RollBack)
    if isinstance(after, Promote):
        assert isinstance(before, Promote)


@any_look
@given(plan=plans, evidence=plausible(), now=moments, **worsening)
def test_more_errors_of_the_champion_never_bring_a_rollback_about(
    plan, evidence, now, key, stage, more
) -> None:
    before = decide(plan, evidence, now)
    after = decide(plan, with_bad(evidence, "champion", key, stage, more), now)
    if isinstance(after, RollBack):
        assert isinstance(before, RollBack)


@pytest.mark.parametrize("key", [ERRORS, SLOW])
def test_a_promotion_is_lost_to_errors_and_then_becomes_a_rollback(key) -> None:
    verdicts = [Promote, Continue, RollBack]
    steps = [
        decide(LAST, with_bad(PROMOTION, "challenger", key, 2, more), NOW)
        for more in (0, 1, 5, 10, 20, 50, 400)
    ]
    order = [verdicts.index(type(step)) for step in steps]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2}


@any_look
@given(plan=plans, evidence=plausible(), now=moments, veterans=samples.tallies)
def test_veterans_decide_nothing(plan, evidence, now, veterans) -> None:
    other = replace(
        evidence, stages=tuple(replace(stage, veteran=veterans) for stage in evidence.stages)
    )
    assert decide(plan, other, now) == decide(plan, evidence, now)


@any_look
@given(plan=plans, evidence=plausible(), now=moments)
def test_without_a_hot_champion_nothing_grows_and_nothing_is_promoted(plan, evidence, now) -> None:
    decision = decide(plan, replace(evidence, rollback_target_hot=False), now)
    assert not isinstance(decision, Promote)
    assert getattr(decision, "to_rung", None) is None
