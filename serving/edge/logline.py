"""One line of the request log: what HAProxy says about one inference.

The counting of evidence (`serving.edge.aggregate`) splits lines itself, because it handles tens
of thousands a second; this is the line as a value, for tests, benches and people.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from experiments.model import ExperimentName, Variant
from registry.refs import ModelName, Version
from serving.errors import UnreadableLogLine
from serving.routes import NONE

FORMAT = "3"
FAILOVER = "failover"

BROKEN_OFF = frozenset({"SD", "SL", "sD", "sL", "PD", "PL"})
"""How requests end whose answer had begun: its server left or fell silent, or what came was no
HTTP any more. Then the status, which had been sent before, is not to be believed."""

_FIELDS = 17
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class RequestLine:
    """An inference, charged to the version that was assigned whichever one answered.

    Args:
        number: Of the line, by HAProxy's own count since it started: the first is 1.
        at: When the request was routed, to the millisecond.
        experiment, stage, variant: None outside an experiment.
        slot: None where the request was a unit of its own.
        segment: Index of the declared segment, from 1; 0 for all others.
        status: What the client got; -1 if it left, or the answer broke off, before a status.
        first: From `at` to the first byte of the answer; None if no answer began.
        took: From the request's first byte to the answer's last.
        retries: Tries beyond the first.
        server: `host`, or `failover` if the fallback had to be asked.
        end: How it ended, in HAProxy's two letters; `--` if all of the answer was sent.
    """

    number: int
    at: datetime
    epoch: int
    model: ModelName
    version: Version
    experiment: ExperimentName | None
    stage: int | None
    variant: Variant | None
    slot: int | None
    segment: int
    status: int
    first: timedelta | None
    took: timedelta
    retries: int
    server: str
    end: str

    @property
    def failed_over(self) -> bool:
        """Whether the assigned version could not answer."""
        return self.server == FAILOVER

    @property
    def broke_off(self) -> bool:
        """Whether an answer that had begun was cut short by the side that gave it."""
        return self.end in BROKEN_OFF


def parse(line: str) -> RequestLine:
    """Return what a line of the log says; its line end may be there or not.

    Raises:
        UnreadableLogLine: the line is damaged, or of another format.
    """
    fields = line.rstrip("\n").split("\t")
    if len(fields) != _FIELDS or fields[0] != FORMAT:
        raise UnreadableLogLine(f"not a line of the request log: {line!r}")
    _, number, at, epoch, model, version, experiment, stage, variant, slot, *answer = fields
    segment, status, first, took, retries, server, end = answer
    try:
        return RequestLine(
            number=int(number),
            at=_EPOCH + timedelta(milliseconds=int(at)),
            epoch=int(epoch),
            model=ModelName(model),
            version=Version(int(version)),
            experiment=None if experiment == NONE else ExperimentName(experiment),
            stage=None if stage == NONE else int(stage),
            variant=None if variant == NONE else Variant(variant),
            slot=None if slot == NONE else int(slot),
            segment=int(segment),
            status=int(status),
            first=None if first == NONE else timedelta(milliseconds=int(first)),
            took=timedelta(milliseconds=int(took)),
            # HAProxy writes `+1` if the last retry went to another server.
            retries=int(retries),
            server=server,
            end=end,
        )
    except ValueError as error:
        raise UnreadableLogLine(f"not a line of the request log: {line!r}") from error
