"""Which part of all units meets which arm, read off the assignment that the edge follows."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import count

from experiments.assignment import assign, bucket, lane
from experiments.model import NOTHING, WHOLE, BasisPoints, Stage, Variant
from registry.refs import Version

CHAMPION = None
"""Stands for the champion where challengers are named by their version."""

CONTROL = Version(0)
"""No challenger has this version: they count from 1."""

_SALT = "simulation"


def parts_of(stage: Stage, dropped: tuple[Version, ...]) -> Mapping[Version | None, float]:
    """Return the part of all units that each arm meets; the rest are veterans.

    Args:
        dropped: Challengers that are no longer on trial.
    """
    return _parts(stage.challengers, stage.share, stage.floor, dropped)


@lru_cache(maxsize=256)
def _parts(
    challengers: tuple[Version, ...],
    share: BasisPoints,
    floor: BasisPoints,
    dropped: tuple[Version, ...],
) -> dict[Version | None, float]:
    """Ask, for one unit of each lane and stretch of buckets, what all of them meet."""
    found: dict[Version | None, float] = {}
    lanes = len(challengers)
    for number in range(lanes):
        for low, high in ((NOTHING, floor), (floor, share), (share, WHOLE)):
            if low == high:
                continue
            met = assign(
                _unit(lanes, number, low, high),
                salt=_SALT,
                challengers=challengers,
                control=CONTROL,
                cut=share,
                floor=floor,
                dropped=dropped,
            )
            if met.variant is Variant.VETERAN:
                continue
            arm = CHAMPION if met.variant is Variant.CHAMPION else met.version
            found[arm] = found.get(arm, 0.0) + (high - low) / WHOLE / lanes
    return found


@lru_cache(maxsize=1024)
def _unit(lanes: int, number: int, low: int, high: int) -> bytes:
    """Return some unit of this lane whose bucket is one of these."""
    return next(
        unit
        for unit in (b"%d" % each for each in count())
        if low <= bucket(unit, salt=_SALT) < high and lane(unit, salt=_SALT, lanes=lanes) == number
    )
