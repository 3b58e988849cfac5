"""Which unit a request names."""

import json
from random import Random

import pytest
from hypothesis import given

from experiments.errors import InvalidDeclaration, UnitEmpty, UnitTooLong
from experiments.identity import (
    Asked,
    cookie_value,
    json_part,
    parameter_value,
    unit_bytes,
    unit_of,
)
from experiments.json_path import MOST_STEPS, json_value
from experiments.unit import CookieUnit, JsonUnit, QueryUnit, RequestUnit, parse_unit
from tests.unit.asking import (
    a_document,
    a_text,
    chances,
    found_in,
    in_query,
    path_of,
    some_steps,
    written,
)


def named(unit: str, asked: Asked) -> bytes | None:
    return unit_of(asked, parse_unit(unit), longest_body=1000)


# ---- units as they are declared


@pytest.mark.parametrize(
    "text",
    [
        "request",
        "header:x-unit-id",
        "cookie:__Host-session.id",
        "cookie:a~b",
        "query:user_id",
        "json:$.user",
        "json:$.user.id",
        "json:$.inputs[0].data[12]",
        "json:$[0].a-b",
        "json:$.a.b.c.d.e.f.g.h",
    ],
)
def test_a_unit_is_written_as_it_was_read(text: str) -> None:
    assert str(parse_unit(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "user",
        "request:",
        "Header:x",
        "header:X-Unit",
        "header:x-variant",
        "cookie:",
        "cookie:a b",
        "cookie:a;b",
        "cookie:é",
        "query:",
        "query:a=b",
        "query:a[0]",
        "json:",
        "json:$",
        "json:user",
        "json:$.",
        "json:$user",
        "json:$..user",
        "json:$.user id",
        "json:$.user.",
        "json:$.0",
        "json:$[01]",
        "json:$[-1]",
        "json:$[10000]",
        "json:$[*]",
        "json:$['user']",
        "json:$.a.b.c.d.e.f.g.h.i",
        f"cookie:{'a' * 64}",
    ],
)
def test_what_names_no_unit_is_refused(text: str) -> None:
    with pytest.raises(InvalidDeclaration):
        parse_unit(text)


def test_a_path_has_steps() -> None:
    assert JsonUnit("$.inputs[0].data[12]").steps == ("inputs", 0, "data", 12)


# ---- whatever names it


def test_a_request_that_names_no_unit_is_a_unit_of_its_own() -> None:
    for unit in ("request", "header:x", "cookie:x", "query:x", "json:$.x"):
        assert named(unit, Asked()) is None
        assert named(unit, Asked([("y", b"1"), ("cookie", b"y=1")], b"y=1", b'{"y": 1}')) is None


@pytest.mark.parametrize("blank", [b"", b" ", b"\t \t"])
def test_an_empty_name_is_refused_wherever_it_stands(blank: bytes) -> None:
    asked = Asked(
        [("x", blank), ("cookie", b"x=" + blank)],
        b"x=" + blank.replace(b" ", b"+"),
        json.dumps({"x": blank.decode()}).replace("\\t", "\\u0009").encode(),
    )
    for unit in ("header:x", "cookie:x", "query:x", "json:$.x"):
        with pytest.raises(UnitEmpty) as refused:
            named(unit, asked)
        assert refused.value.code == "unit_empty"


def test_a_unit_has_at_most_256_bytes_wherever_it_stands() -> None:
    for length in (256, 257):
        name = b"n" * length
        asked = Asked([("x", name), ("cookie", b"x=" + name)], b"x=" + name, b'{"x": "%s"}' % name)
        for unit in ("header:x", "cookie:x", "query:x", "json:$.x"):
            if length == 256:
                assert named(unit, asked) == name
                continue
            with pytest.raises(UnitTooLong) as refused:
                named(unit, asked)
            assert refused.value.code == "unit_too_long"


def test_the_last_value_of_a_header_counts() -> None:
    assert named("header:x", Asked([("x", b"one"), ("y", b"two"), ("x", b" three ")])) == b"three"


def test_blanks_around_a_unit_do_not_belong_to_it_and_blanks_inside_do() -> None:
    assert unit_bytes("\t user 1  ") == b"user 1"
    assert unit_bytes("\u00a0é") == "\u00a0é".encode()


# ---- cookies


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"", None),
        (b"id", None),
        (b"idx=1; xid=2; ID=3", None),
        (b"id=1", b"1"),
        (b"a=0; id=1; b=2", b"1"),
        (b"a=0;id=1;b=2", b"1"),
        (b"id=1; id=2", b"1"),
        (b"a=id; id=1", b"1"),
        (b" id = 1 ", b"1"),
        (b"id=a=b", b"a=b"),
        (b"id=a,b", b"a,b"),
        (b'id="1"', b"1"),
        (b'id=" 1 "', b" 1 "),
        (b'id="1', b'"1'),
        (b'id="', b'"'),
        (b'id=""', b""),
        (b'id="a;b"', b'"a'),
        (b"id=%41", b"%41"),
        (b"id=", b""),
        (b"id; id=1", b"1"),
    ],
)
def test_the_first_cookie_of_the_name_counts(line: bytes, value: bytes | None) -> None:
    assert cookie_value(line, "id") == value


def test_a_cookie_names_the_unit() -> None:
    asked = Asked([("cookie", b"sid=u0"), ("cookie", b'b=2; sid="u1"')])
    assert unit_of(asked, CookieUnit("sid"), longest_body=0) == b"u1"


# ---- queries


@pytest.mark.parametrize(
    ("query", "value"),
    [
        (b"", None),
        (b"users=1&xuser=2&User=3", None),
        (b"user=1", b"1"),
        (b"a=0&user=1&user=2", b"1"),
        (b"a=user&user=1", b"1"),
        (b"&&user=1&", b"1"),
        (b"user", b""),
        (b"user=", b""),
        (b"user=a=b", b"a=b"),
        (b"a;user=1", None),
        (b"user=a;b", b"a;b"),
        (b"user=a+b%20c%2Bd", b"a b c+d"),
        (b"user=%zz%4%", b"%zz%4%"),
        (b"user=%C3%A9%ff", b"\xc3\xa9\xff"),
        (b"user=%2541", b"%41"),
        (b"%75ser=1", b"1"),
        (b"us+er=1", None),
    ],
)
def test_the_first_parameter_of_the_name_counts(query: bytes, value: bytes | None) -> None:
    assert parameter_value(query, "user") == value


@given(chance=chances)
def test_a_parameter_names_the_bytes_that_were_encoded(chance: Random) -> None:
    raw = a_text(chance).encode()
    query = b"other=1&user=" + in_query(raw, chance)
    assert parameter_value(query, "user") == raw
    if raw.strip(b" \t"):
        assert unit_of(Asked(query=query), QueryUnit("user"), longest_body=0) == raw.strip(b" \t")


def test_no_more_than_256_cookies_and_parameters_are_looked_at() -> None:
    for many, expected in ((255, b"1"), (256, None)):
        assert cookie_value(b"a=0;;" * many + b"id=1", "id") == expected
        assert parameter_value(b"a=0&&" * many + b"id=1", "id") == expected


# ---- bodies


@given(chance=chances)
def test_a_path_finds_what_stands_there_however_it_is_written(chance: Random) -> None:
    steps = some_steps(chance)
    document = a_document(chance, chance.choice([steps, steps, steps[:1], ("a", 0)]))
    text = written(document, chance)
    json.loads(text)
    expected = found_in(document, steps)
    assert json_value(text.encode(), steps) == (None if expected is None else expected.encode())
    assert JsonUnit(path_of(steps)).steps == steps


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"user": {"id": "u1"}}', b"u1"),
        (b'{"user": {"id": "u1", "id": "u2"}, "user": {"id": "u3"}}', b"u1"),
        (b'{"x": "\\"user\\"", "user": {"id": 12345678901234567890}}', b"12345678901234567890"),
        (b'{"user": {"id": -1.50E+3}}', b"-1.50E+3"),
        (b'{"user": {"id": "\\u00e9\\uD83D\\ude00\\n\\/"}}', "é😀\n/".encode()),
        (b'{"\\u0075ser": {"id": 1}}', b"1"),
        (b'{"user": {"id": true}}', None),
        (b'{"user": {"id": null}}', None),
        (b'{"user": {"id": ["u1"]}}', None),
        (b'{"user": {"id": {}}}', None),
        (b'{"user": "id"}', None),
        (b'{"user": [{"id": 1}]}', None),
        (b'[{"user": {"id": 1}}]', None),
        (b'{"user": {"id": "half \\ud83d"}}', None),
        (b'{"user": {"id": "no \\x41"}}', None),
        (b'{"user": {"id": "open}}', None),
        (b'{"user": {"id": 1 2}}', b"1"),
        (b'{"user": {"id": 1x}}', None),
        (b'{"user": {"id": +1}}', None),
        (b'{"user" {"id": 1}}', None),
        (b'{"a": 1 "user": {"id": 1}}', None),
        (b'{"a": [1, {"b": "]}"}], "user": {"id": 1}}', b"1"),
        (b'{"a": [1, 2, "user": {"id": 1}}', None),
        (b'{"user": {"id": "u1"}} and what comes behind it', b"u1"),
        (b"user", None),
        (b"", None),
        (b"\xef\xbb\xbf{}", None),
        (b'{"user": {"id": "\xff"}}', b"\xff"),
    ],
)
def test_a_body_is_read_up_to_the_value(body: bytes, value: bytes | None) -> None:
    assert json_value(body, ("user", "id")) == value


@pytest.mark.parametrize(
    ("piece", "each"),
    [
        ('"a"', 2),
        ('"\\\\"', 4),
        ('"\\""', 4),
        ('{"a": 1}', 3),
        ('["a"]', 4),
    ],
)
def test_the_way_to_a_value_has_an_end(piece: str, each: int) -> None:
    """Whatever is passed costs steps, so that no body keeps the edge busy."""
    passed = MOST_STEPS // each
    for many, expected in ((passed // 2, b"u1"), (2 * passed, None)):
        body = f'{{"x": [{",".join([piece] * many)}], "id": "u1"}}'
        assert json_value(body.encode(), ("id",)) == expected


@pytest.mark.parametrize(
    "passed", [[0.5] * 20_000, [[1, 2, [3]]] * 5_000, {"x": [[1]] * 5_000, "y": [{}] * 5_000}]
)
def test_numbers_cost_nothing(passed: object) -> None:
    body = json.dumps({"inputs": [{"name": "x", "data": passed}], "id": "u1"}).encode()
    assert json_value(body, ("id",)) == b"u1"


def test_a_body_that_is_too_large_names_no_unit() -> None:
    body = b'{"user": "u1"}'
    for longest, expected in ((len(body), b"u1"), (len(body) - 1, None)):
        assert unit_of(Asked(body=body), JsonUnit("$.user"), longest_body=longest) == expected


@pytest.mark.parametrize(
    ("length", "part"),
    [
        (b"10", b'{"u": "a"}'),
        (b" 10 ", b'{"u": "a"}'),
        (b"010", b'{"u": "a"}'),
        (b"9", b'{"u": "a"'),
        (b"16", b'{"u": "a"}\x00"\xff{}}'),
        (b"17", b""),
        (b"0", b""),
        (b"-1", b""),
        (b"ten", b""),
        (b"", b""),
        (b"1000000000000000000000", b""),
    ],
)
def test_before_the_bytes_of_tensors_there_is_json(length: bytes, part: bytes) -> None:
    asked = Asked([("inference-header-content-length", length)], body=b'{"u": "a"}\x00"\xff{}}')
    assert json_part(asked, 1000) == part


def test_only_the_json_before_the_bytes_of_tensors_has_to_be_small() -> None:
    body = b'{"u": "a"}' + bytes(5000)
    asked = Asked([("inference-header-content-length", b"10")], body=body)
    assert unit_of(asked, JsonUnit("$.u"), longest_body=10) == b"a"
    assert unit_of(asked, JsonUnit("$.u"), longest_body=9) is None
    assert unit_of(asked, RequestUnit(), longest_body=10) is None
