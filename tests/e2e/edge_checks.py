"""What tests of the edge ask again and again."""

import re
import socket
import threading
from contextlib import suppress

from experiments.unit import HeaderUnit
from tests.e2e.edge_fixture import Answer, Edge

UNIT = HeaderUnit("x-unit-id")
EVERYBODY = 10_000


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.json.keys() != {"code"}:
        assert answer.json["status"] == status
        assert {"type", "title", "detail", "next_step"} <= answer.json.keys()
        assert re.match("[A-Z]", answer.json["title"])


def raw(edge: Edge, request: bytes) -> bytes:
    """Send bytes and return the answer's, as far as they come at once."""
    with socket.create_connection(("127.0.0.1", edge.settings.edge_port)) as connection:
        connection.settimeout(30)
        sender = threading.Thread(target=_send_all, args=(connection, request))
        sender.start()
        try:
            return connection.recv(65536)
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            sender.join()


def _send_all(connection: socket.socket, request: bytes) -> None:
    with suppress(OSError):  # the edge need not read what it has refused
        connection.sendall(request)
