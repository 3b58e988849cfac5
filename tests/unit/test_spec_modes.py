"""Bounded experiments, holdback after promotion, segments, and failover within a budget."""

from datetime import timedelta

import pytest

from experiments.errors import InvalidDeclaration
from experiments.model import WHOLE, Holdback, Horizon, Segments
from experiments.spec import read_declaration
from experiments.unit import HeaderUnit
from tests.unit.written import FILE, MINIMAL, only_problem


def test_an_experiment_is_open_ended_and_watches_no_segments_unless_it_says_so():
    declaration = read_declaration(MINIMAL)
    assert (declaration.horizon, declaration.holdback, declaration.segments) == (None, None, None)


def test_the_champion_may_answer_for_every_failure_unless_a_file_says_otherwise():
    assert read_declaration(MINIMAL).budget == WHOLE


@pytest.mark.parametrize(
    ("said", "budget"), [("0%", 0), ("0.5%", 50), ("20%", 2_000), ("100%", WHOLE)]
)
def test_a_failover_budget_is_a_share_of_the_requests(said, budget):
    assert read_declaration(f"{MINIMAL}failover: {{budget: {said}}}").budget == budget


def test_what_it_says_is_read():
    declaration = read_declaration(
        FILE
        + "horizon: {units: 400}\n"
        + "holdback: {share: 5%, for: 24h}\n"
        + "segments: {header: x-country, values: [de, fr, A.b-c_9]}\n"
    )
    assert declaration.horizon == Horizon(400)
    assert declaration.holdback == Holdback(500, timedelta(days=1))
    assert declaration.segments == Segments("x-country", ("de", "fr", "A.b-c_9"))


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("horizon: {units: 399}", "horizon.units", "at least 400"),
        ("horizon: {units: 0}", "horizon.units", "at least 1"),
        ("horizon: {units: 1000000001}", "horizon.units", "at most 1000000000"),
        ("horizon: {units: 1e4}", "horizon.units", "a whole number"),
        ("horizon: {unit: 400, units: 400}", "horizon.unit", "did you mean units?"),
        ("horizon: {}", "horizon.units", "is required"),
        ("horizon: 400", "horizon", "fields with values"),
        ("holdback: {share: 0%, for: 1h}", "holdback.share", "above 0%"),
        ("holdback: {share: 100%, for: 1h}", "holdback.share", "below 100%"),
        ("holdback: {share: 0.05, for: 1h}", "holdback.share", "write 5%"),
        ("holdback: {share: 5%, for: 999ms}", "holdback.for", "at least 1s"),
        ("holdback: {share: 5%, for: 24}", "holdback.for", "such as 500ms"),
        ("holdback: {share: 5%}", "holdback.for", "is required"),
        ("holdback: {share: 5%, span: 1h, for: 1h}", "holdback.span", "known are share, for"),
        ("failover: {budget: 100.01%}", "failover.budget", "at most 100%"),
        ("failover: {budget: -1%}", "failover.budget", "must be a percentage"),
        ("failover: {budget: 0.2}", "failover.budget", "write 20%"),
        ("failover: {}", "failover.budget", "is required"),
        ("failover: 20%", "failover", "fields with values"),
        ("failover: {share: 20%, budget: 5%}", "failover.share", "known are budget"),
        ("segments: {header: X-Country, values: [de]}", "segments.header", "lower case"),
        ("segments: {header: x-variant, values: [de]}", "segments.header", "the edge itself sets"),
        ("segments: {header: x-country}", "segments.values", "is required"),
        ("segments: {header: x-country, values: []}", "segments.values", "at least 1"),
        (
            "segments: {header: x-country, values: [a, b, c, d, e, f, g, h, i]}",
            "segments.values",
            "at most 8",
        ),
        (
            "segments: {header: x-country, values: [de, fr, de]}",
            "segments.values[2]",
            "says the same as values[0]",
        ),
        ("segments: {header: x-country, values: ['']}", "segments.values[0]", "use letters"),
        ("segments: {header: x-country, values: [de at]}", "segments.values[0]", "use letters"),
        ("segments: {header: x-country, values: ['a,b']}", "segments.values[0]", "use letters"),
        ("segments: {header: x-country, values: [ä]}", "segments.values[0]", "use letters"),
        (f"segments: {{header: x-c, values: [{'a' * 33}]}}", "segments.values[0]", "at most 32"),
        ("segments: {header: x-country, values: [1]}", "segments.values[0]", "must be text"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(line, field, message):
    problem = only_problem(MINIMAL + line + "\n")
    assert (problem.field, problem.line) == (field, 7)
    assert message in problem.message


def test_a_horizon_holds_the_units_that_the_file_asks_for_in_both_arms():
    limits = "limits: {min_units: 1000}\n"
    assert read_declaration(MINIMAL + limits + "horizon: {units: 2000}").horizon == Horizon(2000)
    problem = only_problem(MINIMAL + limits + "horizon: {units: 1999}")
    assert "at least 2000" in problem.message


def test_a_holdback_is_taken_from_units_that_never_met_a_challenger():
    read_declaration(FILE + "holdback: {share: 49.99%, for: 1h}")
    problem = only_problem(FILE + "holdback: {share: 50.01%, for: 1h}")
    assert problem.field == "holdback.share"
    assert problem.message == (
        "the last share is 50%, so at most 50% of the units have not met a challenger"
    )


def test_a_holdback_leaves_somebody_new_for_the_new_champion_where_units_come_back():
    problem = only_problem(FILE + "holdback: {share: 50%, for: 1h}")
    assert (problem.field, "must be below 50%" in problem.message) == ("holdback.share", True)
    by_request = FILE.replace("header:x-unit-id", "request")
    assert read_declaration(by_request + "holdback: {share: 50%, for: 1h}").holdback is not None


@pytest.mark.parametrize("header", ["x-variant", "x-model-version", "x-tiltyard-fallback"])
def test_a_header_that_the_edge_sets_names_no_unit(header):
    with pytest.raises(InvalidDeclaration, match="the edge itself sets"):
        HeaderUnit(header)
