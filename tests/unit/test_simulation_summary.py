"""What is right and wrong follows from what is supposed to be true."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from experiments.lifecycle import State
from experiments.simulation import (
    End,
    Origin,
    Reached,
    Run,
    Truth,
    exact_share,
    premises,
    summarise,
)
from experiments.simulation.truth import is_better, is_harmful
from registry.refs import Version
from tests.unit.simulated import declared

SLOW = "latency_ms>250"
GUARDED = declared(more="guardrails: [{metric: latency_ms, above: 250, max_ratio: 1.5}]")
SEVERAL = declared(challengers="[2, 3]")

INCONCLUSIVE = Run(
    end=End.INCONCLUSIVE,
    state=State.INCONCLUSIVE,
    winner=None,
    dropped=(),
    blamed=(),
    culprits=(),
    reasons=(),
    units=100,
    took=timedelta(seconds=10),
    looks=3,
    stages=(Reached(0, 0, timedelta(0)),),
)
PROMOTED = replace(
    INCONCLUSIVE, end=End.PROMOTED, state=State.PROMOTED, winner=Version(2), culprits=("ok",)
)
ROLLED_BACK = replace(
    INCONCLUSIVE,
    end=End.ROLLED_BACK,
    state=State.ROLLED_BACK,
    blamed=(Version(2),),
    culprits=("error_rate",),
)


def counted(share):
    return None if share is None else share.count


@pytest.mark.parametrize(
    ("truth", "better", "harmful"),
    [
        (Truth(), False, False),
        (Truth(effect=0.1), True, False),
        (Truth(effect=-0.1), False, True),
        (Truth(effect=0.1, harm={SLOW: 1.4}), True, False),
        (Truth(effect=0.1, harm={SLOW: 1.6}), False, True),
        (Truth(harm={SLOW: 0.5}), False, False),
    ],
)
def test_better_and_harmful_follow_from_the_goal_and_the_margins(truth, better, harmful):
    assert (is_better(GUARDED, truth), is_harmful(GUARDED, truth)) == (better, harmful)


@pytest.mark.parametrize(
    ("worse", "margin", "factor", "harmful"),
    [
        ("lower", "max_ratio: 1.25", 0.79, True),
        ("lower", "max_ratio: 1.25", 0.81, False),
        ("lower", "max_ratio: 1.25", 3.0, False),
        ("either", "max_ratio: 1.25", 1.3, True),
        ("either", "max_difference: 5", 0.7, True),
        ("higher", "max_difference: 5", 1.2, False),
        ("higher", "max_difference: 5", 1.3, True),
    ],
)
def test_a_margin_counts_on_the_side_that_is_worse(worse, margin, factor, harmful):
    declaration = declared(
        more=f"guardrails: [{{metric: spend, kind: mean, cap: 100, worse: {worse}, {margin}, "
        "baseline: 20}]"
    )
    assert is_harmful(declaration, Truth(harm={"spend": factor})) is harmful


def test_in_an_a_a_every_promotion_and_every_rollback_is_wrong_and_no_harm_can_be_missed():
    found = summarise([PROMOTED, ROLLED_BACK, INCONCLUSIVE], GUARDED, Truth())
    assert counted(found.false_promotions) == 1
    assert counted(found.false_alarms) == 1
    assert found.missed_harm is None
    assert found.dropped is None


def test_with_a_better_challenger_no_promotion_is_wrong():
    found = summarise([PROMOTED, ROLLED_BACK], GUARDED, Truth(effect=0.2))
    assert found.false_promotions is None
    assert counted(found.false_alarms) == 1


def test_with_a_harmful_challenger_whatever_is_not_rolled_back_is_missed():
    halted = replace(INCONCLUSIVE, end=End.HALTED, state=State.STOPPED)
    runs = [PROMOTED, ROLLED_BACK, INCONCLUSIVE, halted]
    found = summarise(runs, GUARDED, Truth(effect=-0.2))
    assert counted(found.missed_harm) == 2
    assert counted(found.false_promotions) == 1
    assert found.false_alarms is None


def test_with_several_challengers_only_the_first_can_be_better_or_harmful():
    other = replace(PROMOTED, winner=Version(3), dropped=(Version(2),), blamed=(Version(2),))
    better = summarise([PROMOTED, other], SEVERAL, Truth(effect=0.2))
    assert counted(better.false_promotions) == 1
    assert counted(better.false_alarms) == 1
    assert counted(better.dropped) == 1
    both = replace(ROLLED_BACK, blamed=(Version(2), Version(3)))
    harmful = summarise([both, other], SEVERAL, Truth(effect=-0.2))
    assert counted(harmful.false_alarms) == 1
    assert counted(harmful.missed_harm) == 0


def test_ends_add_up_and_lengths_are_those_of_the_runs():
    runs = [PROMOTED, replace(PROMOTED, units=300), INCONCLUSIVE]
    found = summarise(runs, GUARDED, Truth(effect=0.2))
    assert Counter({end: share.count for end, share in found.ends.items()}) == {
        End.PROMOTED: 2,
        End.INCONCLUSIVE: 1,
        End.ROLLED_BACK: 0,
        End.HALTED: 0,
    }
    assert found.taken_by_end[End.PROMOTED].units.median == 200
    assert set(found.taken_by_end) == {End.PROMOTED, End.INCONCLUSIVE}
    assert found.taken.seconds.mean == 10
    assert found.decided_by == {"ok": 2}
    assert [gate.reached.count for gate in found.gates] == [3, 0]
    assert found.gates[1].units is None


@pytest.mark.parametrize(
    ("count", "low", "high"), [(0, 0.0, 0.3085), (5, 0.1871, 0.8129), (10, 0.6915, 1.0)]
)
def test_shares_have_the_exact_interval(count, low, high):
    found = exact_share(count, 10)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_without_runs_there_is_nothing_to_say():
    with pytest.raises(ValueError, match="without runs"):
        summarise([], GUARDED, Truth())


def test_a_baseline_is_the_given_one_or_that_of_the_file_or_a_usual_one():
    found = premises(GUARDED, Truth(baselines={SLOW: 0.03}))
    assert [(each.key, each.value, each.origin) for each in found] == [
        ("ok", 0.3, Origin.FILE),
        ("error_rate", 0.001, Origin.USUAL),
        (SLOW, 0.03, Origin.GIVEN),
    ]


@pytest.mark.parametrize(
    ("truth", "words"),
    [
        (Truth(harm={"latency": 2.0}), "did you mean latency_ms>250"),
        (Truth(harm={"ok": 2.0}), "ok is the goal"),
        (Truth(effect=3.0), "120 %, which is not from 0 % to 100 %"),
        (Truth(effect=0.5, drift=1.5), "give another effect, or another baseline than 30 %"),
        (Truth(baselines={"ok": 1.2}), "120 %"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(truth, words):
    with pytest.raises(ValueError) as refusal:
        premises(GUARDED, truth)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    "wrong",
    [{"effect": -1.1}, {"harm": {"x": -1.0}}, {"drift": -1.0}, {"visits": 0.5}, {"alike": 1.0}],
)
def test_a_truth_is_one_that_can_be(wrong):
    with pytest.raises(ValueError):
        Truth(**wrong)
