"""What the demo promises, and what it has seen of it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from serving.demo.models import BETTER, FIRST, FRAGILE, MISLABELLED
from serving.demo.traffic import METRIC

GUARDRAILS = {"error_rate", "latency_ms>500"}


class BrokenPromise(Exception):
    """The story cannot be told to its end, because this part of it did not come true."""


@dataclass(slots=True)
class Seen:
    """What the last line of the demo says; None is what did not happen.

    Args:
        requests, failed_requests: Everything that clients sent, and what got no valid prediction.
        promoted: The version that an experiment promoted; it took so many seconds, and so many
            units of both variants.
        harm_rollback, fault_rollback: The versions that were rolled back for the goal, and for a
            guardrail, and the seconds from the start of the experiment to its end.
        manual_rollback: From which version to which a person went back.
        rollback_ms: From that command to the last edge's word that it obeys.
        receipts: Links of the model's chain of receipts, each recomputed with the same result.
    """

    requests: int = 0
    failed_requests: int = 0
    promoted: int | None = None
    promote_seconds: float | None = None
    promote_units: int | None = None
    harm_rollback: int | None = None
    harm_seconds: float | None = None
    fault_rollback: int | None = None
    fault_seconds: float | None = None
    manual_rollback: dict[str, int] | None = None
    rollback_ms: float | None = None
    receipts: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as the fields of a JSON object."""
        return asdict(self)


def broken(seen: Seen) -> Iterator[str]:
    """Name every promise that did not hold, in words."""
    if seen.requests == 0:
        yield "No client was ever served."
    if seen.failed_requests:
        yield f"{seen.failed_requests} of {seen.requests} client requests failed; none may."
    expected = {
        "promoted": BETTER,
        "harm_rollback": MISLABELLED,
        "fault_rollback": FRAGILE,
        "manual_rollback": {"from": BETTER, "to": FIRST},
    }
    for name, value in expected.items():
        if (found := getattr(seen, name)) != value:
            yield f"{name} should be {value} and is {found}."
    if not seen.receipts:
        yield "No receipt was replayed."


def for_the_goal(culprits: list[str]) -> bool:
    """Whether a rollback named the goal metric, and nothing else."""
    return culprits == [METRIC]


def for_a_guardrail(culprits: list[str]) -> bool:
    """Whether a rollback named guardrails, and nothing else."""
    return bool(culprits) and set(culprits) <= GUARDRAILS
