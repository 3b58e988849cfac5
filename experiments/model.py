"""The words of an experiment as values that cannot be wrong."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from math import ceil
from typing import NewType, TypeAlias

from experiments.errors import InvalidDeclaration
from experiments.metric import Goal, Guardrail, Metric
from registry.refs import ModelName, Version, VersionRef

ExperimentName = NewType("ExperimentName", str)
BasisPoints = NewType("BasisPoints", int)

WHOLE = BasisPoints(10_000)
NOTHING = BasisPoints(0)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


STAMPS = frozenset(
    {
        "x-experiment",
        "x-failover",
        "x-model-version",
        "x-prediction-id",
        "x-route-epoch",
        "x-variant",
    }
)
"""Headers of answers. The edge removes them from requests, so they can name no unit."""


class Variant(StrEnum):
    """A side of an experiment."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    VETERAN = "veteran"
    """Meets the challenger, as in an earlier stage: no longer randomised, so counted apart."""


@dataclass(frozen=True, slots=True)
class RequestUnit:
    """Every request is randomised by itself."""

    def __str__(self) -> str:
        return "request"


@dataclass(frozen=True, slots=True)
class HeaderUnit:
    """Whoever sends the same value in this header always meets the same variant.

    A request without the header is a unit of its own.
    """

    header: str

    def __post_init__(self) -> None:
        if not _HEADER.fullmatch(self.header):
            raise InvalidDeclaration(f"{self.header!r} is not a header name in lower case")
        if self.header in STAMPS or self.header.startswith("x-tiltyard-"):
            raise InvalidDeclaration(f"{self.header!r} is a header that the edge itself sets")

    def __str__(self) -> str:
        return f"header:{self.header}"


Unit: TypeAlias = RequestUnit | HeaderUnit


def parse_unit(text: str) -> Unit:
    """Read a unit as it is written in experiment files and maps.

    Raises:
        InvalidDeclaration: `text` is neither `request` nor `header:NAME`.
    """
    kind, _, name = text.partition(":")
    if text == "request":
        return RequestUnit()
    if kind == "header":
        return HeaderUnit(name)
    raise InvalidDeclaration(f"{text!r} is not a unit: use `request` or `header:NAME`")


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
class Declaration:
    """An experiment as declared in its file, checked.

    Args:
        challengers: Versions on trial, none twice; each receives an equal part of the share.
        ramp: The challengers' share in each stage, strictly growing, below the whole.
        deadline: How long a challenger may take before the champion answers for it.
        horizon: None for an open-ended experiment.
    """

    name: ExperimentName
    model: ModelName
    challengers: tuple[Version, ...]
    unit: Unit
    ramp: tuple[BasisPoints, ...]
    goal: Goal
    guardrails: tuple[Guardrail, ...]
    limits: Limits
    alpha: Alpha = Alpha()
    deadline: timedelta = timedelta(seconds=2)
    horizon: Horizon | None = None
    holdback: Holdback | None = None
    segments: Segments | None = None

    @property
    def salt(self) -> str:
        """What makes this experiment's assignment independent of any other's."""
        return self.name

    @property
    def challenger_refs(self) -> tuple[VersionRef, ...]:
        return tuple(VersionRef(self.model, version) for version in self.challengers)

    @property
    def asked(self) -> tuple[Goal | Guardrail, ...]:
        """The goal first, then each guardrail; no metric's key twice."""
        return (self.goal, *self.guardrails)

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


COHORTS_A_WINDOW = 12
MOST_COHORTS = 256


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time with constant allocation. A changed share opens a new one.

    Args:
        number: 0, 1, 2, ... over the life of the experiment.
        rung: Index into the declaration's ramp; its length for the holdback after promotion.
        share: Buckets below it meet a challenger.
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
