"""The control API: people's commands and clients' outcomes, over HTTP.

`create` builds it around a `Control`; `serving.api.__main__` runs it as a process.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import Response

from registry.errors import TiltyardError
from serving.api import experiments, models, outcomes, system
from serving.api.problems import malformed, problem, unexpected
from serving.app import Control
from serving.errors import BodyTooLarge

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
    for part in (system, models, experiments, outcomes):
        api.include_router(part.router)
    api.add_exception_handler(TiltyardError, problem)
    api.add_exception_handler(Exception, unexpected)
    malformed(api)
    api.middleware("http")(_bounded)
    return api


LARGEST_BODY = 2 * 1024 * 1024


async def _bounded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bodies that no command and no thousand outcomes need."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) <= LARGEST_BODY:
        return await answer(request)
    return await problem(
        request, BodyTooLarge(f"The body has {length} bytes; {LARGEST_BODY} are accepted.")
    )
