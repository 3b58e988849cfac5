"""What the edge obeys: one route per model, and its line in the edge's map file."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from urllib.parse import quote

from experiments.audience import Audience
from experiments.model import (
    NOTHING,
    WHOLE,
    BasisPoints,
    ExperimentName,
    Layer,
    Segments,
)
from experiments.unit import Unit
from registry import ChampionChange
from registry.refs import ModelName, Version, VersionRef
from serving.errors import NothingToRollBack

NONE = "-"
LIVE, SHADOW = "live", "shadow"


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
        tolerance: How far numbers may lie apart in two answers that agree; None outside the shadow.
    """

    slow: tuple[SlowMark, ...] = ()
    histogram: bool = False
    cohort_seconds: int | None = None
    tolerance: float | None = None


NOTHING_MORE = Watch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The part of a route that an experiment puts there.

    Args:
        challengers: One for each lane.
        dropped: Those whose lanes went back to the control.
        cut: Buckets [0, cut) of 0..9999 meet their lane's challenger.
        floor: Buckets [0, floor) have met it before: veterans.
        audience: Whose requests can be in the trial; None for everybody's.
        layer: None if the trial is the only one of its model.
        shadow: Nobody meets a challenger: requests below the cut are repeated to it, afterwards.
        budget: Share of the model's requests that the control may answer for failing challengers.
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
    audience: Audience | None = None
    layer: Layer | None = None
    shadow: bool = False
    budget: BasisPoints = WHOLE
    watch: Watch = NOTHING_MORE

    @property
    def active(self) -> tuple[Version, ...]:
        """The challengers that still meet units."""
        return tuple(version for version in self.challengers if version not in self.dropped)

    def is_apart_from(self, other: "Trial") -> bool:
        """Whether no unit can ever be in both trials."""
        if self.layer is None or other.layer is None or self.unit != other.unit:
            return False
        return self.layer.is_apart_from(other.layer)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a model's requests go, from `epoch` on.

    Args:
        epoch: Only ever grows, over all routes of the model.
        previous: The pinned version to roll back to; None if there is none.
        trials: At most one of each experiment; several only if no unit can be in two of them.
        by, why, at: Who changed the route last, for the history.
        receipt: The decision that led to this route, and through it to all before.
        unrecorded: Changes of champion that the registry's history does not have yet. They ride
            on the route, so that none is lost while the registry is away.
        holdout: Share of the units that never meet any challenger.
    """

    model: ModelName
    epoch: int
    champion: Version
    previous: Version | None
    trials: tuple[Trial, ...]
    by: str
    why: str
    at: datetime
    receipt: str | None = None
    unrecorded: tuple[ChampionChange, ...] = ()
    holdout: BasisPoints = NOTHING

    @property
    def control(self) -> Version:
        """The version that takes what challengers do not.

        It is the champion, except in a holdback: there the new champion is on trial, as it was
        before it was promoted, and the old one is what it is compared with.
        """
        promoted = any(self.champion in trial.challengers for trial in self.trials)
        return self.previous if promoted and self.previous is not None else self.champion

    @property
    def holds_back(self) -> bool:
        """Whether the champion is watched against the one before."""
        return self.control != self.champion

    @property
    def versions(self) -> frozenset[VersionRef]:
        """Every version that must stay loaded while the route stands."""
        named = {self.champion, self.previous, *self.active}
        return frozenset(VersionRef(self.model, version) for version in named if version)

    @property
    def served(self) -> frozenset[Version]:
        """Versions that requests are sent to, as long as none of them fails."""
        return frozenset({self.control, *self.active})

    @property
    def active(self) -> tuple[Version, ...]:
        """The challengers of every trial that still meet units, each once."""
        return tuple(dict.fromkeys(chain.from_iterable(trial.active for trial in self.trials)))

    def trial_of(self, experiment: ExperimentName) -> Trial | None:
        """Return the trial that an experiment has in this route."""
        return next((each for each in self.trials if each.experiment == experiment), None)

    def without(self, experiment: ExperimentName) -> "Route":
        """Return the route without the trial of an experiment; itself if there is none."""
        return replace(
            self, trials=tuple(each for each in self.trials if each.experiment != experiment)
        )

    def having(self, trial: Trial) -> "Route":
        """Return the route with `trial` in it, in the place of an earlier one of its experiment."""
        if self.trial_of(trial.experiment) is None:
            return replace(self, trials=(*self.trials, trial))
        known = (trial if each.experiment == trial.experiment else each for each in self.trials)
        return replace(self, trials=tuple(known))


def host_path(ref: VersionRef) -> str:
    """Return the route prefix under which Ray Serve reaches the host of `ref`."""
    return f"/hosts/{ref.model}/{ref.version}"


def map_value(route: Route) -> str:
    """Return the value of the route in the edge's map, fields between `|`.

    epoch, champion, previous and holdout; then for each trial experiment, stage, control,
    challengers, floor, cut, deadline in ms, unit, segments, audience, layer, mode, failover budget
    and salt. A field that does not apply is `-`. Challengers are written `7,-8` where 8 has been
    dropped, segments `header:value,value`, an audience `header:in:value,value;header:below:2.5`, a
    layer `name:low-high`. Free text is percent-encoded.
    """
    head: tuple[object, ...] = (route.epoch, route.champion, route.previous or NONE, route.holdout)
    trials = (_fields(trial, route.control) for trial in route.trials)
    return "|".join(map(str, chain(head, *trials)))


def _fields(trial: Trial, control: Version) -> tuple[object, ...]:
    return (
        trial.experiment,
        trial.stage,
        control,
        ",".join(str(-v if v in trial.dropped else v) for v in trial.challengers),
        trial.floor,
        trial.cut,
        round(trial.deadline.total_seconds() * 1000),
        trial.unit,
        _segments(trial.segments),
        trial.audience or NONE,
        trial.layer or NONE,
        SHADOW if trial.shadow else LIVE,
        trial.budget,
        quote(trial.salt, safe=""),
    )


def _segments(segments: Segments | None) -> str:
    return NONE if segments is None else f"{segments.header}:{','.join(segments.values)}"


def control_only(route: Route) -> Route:
    """Return what is left of a route for an edge on which no challenger may meet anybody."""
    if not route.trials:
        return route
    previous = None if route.holds_back else route.previous
    return replace(route, champion=route.control, previous=previous, trials=())


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A rollback as decided: the route to obey, and what it takes away from whom.

    Args:
        withdrawn: Every version that traffic is taken away from.
        is_repeated: They had been withdrawn before, and nothing was changed.
    """

    route: Route
    withdrawn: tuple[Version, ...]
    to_version: Version
    is_repeated: bool = False


CALM = timedelta(seconds=30)
"""How soon after a rollback another has to be confirmed."""


def is_recent(rolled_back_at: datetime, now: datetime) -> bool:
    """Whether another rollback may well be the second hand on the same button.

    A clock that was put back meanwhile makes nothing recent for long.
    """
    return abs(now - rolled_back_at) < CALM


def withdraw(route: Route, *, by: str, why: str, at: datetime) -> Withdrawal:
    """Return the route that takes traffic back, one epoch on.

    Versions on trial are withdrawn in favour of the control: in a holdback that is the champion
    before, which becomes the champion again. Without a trial the champion is withdrawn in favour
    of `previous`. After both of these there is nothing left to go back to.

    Raises:
        NothingToRollBack: there is neither a trial nor a previous version.
    """
    changed = replace(route, epoch=route.epoch + 1, by=by, why=why, at=at)
    if route.trials:
        previous = None if route.holds_back else route.previous
        restored = replace(changed, champion=route.control, previous=previous, trials=())
        tried = chain.from_iterable(trial.challengers for trial in route.trials)
        withdrawn = route.active or tuple(dict.fromkeys(tried))
        return Withdrawal(restored, withdrawn, route.control)
    if route.previous is not None:
        restored = replace(changed, champion=route.previous, previous=None)
        return Withdrawal(restored, (route.champion,), route.previous)
    raise NothingToRollBack(f"{route.model} has no trial, and no previous version to go back to")
