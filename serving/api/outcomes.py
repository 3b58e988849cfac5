"""`POST /v1/outcomes`: what became of predictions."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from experiments.outcomes import is_single
from serving.api.bodies import Controlled
from serving.api.problems import of, problem
from serving.intake import SPOOLED, Result

router = APIRouter(prefix="/v1", tags=["outcomes"])


@router.post("/outcomes")
async def outcomes(request: Request, control: Controlled) -> Response:
    """Count one outcome, or up to 1,000 in a list; each is judged by itself.

    A single outcome that is refused is answered with its problem. In a list, each has a result in
    the same order: `counted`, `repeated_unit` (genuine, but the unit was observed before),
    `spooled` (kept until Redis is back) or `refused` with a code.
    """
    body = await request.body()
    results = await control.intake.take(body)
    for result in results:
        control.metrics.outcomes.labels(result.status).inc()
    first = results[0].refusal if results else None
    if first is not None and is_single(body):
        return await problem(request, first)
    status = 202 if any(result.status == SPOOLED for result in results) else 200
    shown = [_shown(result) for result in results]
    return JSONResponse(
        {
            "counted": sum(result.status == "counted" for result in results),
            "refused": sum(result.refusal is not None for result in results),
            "results": shown,
        },
        status_code=status,
    )


def _shown(result: Result) -> dict[str, Any]:
    if result.refusal is None:
        return {"status": result.status}
    return {"status": result.status, **of(result.refusal)}
