"""What was seen in the shadow: pairs of answers, the champion's and a challenger's to one request.

A unit gives one pair a stage, its first, so pairs do not resemble each other more than units do.
Nobody met the challenger, so none of this is evidence about users: it is kept apart from stages
that users are divided in, and no unit of it is a veteran later.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from experiments.metric import ERROR_RATE, Count, Goal, Guardrail, Metric, Slow
from experiments.model import Declaration, Stage, Variant
from experiments.stats.moments import EMPTY, Moments
from experiments.stats.paired import Pairs
from experiments.store import Readings
from registry.refs import Version

PAIRS = "pairs"
"""Counter of all pairs, those of units that had given one before included."""
DROPPED = "pairs_dropped"
"""Counter of requests that were to be repeated, and of which there is no pair."""
AGREEMENT = "agreement"
"""Counter of units by whether both answers agree, where the champion gave one to agree with."""
SLOWER = "pair_slower"
"""Counter of units by whether the challenger took longer, where both answered."""
DIFFERENCE = "pair_difference"
"""Moments of how far both outputs lie apart."""
LATENCY_DIFFERENCE = "pair_latency"
"""Moments of the milliseconds that the challenger took longer, where both answered."""

PAIR_ERROR = "pair_error"
PAIR_SLOW = "pair_slow>"

NO_PAIRS = Pairs(0, 0, 0, 0)


def pair_counter(metric: Metric) -> str | None:
    """Return the counter of pairs by which answer was bad; None if pairs do not tell that.

    Examples:
        >>> pair_counter(Metric("latency_ms", Slow(250)))
        'pair_slow>250'
    """
    match metric.kind:
        case Count() if metric.name == ERROR_RATE:
            return PAIR_ERROR
        case Slow(above_ms) if metric.at_edge:
            return f"{PAIR_SLOW}{above_ms}"
    return None


def compared_in_pairs(declaration: Declaration) -> tuple[Goal | Guardrail, ...]:
    """Return what pairs of answers tell something of."""
    return tuple(asked for asked in declaration.asked if pair_counter(asked.metric) is not None)


@dataclass(frozen=True, slots=True)
class Agreed:
    """Units by whether both answers to their request agree."""

    yes: int = 0
    no: int = 0

    @property
    def n(self) -> int:
        return self.yes + self.no


@dataclass(frozen=True, slots=True)
class Paired:
    """One challenger's answers in the shadow, beside the champion's.

    Args:
        units: Distinct units with a pair.
        pairs, dropped: Requests that were repeated and compared, and that were not.
        bad: By metric key, units by which of their answers was bad.
        agreed: Of pairs in which the champion gave an answer to agree with. A challenger that gave
            none does not agree.
        difference: How far the outputs lie apart, where they are of the same form.
        latency: Milliseconds that the challenger took longer, where both answered.
        slower, faster: Units by whether the challenger took longer, where both answered.
    """

    units: int = 0
    pairs: int = 0
    dropped: int = 0
    bad: Mapping[str, Pairs] = field(default_factory=dict)
    agreed: Agreed = Agreed()
    difference: Moments = EMPTY
    latency: Moments = EMPTY
    slower: int = 0
    faster: int = 0

    def bad_of(self, metric: Metric) -> Pairs:
        return self.bad.get(metric.key, NO_PAIRS)

    @property
    def dropped_share(self) -> float:
        """Of the requests that were to be repeated, how many gave no pair."""
        return self.dropped / (self.pairs + self.dropped) if self.dropped else 0.0


NO_PAIR = Paired()


def gather_pairs(
    declaration: Declaration, stages: Iterable[Stage], readings: Readings
) -> dict[Version, Paired]:
    """Arrange what the store has of pairs by challenger; nothing where there was no shadow."""
    return {
        version: _paired(declaration, stage, version, readings)
        for stage in stages
        if stage.shadow
        for version in stage.challengers
    }


def _paired(declaration: Declaration, stage: Stage, version: Version, readings: Readings) -> Paired:
    counts: dict[str, int] = defaultdict(int)
    moments: dict[str, Moments] = defaultdict(lambda: EMPTY)
    ours = (stage.number, Variant.CHALLENGER, version)
    for cell, count in readings.counts.items():
        if (cell.stage, cell.variant, cell.version) == ours:
            counts[cell.counter] += count
    for cell, found in readings.moments.items():
        if (cell.stage, cell.variant, cell.version) == ours:
            moments[cell.name] = moments[cell.name].merged(found)

    def table(counter: str | None) -> Pairs:
        neither, challenger, champion, both = (counts[f"{counter}:{index}"] for index in range(4))
        return Pairs(neither, challenger, champion, both)

    return Paired(
        units=table(PAIR_ERROR).n,
        pairs=counts[PAIRS],
        dropped=counts[DROPPED],
        bad={
            asked.metric.key: table(pair_counter(asked.metric))
            for asked in compared_in_pairs(declaration)
        },
        agreed=Agreed(counts[f"{AGREEMENT}:1"], counts[f"{AGREEMENT}:0"]),
        difference=moments[DIFFERENCE],
        latency=moments[LATENCY_DIFFERENCE],
        slower=counts[f"{SLOWER}:1"],
        faster=counts[f"{SLOWER}:0"],
    )
