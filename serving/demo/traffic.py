"""Users: a handful of clients that ask without pause, and tell later whether it was right."""

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

import httpx2

from serving.demo.models import MODEL, Digits
from serving.demo.outcomes import Outcomes

CLIENTS = 8

THINKING = 0.025
"""Seconds between an answer and the next request, on average: leaves two cores time for others."""

RETURNING = 0.3
"""Share of requests that come from somebody who was there before."""

REMEMBERED = 2_000
"""How many users may come back."""

PATIENCE = 60.0
"""Seconds until a user gives up, which counts as a failure like any other."""

METRIC = "correct"


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request.

    Args:
        at: When it was sent, on the monotonic clock.
        version: The version that answered.
        rescued: Another version was asked first, and failed.
    """

    at: float
    version: int
    rescued: bool


class Traffic:
    """Requests to the edge, none of which is ever sent twice.

    Attributes:
        requests: Answers received, and requests that had none.
        failures: What was wrong with those that a user could not use, most frequent reasons.
        rescued: Answers that another version gave in the place of the one that was asked.
    """

    def __init__(self, edge_url: str, digits: Digits, outcomes: Outcomes) -> None:
        self._url = edge_url
        self._outcomes = outcomes
        self._bodies = [_body(image) for image in digits.images.tolist()]
        self._labels: list[int] = digits.labels.tolist()
        self._random = random.Random(8)
        self._users: deque[str] = deque(maxlen=REMEMBERED)
        self._arrived = 0
        self._lately: deque[Served] = deque(maxlen=5_000)
        self._over = False
        self.requests = 0
        self.rescued = 0
        self.failures: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        """How many requests ended without a valid prediction."""
        return self.failures.total()

    async def run(self) -> None:
        """Ask until `stop`, and return when every request under way is answered."""
        limits = httpx2.Limits(max_connections=CLIENTS)
        async with (
            httpx2.AsyncClient(
                base_url=self._url, timeout=PATIENCE, limits=limits, trust_env=False
            ) as http,
            asyncio.TaskGroup() as clients,
        ):
            for _ in range(CLIENTS):
                clients.create_task(self._ask_on(http))

    def stop(self) -> None:
        """Let everybody go home after the answer that they wait for."""
        self._over = True

    def since(self, moment: float) -> Counter[int]:
        """Return how many of the latest requests, sent after `moment`, each version answered."""
        return Counter(served.version for served in self._lately if served.at >= moment)

    async def _ask_on(self, http: httpx2.AsyncClient) -> None:
        while not self._over:
            await self._ask(http)
            await asyncio.sleep(self._random.expovariate(1 / THINKING))

    async def _ask(self, http: httpx2.AsyncClient) -> None:
        index = self._random.randrange(len(self._bodies))
        headers = {"content-type": "application/json", "x-unit-id": self._user()}
        began = monotonic()
        try:
            answer = await http.post(
                f"/v2/models/{MODEL}/infer", content=self._bodies[index], headers=headers
            )
            digit = read_digit(answer.status_code, answer.content)
            version = int(answer.headers["x-model-version"])
        except httpx2.HTTPError as error:
            self._count(f"{type(error).__name__}: {error}")
        except (ValueError, KeyError) as error:
            self._count(str(error))
        else:
            self._count(None)
            rescued = answer.headers.get("x-failover") == "1"
            self.rescued += rescued
            self._lately.append(Served(began, version, rescued))
            if "x-experiment" in answer.headers:
                right = int(digit == self._labels[index])
                self._outcomes.add(answer.headers["x-prediction-id"], METRIC, right)

    def _count(self, failure: str | None) -> None:
        self.requests += 1
        if failure is not None:
            self.failures[failure[:200]] += 1

    def _user(self) -> str:
        if self._users and self._random.random() < RETURNING:
            return self._random.choice(self._users)
        self._arrived += 1
        user = f"user-{self._arrived}"
        self._users.append(user)
        return user


def read_digit(status: int, body: bytes) -> int:
    """Return the digit that an answer predicts.

    Raises:
        ValueError: it is not a valid prediction; says what it is instead.

    Examples:
        >>> read_digit(200, b'{"outputs": [{"name": "output-0", "data": [7]}]}')
        7
    """
    if status != 200:
        raise ValueError(f"answered {status}: {body[:120].decode(errors='replace')}")
    match json.loads(body):
        case {"outputs": [{"data": [int(digit)]}]} if not isinstance(digit, bool):
            if 0 <= digit <= 9:
                return digit
    raise ValueError(f"not one digit: {body[:120].decode(errors='replace')}")


def _body(image: list[float]) -> bytes:
    tensor: Mapping[str, object] = {
        "name": "input-0",
        "shape": [1, len(image)],
        "datatype": "FP64",
        "data": image,
    }
    return json.dumps({"inputs": [tensor]}).encode()
