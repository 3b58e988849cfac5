"""`POST /v1/outcomes`: what became of predictions."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from experiments.outcomes import is_single
from serving.api.bodies import Controlled
from serving.api.problems import of, problem
from serving.errors import SpoolFull
from serving.intake import SPOOLED, Result

router = APIRouter(prefix="/v1", tags=["outcomes"])


@router.post("/outcomes", responses={202: {"description": "The same, some of them spooled"}})
async def outcomes(request: Request, control: Controlled) -> Response:
    """Count one outcome, or up to 1,000 in a list; each is judged by itself.

    A single outcome that is refused is answered with its problem. In a list, each has a result in
    the same order: `counted`, `repeated_unit` (genuine, but the unit was observed before),
    `spooled` (kept until Redis is back) or `refused` with a code. If Redis is away and no more can
    be kept, all are refused at once (`spool_full`), to be sent again.
    """
    body = await request.body()
    results = await control.intake.take(body)
    for result in results:
        control.metrics.outcomes.labels(result.status).inc()
    refusals = [result.refusal for result in results if result.refusal is not None]
    full = next((error for error in refusals if isinstance(error, SpoolFull)), None)
    if full is not None:
        return await problem(request, full)
    if refusals and is_single(body):
        return await problem(request, refusals[0])
    status = 202 if any(result.status == SPOOLED for result in results) else 200
    shown = [_shown(result) for result in results]
    return JSONResponse(
        {
            "counted": sum(result.status == "counted" for result in results),
            "refused": len(refusals),
            "results": shown,
        },
        status_code=status,
    )


def _shown(result: Result) -> dict[str, Any]:
    if result.refusal is None:
        return {"status": result.status}
    return {"status": result.status, **of(result.refusal)}
