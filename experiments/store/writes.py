"""Writes of several documents, as both adapters take and refuse them."""

from collections.abc import Sequence

from experiments.errors import StaleRevision
from experiments.store import Write


def check_writes(writes: Sequence[Write]) -> None:
    """Let no document be written twice at once: one of its revisions would never have been.

    Raises:
        ValueError: two writes are of the same document.
    """
    if len({(each.kind, each.name) for each in writes}) < len(writes):
        raise ValueError("a document can be written only once at a time")


def stale(write: Write, found: int) -> StaleRevision:
    """Return what is raised because a document is at another revision than expected."""
    return StaleRevision(
        f"{write.kind} {write.name!r} is at revision {found}, not {write.expected}"
    )
