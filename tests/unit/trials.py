"""Trials of one challenger, for routes that have one or several."""

from datetime import timedelta

from experiments.model import BasisPoints, ExperimentName, Layer
from experiments.unit import HeaderUnit
from registry.refs import Version
from serving.routes import Trial


def trial(challenger: Version, cut: int = 10_000, **more: object) -> Trial:
    """Return a trial that every unit of a header meets, unless `more` says otherwise."""
    drawn = {
        "experiment": ExperimentName(f"trial-{challenger}"),
        "stage": 0,
        "challengers": (challenger,),
        "cut": BasisPoints(cut),
        "unit": HeaderUnit("x-unit-id"),
        "salt": f"trial-{challenger}",
        "deadline": timedelta(seconds=5),
    }
    return Trial(**drawn | more)


def layer(low: int, high: int) -> Layer:
    """Return a part of a layer, in basis points."""
    return Layer("checkout", BasisPoints(low), BasisPoints(high))
