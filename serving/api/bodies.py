"""What the control API is sent: untrusted, so checked here and turned into values."""

from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from experiments.model import WHOLE, BasisPoints
from experiments.quantities import read_share
from registry.refs import ModelName, Version, VersionRef, model_name
from serving.app import Control


def control_of(request: Request) -> Control:
    """Return the control that this application speaks for."""
    control: Control = request.app.state.control
    return control


Controlled = Annotated[Control, Depends(control_of)]


def named_model(model: Annotated[str, Path(max_length=200)]) -> ModelName:
    """Read the model in the path."""
    return model_name(model)


Model = Annotated[ModelName, Depends(named_model)]


def named_version(model: Model, version: Annotated[str, Path(max_length=20)]) -> VersionRef:
    """Read the model and version in the path."""
    return VersionRef.parse(f"{model}/{version}")


Ref = Annotated[VersionRef, Depends(named_version)]


class Body(BaseModel):
    """Unknown fields are mistakes, and numbers are not text."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Signed(Body):
    """Who asks, and why: both go into the history."""

    by: str = Field("unknown", min_length=1, max_length=200)
    why: str = Field("", max_length=2000)


class DeployBody(Body):
    """What a version is given."""

    replicas: int = Field(2, ge=1, le=1000)
    cpus: float = Field(0.1, ge=0, le=1000)
    gpus: float = Field(0, ge=0, le=1000)


class PromoteBody(Signed):
    """Which version to promote."""

    version: int = Field(ge=1, lt=10**9)


def _held_out(value: object) -> BasisPoints:
    share = read_share(value)
    if share >= WHOLE:
        raise ValueError("must be below 100%: nobody could meet a challenger")
    return share


class HoldoutBody(Signed):
    """Which share of the units never meets a challenger, such as `5%`."""

    share: Annotated[int, BeforeValidator(_held_out)]

    @property
    def points(self) -> BasisPoints:
        return BasisPoints(self.share)


class RollbackBody(Signed):
    """Where to go back to; by default to what the route says."""

    to: int | None = Field(None, ge=1, lt=10**9)
    force: bool = False

    @property
    def target(self) -> Version | None:
        return Version(self.to) if self.to is not None else None
