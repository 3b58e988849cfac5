"""The edge agent's process: `python -m serving.edge`, told by `TILTYARD_` variables."""

import asyncio
import logging
import sys

from experiments.store.redis import RedisStore
from serving.edge.config import EdgeFiles
from serving.edge.process import run_until_told
from serving.edge.running import run
from serving.edge.runtime import EdgeRuntime
from serving.settings import Settings


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
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
    return run_until_told(lambda stop: _serve(settings, stop))


if __name__ == "__main__":
    sys.exit(main())
