"""Experiments without an effect, of every kind, in which any verdict is false."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from experiments.looks import time_of
from experiments.metric import Binary, Mean, Metric
from experiments.model import Declaration, Horizon, Segments
from registry.refs import Version
from tests.calibration.case import DRIFTING, FIXED, MOVING, RAMPED, Case, Simple
from tests.calibration.declared import declaration
from tests.calibration.judged import HALTED, HARMED
from tests.calibration.kinds import OUTCOME, Kind, alike, kinds
from tests.calibration.late import LATE, LateLabels
from tests.calibration.traffic import RAMP, traffic
from tests.calibration.worlds import Shares


def cases() -> tuple[Case, ...]:
    """Return every experiment without an effect."""
    settings = ((FIXED, {}), (RAMPED, {"ramp": RAMP}), (DRIFTING, {"ramp": RAMP, "drift": True}))
    plain = [_case(kind, setting, **how) for kind in kinds() for setting, how in settings]
    moving = [
        _case(kind, MOVING, drift=True) for kind in kinds() if isinstance(kind.metric.kind, Mean)
    ]
    return (*plain, *moving, *_several(), *_segmented(), *_late())


def _case(kind: Kind, setting: str, **how) -> Case:
    flow = traffic(kind.units, kind.looks, returning=kind.returning, **how)
    declared = declaration(
        kind.metric,
        effect=kind.effect,
        baseline=kind.baseline,
        spread=kind.spread,
        direction=kind.direction,
        returning=kind.returning,
        ramp=tuple(stage.share for stage in flow.stages),
    )
    source = Simple(kind.world, flow, kind.metric.key)
    return Case(
        kind.name,
        setting,
        declared,
        source,
        kind.runs,
        horizon=_horizon(declared, source),
    )


def _horizon(declared: Declaration, source: Simple) -> int:
    """Return a little less than what counts for the horizon in all: some run's, with a margin."""
    *_, last = source.histories(np.random.default_rng(0), 1).looks(0)
    return round(0.9 * time_of(replace(declared, horizon=Horizon(1)), last))


def _several() -> Iterator[Case]:
    lanes = (2, 3, 4)
    world = alike(Shares(0.1), (0, 1), lanes=3)
    for setting, how in ((FIXED, {}), (DRIFTING, {"ramp": RAMP, "drift": True})):
        flow = traffic(20_000, 36, challengers=lanes, **how)
        declared = declaration(
            Metric(OUTCOME, Binary()),
            challengers=tuple(map(Version, lanes)),
            effect=0.15,
            baseline=0.1,
            ramp=tuple(stage.share for stage in flow.stages),
        )
        source = Simple(world, flow, OUTCOME)
        yield Case("three challengers", setting, declared, source, 1_000, horizon=flow.units)


def _segmented() -> Iterator[Case]:
    values = ("de", "fr", "it")
    world = alike(Shares(0.1), (0, 1), segments=3)
    for setting, how in ((FIXED, {}), (DRIFTING, {"ramp": RAMP, "drift": True})):
        flow = traffic(20_000, 36, **how)
        declared = declaration(
            Metric(OUTCOME, Binary()),
            baseline=0.1,
            ramp=tuple(stage.share for stage in flow.stages),
            segments=Segments("x-country", values),
        )
        source = Simple(world, flow, OUTCOME, values)
        verdicts = (HARMED, HALTED)
        yield Case("three segments", setting, declared, source, 1_000, verdicts=verdicts)


def _late() -> Iterator[Case]:
    for setting, ramp, drift in ((FIXED, RAMP[-1:], False), (DRIFTING, RAMP, True)):
        source = LateLabels(ramp, drift=drift)
        units = source.units
        yield Case(LATE, setting, source.declaration, source, 700, horizon=units)
