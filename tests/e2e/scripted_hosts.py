"""Hosts that do what a test says, byte by byte, where Ray Serve's ingress would be."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.e2e.edge_fixture import Edge


@dataclass(frozen=True)
class Call:
    """A request as it arrived, and the way to answer it."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    handler: BaseHTTPRequestHandler

    @property
    def version(self) -> int:
        return int(self.path.split("/")[3])

    def answer(self, body: bytes, *, status: int = 200, kind: str = "application/json") -> None:
        self.begin(status, **{"content-type": kind, "content-length": str(len(body))})
        self.handler.wfile.write(body)

    def begin(self, status: int = 200, **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()

    def chunk(self, data: bytes) -> None:
        """Send a part of an answer of undeclared length; the last one is empty."""
        self.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def break_off(self) -> None:
        """Close the connection."""
        self.handler.close_connection = True


Script = Callable[[Call], None]


class Hosts:
    """Whatever listens in Ray Serve's place; `script` answers, `calls` are what has come."""

    def __init__(self) -> None:
        self.script: Script = lambda call: call.answer(b"{}")
        self.calls: list[Call] = []


@contextmanager
def scripted_hosts(edge: Edge) -> Iterator[Hosts]:
    """Take the place of the edge's usual stand-in."""
    hosts = Hosts()
    connections: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            call = Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body, self)
            hosts.calls.append(call)
            hosts.script(call)

        do_GET = do_POST = answer  # noqa: N815  http.server's names

        def handle(self) -> None:
            connections.append(self.connection)
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    edge.ingress.refuse()
    with ThreadingHTTPServer(("127.0.0.1", edge.settings.serve_port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield hosts
        finally:
            server.shutdown()
            thread.join()
            # The edge keeps connections, and would go on using those to a server that is gone.
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
    edge.ingress.listen()
