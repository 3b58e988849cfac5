"""The shadow worker's process: `python -m serving.edge.shadow`, told by `TILTYARD_` variables."""

import asyncio
import logging
import os
import sys

from serving.edge.config import EdgeFiles
from serving.edge.listening import listen
from serving.edge.lock import alone
from serving.edge.process import run_until_told
from serving.edge.shadow.asking import Challengers
from serving.edge.shadow.pairs_log import PairsLog
from serving.edge.shadow.tolerances import Tolerances
from serving.edge.shadow.wire import LINE_BYTES
from serving.edge.shadow.worker import Worker
from serving.settings import Settings

NICENESS = 10
"""Whoever serves users goes first."""


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve one edge's HAProxy until `stop` is set. What is not put down then is sent again.

    Raises:
        UnusableEdgeFolder: the folder cannot be used, or another worker uses it.
    """
    files = EdgeFiles(settings.edge_dir)
    files.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with alone(files.folder, who="shadow"):
        worker = Worker(
            Challengers(files.repeat_socket, most_bytes=settings.shadow_body_bytes),
            PairsLog(files.pairs),
            tolerance=Tolerances(files.folder / "routes.json"),
        )
        server = await asyncio.start_unix_server(
            worker.serve, sock=listen(files.shadow_socket), limit=LINE_BYTES
        )
        await stop.wait()
        server.close()


def main() -> int:
    """Run until SIGTERM; return the exit status."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    os.nice(NICENESS)
    settings = Settings.model_validate({})
    return run_until_told(lambda stop: run(settings, stop))


if __name__ == "__main__":
    sys.exit(main())
