"""The lane's users: they ask, look whether the answer is right, and say so."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from time import monotonic
from typing import Final, TypeAlias

import httpx2

from registry.refs import ModelName
from serving.certify.questions import Question, outputs, same
from serving.certify.trials import AGREES, UNIT_HEADER
from serving.clock import Clock, utc_now
from serving.demo.outcomes import Outcomes

Pause: TypeAlias = Callable[[float], Awaitable[None]]

CLIENTS: Final = 16
"""How many ask at once. A slow answer keeps one of them waiting, and no other."""


class Users:
    """Users of one trial, each of whom asks once.

    Args:
        edge: The door that all users go through.
        rate: Requests a second, as long as answers come in time.

    Attributes:
        requests: Answered, one way or another.
        failures: What was answered in the place of a 200, and how often.
        met: Requests that met the challenger, and were charged to it whoever has answered.
        rescues: When the champion has answered one of them in its place.
    """

    def __init__(
        self,
        edge: httpx2.AsyncClient,
        lane: ModelName,
        questions: Sequence[Question],
        outcomes: Outcomes,
        *,
        requests: int,
        rate: float,
        seed: int,
        pause: Pause = asyncio.sleep,
        clock: Clock = utc_now,
    ) -> None:
        self._edge = edge
        self._path = f"/v2/models/{lane}/infer"
        self._questions = questions
        self._outcomes = outcomes
        self._most = requests
        self._rate = rate
        self._chance = random.Random(seed)
        self._pause = pause
        self._clock = clock
        self._sent = 0
        self._over = False
        self._first_met = self._last_met = 0.0
        self.requests = 0
        self.failures: Counter[str] = Counter()
        self.met = 0
        self.rescues: list[datetime] = []

    @property
    def failed(self) -> int:
        """How many requests did not get a 200."""
        return self.failures.total()

    @property
    def exposed_seconds(self) -> float:
        """How long the challenger was met: from the first request that met it to the last."""
        return self._last_met - self._first_met

    async def run(self) -> None:
        """Ask until all is asked, or `stop`; return when everything is answered."""
        began = monotonic()
        async with asyncio.TaskGroup() as clients:
            for _ in range(min(CLIENTS, self._most)):
                clients.create_task(self._ask_on(began))

    def stop(self) -> None:
        """Ask nothing more."""
        self._over = True

    async def _ask_on(self, began: float) -> None:
        while not self._over and self._sent < self._most:
            at, self._sent = began + self._sent / self._rate, self._sent + 1
            if (early := at - monotonic()) > 0:
                await self._pause(early)
            await self._ask()

    async def _ask(self) -> None:
        question = self._chance.choice(self._questions)
        headers = {
            "content-type": "application/json",
            UNIT_HEADER: f"certify-{self._chance.getrandbits(64):x}",
        }
        began = monotonic()
        try:
            answer = await self._edge.post(self._path, content=question.body, headers=headers)
        except httpx2.HTTPError as error:
            self._count(f"{type(error).__name__}: {error}")
            return
        if answer.headers.get("x-variant") == "challenger":
            self._first_met = self._first_met or began
            self._last_met = max(self._last_met, began)
            self.met += 1
            if answer.headers.get("x-failover") == "1":
                self.rescues.append(self._clock())
        if answer.status_code != 200:
            self._count(f"answered {answer.status_code}: {answer.text[:120]}")
            return
        self._count(None)
        if "x-experiment" in answer.headers:
            agrees = same(outputs(answer.content), question.answer)
            self._outcomes.add(answer.headers["x-prediction-id"], AGREES, int(agrees))

    def _count(self, failure: str | None) -> None:
        self.requests += 1
        if failure is not None:
            self.failures[failure] += 1
