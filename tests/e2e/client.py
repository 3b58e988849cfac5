"""Clients that remember everything: what they asked, what came back, and what they reported."""

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import httpx2

from experiments.assignment import slot
from experiments.errors import InvalidPrediction
from experiments.model import Variant
from experiments.prediction import Prediction, verify
from registry.errors import TiltyardError
from serving.client import ControlClient
from serving.errors import ControlUnavailable, Refused
from tests.e2e.oracle import Fault, Oracle

PATIENCE_SECONDS = 120.0
"""Far beyond what anything takes: it ends a run that hangs, it decides no test."""

METRIC = "correct"

COUNTRY = "x-country"
"""Header that names a segment, where a row has one."""

Found = TypeVar("Found")


async def eventually(
    look: Callable[[], Awaitable[Found]], *, what: object = "", pause: float = 0.05
) -> Found:
    """Look until what is seen is true, and return it; control may be away meanwhile."""
    seen: object = None
    deadline = monotonic() + PATIENCE_SECONDS
    while monotonic() < deadline:
        try:
            found = await look()
            if found:
                return found
            seen = found
        except TiltyardError as error:
            seen = error
        await asyncio.sleep(pause)
    told = what() if callable(what) else what
    raise AssertionError(f"not within {PATIENCE_SECONDS:.0f} s: {told}; seen last: {seen!r}")


@dataclass(frozen=True, slots=True)
class Row:
    """A question, the unit that asks it, and where that is; empty if it does not say."""

    unit: str
    label: int
    difficulty: float
    fault: Fault = Fault.NONE
    country: str = ""

    @property
    def body(self) -> bytes:
        tensor = {
            "name": "input-0",
            "shape": [1, 3],
            "datatype": "FP64",
            "data": [float(self.label), self.difficulty, float(self.fault)],
        }
        return json.dumps({"inputs": [tensor]}).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a row.

    Args:
        began, ended: Monotonic seconds.
        flaw: Why it was of no use, or what is not true of it; empty if all is well.
        prediction: What the prediction id says, its signature verified.
        token: The prediction id itself.
        version: The version that answered.
        met: The side that the client was told it met; empty outside experiments.
        right: Whether it answered rightly: the outcome.
    """

    row: Row
    began: float
    ended: float
    flaw: str = ""
    prediction: Prediction | None = None
    token: str = ""
    version: int = 0
    met: str = ""
    epoch: int = 0
    failover: bool = False
    right: bool = False


@dataclass(slots=True)
class Rows:
    """Rows without end, the same ones at every run.

    Args:
        salt: Units are chosen so that no two share a slot under it, which chance would do.
        returning: Share of the rows that come from a unit that was there before.
        faults: Given a unit, says what its row does to a fragile version.
        country: Given a unit, says where it is.
    """

    salt: str
    returning: float = 0.0
    faults: Callable[[str], Fault] = lambda _: Fault.NONE
    country: Callable[[str], str] = lambda _: ""
    _random: random.Random = field(default_factory=lambda: random.Random(7))
    _slots: set[int] = field(default_factory=set)
    _units: list[str] = field(default_factory=list)
    _named: int = 0

    def __next__(self) -> Row:
        unit = self._unit()
        label, difficulty = self._random.randrange(10), self._random.random()
        return Row(unit, label, difficulty, self.faults(unit), self.country(unit))

    def _unit(self) -> str:
        if self._units and self._random.random() < self.returning:
            return self._random.choice(self._units)
        while True:
            self._named += 1
            unit = f"user-{self._named}"
            place = slot(unit.encode(), salt=self.salt)
            if place not in self._slots:
                self._slots.add(place)
                self._units.append(unit)
                return unit


Outcome = Mapping[str, object]
Reports = Callable[["Answer"], Sequence[Outcome]]
"""What a client reports of an answer."""


@dataclass(frozen=True, slots=True)
class Reported:
    """An outcome, and what control said of it: a status or, if it refused it, a code."""

    answer: Answer
    outcome: Outcome
    said: str


def whether_right(answer: Answer) -> Sequence[Outcome]:
    """Report whether an answer was right, and nothing else."""
    return [{"metric": METRIC, "value": int(answer.right)}]


class Traffic:
    """A few clients that ask without pause, and report every outcome until it is accepted.

    Attributes:
        answers: Everything that came back, in the order in which it did.
        reported: Every outcome, in the order in which they were.
        refused: What control said of outcomes that it did not take, by code.
        spooled: Outcomes that control kept while Redis was away.
    """

    def __init__(
        self,
        model: str,
        oracles: Mapping[int, Oracle],
        rows: Rows,
        *,
        key: bytes,
        http: httpx2.AsyncClient,
        control: ControlClient,
        outcomes: Reports = whether_right,
    ) -> None:
        self.model = model
        self.answers: list[Answer] = []
        self.reported: list[Reported] = []
        self.refused: Counter[str] = Counter()
        self.spooled = 0
        self._oracles = oracles
        self._rows = rows
        self._key = key
        self._http = http
        self._control = control
        self._outcomes_of = outcomes
        self._outcomes: deque[tuple[Answer, Outcome]] = deque()
        self._over = self._answered = False

    @property
    def failed(self) -> list[Answer]:
        """Every answer that was not a valid prediction, truly labelled."""
        return [answer for answer in self.answers if answer.flaw]

    def since(self, moment: float) -> list[Answer]:
        """Return the answers to what was asked after `moment`."""
        return [answer for answer in self.answers if answer.began > moment]

    async def answered(self, more: int, when: Callable[[Answer], bool] = lambda _: True) -> None:
        """Wait until as many requests that begin now or later have been answered."""
        start = monotonic()

        async def enough() -> bool:
            return sum(when(answer) for answer in self.since(start)) >= more

        await eventually(enough, what=lambda: self.summary)

    @property
    def summary(self) -> str:
        """What came back, in a line."""
        flaws = Counter(answer.flaw for answer in self.failed)
        versions = Counter(answer.version for answer in self.answers)
        return f"{len(self.answers)} answers by {dict(versions)}, flaws {dict(flaws)}"

    async def run(self, clients: int, thinking: float) -> None:
        """Ask until `stop`; return once everything is answered and every outcome accepted."""
        reporting = asyncio.create_task(self._report())
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._ask_on(thinking))
        self._answered = True
        await reporting

    def stop(self) -> None:
        """Ask nothing more."""
        self._over = True

    async def _ask_on(self, thinking: float) -> None:
        while not self._over:
            answer = await self.ask(next(self._rows))
            if answer.prediction is not None and answer.prediction.experiment is not None:
                self._outcomes.extend((answer, each) for each in self._outcomes_of(answer))
            await asyncio.sleep(thinking)

    async def ask(self, row: Row) -> Answer:
        """Send one request, once, and judge what comes back."""
        began = monotonic()
        headers = {"content-type": "application/json", "x-unit-id": row.unit}
        if row.country:
            headers[COUNTRY] = row.country
        try:
            response = await self._http.post(
                f"/v2/models/{self.model}/infer", content=row.body, headers=headers
            )
            answer = self._judged(row, began, response)
        except (httpx2.HTTPError, ValueError, KeyError, InvalidPrediction) as error:
            answer = Answer(row, began, monotonic(), flaw=f"{type(error).__name__}: {error}")
        self.answers.append(answer)
        return answer

    def _judged(self, row: Row, began: float, response: httpx2.Response) -> Answer:
        if response.status_code != 200:
            raise ValueError(f"answered {response.status_code}: {response.text[:200]}")
        (output,) = response.json()["outputs"]
        (value,) = output["data"]
        headers = response.headers
        version = int(headers["x-model-version"])
        prediction = verify(headers["x-prediction-id"], self._key)
        failover = headers.get("x-failover") == "1"
        return Answer(
            row,
            began,
            monotonic(),
            flaw="; ".join(self._lies(row, value, version, prediction, failover, headers)),
            prediction=prediction,
            token=headers["x-prediction-id"],
            version=version,
            met=headers.get("x-variant", ""),
            epoch=int(headers["x-route-epoch"]),
            failover=failover,
            right=value == row.label,
        )

    def _lies(
        self,
        row: Row,
        value: int,
        version: int,
        prediction: Prediction,
        failover: bool,
        headers: Mapping[str, str],
    ) -> Iterable[str]:
        """Yield what is not true of an answer."""
        if value != self._oracles[version].answer(row.label, row.difficulty):
            yield f"version {version} does not answer {value} to {row}"
        if prediction.model != self.model:
            yield f"the prediction id says {prediction.model}"
        if prediction.version != version and not failover:
            yield f"assigned to {prediction.version}, answered by {version}, and no failover"
        if (experiment := headers.get("x-experiment")) != prediction.experiment:
            yield f"X-Experiment {experiment}, but {prediction.experiment} in the id"
        variant = headers.get("x-variant")
        # Veterans of a challenger that was dropped meet the champion, all others a challenger.
        sides = {Variant.CHAMPION, Variant.CHALLENGER}
        allowed = sides if prediction.variant is Variant.VETERAN else {prediction.variant}
        if variant not in allowed:
            yield f"X-Variant {variant}, but {prediction.variant} in the id"
        if prediction.experiment is not None:
            place = slot(row.unit.encode(), salt=prediction.experiment)
            if prediction.slot != place:
                yield f"slot {prediction.slot} instead of {place}"

    async def _report(self) -> None:
        """Report outcomes in batches, each until it is accepted, in the order of the answers."""
        while not self._answered or self._outcomes:
            batch = [self._outcomes[at] for at in range(min(len(self._outcomes), 500))]
            if batch:
                await self._accepted(batch)
                for _ in batch:
                    self._outcomes.popleft()
            await asyncio.sleep(0.1)

    async def _accepted(self, batch: list[tuple[Answer, Outcome]]) -> None:
        again = False

        async def sent() -> dict[str, Any] | None:
            nonlocal again
            try:
                return await self._control.outcomes(
                    [{"prediction_id": answer.token, **each} for answer, each in batch]
                )
            except (ControlUnavailable, Refused):
                again = True
                raise

        result = await eventually(sent, what="outcomes are not accepted", pause=0.1)
        assert result is not None
        for (answer, outcome), each in zip(batch, result["results"], strict=True):
            self.reported.append(Reported(answer, outcome, each.get("code", each["status"])))
            match each["status"]:
                case "counted" | "repeated_unit":
                    pass
                case "spooled":
                    self.spooled += 1
                # Sent once more because the first answer was lost.
                case "refused" if again and each["code"] == "duplicate_outcome":
                    pass
                case _:
                    self.refused[each.get("code", each["status"])] += 1


@asynccontextmanager
async def traffic_to(
    edge_url: str,
    traffic: Callable[[httpx2.AsyncClient], Traffic],
    *,
    clients: int,
    thinking: float,
) -> AsyncIterator[Traffic]:
    """Let clients ask for as long as the context is open; then wait until all is accepted."""
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(
        base_url=edge_url, timeout=PATIENCE_SECONDS, limits=limits, trust_env=False
    ) as http:
        made = traffic(http)
        running = asyncio.create_task(made.run(clients, thinking))
        try:
            yield made
        finally:
            made.stop()
            await running
