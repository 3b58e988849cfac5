"""Which variant a unit meets: the reference that the edge's Lua agrees with, bit for bit.

A unit's bucket and lane depend on the experiment's salt and the unit alone. Each challenger owns a
lane, and in it the buckets below the cut. So raising the cut moves units in and never out, dropping
a challenger moves nobody in another lane, and two experiments divide the same units independently
of each other. Whether a unit can be in the experiment at all depends on the model and the layer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import xxhash

from experiments.model import WHOLE, BasisPoints, Variant
from registry.refs import ModelName, Version

BUCKETS = int(WHOLE)
SLOTS = 1 << 22
"""Distinct units are counted by slot; two units share one with probability 1 in 4 million."""

NO_FLOOR = BasisPoints(0)

NO_SEGMENT = 0
"""Segment of every unit that is in none of those declared."""

# A bucket tells whether a unit meets a challenger, a lane which one, a slot the unit itself, and
# two more buckets which experiments it can be in at all, so none of them may depend on another.
_BUCKET_SEED = 0
_SLOT_SEED = 1
_LANE_SEED = 2
_LAYER_SEED = 3
_HOLDOUT_SEED = 4


@dataclass(frozen=True, slots=True)
class Assigned:
    """What a unit meets.

    Args:
        variant: What it is counted as.
        version: What it is sent to: a challenger or the control.
    """

    variant: Variant
    version: Version


def bucket(unit: bytes, *, salt: str) -> int:
    """Return the unit's bucket, in 0..9999.

    Examples:
        >>> bucket(b"user-1", salt="digits-v2")
        3784
    """
    return xxhash.xxh32_intdigest(_key(unit, salt), _BUCKET_SEED) % BUCKETS


def slot(unit: bytes, *, salt: str) -> int:
    """Return the slot under which the unit is counted, in 0..4194303."""
    return xxhash.xxh32_intdigest(_key(unit, salt), _SLOT_SEED) % SLOTS


def lane(unit: bytes, *, salt: str, lanes: int) -> int:
    """Return the unit's lane, in 0..lanes-1."""
    return xxhash.xxh32_intdigest(_key(unit, salt), _LANE_SEED) % lanes


def layer_bucket(unit: bytes, *, layer: str) -> int:
    """Return the unit's bucket in a layer, in 0..9999: which experiment of the layer it can be in.

    Examples:
        >>> layer_bucket(b"user-1", layer="checkout")
        7828
    """
    return xxhash.xxh32_intdigest(_key(unit, f"layer/{layer}"), _LAYER_SEED) % BUCKETS


def holdout_bucket(unit: bytes, *, model: ModelName) -> int:
    """Return the unit's bucket in the holdout of a model, in 0..9999.

    It is the same in every experiment of the model. Buckets below the holdout's share meet no
    challenger.

    Examples:
        >>> holdout_bucket(b"user-1", model=ModelName("digits"))
        4507
    """
    return xxhash.xxh32_intdigest(_key(unit, f"holdout/{model}"), _HOLDOUT_SEED) % BUCKETS


def segment(value: str | bytes | None, values: Sequence[str]) -> int:
    """Return the segment that a header value names: its place in `values`, from 1.

    0 for any other value, and where there is no such header.

    Examples:
        >>> segment("pro", ("free", "pro")), segment("Pro", ("free", "pro"))
        (2, 0)
    """
    raw = value.encode() if isinstance(value, str) else value or b""
    known = [each.encode() for each in values]
    stripped = raw.strip(b" \t")
    return known.index(stripped) + 1 if stripped in known else NO_SEGMENT


def assign(
    unit: bytes,
    *,
    salt: str,
    challengers: Sequence[Version],
    control: Version,
    cut: BasisPoints,
    floor: BasisPoints = NO_FLOOR,
    dropped: Collection[Version] = (),
) -> Assigned:
    """Return what `unit` meets.

    Args:
        challengers: One for each lane, also if it has been dropped.
        control: The version that everybody else meets.
        cut: How many of the 10,000 buckets, from the first, meet their lane's challenger.
        floor: How many of these did so in an earlier stage, and are veterans now.
        dropped: Challengers whose units went back to the control. Some of these have met the
            challenger and the others have not, so they are all counted as veterans.

    Examples:
        >>> seven, eight = Version(7), Version(8)
        >>> assign(b"user-1", salt="s", challengers=[seven, eight], control=Version(1), cut=WHOLE)
        Assigned(variant=<Variant.CHALLENGER: 'challenger'>, version=7)
    """
    number = bucket(unit, salt=salt)
    if number >= cut:
        return Assigned(Variant.CHAMPION, control)
    challenger = challengers[lane(unit, salt=salt, lanes=len(challengers))]
    if challenger in dropped:
        return Assigned(Variant.VETERAN, control)
    variant = Variant.CHALLENGER if number >= floor else Variant.VETERAN
    return Assigned(variant, challenger)


def _key(unit: bytes, salt: str) -> bytes:
    return salt.encode() + b"/" + unit
