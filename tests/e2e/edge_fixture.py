"""A real HAProxy as the edge, before a stand-in for Ray Serve whose hosts misbehave on demand."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from experiments.model import BasisPoints, ExperimentName, Segments
from experiments.unit import RequestUnit, Unit
from registry.refs import ModelName, Version
from serving.edge.config import EdgeFiles, command, open_log, write
from serving.edge.logline import RequestLine, parse
from serving.edge.runtime import EdgeRuntime
from serving.routes import Route, Trial, map_value
from serving.settings import Settings
from tests.e2e.ingress import Ingress, Mood

KEY = bytes(range(32))
MODEL = ModelName("digits")
CHAMPION, CHALLENGER, PREVIOUS = Version(1), Version(2), Version(3)
BODY = b'{"inputs": []}'
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def version(self) -> int:
        """The version whose host wrote the body."""
        return int(self.json["version"])


Headers = Sequence[tuple[str, str | bytes]]


class Client:
    """One kept connection to the edge."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)

    def request(
        self, method: str, path: str, headers: Headers = (), body: bytes | None = None
    ) -> Answer:
        connection = self._connection
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())

    def infer(self, *headers: tuple[str, str | bytes], body: bytes = BODY) -> Answer:
        return self.request("POST", f"/v2/models/{MODEL}/infer", headers, body)

    def close(self) -> None:
        self._connection.close()


@dataclass
class Edge:
    """A running edge, the ingress behind it, and what its log says."""

    settings: Settings
    files: EdgeFiles
    process: subprocess.Popen[bytes]
    ingress: Ingress
    runtime: EdgeRuntime
    epoch: int = 0
    _read: int = 0
    _clients: list[Client] = field(default_factory=list)

    def client(self) -> Client:
        client = Client(self.settings.edge_port)
        self._clients.append(client)
        return client

    def route(self, **changes: Any) -> Route:
        """Let the model be routed; each route has the next epoch."""
        return self.obey(make_route(self.epoch, **changes))

    def obey(self, route: Route) -> Route:
        """Let the model be routed so, with the next epoch."""
        self.epoch += 1
        route = replace(route, epoch=self.epoch)
        asyncio.run(self.runtime.set_route(route.model, map_value(route)))
        return route

    def behave(self, **moods: Mood | list[Mood]) -> None:
        """Set moods by role: `champion`, `challenger`, `previous`; who is not named answers."""
        roles = {"champion": CHAMPION, "challenger": CHALLENGER, "previous": PREVIOUS}
        self.ingress.moods = {
            roles[role]: mood if isinstance(mood, list) else [mood] for role, mood in moods.items()
        }

    def log_text(self) -> str:
        return self.files.log.read_bytes().decode("ascii")

    def logged(self, expected: int) -> list[RequestLine]:
        """Return the lines since the last call, once there are as many as expected."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            fresh = self.log_text()[self._read :]
            if fresh.count("\n") >= expected or time.monotonic() > deadline:
                break
            time.sleep(0.005)
        self._read += len(fresh)
        lines = [parse(line) for line in fresh.splitlines()]
        assert len(lines) == expected
        return lines

    def settle(self) -> None:
        """Wait until every request that HAProxy has routed is in the log: it answers first."""
        routed = asyncio.run(self.runtime.counters()).routed
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.log_text().count("\n") < routed and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.log_text().count("\n") == routed

    def forget(self) -> None:
        """Begin anew: hosts answer, and what was logged or called until now is of no interest."""
        self.ingress.moods = {}
        self.ingress.let_go()
        self.ingress.calls.clear()
        self._read = len(self.log_text())
        while self._clients:
            self._clients.pop().close()


def make_route(
    epoch: int,
    *,
    cut: int | None = None,
    floor: int = 0,
    unit: Unit | None = None,
    salt: str = "trial",
    previous: Version | None = None,
    deadline: timedelta = timedelta(seconds=5),
    champion: Version = CHAMPION,
    challengers: tuple[Version, ...] = (CHALLENGER,),
    dropped: tuple[Version, ...] = (),
    segments: Segments | None = None,
) -> Route:
    """Return a route, with a trial if `cut` is given."""
    trial = None
    if cut is not None:
        trial = Trial(
            experiment=ExperimentName("trial"),
            stage=4,
            challengers=challengers,
            dropped=dropped,
            cut=BasisPoints(cut),
            floor=BasisPoints(floor),
            unit=unit or RequestUnit(),
            salt=salt,
            deadline=deadline,
            segments=segments,
        )
    now = datetime.now(UTC)
    return Route(
        MODEL, epoch, champion, previous, (trial,) if trial else (), by="test", why="test", at=now
    )


@contextmanager
def running_edge(**settings: Any) -> Iterator[Edge]:
    """Start an ingress and an edge in front of it, and stop both."""
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        made = Settings(
            state_dir=Path(folder),
            edge_port=free_port(),
            edge_metrics_port=free_port(),
            serve_port=free_port(),
            **settings,
        )
        made.signing_key.write_bytes(KEY)
        files = write(made)
        files.routes.touch()
        process = start(made)
        ingress = Ingress(made.serve_port)
        ingress.start()
        edge = Edge(made, files, process, ingress, EdgeRuntime(files.admin_socket))
        try:
            await_listener(made.edge_port, process)
            while not files.admin_socket.exists():  # HAProxy gives it its name last.
                time.sleep(0.001)
            yield edge
        finally:
            edge.forget()
            edge.process.terminate()
            edge.process.wait()
            ingress.stop()


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start HAProxy as whoever runs an edge has to."""
    log = open_log(settings)
    try:
        with (settings.edge_dir / "haproxy.err").open("ab") as errors:
            return subprocess.Popen(command(settings), stdout=log, stderr=errors)
    finally:
        os.close(log)


def await_listener(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, "the edge ended when it was started"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    pytest.fail("the edge does not listen")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def running() -> Iterator[Edge]:
    with running_edge(max_body_bytes=1 << 20, retry_body_bytes=32 * 1024) as edge:
        yield edge


@pytest.fixture
def edge(running: Edge) -> Iterator[Edge]:
    """The module's edge, with nothing left over from the test before."""
    running.settle()
    running.forget()
    yield running
    running.forget()
