"""Which source each metric is drawn from."""

from typing import assert_never

from experiments.methods.choice import is_grouped
from experiments.metric import Binary, Count, Mean, Quantile, Ratio, Score, Slow
from experiments.simulation.clustered import Visits
from experiments.simulation.sources import Amounts, Events, Grades, Source, Times
from experiments.simulation.truth import Premise, Truth


def source_of(premise: Premise, truth: Truth, *, returning: bool) -> Source:
    """Return where outcomes come from, for what is declared and for what is supposed.

    Args:
        returning: A unit may be met again and again.
    """
    metric = premise.asked.metric
    spread = spread_of(premise)
    if is_grouped(metric, returning=returning):
        visits = truth.visits if returning else 1.0
        return Visits(metric.kind, premise.value, spread, visits, truth.alike)
    match metric.kind:
        case Binary():
            return Events(premise.value, both=True)
        case Slow():
            return Events(premise.value, both=not metric.at_edge)
        case Count():
            return Events(premise.value, both=False)
        case Mean() as kind:
            return Amounts(kind, premise.value, spread)
        case Score() as kind:
            return Grades(kind, premise.value, premise.spread)
        case Quantile() as kind:
            return Times(kind, premise.value)
        case Ratio():
            raise AssertionError("ratios are always grouped")
    assert_never(metric.kind)


def spread_of(premise: Premise) -> float:
    """Return the standard deviation of an outcome; where nobody said, it is as large as the value.

    Normal where the value is not above 0: then a tenth of the range stands in for 0.
    """
    if premise.spread is not None:
        return premise.spread
    kind = premise.asked.metric.kind
    if premise.value == 0.0 and isinstance(kind, Mean):
        return (kind.high - kind.low) / 10.0
    return abs(premise.value)
