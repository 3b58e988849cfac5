"""Holds a HAProxy back until its agent knows which routes it is to start with.

One that starts with an old map serves what was rolled back while it was dead, and one that starts
with none refuses everybody. So whoever starts HAProxy asks the agent first.
"""

import asyncio
import json
import logging
from pathlib import Path
from typing import Final

from serving.edge.config import EdgeFiles
from serving.errors import EdgeUnavailable
from serving.settings import Settings

PATIENCE: Final = 15.0
"""Seconds without a word from the agent after which the last known routes must do: users who are
not served at all are worse off than those who are served by them."""

LOOK: Final = 0.02
"""Seconds between two questions: what a restart of HAProxy costs at most."""

ANSWER_WITHIN: Final = 2.0
"""Seconds that an agent may take for an answer."""

_log = logging.getLogger(__name__)


async def routes_are_known(edge: Settings, *, patience: float = PATIENCE) -> None:
    """Return when the HAProxy of this edge may start, and say meanwhile why it may not."""
    routes = EdgeFiles(edge.edge_dir).routes
    loop = asyncio.get_running_loop()
    heard, said = loop.time(), ""
    while True:
        try:
            why = await reason_to_wait(edge.agent_socket)
            heard = loop.time()
        except EdgeUnavailable as error:
            why = error.message
            if loop.time() - heard > patience and _holds_any(routes):
                _log.warning("%s The routes in %s must do.", why, routes)
                return
        if not why:
            return
        if why != said:
            _log.info("%s: HAProxy waits. %s", edge.edge_name, why)
            said = why
        await asyncio.sleep(LOOK)


def _holds_any(routes: Path) -> bool:
    """Whether a map file has a route: to start with none helps nobody."""
    lines = routes.read_text(errors="replace").splitlines() if routes.exists() else []
    return any(line and not line.startswith("#") for line in lines)


async def reason_to_wait(socket: Path) -> str:
    """Return why an agent would not have its HAProxy started yet; empty if it would.

    It is spoken to by hand: the supervisor asks often, and needs no more of HTTP than this.

    Raises:
        EdgeUnavailable: the agent does not answer.
    """
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"GET /ready HTTP/1.0\r\n\r\n")
                answer = await reader.read()
            finally:
                writer.close()
        return str(json.loads(answer.partition(b"\r\n\r\n")[2])["waits_for"])
    except (OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise EdgeUnavailable(f"The edge's agent does not answer on {socket}.") from error
