"""`/v1/models/{model}/drills`: rollbacks tried out where no user is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from fastapi import APIRouter
from pydantic import Field

from registry.refs import ModelName, users_model_name
from serving.api.bodies import Body, Controlled, Model
from serving.drill import Drill, DrillState, Spread

router = APIRouter(prefix="/v1/models/{model}/drills", tags=["drills"])

MOST = 10_000


class DrillBody(Body):
    """How many rollbacks are wanted, and by whom."""

    times: int = Field(100, ge=1, le=MOST)
    by: str = Field("unknown", min_length=1, max_length=200)


@dataclass(frozen=True, slots=True)
class DrillView:
    """A drill. Times are in milliseconds, and end with acknowledgements: see `Drill`."""

    model: ModelName
    by: str
    state: DrillState
    started_at: datetime
    ended_at: datetime | None
    times: int
    done: int
    failed: int
    failures: Mapping[str, int]
    rollback: Spread | None
    edges: Mapping[str, Spread]
    lost: tuple[str, ...]
    milliseconds: tuple[float, ...]

    @classmethod
    def of(cls, drill: Drill, now: datetime) -> Self:
        """Show a drill as it is now."""
        return cls(
            model=drill.model,
            by=drill.by,
            state=drill.state(now),
            started_at=drill.started_at,
            ended_at=drill.ended_at,
            times=drill.times,
            done=drill.done,
            failed=drill.failed,
            failures=drill.failures,
            rollback=drill.rollback,
            edges=drill.edges,
            lost=drill.lost,
            milliseconds=drill.milliseconds,
        )


@router.post("", status_code=202)
async def drill(model: Model, body: DrillBody, control: Controlled) -> DrillView:
    """Begin a drill; `GET` the path below to see how far it is."""
    begun = await control.drills.start(users_model_name(model), body.times, by=body.by)
    return DrillView.of(begun, control.clock())


@router.get("")
async def drills(model: Model, control: Controlled) -> list[DrillView]:
    """Return the drills of a model, the latest first."""
    return [DrillView.of(each, control.clock()) for each in await control.drills.all(model)]


@router.get("/last")
async def last(model: Model, control: Controlled) -> DrillView:
    """Return the latest drill of a model."""
    return DrillView.of(await control.drills.last(model), control.clock())
