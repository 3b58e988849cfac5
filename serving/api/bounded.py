"""No body larger than any command needs ever gets as far as a command."""

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api.problems import problem
from serving.errors import BodyTooLarge

LARGEST_BODY = 2 * 1024 * 1024
"""Bytes: a thousand outcomes need a fifth of it, an experiment file far less."""


DRAINED_BYTES = 64 * 1024 * 1024
"""Of a body that is refused: most clients send all of it before they read an answer, and would see
a broken connection in its place."""


class Bounded:
    """Reads each body as a whole before anything is asked to act on it.

    What a request says of its length is not believed: a body may come in chunks that announce
    nothing. (The framework's own limit answers in plain text, and counts only while a command
    reads.)
    """

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body, length, more = bytearray(), 0, True
        while more and length <= DRAINED_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                return  # The client is gone before it has said everything.
            piece = message.get("body", b"")
            length += len(piece)
            if length <= self._largest:
                body += piece
            more = message.get("more_body", False)
        if length > self._largest:
            await self._refuse(Request(scope), receive, send)
        else:
            await self._app(scope, _replayed(bytes(body), receive), send)

    async def _refuse(self, request: Request, receive: Receive, send: Send) -> None:
        error = BodyTooLarge(f"The body has more than the {self._largest:,} bytes that are taken.")
        answer = await problem(request, error)
        # Part of it may be unread still, so the connection cannot be used again.
        answer.headers["connection"] = "close"
        await answer(request.scope, receive, send)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a channel that tells the body once, and then whatever else comes."""
    said = False

    async def replay() -> Message:
        nonlocal said
        if said:
            return await receive()
        said = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
