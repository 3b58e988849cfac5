"""Experiments with a shadow, and what was seen in it, told by hand."""

from dataclasses import replace

from experiments.decision import Plan
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.lifecycle import State
from experiments.model import BasisPoints, Declaration, Shadow
from experiments.pairs import Agreed, Paired
from experiments.stats.moments import Moments
from experiments.stats.paired import Pairs
from registry.refs import Version
from tests.unit.declared import DECLARATION, ERRORS, SLOW, START

SHADOW = Shadow(BasisPoints(2000), pairs=500, agreement=0.95, tolerance=0.01)
BEFORE_A_RAMP = replace(DECLARATION, shadow=SHADOW)
ALONE = replace(DECLARATION, ramp=(), goal=None, shadow=SHADOW)
BOTH = (BEFORE_A_RAMP, ALONE)
SEVERAL = tuple(map(Version, (7, 8, 9)))


def table(units: int, bad: tuple[int, int, int]) -> Pairs:
    """Return pairs of units: bad with the challenger alone, the champion alone, both."""
    challenger, champion, both = bad
    return Pairs(units - challenger - champion - both, challenger, champion, both)


def paired(
    units: int = 800,
    *,
    errors: tuple[int, int, int] = (0, 0, 0),
    slow: tuple[int, int, int] = (0, 0, 0),
    differ: int = 0,
    dropped: int = 0,
) -> Paired:
    """Return what a challenger has shown that differs from the champion in what is given."""
    return Paired(
        units=units,
        pairs=units,
        dropped=dropped,
        bad={ERRORS: table(units, errors), SLOW: table(units, slow)},
        agreed=Agreed(units - differ, differ),
        difference=Moments.of([0.0, 0.01] * (units // 2)),
        latency=Moments.of([1.0, 3.0] * (units // 2)),
        slower=units,
    )


def seen(
    *challengers: Paired, declaration: Declaration = BEFORE_A_RAMP, hot: bool = True
) -> Evidence:
    """Return evidence of the shadow alone."""
    shadow = dict(zip(declaration.challengers, challengers, strict=True))
    return Evidence((), shadow=shadow, rollback_target_hot=hot)


def plan_in_shadow(
    declaration: Declaration = BEFORE_A_RAMP, *, state: State = State.RAMPING
) -> Plan:
    return replace(Experiment.begin(declaration, Version(1), START).plan, state=state)
