"""`/v1/status`, `/healthz`, `/metrics`: how the system is."""

from fastapi import APIRouter
from fastapi.responses import Response

from serving.api.bodies import Controlled
from serving.metrics.exposition import MEDIA_TYPE
from serving.views import SystemView

router = APIRouter(tags=["system"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Answer as long as the process lives; `/v1/status` tells how it is."""
    return {"status": "alive"}


@router.get("/v1/status")
async def status(control: Controlled) -> SystemView:
    """Return every model, version, edge and trouble."""
    return await control.overview()


@router.get("/metrics", response_class=Response)
async def metrics(control: Controlled) -> Response:
    """Return Prometheus metrics of this control process, and of the system as it sees it."""
    return Response(await control.told(), media_type=MEDIA_TYPE)
