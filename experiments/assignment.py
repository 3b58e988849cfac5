"""Which variant a unit meets: the reference that the edge's Lua agrees with, bit for bit.

A unit's bucket depends on the experiment's salt and the unit alone. The challenger owns the
buckets below the cut, so raising the cut moves units in and never out, and two experiments
divide the same units independently of each other.
"""

import xxhash

from experiments.errors import UnitEmpty, UnitTooLong
from experiments.model import WHOLE, BasisPoints, Variant

BUCKETS = int(WHOLE)
SLOTS = 1 << 22
"""Distinct units are counted by slot; two units share one with probability 1 in 4 million."""

MAX_UNIT_BYTES = 256

NO_FLOOR = BasisPoints(0)

# A bucket tells the variant and a slot the unit, so they must not depend on each other.
_BUCKET_SEED = 0
_SLOT_SEED = 1


def unit_bytes(value: str | bytes) -> bytes:
    """Return the unit that a header value names: its bytes without the blanks around them.

    Raises:
        UnitEmpty: nothing is left.
        UnitTooLong: more than 256 bytes are left.

    Examples:
        >>> unit_bytes(" user-1 ")
        b'user-1'
    """
    raw = value.encode() if isinstance(value, str) else value
    unit = raw.strip(b" \t")
    if not unit:
        raise UnitEmpty("the header that names the unit is empty")
    if len(unit) > MAX_UNIT_BYTES:
        raise UnitTooLong(f"the header that names the unit has {len(unit)} bytes")
    return unit


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


def assign(unit: bytes, *, salt: str, cut: BasisPoints, floor: BasisPoints = NO_FLOOR) -> Variant:
    """Return the variant that meets `unit`.

    Args:
        cut: How many of the 10,000 buckets, from the first, meet the challenger.
        floor: How many of these did so in an earlier stage, and are veterans now.
    """
    number = bucket(unit, salt=salt)
    if number >= cut:
        return Variant.CHAMPION
    return Variant.CHALLENGER if number >= floor else Variant.VETERAN


def _key(unit: bytes, salt: str) -> bytes:
    return salt.encode() + b"/" + unit
