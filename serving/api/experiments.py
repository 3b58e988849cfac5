"""`/v1/experiments` and `/v1/receipts`: declare, watch, steer, and make decisions again."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response

from experiments.errors import UnknownExperiment
from experiments.lifecycle import Event
from experiments.model import ExperimentName
from experiments.receipts import replay
from experiments.spec import read_declaration
from experiments.trail import Trail
from serving.api.bodies import Controlled, Signed
from serving.lanes import is_lane
from serving.views import ExperimentView, ReceiptView, view_receipt

router = APIRouter(prefix="/v1", tags=["experiments"])

YAML = {"requestBody": {"content": {"application/yaml": {"schema": {"type": "string"}}}}}


def _named(name: Annotated[str, Path(max_length=200)]) -> ExperimentName:
    return ExperimentName(name)


Name = Annotated[ExperimentName, Depends(_named)]


@router.post("/experiments", status_code=201, openapi_extra=YAML)
async def start(
    request: Request,
    control: Controlled,
    by: Annotated[str, Query(min_length=1, max_length=200)] = "unknown",
) -> ExperimentView:
    """Begin the experiment that the body, an experiment file, declares, and look ahead."""
    declaration = read_declaration(await request.body())
    held = await control.commands.start(declaration, by=by)
    return await control.started(held.value)


@router.get("/experiments")
async def every(control: Controlled) -> list[ExperimentView]:
    """Return every experiment, in the order in which they were started, without its report.

    Those on lanes are nobody's, and not among them.
    """
    every = [held.value for held in await control.records.experiments()]
    shown = [each for each in every if not is_lane(each.declaration.model)]
    return [await control.show(each, brief=True) for each in shown]


@router.get("/experiments/{name}")
async def show(name: Name, control: Controlled) -> ExperimentView:
    """Return an experiment, its evidence and what follows from it now.

    In its report an analysis that is impossible is `{"reason": "..."}` where otherwise an interval
    stands, and an end that nothing bounds is null; nothing that is unknown is a number.
    """
    return await control.show((await control.records.experiment(name)).value)


@router.get("/experiments/{name}/trail")
async def trail(name: Name, control: Controlled) -> Trail:
    """Return how what an experiment shows has moved over time; empty if that was lost."""
    await control.records.experiment(name)  # There is such an experiment, or it is said.
    return await control.records.trail(name)


@router.post("/experiments/{name}/{action}")
async def tell(name: Name, action: str, body: Signed, control: Controlled) -> ExperimentView:
    """Pause, resume or stop an experiment."""
    events = {"pause": Event.PAUSE, "resume": Event.RESUME, "stop": Event.STOP}
    if action not in events:
        raise UnknownExperiment(
            f"There is no action {action!r}.", next_step=f"Use one of {', '.join(events)}."
        )
    await control.commands.tell(name, events[action], by=body.by, why=body.why)
    return await control.show((await control.records.experiment(name)).value)


@router.get("/receipts/{receipt}", response_class=Response)
async def content(receipt: str, control: Controlled) -> Response:
    """Return a receipt, byte for byte as its id is the digest of."""
    name, found = await control.records.receipt(receipt)
    return Response(found, media_type="application/json", headers={"X-Receipt-Id": name})


@router.post("/receipts/{receipt}/replay")
async def again(receipt: str, control: Controlled) -> dict[str, Any]:
    """Make the decision of a receipt again, from the receipt alone."""
    name, found = await control.records.receipt(receipt)
    view: ReceiptView = view_receipt(name, replay(name, found))
    return {"same": True, "receipt": view}
