from datetime import timedelta
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import InvalidDeclaration, InvalidFile
from experiments.form import EDGE_COUNTERS
from experiments.model import (
    Alpha,
    BasisPoints,
    Declaration,
    Direction,
    Goal,
    Guardrail,
    HeaderUnit,
    Limits,
    RequestUnit,
    experiment_name,
)
from experiments.source import LARGEST
from experiments.spec import WATCHED_ERRORS, as_dict, read_declaration, spec_hash, to_yaml
from registry.refs import Version, model_name

FILE = """\
name: digits-v2
model: digits
challenger: 2
unit: header:x-unit-id        # or: request
share: [5%, 25%, 50%]         # ramp; each stage has its gate
goal: {metric: correct, kind: binary, direction: increase, min_effect: 1%}
guardrails:
  - {metric: error_rate, max_ratio: 2.0}              # measured at the edge
  - {metric: latency_ms, above: 250, max_ratio: 1.5}  # share of requests slower than 250 ms
limits: {min_units: 200, min_runtime: 10s, max_runtime: 7d}
alpha: {harm: 0.05, promote: 0.025}
"""

MINIMAL = """\
name: digits-v2
model: digits
challenger: 2
unit: request
share: [10%]
goal: {metric: correct, direction: decrease, min_effect: 0.5%}
"""


def problems(text):
    with pytest.raises(InvalidFile) as refused:
        read_declaration(text)
    return refused.value.problems


def only_problem(text):
    (problem,) = problems(text)
    return problem


def changed(old, new):
    """The example with one thing written differently."""
    assert old in FILE
    return FILE.replace(old, new)


def test_the_example_is_read_as_declared():
    assert read_declaration(FILE) == Declaration(
        name=experiment_name("digits-v2"),
        model=model_name("digits"),
        challenger=Version(2),
        unit=HeaderUnit("x-unit-id"),
        ramp=(BasisPoints(500), BasisPoints(2500), BasisPoints(5000)),
        goal=Goal("correct", Direction.INCREASE, 0.01),
        guardrails=(
            Guardrail("error_rate", max_ratio=2.0),
            Guardrail("latency_ms", max_ratio=1.5, above_ms=250),
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
    assert read_declaration(MINIMAL + guardrails).guardrails == (Guardrail("error_rate", 3.0),)


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


@pytest.mark.parametrize(
    "unit",
    ["user", "header", "'header:'", "header:X-Unit", "cookie:id", "''", "header:a b", "Request"],
)
def test_an_unknown_unit_is_refused_with_those_that_are_known(unit):
    problem = only_problem(changed("header:x-unit-id", unit))
    assert (problem.field, problem.line, problem.column) == ("unit", 4, 7)
    assert "`request` or `header:NAME`" in problem.message


def test_a_header_name_without_quotes_that_yaml_reads_as_fields_is_refused_with_its_place():
    assert only_problem(changed("header:x-unit-id", "header: x-unit-id")).line == 4


@pytest.mark.parametrize("metric", ["Correct", "1st", "a-b", "''", "a b", "a" * 64, "correct:1"])
def test_a_goal_metric_needs_a_metric_name(metric):
    problem = only_problem(changed("metric: correct", f"metric: {metric!r}"))
    assert (problem.field, problem.line) == ("goal.metric", 6)
    assert "is not a metric name" in problem.message


@pytest.mark.parametrize("metric", EDGE_COUNTERS)
def test_a_goal_cannot_be_named_like_what_the_edge_counts(metric):
    problem = only_problem(changed("metric: correct", f"metric: {metric}"))
    assert problem.field == "goal.metric"
    assert "measured at the edge" in problem.message


def test_an_unknown_kind_of_goal_is_refused_with_those_that_are_known():
    problem = only_problem(changed("kind: binary", "kind: mean"))
    assert (problem.field, problem.line, problem.column) == ("goal.kind", 6, 31)
    assert problem.message == "'mean' is not known; use 'binary'"


def test_an_unknown_direction_is_refused_with_those_that_are_known():
    problem = only_problem(changed("direction: increase", "direction: up"))
    assert problem.field == "goal.direction"
    assert "'increase' or 'decrease'" in problem.message


@pytest.mark.parametrize(
    ("goal", "field", "message"),
    [
        ("direction: increase, min_effect: 0%", "goal.min_effect", "above 0%"),
        ("direction: increase, min_effect: 1000.1%", "goal.min_effect", "at most 1000%"),
        ("direction: decrease, min_effect: 100%", "goal.min_effect", "below 100%"),
        ("direction: increase, min_effect: 0.01", "goal.min_effect", "write 1%"),
        ("direction: increase, min_effect: 1%, baseline: 0%", "goal.baseline", "above 0%"),
        ("direction: increase, min_effect: 1%, baseline: 100%", "goal.baseline", "below 100%"),
        ("direction: increase, min_effect: 1%, baseline: 0.4", "goal.baseline", "write 40%"),
        ("direction: increase, min_effect: 10%, baseline: 95%", "goal.baseline", "cannot grow"),
    ],
)
def test_effects_and_rates_that_cannot_be_are_refused(goal, field, message):
    problem = only_problem(changed("kind: binary, direction: increase, min_effect: 1%", goal))
    assert (problem.field, problem.line) == (field, 6)
    assert message in problem.message


@pytest.mark.parametrize(
    "goal",
    [
        "direction: increase, min_effect: 1000%",
        "direction: decrease, min_effect: 99.9%",
        "direction: increase, min_effect: 10%, baseline: 90%",
        "direction: decrease, min_effect: 10%, baseline: 95%",
    ],
)
def test_effects_and_rates_just_inside_are_accepted(goal):
    read_declaration(changed("kind: binary, direction: increase, min_effect: 1%", goal))


@pytest.mark.parametrize(
    ("guardrail", "field", "message"),
    [
        ("metric: latency, max_ratio: 2", "guardrails[0].metric", "'error_rate' or 'latency_ms'"),
        ("metric: error_rate, above: 5, max_ratio: 2", "guardrails[0].above", "only latency_ms"),
        ("metric: latency_ms, max_ratio: 2", "guardrails[0].above", "the milliseconds"),
        ("metric: latency_ms, above: 0, max_ratio: 2", "guardrails[0].above", "above 0"),
        ("metric: latency_ms, above: 1.5, max_ratio: 2", "guardrails[0].above", "whole number"),
        ("metric: latency_ms, above: 250ms, max_ratio: 2", "guardrails[0].above", "whole number"),
        ("metric: latency_ms, above: true, max_ratio: 2", "guardrails[0].above", "whole number"),
        ("metric: error_rate", "guardrails[0].max_ratio", "is required"),
        ("metric: error_rate, max_ratio: 1.0", "guardrails[0].max_ratio", "above 1"),
        ("metric: error_rate, max_ratio: 1e999", "guardrails[0].max_ratio", "finite"),
        ("metric: error_rate, max_ratio: .nan", "guardrails[0].max_ratio", "a number"),
        ("metric: error_rate, max_ratio: true", "guardrails[0].max_ratio", "a number"),
        ("metric: error_rate, max_ratio: 200%", "guardrails[0].max_ratio", "a number"),
        (
            "metric: error_rate, max_ratio: 2, negligible: 0%",
            "guardrails[0].negligible",
            "above 0%",
        ),
        ("metric: error_rate, max_ratio: 2, negligible: 100%", "guardrails[0].negligible", "below"),
        ("metric: error_rate, max_ratio: 2, negligible: 0.1", "guardrails[0].negligible", "10%"),
    ],
)
def test_guardrails_that_make_no_sense_are_refused(guardrail, field, message):
    problem = only_problem(MINIMAL + f"guardrails:\n  - {{{guardrail}}}\n")
    assert (problem.field, problem.line) == (field, 8)
    assert message in problem.message


def test_a_guardrail_given_twice_is_refused_at_the_second():
    problem = only_problem(changed("latency_ms, above: 250,", "error_rate,"))
    assert (problem.field, problem.line, problem.column) == ("guardrails[1]", 9, 5)
    assert "guardrails[0]" in problem.message


def test_latency_may_be_watched_at_several_marks():
    extra = "- {metric: latency_ms, above: 1000, max_ratio: 1.2}\nlimits:"
    assert len(read_declaration(changed("limits:", f"  {extra}")).guardrails) == 3


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
    missing = {problem.field for problem in problems("goal: {}\n")}
    assert missing == {
        "name",
        "model",
        "challenger",
        "unit",
        "share",
        "goal.metric",
        "goal.direction",
        "goal.min_effect",
    }
    assert all(problem.message == "is required" for problem in problems("goal: {}\n"))


@pytest.mark.parametrize(
    "field", ["challenger", "goal", "limits", "deadline", "guardrails", "share"]
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
        goal: {metric: units, kind: mean, direction: up, min_effect: 1}
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
        ("goal.metric", 7),
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


def test_a_field_given_twice_is_refused_at_the_second():
    problem = only_problem(FILE + "model: digits\n")
    assert (problem.field, problem.line, problem.column) == ("model", 12, 1)
    assert problem.message == "is given twice, first in line 2"


def test_aliases_are_refused():
    text = changed("guardrails:", "guardrails: &rails").replace("limits:", "limits: *rails\n#")
    anchor, alias = problems(text)
    assert (anchor.field, anchor.message) == ("guardrails", "anchors are not allowed")
    assert (alias.field, alias.line, alias.column) == ("limits", 10, 9)
    assert "aliases are not allowed" in alias.message


def test_a_bomb_of_aliases_is_refused_without_being_expanded():
    lines = ["a0: &a0 [x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)
    ]
    assert any("aliases" in problem.message for problem in problems("\n".join(lines)))


@pytest.mark.parametrize(
    "value", ["!!python/object/apply:os.system ['true']", "!!str 2", "!custom 2", "!!set {a, b}"]
)
def test_tags_are_refused_and_construct_nothing(value):
    problem = only_problem(changed("challenger: 2", f"challenger: {value}"))
    assert (problem.field, problem.line, problem.column) == ("challenger", 3, 13)
    assert problem.message == "tags are not allowed"


@pytest.mark.parametrize("word", ["on", "no", "yes", "off", "y", "1_0", "0x1f", "2024-01-01"])
def test_words_that_older_yaml_takes_for_something_else_stay_text(word):
    assert read_declaration(MINIMAL.replace("model: digits", f"model: {word}")).model == word


@pytest.mark.parametrize("text", ["", "   \n", "# nothing but a comment\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(text):
    assert "empty" in only_problem(text).message


@pytest.mark.parametrize("text", ["- a", "text", "3", "[1, 2]", "true"])
def test_a_file_that_is_not_fields_with_values_is_refused(text):
    problem = only_problem(text)
    assert (problem.field, problem.line, problem.column) == ("", 1, 1)
    assert "fields with values" in problem.message


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("name: a\n\tmodel: b", 2, 1, "tabs"),
        ("name: a\nlimits:\n\t- b", 3, 1, "tabs"),
        ("name: [1, 2", 1, 12, "flow sequence"),
        ("name: a\nmodel: b: c", 2, 9, "mapping values"),
        ("name: 'a", 1, 9, "quoted scalar"),
        ("name: a\n--- \nname: b", 2, 1, "more than one document"),
        ("name: a\nmodel: \x07", 2, 8, "character"),
        (b"name: a\nmodel: \xff\xfe", 2, 8, "UTF-8"),
        ("name: a\nmodel: \ud800", 2, 8, "UTF-8"),
        ('name: a\nmodel: "\\ud800"', 2, 8, "surrogate"),
        ('name: a\nmodel: "\\UFFFFFFFF"', 2, 11, "number"),
        (f"%YAML {'9' * 5000}.1\n---\nname: a", 1, 7, "number"),
        ("name: a\n? [b]\n: c", 2, 3, "name of a field"),
        (f"name: a\nmodel: {'[' * 60_000}", 2, 16, "nested"),
        (f"name: a\nmodel: {'{a: ' * 15_000}", 2, 40, "nested"),
        (f"name: [{'a,' * 30_000}]", 1, 4000, "too many values"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(text, line, column, message):
    problem = only_problem(text)
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


def test_the_size_of_a_file_is_bounded():
    padding = LARGEST - len(FILE)
    read_declaration(FILE + "#" * padding)
    problem = only_problem(FILE + "#" * (padding + 1))
    assert problem.message == "the file is larger than 64 KiB"


def test_the_hash_is_of_what_is_declared_not_of_how_it_is_written():
    plain = read_declaration(FILE)
    rewritten = changed("10s", "10000ms").replace("5%, 25%", "5.00%,   25.0%") + "# note\n"
    assert spec_hash(read_declaration(rewritten)) == spec_hash(plain)
    assert spec_hash(plain).startswith("sha256:")


def test_the_hash_of_the_example_never_changes():
    assert spec_hash(read_declaration(FILE)) == (
        "sha256:8babcad3f3c8b7af77449626f4d2c538b4e0b587ddcac267f21069c1c4ba9dc3"
    )


def test_a_declaration_is_shown_in_the_words_of_the_file():
    shown = as_dict(read_declaration(FILE))
    assert shown["share"] == ["5%", "25%", "50%"]
    assert shown["unit"] == "header:x-unit-id"
    assert shown["limits"] == {"min_units": 200, "min_runtime": "10s", "max_runtime": "7d"}
    assert shown["goal"]["min_effect"] == "1%"
    assert shown["guardrails"][1]["above"] == 250


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True) | st.sampled_from(
    ["1e5", "no", "true", "null", "2024", "0x1", "1_0", "2024-01-01", "0e0"]
)
SPANS = st.integers(0, 10**10).map(lambda ms: timedelta(milliseconds=ms))
ALPHAS = st.floats(0, 0.5, exclude_min=True, exclude_max=True)


@st.composite
def goals(draw):
    direction = draw(st.sampled_from(Direction))
    upper = 1 if direction is Direction.DECREASE else 10
    effect = draw(st.floats(0, upper, exclude_min=True, exclude_max=True))
    highest = 1 if direction is Direction.DECREASE else 1 / (1 + effect)
    rates = st.floats(0, highest, exclude_min=True, exclude_max=True)
    metric = draw(st.from_regex(r"m[a-z0-9_]{0,62}", fullmatch=True))
    fits = rates.filter(lambda rate: rate * (1 + effect) <= 1 or upper == 1)
    return Goal(metric, direction, effect, draw(st.none() | fits))


@st.composite
def guardrails(draw):
    marks = draw(st.sets(st.integers(1, 600_000), max_size=3))
    ratios = st.floats(1, 1000, exclude_min=True)
    rates = st.floats(0, 1, exclude_min=True, exclude_max=True)
    errors = Guardrail("error_rate", draw(ratios), None, draw(rates))
    slow = [Guardrail("latency_ms", draw(ratios), mark, draw(rates)) for mark in sorted(marks)]
    return tuple(draw(st.permutations([errors, *slow])))


@st.composite
def declarations(draw):
    header = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True).map(HeaderUnit)
    shortest, more = draw(SPANS), draw(SPANS.filter(bool))
    return Declaration(
        name=experiment_name(draw(NAMES)),
        model=model_name(draw(NAMES)),
        challenger=Version(draw(st.integers(1, 999_999_999))),
        unit=draw(st.just(RequestUnit()) | header),
        ramp=tuple(sorted(draw(st.sets(st.integers(1, 9999), min_size=1, max_size=20)))),
        goal=draw(goals()),
        guardrails=draw(guardrails()),
        limits=Limits(draw(st.integers(1, 1_000_000)), shortest, shortest + more),
        alpha=Alpha(draw(ALPHAS), draw(ALPHAS), draw(ALPHAS)),
        deadline=timedelta(milliseconds=draw(st.integers(1, 300_000))),
    )


@settings(max_examples=25, deadline=None)
@given(declarations())
def test_every_declaration_is_read_back_as_it_was_written(declaration):
    assert read_declaration(to_yaml(declaration)) == declaration


@settings(max_examples=10, deadline=None)
@given(declarations(), declarations())
def test_equal_hashes_mean_equal_declarations(one, other):
    assert (spec_hash(one) == spec_hash(other)) == (one == other)


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200)
    | st.text(alphabet="ab:-[]{}&*!|>'\"%@`,?#\\ \n\t0.~<=", max_size=120)
)
def test_whatever_is_sent_it_is_a_declaration_or_problems_with_their_place(raw):
    for problem in problems(raw):
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        str(problem).encode()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 12), st.text(max_size=6))
def test_an_edited_example_is_a_declaration_or_problems_with_their_place(start, length, insert):
    text = FILE[:start] + insert + FILE[start + length :]
    try:
        declaration = read_declaration(text)
    except InvalidFile:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in problems(text))
    else:
        assert read_declaration(to_yaml(declaration)) == declaration


@pytest.mark.parametrize("header", ["x-variant", "x-model-version", "x-tiltyard-fallback"])
def test_a_header_that_the_edge_sets_names_no_unit(header):
    with pytest.raises(InvalidDeclaration, match="the edge itself sets"):
        HeaderUnit(header)
