"""The edge agent's process: `python -m serving.edge`, told by `TILTYARD_` variables."""

import asyncio
import logging
import signal
import sys

from experiments.store.redis import RedisStore
from registry.errors import TiltyardError
from serving.edge.config import EdgeFiles
from serving.edge.running import run
from serving.edge.runtime import EdgeRuntime
from serving.settings import Settings


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runtime = EdgeRuntime(EdgeFiles(settings.edge_dir).admin_socket)
    async with RedisStore.open(settings.redis_url) as store:
        await run(settings, store, runtime, stop=stop)


def main() -> int:
    """Run until SIGTERM; return the exit status."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    settings = Settings.model_validate({})
    try:
        asyncio.run(_serve(settings))
    except TiltyardError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
