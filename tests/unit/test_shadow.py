"""What is decided in the shadow: from pairs of answers, before anybody meets a challenger."""

from dataclasses import replace
from math import exp, log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.assessment import assess
from experiments.decision import Continue, Drop, Inconclusive, Pass, RollBack, assess_plan, decide
from experiments.evidence import Evidence
from experiments.headline import by_importance
from experiments.lifecycle import State
from experiments.metric import Guardrail, Metric, Quantile, Worse
from experiments.model import BEFORE_RAMP
from experiments.pairs import AGREEMENT
from experiments.shadow import MOST_DROPPED, SHADOW_PART
from experiments.stats.combine import weighted_mean_log_e
from registry.refs import Version
from tests.unit.declared import ERRORS, LIMITS, SECOND, SLOW, START
from tests.unit.samples import evidence_of, pairs_seen, tally
from tests.unit.shadowed import (
    ALONE,
    BEFORE_A_RAMP,
    BOTH,
    SEVERAL,
    SHADOW,
    paired,
    plan_in_shadow,
    seen,
)

LATER = START + 120 * SECOND
EARLY = START + 14 * SECOND
"""The ramp has three shares, so the shadow's part of the minute is 15 seconds."""


def decided(*challengers, plan=None, now=LATER, **about):
    plan = plan_in_shadow() if plan is None else plan
    return decide(plan, seen(*challengers, declaration=plan.declaration, **about), now)


# From the shadow on.


def test_with_enough_pairs_that_agree_the_first_users_meet_the_challenger() -> None:
    assert decided(paired()) == Continue(
        ("No sign of harm in the shadow: 5 % of the units meet the challenger.",), to_rung=0
    )


def test_alone_it_passes_once_every_guardrail_is_shown_to_be_kept() -> None:
    found = decided(paired(), plan=plan_in_shadow(ALONE))
    assert isinstance(found, Pass)
    assert found.versions == ALONE.challengers
    agreement, errors, slow = found.reasons
    assert agreement.startswith("Agreement is 100 % (800 of 800) where 95 % are declared (e = ")
    assert errors.startswith("error_rate is within its margin (e = ")
    assert slow.startswith("latency_ms>250 is within its margin (e = ")


def test_alone_nobody_is_to_meet_it_so_a_champion_that_is_not_hot_is_no_matter() -> None:
    assert isinstance(decided(paired(), plan=plan_in_shadow(ALONE), hot=False), Pass)


# What keeps the gate closed.


@pytest.mark.parametrize(
    ("challenger", "now", "hot", "because"),
    [
        (paired(499), LATER, True, "499 of 500 units have had a request answered by both."),
        (paired(), EARLY, True, "Time in the shadow is 14.0 s of at least 15.0 s."),
        (paired(), LATER, False, "The champion, which would be rolled back to, is not hot."),
        (
            paired(dropped=201),
            LATER,
            True,
            "20 % of the repeated requests were not compared (201 of 1,001), "
            "so the others may not speak for all.",
        ),
        (
            paired(errors=(12, 0, 0)),
            LATER,
            True,
            "Harm is suspected (e = 5.14); the share waits.",
        ),
    ],
)
def test_the_gate_says_what_it_waits_for(challenger, now, hot, because) -> None:
    found = decided(challenger, now=now, hot=hot)
    assert found == Continue((because,))


@pytest.mark.parametrize(("units", "opens"), [(499, False), (500, True), (501, True)])
def test_the_gate_opens_at_the_declared_number_of_pairs(units, opens) -> None:
    assert decided(paired(units)) == replace(decided(paired(units)), to_rung=0 if opens else None)


def test_answers_have_to_be_shown_to_agree_not_just_to_agree() -> None:
    found = decided(paired(differ=28))
    assert isinstance(found, Continue)
    (because,) = found.reasons
    assert because.startswith("Answers are not yet shown to agree as often as declared: e = ")
    assert because.endswith(", 40 is needed.")


def test_agreement_that_is_not_declared_is_not_asked() -> None:
    declaration = replace(BEFORE_A_RAMP, shadow=replace(SHADOW, agreement=None))
    found = decided(paired(differ=800), plan=plan_in_shadow(declaration))
    assert found == replace(found, to_rung=0)


def test_alone_what_is_not_shown_to_be_kept_is_waited_for() -> None:
    found = decided(paired(slow=(0, 0, 12)), plan=plan_in_shadow(ALONE))
    assert isinstance(found, Continue)
    (because,) = found.reasons
    assert because.startswith("latency_ms>250 is not yet shown to be within its margin: e = ")


def test_what_an_experiment_hangs_on_is_read_first() -> None:
    evidence = seen(paired(499, differ=28))
    found = decide(plan_in_shadow(), evidence, LATER)
    first, *_ = by_importance(found, assess_plan(plan_in_shadow(), evidence))
    assert first.startswith("Answers are not yet shown to agree")


# Harm.


@pytest.mark.parametrize("declaration", BOTH)
def test_a_challenger_that_fails_where_the_champion_does_not_is_rolled_back(declaration) -> None:
    found = decided(paired(400, errors=(40, 0, 0)), plan=plan_in_shadow(declaration), now=EARLY)
    assert isinstance(found, RollBack)
    assert found.culprits == (ERRORS,)
    assert found.reasons[0].startswith(
        "error_rate in the shadow is 10 % (40 of 400) with the challenger and 0 % (0 of 400) with "
        "the champion, for the same requests (harm: e = "
    )


@pytest.mark.parametrize("declaration", BOTH)
def test_answers_that_agree_less_often_than_declared_are_a_reason_to_go_back(declaration) -> None:
    found = decided(paired(200, differ=40), plan=plan_in_shadow(declaration), now=EARLY)
    assert isinstance(found, RollBack)
    assert found.culprits == (AGREEMENT,)
    assert found.reasons[0].startswith(
        "agreement in the shadow is 80 % (160 of 200) where 95 % are declared (harm: e = "
    )


def test_requests_that_both_fail_are_no_harm() -> None:
    assert decided(paired(errors=(3, 3, 60))) == replace(
        decided(paired(errors=(3, 3, 60))), to_rung=0
    )


def test_of_several_challengers_those_that_do_harm_are_dropped() -> None:
    plan = plan_in_shadow(replace(BEFORE_A_RAMP, challengers=SEVERAL))
    found = decided(paired(), paired(errors=(80, 0, 0)), paired(), plan=plan)
    assert isinstance(found, Drop)
    assert found.versions == (Version(8),)
    left = replace(plan, dropped=(Version(8),))
    assert decided(paired(), paired(errors=(80, 0, 0)), paired(), plan=left) == Continue(
        ("No sign of harm in the shadow: 5 % of the units meet the challenger.",), to_rung=0
    )


def test_of_several_challengers_the_gate_says_which_it_waits_for() -> None:
    plan = plan_in_shadow(replace(BEFORE_A_RAMP, challengers=SEVERAL))
    found = decided(paired(), paired(80), paired(), plan=plan)
    assert "Version 8: 80 of 500 units have had a request answered by both." in found.reasons
    assert not any(reason.startswith("Version 7: 8") for reason in found.reasons)


# Over, and paused.


@pytest.mark.parametrize("declaration", BOTH)
def test_time_runs_out_in_the_shadow_too(declaration) -> None:
    found = decided(paired(3), plan=plan_in_shadow(declaration), now=START + LIMITS.max_runtime)
    assert isinstance(found, Inconclusive)
    assert found.reasons[0] == "7d have passed without a verdict."
    assert "3 of 500 units have had a request answered by both." in found.reasons


@pytest.mark.parametrize("declaration", BOTH)
def test_paused_nothing_passes_but_harm_is_watched(declaration) -> None:
    paused = plan_in_shadow(declaration, state=State.PAUSED)
    assert decided(paired(), plan=paused) == Continue(
        ("Paused: harm is watched, nothing else is decided.",)
    )
    assert isinstance(decided(paired(errors=(80, 0, 0)), plan=paused), RollBack)


# The error rate for harm is shared between the shadow and what follows.


def test_the_shadow_has_a_quarter_of_the_error_rate_where_a_ramp_follows() -> None:
    evidence = seen(paired(errors=(20, 0, 0)))
    (ours,) = assess(BEFORE_A_RAMP, evidence).challengers
    (all_of_it,) = assess(ALONE, replace(evidence)).challengers
    expected = SHADOW_PART * exp(all_of_it.any_harm.log_e) + (1 - SHADOW_PART)
    assert exp(ours.any_harm.log_e) == pytest.approx(expected)


def test_what_the_shadow_has_shown_is_not_forgotten_when_users_come() -> None:
    live = evidence_of((tally(400, errors=9), tally(1600, errors=9)))
    (with_users,) = assess(replace(BEFORE_A_RAMP, shadow=None), live).challengers
    (in_shadow,) = assess(ALONE, seen(paired(errors=(9, 1, 0)))).challengers
    both = replace(live, shadow=seen(paired(errors=(9, 1, 0))).shadow)
    (together,) = assess(BEFORE_A_RAMP, both).challengers
    assert together.any_harm.log_e == pytest.approx(
        weighted_mean_log_e(
            (with_users.any_harm.log_e, in_shadow.any_harm.log_e), (1 - SHADOW_PART, SHADOW_PART)
        )
    )


def test_pairs_count_as_no_units_and_say_nothing_of_the_sample_ratio() -> None:
    evidence = seen(paired())
    found = assess(BEFORE_A_RAMP, evidence)
    assert found.sample_ratio.log_e == 0.0
    assert evidence.challenger_units(Version(2)) == 0
    (verdicts,) = found.challengers
    assert verdicts.superior.log_e == pytest.approx(0.0)


def test_outcomes_and_quantiles_are_not_looked_for_in_pairs() -> None:
    declaration = replace(
        ALONE,
        guardrails=(
            *ALONE.guardrails,
            Guardrail(Metric("latency_ms", Quantile(0.99)), Worse.HIGHER, max_ratio=1.5),
        ),
    )
    (verdicts,) = assess(declaration, seen(paired())).challengers
    assert [found.metric for found in verdicts.harm] == [ERRORS, SLOW, AGREEMENT]
    assert verdicts.superior is None
    assert verdicts.not_inferior == ()


def test_without_a_pair_nothing_is_shown_either_way() -> None:
    (verdicts,) = assess(BEFORE_A_RAMP, Evidence(())).challengers
    assert verdicts.any_harm.log_e == pytest.approx(0.0)
    assert [found.log_e for found in verdicts.harm] == pytest.approx([0.0] * 6)
    assert verdicts.in_shadow.agreement.log_e == 0.0
    assert verdicts.in_shadow.agreement.needed == log(1 / 0.025)


def test_of_several_one_that_agrees_is_let_in_as_rarely_by_mistake_as_all_together() -> None:
    declaration = replace(BEFORE_A_RAMP, challengers=SEVERAL)
    alone = assess(BEFORE_A_RAMP, seen(paired())).challengers[0].in_shadow.agreement
    beside = assess(
        declaration, seen(paired(), paired(0), paired(0), declaration=declaration)
    ).challengers[0]
    assert beside.in_shadow.agreement.log_e < alone.log_e


def test_the_stage_in_the_shadow_is_before_the_ramp() -> None:
    stage = plan_in_shadow().stage
    assert (stage.number, stage.rung, stage.share) == (0, BEFORE_RAMP, SHADOW.share)
    assert stage.shadow


@given(found=pairs_seen, declaration=st.sampled_from(BOTH), paused=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_was_seen_nobody_gets_out_of_the_shadow_on_too_little(found, declaration, paused):
    state = State.PAUSED if paused else State.RAMPING
    decision = decided(found, plan=plan_in_shadow(declaration, state=state))
    assert isinstance(decision, Continue | Pass | RollBack)
    if isinstance(decision, Pass) or (isinstance(decision, Continue) and decision.to_rung == 0):
        assert not paused
        assert found.units >= SHADOW.pairs
        assert found.dropped_share <= MOST_DROPPED
        assert found.agreed.yes > SHADOW.agreement * found.agreed.n
    if isinstance(decision, Pass):
        assert declaration.shadow_only
