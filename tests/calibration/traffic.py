"""Who comes when: batches of units, the stages they fall into, and how the world drifts."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from experiments.model import NOTHING, BasisPoints, Stage
from tests.calibration.declared import START

RAMP = (BasisPoints(500), BasisPoints(2500), BasisPoints(5000))
HALF = (BasisPoints(5000),)
GROWTH = 30.0
"""The last batch of a stage over its first: evidence is looked at early as well as often."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Batches in order. After each of them somebody looks.

    Args:
        sizes: Units in each batch, in all arms together.
        stage_of: The stage that each batch falls into.
        levels: What everybody's outcomes are multiplied with, in all arms alike.
        stages: As the ramp opened them.
    """

    sizes: tuple[int, ...]
    stage_of: tuple[int, ...]
    levels: tuple[float, ...]
    stages: tuple[Stage, ...]

    @property
    def units(self) -> int:
        return sum(self.sizes)

    @property
    def treated(self) -> np.ndarray:
        """Part of a batch's units that meet some challenger."""
        anew = [
            float(stage.share - stage.floor) / float(10_000 - stage.floor) for stage in self.stages
        ]
        return np.array([anew[stage] for stage in self.stage_of])


def traffic(
    units: int,
    looks: int,
    *,
    ramp: Sequence[BasisPoints] = HALF,
    drift: bool = False,
    returning: bool = False,
    challengers: tuple[int, ...] = (2,),
) -> Traffic:
    """Divide the units over equally large stages and growing batches."""
    rungs = len(ramp)
    batches = looks // rungs
    weights = GROWTH ** np.linspace(0.0, 1.0, batches)
    sizes = np.maximum(1, np.round(weights / weights.sum() * units / rungs)).astype(int)
    floors = (NOTHING, *ramp) if returning else (NOTHING,) * rungs
    stages = tuple(
        Stage(number, number, share, START, challengers, floors[number])
        for number, share in enumerate(ramp)
    )
    time = np.linspace(0.0, 1.0, batches * rungs)
    levels = 0.5 + time + 0.2 * np.sin(6.0 * pi * time) if drift else np.ones_like(time)
    return Traffic(
        sizes=tuple(sizes.tolist()) * rungs,
        stage_of=tuple(np.repeat(np.arange(rungs), batches).tolist()),
        levels=tuple(levels.tolist()),
        stages=stages,
    )
