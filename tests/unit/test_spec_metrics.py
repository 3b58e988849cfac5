"""Metrics: what may be said of each kind, wherever one is declared."""

from datetime import timedelta

import pytest

from experiments.metric import Binary, Count, Mean, Metric, Per, Quantile, Ratio, Score, Slow
from experiments.metric_form import EDGE_COUNTERS
from experiments.spec import read_declaration
from tests.unit.written import FILE, MINIMAL, changed, only_problem

HOUR = timedelta(hours=1)


def with_goal(words):
    """A file whose goal, in line 6, says this of its metric."""
    return MINIMAL.replace("metric: correct", words)


@pytest.mark.parametrize(
    ("words", "metric"),
    [
        ("metric: m", Metric("m", Binary())),
        ("metric: m, kind: binary, per: request", Metric("m", Binary(), Per.REQUEST)),
        ("metric: m, kind: mean, cap: 600", Metric("m", Mean(-600.0, 600.0))),
        ("metric: m, kind: mean, cap: [0, 600]", Metric("m", Mean(0.0, 600.0))),
        ("metric: m, kind: mean, cap: [-5.5, 0]", Metric("m", Mean(-5.5, 0.0))),
        (
            "metric: m, kind: mean, cap: 1, covariate: true",
            Metric("m", Mean(-1.0, 1.0, covariate=True)),
        ),
        ("metric: m, kind: score, range: [1, 5], step: 1", Metric("m", Score(1.0, 5.0, 1.0))),
        ("metric: m, kind: score, range: [0, 1], step: 0.1", Metric("m", Score(0.0, 1.0, 0.1))),
        ("metric: m, kind: score, range: [0, 1], step: 0.001", Metric("m", Score(0.0, 1.0, 0.001))),
        ("metric: m, kind: score, range: [0, 50]", Metric("m", Score(0.0, 50.0, 0.5))),
        ("metric: m, kind: ratio, baseline: 3", Metric("m", Ratio(), Per.REQUEST)),
        ("metric: m, kind: ratio, per: request, baseline: 3", Metric("m", Ratio(), Per.REQUEST)),
        ("metric: m, kind: latency, above: 250", Metric("m", Slow(250))),
        ("metric: m, kind: latency, quantile: 99%", Metric("m", Quantile(0.99))),
        ("metric: m, kind: latency, quantile: 99.99%", Metric("m", Quantile(0.9999))),
        ("metric: m, kind: count, window: 1h", Metric("m", Count(), window=HOUR)),
        ("metric: latency_ms, quantile: 50%", Metric("latency_ms", Quantile(0.5))),
        ("metric: latency_ms, kind: latency, above: 9", Metric("latency_ms", Slow(9))),
    ],
)
def test_a_metric_is_read_as_its_kind(words, metric):
    assert read_declaration(with_goal(words)).goal.metric == metric


@pytest.mark.parametrize("metric", ["Correct", "1st", "a-b", "''", "a b", "a" * 64, "correct:1"])
def test_a_metric_needs_a_metric_name(metric):
    problem = only_problem(changed("metric: correct", f"metric: {metric!r}"))
    assert (problem.field, problem.line) == ("goal.metric", 6)
    assert "is not a metric name" in problem.message


@pytest.mark.parametrize("metric", EDGE_COUNTERS)
def test_no_metric_is_named_like_what_the_edge_counts(metric):
    problem = only_problem(with_goal(f"metric: {metric}"))
    assert problem.field == "goal.metric"
    assert "counted at the edge" in problem.message
    rail = f"guardrails:\n  - {{metric: {metric}, kind: count, max_ratio: 2}}\n"
    assert only_problem(MINIMAL + rail).field == "guardrails[0].metric"


def test_an_unknown_kind_is_refused_with_those_that_are_known():
    problem = only_problem(changed("kind: binary", "kind: median"))
    assert (problem.field, problem.line, problem.column) == ("goal.kind", 6, 31)
    assert problem.message == (
        "'median' is not known; use 'binary', 'mean', 'score', 'ratio', 'latency' or 'count'"
    )


@pytest.mark.parametrize(
    ("words", "field", "message"),
    [
        ("metric: latency_ms, kind: mean, cap: 3", "kind", "its kind is latency"),
        ("metric: m, per: session", "per", "'unit' or 'request'"),
        ("metric: m, kind: ratio, per: unit, baseline: 3", "per", "always per request"),
        ("metric: m, kind: count, per: request", "per", "always per unit"),
        ("metric: m, kind: latency, above: 1, per: request", "per", "always per unit"),
        ("metric: latency_ms, above: 1, window: 1h", "window", "measured at the edge"),
        ("metric: m, window: 999ms", "window", "at least 1s"),
        ("metric: m, window: 60", "window", "such as 500ms"),
        ("metric: m, window: 7d", "window", "below max_runtime: 7d against 7d"),
        ("metric: m, kind: mean", "cap", "a mean needs it"),
        ("metric: m, kind: mean, cap: 0", "cap", "above 0"),
        ("metric: m, kind: mean, cap: -1", "cap", "above 0"),
        ("metric: m, kind: mean, cap: true", "cap", "a number such as 600"),
        ("metric: m, kind: mean, cap: 600s", "cap", "a number such as 600"),
        ("metric: m, kind: mean, cap: 1e13", "cap", "at most 1e+12"),
        ("metric: m, kind: mean, cap: 1e999", "cap", "finite"),
        ("metric: m, kind: mean, cap: []", "cap", "two numbers"),
        ("metric: m, kind: mean, cap: [1, 2, 3]", "cap", "two numbers"),
        ("metric: m, kind: mean, cap: [1, a]", "cap", "must be a number"),
        ("metric: m, kind: mean, cap: [1, true]", "cap", "must be a number"),
        ("metric: m, kind: mean, cap: [2, 2]", "cap", "below the second"),
        ("metric: m, cap: 600", "cap", "a binary metric does not take it: only mean does"),
        ("metric: m, covariate: true", "covariate", "only mean does"),
        ("metric: m, kind: mean, cap: 1, covariate: 1", "covariate", "true or false"),
        (
            "metric: m, kind: mean, cap: 1, covariate: true, per: request",
            "covariate",
            "belongs to a unit",
        ),
        ("metric: m, kind: score", "range", "a score needs it"),
        ("metric: m, kind: score, range: 5", "range", "two numbers"),
        ("metric: m, kind: score, range: [5, 1]", "range", "below the second"),
        ("metric: m, kind: score, range: [999999999999, 1e12]", "range", "too narrow"),
        ("metric: m, range: [1, 5]", "range", "only score does"),
        ("metric: m, kind: score, range: [1, 5], step: 0", "step", "above 0"),
        ("metric: m, kind: score, range: [1, 5], step: 3", "step", "3 does not divide 1 to 5"),
        ("metric: m, kind: score, range: [1, 5], step: 8", "step", "8 does not divide 1 to 5"),
        ("metric: m, kind: score, range: [0, 1], step: 0.0009", "step", "at least 0.001"),
        ("metric: m, kind: ratio, step: 1, baseline: 3", "step", "only score does"),
        ("metric: m, kind: latency", "above", "m needs it"),
        ("metric: latency_ms", "above", "latency_ms needs it"),
        ("metric: m, kind: latency, above: 1, quantile: 9%", "above", "two metrics"),
        ("metric: m, kind: latency, above: 0", "above", "above 0"),
        ("metric: m, kind: latency, above: 600001", "above", "at most 600000"),
        ("metric: m, kind: latency, above: 1.5", "above", "whole number"),
        ("metric: m, kind: latency, above: 250ms", "above", "whole number"),
        ("metric: m, kind: latency, above: true", "above", "whole number"),
        ("metric: m, kind: count, above: 250", "above", "only latency does"),
        ("metric: m, kind: latency, quantile: 0.99", "quantile", "write 99%"),
        ("metric: m, kind: latency, quantile: 0%", "quantile", "above 0%"),
        ("metric: m, kind: latency, quantile: 100%", "quantile", "below 100%"),
        ("metric: m, kind: latency, quantile: 99.999%", "quantile", "0.01%"),
        ("metric: m, quantile: 99%", "quantile", "only latency does"),
    ],
)
def test_what_a_metric_cannot_be_is_refused_once_with_its_place(words, field, message):
    problem = only_problem(with_goal(words))
    assert (problem.field, problem.line) == (f"goal.{field}", 6)
    assert message in problem.message


def test_a_window_just_inside_the_runtime_is_accepted():
    text = with_goal("metric: m, window: 1s") + "limits: {min_runtime: 0s, max_runtime: 1001ms}\n"
    assert read_declaration(text).goal.metric.window == timedelta(seconds=1)


def test_a_window_of_a_guardrail_closes_in_time_too():
    rail = "{metric: m, kind: count, window: 8d, max_ratio: 2}"
    problem = only_problem(MINIMAL + f"guardrails:\n  - {rail}\n")
    assert (problem.field, problem.line, problem.column) == ("guardrails[0].window", 8, 38)
    assert "8d against 7d" in problem.message


def test_a_metric_given_twice_is_refused_at_the_second():
    problem = only_problem(changed("latency_ms, above: 250,", "error_rate,"))
    assert (problem.field, problem.line, problem.column) == ("guardrails[1]", 9, 5)
    assert "guardrails[0]" in problem.message


@pytest.mark.parametrize(
    ("goal", "rail", "field", "message"),
    [
        ("latency_ms, above: 250", "latency_ms, above: 250", "", "says the same as goal"),
        ("m", "m, kind: binary, worse: lower", "", "says the same as goal"),
        ("m", "m, kind: mean, cap: 3, worse: lower", "", "says the same as goal"),
        ("m", "m, kind: latency, above: 250", ".kind", "m is of another kind in goal"),
        ("m, kind: latency, above: 1", "m, kind: count", ".kind", "another kind in goal"),
        (
            "m, kind: latency, above: 1, window: 1h",
            "m, kind: latency, quantile: 9%",
            ".window",
            "another window in goal",
        ),
    ],
)
def test_one_outcome_has_to_serve_every_metric_of_its_name(goal, rail, field, message):
    text = with_goal(f"metric: {goal}") + f"guardrails:\n  - {{metric: {rail}, max_ratio: 2}}\n"
    problem = only_problem(text)
    assert (problem.field, problem.line) == (f"guardrails[0]{field}", 8)
    assert message in problem.message


def test_latency_may_be_watched_at_several_marks_and_quantiles():
    extra = """\
  - {metric: latency_ms, above: 1000, max_ratio: 1.2}
  - {metric: latency_ms, quantile: 99%, max_ratio: 1.2}
  - {metric: latency_ms, quantile: 50%, max_ratio: 1.2}
limits:"""
    keys = [rail.key for rail in read_declaration(changed("limits:", extra)).guardrails]
    assert keys == [
        "error_rate",
        "latency_ms>250",
        "latency_ms>1000",
        "latency_ms@99",
        "latency_ms@50",
    ]


def test_an_old_file_says_what_it_always_said():
    old = read_declaration(FILE)
    assert [metric.key for metric in old.metrics] == ["correct", "error_rate", "latency_ms>250"]
    assert {metric.window for metric in old.metrics} == {None}
    assert {metric.per for metric in old.metrics} == {Per.UNIT}
