"""A certification from its lane to its certificate."""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx2

from registry.errors import TiltyardError
from registry.refs import ModelName, VersionRef
from serving.certify.learning import Learnt, learn, read_example
from serving.certify.report import QUIET, Certificate, Tried, expected_of
from serving.certify.trials import label_of
from serving.certify.users import Pause, Users
from serving.client import Answer, ControlClient
from serving.clock import Clock, utc_now
from serving.demo.outcomes import Outcomes
from serving.errors import ControlUnavailable, Uncertifiable
from serving.hosts.faults import Fault

LOOK: Final = 0.25
"""Seconds between two looks at a trial."""

RENEW: Final = 40
"""Looks after which the lane is asked for again: a fraction of its lease."""

LAST_LOOKS: Final = 12
"""Looks at a trial after all that it was asked has been counted: the controller decides on it."""

MOST_LAST_LOOKS: Final = 60
"""The same, should something not be counted at all."""

HOSTS_LOOKS: Final = 1200
"""Looks at a host that is being loaded before it is given up."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is tried, and how.

    Args:
        requests: Of each trial, at most: one that has found its fault ends.
        rate: Requests a second.
    """

    faults: tuple[Fault, ...] = tuple(Fault)
    requests: int = 1000
    rate: float = 100.0
    seed: int = 0


class Certification:
    """Tries a running system out on a lane of `model`.

    Args:
        edge: The door that users go through.
        tell: Told how far it is, in words.
    """

    def __init__(
        self,
        control: ControlClient,
        edge: httpx2.AsyncClient,
        model: ModelName,
        options: Options,
        *,
        by: str,
        tell: Callable[[str], None],
        pause: Pause = asyncio.sleep,
        clock: Clock = utc_now,
    ) -> None:
        self._control = control
        self._edge = edge
        self._model = model
        self._options = options
        self._by = by
        self._tell = tell
        self._pause = pause
        self._clock = clock
        self._holder = secrets.token_hex(4)
        self._loaded: tuple[Fault, ...] = ()
        self._has_lane = False
        self._looks = 0

    async def run(self) -> Certificate:
        """Try everything once and return what was found. The lane is given up in any case.

        Raises:
            UnknownModel: the model serves no traffic.
            LaneTaken: it is being certified already.
            Uncertifiable: nothing is known to ask it, or a host of it does not load.
        """
        faults = self._options.faults
        try:
            lane = await self._hot(None, faults[:1])
            name, version = ModelName(lane["model"]), VersionRef.parse(lane["of"])
            self._tell(f"{version} answers on the lane; its right answers are being learnt")
            example = read_example(await self._control.lane_example(self._model, self._holder))
            learnt = await learn(self._edge, name, example, self._options.seed)
            tried = []
            failures: list[str] = list(learnt.failures)
            for place, fault in enumerate(faults):
                await self._hot(fault, faults[place : place + 2])
                found, failed = await self._try(fault, name, learnt)
                tried.append(found)
                failures += failed
            return Certificate(
                version=version,
                at=self._clock(),
                slow_ms=learnt.pace.slow_ms,
                agreement=learnt.agreement,
                learning_failures=len(learnt.failures),
                trials=tuple(tried),
                failures=tuple(failures),
            )
        finally:
            await self._give_up()

    async def _hot(self, fault: Fault | None, loaded: tuple[Fault, ...]) -> Answer:
        """Wait for the host with a fault, or for the champion; have the next loaded meanwhile."""
        self._loaded = loaded
        for _ in range(HOSTS_LOOKS):
            lane = await self._keep()
            hosts = {each["fault"]: each for each in lane["hosts"]}
            if fault is None:
                if lane["ready"]:
                    return lane
                waited = next((each for each in lane["hosts"] if each["champion"]), None)
            else:
                waited = hosts.get(fault.value)
                if waited is not None and waited["state"] == "hot":
                    return lane
            what = "the champion's double" if fault is None else f"the host for {label_of(fault)}"
            said = f"{waited['state']}: {waited['reason']}" if waited else "not there yet"
            if waited is not None and waited["state"] == "failed":
                raise Uncertifiable(f"{what} does not load: {waited['reason']}")
            self._tell(f"Waiting for {what}: {said}".removesuffix(": "))
            await self._pause(LOOK)
        raise Uncertifiable(f"{what} is not hot after {HOSTS_LOOKS * LOOK:.0f} s: {said}")

    async def _try(
        self, fault: Fault, lane: ModelName, learnt: Learnt
    ) -> tuple[Tried, tuple[str, ...]]:
        options = self._options
        view = await self._control.lane_trial(
            self._model,
            self._holder,
            fault.value,
            learnt.pace.slow_ms,
            learnt.pace.deadline_ms,
            by=self._by,
        )
        outcomes = Outcomes(self._control, pause=self._pause)
        users = Users(
            self._edge,
            lane,
            learnt.questions,
            outcomes,
            requests=options.requests,
            rate=options.rate,
            seed=options.seed,
            pause=self._pause,
            clock=self._clock,
        )
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(users.run())
            reporting = group.create_task(outcomes.run())
            asking.add_done_callback(lambda _: outcomes.stop())
            view = await self._watched(view, users, fault, (asking, reporting))
            users.stop()
        view = await self._ended(view)
        actual = QUIET if view["state"] == "stopped" else view["state"]
        rescued = await self._rescued(users, view, quiet=actual == QUIET)
        return self._tried(fault, actual, view, users, rescued), tuple(
            f"{label_of(fault)}, {times} times: {said}" for said, times in users.failures.items()
        )

    async def _watched(
        self, view: Answer, users: Users, fault: Fault, under_way: tuple["asyncio.Task[None]", ...]
    ) -> Answer:
        """Return the experiment once something was decided, or nothing more can come of it."""
        name, last_looks = view["name"], 0
        while view["state"] == "ramping" and last_looks < MOST_LAST_LOOKS:
            self._tell(
                f"{label_of(fault)}: {users.requests:,} of {self._options.requests:,} requests, "
                f"{users.met:,} met the challenger, {users.failed} failed"
            )
            await self._pause(LOOK)
            self._looks += 1
            if self._looks % RENEW == 0:
                await self._keep()
            if all(task.done() for task in under_way):
                last_looks += 1
                if last_looks >= LAST_LOOKS and _counted(view) >= users.requests:
                    break
            view = await self._seen(view, name)
        return view

    async def _seen(self, view: Answer, name: str) -> Answer:
        """Return the experiment as it is; as it was, while control is away."""
        try:
            return await self._control.experiment(name)
        except ControlUnavailable:
            return view

    async def _ended(self, view: Answer) -> Answer:
        """Return the experiment when it is over; one in which nothing was decided is stopped."""
        name = view["name"]
        if view["state"] in ("ramping", "halted"):
            state = view["state"]
            view = await self._control.stop(name, by=self._by, why="The trial is over.")
            if state == "halted":
                return view | {"state": state}
        while view["ended_at"] is None:
            await self._pause(LOOK)
            view = await self._seen(view, name)
        return view

    async def _rescued(self, users: Users, view: Answer, *, quiet: bool) -> int:
        """Return how many requests the champion has answered before anything was decided."""
        if quiet or not users.rescues:
            return len(users.rescues)
        receipt = json.loads(await self._control.receipt(view["receipt"]))
        decided_at = datetime.fromisoformat(receipt["at"])
        return sum(at <= decided_at for at in users.rescues)

    def _tried(self, fault: Fault, actual: str, view: Answer, users: Users, rescued: int) -> Tried:
        quiet = actual == QUIET
        return Tried(
            trial=label_of(fault),
            expected=expected_of(fault),
            actual=actual,
            seconds=None if quiet else round(users.exposed_seconds, 2),
            challenger_requests=users.met,
            requests=users.requests,
            rescued=rescued,
            failed_requests=users.failed,
            reasons=() if quiet else tuple(view["reasons"]),
            receipt=None if quiet else view["receipt"],
        )

    async def _keep(self) -> Answer:
        lane = await self._control.keep_lane(
            self._model, self._holder, by=self._by, faults=[each.value for each in self._loaded]
        )
        self._has_lane = True
        return lane

    async def _give_up(self) -> None:
        if not self._has_lane:
            return
        try:
            await self._control.end_lane(self._model, self._holder)
        except TiltyardError as error:
            self._tell(f"{error.message} What is left of the lane is removed within a minute.")


def _counted(view: Answer) -> int:
    """Return how many requests the experiment's evidence has of both arms."""
    stages: list[dict[str, Any]] = view["evidence"]["stages"]
    return sum(
        arm["requests"]
        for stage in stages
        for arm in (stage["champion"], *stage["challengers"].values())
    )
