"""What was counted, per stage: a stretch of time with constant allocation."""

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """Which departure from the null counts as evidence, seen from the treatment."""

    TWO_SIDED = "two_sided"
    GREATER = "greater"
    LESS = "less"


@dataclass(frozen=True, slots=True)
class StageCounts:
    """Units with a binary outcome in one stage; each unit is counted once."""

    treatment_successes: int
    treatment_failures: int
    control_successes: int
    control_failures: int
    share: float
    """Probability that a unit of this stage was sent to the treatment."""

    def __post_init__(self) -> None:
        _require_share(self.share)
        _require_counts(
            self.treatment_successes,
            self.treatment_failures,
            self.control_successes,
            self.control_failures,
        )


@dataclass(frozen=True, slots=True)
class StageEvents:
    """How often something happened in each arm in one stage, without denominators."""

    treatment: int
    control: int
    share: float
    """Probability that an event falls on the treatment if the arms have equal rates."""

    def __post_init__(self) -> None:
        _require_share(self.share)
        _require_counts(self.treatment, self.control)


def _require_share(share: float) -> None:
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must lie strictly between 0 and 1, got {share}")


def _require_counts(*counts: int) -> None:
    if min(counts) < 0:
        raise ValueError(f"counts must not be negative, got {counts}")
