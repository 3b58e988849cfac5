"""What is said of an experiment when it starts: how long it will take, and whether it is in vain.

The traffic is what the edges have counted. Where users are randomised and not requests, fewer new
units come than requests, so a warning that is given would be given all the more.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from experiments.model import NOTHING, BasisPoints, Declaration
from experiments.planning import Reach, rate_text, warning_for
from registry.refs import ModelName
from serving.edge.report import EdgeReport

LEAST_SECONDS = 60.0
"""An edge that has counted for a shorter time says nothing of the traffic."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What can be foreseen.

    Args:
        traffic: In words.
        warnings: Why there will probably be no verdict; empty if there will, or if nobody knows.
    """

    traffic: str
    warnings: tuple[str, ...]


def requests_per_second(reports: Iterable[EdgeReport], model: ModelName) -> float | None:
    """Return how many requests of a model come, at all edges together, on average since they count.

    Returns:
        None where no edge has counted for long enough, or none of them has seen a request.
    """
    rates = [
        report.requests.get(model, 0) / counted
        for report in reports
        if (counted := (report.at - report.since).total_seconds()) >= LEAST_SECONDS
    ]
    return sum(rates) or None


def outlook(
    declaration: Declaration, reports: Iterable[EdgeReport], *, holdout: BasisPoints = NOTHING
) -> Outlook:
    """Look ahead from the traffic that the edges see. Takes a moment of computing.

    Args:
        holdout: Of the model's units.
    """
    rate = requests_per_second(reports, declaration.model)
    if rate is None:
        words = f"The traffic of {declaration.model} is not known yet"
        advice = "`tiltyard plan FILE --traffic 50/s` tells how long it takes at a given rate"
        return Outlook(f"{words}; {advice}.", ())
    reach = Reach.of(declaration, holdout=holdout)
    warning = warning_for(declaration, rate * reach.share)
    average = rate_text(rate).replace("unit", "request")
    words = f"{declaration.model} has had {average} on average."
    if not reach.is_whole:
        words += f" {reach.words(declaration, rate, counted='request')}"
    return Outlook(words, (warning,) if warning else ())
