"""A real HAProxy as the edge, before a stand-in for Ray Serve whose hosts misbehave on demand."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from experiments.model import BasisPoints, ExperimentName, RequestUnit, Segments, Unit
from registry.refs import ModelName, Version
from serving.edge.config import EdgeFiles, command, open_log, write
from serving.edge.logline import RequestLine, parse
from serving.edge.runtime import EdgeRuntime
from serving.routes import Route, Trial, map_value
from serving.settings import Settings

KEY = bytes(range(32))
MODEL = ModelName("digits")
CHAMPION, CHALLENGER, PREVIOUS = Version(1), Version(2), Version(3)
BODY = b'{"inputs": []}'
PATIENCE_SECONDS = 30.0


class Mood(StrEnum):
    """How a host treats its next request."""

    ANSWER = "answer"
    SLOW = "answers after half a second"
    BAD_INPUT = "422"
    ERROR_500 = "500"
    ERROR_503 = "503"
    ABSENT_404 = "404"
    HANG = "hangs"
    RESET = "resets the connection"
    CLOSE = "closes without an answer"
    JUNK = "answers what is no HTTP"


FAILURES = [
    Mood.ERROR_500,
    Mood.ERROR_503,
    Mood.ABSENT_404,
    Mood.HANG,
    Mood.RESET,
    Mood.CLOSE,
    Mood.JUNK,
]

# What a host must not be able to say of itself.
_LIES = (
    "X-Model-Version: 999\r\nX-Prediction-Id: made-up\r\nX-Route-Epoch: 999\r\nX-Variant: liar\r\n"
    "X-Experiment: lie\r\nX-Failover: 1\r\nX-Tiltyard-Answered: 1\r\nX-Tiltyard-Secret: 1\r\n"
)


class Ingress:
    """Ray Serve's ingress, as far as the edge sees it: `/hosts/{model}/{version}/{call}`.

    Attributes:
        moods: What a host does next, by version; the last mood of a list stays.
        calls: Version, path and headers of every request that arrived.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.moods: dict[int, list[Mood]] = {}
        self.calls: list[tuple[int, str, dict[str, list[str]]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()
        self.listen()

    def stop(self) -> None:
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self) -> None:
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()

    def refuse(self) -> None:
        """Be gone: no listener, no connection."""
        asyncio.run_coroutine_threadsafe(self._refuse(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=1 << 24
        )

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            while await self._answer_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Return whether the connection is still good."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *header_lines = head.rstrip().split("\r\n")
        path = request_line.split(" ")[1]
        headers: dict[str, list[str]] = defaultdict(list)
        for line in header_lines:
            name, _, value = line.partition(":")
            headers[name.lower()].append(value.strip())
        await _drain_body(reader, headers)
        version = int(path.split("/")[3])
        self.calls.append((version, path, headers))
        moods = self.moods.get(version, [Mood.ANSWER])
        mood = moods.pop(0) if len(moods) > 1 else moods[0]
        return await _act(mood, version, writer)


async def _drain_body(reader: asyncio.StreamReader, headers: Mapping[str, list[str]]) -> None:
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"][0]))
    elif "transfer-encoding" in headers:
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()


async def _act(mood: Mood, version: int, writer: asyncio.StreamWriter) -> bool:
    match mood:
        case Mood.ANSWER | Mood.SLOW:
            if mood is Mood.SLOW:
                await asyncio.sleep(0.5)
            _write(writer, "200 OK", "application/json", json.dumps({"version": version}))
        case Mood.BAD_INPUT:
            _write(writer, "422 No", "application/problem+json", '{"code": "bad_input"}')
        case Mood.ERROR_500:
            _write(writer, "500 Internal Server Error", "text/plain", "Internal Server Error")
        case Mood.ERROR_503:
            _write(writer, "503 Service Unavailable", "text/plain", "Service Unavailable")
        case Mood.ABSENT_404:
            _write(writer, "404 Not Found", "text/plain", "Path not found")
        case Mood.HANG:
            await asyncio.sleep(3600)
        case Mood.RESET:
            writer.transport.abort()
            return False
        case Mood.CLOSE:
            return False
        case Mood.JUNK:
            writer.write(b"what is this\r\n\r\n")
            return False
    await writer.drain()
    return True


def _write(writer: asyncio.StreamWriter, status: str, kind: str, body: str) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{_LIES}"
    writer.write(f"{head}\r\n{body}".encode())


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
        self.epoch += 1
        route = make_route(self.epoch, **changes)
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
    return Route(MODEL, epoch, champion, previous, trial, by="test", why="test", at=now)


@contextmanager
def running_edge(**settings: Any) -> Iterator[Edge]:
    """Start an ingress and an edge in front of it, and stop both."""
    with tempfile.TemporaryDirectory(prefix="edge-") as folder:
        made = Settings(
            state_dir=Path(folder), edge_port=free_port(), serve_port=free_port(), **settings
        )
        made.signing_key.write_bytes(KEY)
        files = write(made)
        process = start(made)
        ingress = Ingress(made.serve_port)
        ingress.start()
        edge = Edge(made, files, process, ingress, EdgeRuntime(files.admin_socket))
        try:
            await_listener(made.edge_port, process)
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
