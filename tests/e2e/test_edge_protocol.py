"""What the edge carries: other calls than `infer`, bytes, and answers that take their time."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest

from experiments.assignment import slot
from experiments.model import Variant
from experiments.prediction import verify
from experiments.unit import JsonUnit
from tests.e2e.edge_checks import EVERYBODY, UNIT
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    KEY,
    MODEL,
    PATIENCE_SECONDS,
    PREVIOUS,
    Edge,
    edge,
    running,
    running_edge,
)
from tests.e2e.scripted_hosts import Call, Hosts, scripted_hosts

__all__ = ["edge", "running"]

CALLS = {
    "infer": f"/v2/models/{MODEL}/infer",
    "infer_stream": f"/v2/models/{MODEL}/infer_stream",
    "invocations": f"/models/{MODEL}/invocations",
}
EVENT = b'data: {"model_name":"digits"}\n\n'
ANY_BYTES = bytes(range(256)) * 4


@pytest.fixture
def hosts(edge: Edge) -> Iterator[Hosts]:
    with scripted_hosts(edge) as scripted:
        yield scripted


@contextmanager
def streaming(edge: Edge) -> Iterator[http.client.HTTPResponse]:
    """Yield an answer whose body is still to come."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", edge.settings.edge_port, timeout=PATIENCE_SECONDS
    )
    with closing(connection):
        connection.request("POST", CALLS["infer_stream"], BODY)
        yield connection.getresponse()


# ---- calls


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_routed_stamped_and_logged_alike(edge: Edge, hosts: Hosts, call: str) -> None:
    edge.route(cut=5_000, unit=UNIT)
    client = edge.client()
    met = set()
    for number in range(20):
        unit = ("x-unit-id", f"user-{number}")
        versions = {
            client.request("POST", path, [unit], BODY).headers["x-model-version"]
            for path in (CALLS["infer"], CALLS[call])
        }
        assert len(versions) == 1, "a unit meets the same version wherever it asks"
        met |= versions
        first, second = edge.logged(2)
        assert (first.version, first.variant, first.slot) == (
            second.version,
            second.variant,
            second.slot,
        )
    assert met == {str(CHAMPION), str(CHALLENGER)}
    assert {each.path for each in hosts.calls if each.version == CHALLENGER} == {
        f"/hosts/{MODEL}/{CHALLENGER}/{name}" for name in ("infer", call)
    }
    answer = client.request("POST", CALLS[call], [unit], BODY)
    assert verify(answer.headers["x-prediction-id"], KEY).experiment == "trial"


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [500, 501])
def test_the_champion_is_asked_the_same_for_a_failing_challenger(
    edge: Edge, hosts: Hosts, call: str, status: int
) -> None:
    def fails(asked: Call) -> None:
        asked.answer(b"{}", status=status if asked.version == CHALLENGER else 200)

    hosts.script = fails
    edge.route(cut=EVERYBODY)
    answer = edge.client().request("POST", CALLS[call], [("content-type", "text/csv")], BODY)
    assert (answer.status, answer.headers["x-failover"]) == (200, "1")
    assert [(c.path, c.body, c.headers["content-type"]) for c in hosts.calls] == [
        (f"/hosts/{MODEL}/{version}/{call}", BODY, "text/csv") for version in (CHALLENGER, CHAMPION)
    ]
    [line] = edge.logged(1)
    assert (line.variant, line.failed_over) == (Variant.CHALLENGER, True)


def test_a_stream_can_be_pinned(edge: Edge, hosts: Hosts) -> None:
    edge.route(cut=EVERYBODY)
    path = f"/v2/models/{MODEL}/versions/{PREVIOUS}/infer_stream"
    assert edge.client().request("POST", path, body=BODY).status == 200
    assert [each.path for each in hosts.calls] == [f"/hosts/{MODEL}/{PREVIOUS}/infer_stream"]
    edge.logged(0)


def test_the_edge_says_which_extensions_it_has(edge: Edge) -> None:
    assert "binary_tensor_data" in edge.client().request("GET", "/v2").json["extensions"]


# ---- bytes


@pytest.mark.parametrize("size", [1_000, 200_000])
def test_bytes_pass_both_ways_as_they_are(edge: Edge, hosts: Hosts, size: int) -> None:
    sent = (ANY_BYTES * (size // len(ANY_BYTES) + 1))[:size]

    def echo(call: Call) -> None:
        length = {
            "inference-header-content-length": call.headers["inference-header-content-length"]
        }
        kind = {"content-type": "application/octet-stream", "content-length": str(len(call.body))}
        call.begin(**kind, **length)
        call.handler.wfile.write(call.body)

    hosts.script = echo
    edge.route(cut=EVERYBODY)
    answer = edge.client().infer(("inference-header-content-length", "7"), body=sent)
    assert (answer.status, answer.body) == (200, sent)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["inference-header-content-length"] == "7"
    assert answer.headers["x-model-version"] == str(CHALLENGER)
    assert verify(answer.headers["x-prediction-id"], KEY).version == CHALLENGER


def test_bytes_get_their_second_try_too(edge: Edge, hosts: Hosts) -> None:
    def fails(call: Call) -> None:
        call.answer(call.body, status=500 if call.version == CHALLENGER else 200)

    hosts.script = fails
    edge.route(cut=EVERYBODY)
    answer = edge.client().infer(body=ANY_BYTES)
    assert (answer.body, answer.headers["x-failover"]) == (ANY_BYTES, "1")


def test_a_unit_in_the_json_is_found_with_bytes_behind_it(edge: Edge, hosts: Hosts) -> None:
    edge.route(cut=EVERYBODY, unit=JsonUnit("$.parameters.user"))
    body = b'{"inputs":[],"parameters":{"user":"u-7"}}' + ANY_BYTES
    assert edge.client().infer(body=body).status == 200
    [line] = edge.logged(1)
    assert line.slot == slot(b"u-7", salt="trial")


# ---- answers that take their time


@pytest.mark.parametrize("cut", [None, 0, EVERYBODY], ids=["alone", "champion", "challenger"])
def test_each_event_arrives_while_the_host_has_not_made_the_next(
    edge: Edge, hosts: Hosts, cut: int | None
) -> None:
    seen = threading.Semaphore(0)

    def stream(call: Call) -> None:
        call.begin(**{"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        for _ in range(3):
            call.chunk(EVENT)
            assert seen.acquire(timeout=PATIENCE_SECONDS)
        call.chunk(b"")

    hosts.script = stream
    edge.route(cut=cut)
    with streaming(edge) as answer:
        assert answer.getheader("x-prediction-id")
        for _ in range(3):
            assert answer.read(len(EVENT)) == EVENT
            seen.release()
        assert answer.read() == b""
    [line] = edge.logged(1)
    assert (line.status, line.end, line.broke_off) == (200, "--", False)
    assert line.first is not None
    # By two clocks, each cut to a millisecond.
    assert line.first <= line.took + timedelta(milliseconds=2)


@pytest.mark.parametrize("cut", [0, EVERYBODY], ids=["champion", "challenger"])
def test_a_stream_that_breaks_off_is_a_failure_in_the_log(
    edge: Edge, hosts: Hosts, cut: int
) -> None:
    def breaks(call: Call) -> None:
        call.begin(**{"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        call.chunk(EVENT)
        call.break_off()

    hosts.script = breaks
    edge.route(cut=cut)
    with streaming(edge) as answer:
        assert answer.read(len(EVENT)) == EVENT
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()
    [line] = edge.logged(1)
    assert (line.status, line.broke_off, line.failed_over) == (200, True, False)


def test_a_challenger_that_falls_silent_within_its_stream_is_a_failure_too(
    edge: Edge, hosts: Hosts
) -> None:
    over = threading.Event()

    def silent(call: Call) -> None:
        call.begin(**{"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        call.chunk(EVENT)
        over.wait(PATIENCE_SECONDS)
        call.break_off()

    hosts.script = silent
    edge.route(cut=EVERYBODY, deadline=timedelta(milliseconds=200))
    with streaming(edge) as answer, pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    over.set()
    [line] = edge.logged(1)
    assert line.broke_off


def test_whoever_leaves_a_stream_does_not_make_it_a_failure(edge: Edge, hosts: Hosts) -> None:
    told = threading.Event()

    def stream(call: Call) -> None:
        call.begin(**{"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        try:
            # It takes an event or two: only by sending does the edge learn that nobody is there.
            while True:
                call.chunk(EVENT)
                time.sleep(0.01)
        except ConnectionError:
            told.set()
            call.break_off()

    hosts.script = stream
    edge.route(cut=EVERYBODY)
    with socket.create_connection(("127.0.0.1", edge.settings.edge_port)) as client:
        head = f"POST {CALLS['infer_stream']} HTTP/1.1\r\nHost: e\r\nContent-Length: {len(BODY)}"
        client.sendall(f"{head}\r\n\r\n".encode() + BODY)
        while EVENT not in client.recv(65536):
            pass
    [line] = edge.logged(1)
    assert not line.broke_off
    assert told.wait(PATIENCE_SECONDS), "the host is told, and can stop"


def test_a_client_is_not_hurried_while_it_waits_for_the_next_event() -> None:
    quiet = timedelta(milliseconds=20)
    with running_edge(client_timeout=quiet) as hasty, scripted_hosts(hasty) as hosts:

        def stream(call: Call) -> None:
            call.begin(**{"content-type": "text/event-stream", "transfer-encoding": "chunked"})
            call.chunk(EVENT)
            time.sleep(10 * quiet.total_seconds())
            call.chunk(EVENT)
            call.chunk(b"")

        hosts.script = stream
        hasty.route(cut=EVERYBODY)
        with streaming(hasty) as answer:
            assert answer.read() == 2 * EVENT


def test_a_document_that_no_edge_writes_is_no_json_for_it(edge: Edge, hosts: Hosts) -> None:
    problem = json.dumps({"code": "not_streaming", "error": "no"}).encode()
    hosts.script = lambda call: call.answer(problem, status=501, kind="application/problem+json")
    edge.route()
    answer = edge.client().request("POST", CALLS["infer_stream"], body=BODY)
    assert (answer.status, answer.json["code"]) == (501, "not_streaming")
