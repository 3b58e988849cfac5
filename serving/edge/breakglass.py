"""The edge's own socket: a rollback that needs nobody else to be alive."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from experiments.codec import encode
from registry.errors import TiltyardError, UnknownModel
from registry.refs import ModelName, Version
from serving.edge.agent import Agent
from serving.edge.report import EdgeReport
from serving.errors import EdgeUnavailable, NothingToRollBack, UnusableEdgeFolder
from serving.problem import MEDIA_TYPE, problem_document

SOCKET_NAME = "agent.sock"

_STATUS: dict[type[TiltyardError], HTTPStatus] = {
    UnknownModel: HTTPStatus.NOT_FOUND,
    NothingToRollBack: HTTPStatus.CONFLICT,
    EdgeUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

_Word = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class RollbackBody(BaseModel):
    """What a person asks of one edge."""

    model_config = ConfigDict(extra="forbid")

    model: _Word
    by: _Word = "edge"
    why: _Word = "rolled back at the edge"
    withdrawn: tuple[Annotated[int, Field(ge=1)], ...] = ()


def app(agent: Agent) -> FastAPI:
    """Return the application behind the socket.

    `GET /routes` answers with the edge's report, `POST /rollback` with `withdrawn`, `to`,
    `epoch`, `edge` and the `milliseconds` until HAProxy obeyed. Errors are problem documents.
    """
    application = FastAPI(title="Tiltyard edge", openapi_url=None)

    @application.get("/routes")
    async def routes() -> Response:
        return Response(encode(EdgeReport, agent.report()), media_type="application/json")

    @application.post("/rollback")
    async def rollback(body: RollbackBody) -> dict[str, Any]:
        began = perf_counter()
        withdrawn = tuple(map(Version, body.withdrawn))
        done = await agent.roll_back(
            ModelName(body.model), by=body.by, why=body.why, withdrawn=withdrawn
        )
        return {
            "model": done.route.model,
            "withdrawn": done.withdrawn,
            "to": done.to_version,
            "epoch": done.route.epoch,
            "edge": agent.name,
            "milliseconds": (perf_counter() - began) * 1000,
        }

    @application.exception_handler(TiltyardError)
    async def refuse(_: Request, error: TiltyardError) -> JSONResponse:
        status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
        return _problem(status or HTTPStatus.BAD_REQUEST, error.code, error.message, error.hint)

    @application.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _problem(
            HTTPStatus.BAD_REQUEST,
            "malformed_request",
            f"{where}: {first['msg']}",
            'Send {"model": ..., "by": ..., "why": ...} as JSON.',
        )

    return application


def listen(folder: Path) -> socket.socket:
    """Return a listening socket in `folder` that only this user may speak to.

    Raises:
        UnusableEdgeFolder: no socket can be made there.
    """
    path = folder / SOCKET_NAME
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(mask)
        listening.listen()
    except OSError as error:
        listening.close()
        raise UnusableEdgeFolder(f"no socket can be made at {path}: {error}") from error
    return listening


class Door(uvicorn.Server):
    """Serves the application on a socket that is open already."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(
            uvicorn.Config(
                app(agent),
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the agent, which stops the collector as well."""
        yield


def _problem(status: HTTPStatus, code: str, detail: str, next_step: str) -> JSONResponse:
    body = problem_document(status, code, detail, next_step)
    return JSONResponse(body, status, media_type=MEDIA_TYPE)
