"""Every way to be measured, and a truth to go with it."""

from dataclasses import dataclass

from experiments.metric import (
    ERROR_RATE,
    LATENCY,
    Binary,
    Count,
    Direction,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Score,
    Slow,
)
from tests.calibration.crowd import Crowd, Seen
from tests.calibration.history import World
from tests.calibration.worlds import Categories, Latencies, Shares, Stars, Values

OUTCOME = "outcome"
FIVE_STARS = Score(1.0, 5.0, 1.0)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be measured, and the truth behind it."""

    name: str
    metric: Metric
    world: World
    units: int
    runs: int
    looks: int = 36
    effect: float = 0.1
    baseline: float | None = None
    spread: float | None = None
    direction: Direction = Direction.INCREASE
    returning: bool = False


def alike(make, counted, **more) -> Categories:
    """Return a world in which the challenger is the champion's equal."""
    return Categories(make, make, counted, **more)


def kinds() -> tuple[Kind, ...]:
    """Return one of each; where something is clustered, users come back."""
    down = Direction.DECREASE
    every = Crowd(Seen.EVERY)
    return (
        Kind(
            "binary",
            Metric(OUTCOME, Binary()),
            alike(Shares(0.1), (0, 1)),
            20_000,
            2_000,
            baseline=0.1,
        ),
        Kind(
            "mean, heavy tail",
            Metric(OUTCOME, Mean(0.0, 20.0)),
            Values(0.3, 1.0, 20.0),
            6_000,
            1_000,
            effect=0.15,
            baseline=0.49,
        ),
        Kind(
            "mean, covariate",
            Metric(OUTCOME, Mean(0.0, 20.0, covariate=True)),
            Values(1.0, 0.7, 20.0, covariate=0.7),
            4_000,
            1_000,
            effect=0.06,
            baseline=1.28,
        ),
        Kind(
            "score",
            Metric(OUTCOME, FIVE_STARS),
            alike(Stars(), (0, 1, 2, 3, 4)),
            6_000,
            1_000,
            effect=0.03,
            baseline=3.5,
            spread=1.3,
        ),
        Kind(
            "ratio, clustered",
            Metric(OUTCOME, Ratio(), Per.REQUEST),
            Crowd(Seen.RATIO),
            3_000,
            1_000,
            baseline=0.005,
            returning=True,
        ),
        Kind(
            "binary, every request",
            Metric(OUTCOME, Binary(), Per.REQUEST),
            every,
            3_000,
            1_000,
            baseline=0.1,
            returning=True,
        ),
        Kind(
            "binary, first of a returning user",
            Metric(OUTCOME, Binary()),
            Crowd(Seen.FIRST),
            3_000,
            1_000,
            effect=0.25,
            returning=True,
        ),
        Kind(
            "latency, slow share",
            Metric(LATENCY, Slow(250)),
            alike(Shares(0.05), (None, 1)),
            12_000,
            2_000,
            effect=0.2,
            direction=down,
        ),
        Kind(
            "latency, median",
            Metric(LATENCY, Quantile(0.5)),
            alike(Latencies(), tuple(range(558))),
            4_000,
            500,
            looks=24,
            direction=down,
        ),
        Kind(
            "latency, 99th percentile",
            Metric(LATENCY, Quantile(0.99)),
            alike(Latencies(), tuple(range(558))),
            8_000,
            500,
            looks=24,
            direction=down,
        ),
        Kind(
            "count",
            Metric(ERROR_RATE, Count()),
            alike(Shares(0.02), (None, 1)),
            20_000,
            2_000,
            effect=0.3,
            direction=down,
        ),
    )
