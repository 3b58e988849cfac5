"""Random experiments to decide on: declarations, and evidence as a store would hold it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from scipy.special import ndtr

from experiments.decision import Plan
from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.lifecycle import State
from experiments.metric import (
    GROUPS,
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Quantile,
    Ratio,
    Score,
    Slow,
    Worse,
)
from experiments.model import BasisPoints, Declaration, Limits, Segments, Stage, experiment_name
from experiments.stats.latency_grid import EDGES
from experiments.stats.moments import Moments
from experiments.unit import HeaderUnit
from registry.refs import Version, model_name

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(hours=1)

RAMP = (500, 1_000, 2_500, 5_000)
UNITS = (1_000, 50_000)
"""In a stage, at least and at most."""

MIXED = (
    Guardrail(Metric("error_rate", Count()), Worse.HIGHER, 2.0, negligible=0.01),
    Guardrail(Metric("latency_ms", Slow(250)), Worse.HIGHER, 1.5, negligible=0.01),
    Guardrail(Metric("latency_ms", Quantile(0.99)), Worse.HIGHER, 1.2),
    Guardrail(Metric("revenue", Mean(0.0, 1_000.0)), Worse.LOWER, 1.05),
    Guardrail(Metric("tokens", Ratio()), Worse.HIGHER, 1.05, baseline=3.0),
)
BINARY = tuple(
    Guardrail(Metric(f"kept_{k}", Binary()), Worse.LOWER, 1.0 + k / 20) for k in range(1, 6)
)
QUANTILES = tuple(
    Guardrail(Metric("latency_ms", Quantile(p)), Worse.HIGHER, 1.2)
    for p in (0.75, 0.9, 0.95, 0.99, 0.999)
)
STARS = Score(1.0, 5.0, 0.5)
SCORES = tuple(
    Guardrail(Metric(f"stars_{k}", STARS), Worse.LOWER, max_difference=k / 10) for k in range(1, 6)
)

DECLARED = Declaration(
    name=experiment_name("bench"),
    model=model_name("bench"),
    challengers=(Version(2),),
    unit=HeaderUnit("x-unit-id"),
    ramp=tuple(map(BasisPoints, RAMP)),
    goal=Goal(Metric("ok", Binary()), Direction.INCREASE, 0.02, 0.8),
    guardrails=MIXED,
    limits=Limits(200, timedelta(0), timedelta(days=7)),
)


def _goal(metric: Metric, direction: Direction) -> Goal:
    return Goal(metric, direction, 0.02)


def _of_its_own(rng: Generator) -> Declaration:
    """What is known beforehand, and the ramp, are like no other experiment's: no bet is reused."""

    def own(guardrail: Guardrail) -> Guardrail:
        assert guardrail.max_ratio is not None
        return replace(
            guardrail,
            max_ratio=guardrail.max_ratio * float(rng.uniform(1.0, 1.1)),
            baseline=None if guardrail.baseline is None else float(rng.uniform(2.0, 4.0)),
        )

    assert DECLARED.goal is not None
    return replace(
        DECLARED,
        ramp=tuple(BasisPoints(share + int(rng.integers(-99, 100))) for share in RAMP),
        goal=replace(
            DECLARED.goal,
            min_effect=float(rng.uniform(0.01, 0.05)),
            baseline=float(rng.uniform(0.6, 0.9)),
        ),
        guardrails=tuple(map(own, MIXED)),
    )


MIXES: Mapping[str, Callable[[Generator], Declaration]] = {
    "mixed": lambda _: DECLARED,
    "binary": lambda _: replace(DECLARED, guardrails=BINARY),
    "quantiles": lambda _: replace(
        DECLARED,
        goal=_goal(Metric("latency_ms", Quantile(0.5)), Direction.DECREASE),
        guardrails=QUANTILES,
    ),
    "scores": lambda _: replace(
        DECLARED, goal=_goal(Metric("stars", STARS), Direction.INCREASE), guardrails=SCORES
    ),
    "mixed, each declared differently": _of_its_own,
    "mixed, 3 challengers": lambda _: replace(
        DECLARED, challengers=(Version(2), Version(3), Version(4))
    ),
    "mixed, 3 segments": lambda _: replace(
        DECLARED, segments=Segments("x-plan", ("free", "pro", "team"))
    ),
}
"""Six metrics and four stages each."""


def experiment(declaration: Declaration, rng: Generator) -> tuple[Plan, Evidence]:
    """Return an experiment on its last stage, with evidence like no other's."""
    stages, floor = [], BasisPoints(0)
    for number, share in enumerate(declaration.ramp):
        stages.append(Stage(number, number, share, START, declaration.challengers, floor))
        floor = share
    worlds = {version: _World.drawn(rng) for version in declaration.challengers}
    usual = _World.drawn(rng)
    segments = declaration.segments.values if declaration.segments else ()

    def seen(part: float) -> tuple[StageEvidence, ...]:
        return tuple(_stage(declaration, stage, usual, worlds, part, rng) for stage in stages)

    evidence = Evidence(seen(1.0), {value: seen(1.0 / len(segments)) for value in segments})
    return Plan(declaration, State.RAMPING, tuple(stages), START), evidence


@dataclass(frozen=True, slots=True)
class _World:
    """What a version is like. The differences are small, as they mostly are."""

    success: float
    trouble: float
    typical_ms: float
    mean: float

    @classmethod
    def drawn(cls, rng: Generator) -> "_World":
        return cls(
            success=float(rng.uniform(0.79, 0.81)),
            trouble=float(rng.uniform(0.002, 0.004)),
            typical_ms=float(90.0 * rng.uniform(0.98, 1.02)),
            mean=float(rng.uniform(2.95, 3.05)),
        )


def _stage(
    declaration: Declaration,
    stage: Stage,
    usual: _World,
    worlds: Mapping[Version, _World],
    part: float,
    rng: Generator,
) -> StageEvidence:
    probability = stage.probability
    low, high = np.log(UNITS)
    units = part * np.exp(rng.uniform(low, high))

    def tally(world: _World, share: float) -> Tally:
        n = int(rng.poisson(units * share))
        samples = {metric.key: _sample(metric, n, world, rng) for metric in declaration.metrics}
        return Tally(n, 0, n, samples)

    return StageEvidence(
        stage.number,
        tally(usual, float(1 - probability)),
        {version: tally(world, float(probability)) for version, world in worlds.items()},
        (probability.numerator, probability.denominator),
    )


def _sample(metric: Metric, n: int, world: _World, rng: Generator) -> Sample:
    match metric.kind:
        case Binary():
            successes = int(rng.binomial(n, world.success))
            return Sample({1: successes, 0: n - successes})
        case Count() | Slow():
            return Sample({1: int(rng.binomial(n, world.trouble))})
        case Quantile():
            return Sample(_placed(rng.multinomial(n, _latencies(round(world.typical_ms)))))
        case Score() as score:
            wanted = np.exp(-0.5 * (np.array(score.grid) - world.mean) ** 2)
            return Sample(_placed(rng.multinomial(n, wanted / wanted.sum())))
        case Mean():
            if not n:
                return Sample()
            sum_of_squares = n * world.mean**2 * rng.uniform(0.9, 1.1)
            mean = world.mean * rng.gamma(n) / n
            return Sample({}, {0: Moments(n, float(mean), float(sum_of_squares))})
        case Ratio():
            sizes = rng.multinomial(3 * n, np.full(GROUPS, 1.0 / GROUPS))
            below = 1.0 + rng.poisson(2.0 * sizes) / np.maximum(sizes, 1)
            above = world.mean * below * rng.normal(1.0, 0.05, GROUPS)
            groups = zip(sizes.tolist(), above.tolist(), below.tolist(), strict=True)
            found = enumerate(Moments(size, y, 0.0, x) for size, y, x in groups)
            return Sample({}, {group: moments for group, moments in found if moments.n})


def _placed(counts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> dict[int, int]:
    """As the store keeps them: no place without a count."""
    return {place: count for place, count in enumerate(counts.tolist()) if count}


@lru_cache(maxsize=64)
def _latencies(typical_ms: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Chance of each bucket for log-normal times."""
    up_to = ndtr(np.log(np.array([*EDGES, np.inf]) / typical_ms) / 0.5)
    chances: np.ndarray[tuple[int], np.dtype[np.float64]] = np.diff(up_to, prepend=0.0)
    return chances
