"""Which method suits a metric: it follows from what is randomised and what is observed.

============================= ========================= ==============================
observed                      randomised: the request   randomised: a returning unit
============================= ========================= ==============================
first outcome per unit        request by request        unit by unit
every outcome                 request by request        hash groups of units
numerator and denominator     hash groups               hash groups of units
============================= ========================= ==============================

One by one, tests of shares, counts, scores and quantiles are exact, those of means asymptotic. So
are all by hash groups: a normal approximation, from dozens of units on.
"""

from functools import lru_cache
from typing import assert_never

from experiments.methods import Design, Method
from experiments.methods.binary import BinaryMethod
from experiments.methods.events import EventMethod
from experiments.methods.gaussian import GaussianMethod
from experiments.methods.quantiles import QuantileMethod
from experiments.methods.scales import Scales
from experiments.methods.scores import ScoreMethod
from experiments.metric import (
    Binary,
    Count,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Score,
    Slow,
)

USUAL_MARGIN = 0.1


@lru_cache(maxsize=4096)
def method_of(asked: Goal | Guardrail, *, returning: bool) -> Method:
    """Return the method for a goal or guardrail.

    Args:
        returning: A unit may be met again and again.
    """
    metric, design = asked.metric, _design(asked)
    if is_grouped(metric, returning=returning):
        return GaussianMethod(Scales(design, _extent(metric)), grouped=True)
    match metric.kind:
        case Binary():
            return BinaryMethod(design)
        case Mean(low, high):
            return GaussianMethod(Scales(design, high - low), grouped=False)
        case Score() as kind:
            return ScoreMethod(design, kind)
        case Slow():
            return EventMethod(design, reported=not metric.at_edge)
        case Count():
            return EventMethod(design)
        case Quantile() as kind:
            return QuantileMethod(kind)
        case Ratio():
            raise AssertionError("ratios are always grouped")
    assert_never(metric.kind)


def is_grouped(metric: Metric, *, returning: bool) -> bool:
    """Return whether outcomes are kept by hash group, because units give more than one."""
    return isinstance(metric.kind, Ratio) or (metric.per is Per.REQUEST and returning)


def _extent(metric: Metric) -> float | None:
    match metric.kind:
        case Mean(low, high) | Score(low, high):
            return high - low
        case Ratio():
            return None
        case _:
            return 1.0


def _design(asked: Goal | Guardrail) -> Design:
    if isinstance(asked, Goal):
        return Design(asked.min_effect, asked.baseline, asked.spread)
    effect = USUAL_MARGIN if asked.max_ratio is None else asked.max_ratio - 1.0
    return Design(effect, asked.baseline, asked.spread, asked.max_difference, asked.negligible)
