"""Values that go into moments, as both adapters take them."""

from collections.abc import Iterable

from experiments.store import Batch, OutcomeRecord
from experiments.store.slots import check_slots

LARGEST = 1e100
"""Beyond it, sums of squares of as many values as can be counted would overflow."""


def check_pairs(outcomes: Iterable[OutcomeRecord]) -> None:
    """Let nothing near moments that would spoil them for good.

    Raises:
        ValueError: a value is not a number, or too large.
    """
    _check(value for outcome in outcomes if outcome.pair is not None for value in outcome.pair)


def check_batch(batch: Batch) -> None:
    """The same for a batch, and let nothing near a bitmap that would make it grow.

    Raises:
        ValueError: a value is not a number, or too large; a slot is none.
    """
    for slots in batch.slots.values():
        check_slots(slots)
    for values in batch.values.values():
        check_slots([slot for slot, _ in values if slot is not None])
        _check(value for _, value in values)


def _check(values: Iterable[float]) -> None:
    if not all(abs(value) <= LARGEST for value in values):
        raise ValueError(f"values are numbers from {-LARGEST} to {LARGEST}")
