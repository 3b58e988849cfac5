"""The words of an experiment as values that cannot be wrong."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import NewType

from experiments.audience import Audience
from experiments.errors import InvalidDeclaration
from experiments.metric import Goal, Guardrail, Metric
from experiments.unit import RequestUnit, Unit
from registry.refs import ModelName, Version, VersionRef

ExperimentName = NewType("ExperimentName", str)
BasisPoints = NewType("BasisPoints", int)

WHOLE = BasisPoints(10_000)
NOTHING = BasisPoints(0)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Variant(StrEnum):
    """A side of an experiment."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    VETERAN = "veteran"
    """Meets the challenger, as in an earlier stage: no longer randomised, so counted apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a promotion is allowed at the earliest, and the experiment ends at the latest.

    Args:
        min_units: Distinct units that the challenger must have met.
    """

    min_units: int
    min_runtime: timedelta
    max_runtime: timedelta


@dataclass(frozen=True, slots=True)
class Alpha:
    """Error rates that the verdicts keep, however often one looks."""

    harm: float = 0.05
    promote: float = 0.025
    sample_ratio: float = 0.001


@dataclass(frozen=True, slots=True)
class Horizon:
    """A bounded experiment: the goal is judged within this many units, or not at all.

    Args:
        units: Units with a goal outcome, in all arms together, at which the last look is taken.
            Where a unit has no one outcome (events, ratios), units that came.
    """

    units: int


@dataclass(frozen=True, slots=True)
class Holdback:
    """After promotion, some units stay with the old champion, so that slow harm can be seen.

    Args:
        share: Of the units, taken from those that never met a challenger.
        span: How long harm is looked for; then the new champion serves everybody.
    """

    share: BasisPoints
    span: timedelta


@dataclass(frozen=True, slots=True)
class Segments:
    """Values of a request header in which harm is looked for separately.

    Args:
        header: In lower case.
        values: As clients send them; any other value, or none, is segment 0.
    """

    header: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layer:
    """The part of a model's units that an experiment may use, so that others can use the rest.

    Args:
        name: Experiments of one model in one layer never share a unit.
        low, high: Units whose bucket in the layer is in [low, high) take part.
    """

    name: str
    low: BasisPoints
    high: BasisPoints

    def __post_init__(self) -> None:
        layer_name(self.name)
        if not NOTHING <= self.low < self.high <= WHOLE:
            raise InvalidDeclaration(f"{self.low} to {self.high} is no part of a layer")

    def __str__(self) -> str:
        return f"{self.name}:{self.low}-{self.high}"

    @property
    def share(self) -> BasisPoints:
        """How much of the model's units the part holds."""
        return BasisPoints(self.high - self.low)

    def is_apart_from(self, other: "Layer") -> bool:
        """Whether no unit is in both parts."""
        return self.name == other.name and (self.high <= other.low or other.high <= self.low)


@dataclass(frozen=True, slots=True)
class Shadow:
    """Nobody meets a challenger: requests are repeated to it, and its answers are compared.

    Args:
        share: Of the units, whose requests are repeated.
        pairs: Of answers, of different units, that each challenger needs for a verdict.
        agreement: Share of the pairs whose answers have to agree; None if that is only shown.
        tolerance: How far numbers in two answers may lie apart that agree.
    """

    share: BasisPoints
    pairs: int = 500
    agreement: float | None = None
    tolerance: float = 0.01


@dataclass(frozen=True, slots=True)
class Declaration:
    """An experiment as declared in its file, checked.

    Args:
        challengers: Versions on trial, none twice; each receives an equal part of the share.
        ramp: The challengers' share in each stage, strictly growing, below the whole; empty if
            nobody is ever to meet a challenger.
        goal: None if nobody is ever to meet a challenger, and only then.
        deadline: How long a challenger may take before the champion answers for it.
        horizon: None for an open-ended experiment.
        audience: Who can meet a challenger; None for everybody.
        layer: None for all of the model's units, so that no other experiment of it can run.
        budget: Share of the model's requests that the champion may answer for failing challengers.
        shadow: What comes before the ramp, or in its place; None if users meet challengers at once.
    """

    name: ExperimentName
    model: ModelName
    challengers: tuple[Version, ...]
    unit: Unit
    ramp: tuple[BasisPoints, ...]
    goal: Goal | None
    guardrails: tuple[Guardrail, ...]
    limits: Limits
    alpha: Alpha = Alpha()
    deadline: timedelta = timedelta(seconds=2)
    horizon: Horizon | None = None
    holdback: Holdback | None = None
    segments: Segments | None = None
    audience: Audience | None = None
    layer: Layer | None = None
    budget: BasisPoints = WHOLE
    shadow: Shadow | None = None

    @property
    def shadow_only(self) -> bool:
        """Whether nobody is ever to meet a challenger."""
        return not self.ramp

    @property
    def gates(self) -> int:
        """Stages that a challenger has to pass: the shadow, if there is one, and the ramp's."""
        return len(self.ramp) + (self.shadow is not None)

    @property
    def sought(self) -> Goal:
        """The goal, where users meet a challenger: what it may be promoted for."""
        assert self.goal is not None, "nobody meets a challenger, so there is nothing to promote"
        return self.goal

    @property
    def salt(self) -> str:
        """What makes this experiment's assignment independent of any other's."""
        return self.name

    @property
    def challenger_refs(self) -> tuple[VersionRef, ...]:
        return tuple(VersionRef(self.model, version) for version in self.challengers)

    @property
    def asked(self) -> tuple[Goal | Guardrail, ...]:
        """The goal first, if there is one, then each guardrail; no metric's key twice."""
        return self.guardrails if self.goal is None else (self.goal, *self.guardrails)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured, in the order of `asked`."""
        return tuple(asked.metric for asked in self.asked)

    @property
    def returning(self) -> bool:
        """Whether a unit may be met again, and again."""
        return not isinstance(self.unit, RequestUnit)

    @property
    def cohort(self) -> timedelta | None:
        """How finely predictions are told apart by age; None if no metric has a window.

        Fine enough for the shortest window, coarse enough that there are at most some hundreds.
        """
        windows = [metric.window for metric in self.metrics if metric.window is not None]
        if not windows:
            return None
        finest = max(min(windows) / COHORTS_A_WINDOW, self.limits.max_runtime / MOST_COHORTS)
        return timedelta(seconds=ceil(finest.total_seconds()))


BEFORE_RAMP = -1
"""The rung of the shadow stage."""

COHORTS_A_WINDOW = 12
MOST_COHORTS = 256


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time with constant allocation. A changed share opens a new one.

    Args:
        number: 0, 1, 2, ... over the life of the experiment.
        rung: Index into the declaration's ramp; its length for the holdback after promotion, and
            `BEFORE_RAMP` in the shadow.
        share: Buckets below it meet a challenger; in the shadow their requests are repeated to it.
        opened_at: When this share began.
        challengers: Each has a lane of its own; another hash than the bucket's chooses the lane.
        floor: Buckets below it belong to veterans.
    """

    number: int
    rung: int
    share: BasisPoints
    opened_at: datetime
    challengers: tuple[Version, ...]
    floor: BasisPoints = NOTHING

    @property
    def shadow(self) -> bool:
        """Whether nobody meets a challenger: requests are repeated to it."""
        return self.rung == BEFORE_RAMP

    @property
    def probability(self) -> Fraction:
        """Chance that a unit, no veteran and met by one challenger or the champion, meets it.

        The same for each challenger. One that is dropped changes it for nobody: the units of its
        lane go back to the champion, but are compared with nobody any more.
        """
        lane = Fraction(self.share - self.floor, len(self.challengers))
        return lane / (lane + WHOLE - self.share)


def experiment_name(text: str) -> ExperimentName:
    """Return `text` as an experiment name.

    Raises:
        InvalidDeclaration: `text` is not lower-case letters, digits, `-` and `_`, up to 63.
    """
    if not _NAME.fullmatch(text):
        raise InvalidDeclaration(f"{text!r} is not a name for an experiment")
    return ExperimentName(text)


def layer_name(text: str) -> str:
    """Return `text` as the name of a layer.

    Raises:
        InvalidDeclaration: `text` is not lower-case letters, digits, `-` and `_`, up to 63.
    """
    if not _NAME.fullmatch(text):
        raise InvalidDeclaration(f"{text!r} is not a name for a layer")
    return text
