"""The edge and what clients send: bodies, paths, and what is no HTTP at all."""

import asyncio
import socket
import time

import pytest

from experiments.prediction import verify
from serving.edge.mapfile import render
from tests.e2e.edge_checks import EVERYBODY, assert_problem, raw
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    KEY,
    MODEL,
    PREVIOUS,
    Edge,
    edge,
    make_route,
    running,
)
from tests.e2e.ingress import Mood

__all__ = ["edge", "running"]

INFER = f"/v2/models/{MODEL}/infer"


# ---- bodies


@pytest.mark.parametrize("size", [1_000, 32 * 1024 - 1, 32 * 1024])
def test_what_fits_the_buffer_gets_its_second_try(edge: Edge, size: int) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.ERROR_500)
    single = asyncio.run(edge.runtime.counters()).single_try
    answer = edge.client().infer(("x-padding", "p" * 8_000), body=b"x" * size)
    assert (answer.status, answer.version) == (200, CHAMPION)
    assert asyncio.run(edge.runtime.counters()).single_try == single


def test_what_does_not_fit_has_one_try_and_is_counted(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    single = asyncio.run(edge.runtime.counters()).single_try
    large = b"x" * (256 * 1024)
    assert edge.client().infer(body=large).version == CHALLENGER
    edge.behave(challenger=Mood.ERROR_500)
    assert_problem(edge.client().infer(body=large), 503, "no_host_answered")
    assert asyncio.run(edge.runtime.counters()).single_try == single + 2


def test_what_large_headers_leave_no_room_for_is_counted_as_well(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.ERROR_500)
    single = asyncio.run(edge.runtime.counters()).single_try
    client, body = edge.client(), b"x" * 32 * 1024
    paddings = range(14_600, 15_600, 40)
    answers = [client.infer(("x-padding", "p" * size), body=body) for size in paddings]
    failed = sum(answer.status == 503 for answer in answers)
    assert 0 < failed < len(answers)
    assert asyncio.run(edge.runtime.counters()).single_try == single + failed


@pytest.mark.parametrize(
    ("size", "status"), [((1 << 20) - 1, 200), (1 << 20, 200), ((1 << 20) + 1, 413)]
)
def test_a_body_may_be_as_large_as_the_settings_say(edge: Edge, size: int, status: int) -> None:
    edge.route()
    answer = edge.client().infer(body=b"x" * size)
    assert answer.status == status
    if status == 413:
        assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("size", "status"), [(10, 200), (32 * 1024, 200), (32 * 1024 + 1, 413), (1 << 19, 413)]
)
@pytest.mark.parametrize("piece", [7, 4096])
def test_a_body_of_undeclared_length_has_to_fit_the_buffer(
    edge: Edge, size: int, status: int, piece: int
) -> None:
    edge.route()
    pieces = [b"x" * min(piece, size - at) for at in range(0, size, piece)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces) + b"0\r\n\r\n"
    head = (
        f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = raw(edge, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (status == 200) == (b"body_too_large" not in answer)


def test_a_body_that_comes_late_is_waited_for(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.ERROR_500)
    with socket.create_connection(("127.0.0.1", edge.settings.edge_port)) as late:
        head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: e\r\nContent-Length: {len(BODY)}"
        late.sendall(f"{head}\r\n\r\n".encode() + BODY[:3])
        time.sleep(0.1)
        assert edge.ingress.calls == []
        late.sendall(BODY[3:])
        assert late.recv(65536).startswith(b"HTTP/1.1 200 ")


# ---- paths


@pytest.mark.parametrize(
    ("method", "path", "host"),
    [
        ("POST", f"{INFER}?trace=1", f"/hosts/{MODEL}/{CHALLENGER}/infer?trace=1"),
        ("POST", f"/models/{MODEL}/invocations", f"/hosts/{MODEL}/{CHALLENGER}/invocations"),
        ("POST", f"/v2/models/{MODEL}/versions/3/infer", f"/hosts/{MODEL}/3/infer"),
        ("GET", f"/v2/models/{MODEL}", f"/hosts/{MODEL}/{CHAMPION}"),
        ("GET", f"/v2/models/{MODEL}/ready", f"/hosts/{MODEL}/{CHAMPION}/ready"),
    ],
)
def test_who_writes_the_whole_address_reaches_the_same(
    edge: Edge, method: str, path: str, host: str
) -> None:
    edge.route(cut=EVERYBODY)
    body = BODY if method == "POST" else None
    answer = edge.client().request(method, f"http://edge{path}", body=body)
    assert answer.status == 200
    [(_, asked, headers)] = edge.ingress.calls
    assert (asked, headers["host"]) == (host, ["edge"])


def test_a_second_try_of_a_whole_address_is_none_of_one(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.ERROR_500)
    assert edge.client().request("POST", f"http://edge{INFER}", body=BODY).version == CHAMPION
    assert [path for _, path, _ in edge.ingress.calls] == [
        f"/hosts/{MODEL}/{version}/infer" for version in (CHALLENGER, CHAMPION)
    ]


def test_a_pinned_version_is_no_exposure(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    answer = edge.client().request(
        "POST", f"/v2/models/{MODEL}/versions/{PREVIOUS}/infer", body=BODY
    )
    assert (answer.status, answer.version) == (200, PREVIOUS)
    assert answer.headers["x-model-version"] == str(PREVIOUS)
    assert not {"x-experiment", "x-variant"} & answer.headers.keys()
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert (prediction.version, prediction.experiment) == (PREVIOUS, None)
    edge.logged(0)


@pytest.mark.parametrize("mood", [Mood.ERROR_500, Mood.ERROR_503, Mood.CLOSE])
def test_nobody_answers_for_a_pinned_version(edge: Edge, mood: Mood) -> None:
    edge.route(previous=PREVIOUS)
    edge.behave(champion=mood)
    path = f"/v2/models/{MODEL}/versions/{CHAMPION}/infer"
    assert_problem(edge.client().request("POST", path, body=BODY), 503, "no_host_answered")
    assert {version for version, _, _ in edge.ingress.calls} == {CHAMPION}


@pytest.mark.parametrize("path", ["infer", "ready", ""])
def test_a_version_that_is_not_deployed_is_unknown(edge: Edge, path: str) -> None:
    edge.route()
    edge.behave(previous=Mood.ABSENT_404)
    answer = edge.client().request(
        "POST" if path == "infer" else "GET",
        f"/v2/models/{MODEL}/versions/{PREVIOUS}/{path}".rstrip("/"),
        body=BODY if path == "infer" else None,
    )
    assert_problem(answer, 404, "unknown_version")


@pytest.mark.parametrize(
    ("asked", "host"),
    [
        (f"/v2/models/{MODEL}", f"/hosts/{MODEL}/{CHAMPION}"),
        (f"/v2/models/{MODEL}/ready", f"/hosts/{MODEL}/{CHAMPION}/ready"),
        (f"/v2/models/{MODEL}/versions/3", f"/hosts/{MODEL}/3"),
        (f"/v2/models/{MODEL}/versions/3/ready", f"/hosts/{MODEL}/3/ready"),
        (f"/v2/models/{MODEL}/versions/3/live", f"/hosts/{MODEL}/3/live"),
    ],
)
def test_metadata_and_readiness_are_the_hosts_to_tell(edge: Edge, asked: str, host: str) -> None:
    edge.route(cut=EVERYBODY)
    answer = edge.client().request("GET", asked)
    assert answer.status == 200
    assert [path for _, path, _ in edge.ingress.calls] == [host]
    assert answer.headers["x-model-version"] == host.split("/")[3]
    assert not {"x-prediction-id", "x-variant"} & answer.headers.keys()
    edge.logged(0)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v2/models/nope/infer", 404, "unknown_model"),
        ("GET", "/v2/models/nope", 404, "unknown_model"),
        ("GET", "/v2/models/nope/ready", 404, "unknown_model"),
        ("POST", "/v2/models/DIGITS/infer", 404, "unknown_model"),
        ("POST", "/v2/models/%64igits/infer", 404, "unknown_model"),
        ("POST", "/v2/models/../versions/1/infer", 404, "unknown_model"),
        ("POST", f"/v2/models/{MODEL}/versions/x/infer", 404, "unknown_version"),
        ("POST", f"/v2/models/{MODEL}/versions/0/infer", 404, "unknown_version"),
        ("POST", f"/v2/models/{MODEL}/versions/../infer", 404, "unknown_version"),
        ("GET", "/", 404, "unknown_path"),
        ("GET", "/v2/", 404, "unknown_path"),
        ("POST", f"/v2/models/{MODEL}/infer/", 404, "unknown_path"),
        ("POST", f"/v2/models/{MODEL}/explain", 404, "unknown_path"),
        ("POST", f"/hosts/{MODEL}/1/infer", 404, "unknown_path"),
        ("GET", f"/v2/models/{MODEL}/infer", 405, "method_not_allowed"),
        ("DELETE", f"/v2/models/{MODEL}", 405, "method_not_allowed"),
        ("POST", "/v2/health/ready", 405, "method_not_allowed"),
        ("GET", f"/models/{MODEL}/invocations", 405, "method_not_allowed"),
        ("GET", f"/v2/models/{MODEL}/infer_stream", 405, "method_not_allowed"),
        ("POST", "/models/nope/invocations", 404, "unknown_model"),
        ("POST", f"/models/{MODEL}/versions/1/invocations", 404, "unknown_path"),
        ("POST", f"/models/{MODEL}", 404, "unknown_path"),
        ("POST", "/invocations", 404, "unknown_path"),
    ],
)
def test_what_cannot_be_served_gets_a_problem_that_clients_can_print(
    edge: Edge, method: str, path: str, status: int, code: str
) -> None:
    edge.route()
    answer = edge.client().request(method, path, body=b"")
    assert_problem(answer, status, code)
    assert answer.json["error"] == answer.json["detail"]
    assert ("allow" in answer.headers) == (status == 405)
    assert edge.ingress.calls == []
    edge.logged(0)


def test_the_edge_tells_of_itself(edge: Edge) -> None:
    client = edge.client()
    assert client.request("GET", "/v2").json["name"] == "tiltyard"
    assert client.request("GET", "/v2/health/live").json == {"live": True}
    assert client.request("HEAD", "/v2/health/live").status == 200


def test_the_edge_is_ready_once_it_has_a_route(edge: Edge) -> None:
    client = edge.client()
    for partial in (False, True):
        edge.files.routes.write_bytes(render([], partial=partial))
        assert_problem(client.request("GET", "/v2/health/ready"), 503, "not_ready")
        edge.files.routes.write_bytes(render([make_route(1)], partial=partial))
        assert client.request("GET", "/v2/health/ready").json == {"ready": True}


def test_a_route_of_another_release_is_refused_and_breaks_nothing(edge: Edge) -> None:
    asyncio.run(edge.runtime.set_route(MODEL, "of|another|kind"))
    client = edge.client()
    assert_problem(client.infer(), 503, "route_unreadable")
    edge.route()
    assert client.infer().status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NOT HTTP\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: e\r\nContent-Length: x\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: e\r\nx-unit-id: a\0b\r\n\r\n",
    ],
)
def test_malformed_http_is_refused_and_not_logged(edge: Edge, request_bytes: bytes) -> None:
    edge.route()
    answer = raw(edge, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    # HAProxy answers what it cannot read before it looks at what was configured.
    assert answer.endswith(b"</body></html>\n")
    assert b"x-route-epoch" not in answer.lower()
    assert edge.client().infer().status == 200
    edge.logged(1)


def test_nobody_gets_a_hundred_connections_in_one(edge: Edge) -> None:
    edge.route()
    preface, settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"
    assert raw(edge, preface + settings).startswith(b"HTTP/1.1 400 ")
    assert edge.client().infer().status == 200
