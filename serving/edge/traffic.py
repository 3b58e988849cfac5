"""How inferences were answered, by model, version and variant, for whoever watches an edge.

The evidence counts units, once and for good; this counts answers, since the agent started.
"""

from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from serving.edge.answers import Answer, Answers
from serving.metrics.exposition import Times
from serving.routes import NONE

MOST_SERIES = 256
"""Versions in a variant that are told of; the one that was seen longest ago makes room."""

UNFOLDED = 4096
"""Different answers that are only counted; looking at each takes a microsecond."""

_OUTSIDE = NONE.encode()
_STATUSES = {code: str(code) for code in range(100, 600)}
_NONE = "none"


class Key(NamedTuple):
    """Who was assigned; the variant is `none` outside of any experiment."""

    model: str
    version: str
    variant: str


@dataclass(slots=True)
class Answered:
    """How requests were answered.

    Args:
        requests: By status, and whether the fallback was asked.
    """

    requests: Counter[tuple[str, bool]] = field(default_factory=Counter)
    first: Times = field(default_factory=Times)
    took: Times = field(default_factory=Times)

    def add(self, answer: Answer, count: int) -> None:
        status = _STATUSES.get(answer.status, _NONE)
        self.requests[status, answer.failed_over] += count
        for times, ms in ((self.first, answer.first_ms), (self.took, answer.took_ms)):
            if ms >= 0:
                times.add(ms, count)


class Traffic:
    """Counts answers as batches are applied. They are looked at when somebody asks."""

    def __init__(self, *, most: int = MOST_SERIES) -> None:
        self._most = most
        self._answers = Answers()
        self._unfolded: Counter[tuple[Key, bytes]] = Counter()
        self._answered: OrderedDict[Key, Answered] = OrderedDict()

    def add(
        self,
        groups: Iterable[tuple[bytes, bytes, bytes, Mapping[bytes, int]]],
        routed: Container[bytes],
    ) -> None:
        """Count answers to requests for models that have a route.

        Args:
            groups: Model, version, variant and how often requests were answered how.
        """
        for model, version, variant, answers in groups:
            if model in routed:
                arm = _NONE if variant == _OUTSIDE else _text(variant)
                key = Key(_text(model), _text(version), arm)
                for answer, count in answers.items():
                    self._unfolded[key, answer] += count
        if len(self._unfolded) > UNFOLDED:
            self._fold()

    def answered(self) -> Mapping[Key, Answered]:
        """Return everything so far."""
        self._fold()
        return self._answered

    def _fold(self) -> None:
        for (key, answer), count in self._unfolded.items():
            self._answered.setdefault(key, Answered()).add(self._answers[answer], count)
            self._answered.move_to_end(key)
        self._unfolded.clear()
        while len(self._answered) > self._most:
            self._answered.popitem(last=False)


def _text(part: bytes) -> str:
    return part.decode("ascii", "replace")
