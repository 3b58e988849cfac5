"""What is missing from an experiment's evidence, and what that means for its verdict."""

from collections.abc import Iterator

from experiments.evidence import Evidence, Tally


def incompleteness(evidence: Evidence) -> tuple[str, ...]:
    """Say in sentences what was never counted; nothing if the evidence is complete."""
    return tuple(_sentences(evidence))


def _sentences(evidence: Evidence) -> Iterator[str]:
    if evidence.lost_requests or evidence.lost_bytes:
        counted = sum(tally.requests for tally in _tallies(evidence))
        counted += sum(paired.pairs for paired in evidence.shadow.values())
        yield f"Incomplete: {_lost(evidence)} never counted, beside {counted:,} requests that were."
        # No line is lost for whom it is about: the disk was full, or the log outgrew its bound.
        yield (
            "Lines are lost by when they are written, not by who meets whom. So versions are still"
            " compared fairly, on fewer units; totals are too low."
        )
    if evidence.refused_outcomes:
        yield (
            f"Incomplete: {evidence.refused_outcomes:,} outcomes were refused while Redis was away"
            " and no more could be kept. Whoever sent them was told to send them again; where"
            " nobody did, they are missing."
        )


def _lost(evidence: Evidence) -> str:
    lines = f"{evidence.lost_bytes:,} bytes of request log"
    if not evidence.lost_requests:
        return f"{lines} were"
    # The edge's other models share its numbers.
    requests = f"up to {evidence.lost_requests:,} of its requests"
    return f"{requests} ({lines}) were" if evidence.lost_bytes else f"{requests} were"


def _tallies(evidence: Evidence) -> Iterator[Tally]:
    for stage in evidence.stages:
        yield from (stage.champion, *stage.challengers.values(), stage.veterans)
