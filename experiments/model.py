"""The words of an experiment as values that cannot be wrong."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NewType, TypeAlias

from experiments.errors import InvalidDeclaration
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


class Direction(StrEnum):
    """Which way the goal metric is meant to move."""

    INCREASE = "increase"
    DECREASE = "decrease"


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
class Goal:
    """What the challenger has to be better at.

    Args:
        min_effect: Smallest relative change of the rate worth acting on (0.01 is 1 %).
        baseline: The champion's rate as known beforehand; it only tunes the test's power.
    """

    metric: str
    direction: Direction
    min_effect: float
    baseline: float | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What the challenger must not be worse at, by more than a margin.

    Args:
        max_ratio: Harmful is: more than `max_ratio` times the champion's rate of bad units.
        above_ms: For latency, the milliseconds beyond which a request is slow.
        negligible: A rate so low that its ratio to the champion's does not matter.
    """

    metric: str
    max_ratio: float
    above_ms: int | None = None
    negligible: float = 0.01

    @property
    def key(self) -> str:
        """Name of the evidence counter: `error_rate`, `latency_ms>250`."""
        return self.metric if self.above_ms is None else f"{self.metric}>{self.above_ms}"


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
class Declaration:
    """An experiment as declared in its file, checked.

    Args:
        ramp: The challenger's share in each stage, strictly growing, below the whole.
        deadline: How long the challenger may take before the champion answers for it.
    """

    name: ExperimentName
    model: ModelName
    challenger: Version
    unit: Unit
    ramp: tuple[BasisPoints, ...]
    goal: Goal
    guardrails: tuple[Guardrail, ...]
    limits: Limits
    alpha: Alpha = Alpha()
    deadline: timedelta = timedelta(seconds=2)

    @property
    def salt(self) -> str:
        """What makes this experiment's assignment independent of any other's."""
        return self.name

    @property
    def challenger_ref(self) -> VersionRef:
        return VersionRef(self.model, self.challenger)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of time with constant allocation. A changed share opens a new one.

    Args:
        number: 0, 1, 2, ... over the life of the experiment.
        rung: Index into the declaration's ramp.
        share: Buckets below it meet the challenger.
        opened_at: When this share began.
        floor: Buckets below it belong to veterans.
    """

    number: int
    rung: int
    share: BasisPoints
    opened_at: datetime
    floor: BasisPoints = NOTHING


def experiment_name(text: str) -> ExperimentName:
    """Return `text` as an experiment name.

    Raises:
        InvalidDeclaration: `text` is not lower-case letters, digits, `-` and `_`, up to 63.
    """
    if not _NAME.fullmatch(text):
        raise InvalidDeclaration(f"{text!r} is not a name for an experiment")
    return ExperimentName(text)
