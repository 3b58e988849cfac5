"""A stand-in for Ray Serve's ingress, whose hosts misbehave on demand."""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Mapping
from enum import StrEnum


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
    STREAM = "begins its answer at once, and ends it when it is let go"
    LARGE = "answers with more than the system keeps for a client"
    BUSY_429 = "429: Ray Serve's word for a replica that has enough to do"
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

LARGE_BYTES = 16 * 1024 * 1024

# What a host must not be able to say of itself.
_LIES = (
    "X-Model-Version: 999\r\nX-Prediction-Id: made-up\r\nX-Route-Epoch: 999\r\nX-Variant: liar\r\n"
    "X-Experiment: lie\r\nX-Failover: 1\r\nX-Tiltyard-Answered: 1\r\nX-Tiltyard-Secret: 1\r\n"
    "X-Tiltyard-Refused: version_withdrawn\r\n"
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
        self._held: dict[int, asyncio.Event] = {}
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

    def hold(self, *versions: int) -> None:
        """Let requests for these versions wait, whatever is done with them then."""
        for version in versions:
            self._held.setdefault(version, asyncio.Event())

    def let_go(self, *versions: int) -> None:
        """Treat whoever waits for one of these versions, or for any, and whoever comes."""
        for version in versions or tuple(self._held):
            held = self._held.pop(version)
            self._loop.call_soon_threadsafe(held.set)

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
        if mood is Mood.STREAM:
            _write(writer, "200 OK", "text/event-stream", "data: first\n\n", "data: last\n\n")
        if version in self._held:
            await self._held[version].wait()
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
        case Mood.STREAM:
            writer.write(b"data: last\n\n")
        case Mood.LARGE:
            _write(writer, "200 OK", "application/json", '"%s"' % ("x" * LARGE_BYTES))
        case Mood.BUSY_429:
            _write(writer, "429 Too Many Requests", "text/plain", "Request dropped")
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


def _write(
    writer: asyncio.StreamWriter, status: str, kind: str, body: str, to_come: str = ""
) -> None:
    length = len(body) + len(to_come)
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{_LIES}"
    writer.write(f"{head}\r\n{body}".encode())
