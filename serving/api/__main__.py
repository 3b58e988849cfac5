"""`python -m serving.api`: one control process."""

import logging
from functools import partial

import uvicorn

from serving.api import create
from serving.app import open_control
from serving.settings import Settings


def main() -> None:
    """Serve the control API until SIGTERM."""
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("serving").setLevel(logging.INFO)
    settings = Settings()
    uvicorn.run(
        create(partial(open_control, settings)),
        host=settings.control_host,
        port=settings.control_port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
