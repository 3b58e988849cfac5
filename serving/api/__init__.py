"""The control API: people's commands and clients' outcomes, over HTTP.

`create` builds it around a `Control`; `serving.api.__main__` runs it as a process.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from fastapi import FastAPI

from registry.errors import TiltyardError
from serving.api import certify, drills, experiments, models, outcomes, system
from serving.api.bounded import Bounded
from serving.api.problems import RESPONSES, malformed, problem, unexpected
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

    api = _Api(title=TITLE, version="1", lifespan=lifespan, responses=RESPONSES)
    for part in (system, models, experiments, outcomes, certify, drills):
        api.include_router(part.router)
    api.add_exception_handler(TiltyardError, problem)
    api.add_exception_handler(Exception, unexpected)
    malformed(api)
    api.add_middleware(Bounded)
    return api


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Return the API's description of itself; what a path does in a line is its summary.

        FastAPI takes names of functions, which are short because they stand below a module's.
        """
        document = super().openapi()
        for operations in document["paths"].values():
            for operation in operations.values():
                first, _, _ = operation["description"].partition("\n")
                operation["summary"] = first.removesuffix(".")
        return document
