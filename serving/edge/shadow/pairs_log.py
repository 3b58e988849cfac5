"""The pairs' log: one line for each thing that HAProxy hands over, whoever dies in between."""

import os
from collections import deque
from pathlib import Path

from serving.edge.pairline import Drops, Pair, name_of

REMEMBERED = 4096
"""Names that are known to be in the log: many more than can be on their way at once."""

_TAIL_BYTES = 1 << 20


class PairsLog:
    """Appends lines, each in one write, and knows which of the last are there.

    The file is opened for each line, so that it may be replaced at any time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._order: deque[str] = deque()
        self._names: set[str] = set()
        self._torn = False
        for name in _names(self._tail()):
            self._remember(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def append(self, line: Pair | Drops) -> None:
        """Put a line down.

        Raises:
            OSError: it is not there, or not whole.
        """
        # What is left of a line that could not be finished ends here, and is counted as damaged.
        body = b"\n" * self._torn + line.line()
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            written = os.write(descriptor, body)
        finally:
            os.close(descriptor)
        self._torn = written < len(body)
        if self._torn:
            raise OSError(f"{self._path} took {written} of {len(body)} bytes")
        self._remember(line.about.name)

    def _remember(self, name: str) -> None:
        self._names.add(name)
        self._order.append(name)
        if len(self._order) > REMEMBERED:
            self._names.discard(self._order.popleft())

    def _tail(self) -> bytes:
        try:
            with self._path.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(0, end - _TAIL_BYTES))
                tail = log.read()
        except FileNotFoundError:
            return b""
        self._torn = bool(tail) and not tail.endswith(b"\n")
        return tail


def _names(tail: bytes) -> list[str]:
    whole = tail.decode("utf-8", "replace").split("\n")[:-1]
    return [name for name in map(name_of, whole) if name is not None]
