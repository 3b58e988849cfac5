"""Asks a challenger what users asked the champion, through HAProxy, as users are answered."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import h11

from registry.refs import VersionRef
from serving.edge.pairline import NO_ANSWER, Reason
from serving.edge.shadow.answer import Answer, Header
from serving.edge.shadow.wire import Asked
from serving.routes import host_path

MARK: Header = (b"x-tiltyard-shadow", b"1")
"""Says to a host that nobody waits for its answer, so that it may leave side effects out."""

_SLACK_SECONDS = 5.0
"""What HAProxy has to say that a deadline has passed."""

_READ_BYTES = 1 << 16
_HEAD_BYTES = 1 << 16

# Of the connection that the champion was asked on, and of the edge itself.
_NOT_REPEATED = re.compile(
    rb"connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|expect"
    rb"|content-length|x-tiltyard-.*"
)


class Unrepeatable(Exception):
    """A request, or the answer to it, that makes no pair."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Challengers:
    """Whoever is to be asked, behind HAProxy's socket for that.

    Args:
        most_bytes: Of an answer's body; more is not read.
    """

    def __init__(self, socket: Path, *, most_bytes: int) -> None:
        self._socket = socket
        self._most_bytes = most_bytes

    async def ask(self, asked: Asked) -> Answer:
        """Repeat a request to the challenger that it is for.

        Raises:
            Unrepeatable: the request cannot be sent again, or its answer is too large.
            OSError: HAProxy cannot be asked.
        """
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        request = _request(connection, asked)
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(request)
            async with asyncio.timeout(asked.deadline.total_seconds() + _SLACK_SECONDS):
                return await self._read(connection, reader)
        except (TimeoutError, h11.RemoteProtocolError):
            return Answer(NO_ANSWER)
        finally:
            writer.close()

    async def _read(self, connection: h11.Connection, reader: asyncio.StreamReader) -> Answer:
        status, size = NO_ANSWER, 0
        headers: tuple[Header, ...] = ()
        body: list[bytes] = []
        while True:
            match connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(await reader.read(_READ_BYTES))
                case h11.Response() as response:
                    status, headers = response.status_code, tuple(response.headers)
                case h11.Data(data=data):
                    size += len(data)
                    if size > self._most_bytes:
                        raise Unrepeatable(Reason.CHALLENGER_ANSWER_TOO_LARGE)
                    body.append(bytes(data))
                case h11.ConnectionClosed() | h11.PAUSED:
                    return Answer(NO_ANSWER)
                case h11.EndOfMessage():
                    return _of_host(Answer(status, headers, b"".join(body)))


def _request(connection: h11.Connection, asked: Asked) -> bytes:
    about = asked.about
    found = re.fullmatch(rb"/hosts/[^/]+/\d+(/.*)", asked.path)
    if found is None:
        raise Unrepeatable(Reason.UNSENDABLE)
    target = host_path(VersionRef(about.model, about.version)).encode() + found[1]
    kept = [each for each in asked.headers if not _NOT_REPEATED.fullmatch(each[0])]
    own = [
        MARK,
        (b"content-length", b"%d" % len(asked.body)),
        (b"connection", b"close"),
        # These two are for HAProxy, which keeps them.
        (b"x-tiltyard-repeats", about.name.encode()),
        (b"x-tiltyard-deadline", b"%d" % (asked.deadline // timedelta(milliseconds=1))),
    ]
    try:
        request = h11.Request(method=b"POST", target=target, headers=[*kept, *own])
        events = (request, h11.Data(data=asked.body), h11.EndOfMessage())
        return b"".join(connection.send(event) or b"" for event in events)
    except h11.LocalProtocolError as error:
        raise Unrepeatable(Reason.UNSENDABLE) from error


def _of_host(answer: Answer) -> Answer:
    """Return what the edge would make of it: a 404 that is no JSON is the ingress's own."""
    absent = answer.status == 404 and not (answer.header(b"content-type") or b"").startswith(
        b"application/"
    )
    return Answer(503) if absent else answer
