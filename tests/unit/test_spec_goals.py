"""Goals and guardrails: effects, margins, and what is known beforehand."""

import pytest

from experiments.metric import Worse
from experiments.spec import read_declaration
from tests.unit.written import MINIMAL, changed, only_problem

MEAN = "metric: m, kind: mean, cap: 9"
SCORE = "metric: m, kind: score, range: [1, 5]"
RATIO = "metric: m, kind: ratio, baseline: 3"
BINARY = "metric: m, kind: binary"
COUNT = "metric: m, kind: count, window: 1h"
SLOW = "metric: latency_ms, above: 250"
QUANTILE = "metric: latency_ms, quantile: 99%"
UP = "direction: increase, min_effect"


def with_goal(words):
    """A file whose goal, in line 6, is this."""
    return MINIMAL.replace("metric: correct, direction: decrease, min_effect: 0.5%", words)


def with_guardrail(words):
    """A file whose only guardrail, in line 8, is this."""
    return MINIMAL + f"guardrails:\n  - {{{words}}}\n"


def guardrail(words):
    return read_declaration(with_guardrail(words)).guardrails[-1]


def test_an_unknown_direction_is_refused_with_those_that_are_known():
    problem = only_problem(changed("direction: increase", "direction: up"))
    assert problem.field == "goal.direction"
    assert "'increase' or 'decrease'" in problem.message


def test_errors_are_no_goal():
    problem = only_problem(changed("metric: correct, kind: binary", "metric: error_rate"))
    assert (problem.field, problem.line) == ("goal.metric", 6)
    assert "watched for harm" in problem.message


@pytest.mark.parametrize(
    ("goal", "field", "message"),
    [
        (f"{BINARY}, {UP}: 0%", "min_effect", "at least 0.01%"),
        (f"{BINARY}, {UP}: 1000.1%", "min_effect", "at most 1000%"),
        (f"{SLOW}, direction: decrease, min_effect: 100%", "min_effect", "below 100%"),
        (f"{BINARY}, {UP}: 0.01", "min_effect", "write 1%"),
        (f"{BINARY}, {UP}: 1%, baseline: 0%", "baseline", "above 0%"),
        (f"{BINARY}, {UP}: 1%, baseline: 100%", "baseline", "below 100%"),
        (f"{BINARY}, {UP}: 1%, baseline: 0.4", "baseline", "write 40%"),
        (f"{BINARY}, {UP}: 10%, baseline: 95%", "baseline", "cannot grow"),
        (f"{SLOW}, {UP}: 10%, baseline: 95%", "baseline", "cannot grow"),
        (f"{COUNT}, {UP}: 1%, baseline: 0.4", "baseline", "write 40%"),
        (f"{MEAN}, {UP}: 1%, baseline: 4%", "baseline", "must be a number"),
        (f"{MEAN}, {UP}: 1%, baseline: 0", "baseline", "above 0"),
        (f"{MEAN}, {UP}: 1%, baseline: -4", "baseline", "above 0"),
        (f"metric: m, kind: ratio, {UP}: 1%, baseline: true", "baseline", "must be a number"),
        (f"{QUANTILE}, {UP}: 1%, baseline: 250ms", "baseline", "must be a number"),
        (f"{SCORE}, {UP}: 1%, baseline: 5", "baseline", "within 1 and 5"),
        (f"{SCORE}, {UP}: 1%, baseline: 0.5", "baseline", "within 1 and 5"),
        (f"{SCORE}, {UP}: 50%, baseline: 4", "baseline", "cannot grow by 50% within its range"),
        (f"{MEAN}, {UP}: 1%, spread: 0", "spread", "above 0"),
        (f"{MEAN}, {UP}: 1%, spread: 5%", "spread", "must be a number"),
        (f"{BINARY}, {UP}: 1%, spread: 0.5", "spread", "known from its baseline"),
        (f"{SLOW}, {UP}: 1%, spread: 0.5", "spread", "known from its baseline"),
        (f"{BINARY}, {UP}: 1%, max_ratio: 2", "max_ratio", "unknown field"),
    ],
)
def test_goals_that_cannot_be_are_refused(goal, field, message):
    problem = only_problem(with_goal(goal))
    assert (problem.field, problem.line) == (f"goal.{field}", 6)
    assert message in problem.message


@pytest.mark.parametrize(
    ("goal", "baseline", "spread"),
    [
        (f"{BINARY}, {UP}: 1000%", None, None),
        (f"{BINARY}, direction: decrease, min_effect: 99.9%", None, None),
        (f"{BINARY}, {UP}: 10%, baseline: 90%", 0.9, None),
        (f"{BINARY}, direction: decrease, min_effect: 10%, baseline: 95%", 0.95, None),
        (f"{COUNT}, direction: decrease, min_effect: 10%, baseline: 2%", 0.02, None),
        (f"{MEAN}, {UP}: 10%, baseline: 900, spread: 3.5", 900.0, 3.5),
        (f"{SCORE}, {UP}: 25%, baseline: 4, spread: 1", 4.0, 1.0),
        (f"metric: m, kind: ratio, {UP}: 25%, baseline: 0.5, spread: 1", 0.5, 1.0),
        (f"{QUANTILE}, direction: decrease, min_effect: 5%, baseline: 250", 250.0, None),
    ],
)
def test_goals_just_inside_are_accepted(goal, baseline, spread):
    found = read_declaration(with_goal(goal)).goal
    assert (found.baseline, found.spread) == (baseline, spread)


@pytest.mark.parametrize(
    ("words", "field", "message"),
    [
        ("metric: latency, max_ratio: 2", "kind", "did you mean latency_ms?"),
        ("metric: m, max_ratio: 2", "kind", "one of binary, mean, score, ratio, latency, count"),
        ("metric: error_rate, kind: binary, max_ratio: 2", "kind", "its kind is count"),
        ("metric: error_rate, above: 5, max_ratio: 2", "above", "only latency does"),
        ("metric: latency_ms, max_ratio: 2", "above", "the milliseconds"),
        (f"{MEAN}, max_ratio: 2", "worse", "higher, lower or either"),
        (f"{BINARY}, max_ratio: 2", "worse", "is required for a binary metric"),
        (f"{COUNT}, worse: bigger, max_ratio: 2", "worse", "'higher', 'lower' or 'either'"),
        ("metric: error_rate", "max_ratio", "is required"),
        (f"{MEAN}, worse: lower", "max_ratio", "is required, or give max_difference"),
        ("metric: error_rate, max_ratio: 1.0", "max_ratio", "above 1"),
        ("metric: error_rate, max_ratio: 1001", "max_ratio", "at most 1000"),
        ("metric: error_rate, max_ratio: 1e999", "max_ratio", "finite"),
        ("metric: error_rate, max_ratio: .nan", "max_ratio", "a number"),
        ("metric: error_rate, max_ratio: true", "max_ratio", "a number"),
        ("metric: error_rate, max_ratio: 200%", "max_ratio", "a number"),
        (f"{MEAN}, worse: lower, max_difference: 1, max_ratio: 2", "max_ratio", "one of both"),
        (f"{COUNT}, max_difference: 1", "max_difference", "a percent sign"),
        ("metric: m, kind: ratio, worse: lower, max_ratio: 2", "baseline", "about what is it"),
        ("metric: m, kind: count, max_ratio: 2, negligible: 1%", "negligible", "needs a window"),
        (f"{QUANTILE}, max_difference: 20", "max_difference", "give max_ratio"),
        (f"{BINARY}, worse: lower, max_difference: 0.01", "max_difference", "write 1%"),
        (f"{BINARY}, worse: lower, max_difference: 0%", "max_difference", "above 0%"),
        (f"{BINARY}, worse: lower, max_difference: 100%", "max_difference", "below 100%"),
        (f"{MEAN}, worse: lower, max_difference: 1%", "max_difference", "must be a number"),
        (f"{MEAN}, worse: lower, max_difference: 0", "max_difference", "above 0"),
        (f"{MEAN}, worse: lower, max_difference: 18", "max_difference", "below 18: cap"),
        (f"{SCORE}, worse: lower, max_difference: 4", "max_difference", "below 4: range"),
        ("metric: error_rate, max_ratio: 2, negligible: 0%", "negligible", "above 0%"),
        ("metric: error_rate, max_ratio: 2, negligible: 100%", "negligible", "below"),
        ("metric: error_rate, max_ratio: 2, negligible: 0.1", "negligible", "10%"),
        (f"{QUANTILE}, max_ratio: 2, negligible: 1%", "negligible", "a quantile metric does not"),
        (f"{MEAN}, worse: lower, max_ratio: 2, negligible: 1%", "negligible", "a mean metric"),
        (f"{BINARY}, worse: lower, max_ratio: 2, negligible: 1%", "negligible", "only count"),
        ("metric: error_rate, max_ratio: 2, baseline: 0.1", "baseline", "write 10%"),
        (f"{MEAN}, worse: lower, max_ratio: 2, baseline: 1%", "baseline", "must be a number"),
    ],
)
def test_guardrails_that_make_no_sense_are_refused(words, field, message):
    problem = only_problem(with_guardrail(words))
    assert (problem.field, problem.line) == (f"guardrails[0].{field}", 8)
    assert message in problem.message


@pytest.mark.parametrize("words", [f"{SLOW}", f"{COUNT}", "metric: error_rate"])
def test_more_bad_units_are_worse_and_a_few_are_no_harm(words):
    found = guardrail(f"{words}, max_ratio: 1.5")
    assert (found.worse, found.max_ratio, found.negligible) == (Worse.HIGHER, 1.5, 0.01)


def test_longer_times_are_worse_and_no_time_is_negligible():
    found = guardrail(f"{QUANTILE}, max_ratio: 1.5")
    assert (found.worse, found.negligible) == (Worse.HIGHER, None)


@pytest.mark.parametrize("worse", Worse)
@pytest.mark.parametrize("words", [BINARY, MEAN, SCORE, RATIO, COUNT, SLOW, QUANTILE])
def test_a_guardrail_of_any_kind_may_be_one_sided_or_two_sided(words, worse):
    assert guardrail(f"{words}, worse: {worse}, max_ratio: 2").worse is worse


@pytest.mark.parametrize(
    ("words", "margin"),
    [(f"{each}, max_difference: 1%", 0.01) for each in (BINARY, COUNT, SLOW)]
    + [(f"{each}, max_difference: 0.5", 0.5) for each in (MEAN, SCORE, RATIO)]
    + [("metric: m, kind: ratio, max_difference: 0.5", 0.5)],
)
def test_a_margin_may_be_absolute(words, margin):
    found = guardrail(f"{words}, worse: lower")
    assert (found.max_difference, found.max_ratio) == (margin, None)


def test_without_a_window_no_absence_of_reports_is_taken_for_safety():
    """Units too young to complain would speak for a version."""
    assert guardrail("metric: m, kind: count, max_ratio: 2").negligible is None
    assert guardrail("metric: m, kind: count, max_ratio: 2, window: 1h").negligible == 0.01
