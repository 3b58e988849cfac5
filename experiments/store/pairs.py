"""Values of outcomes, as both adapters take them."""

from collections.abc import Iterable

from experiments.store import OutcomeRecord

LARGEST = 1e100
"""Beyond it, sums of squares of as many values as can be counted would overflow."""


def check_pairs(outcomes: Iterable[OutcomeRecord]) -> None:
    """Let nothing near moments that would spoil them for good.

    Raises:
        ValueError: a value is not a number, or too large.
    """
    for outcome in outcomes:
        if outcome.pair is not None and not all(abs(value) <= LARGEST for value in outcome.pair):
            raise ValueError(f"values are numbers from {-LARGEST} to {LARGEST}")
