"""`/v1/models`: deploy, promote, roll back, and look back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter

from experiments.model import NOTHING, BasisPoints
from registry import ChampionChange
from registry.refs import ModelName, Version, VersionRef
from serving.api.bodies import (
    Controlled,
    DeployBody,
    HoldoutBody,
    Model,
    PromoteBody,
    Ref,
    RollbackBody,
)
from serving.api.drills import DrillView
from serving.break_glass import Order, RolledBack
from serving.commands import Resources
from serving.routes import Route
from serving.switch import Switched
from serving.views import HostView, ReceiptView, view_host, view_receipt

router = APIRouter(prefix="/v1", tags=["models"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A change that every live edge has been told of, and its times in milliseconds: `Switched`."""

    model: ModelName
    changed: bool
    edges: tuple[str, ...]
    silent: tuple[str, ...]
    lost: tuple[str, ...]
    acknowledged: Mapping[str, float]
    milliseconds: float
    waited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted(Told):
    """A promotion."""

    version: Version
    previous: Version | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut(Told):
    """A holdout, in basis points."""

    before: BasisPoints
    holdout: BasisPoints


@dataclass(frozen=True, slots=True)
class History:
    """A model's changes of champion (oldest first), receipts and drills (newest first)."""

    champions: tuple[ChampionChange, ...]
    receipts: tuple[ReceiptView, ...]
    drills: tuple[DrillView, ...]


@router.put("/models/{model}/versions/{version}/host", status_code=202)
async def deploy(ref: Ref, body: DeployBody, control: Controlled) -> HostView:
    """Have a version loaded; `GET` the same path to see how far it is."""
    resources = Resources(body.replicas, body.cpus, body.gpus)
    return view_host(await control.commands.deploy(ref, resources), None)


@router.get("/models/{model}/versions/{version}/host")
async def host(ref: Ref, control: Controlled) -> HostView:
    """Return how far a deployed version is."""
    return await control.host(ref)


@router.delete("/models/{model}/versions/{version}/host", status_code=202)
async def undeploy(ref: Ref, control: Controlled) -> dict[str, str]:
    """Have a version unloaded that serves no traffic."""
    await control.commands.undeploy(ref)
    return {"withdrawn": str(ref)}


@router.post("/models/{model}/promote")
async def promote(model: Model, body: PromoteBody, control: Controlled) -> Promoted:
    """Make a version the champion, by hand."""
    ref = VersionRef(model, Version(body.version))
    switched = await control.commands.promote(ref, by=body.by, why=body.why)
    after = switched.after
    return Promoted(version=after.champion, previous=after.previous, **_told(switched))


@router.put("/models/{model}/holdout")
async def hold_out(model: Model, body: HoldoutBody, control: Controlled) -> HeldOut:
    """Keep a share of the units from every challenger, in all experiments to come."""
    switched = await control.commands.hold_out(model, body.points, by=body.by, why=body.why)
    return HeldOut(
        before=switched.before.holdout if switched.before else NOTHING,
        holdout=switched.after.holdout,
        **_told(switched),
    )


@router.post("/models/{model}/rollback")
async def rollback(model: Model, body: RollbackBody, control: Controlled) -> RolledBack:
    """Withdraw what is on trial, or else the champion."""
    why = body.why or f"Rolled back by {body.by}."
    return await control.roll_back(Order(model, body.by, why, body.target, body.force))


@router.get("/models/{model}/route")
async def route(model: Model, control: Controlled) -> Route:
    """Return what the edges are told to obey."""
    return (await control.records.route(model)).value


@router.get("/models/{model}/history")
async def history(model: Model, control: Controlled) -> History:
    """Return who made which version the champion, when and why."""
    receipts = await control.records.receipts(model)
    drills = [replace(each, milliseconds=()) for each in await control.drills.all(model)]
    return History(
        champions=await control.catalog.history(model),
        receipts=tuple(view_receipt(name, receipt) for name, receipt in receipts),
        drills=tuple(DrillView.of(drill, control.clock()) for drill in drills),
    )


def _told(switched: Switched) -> dict[str, Any]:
    """Return the fields of `Told`."""
    return {
        "model": switched.after.model,
        "changed": switched.changed,
        "edges": switched.obeyed,
        "silent": switched.silent,
        "lost": switched.lost,
        "acknowledged": switched.acknowledged,
        "milliseconds": switched.milliseconds,
        "waited": switched.waited,
    }
