"""What holds of a decision whatever was seen."""

from dataclasses import replace
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.codec import decode, encode
from experiments.decision import (
    Continue,
    Drop,
    Halt,
    Inconclusive,
    Plan,
    Promote,
    RollBack,
    decide,
)
from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.lifecycle import State
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

(CHALLENGER,) = DECLARATION.challengers
HARM, PROMOTE, RATIO = log(1 / 0.05), log(1 / 0.025), log(1 / 0.001)
NOW = START + 120 * SECOND
LAST = plan_at(2)
ENOUGH = evidence_of(*[(tally(100), tally(100))] * 3)
HAIR = 1e-9


TOO_LATE = START + LIMITS.max_runtime

GOOD = tally(500, successes=400, failures=100), tally(1000, successes=600, failures=400)
RAMPED_WELL = ((tally(100), tally(1900)), (tally(420), tally(1580)), GOOD)
PROMOTION = evidence_of(*RAMPED_WELL)

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
def test_whatever_was_seen_it_is_one_of_six_decisions_with_reasons(plan, evidence, now) -> None:
    decision = decide(plan, evidence, now)
    assert isinstance(decision, Continue | Drop | Promote | RollBack | Halt | Inconclusive)
    assert decision.reasons
    assert all(reason and "nan" not in reason for reason in decision.reasons)
    if isinstance(decision, Promote):
        assert plan.state is State.RAMPING
        assert plan.on_last_rung
        assert evidence.rollback_target_hot
        assert evidence.challenger_units(CHALLENGER) >= LIMITS.min_units


@any_look
@given(plan=plans, evidence=wild, now=moments)
def test_the_same_arguments_give_the_same_decision_here_and_elsewhere(plan, evidence, now) -> None:
    sent = decode(Plan, encode(Plan, plan)), decode(Evidence, encode(Evidence, evidence))
    assert decide(plan, evidence, now) == decide(plan, evidence, now) == decide(*sent, now)


def with_bad(evidence: Evidence, variant: str, key: str, stage: int, more: int) -> Evidence:
    """Return the evidence with more units that had a bad event, of those already seen."""

    def worse_arm(arm: Tally) -> Tally:
        bad = Sample({1: arm.sample(key).counts.get(1, 0) + more})
        return replace(arm, samples={**arm.samples, key: bad})

    def worse(seen: StageEvidence) -> StageEvidence:
        if seen.stage != stage:
            return seen
        if variant == "champion":
            return replace(seen, champion=worse_arm(seen.champion))
        return replace(seen, challengers={v: worse_arm(a) for v, a in seen.challengers.items()})

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
        evidence, stages=tuple(replace(stage, veterans=veterans) for stage in evidence.stages)
    )
    assert decide(plan, other, now) == decide(plan, evidence, now)


@any_look
@given(plan=plans, evidence=plausible(), now=moments)
def test_without_a_hot_champion_nothing_grows_and_nothing_is_promoted(plan, evidence, now) -> None:
    decision = decide(plan, replace(evidence, rollback_target_hot=False), now)
    assert not isinstance(decision, Promote)
    assert getattr(decision, "to_rung", None) is None
