"""How requests were answered, as the end of their lines says it: read once for all that end alike.

Most answers of a busy edge end in one of a few hundred ways, and looking one up costs a fraction of
reading it.
"""

from typing import NamedTuple

from serving.edge.logline import BROKEN_OFF, FAILOVER
from serving.routes import NONE

_REMEMBERED = 1 << 14


class Answer(NamedTuple):
    """How a request was answered.

    Args:
        status: What the client got; -1 if it left, or the answer broke off, before a status.
        first_ms: Until the first byte of the answer; -1 if no answer began.
        took_ms: Until the last.
        failed_over: The assigned version did not answer, and the fallback was asked.
        failed: It is to be charged with a failure.
    """

    status: int
    first_ms: int
    took_ms: int
    failed_over: bool
    failed: bool


class Answers(dict[bytes, Answer]):
    """Answers by the last six fields of a line.

    Raises:
        ValueError: when one is looked up that is damaged.
    """

    def __missing__(self, tail: bytes) -> Answer:
        status, first, took, _, server, end = tail.decode("ascii").split("\t")
        code, failed_over = int(status), server == FAILOVER
        # 429 in a line is a host's that had too much to do, or of a failover that found no room.
        # What the edge turns away before a first try has no line.
        refused = code >= 500 or code < 0 or code == 429
        failed = refused or failed_over or end in BROKEN_OFF
        first_ms = -1 if first == NONE else int(first)
        if len(self) >= _REMEMBERED:
            self.clear()
        answer = self[tail] = Answer(code, first_ms, int(took), failed_over, failed)
        return answer
