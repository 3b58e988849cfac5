"""What became of predictions, reported in batches; sent again until control has taken them."""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable

from experiments.outcomes import MOST_OUTCOMES
from registry.errors import TiltyardError
from serving.client import ControlClient

PAUSE = 0.5
"""Seconds between two batches."""

REPEATED = "duplicate_outcome"
"""Said of an outcome whose first report was taken, but not answered in time."""


class Outcomes:
    """Outcomes on their way to control.

    Attributes:
        refused: What control did not accept, by code.
        trouble: Why nothing can be reported at the moment; empty if all is well.
    """

    def __init__(
        self, control: ControlClient, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._control = control
        self._pause = pause
        self._waiting: deque[dict[str, object]] = deque()
        self._over = False
        self.refused: Counter[str] = Counter()
        self.trouble = ""

    def add(self, prediction_id: str, metric: str, value: int) -> None:
        """Have an outcome reported with the next batch."""
        self._waiting.append({"prediction_id": prediction_id, "metric": metric, "value": value})

    async def run(self) -> None:
        """Report until `stop`, and return when nothing is waiting any more."""
        while self._waiting or not self._over:
            await self._pause(PAUSE)
            await self._report()

    def stop(self) -> None:
        """Expect no more outcomes."""
        self._over = True

    async def _report(self) -> None:
        batch = [self._waiting[at] for at in range(min(len(self._waiting), MOST_OUTCOMES))]
        if not batch:
            return
        try:
            answer = await self._control.outcomes(batch)
        except TiltyardError as error:
            self.trouble = error.message
            return
        self.trouble = ""
        for _ in batch:
            self._waiting.popleft()
        for result in answer["results"]:
            if result["status"] == "refused" and result["code"] != REPEATED:
                self.refused[result["code"]] += 1
