"""What the edge obeys: one route per model, and its line in the edge's map file."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from experiments.model import (
    NOTHING,
    BasisPoints,
    ExperimentName,
    Unit,
    experiment_name,
    parse_unit,
)
from registry import ChampionChange
from registry.refs import ModelName, Version, VersionRef
from serving.errors import NothingToRollBack

NONE = "-"


@dataclass(frozen=True, slots=True)
class SlowMark:
    """A guardrail that counts units with a request slower than `above_ms`, under `counter`."""

    counter: str
    above_ms: int


@dataclass(frozen=True, slots=True)
class Trial:
    """The part of a route that an experiment puts there.

    Args:
        cut: Buckets [0, cut) of 0..9999 meet the challenger.
        floor: Buckets [0, floor) have met it before: veterans.
        slow: What the collector needs to know to count slow units.
    """

    experiment: ExperimentName
    stage: int
    challenger: Version
    cut: BasisPoints
    unit: Unit
    salt: str
    deadline: timedelta
    slow: tuple[SlowMark, ...] = ()
    floor: BasisPoints = NOTHING


@dataclass(frozen=True, slots=True)
class Route:
    """Where a model's requests go, from `epoch` on.

    Args:
        epoch: Only ever grows, over all routes of the model.
        previous: The pinned version to roll back to; None if there is none.
        by, why, at: Who changed the route last, for the history.
        receipt: The decision that led to this route, and through it to all before.
        unrecorded: Changes of champion that the registry's history does not have yet. They ride
            on the route, so that none is lost while the registry is away.
    """

    model: ModelName
    epoch: int
    champion: Version
    previous: Version | None
    trial: Trial | None
    by: str
    why: str
    at: datetime
    receipt: str | None = None
    unrecorded: tuple[ChampionChange, ...] = ()

    @property
    def versions(self) -> frozenset[VersionRef]:
        """Every version that must stay loaded while the route stands."""
        named = {self.champion, self.previous, self.trial and self.trial.challenger}
        return frozenset(VersionRef(self.model, version) for version in named if version)

    @property
    def served(self) -> frozenset[Version]:
        """Versions that requests are sent to; `previous` is not, unless the champion fails."""
        trial = {self.trial.challenger} if self.trial else set()
        return frozenset({self.champion, *trial})


def host_path(ref: VersionRef) -> str:
    """Return the route prefix under which Ray Serve reaches the host of `ref`."""
    return f"/hosts/{ref.model}/{ref.version}"


def map_value(route: Route) -> str:
    """Return the value of the route in the edge's map: eleven fields between `|`.

    epoch, champion, previous, experiment, stage, challenger, floor, cut, deadline in ms, unit and
    salt; a field that does not apply is `-`.
    """
    trial = route.trial
    tail: tuple[object, ...] = (NONE,) * 8
    if trial is not None:
        tail = (
            trial.experiment,
            trial.stage,
            trial.challenger,
            trial.floor,
            trial.cut,
            round(trial.deadline.total_seconds() * 1000),
            trial.unit,
            trial.salt,
        )
    return "|".join(str(f) for f in (route.epoch, route.champion, route.previous or NONE, *tail))


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A rollback as decided: the route to obey, and what it takes away from whom."""

    route: Route
    from_version: Version
    to_version: Version


def withdraw(route: Route, *, by: str, why: str, at: datetime) -> Withdrawal:
    """Return the route that takes traffic back, one epoch on.

    A version on trial is withdrawn in favour of the champion. Without a trial the champion is
    withdrawn in favour of `previous`, and then there is nothing left to go back to.

    Raises:
        NothingToRollBack: there is neither a trial nor a previous version.
    """
    changed = replace(route, epoch=route.epoch + 1, by=by, why=why, at=at)
    if route.trial is not None:
        without_trial = replace(changed, trial=None)
        return Withdrawal(without_trial, route.trial.challenger, route.champion)
    if route.previous is not None:
        restored = replace(changed, champion=route.previous, previous=None)
        return Withdrawal(restored, route.champion, route.previous)
    raise NothingToRollBack(f"{route.model} has no trial, and no previous version to go back to")


__all__ = [
    "NONE",
    "Route",
    "SlowMark",
    "Trial",
    "Withdrawal",
    "experiment_name",
    "host_path",
    "map_value",
    "parse_unit",
    "withdraw",
]
