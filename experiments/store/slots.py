"""Slot numbers of units, as both adapters take them."""

from collections.abc import Collection

from experiments.store import Batch, Cell

SLOTS = 2**22
"""How many units an experiment can tell apart; two units share a slot about once in SLOTS."""


def units_in_order(batch: Batch) -> list[tuple[Cell, frozenset[int]]]:
    """Return the cells of `batch` that count units, earliest stage first.

    A unit that a batch meets in two stages belongs to the earlier one, whichever way round the
    collector wrote them down.

    Raises:
        ValueError: a slot is not in 0..SLOTS-1.
    """
    for slots in batch.slots.values():
        check_slots(slots)
    return sorted(batch.slots.items(), key=lambda item: item[0].stage)


def check_slots(slots: Collection[int]) -> None:
    """Let nothing near a bitmap that would make it grow.

    Raises:
        ValueError: a slot is not in 0..SLOTS-1.
    """
    if slots and not (min(slots) >= 0 and max(slots) < SLOTS):
        raise ValueError(f"slots are numbers from 0 to {SLOTS - 1}")
