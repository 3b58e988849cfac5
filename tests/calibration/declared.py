"""Experiments as they are declared here: usual error rates, one metric, and what is known of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from experiments.metric import Direction, Goal, Guardrail, Metric
from experiments.model import BasisPoints, Declaration, ExperimentName, Horizon, Limits, Segments
from experiments.unit import HeaderUnit, RequestUnit
from registry.refs import ModelName, Version

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHALLENGER = Version(2)
NAME = ExperimentName("calibration")
MODEL = ModelName("simulated")


def declaration(
    metric: Metric,
    *,
    effect: float = 0.1,
    baseline: float | None = None,
    spread: float | None = None,
    direction: Direction = Direction.INCREASE,
    guardrails: Sequence[Guardrail] = (),
    horizon: int | None = None,
    returning: bool = False,
    challengers: tuple[Version, ...] = (CHALLENGER,),
    ramp: tuple[BasisPoints, ...] = (BasisPoints(5000),),
    segments: Segments | None = None,
) -> Declaration:
    """Return an experiment with this goal; error rates are the engine's own."""
    return Declaration(
        name=NAME,
        model=MODEL,
        challengers=challengers,
        unit=HeaderUnit("x-unit-id") if returning else RequestUnit(),
        ramp=ramp,
        goal=Goal(metric, direction, effect, baseline, spread),
        guardrails=tuple(guardrails),
        limits=Limits(100, timedelta(days=1), timedelta(days=14)),
        horizon=None if horizon is None else Horizon(horizon),
        segments=segments,
    )
