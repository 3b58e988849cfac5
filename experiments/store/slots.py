"""Slot numbers of units, as both adapters take them."""

from collections.abc import Collection

SLOTS = 2**22
"""How many units an experiment can tell apart; two units share a slot about once in SLOTS."""


def check_slots(slots: Collection[int]) -> None:
    """Let nothing near a bitmap that would make it grow.

    Raises:
        ValueError: a slot is not in 0..SLOTS-1.
    """
    if slots and not (min(slots) >= 0 and max(slots) < SLOTS):
        raise ValueError(f"slots are numbers from 0 to {SLOTS - 1}")
