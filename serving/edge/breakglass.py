"""The edge's own socket: a rollback that needs nobody else to be alive."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
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
from serving.errors import EdgeUnavailable, JustRolledBack, NothingToRollBack
from serving.metrics.exposition import MEDIA_TYPE as METRICS_TYPE
from serving.problem import MEDIA_TYPE, problem_document

_STATUS: dict[type[TiltyardError], HTTPStatus] = {
    UnknownModel: HTTPStatus.NOT_FOUND,
    NothingToRollBack: HTTPStatus.CONFLICT,
    JustRolledBack: HTTPStatus.CONFLICT,
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
    force: bool = False


Told = Callable[[], Awaitable[bytes]]
"""Returns what a scrape is answered with."""


def app(agent: Agent, told: Told) -> FastAPI:
    """Return the application behind the socket.

    `GET /routes` answers with the edge's report, `GET /ready` with what HAProxy has to wait for
    before it is started (`waits_for`, empty if for nothing), `POST /rollback` with `withdrawn`,
    `to`, `repeated` (nothing was changed), `epoch`, `edge`, `haproxy_up` and the `milliseconds`
    until HAProxy obeyed, `GET /metrics` with Prometheus's text. Errors are problem documents.
    """
    application = FastAPI(title="Tiltyard edge", openapi_url=None)

    @application.get("/routes")
    async def routes() -> Response:
        return Response(encode(EdgeReport, agent.report()), media_type="application/json")

    @application.get("/ready")
    async def ready() -> dict[str, str]:
        return {"waits_for": await agent.reason_to_wait()}

    @application.get("/metrics")
    async def metrics() -> Response:
        return Response(await told(), media_type=METRICS_TYPE)

    @application.post("/rollback")
    async def rollback(body: RollbackBody) -> dict[str, Any]:
        began = perf_counter()
        withdrawn = tuple(map(Version, body.withdrawn))
        done = await agent.roll_back(
            ModelName(body.model), by=body.by, why=body.why, withdrawn=withdrawn, force=body.force
        )
        return {
            "model": done.route.model,
            "withdrawn": done.withdrawn,
            "to": done.to_version,
            "repeated": done.is_repeated,
            "epoch": done.route.epoch,
            "edge": agent.name,
            "haproxy_up": agent.haproxy_up,
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


class Door(uvicorn.Server):
    """Serves the application on a socket that is open already."""

    def __init__(self, agent: Agent, told: Told) -> None:
        super().__init__(
            uvicorn.Config(
                app(agent, told),
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
