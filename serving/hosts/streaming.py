"""Answers that come piece by piece, as server-sent events; each piece is an answer of its own.

Streams pass the batcher by: each has a thread, so that a long one delays nobody.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias, TypeVar

from registry.errors import TiltyardError
from registry.tensors import Array
from serving.hosts.batching import Arrays, Parameters
from serving.hosts.calls import Calls

T = TypeVar("T")

PredictStream: TypeAlias = Callable[[Arrays, Parameters], Iterator[Mapping[str, Array]]]

MEDIA_TYPE: Final = "text/event-stream"


class Streams:
    """A model's streams.

    Args:
        calls: Where calls that are under way are kept: here, one for each piece.
    """

    def __init__(self, predict_stream: PredictStream, calls: Calls) -> None:
        self._predict_stream = predict_stream
        self._calls = calls

    async def pieces(
        self, inputs: Arrays, parameters: Parameters
    ) -> AsyncGenerator[Mapping[str, Array], None]:
        """Yield the pieces of an answer as the model makes them, none before it is asked for.

        Close it (`contextlib.aclosing`) whatever happens: the model's generator is then closed
        too, where it stands, so that it can let go of what it holds.

        Raises:
            TiltyardError: the model refused these very inputs.
            ModelFailed: the model raised anything else.
        """
        made = self._predict_stream(inputs, parameters)
        # One thread for all of the stream: much of what models use belongs to a thread.
        thread = ThreadPoolExecutor(1, thread_name_prefix="stream")
        try:
            while (piece := await self._call(thread, lambda: next(made, None))) is not None:
                yield piece
        finally:
            # Not waited for: it runs when the model comes back from the piece it is at.
            thread.submit(self._calls.attempt, lambda: _close(made))
            thread.shutdown(wait=False)

    async def _call(self, thread: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        outcome = await loop.run_in_executor(thread, self._calls.attempt, call)
        if isinstance(outcome, TiltyardError):
            raise outcome
        return outcome


def _close(made: Iterator[object]) -> None:
    close = getattr(made, "close", None)
    if close is not None:
        close()


def event(document: bytes, *, kind: str | None = None) -> bytes:
    """Return a document in one line as a server-sent event.

    Examples:
        >>> event(b"{}", kind="error")
        b'event: error\\ndata: {}\\n\\n'
    """
    named = b"" if kind is None else f"event: {kind}\n".encode()
    return named + b"data: " + document + b"\n\n"
