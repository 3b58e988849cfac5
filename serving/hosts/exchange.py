"""A request and its answer, as ASGI has them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Self, TypeAlias, TypeVar

from serving.errors import MalformedRequest
from serving.hosts.bodies import Message, Receive, read_body

T = TypeVar("T")

Send: TypeAlias = Callable[[Message], Awaitable[None]]

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"

HEADER_LENGTH: Final = "inference-header-content-length"
"""Header that says where in a body the JSON ends and the tensors begin."""


class ClientGone(Exception):
    """Nobody is there any more to be answered."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Args:
        path: Below the version's own.
        headers: By their names in lower case.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive

    @classmethod
    def of(cls, scope: Message, receive: Receive) -> Self:
        """Return what ASGI calls a scope as a request."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return cls(scope["method"], path, dict(scope["headers"]), receive)

    def header(self, name: str) -> str:
        """Return a header's value, empty if there is none."""
        return self.headers.get(name.encode(), b"").decode("latin-1").strip()

    @property
    def json_length(self) -> int | None:
        """How much of the body is JSON, if bytes of tensors follow.

        Raises:
            MalformedRequest: the header that says so has no length in it.
        """
        length = self.header(HEADER_LENGTH)
        if not length:
            return None
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise MalformedRequest(f"Inference-Header-Content-Length is no length: {length!r}")
        return int(length)

    async def body(self, limit: int) -> bytes:
        """Return the whole body, decompressed.

        Raises:
            MalformedRequest, UnsupportedMediaType: as `bodies.read_body` says.
        """
        encoding = self.header("content-encoding").lower()
        return await read_body(self.receive, encoding=encoding, limit=limit)

    async def unless_gone(self, work: Awaitable[T]) -> T:
        """Return what `work` comes to, once the body is read; give it up if the client goes away.

        Raises:
            ClientGone: it did.
        """
        working = asyncio.ensure_future(work)
        leaving = asyncio.ensure_future(self.receive())
        try:
            await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGone
            return working.result()
        finally:
            working.cancel()
            leaving.cancel()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with, all at once.

    Args:
        header_length: How much of the body is JSON, if bytes of tensors follow.
        allow: Value of the `Allow` header, which an answer of 405 must have.
    """

    status: HTTPStatus
    body: bytes
    kind: str = JSON
    header_length: int | None = None
    allow: str | None = None

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = {"content-type": self.kind, "content-length": str(len(self.body))}
        if self.header_length is not None:
            headers[HEADER_LENGTH] = str(self.header_length)
        if self.allow is not None:
            headers["allow"] = self.allow
        await send(start(self.status, headers))
        await send({"type": "http.response.body", "body": self.body})


def start(status: HTTPStatus, headers: Mapping[str, str]) -> Message:
    """Return the message that begins an answer."""
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status.value, "headers": encoded}
