"""Experiments with a shadow, and answers of both versions to the same requests."""

from dataclasses import replace
from datetime import timedelta

from experiments.model import Variant
from experiments.pairs import (
    AGREEMENT,
    DIFFERENCE,
    DROPPED,
    LATENCY_DIFFERENCE,
    PAIR_ERROR,
    PAIR_SLOW,
    PAIRS,
    SLOWER,
)
from experiments.store import Cell, OutcomeRecord
from tests.story.world import FILE, World

BEFORE_THE_RAMP = FILE + "shadow: {share: 20%, pairs: 500, agreement: 95%, tolerance: 0.5}\n"
ALONE = """
name: digits-v2
model: digits
challenger: 2
unit: header:x-unit-id
mode: shadow
shadow: {share: 20%, pairs: 500, agreement: 95%}
guardrails:
  - {metric: error_rate, max_ratio: 2.0}
  - {metric: latency_ms, above: 250, max_ratio: 1.5}
limits: {min_runtime: 10s, max_runtime: 7d}
"""


async def pairs(
    world: World,
    units: int = 800,
    *,
    errors: tuple[int, int, int] = (0, 0, 0),
    differ: int = 0,
    dropped: int = 0,
) -> None:
    """Have requests of so many units be answered by both.

    Args:
        errors: Pairs in which the challenger alone failed, the champion alone, both.
        differ: Pairs whose answers do not agree.
    """
    experiment = await world.experiment()
    declaration, stage = experiment.declaration, experiment.stage
    assert stage.shadow
    for version in experiment.remaining:
        cell = Cell(declaration.name, stage.number, Variant.CHALLENGER, version, PAIRS)
        counts = {PAIRS: units, DROPPED: dropped, f"{SLOWER}:1": units // 2}
        counts |= {f"{AGREEMENT}:1": units - differ, f"{AGREEMENT}:0": differ}
        counts |= {f"{PAIR_SLOW}250:0": units}
        for index, count in enumerate((units - sum(errors), *errors)):
            counts[f"{PAIR_ERROR}:{index}"] = count
        await world.evidence.apply({replace(cell, counter=name): n for name, n in counts.items()})
        await _measure(world, replace(cell, counter=f"{DIFFERENCE}:1"), (0.0, 0.002))
        await _measure(world, replace(cell, counter=f"{LATENCY_DIFFERENCE}:1"), (1.0, 4.0))


async def _measure(world: World, cell: Cell, values: tuple[float, ...]) -> None:
    tomorrow = world.clock() + timedelta(days=1)
    await world.store.observe(
        [
            OutcomeRecord(cell, f"{number:032x}:{cell.name}", None, tomorrow, (value, 0.0))
            for number, value in enumerate(values * 50)
        ]
    )
