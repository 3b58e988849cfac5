"""Whether two versions gave the same answer, and how far apart their answers lie. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np

from registry.tensors import Array
from serving.edge.shadow.answer import Answer, Incomparable, Values, values


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a challenger's answer is, beside the champion's to the same request.

    Args:
        agreed: None where the champion failed: there is nothing to agree with.
        difference: The mean over all elements of how far each lies from its counterpart: the
            absolute difference of two numbers; for anything else 0 if they are equal and 1 if
            not. None where the answers have different forms, or a number is as far from its
            counterpart as no number can tell.
    """

    agreed: bool | None
    difference: float | None = None


def compare(champion: Answer, challenger: Answer, *, tolerance: float) -> Likeness:
    """Compare two answers to one request.

    Both agree if they have the same outputs, of the same datatypes and shapes, and every element
    agrees with its counterpart. Fractions agree if they are both NaN or no further apart than
    `tolerance` or, if one of them is larger than 1, than `tolerance` times that. Whole numbers,
    booleans and strings agree if they are equal. Two refusals agree if their status is the same.
    What cannot be read agrees if it is the same, byte for byte.

    Examples:
        >>> one, two = (Answer(200, body=b'{"predictions": [%s]}' % n) for n in (b"0.5", b"0.75"))
        >>> compare(one, two, tolerance=0.01)
        Likeness(agreed=False, difference=0.25)
    """
    if champion.failed:
        return Likeness(None)
    if not (champion.succeeded and challenger.succeeded):
        return Likeness(champion.status == challenger.status)
    try:
        ours, theirs = values(champion), values(challenger)
    except Incomparable:
        return Likeness(champion.body == challenger.body)
    if _forms(ours) != _forms(theirs):
        return Likeness(False)
    measured = [_measure(one, theirs[name], tolerance) for name, one in ours.items()]
    distances = np.concatenate([np.zeros(0), *(distance for _, distance in measured)])
    with np.errstate(over="ignore"):
        difference = float(distances.mean()) if distances.size else 0.0
    agreed = all(close for close, _ in measured)
    return Likeness(agreed, difference if isfinite(difference) else None)


def _forms(parts: Mapping[str, Values]) -> dict[str, str]:
    return {name: each.form for name, each in parts.items()}


def _measure(one: Values, other: Values, tolerance: float) -> tuple[bool, Array]:
    """Return whether all elements agree, and the distance of each from its counterpart."""
    equal = np.asarray(one.elements == other.elements, dtype=np.bool_)
    if not one.numeric:
        return bool(equal.all()), 1.0 - equal
    with np.errstate(invalid="ignore", over="ignore"):
        ours, theirs = one.elements.astype(np.float64), other.elements.astype(np.float64)
        same = equal | (np.isnan(ours) & np.isnan(theirs))
        distance = np.where(same, 0.0, np.abs(ours - theirs))
        room = tolerance * np.maximum(1.0, np.maximum(np.abs(ours), np.abs(theirs)))
        near = np.isfinite(distance) & (distance <= room) & (one.approximate | other.approximate)
    return bool((same | near).all()), distance
