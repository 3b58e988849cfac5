"""The report: every number there is, a reason for every one that cannot be, and JSON of all."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from math import log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from experiments.assessment import Assessment, assess
from experiments.decision import Continue, Halt, assess_plan, decide
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.headline import by_importance
from experiments.lifecycle import State
from experiments.looks import Look
from experiments.metric import Direction
from experiments.model import Alpha, Declaration
from experiments.report import measure, report
from experiments.reported import (
    ChallengerReport,
    EvidenceReport,
    LookReport,
    MetricReport,
    Range,
    Report,
)
from experiments.stats.intervals import Insufficient
from registry.refs import Version
from serving.views import ExperimentView, view_experiment
from tests.unit.kinds import (
    EVERY_KIND,
    GOALS,
    GUARDRAILS,
    THREE,
    WITHIN_A_HORIZON,
    any_evidence,
    any_look,
    evidence_for,
    plan_of,
)
from tests.unit.samples import DECLARATION, SECOND, START, evidence_of, tally

SEVERAL = replace(THREE, guardrails=THREE.guardrails[-2:])

VIEW, REPORT = TypeAdapter(ExperimentView), TypeAdapter(Report)


def reported(declaration: Declaration, evidence: Evidence, looks: tuple[Look, ...] = ()) -> Report:
    return report(declaration, evidence, assess(declaration, evidence, looks=looks), looks)


def the_only(found: Report) -> ChallengerReport:
    (challenger,) = found.challengers
    return challenger


def metric(found: Report, key: str) -> MetricReport:
    return next(each for each in the_only(found).metrics if each.metric == key)


def as_json(adapter: TypeAdapter[Any], value: object) -> Any:
    """Return what a program reads; refuses what JSON has no numbers for."""
    return json.loads(json.dumps(adapter.dump_python(value, mode="json"), allow_nan=False))


def viewed(declaration: Declaration, evidence: Evidence, **known: Any) -> ExperimentView:
    plan = plan_of(declaration, rung=len(evidence.stages) - 1)
    experiment = Experiment(
        declaration, Version(1), plan.state, plan.stages, START, None, (), None, **known
    )
    return view_experiment(experiment, evidence, START + 90 * SECOND)


# Whatever was seen


def nodes(document: object) -> Iterator[object]:
    yield document
    inner = document.values() if isinstance(document, dict) else document
    if isinstance(document, dict | list):
        for each in inner:
            yield from nodes(each)


@settings(max_examples=6)
@given(data=st.data(), declaration=st.sampled_from([EVERY_KIND, WITHIN_A_HORIZON, SEVERAL]))
def test_every_evidence_has_a_report_in_which_what_is_unknown_is_no_number(data, declaration):
    evidence = data.draw(any_evidence(declaration))
    looks = tuple(data.draw(st.lists(any_look, max_size=2))) if declaration.horizon else ()
    found = as_json(REPORT, reported(declaration, evidence, looks))
    for each in nodes(found):
        if isinstance(each, dict) and "interval" in each:
            interval = each["interval"]
            assert set(interval) in ({"reason"}, {"low", "high", "estimate"})
            if "low" in interval and None not in interval.values():
                assert interval["low"] <= interval["high"]
        if isinstance(each, dict) and "shrunk" in each:
            assert set(each["shrunk"]) in ({"reason"}, {"scale", "value"})
        if isinstance(each, dict) and "p" in each:
            assert 0 < each["p"] <= 1


@pytest.mark.parametrize("key", GOALS)
@settings(max_examples=3)
@given(data=st.data())
def test_every_kind_may_be_the_goal_and_say_what_follows(key, data):
    others = tuple(each for name, each in GUARDRAILS.items() if name != key)[:1]
    direction = data.draw(st.sampled_from(Direction))
    declaration = replace(
        EVERY_KIND, goal=replace(GOALS[key], direction=direction), guardrails=others, segments=None
    )
    view = viewed(declaration, data.draw(any_evidence(declaration)))
    assert view.reason
    assert as_json(VIEW, view)["report"]["challengers"][0]["metrics"][0]["metric"] == key
    values = measure(plan_of(declaration, rung=len(view.stages) - 1), view.evidence)
    assert set(values) == {f"2/{each.metric.key}" for each in declaration.asked}


@pytest.mark.parametrize("declaration", [EVERY_KIND, WITHIN_A_HORIZON, SEVERAL])
def test_without_data_every_effect_has_its_reason_and_no_test_says_anything(declaration):
    for challenger in reported(declaration, evidence_for(declaration, 0)).challengers:
        for each in challenger.metrics:
            assert isinstance(each.champion, Insufficient)
            assert isinstance(each.shrunk, Insufficient)
            assert all(isinstance(effect.interval, Insufficient) for effect in each.effects)
            for test in each.tests:
                assert not test.reached
                if isinstance(test, EvidenceReport):
                    assert (test.log_e, test.p) == pytest.approx((0, 1), abs=1e-9)


def test_with_data_every_kind_has_levels_an_interval_and_a_shrunk_estimate():
    evidence = evidence_for(EVERY_KIND, 9500, 7500, better=1.1)
    for each in the_only(reported(EVERY_KIND, evidence)).metrics:
        interval = each.effects[0].interval
        assert isinstance(interval, Range)
        assert interval.low <= interval.estimate <= interval.high
        assert not isinstance(each.champion, Insufficient)
        assert not isinstance(each.challenger, Insufficient)
        assert not isinstance(each.shrunk, Insufficient)
        nothing = 0.0 if each.effects[0].scale == "difference" else 1.0
        assert abs(each.shrunk.value - nothing) <= abs(interval.estimate - nothing) + 1e-9
        assert [stage.stage for stage in each.stages] == [0, 1]


# Single numbers


def test_an_interval_errs_as_rarely_as_a_promotion_at_each_end_over_all_challengers():
    for versions, level in ((2,), 0.95), ((2, 3), 0.975), ((2, 3, 4, 5), 0.9875):
        declaration = replace(SEVERAL, challengers=tuple(map(Version, versions)), segments=None)
        found = reported(declaration, evidence_for(declaration, 100))
        effects = [e for c in found.challengers for m in c.metrics for e in m.effects]
        assert [each.level for each in effects] == pytest.approx([level] * len(effects))


def test_a_ratio_that_nothing_bounds_has_no_upper_end_and_no_estimate():
    evidence = evidence_of((tally(500, errors=100), tally(9500)))
    interval = metric(reported(DECLARATION, evidence), "error_rate").effects[0].interval
    assert isinstance(interval, Range)
    assert interval.low > 1
    assert (interval.high, interval.estimate) == (None, None)


def test_a_p_value_too_small_for_a_number_is_not_zero():
    arms = tally(10**9, successes=10**9), tally(19 * 10**9, failures=19 * 10**9)
    found = metric(reported(DECLARATION, evidence_of(arms)), "correct").tests[0]
    assert isinstance(found, EvidenceReport)
    assert found.e.startswith("10^")
    assert 0 < found.p < 1e-300


def test_margins_lie_where_harm_begins():
    found = reported(EVERY_KIND, evidence_for(EVERY_KIND, 100))
    margins = {
        each.metric: [(m.scale, round(m.value, 3), m.worse) for m in each.margins]
        for each in the_only(found).metrics
    }
    assert margins["correct"] == []
    assert margins["error_rate"] == [("ratio", 2.0, "higher")]
    assert margins["spent"] == [("ratio", 1.1, "higher"), ("ratio", 0.909, "lower")]
    assert margins["rating"] == [("difference", -0.1, "lower")]


def test_a_metric_with_a_window_says_how_much_has_matured():
    found = reported(EVERY_KIND, evidence_for(EVERY_KIND, 1000))
    matured = metric(found, "correct").matured
    assert matured is not None
    assert (matured.units, matured.of, matured.share) == (500, 1000, 0.5)
    assert metric(found, "rating").matured is None
    nobody = metric(reported(EVERY_KIND, evidence_for(EVERY_KIND, 0)), "correct").matured
    assert nobody is not None
    assert nobody.share is None


def test_within_a_horizon_the_goal_has_a_z_score_and_the_looks_that_were_taken():
    evidence = evidence_for(WITHIN_A_HORIZON, 3800, better=1.1)
    before = metric(reported(WITHIN_A_HORIZON, evidence), "correct").tests[0]
    assert isinstance(before, LookReport)
    assert (before.boundary, before.looks, before.units) == (None, 0, 10_000)
    assert before.time == pytest.approx(0.4)
    assert before.z is not None
    assert before.z > 0
    looks = (Look(Version(2), 0.2, 100.0, False), Look(Version(3), 0.3, 100.0, False))
    after = metric(reported(WITHIN_A_HORIZON, evidence, looks), "correct").tests[0]
    assert isinstance(after, LookReport)
    assert after.looks == 1
    assert after.boundary is not None
    assert after.boundary > 2


# Segments


def in_segments(*better: float) -> tuple[Declaration, Evidence]:
    names = tuple(f"s{number}" for number in range(len(better)))
    declaration = replace(
        EVERY_KIND,
        goal=GOALS["correct"],
        guardrails=(),
        segments=replace(EVERY_KIND.segments, values=names),
    )
    found = evidence_for(declaration, 1000)
    parts = {
        name: evidence_for(declaration, 9500, 7500, better=each).stages
        for name, each in zip(names, better, strict=True)
    }
    return declaration, replace(found, segments=parts)


def test_segments_that_are_worse_are_marked_and_the_others_are_not():
    found = the_only(reported(*in_segments(0.7, 1.0, 1.1, 0.75)))
    assert [each.worse for each in found.segments] == [True, False, False, True]


def test_a_segment_is_marked_at_a_rate_of_false_discoveries_over_all_challengers():
    declaration, evidence = in_segments(*[0.86] * 4, *[1.0] * 4)
    marked = [each.worse for each in the_only(reported(declaration, evidence)).segments]
    (alone,) = {each.alone for each in the_only(reported(declaration, evidence)).segments[:4]}
    assert marked == [True] * 4 + [False] * 4
    # One of its kind would not stand out among eight, four of them do.
    assert alone is not None
    needed = log(8 / (4 * declaration.alpha.harm))
    strict = replace(declaration, alpha=Alpha(harm=declaration.alpha.harm / 1e6))
    assert alone >= needed
    assert not any(each.worse for each in the_only(reported(strict, evidence)).segments)


# The reason in one sentence


def at_the_last_share(*, harmed: float = 1.0, hot: bool = True) -> Evidence:
    """Return evidence of arms that are alike, but for the goal in the last stage."""
    alike = evidence_for(GOAL_ONLY, 9500, 7500, hot=hot)
    last = evidence_for(GOAL_ONLY, 9500, 7500, 5000, better=harmed, hot=hot)
    return replace(alike, stages=(*alike.stages, last.stages[-1]))


GOAL_ONLY = replace(EVERY_KIND, guardrails=(), segments=None)
JUST_NOW = START + 41 * SECOND


def first_reason(evidence: Evidence) -> str:
    plan = plan_of(GOAL_ONLY)
    decision = decide(plan, evidence, JUST_NOW)
    assert isinstance(decision, Continue)
    ordered = by_importance(decision, assess_plan(plan, evidence))
    assert sorted(ordered) == sorted(decision.reasons)
    assert decision.reasons[0].startswith("Time at this share")
    return ordered[0]


def test_what_the_experiment_hangs_on_comes_before_what_ends_by_itself():
    assert first_reason(at_the_last_share()).startswith("correct is not yet shown to be better")


def test_suspected_harm_comes_first_then_a_champion_that_is_not_hot():
    suspected = at_the_last_share(harmed=0.88, hot=False)
    assert first_reason(suspected).startswith("Harm is suspected")
    assert "is not hot" in first_reason(at_the_last_share(hot=False))


def test_with_several_challengers_the_best_ones_lack_comes_first():
    declaration = replace(THREE, guardrails=(), segments=None)
    evidence = evidence_for(declaration, 2000, 2000, 2000)
    best = evidence_for(declaration, 2000, 2000, 2000, better=1.06).stages[-1].challengers
    last = evidence.stages[-1]
    challengers = {**last.challengers, Version(3): best[Version(3)]}
    evidence = replace(
        evidence, stages=(*evidence.stages[:-1], replace(last, challengers=challengers))
    )
    plan = plan_of(declaration)
    decision = decide(plan, evidence, START + timedelta(days=1))
    assert by_importance(decision, assess_plan(plan, evidence))[0].startswith("Version 3: correct")


def test_what_changes_something_keeps_its_cause_first():
    reasons = ("The first.", "The second.")
    assert by_importance(Halt(reasons), Assessment((), None)) == reasons


def test_where_nothing_is_decided_any_more_the_act_that_ended_it_is_the_reason():
    plan = plan_of(DECLARATION, rung=0, state=State.ROLLED_BACK)
    said = ("correct is worse.", "So is error_rate.")
    experiment = Experiment(
        DECLARATION, Version(1), plan.state, plan.stages, START, START, said, None
    )
    view = view_experiment(experiment, evidence_for(DECLARATION, 0), START)
    assert (view.decision, view.reason, view.also) == (None, said[0], said[1:])


def test_a_brief_view_has_everything_but_the_report():
    plan = plan_of(DECLARATION, rung=0)
    experiment = Experiment(DECLARATION, Version(1), plan.state, plan.stages, START, None, (), None)
    evidence = evidence_for(DECLARATION, 0)
    whole = view_experiment(experiment, evidence, START)
    assert whole.report is not None
    assert view_experiment(experiment, evidence, START, brief=True) == replace(whole, report=None)


# Over time


def test_a_picture_has_the_numbers_of_the_report():
    evidence = evidence_for(WITHIN_A_HORIZON, 9500, 7500, better=1.1)
    values = measure(plan_of(WITHIN_A_HORIZON, rung=1), evidence)
    for each in the_only(reported(WITHIN_A_HORIZON, evidence)).metrics:
        interval = each.effects[0].interval
        assert isinstance(interval, Range)
        first = each.tests[0]
        log_e = first.log_e if isinstance(first, EvidenceReport) else None
        shown = (interval.estimate, interval.low, interval.high, log_e)
        assert values[f"2/{each.metric}"] == shown


def test_a_dropped_challenger_is_no_more_in_the_report_nor_in_the_picture():
    """The champion's counts go on, its own do not: what stands beside each other says nothing."""
    evidence = evidence_for(SEVERAL, 100)
    view = viewed(SEVERAL, evidence, dropped=(Version(3),))
    assert view.report is not None
    assert [each.version for each in view.report.challengers] == [2, 4]
    plan = replace(plan_of(SEVERAL, rung=0), dropped=(Version(3),))
    assert {key.split("/")[0] for key in measure(plan, evidence)} == {"2", "4"}
