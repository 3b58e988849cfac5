"""What HAProxy hands to the worker (`shadow.lua`), read from a Unix socket.

A message is a line of fields between tabs, and for a request the bytes whose numbers end the line:

    pair name at model experiment stage version slot deadline-ms status took-ms N N N N N
    drop name at model experiment stage version count reason

The bytes are the path that the champion was asked under, the request's header fields, its body, the
answer's header fields and its body. The worker may send `took` to be told how many milliseconds the
challenger took (or `-`). It sends the name back once the message is put down; until then it is sent
again, over another connection if need be.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from serving.edge.pairline import About, Drops, Reason
from serving.edge.shadow.answer import Answer, Header
from serving.routes import NONE

LINE_BYTES = 64 * 1024
"""More than the line of a message can take."""

_PARTS = 5


class UnreadableMessage(ValueError):
    """What arrived is nothing that `shadow.lua` sends."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that the champion has answered, to be repeated.

    Args:
        slot: Of its unit; None where it is a unit of its own.
        deadline: What the challenger has for its answer.
        path: The champion's, as Ray Serve knows it.
        took_ms: From the request's last byte on its way to the champion, to the answer's last.
        answer: Without a status of its own (`NO_ANSWER`) where another version had to answer.
    """

    about: About
    slot: int | None
    deadline: timedelta
    path: bytes
    headers: Sequence[Header]
    body: bytes
    took_ms: float
    answer: Answer


Message = Asked | Drops


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Return the next message, or None if no more come.

    Raises:
        UnreadableMessage: nothing after it can be read either.
        asyncio.IncompleteReadError: HAProxy went away in the middle.
    """
    try:
        line = (await reader.readline()).decode("ascii")
        if not line.endswith("\n"):
            return None
        kind, *fields = line.rstrip("\n").split("\t")
        if kind == "drop":
            *about, count, reason = fields
            return Drops(About.of(*about), int(count), Reason(reason))
        if kind != "pair":
            raise ValueError(kind)
        sizes = list(map(int, fields[-_PARTS:]))
        parts = [await reader.readexactly(size) for size in sizes]
        return _asked(fields[:-_PARTS], parts)
    except (ValueError, TypeError) as error:
        raise UnreadableMessage(str(error)) from error


def _asked(fields: Sequence[str], parts: Sequence[bytes]) -> Asked:
    *about, slot, deadline_ms, status, took_ms = fields
    path, headers, body, answer_headers, answer = parts
    return Asked(
        about=About.of(*about),
        slot=None if slot == NONE else int(slot),
        deadline=timedelta(milliseconds=int(deadline_ms)),
        path=path,
        headers=_headers(headers),
        body=body,
        took_ms=float(took_ms),
        answer=Answer(int(status), _headers(answer_headers), answer),
    )


def _headers(text: bytes) -> tuple[Header, ...]:
    lines = text.split(b"\r\n")[:-1]
    return tuple((name, value) for name, _, value in (line.partition(b": ") for line in lines))
