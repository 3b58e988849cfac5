"""The control API: people's commands and clients' outcomes, over HTTP.

`create` builds it around a `Control`; `serving.api.__main__` runs it as a process.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from registry.errors import TiltyardError
from serving.api import certify, drills, experiments, models, outcomes, system
from serving.api.bounded import Bounded
from serving.api.problems import malformed, problem, unexpected
from serving.app import Control

TITLE = "Tiltyard control"


def create(
    open_control: Callable[[], AbstractAsyncContextManager[Control]],
) -> FastAPI:
    """Return the application; the control it speaks for is opened and closed with it."""

    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with open_control() as control:
            api.state.control = control
            yield

    api = FastAPI(title=TITLE, version="1", lifespan=lifespan)
    for part in (system, models, experiments, outcomes, certify, drills):
        api.include_router(part.router)
    api.add_exception_handler(TiltyardError, problem)
    api.add_exception_handler(Exception, unexpected)
    malformed(api)
    api.add_middleware(Bounded)
    return api
