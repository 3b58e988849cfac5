"""What a request meets under a route: the reference for the whole of the edge's Lua."""

from dataclasses import dataclass

from experiments.assignment import (
    NO_SEGMENT,
    Assigned,
    assign,
    holdout_bucket,
    layer_bucket,
    segment,
    slot,
)
from experiments.identity import Asked, unit_of
from experiments.model import ExperimentName, Variant
from registry.refs import Version
from serving.routes import Route, Trial


@dataclass(frozen=True, slots=True)
class Repeated:
    """A copy of a request, for the challenger of a trial that no user meets."""

    version: Version
    slot: int | None


@dataclass(frozen=True, slots=True)
class Met:
    """Where a request goes, and as what it is counted.

    Args:
        version: The version that it is sent to.
        experiment, variant: None where it is counted in no experiment.
        slot: Of a unit that the request names, in its experiment.
        repeated: Whose copy it becomes, where no user meets the challenger.
    """

    version: Version
    experiment: ExperimentName | None = None
    variant: Variant | None = None
    slot: int | None = None
    segment: int = NO_SEGMENT
    repeated: Repeated | None = None


def meet(route: Route, asked: Asked, *, nonce: str, longest_body: int) -> Met:
    """Return what a request meets.

    Args:
        nonce: Stands for a unit where the request names none.
        longest_body: How many bytes of a body the edge reads before it routes the request.

    Raises:
        UnitEmpty, UnitTooLong: the request is refused.
    """
    outside = Met(route.champion)
    if not route.trials:
        return outside
    named = unit_of(asked, route.trials[0].unit, longest_body=longest_body)
    unit = nonce.encode() if named is None else named
    trial = trial_of(route, unit, asked)
    if trial is None:
        return outside
    met = assigned(trial, route.control, unit)
    number = None if named is None else slot(unit, salt=trial.salt)
    if trial.shadow:
        repeats = met.version != route.control
        return Met(route.champion, repeated=Repeated(met.version, number) if repeats else None)
    place = NO_SEGMENT
    if trial.segments is not None:
        place = segment(asked.header(trial.segments.header), trial.segments.values)
    return Met(met.version, trial.experiment, met.variant, number, place)


def assigned(trial: Trial, control: Version, unit: bytes) -> Assigned:
    """Return what a unit of a trial meets in it, or would meet if it is a shadow."""
    return assign(
        unit,
        salt=trial.salt,
        challengers=trial.challengers,
        control=control,
        cut=trial.cut,
        floor=trial.floor,
        dropped=trial.dropped,
    )


def trial_of(route: Route, unit: bytes, asked: Asked) -> Trial | None:
    """Return the trial that a unit's request is in; None for one that is in no experiment."""
    if holdout_bucket(unit, model=route.model) < route.holdout:
        return None
    for trial in route.trials:
        layer = trial.layer
        if layer is None or layer.low <= layer_bucket(unit, layer=layer.name) < layer.high:
            is_meant = trial.audience is None or trial.audience.admits(asked.latest)
            return trial if is_meant else None
    return None
