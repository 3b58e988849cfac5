"""Guardrails of which the challenger stands exactly at the margin: neither harmful nor safe."""

from dataclasses import dataclass

from experiments.metric import (
    ERROR_RATE,
    LATENCY,
    Binary,
    Count,
    Guardrail,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Score,
    Slow,
    Worse,
)
from tests.calibration.case import DRIFTING, RAMPED, Case, Simple
from tests.calibration.crowd import Crowd, Seen
from tests.calibration.declared import declaration
from tests.calibration.history import World
from tests.calibration.judged import HARMED, SAFE
from tests.calibration.traffic import RAMP, traffic
from tests.calibration.worlds import Categories, Latencies, Shares, Stars, Values

UNSEEN = Metric("goal", Binary())
AT_MARGIN = "at its margin"


@dataclass(frozen=True, slots=True)
class _Margin:
    kind: str
    guardrail: Guardrail
    world: World
    units: int
    runs: int = 1_000
    looks: int = 42
    drift: bool = True
    returning: bool = False


def _ratio(metric: Metric, ratio: float, **known) -> Guardrail:
    return Guardrail(metric, Worse.HIGHER, max_ratio=ratio, **known)


def _times(p: float, ratio: float, counted: tuple[int | None, ...]) -> Categories:
    return Categories(Shares(p), Shares(p, ratio), counted)


def _latency(p: float, *, units: int) -> _Margin:
    buckets = tuple(range(558))
    return _Margin(
        "latency, median" if p == 0.5 else "latency, 99th percentile",
        _ratio(Metric(LATENCY, Quantile(p)), 1.1),
        Categories(Latencies(), Latencies(1.1), buckets),
        units,
        500,
        30,
    )


def margins() -> tuple[Case, ...]:
    """Return one experiment for each kind of guardrail."""
    binary, ratio = Metric("outcome", Binary()), Metric("outcome", Ratio(), Per.REQUEST)
    mean, score = Metric("outcome", Mean(0.0, 20.0)), Metric("outcome", Score(1.0, 5.0, 1.0))
    lower = Guardrail(binary, Worse.LOWER, max_ratio=1.25)
    absolute = Guardrail(binary, Worse.LOWER, max_difference=0.02, baseline=0.1)
    more = Guardrail(mean, Worse.HIGHER, max_difference=0.1, baseline=0.5)
    stars = Guardrail(score, Worse.LOWER, max_difference=0.2, baseline=3.5, spread=1.3)
    slow, count = Metric(LATENCY, Slow(250)), Metric(ERROR_RATE, Count())
    still = {"drift": False}
    return tuple(
        _case(margin)
        for margin in (
            _Margin("binary", lower, _times(0.1, 0.8, (0, 1)), 10_000),
            _Margin("binary, absolute", absolute, _times(0.1, 0.8, (0, 1)), 10_000, **still),
            _Margin("mean, heavy tail", more, Values(0.3, 1.0, 20.0, shift=0.1), 6_000, **still),
            _Margin(
                "score",
                stars,
                Categories(Stars(), Stars(-0.2), (0, 1, 2, 3, 4)),
                6_000,
                **still,
            ),
            _Margin(
                "ratio, clustered",
                _ratio(ratio, 1.2, baseline=0.05),
                Crowd(Seen.RATIO, factor=1.2),
                3_000,
                700,
                returning=True,
            ),
            _Margin("latency, slow share", _ratio(slow, 1.5), _times(0.05, 1.5, (None, 1)), 10_000),
            _latency(0.5, units=4_000),
            _latency(0.99, units=8_000),
            _Margin("count", _ratio(count, 2.0), _times(0.02, 2.0, (None, 1)), 10_000),
        )
    )


def _case(margin: _Margin) -> Case:
    flow = traffic(
        margin.units, margin.looks, ramp=RAMP, drift=margin.drift, returning=margin.returning
    )
    declared = declaration(
        UNSEEN, guardrails=[margin.guardrail], ramp=RAMP, returning=margin.returning
    )
    return Case(
        f"{margin.kind}, {AT_MARGIN}",
        DRIFTING if margin.drift else RAMPED,
        declared,
        Simple(margin.world, flow, margin.guardrail.key),
        margin.runs,
        verdicts=(HARMED, SAFE),
    )
