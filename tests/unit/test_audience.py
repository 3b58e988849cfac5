"""Who can meet a challenger."""

import pytest
from hypothesis import given

from experiments.audience import Among, Audience, Compared, Order, parse_audience
from experiments.errors import InvalidDeclaration
from experiments.spec import as_dict, read_declaration
from tests.unit.declared import audiences
from tests.unit.written import MINIMAL, only_problem, problems


def test_every_condition_must_hold() -> None:
    both = parse_audience("x-country:in:de,at;x-age:at_least:18.0")
    assert both.admits({"x-country": b"de", "x-age": b"18"})
    assert not both.admits({"x-country": b"de", "x-age": b"17"})
    assert not both.admits({"x-country": b"fr", "x-age": b"18"})


@pytest.mark.parametrize(
    ("value", "among", "others"),
    [
        (b"de", True, False),
        (b"at", True, False),
        (b"DE", False, True),
        (b"de,at", False, True),
        (b"", False, True),
        (None, False, True),
        (b"\xff", False, True),
    ],
)
def test_others_are_all_that_are_not_among_the_values(
    value: bytes | None, among: bool, others: bool
) -> None:
    assert Among("x-country", ("de", "at")).holds(value) == among
    assert Among("x-country", ("de", "at"), others=True).holds(value) == others


@pytest.mark.parametrize("value", [b"", None])
def test_a_header_that_is_missing_counts_as_an_empty_one(value: bytes | None) -> None:
    assert Among("x-country", ("de", "")).holds(value)
    assert not Among("x-country", ("de", ""), others=True).holds(value)


@pytest.mark.parametrize(
    ("order", "below", "at", "above"),
    [
        (Order.ABOVE, False, False, True),
        (Order.AT_LEAST, False, True, True),
        (Order.AT_MOST, True, True, False),
        (Order.BELOW, True, False, False),
    ],
)
def test_numbers_are_compared(order: Order, below: bool, at: bool, above: bool) -> None:
    condition = Compared("x-age", order, 12.5)
    for values, expected in (
        ((b"12.499999999", b"12", b"-13", b"0"), below),
        ((b"12.5", b"12.500", b"012.5"), at),
        ((b"12.500000001", b"13", b"999999999999999"), above),
    ):
        assert {condition.holds(value) for value in values} == {expected}


NO_NUMBERS = [b"", b"x", b"1e3", b"0x10", b"inf", b"nan", b"+1", b"1.", b".5", b"1.2.3", b"1 2"]
TOO_LONG = [b"1" * 16, b"0." + b"1" * 16]


@pytest.mark.parametrize("value", [None, *NO_NUMBERS, *TOO_LONG, "٣".encode(), b"\xff"])
def test_what_is_no_number_is_on_neither_side(value: bytes | None) -> None:
    for order in Order:
        assert not Compared("x-age", order, 0.0).holds(value)


@given(audience=audiences)
def test_an_audience_is_written_as_it_is_read(audience: Audience) -> None:
    written = str(audience)
    assert parse_audience(written) == audience
    # A value of HAProxy's map, whose fields end at a `|`, and which is sent on a line of its own.
    assert written.isascii()
    assert not set(" |\n\\") & set(written)


@pytest.mark.parametrize(
    "text", ["", "x", "x:in", "X:in:a", "x:near:a", "x:above:", "x:above:inf", "x-variant:in:a"]
)
def test_what_is_no_audience_is_refused(text: str) -> None:
    with pytest.raises(InvalidDeclaration):
        parse_audience(text)


# ---- in experiment files


def test_a_file_says_who_can_meet_the_challenger() -> None:
    declaration = read_declaration(
        MINIMAL
        + "audience:\n"
        + "  - {header: x-country, in: [de, at, no]}\n"
        + "  - {header: x-plan, not in: [free, '']}\n"
        + "  - {header: x-app-version, at_least: 12}\n"
        + "  - {header: x-app-version, below: 20.5}\n"
    )
    assert declaration.audience == Audience(
        (
            Among("x-country", ("de", "at", "no")),
            Among("x-plan", ("free", ""), others=True),
            Compared("x-app-version", Order.AT_LEAST, 12.0),
            Compared("x-app-version", Order.BELOW, 20.5),
        )
    )
    assert as_dict(declaration)["audience"] == [
        {"header": "x-country", "in": ["de", "at", "no"]},
        {"header": "x-plan", "not in": ["free", ""]},
        {"header": "x-app-version", "at_least": 12.0},
        {"header": "x-app-version", "below": 20.5},
    ]


def test_everybody_can_unless_a_file_says_otherwise() -> None:
    assert read_declaration(MINIMAL).audience is None
    assert "audience" not in as_dict(read_declaration(MINIMAL))


@pytest.mark.parametrize(
    ("condition", "field", "message"),
    [
        ("{header: x-a}", "audience[0]", "must have one of in, not in, above"),
        ("{header: x-a, in: [a], not in: [b]}", "audience[0]", "must have one of"),
        ("{header: x-a, above: 1, below: 2}", "audience[0]", "must have one of"),
        ("{in: [a]}", "audience[0].header", "is required"),
        ("{header: X-A, in: [a]}", "audience[0].header", "lower case"),
        ("{header: x-variant, in: [a]}", "audience[0].header", "the edge itself sets"),
        ("{header: x-a, in: []}", "audience[0].in", "at least 1"),
        ("{header: x-a, in: de}", "audience[0].in", "a list in brackets"),
        ("{header: x-a, in: [1]}", "audience[0].in[0]", "must be text, not 1"),
        ("{header: x-a, in: [a, b, a]}", "audience[0].in[2]", "given twice"),
        ("{header: x-a, in: [a, ' b']}", "audience[0].in[1]", "no blanks around it"),
        ("{header: x-a, not in: ['a\\tb']}".replace("'", '"'), "audience[0].not in[0]", "can hold"),
        (f"{{header: x-a, in: [{'a' * 65}]}}", "audience[0].in[0]", "at most 64"),
        (f"{{header: x-a, in: {[f'v{i}' for i in range(51)]}}}", "audience[0].in", "at most 50"),
        ("{header: x-a, above: '1'}", "audience[0].above", "must be a number"),
        ("{header: x-a, above: 1e13}", "audience[0].above", "at most 1e+12"),
        ("{header: x-a, at_last: 1}", "audience[0].at_last", "did you mean at_least?"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(condition, field, message) -> None:
    problem = only_problem(f"{MINIMAL}audience: [{condition}]\n")
    assert (problem.line, message in problem.message) == (7, True)
    assert problem.field.replace("'", "") == field


def test_there_are_1_to_8_conditions() -> None:
    for count, message in ((0, "at least 1"), (9, "at most 8")):
        listed = ", ".join(["{header: x-a, above: 1}"] * count)
        assert message in only_problem(f"{MINIMAL}audience: [{listed}]").message


# ---- layers


def test_a_file_says_which_part_of_a_layer_is_its_own() -> None:
    text = MINIMAL + "layer: {name: checkout, part: [12.5%, 50%]}\n"
    declaration = read_declaration(text)
    assert declaration.layer is not None
    assert (str(declaration.layer), declaration.layer.share) == ("checkout:1250-5000", 3750)
    assert as_dict(declaration)["layer"] == {"name": "checkout", "part": ["12.5%", "50%"]}
    assert read_declaration(MINIMAL).layer is None


@pytest.mark.parametrize(
    ("layer", "field", "message"),
    [
        ("{part: [0%, 50%]}", "layer.name", "is required"),
        ("{name: checkout}", "layer.part", "is required"),
        ("{name: Checkout, part: [0%, 50%]}", "layer.name", "lower-case letters"),
        ("{name: a, part: [0%]}", "layer.part", "at least 2"),
        ("{name: a, part: [0%, 50%, 60%]}", "layer.part", "at most 2"),
        ("{name: a, part: [0%, 101%]}", "layer.part[1]", "at most 100%"),
        ("{name: a, part: [50%, 50%]}", "layer.part[1]", "above 50%"),
        ("{name: a, part: [60%, 50%]}", "layer.part[1]", "above 60%"),
        ("{name: a, part: [0, 50%]}", "layer.part[0]", "percent sign"),
        ("checkout", "layer", "fields with values"),
    ],
)
def test_what_is_no_part_is_refused_with_its_place(layer, field, message) -> None:
    problem = only_problem(f"{MINIMAL}layer: {layer}\n")
    assert (problem.field, problem.line) == (field, 7)
    assert message in problem.message


def test_several_problems_are_told_at_once() -> None:
    text = MINIMAL + "audience: [{header: X}]\nlayer: {name: a, part: [1%, 0%]}\n"
    assert [each.line for each in problems(text)] == [7, 8]
