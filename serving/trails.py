"""The trail of every running experiment, kept beside the decisions and never in their way."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from experiments.decision import Plan
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.lifecycle import serves_challenger
from experiments.store import Fence
from experiments.trail import TrailPoint
from serving.clock import Clock
from serving.controller import Controller
from serving.records import Records

Measure: TypeAlias = Callable[[Plan, Evidence], Mapping[str, tuple[float | None, ...]]]
"""What a point of the trail shows of the evidence."""


class Trails:
    """Adds a point to each trail from time to time."""

    def __init__(
        self, records: Records, controller: Controller, measure: Measure, clock: Clock
    ) -> None:
        self._records = records
        self._controller = controller
        self._measure = measure
        self._clock = clock

    async def tick(self, fence: Fence) -> None:
        """Add a point where one is due.

        Raises:
            StoreUnavailable: nothing can be observed.
            LeaseLost: another process leads now.
        """
        for held in await self._records.experiments():
            if serves_challenger(held.value.state):
                await self._follow(held.value, fence)

    async def _follow(self, experiment: Experiment, fence: Fence) -> None:
        now, name = self._clock(), experiment.declaration.name
        trail = await self._records.trail(name)
        if not trail.is_due(now):
            return
        evidence = await self._controller.evidence(experiment, now)
        point = TrailPoint(now, self._measure(experiment.plan, evidence))
        await self._records.write_trail(name, trail.with_point(point), fence=fence)
