"""How the processes of an edge run: until they are told to stop, or cannot begin."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

from registry.errors import TiltyardError


def run_until_told(run: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Let `run` go on until SIGTERM or Ctrl-C sets its event; return the exit status."""

    async def told() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run(stop)

    try:
        asyncio.run(told())
    except TiltyardError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return 1
    return 0
