"""`python -m serving.local`: the supervisor's process, started by `tiltyard up`."""

import asyncio
import logging

from serving.local.supervisor import Supervisor
from serving.settings import Settings


def main() -> None:
    """Supervise until SIGTERM."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    asyncio.run(Supervisor(Settings.model_validate({})).run())


if __name__ == "__main__":
    main()
