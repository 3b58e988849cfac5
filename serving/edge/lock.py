"""One process of a kind at a time in an edge's folder."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from serving.errors import UnusableEdgeFolder

RETRY: Final = 0.02
"""Seconds between two tries for a lock that another process has."""


@asynccontextmanager
async def alone(folder: Path, *, who: str = "agent", patience: float = 0.0) -> AsyncIterator[None]:
    """Keep every other `who` out of `folder`. The lock dies with the process.

    Args:
        patience: Seconds to wait for whoever is in there.

    Raises:
        UnusableEdgeFolder: another one runs in it, or it is not there.
    """
    try:
        lock = os.open(folder / f"{who}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnusableEdgeFolder(f"no {who} can run in {folder}: {error}") from error
    try:
        await _take(lock, f"another {who} runs in {folder}", patience)
        yield
    finally:
        os.close(lock)


async def _take(lock: int, taken: str, patience: float) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + patience
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if loop.time() >= ends:
                raise UnusableEdgeFolder(taken) from error
            await asyncio.sleep(RETRY)
        else:
            return
