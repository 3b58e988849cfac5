"""What the edge obeys: one route per model, and its line in the edge's map file."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from experiments.model import (
    NOTHING,
    BasisPoints,
    ExperimentName,
    Segments,
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
class Watch:
    """What the collector counts of an experiment, beside requests, failures and units.

    Args:
        histogram: Whether the time of each unit's first request in a stage goes into a histogram.
        cohort_seconds: How finely units are told apart by when they were first met; None if nobody
            asks.
    """

    slow: tuple[SlowMark, ...] = ()
    histogram: bool = False
    cohort_seconds: int | None = None


NOTHING_MORE = Watch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The part of a route that an experiment puts there.

    Args:
        challengers: One for each lane.
        dropped: Those whose lanes went back to the control.
        cut: Buckets [0, cut) of 0..9999 meet their lane's challenger.
        floor: Buckets [0, floor) have met it before: veterans.
    """

    experiment: ExperimentName
    stage: int
    challengers: tuple[Version, ...]
    dropped: tuple[Version, ...] = ()
    cut: BasisPoints
    floor: BasisPoints = NOTHING
    unit: Unit
    salt: str
    deadline: timedelta
    segments: Segments | None = None
    watch: Watch = NOTHING_MORE

    @property
    def active(self) -> tuple[Version, ...]:
        """The challengers that still meet units."""
        return tuple(version for version in self.challengers if version not in self.dropped)


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
    def control(self) -> Version:
        """The version that takes what challengers do not.

        It is the champion, except in a holdback: there the new champion is on trial, as it was
        before it was promoted, and the old one is what it is compared with.
        """
        promoted = self.trial is not None and self.champion in self.trial.challengers
        return self.previous if promoted and self.previous is not None else self.champion

    @property
    def holds_back(self) -> bool:
        """Whether the champion is watched against the one before."""
        return self.control != self.champion

    @property
    def versions(self) -> frozenset[VersionRef]:
        """Every version that must stay loaded while the route stands."""
        named = {self.champion, self.previous, *(self.trial.active if self.trial else ())}
        return frozenset(VersionRef(self.model, version) for version in named if version)

    @property
    def served(self) -> frozenset[Version]:
        """Versions that requests are sent to, as long as none of them fails."""
        return frozenset({self.control, *(self.trial.active if self.trial else ())})


def host_path(ref: VersionRef) -> str:
    """Return the route prefix under which Ray Serve reaches the host of `ref`."""
    return f"/hosts/{ref.model}/{ref.version}"


def map_value(route: Route) -> str:
    """Return the value of the route in the edge's map: thirteen fields between `|`.

    epoch, champion, previous, experiment, stage, control, challengers, floor, cut, deadline in ms,
    unit, segments and salt; a field that does not apply is `-`. Challengers are written `7,-8`
    where 8 has been dropped, segments `header:value,value`.
    """
    trial = route.trial
    tail: tuple[object, ...] = (NONE,) * 10
    if trial is not None:
        tail = (
            trial.experiment,
            trial.stage,
            route.control,
            ",".join(str(-v if v in trial.dropped else v) for v in trial.challengers),
            trial.floor,
            trial.cut,
            round(trial.deadline.total_seconds() * 1000),
            trial.unit,
            _segments(trial.segments),
            trial.salt,
        )
    return "|".join(str(f) for f in (route.epoch, route.champion, route.previous or NONE, *tail))


def _segments(segments: Segments | None) -> str:
    return NONE if segments is None else f"{segments.header}:{','.join(segments.values)}"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A rollback as decided: the route to obey, and what it takes away from whom.

    Args:
        withdrawn: Every version that traffic is taken away from.
    """

    route: Route
    withdrawn: tuple[Version, ...]
    to_version: Version


def withdraw(route: Route, *, by: str, why: str, at: datetime) -> Withdrawal:
    """Return the route that takes traffic back, one epoch on.

    Versions on trial are withdrawn in favour of the control: in a holdback that is the champion
    before, which becomes the champion again. Without a trial the champion is withdrawn in favour
    of `previous`. After both of these there is nothing left to go back to.

    Raises:
        NothingToRollBack: there is neither a trial nor a previous version.
    """
    changed = replace(route, epoch=route.epoch + 1, by=by, why=why, at=at)
    if route.trial is not None:
        previous = None if route.holds_back else route.previous
        restored = replace(changed, champion=route.control, previous=previous, trial=None)
        withdrawn = route.trial.active or route.trial.challengers
        return Withdrawal(restored, withdrawn, route.control)
    if route.previous is not None:
        restored = replace(changed, champion=route.previous, previous=None)
        return Withdrawal(restored, (route.champion,), route.previous)
    raise NothingToRollBack(f"{route.model} has no trial, and no previous version to go back to")


__all__ = [
    "NONE",
    "NOTHING_MORE",
    "Route",
    "SlowMark",
    "Trial",
    "Watch",
    "Withdrawal",
    "experiment_name",
    "host_path",
    "map_value",
    "parse_unit",
    "withdraw",
]
