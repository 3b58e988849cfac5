"""What has been seen: mergeable counts per stage and variant, and nothing else.

Every metric is one fact per unit (met a variant, met an error, met a slow answer, succeeded), and a
unit gives each fact at most once in a stage, so requests of one unit are never mistaken for
independent observations.

Units come back, and after a ramp step some of them are no longer randomised: whoever met the
challenger before meets it for certain. These veterans are counted apart. Everybody else is divided
anew: given that a unit's bucket is not below the last stage's cut, it is below the new cut with a
known probability, whatever the unit did before. So stages may be multiplied as if they had
different units.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from experiments.model import NOTHING, WHOLE, BasisPoints, Declaration, Stage, Variant
from experiments.store import Cell

LOST = "lost_bytes"
LATE = "late"


@dataclass(frozen=True, slots=True)
class Tally:
    """One variant in one stage.

    Args:
        requests: Requests assigned to the variant, whoever answered them.
        failovers: Those that the fallback answered.
        units: Distinct units that met the variant.
        bad: Distinct units with a bad event, by guardrail key.
        successes: Units whose goal outcome was 1.
        failures: Units whose goal outcome was 0.
    """

    requests: int = 0
    failovers: int = 0
    units: int = 0
    bad: Mapping[str, int] = field(default_factory=dict)
    successes: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class StageEvidence:
    """Both variants over one stretch of constant allocation.

    Args:
        share: Buckets below it met the challenger.
        floor: Buckets below it are veterans', and compared with nobody.
    """

    stage: int
    share: BasisPoints
    champion: Tally
    challenger: Tally
    veteran: Tally = Tally()
    floor: BasisPoints = NOTHING

    @property
    def probability(self) -> float:
        """Chance of a unit that is no veteran to meet the challenger, in this stage."""
        return (self.share - self.floor) / (WHOLE - self.floor)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a decision may look at, besides the clock.

    Args:
        rollback_target_hot: The champion is loaded, probed and has all its replicas.
        lost_bytes: Request log that was dropped before it was counted; 0 if complete.
        late: Outcomes that came after the attribution window, and were not counted.
    """

    stages: tuple[StageEvidence, ...]
    rollback_target_hot: bool = True
    lost_bytes: int = 0
    late: int = 0

    def challenger_units(self, stage: int | None = None) -> int:
        """Distinct units that met the challenger, in one stage or in all."""
        return sum(s.challenger.units for s in self.stages if stage is None or s.stage == stage)


def gather(
    declaration: Declaration,
    stages: Iterable[Stage],
    counters: Mapping[Cell, int],
    *,
    rollback_target_hot: bool,
) -> Evidence:
    """Arrange the store's counters by stage and variant."""
    return Evidence(
        stages=tuple(
            StageEvidence(
                stage=stage.number,
                share=stage.share,
                champion=_tally(declaration, stage, Variant.CHAMPION, counters),
                challenger=_tally(declaration, stage, Variant.CHALLENGER, counters),
                veteran=_tally(declaration, stage, Variant.VETERAN, counters),
                floor=stage.floor,
            )
            for stage in stages
        ),
        rollback_target_hot=rollback_target_hot,
        lost_bytes=_everywhere(counters, LOST),
        late=_everywhere(counters, LATE),
    )


def _everywhere(counters: Mapping[Cell, int], counter: str) -> int:
    return sum(count for cell, count in counters.items() if cell.counter == counter)


def _tally(
    declaration: Declaration, stage: Stage, variant: Variant, counters: Mapping[Cell, int]
) -> Tally:
    def count(counter: str) -> int:
        return counters.get(Cell(declaration.name, stage.number, variant, counter), 0)

    return Tally(
        requests=count("requests"),
        failovers=count("failovers"),
        units=count("units"),
        bad={guardrail.key: count(guardrail.key) for guardrail in declaration.guardrails},
        successes=count(f"{declaration.goal.metric}:1"),
        failures=count(f"{declaration.goal.metric}:0"),
    )
