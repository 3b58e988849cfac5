"""The file as a whole: its fields, and what is wrong with them."""

from datetime import timedelta
from textwrap import dedent

import pytest

from experiments.errors import InvalidDeclaration
from experiments.metric import Binary, Count, Direction, Goal, Guardrail, Metric, Slow, Worse
from experiments.model import Alpha, BasisPoints, Declaration, Limits, experiment_name
from experiments.spec import WATCHED_ERRORS, read_declaration
from experiments.unit import HeaderUnit, RequestUnit
from registry.refs import Version, model_name
from tests.unit.written import FILE, MINIMAL, changed, only_problem, problems


def test_the_example_is_read_as_declared():
    assert read_declaration(FILE) == Declaration(
        name=experiment_name("digits-v2"),
        model=model_name("digits"),
        challengers=(Version(2),),
        unit=HeaderUnit("x-unit-id"),
        ramp=(BasisPoints(500), BasisPoints(2500), BasisPoints(5000)),
        goal=Goal(Metric("correct", Binary()), Direction.INCREASE, 0.01),
        guardrails=(
            Guardrail(Metric("error_rate", Count()), Worse.HIGHER, max_ratio=2.0, negligible=0.01),
            Guardrail(
                Metric("latency_ms", Slow(250)), Worse.HIGHER, max_ratio=1.5, negligible=0.01
            ),
        ),
        limits=Limits(200, timedelta(seconds=10), timedelta(days=7)),
        alpha=Alpha(harm=0.05, promote=0.025),
        deadline=timedelta(seconds=2),
    )


def test_what_the_file_leaves_out_has_the_documented_default():
    declaration = read_declaration(MINIMAL)
    assert declaration.unit == RequestUnit()
    assert declaration.limits == Limits(200, timedelta(minutes=10), timedelta(days=7))
    assert declaration.alpha == Alpha(harm=0.05, promote=0.025, sample_ratio=0.001)
    assert declaration.deadline == timedelta(seconds=2)


@pytest.mark.parametrize(
    "guardrails",
    ["", "guardrails: []\n", "guardrails: [{metric: latency_ms, above: 9, max_ratio: 2}]"],
)
def test_errors_are_watched_even_if_the_file_does_not_ask_for_it(guardrails):
    assert read_declaration(MINIMAL + guardrails).guardrails[0] == WATCHED_ERRORS


def test_a_declared_error_guardrail_is_the_only_one():
    guardrails = "guardrails: [{metric: error_rate, max_ratio: 3}]"
    (guardrail,) = read_declaration(MINIMAL + guardrails).guardrails
    assert (guardrail.key, guardrail.max_ratio) == ("error_rate", 3.0)


def test_optional_fields_are_read():
    text = MINIMAL.replace("0.5%", "0.5%, baseline: 12.5%") + "deadline: 500ms\n"
    declaration = read_declaration(text)
    assert declaration.goal.baseline == 0.125
    assert declaration.deadline == timedelta(milliseconds=500)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("500ms", timedelta(milliseconds=500)),
        ("10s", timedelta(seconds=10)),
        ("5m", timedelta(minutes=5)),
        ("24h", timedelta(hours=24)),
        ("6d", timedelta(days=6)),
        ("0s", timedelta(0)),
    ],
)
def test_durations_are_written_with_their_unit(text, span):
    declaration = read_declaration(changed("min_runtime: 10s", f"min_runtime: {text}"))
    assert declaration.limits.min_runtime == span


@pytest.mark.parametrize("text", ["10", "10 s", "1.5h", "-5s", "5w", "1h30m", "s", "PT5M", "true"])
def test_other_durations_are_refused_with_an_example(text):
    problem = only_problem(changed("min_runtime: 10s", f"min_runtime: {text}"))
    assert (problem.field, problem.line, problem.column) == ("limits.min_runtime", 10, 39)
    assert "such as 500ms, 10s" in problem.message


def test_a_duration_beyond_ten_years_is_refused():
    assert "at most 3650d" in only_problem(changed("7d", "3651d")).message
    assert "at most 3650d" in only_problem(changed("7d", f"{'9' * 15}d")).message


def test_shares_are_read_to_the_basis_point():
    assert read_declaration(changed("[5%,", "[0.01%, 12.5%,")).ramp == (1, 1250, 2500, 5000)


def test_a_share_finer_than_a_basis_point_is_refused():
    problem = only_problem(changed("[5%,", "[0.015%,"))
    assert (problem.field, problem.line, problem.column) == ("share[0]", 5, 9)
    assert "0.01%" in problem.message


@pytest.mark.parametrize(
    ("bare", "advice"), [("0.05", "write 5%"), ("5", "such as 5%"), ("0", "such as 5%")]
)
def test_a_bare_number_for_a_share_is_refused_with_what_to_write(bare, advice):
    problem = only_problem(changed("[5%,", f"[{bare},"))
    assert problem.field == "share[0]"
    assert advice in problem.message


@pytest.mark.parametrize("text", ["'5 %'", "-5%", "five%", "'%'", "5%%", "1e1%", "true", "[5%]"])
def test_what_is_no_percentage_is_refused(text):
    problem = only_problem(changed("[5%,", f"[{text},"))
    assert problem.field == "share[0]"
    assert "must be a percentage" in problem.message


@pytest.mark.parametrize(
    ("ramp", "field", "column"),
    [
        ("[50%, 25%]", "share[1]", 14),
        ("[5%, 25%, 25%]", "share[2]", 18),
    ],
)
def test_shares_that_shrink_or_stand_still_are_refused(ramp, field, column):
    problem = only_problem(changed("[5%, 25%, 50%]", ramp))
    assert (problem.field, problem.line, problem.column) == (field, 5, column)
    assert "shares must grow" in problem.message


@pytest.mark.parametrize("share", ["0%", "100%", "100.01%", "900%"])
def test_shares_of_nothing_or_of_all_and_more_are_refused(share):
    problem = only_problem(changed("[5%, 25%, 50%]", f"[{share}]"))
    assert problem.field == "share[0]"
    assert "above 0% and below 100%" in problem.message


@pytest.mark.parametrize("share", ["0.01%", "99.99%"])
def test_shares_just_inside_are_accepted(share):
    assert read_declaration(changed("[5%, 25%, 50%]", f"[{share}]")).ramp in [(1,), (9999,)]


@pytest.mark.parametrize(
    ("ramp", "message"),
    [
        ("[]", "at least 1"),
        (f"[{', '.join(f'{n}%' for n in range(1, 22))}]", "at most 20"),
        ("5%", "a list"),
        ("{a: 5%}", "a list"),
    ],
)
def test_a_ramp_is_a_list_of_a_few_shares(ramp, message):
    problem = only_problem(changed("[5%, 25%, 50%]", ramp))
    assert (problem.field, problem.line, problem.column) == ("share", 5, 8)
    assert message in problem.message


@pytest.mark.parametrize(
    "version", ["0", "-1", "2.0", "'2'", "true", "v2", "1000000000", "9" * 5000]
)
def test_a_challenger_is_a_version(version):
    problem = only_problem(changed("challenger: 2", f"challenger: {version}"))
    assert (problem.field, problem.line, problem.column) == ("challenger", 3, 13)


@pytest.mark.parametrize("name", ["Digits", "a b", "''", "a" * 64, "ä", "2", "true", "a/b", "-a"])
@pytest.mark.parametrize("field", ["name", "model"])
def test_names_that_cannot_travel_are_refused(field, name):
    old = {"name": "name: digits-v2", "model": "model: digits"}[field]
    problem = only_problem(changed(old, f"{field}: {name}"))
    assert problem.field == field
    assert (problem.line, problem.column) == ({"name": 1, "model": 2}[field], len(field) + 3)


def test_a_model_of_tiltyards_own_is_in_nobodys_experiment():
    problem = only_problem(changed("model: digits", "model: tiltyard-certify-digits"))
    assert (problem.field, problem.line) == ("model", 2)
    assert "do not begin with 'tiltyard-'" in problem.message


@pytest.mark.parametrize(
    "unit",
    ["user", "header", "'header:'", "header:X-Unit", "body:id", "''", "cookie:a b", "'json:id'"],
)
def test_an_unknown_unit_is_refused_with_those_that_are_known(unit):
    problem = only_problem(changed("header:x-unit-id", unit))
    assert (problem.field, problem.line, problem.column) == ("unit", 4, 7)
    for known in ("`request`", "`header:NAME`", "`cookie:NAME`", "`query:NAME`", "`json:$.PATH`"):
        assert known in problem.message


@pytest.mark.parametrize("unit", ["cookie:sid", "query:user", "json:$.inputs[0].data[0]"])
def test_a_unit_may_stand_in_many_places(unit):
    assert str(read_declaration(changed("header:x-unit-id", unit)).unit) == unit


def test_a_header_name_without_quotes_that_yaml_reads_as_fields_is_refused_with_its_place():
    assert only_problem(changed("header:x-unit-id", "header: x-unit-id")).line == 4


def test_several_challengers_are_a_list():
    versions = read_declaration(changed("challenger: 2", "challengers: [7, 2, 999999999]"))
    assert versions.challengers == (7, 2, 999_999_999)


def test_a_list_of_one_challenger_is_that_challenger():
    assert read_declaration(changed("challenger: 2", "challengers: [2]")) == read_declaration(FILE)


@pytest.mark.parametrize(
    ("versions", "field", "message"),
    [
        ("[]", "challengers", "at least 1"),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 9]", "challengers", "at most 8"),
        ("[7, 8, 7]", "challengers[2]", "says the same as challengers[0]"),
        ("[7, 0]", "challengers[1]", "at least 1"),
        ("[7, two]", "challengers[1]", "a whole number"),
        ("7", "challengers", "a list"),
    ],
)
def test_challengers_are_a_few_different_versions(versions, field, message):
    problem = only_problem(changed("challenger: 2", f"challengers: {versions}"))
    assert (problem.field, problem.line) == (field, 3)
    assert message in problem.message


@pytest.mark.parametrize(
    "order", ["challenger: 2\nchallengers: [7]", "challengers: [7]\nchallenger: 2"]
)
def test_challenger_and_challengers_exclude_each_other(order):
    problem = only_problem(changed("challenger: 2", order))
    assert problem.field == "challenger"
    assert problem.message == "cannot stand beside challengers: give one of both"


@pytest.mark.parametrize(
    ("limits", "field", "message"),
    [
        ("min_units: 0", "limits.min_units", "at least 1"),
        ("min_units: 1000001", "limits.min_units", "at most 1000000"),
        ("min_units: true", "limits.min_units", "whole number"),
        ("min_runtime: 1h, max_runtime: 60m", "limits.max_runtime", "longer than min_runtime"),
        ("min_runtime: 1h, max_runtime: 59m", "limits.max_runtime", "59m against 1h"),
        ("min_runtime: 7d", "limits.max_runtime", "7d against 7d"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(limits, field, message):
    problem = only_problem(MINIMAL + f"limits: {{{limits}}}\n")
    assert (problem.field, problem.line) == (field, 7)
    assert message in problem.message


@pytest.mark.parametrize("value", ["0", "0.5", "-0.1", "0.0", "5%", "true", ".inf", "1e-999"])
@pytest.mark.parametrize("name", ["harm", "promote", "sample_ratio"])
def test_an_alpha_is_a_number_above_0_and_below_a_half(name, value):
    problem = only_problem(MINIMAL + f"alpha: {{{name}: {value}}}\n")
    assert (problem.field, problem.line) == (f"alpha.{name}", 7)


@pytest.mark.parametrize("deadline", ["0s", "301s", "2", "''"])
def test_a_deadline_has_bounds(deadline):
    problem = only_problem(MINIMAL + f"deadline: {deadline}\n")
    assert (problem.field, problem.line, problem.column) == ("deadline", 7, 11)


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "meant"),
    [
        ("challenger: 2", "challenger: 2\nguardrial: 1", "guardrial", 4, "guardrails"),
        ("min_effect: 1%", "min_effect: 1%, baselin: 2%", "goal.baselin", 6, "baseline"),
        ("above: 250,", "above: 250, abov: 2,", "guardrails[1].abov", 9, "above"),
        ("min_units: 200,", "min_units: 200, min_unit: 1,", "limits.min_unit", 10, "min_units"),
        ("harm: 0.05,", "harm: 0.05, harms: 1,", "alpha.harms", 11, "harm"),
    ],
)
def test_an_unknown_field_is_refused_with_the_one_that_was_probably_meant(
    old, new, field, line, meant
):
    problem = only_problem(changed(old, new))
    assert (problem.field, problem.line) == (field, line)
    assert problem.message == f"unknown field; did you mean {meant}?"


def test_an_unknown_field_that_resembles_none_is_refused_with_all_that_are_known():
    problem = only_problem(changed("harm: 0.05", "zzz: 1"))
    assert problem.message == "unknown field; known are harm, promote, sample_ratio"


def test_every_required_field_is_asked_for_at_once():
    missing = {problem.field: problem.message for problem in problems("goal: {}\n")}
    assert missing == {
        **dict.fromkeys(("name", "model", "unit", "share"), "is required"),
        **dict.fromkeys(("goal.metric", "goal.direction", "goal.min_effect"), "is required"),
        "challenger": "is required, or challengers with a list of versions",
    }


@pytest.mark.parametrize(
    "field",
    ["challenger", "goal", "limits", "deadline", "guardrails", "share", "horizon", "segments"],
)
def test_a_field_without_a_value_is_refused(field):
    lines = [line for line in MINIMAL.splitlines() if not line.startswith(field)]
    problem = only_problem("\n".join([*lines, f"{field}:"]))
    assert (problem.field, problem.message) == (field, "has no value")
    assert problem.line == len(lines) + 1


def test_all_problems_are_told_at_once_in_the_order_of_the_file():
    text = """\
        name: Digits
        model: digits
        challenger: two
        challenger: 3
        unit: user
        share: [5%, 0.25, 101%x]
        goal: {metric: correct, kind: men, direction: up, min_effect: 1}
        guardrail: []
        limits: {min_units: 0}
        alpha: {harm: 1}
        """
    found = problems(dedent(text))
    assert [(problem.field, problem.line) for problem in found] == [
        ("name", 1),
        ("challenger", 3),
        ("challenger", 4),
        ("unit", 5),
        ("share[1]", 6),
        ("share[2]", 6),
        ("goal.kind", 7),
        ("goal.direction", 7),
        ("goal.min_effect", 7),
        ("guardrail", 8),
        ("limits.min_units", 9),
        ("alpha.harm", 10),
    ]


def test_the_error_names_every_place_and_has_the_code_of_a_bad_declaration():
    with pytest.raises(InvalidDeclaration) as refused:
        read_declaration(changed("challenger: 2", "challenger: two"))
    assert refused.value.code == "invalid_declaration"
    assert refused.value.message == (
        "line 3, column 13: challenger: must be a whole number, not 'two'"
    )
