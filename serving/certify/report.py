"""What a certification has found, as values."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from registry.refs import VersionRef
from serving.hosts.faults import Fault

QUIET = "no_alarm"
FOUND = "rolled_back"


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial.

    Args:
        trial: `aa`, or the fault that was planted.
        expected, actual: `no_alarm`, or the state that the experiment came to: `rolled_back`,
            `halted`, `promoted`, `inconclusive`.
        seconds: How long the challenger was met before it was taken out; None if it was not.
        challenger_requests: Requests that met it.
        rescued: Those of them that the champion has answered in its place until it was taken out.
            What was under way then is answered by the champion too, and tells nothing of a fault.
        failed_requests: Requests of the lane's users that did not get a 200.
        reasons: Of the decision, as the controller has put them.
        receipt: Of the decision; `tiltyard replay` makes it again.
    """

    trial: str
    expected: str
    actual: str
    seconds: float | None
    challenger_requests: int
    requests: int
    rescued: int
    failed_requests: int
    reasons: tuple[str, ...]
    receipt: str | None

    @property
    def false_alarm(self) -> bool:
        return self.expected == QUIET and self.actual != QUIET

    @property
    def missed(self) -> bool:
        return self.expected == FOUND and self.actual != FOUND

    @property
    def passed(self) -> bool:
        return not (self.false_alarm or self.missed or self.failed_requests)


def expected_of(fault: Fault) -> str:
    """Return how the trial of a fault has to end."""
    return QUIET if fault is Fault.NONE else FOUND


@dataclass(frozen=True, slots=True)
class Certificate:
    """All trials of a certification.

    Args:
        version: The users' version, which every host of the lane has loaded.
        agreement: Share of questions to which the version gives the same answer twice. Below 1
            its answers are partly chance, and wrong ones are the harder to tell.
        learning_failures: Requests before the first trial that did not get a 200.
    """

    version: VersionRef
    at: datetime
    slow_ms: int
    agreement: float
    learning_failures: int
    trials: tuple[Tried, ...]
    failures: tuple[str, ...] = ()

    @property
    def false_alarms(self) -> int:
        return sum(each.false_alarm for each in self.trials)

    @property
    def misses(self) -> int:
        return sum(each.missed for each in self.trials)

    @property
    def failed_requests(self) -> int:
        return self.learning_failures + sum(each.failed_requests for each in self.trials)

    @property
    def certified(self) -> bool:
        return not (self.false_alarms or self.misses or self.failed_requests)

    def as_dict(self) -> dict[str, Any]:
        """Return the certificate for a program."""
        return {
            "model": self.version.model,
            "version": self.version.version,
            "at": self.at.isoformat(),
            "certified": self.certified,
            "summary": {
                "trials": len(self.trials),
                "passed": sum(each.passed for each in self.trials),
                "false_alarms": self.false_alarms,
                "misses": self.misses,
                "failed_requests": self.failed_requests,
                "requests": sum(each.requests for each in self.trials),
                "rescued": sum(each.rescued for each in self.trials),
            },
            "slow_ms": self.slow_ms,
            "agreement": self.agreement,
            "trials": [
                asdict(each)
                | {
                    "reasons": list(each.reasons),
                    "passed": each.passed,
                    "false_alarm": each.false_alarm,
                    "missed": each.missed,
                }
                for each in self.trials
            ],
            "failures": list(self.failures),
        }
