"""`python -m serving.local`: the supervisor's process, started by `tiltyard up`."""

import asyncio
import logging

from serving.local.supervisor import Supervisor, cluster, programs
from serving.settings import Settings


def main() -> None:
    """Supervise until SIGTERM."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    settings = Settings.model_validate({})
    asyncio.run(Supervisor(settings, programs(settings), cluster(settings)).run())


if __name__ == "__main__":
    main()
