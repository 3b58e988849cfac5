"""What is decided, on evidence made by hand: each threshold from below, astride and from above."""

from dataclasses import replace
from datetime import timedelta
from math import inf, log

import pytest

from experiments.assessment import Assessment, Verdicts
from experiments.decision import (
    Continue,
    Halt,
    Inconclusive,
    Promote,
    RollBack,
    conclude,
)
from experiments.evidence import Evidence
from experiments.finding import Finding, e_text
from experiments.lifecycle import State
from experiments.model import BasisPoints
from experiments.unit import RequestUnit
from tests.unit.samples import (
    DECLARATION,
    ERRORS,
    LIMITS,
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
    verdicts = Verdicts(
        version=CHALLENGER,
        harm=tuple(Finding(name, e, HARM) for name, e in zip(names, harm, strict=True)),
        any_harm=Finding("any", any_harm, HARM),
        superior=Finding("correct", superior, PROMOTE),
        not_inferior=tuple(
            Finding(name, e, PROMOTE) for name, e in zip(names[1:], safe, strict=True)
        ),
    )
    return Assessment((verdicts,), Finding("units", ratio, RATIO))


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
