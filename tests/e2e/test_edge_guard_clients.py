"""Clients that are slow, large or many: they get an error, and everybody else is served."""

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest

from experiments.model import Variant
from serving.edge import config
from tests.e2e.edge_checks import EVERYBODY, UNIT, assert_problem
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    MODEL,
    PATIENCE_SECONDS,
    Client,
    Edge,
    edge,
    running_edge,
)
from tests.e2e.ingress import Mood

__all__ = ["edge"]

HEAD = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: edge\r\n".encode()
LARGE = 1 << 20
"""Bytes of a body that does not fit the edge's buffer."""
SLOW = 100
"""Connections of each kind."""


@pytest.fixture(scope="module")
def running() -> Iterator[Edge]:
    """An edge that is impatient: it waits 0.4 s for a request, and 1.2 s in the midst of one."""
    patience = timedelta(seconds=0.4)
    with running_edge(client_timeout=patience, retry_body_bytes=32 * 1024) as edge:
        yield edge


@pytest.fixture
def opened() -> Iterator[Callable[[Edge, bytes, str], socket.socket]]:
    """Opens connections, and closes them when the test is over."""
    with ExitStack() as stack:

        def connect(edge: Edge, sent: bytes, source: str = "127.0.0.1") -> socket.socket:
            address = ("127.0.0.1", edge.settings.edge_port)
            connection = socket.create_connection(address, PATIENCE_SECONDS, (source, 0))
            stack.enter_context(connection)
            connection.sendall(sent)
            return connection

        yield connect


Opened = Callable[..., socket.socket]

SLOW_REQUESTS = {
    "nothing": b"",
    "headers": HEAD,
    "body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "large body": HEAD + b"Content-Length: %d\r\n\r\n" % LARGE + b"x" * 100_000,
    "chunked body": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nx",
    "idle": b"GET /v2/health/live HTTP/1.1\r\nHost: edge\r\n\r\n",
}


def rest(connection: socket.socket) -> bytes:
    """Return what is sent until the edge closes the connection."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def test_users_are_served_while_hundreds_of_others_take_their_time(opened: Opened) -> None:
    with running_edge(retry_body_bytes=32 * 1024) as edge:
        edge.route(cut=5_000)
        slow = [opened(edge, sent) for sent in SLOW_REQUESTS.values() for _ in range(SLOW)]
        await_tracked(edge, "sources", SLOW * len(SLOW_REQUESTS))
        # What does not fit the buffer is on its way to a host; nothing else has got that far.
        await_tracked(edge, "in_flight", SLOW)
        with ThreadPoolExecutor(8) as users:
            answers = list(users.map(lambda _: edge.client().infer(), range(200)))
        assert {answer.status for answer in answers} == {200}
        for connection in slow:
            connection.close()
        # Those whose bodies had begun have a line, and nobody is charged with them.
        lines = edge.logged(200 + 3 * SLOW)
        assert Counter(line.status for line in lines) == {200: 200, 400: 3 * SLOW}


def test_who_does_not_end_its_request_is_told_so(edge: Edge, opened: Opened) -> None:
    edge.route()
    told = {
        "headers": (408, b"<html>"),  # HAProxy's own, before it looks at what was configured
        "body": (408, b'"request_timeout"'),
        "chunked body": (408, b'"request_timeout"'),
        "large body": (400, b"did not come in time"),
    }
    slow = {kind: opened(edge, SLOW_REQUESTS[kind]) for kind in told}
    for kind, (status, words) in told.items():
        answer = rest(slow[kind])
        assert answer.startswith(b"HTTP/1.1 %d " % status), kind
        assert words in answer, kind
        assert (b"x-route-epoch: %d\r\n" % edge.epoch in answer) == (kind != "headers")


def test_who_does_not_read_its_answer_loses_it(edge: Edge, opened: Opened) -> None:
    edge.route()
    edge.behave(champion=Mood.LARGE)
    request = HEAD + b"Content-Length: 2\r\n\r\n{}"
    for _ in range(10):
        opened(edge, request).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lines = edge.logged(10)
    assert {line.end[0] for line in lines} == {"c"}, "the client's time was over"
    edge.behave()
    assert edge.client().infer().status == 200


def test_a_host_may_take_longer_than_a_client(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.ingress.hold(CHALLENGER)
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(edge.client().infer)
        time.sleep(1.5)
        edge.ingress.let_go()
        assert answer.result().version == CHALLENGER


# ---- many connections of one address


def test_one_address_has_so_many_connections_and_no_more(opened: Opened) -> None:
    with running_edge(source_connections=20) as edge:
        edge.route()
        early = edge.client()
        early.infer()
        many = [opened(edge, b"") for _ in range(19)]
        late = edge.client().infer()
        assert_problem(late, 429, "too_many_connections")
        assert (late.headers["retry-after"], late.headers["connection"]) == ("1", "close")
        assert late.headers["x-route-epoch"] == str(edge.epoch)
        elsewhere = edge.client().request("GET", "/elsewhere")
        assert_problem(elsewhere, 429, "too_many_connections")
        assert early.infer().status == 200, "who was there first stays"

        many += [opened(edge, b"") for _ in range(5)]
        with pytest.raises(OSError, match=r"reset|closed|Remote end"):
            edge.client().infer()
        assert early.infer().status == 200
        other = opened(edge, HEAD + b"Content-Length: 2\r\n\r\n{}", "127.0.0.2")
        assert other.recv(100).startswith(b"HTTP/1.1 200 ")

        for connection in many:
            connection.close()
        await_tracked(edge, "sources", 2)
        assert edge.client().infer().status == 200


def test_an_address_may_be_let_have_any_number_of_connections(opened: Opened) -> None:
    with running_edge(source_connections=0) as edge:
        edge.route()
        for kind in ("nothing", "large body"):
            for _ in range(50):
                opened(edge, SLOW_REQUESTS[kind])
        assert edge.client().infer().status == 200
        assert edge.client().infer(body=b"x" * LARGE).status == 200


def await_tracked(edge: Edge, table: str, count: int) -> None:
    """Wait until the edge counts so many connections in one of its tables."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while tracked(edge, table) != count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def tracked(edge: Edge, table: str) -> int:
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(str(edge.files.admin_socket))
        admin.sendall(f"show table {table}\n".encode())
        said = rest(admin).decode()
    return sum(int(count) for count in re.findall(r"conn_cur=(\d+)", said))


def test_one_address_sends_so_many_large_bodies_at_a_time(opened: Opened) -> None:
    with running_edge(source_connections=16) as edge:
        edge.route()
        slow = [opened(edge, SLOW_REQUESTS["large body"]) for _ in range(2)]
        client = edge.client()
        await_tracked(edge, "uploads", 2)
        refused = client.infer(body=b"x" * LARGE)
        assert_problem(refused, 429, "too_many_uploads")
        assert refused.headers["x-route-epoch"] == str(edge.epoch)
        assert client.infer().status == 200
        slow[0].sendall(b"x" * (LARGE - 100_000))
        assert slow[0].recv(100).startswith(b"HTTP/1.1 200 ")
        assert client.infer(body=b"x" * LARGE).status == 200


def test_the_edges_own_connections_wait_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many clients as may be, each of which needs two more connections inside the edge."""
    monkeypatch.setattr(config, "_CLIENTS", 8)
    with running_edge() as edge:
        edge.route(cut=EVERYBODY)
        edge.behave(challenger=Mood.ERROR_500)

        def ask(_: int) -> int:
            client = Client(edge.settings.edge_port)
            try:
                return client.infer().version
            finally:
                client.close()

        with ThreadPoolExecutor(24) as users:
            assert set(users.map(ask, range(200))) == {CHAMPION}


# ---- large requests

HUGE = {
    "2^31": 1 << 31,
    "2^31 + 4": (1 << 31) + 4,
    "2^32 + 4": (1 << 32) + 4,
    "2^63 - 1": (1 << 63) - 1,
    "2^64 - 1": (1 << 64) - 1,
    "2^64": 1 << 64,
}
"""Lengths that begin anew, or turn negative, for whoever counts in too few bits."""


@pytest.mark.parametrize("length", HUGE.values(), ids=HUGE)
def test_a_body_can_be_too_large_for_the_bits_of_a_number(
    edge: Edge, opened: Opened, length: int
) -> None:
    edge.route()
    head = HEAD + b"Content-Length: %d\r\n" % length
    asks = opened(edge, head + b"Expect: 100-continue\r\n\r\n")
    assert asks.recv(100).startswith(b"HTTP/1.1 413 ")


def test_no_host_gets_any_of_a_body_that_is_too_large(edge: Edge, opened: Opened) -> None:
    edge.route()
    sent = {
        kind: opened(edge, HEAD + b"Content-Length: %d\r\n\r\n" % length + b"x" * 100_000)
        for kind, length in HUGE.items()
    }
    for kind, connection in sent.items():
        # What is refused is read to its end, and these fall silent before it.
        assert rest(connection)[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 413 "), kind
    assert edge.client().infer().status == 200
    edge.logged(1)


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"X-Padding: " + b"p" * 200_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X-%d: p\r\n" % number for number in range(1_000)) + b"\r\n",
        b"GET /v2/models/" + b"m" * 200_000 + b" HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"POST /v2/models/digits/infer?" + b"q" * 200_000 + b" HTTP/1.1\r\nHost: edge\r\n\r\n",
        b"M" * 200_000,
    ],
    ids=["header", "headers", "path", "query", "method"],
)
def test_a_head_that_does_not_fit_the_buffer_is_refused(
    edge: Edge, opened: Opened, request_bytes: bytes
) -> None:
    edge.route()
    connection = opened(edge, b"")
    with suppress(OSError):  # The edge need not read all of it.
        connection.sendall(request_bytes)
    assert rest(connection)[:13] in (b"", b"HTTP/1.1 400 ")
    assert edge.client().infer().status == 200
    edge.logged(1)


# ---- the epoch


def refusals(edge: Edge) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield what an edge answers by itself to requests for a model that it knows."""
    infer = f"/v2/models/{MODEL}/infer"
    asked: list[tuple[str, str, tuple[tuple[str, str], ...], bytes]] = [
        ("GET", infer, (), b""),
        ("DELETE", f"/v2/models/{MODEL}", (), b""),
        ("POST", infer, (("x-unit-id", ""),), BODY),
        ("POST", infer, (), b"x" * (edge.settings.max_body_bytes + 1)),
        ("POST", f"/v2/models/{MODEL}/versions/zero/infer", (), BODY),
        ("POST", f"/v2/models/{MODEL}/versions/9/infer", (), BODY),
        ("GET", f"/v2/models/{MODEL}/versions/9/ready", (), b""),
    ]
    for method, path, headers, body in asked:
        answer = edge.client().request(method, path, headers, body)
        yield answer.status, dict(answer.headers)


def test_whatever_is_answered_for_a_model_carries_its_epoch(edge: Edge) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT)
    edge.ingress.moods = {9: [Mood.ABSENT_404]}
    found = list(refusals(edge))
    assert [status for status, _ in found] == [405, 405, 400, 413, 404, 404, 404]
    edge.behave(champion=Mood.ERROR_500, challenger=Mood.RESET)
    silent = edge.client().infer()
    found.append((silent.status, dict(silent.headers)))
    assert silent.status == 503
    assert {headers["x-route-epoch"] for _, headers in found} == {str(edge.epoch)}
    [line] = edge.logged(1)
    assert line.variant is Variant.CHALLENGER
