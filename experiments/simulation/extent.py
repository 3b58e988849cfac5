"""How long a simulation goes on, and how often it looks, where nobody says."""

from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from experiments.model import WHOLE, Declaration
from experiments.simulation.generated import source_of
from experiments.simulation.truth import Truth, premises
from experiments.stats.planning import OPEN_ENDED_REACH, REFERENCE_POWER
from experiments.stats.power import fixed_units

LOOKS = 200
"""Batches, each with a look at its end, from the first unit to the last."""

FEWEST, MOST = 1_000, 20_000_000
"""Units that a simulation uses where nobody says."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much traffic there is.

    Args:
        units: That arrive at most, veterans included.
        batch: Units between two looks.
        rate: Units a second.
    """

    units: int
    batch: int
    rate: float


def extent_of(
    declaration: Declaration,
    truth: Truth,
    *,
    units: int | None = None,
    rate: float | None = None,
) -> Extent:
    """Return the extent for a declaration, from what is known of the traffic.

    Args:
        units: At most; where nobody says, the horizon with a quarter to spare, or for an
            open-ended experiment four times what a test at one look needs to find `min_effect`.
        rate: Units a second; where nobody says, all arrive within the longest runtime. Where it is
            known, units go on arriving as long as the ramp is held by its minimum runtime.
    """
    most = units if units is not None else _usual_units(declaration, truth)
    longest = declaration.limits.max_runtime.total_seconds()
    if rate is not None:
        if units is None:
            held = rate * declaration.limits.min_runtime.total_seconds()
            most = max(most, ceil(min(MOST, most + held)))
        most = max(1, min(most, ceil(rate * longest)))
    return Extent(most, max(1, ceil(most / LOOKS)), rate if rate is not None else most / longest)


def _usual_units(declaration: Declaration, truth: Truth) -> int:
    before = _in_shadow(declaration)
    return _rounded(before) if declaration.shadow_only else before + _on_ramp(declaration, truth)


def _in_shadow(declaration: Declaration) -> int:
    """Return units that the shadow may use: more than it asks for, to show what it asks."""
    shadow = declaration.shadow
    if shadow is None:
        return 0
    return _LONGER * shadow.pairs * len(declaration.challengers) * WHOLE // shadow.share


def _on_ramp(declaration: Declaration, truth: Truth) -> int:
    ramp = declaration.ramp
    least = 8 * declaration.limits.min_units * len(declaration.challengers) * WHOLE / ramp[-1]
    floor_share = ramp[-2] / WHOLE if declaration.returning and len(ramp) > 1 else 0.0
    if declaration.horizon is not None:
        return _rounded(max(least, _SPARE * declaration.horizon.units / (1.0 - floor_share)))
    premise = premises(declaration, truth)[0]
    source = source_of(premise, truth, returning=declaration.returning)
    variance = source.relative_variance
    lane = ramp[-1] / len(declaration.challengers)
    needed = fixed_units(
        declaration.sought.min_effect,
        variances=(variance, variance),
        alpha=declaration.alpha.promote / len(declaration.challengers),
        power=REFERENCE_POWER,
        sides=1,
        share=lane / (lane + WHOLE - ramp[-1]),
    )
    # Units are also spent on other challengers, on veterans and on the champion's share.
    compared = (lane + WHOLE - ramp[-1]) / WHOLE - floor_share * lane / ramp[-1]
    wanted = OPEN_ENDED_REACH * needed / compared
    return _rounded(min(MOST, max(FEWEST, least, wanted if isfinite(wanted) else MOST)))


_SPARE = 1.25
_LONGER = 8


def _rounded(units: float) -> int:
    """Round up to two digits.

    Examples:
        >>> _rounded(12_345), _rounded(990.5)
        (13000, 1000)
    """
    scale = 10 ** max(0, floor(log10(units)) - 1)
    return int(ceil(units / scale) * scale)
