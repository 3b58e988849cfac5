"""What is measured: kinds of metrics, and what an experiment wants of each.

=============== ==================================================== ========================
kind            an outcome is                                        what is compared
=============== ==================================================== ========================
`Binary`        0 or 1                                               share of units with 1
`Mean`          any number, cut off at a declared cap                mean over units
`Score`         a number on a declared grid from low to high         mean over units
`Ratio`         a numerator and a denominator                        sum over sum
`Slow`          milliseconds                                         share of units beyond a limit
`Quantile`      milliseconds                                         a quantile over units
`Count`         a number of events                                   units with an event
=============== ==================================================== ========================
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal, TypeAlias

ERROR_RATE = "error_rate"
LATENCY = "latency_ms"
EDGE_METRICS = (ERROR_RATE, LATENCY)
"""What the edge measures by itself. Every other metric is reported by clients, as outcomes."""

GROUPS = 100
"""Hash groups of units, in each arm and stage, for outcomes that units give again and again."""


@dataclass(frozen=True, slots=True)
class Binary:
    """Success or failure."""

    kind: Literal["binary"] = "binary"


@dataclass(frozen=True, slots=True)
class Mean:
    """A number without natural bounds.

    Args:
        low, high: Values beyond are counted as these (winsorised), so that a few cannot decide.
        covariate: Outcomes carry a number known before the experiment, which explains part of
            their spread (CUPED).
    """

    low: float
    high: float
    covariate: bool = False
    kind: Literal["mean"] = "mean"


@dataclass(frozen=True, slots=True)
class Score:
    """A number between two bounds, on a grid.

    Args:
        step: Distance of neighbouring values; an outcome counts as the nearest.
    """

    low: float
    high: float
    step: float
    kind: Literal["score"] = "score"

    @property
    def grid(self) -> tuple[float, ...]:
        """Every value there is, in order."""
        steps = round((self.high - self.low) / self.step)
        return tuple(
            self.low + index * (self.high - self.low) / steps for index in range(steps + 1)
        )


@dataclass(frozen=True, slots=True)
class Ratio:
    """A sum over another, such as tokens per answer; units give to both again and again."""

    kind: Literal["ratio"] = "ratio"


@dataclass(frozen=True, slots=True)
class Slow:
    """Longer than `above_ms` milliseconds, at least once."""

    above_ms: int
    kind: Literal["slow"] = "slow"


@dataclass(frozen=True, slots=True)
class Quantile:
    """The time that the share `p` of units stays within, at their first request."""

    p: float
    kind: Literal["quantile"] = "quantile"


@dataclass(frozen=True, slots=True)
class Count:
    """Rare events, such as errors or complaints; a unit counts once however many it has."""

    kind: Literal["count"] = "count"


Kind: TypeAlias = Binary | Mean | Score | Ratio | Slow | Quantile | Count


class Per(StrEnum):
    """What is observed."""

    UNIT = "unit"
    """A unit's first outcome in a stage."""
    REQUEST = "request"
    """Every outcome. Those of one unit are not independent, so they are grouped by unit."""


@dataclass(frozen=True, slots=True)
class Metric:
    """Something measured.

    Args:
        window: An outcome counts if it comes within this time of its prediction, and is looked
            at once this time has passed, so that both arms are seen at the same age. None: an
            outcome is looked at as soon as it comes.
    """

    name: str
    kind: Kind
    per: Per = Per.UNIT
    window: timedelta | None = None

    @property
    def key(self) -> str:
        """What its evidence is kept under: `correct`, `latency_ms>250`, `latency_ms@99`."""
        match self.kind:
            case Slow(above_ms):
                return f"{self.name}>{above_ms}"
            case Quantile(p):
                return f"{self.name}@{100 * p:g}"
            case _:
                return self.name

    @property
    def at_edge(self) -> bool:
        """Whether the edge measures it, so that no client has to report it."""
        return self.name in EDGE_METRICS

    @property
    def counter(self) -> str:
        """Name that its evidence has in the store: all quantiles read one histogram."""
        return self.name if isinstance(self.kind, Quantile) else self.key


class Direction(StrEnum):
    """Which way the goal metric is meant to move."""

    INCREASE = "increase"
    DECREASE = "decrease"


class Worse(StrEnum):
    """Which way of a guardrail's metric is harm."""

    HIGHER = "higher"
    LOWER = "lower"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a challenger has to be better at.

    Args:
        min_effect: Smallest relative change worth acting on (0.01 is 1 %).
        baseline: The champion's value as known beforehand; it only tunes the test's power.
        spread: Standard deviation of the outcome as known beforehand; the same.
    """

    metric: Metric
    direction: Direction
    min_effect: float
    baseline: float | None = None
    spread: float | None = None


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What a challenger must not be worse at, by more than a margin.

    Args:
        max_ratio: Relative margin: harmful is more than `max_ratio` times the champion's value
            (for LOWER: less than the champion's value divided by it). None if absolute.
        max_difference: Absolute margin, in the metric's own unit. None if relative.
        negligible: For shares and counts: a rate of bad units so low that it does not matter.
    """

    metric: Metric
    worse: Worse
    max_ratio: float | None = None
    max_difference: float | None = None
    negligible: float | None = None
    baseline: float | None = None
    spread: float | None = None

    @property
    def key(self) -> str:
        return self.metric.key
