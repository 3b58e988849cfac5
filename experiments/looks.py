"""Looking at the goal within a horizon: how often, and from which z-score on it has spoken.

An e-value may be looked at for ever; that costs sample. Who declares beforehand after how many
units the last look is taken may spend the error rate over the looks instead (alpha spending). What
is spent depends on the looks that were taken, so each is written down before anything is decided
from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from experiments.comparison import compared
from experiments.evidence import Evidence
from experiments.methods.choice import is_grouped, method_of
from experiments.metric import Count, Direction, Slow
from experiments.model import Declaration
from experiments.stats.intervals import Insufficient
from experiments.stats.spending import boundary
from registry.refs import Version

LOOKS = 100
"""A look is due whenever another hundredth of the horizon has been seen."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at one challenger's goal.

    Args:
        time: Units seen, in parts of the horizon.
        information: How much has been learnt: the variance of the sum that is looked at, or one
            over the squared standard error where it is no sum.
        crossed: The z-score had reached the boundary.
    """

    version: Version
    time: float
    information: float
    crossed: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """Superiority within a horizon.

    Args:
        z: How many standard errors the goal has moved the way it was meant to, now; None while
            nothing can be said.
        boundary: What `z` had to reach at the last look; infinite before the first.
        time: Units seen by now, in parts of the horizon.
        reached: Some look has crossed its boundary.
        over: The last look has been taken.
    """

    metric: str
    z: float | None
    boundary: float
    time: float
    reached: bool
    over: bool


def spent(
    declaration: Declaration, evidence: Evidence, version: Version, looks: Sequence[Look]
) -> Spent:
    """Say how a challenger's goal stands, from the looks that were written down."""
    own = [look for look in looks if look.version == version]
    found = _z(declaration, evidence, version)
    return Spent(
        metric=declaration.sought.metric.key,
        z=None if found is None else found[0],
        boundary=_boundary(declaration, own) if own else inf,
        time=time_of(declaration, evidence),
        reached=any(look.crossed for look in own),
        over=bool(own) and own[-1].time >= 1.0,
    )


def due(
    declaration: Declaration, evidence: Evidence, version: Version, looks: Sequence[Look]
) -> Look | None:
    """Take the next look at a challenger's goal, if it is time for one.

    *Source*: Lan and DeMets (1983), Biometrika 70(3): looks may come at any time that does not
    depend on the result. Time here is units seen; what has been learnt is information.
    """
    own = [look for look in looks if look.version == version]
    time = min(1.0, time_of(declaration, evidence))
    last = own[-1].time if own else 0.0
    if last >= 1.0 or any(look.crossed for look in own):
        return None
    if time < 1.0 and time - last < 1 / LOOKS:
        return None
    found = _z(declaration, evidence, version)
    if found is None:
        return Look(version, 1.0, own[-1].information if own else 1.0, False) if time >= 1 else None
    z, information = found
    look = Look(version, time, information, crossed=False)
    limit = _boundary(declaration, [*own, look])
    return Look(version, time, information, crossed=z >= limit)


def time_of(declaration: Declaration, evidence: Evidence) -> float:
    """Return how far the horizon is reached: 1 is its end."""
    assert declaration.horizon is not None
    goal = declaration.sought.metric
    # Events and repeated outcomes have no one outcome a unit, so the units that came are counted.
    by_outcome = not (
        isinstance(goal.kind, Count)
        or (isinstance(goal.kind, Slow) and goal.at_edge)
        or is_grouped(goal, returning=declaration.returning)
    )
    seen = 0
    for stage in evidence.stages:
        for tally in (stage.champion, *stage.challengers.values()):
            sample = tally.sample(goal.key)
            outcomes = sum(sample.counts.values()) + sum(m.n for m in sample.moments.values())
            seen += outcomes if by_outcome else tally.units_of(goal.key)
    return seen / declaration.horizon.units


def _boundary(declaration: Declaration, looks: Sequence[Look]) -> float:
    alpha = declaration.alpha.promote / len(declaration.challengers)
    return boundary(tuple((look.time, look.information) for look in looks), alpha=alpha)


def _z(
    declaration: Declaration, evidence: Evidence, version: Version
) -> tuple[float, float] | None:
    goal = declaration.sought
    method = method_of(goal, returning=declaration.returning)
    found = method.compare(compared(goal.metric, evidence.stages, version)).estimate()
    if isinstance(found, Insufficient):
        return None
    sign = 1.0 if goal.direction is Direction.INCREASE else -1.0
    return sign * found.value / found.error, found.clock
