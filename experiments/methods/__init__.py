"""How each kind of metric is compared: the port between what is declared and the statistics.

One `Method` answers every question about a metric: is the challenger better, is it worse, is it
within its margin, and how large is the difference. `experiments.methods.choice` says which method
suits what is randomised and what is observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias

from experiments.evidence import Sample
from experiments.stats.contrast import Estimate
from experiments.stats.intervals import Insufficient, Interval, IntervalOrNot
from experiments.stats.stages import Side


class Aim(StrEnum):
    """What a test is for. It tunes where the test is sharpest, never whether it is valid."""

    BETTER = "better"
    HARM = "harm"
    SAFE = "safe"


@dataclass(frozen=True, slots=True)
class Margin:
    """The null's border: treatment = ratio x control + difference."""

    ratio: float = 1.0
    difference: float = 0.0


NO_MARGIN = Margin()


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric in one stage: a challenger (treatment) beside the champion (control).

    Args:
        share: Probability that a unit of the two met the challenger.
    """

    treatment: Sample
    control: Sample
    treatment_units: int
    control_units: int
    share: float


Stages: TypeAlias = Sequence[Compared]


@dataclass(frozen=True, slots=True)
class Effect:
    """How large the difference is, on one scale.

    Args:
        scale: `difference`, challenger minus champion in the metric's own unit, or `ratio`,
            challenger over champion.
    """

    scale: Literal["difference", "ratio"]
    interval: IntervalOrNot


@dataclass(frozen=True, slots=True)
class Shrunk:
    """An estimate drawn towards no effect, as far as chance may have carried it off.

    A difference that was looked at until it was large enough is, on average, larger than the
    truth (winner's curse). This is the mean of what is left to believe, starting from a normal
    prior of the width that the test was tuned to.
    """

    scale: Literal["difference", "ratio"]
    value: float


@dataclass(frozen=True, slots=True)
class Level:
    """What one arm shows by itself.

    Args:
        value: A share from 0 to 1, milliseconds, or the metric's own unit; None without data.
        words: The same for people, and how much it rests on.
    """

    value: float | None
    words: str

    def __str__(self) -> str:
        return self.words


NO_LEVEL = Level(None, "nothing yet")


@dataclass(frozen=True, slots=True)
class Design:
    """What was known, or asked for, before the experiment; it never changes with the data.

    Args:
        effect: Relative change that matters: the goal's `min_effect`, or a guardrail's margin.
        baseline: The champion's value.
        spread: Standard deviation of an outcome.
        difference: Absolute change that matters, if that was declared.
        negligible: Rate of bad units that does not matter.
    """

    effect: float
    baseline: float | None = None
    spread: float | None = None
    difference: float | None = None
    negligible: float | None = None


class Comparison(Protocol):
    """One metric of one challenger, beside the champion, ready to be asked about."""

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        """Return the evidence that the treatment lies beyond the margin, on `side` of it.

        Returns:
            A log e-value for the null that it does not; 0 without data, never NaN.
        """

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        """Return how large the difference is, at all times at once; the main scale first."""

    def shrunk(self) -> Shrunk | Insufficient:
        """Return the estimate on the main scale, corrected for having been looked at."""

    def estimate(self) -> Estimate | Insufficient:
        """Return difference and standard error, for tests by normal approximation.

        Where the main scale is the ratio, it is the difference of logarithms.
        """


class Method(Protocol):
    """How one metric is compared. Pure; everything may be asked at every look."""

    def compare(self, stages: Stages) -> Comparison:
        """Return the comparison of what was seen, each stage within itself."""

    def level(self, samples: Sequence[Sample], units: int) -> Level:
        """Return what one arm shows, as a number and in words."""


__all__ = [
    "NO_LEVEL",
    "NO_MARGIN",
    "Aim",
    "Compared",
    "Comparison",
    "Design",
    "Effect",
    "Insufficient",
    "Interval",
    "Level",
    "Margin",
    "Method",
    "Shrunk",
    "Side",
    "Stages",
]
