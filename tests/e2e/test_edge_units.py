"""What names a unit, and how far: at the boundaries, and where a body is not all there."""

import json

import pytest

from experiments.assignment import slot
from experiments.identity import JSON_LENGTH
from experiments.json_path import json_value
from experiments.unit import CookieUnit, JsonUnit, QueryUnit, parse_unit
from tests.e2e.edge_checks import assert_problem
from tests.e2e.edge_fixture import MODEL, Edge, edge, running

__all__ = ["edge", "running"]

USER = JsonUnit("$.user.id")


def slot_of(edge: Edge) -> int | None:
    """Return the slot of the one request since the last call."""
    (line,) = edge.logged(1)
    return line.slot


def counted(edge: Edge, unit: bytes) -> bool:
    return slot_of(edge) == slot(unit, salt="trial")


# ---- where it stands


def test_a_cookie_names_the_unit_and_the_first_of_its_name_counts(edge: Edge) -> None:
    edge.route(cut=5_000, unit=CookieUnit("sid"))
    client = edge.client()
    for line in ("sid=u1", "a=1; sid=u1; sid=u2", 'a=1;sid="u1"'):
        assert client.infer(("Cookie", "sid=u0"), ("Cookie", line)).status == 200
        assert counted(edge, b"u1")
    client.infer(("Cookie", "SID=u1"))
    assert slot_of(edge) is None


def test_a_parameter_of_the_query_names_the_unit_and_reaches_the_host(edge: Edge) -> None:
    edge.route(cut=5_000, unit=QueryUnit("user"))
    client = edge.client()
    for query in ("user=u%201", "a=b&user=u+1&user=x", "%75ser=u 1".replace(" ", "%20")):
        answer = client.request("POST", f"/v2/models/{MODEL}/infer?{query}", body=b"{}")
        assert answer.status == 200
        assert counted(edge, b"u 1")
        assert edge.ingress.calls[-1][1].endswith(f"/infer?{query}")


def test_a_field_of_the_body_names_the_unit(edge: Edge) -> None:
    edge.route(cut=5_000, unit=USER)
    client = edge.client()
    for body in (
        b'{"user": {"id": "u1"}, "inputs": []}',
        json.dumps({"inputs": [{"data": [[0.5] * 64] * 4}], "user": {"id": "u1"}}).encode(),
        json.dumps({"user": {"id": "u1"}}, indent=4).encode(),
        b'{"user": {"id": "\\u0075\\u0031"}}',
    ):
        client.infer(body=body)
        assert counted(edge, b"u1")


def test_a_large_number_in_a_body_is_not_rounded(edge: Edge) -> None:
    edge.route(cut=5_000, unit=USER)
    client = edge.client()
    for number in (b"9007199254740993", b"12345678901234567890", b"1.50", b"-1e5"):
        client.infer(body=b'{"user": {"id": %s}}' % number)
        assert counted(edge, number)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"user": "id"}',
        b'{"user": {"id": null}}',
        b'{"user": {"id": true}}',
        b'{"user": {"id": ["u1"]}}',
        b'{"user": {"id": "half \\udc3d"}}',
        b'{"user": {"id": "half \\ud83d\\u0041"}}',
        b'{"user": {"id": "half \\udc3d\\udc3d"}}',
        b'{"user": {"id": "no \\x41"}}',
        b'{"user": {"id": "u1}}',
        b'{"user": {"id": 1x}}',
        b'{"inputs": [1, 2, "user": {"id": 1}}',
    ],
)
def test_a_body_without_the_field_is_a_unit_of_its_own(edge: Edge, body: bytes) -> None:
    edge.route(cut=5_000, unit=USER)
    assert edge.client().infer(body=body).status == 200
    assert slot_of(edge) is None


@pytest.mark.parametrize(
    ("unit", "headers", "query"),
    [
        ("cookie:sid", [("Cookie", "sid=%s")], ""),
        ("query:user", [], "?user=%s"),
        ("json:$.id", [], ""),
    ],
)
@pytest.mark.parametrize(
    ("name", "code"), [("", "unit_empty"), ("x" * 257, "unit_too_long"), ("x" * 256, None)]
)
def test_a_unit_has_1_to_256_bytes_wherever_it_stands(
    edge: Edge, unit: str, headers: list, query: str, name: str, code: str | None
) -> None:
    edge.route(cut=5_000, unit=parse_unit(unit))
    path = f"/v2/models/{MODEL}/infer" + query.replace("%s", name)
    sent = [(field, value % name) for field, value in headers]
    answer = edge.client().request("POST", path, sent, b'{"id": "%s"}' % name.encode())
    if code is None:
        assert answer.status == 200
        assert counted(edge, name.encode())
    else:
        assert_problem(answer, 400, code)
        edge.logged(0)


# ---- how much of a body is read


def test_a_body_beyond_what_can_be_tried_again_names_no_unit(edge: Edge) -> None:
    longest = edge.settings.retry_body_bytes
    edge.route(cut=5_000, unit=USER)
    client = edge.client()
    for more in (-1, 0, 1, 40_000):
        start = b'{"user": {"id": "u1"}, "inputs": "'
        body = start + b"x" * (longest + more - len(start) - 2) + b'"}'
        assert len(body) == longest + more
        assert client.infer(body=body).status == 200
        assert slot_of(edge) == (slot(b"u1", salt="trial") if more <= 0 else None)


@pytest.mark.parametrize("tail", [0, 100, 40_000, 600_000])
def test_before_the_bytes_of_tensors_the_json_names_the_unit(edge: Edge, tail: int) -> None:
    edge.route(cut=5_000, unit=USER)
    start = b'{"inputs": [{"name": "x", "data": "\\""}], "user": {"id": "u1"}}'
    header = (JSON_LENGTH, str(len(start)))
    headers = ((JSON_LENGTH, "3"), header)
    assert edge.client().infer(*headers, body=start + b'"}' * (tail // 2)).status == 200
    assert counted(edge, b"u1")


def test_the_edge_gives_up_on_a_long_way_just_where_the_reference_does(edge: Edge) -> None:
    edge.route(cut=5_000, unit=USER)
    client = edge.client()
    seen = set()
    for many in range(500, 512):
        for name in (b"u1", rb"u\\"):
            texts = b",".join([b'"a"'] * many)
            body = b'{"x": [%s], "user": {"id": "%s"}}' % (texts, name)
            client.infer(body=body)
            expected = json_value(body, USER.steps)
            assert slot_of(edge) == (expected and slot(expected, salt="trial"))
            seen.add(expected)
    assert seen == {b"u1", b"u\\", None}


def test_a_chunked_body_names_the_unit(edge: Edge) -> None:
    edge.route(cut=5_000, unit=USER)
    start, end = b'{"user": {"i', b'd": "u1"}}'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (start, end, b""))
    client = edge.client()
    connection = client._connection
    connection.putrequest("POST", f"/v2/models/{MODEL}/infer")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders(chunks)
    answer = connection.getresponse()
    assert (answer.status, answer.read()[:1]) == (200, b"{")
    assert counted(edge, b"u1")
