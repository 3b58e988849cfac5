"""The body of a request, as ASGI brings it: bounded, and decompressed if it was compressed."""

import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

from serving.errors import MalformedRequest, UnsupportedMediaType

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]

_COMPRESSED: Final = ("gzip", "deflate")
_EITHER = zlib.MAX_WBITS | 32


async def read_body(receive: Receive, *, encoding: str, limit: int) -> bytes:
    """Return the whole body.

    Args:
        encoding: The request's Content-Encoding; empty if it has none.
        limit: Most bytes, on the wire and decompressed.

    Raises:
        MalformedRequest: it is longer, or broken off, or not compressed as it says.
        UnsupportedMediaType: it is in another encoding than gzip or deflate.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("the client left before the end of the body")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise MalformedRequest(f"the body is over {limit} bytes")
        if not message.get("more_body"):
            break
    body = b"".join(chunks)
    if encoding in ("", "identity"):
        return body
    if encoding not in _COMPRESSED:
        raise UnsupportedMediaType(f"bodies in the encoding {encoding!r} are not read here")
    return _decompressed(body, limit)


def _decompressed(body: bytes, limit: int) -> bytes:
    """Return what was compressed, and make no more of it than one byte beyond the limit."""
    stream = zlib.decompressobj(_EITHER)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise MalformedRequest(f"the body is not compressed as it says: {error}") from None
    if len(plain) > limit:
        raise MalformedRequest(f"the body is over {limit} bytes, once it is decompressed")
    if not stream.eof or stream.unused_data:
        raise MalformedRequest("the compressed body is not whole, or there is more behind it")
    return plain
