"""`/v1/certify`: the lane on which a running system is tried out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from registry.refs import ModelName, VersionRef
from serving.api.bodies import Body, Controlled, Model
from serving.certify.trials import Pace, declare_trial, trial_name
from serving.hosts import HostState, statuses
from serving.hosts.faults import Fault
from serving.lanes import CERTIFY, LEASE, STAND_IN
from serving.views import ExperimentView

router = APIRouter(prefix="/v1/certify", tags=["certify"])


Planted = Annotated[Fault, Field(strict=False)]
"""JSON has no enumerations: a fault is its name there."""


class HolderBody(Body):
    """Who uses the lane."""

    holder: str = Field(pattern=r"^[0-9a-f]{8}$")
    by: str = Field("unknown", min_length=1, max_length=200)


class LaneBody(HolderBody):
    """Which hosts the lane is to have, beside its champion."""

    faults: list[Planted] = Field(default=[], max_length=len(Fault))


class TrialBody(HolderBody):
    """One trial."""

    fault: Planted
    slow_ms: int = Field(ge=1, le=600_000)
    deadline_ms: int = Field(ge=1, le=300_000)


@dataclass(frozen=True, slots=True)
class LaneHost:
    """A host of a lane. `champion` is the one that the others are compared with."""

    fault: Fault
    champion: bool
    state: HostState
    reason: str


@dataclass(frozen=True, slots=True)
class LaneView:
    """A lane.

    Args:
        of: The users' version that every host of it has loaded.
        ready: Requests are answered.
    """

    model: ModelName
    of: str
    ready: bool
    lease_seconds: float
    since: datetime
    hosts: tuple[LaneHost, ...]


@router.put("/{model}")
async def keep(model: Model, body: LaneBody, control: Controlled) -> LaneView:
    """Open the model's lane, or keep it for another minute."""
    lane = await control.lanes.keep(
        model, CERTIFY, holder=body.holder, by=body.by, faults=body.faults
    )
    hosts = [
        LaneHost(status.spec.fault, ref.version == STAND_IN, status.state, status.reason)
        for ref, status in sorted((await statuses(control.store)).items())
        if ref.model == lane.model
    ]
    return LaneView(
        model=lane.model,
        of=str(lane.of),
        ready=lane.model in await control.records.routes(),
        lease_seconds=LEASE.total_seconds(),
        since=lane.since,
        hosts=tuple(hosts),
    )


@router.get("/{model}/example", response_class=Response)
async def example(model: Model, holder: str, control: Controlled) -> Response:
    """Return a request that the model takes, as it was saved with it; 204 if there is none."""
    lane = await control.lanes.held(model, CERTIFY, holder=holder)
    found = await control.serve.example(VersionRef(lane.model, STAND_IN))
    if found is None:
        return Response(status_code=204)
    return Response(found, media_type="application/json")


@router.post("/{model}/trials", status_code=201)
async def trial(model: Model, body: TrialBody, control: Controlled) -> ExperimentView:
    """Begin the experiment in which a fault is to be found."""
    lane = await control.lanes.held(model, CERTIFY, holder=body.holder)
    name = trial_name(model, body.fault, body.holder)
    pace = Pace(body.slow_ms, body.deadline_ms)
    declaration = declare_trial(name, lane.model, body.fault, pace)
    return await control.show((await control.commands.start(declaration, by=body.by)).value)


@router.delete("/{model}")
async def end(model: Model, holder: str, control: Controlled) -> dict[str, str]:
    """Give the lane up; all that belongs to it is removed."""
    lane = await control.lanes.held(model, CERTIFY, holder=holder)
    await control.lanes.end(lane)
    return {"ended": lane.model}
