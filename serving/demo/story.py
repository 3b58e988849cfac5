"""The story in six acts. Every act ends with what it promised, or as a `BrokenPromise`."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from importlib.resources import files
from time import monotonic
from typing import TypeVar

from experiments.errors import ExperimentExists
from registry.errors import TiltyardError
from registry.refs import Version
from serving.cli.session import is_away
from serving.client import Answer, ControlClient
from serving.demo.models import BETTER, FIRST, FRAGILE, MISLABELLED, MODEL, TRAITS
from serving.demo.narrator import Narrator
from serving.demo.promises import BrokenPromise, Seen, for_a_guardrail, for_the_goal
from serving.demo.scoreboard import Scoreboard
from serving.demo.traffic import Traffic
from serving.errors import AlreadyDeployed, Refused

T = TypeVar("T")

BY = "demo"

POLL = 0.25

LAST_REQUESTS = 1.5
"""Seconds after which no request waits for version 4 any more: its deadline, and a little."""

LOOKED_AT = 2.0
"""Seconds of traffic that are looked at after the last rollback."""


class Story:
    """Tells it with a system that runs, in which four versions are registered.

    Attributes:
        seen: What has come true so far.
    """

    def __init__(
        self,
        control: ControlClient,
        traffic: Traffic,
        narrator: Narrator,
        scoreboard: Scoreboard,
        seen: Seen,
    ) -> None:
        self._control = control
        self._traffic = traffic
        self._narrator = narrator
        self._scoreboard = scoreboard
        self.seen = seen

    async def first_champion(self) -> None:
        """Deploy version 1 and make it the champion: from here on users can be served."""
        self._narrator.act(f"Act 1: version {FIRST} goes live, {TRAITS[FIRST]}.")
        await self._deploy(FIRST)
        await self._hot(FIRST)
        await _asked(
            lambda: self._control.promote(MODEL, FIRST, by=BY, why="the first version there is")
        )
        self._narrator.done(f"Version {FIRST} is the champion. Users come, and do not stop.")

    async def promotion(self) -> None:
        """Have an experiment find out that version 2 is better."""
        self._narrator.act(f"Act 2: version {BETTER} is tried on live traffic, {TRAITS[BETTER]}.")
        await self._deploy(BETTER)
        await self._hot(BETTER)
        over, receipt = await self._experiment(BETTER)
        if over["state"] != "promoted" or receipt["act"]["kind"] != "promote":
            raise BrokenPromise(f"Version {BETTER} was not promoted: it is {over['state']}.")
        stages = receipt["evidence"]["stages"]
        self.seen.promoted = over["winner"]
        self.seen.promote_seconds = _seconds(over)
        self.seen.promote_units = sum(
            arm["units"]
            for stage in stages
            for arm in (stage["champion"], *stage["challengers"].values())
        )
        self._narrator.done(
            f"Version {BETTER} is the champion, after {self.seen.promote_seconds:.1f} s and "
            f"{self.seen.promote_units:,} users. Version {FIRST} stays loaded, to go back to."
        )

    async def harm(self) -> None:
        """Have an experiment find out that version 3 is worse, by its outcomes."""
        self._narrator.act(f"Act 3: version {MISLABELLED} is tried, {TRAITS[MISLABELLED]}.")
        await self._deploy(MISLABELLED)
        await self._hot(MISLABELLED)
        # Under way while version 3 is on trial: who deploys does not hold up who decides.
        await self._deploy(FRAGILE)
        over, receipt = await self._experiment(MISLABELLED)
        self._require_rolled_back(over, receipt, for_the_goal, "the goal metric")
        (self.seen.harm_rollback,), self.seen.harm_seconds = over["challengers"], _seconds(over)
        self._narrator.done(
            f"Version {MISLABELLED} was rolled back for its outcomes after "
            f"{self.seen.harm_seconds:.1f} s."
        )

    async def fault(self) -> None:
        """Have an experiment find out that version 4 fails, while its users notice nothing."""
        self._narrator.act(f"Act 4: version {FRAGILE} is tried, {TRAITS[FRAGILE]}.")
        await self._hot(FRAGILE)
        rescued = self._traffic.rescued
        over, receipt = await self._experiment(FRAGILE)
        self._require_rolled_back(over, receipt, for_a_guardrail, "a guardrail")
        (self.seen.fault_rollback,), self.seen.fault_seconds = over["challengers"], _seconds(over)
        await asyncio.sleep(LAST_REQUESTS)
        self._narrator.done(
            f"Version {FRAGILE} was rolled back by a guardrail after "
            f"{self.seen.fault_seconds:.1f} s. It failed {self._traffic.rescued - rescued} "
            "requests; the champion answered every one of them."
        )

    async def by_hand(self) -> None:
        """Go back from version 2 to version 1 because a person says so."""
        self._narrator.act(f"Act 5: somebody wants version {FIRST} back.")
        # Named, because an experiment was rolled back moments ago: this is not meant to be that.
        found = await _asked(
            partial(self._control.rollback, MODEL, by=BY, why="to show how fast it is", to=FIRST)
        )
        obeyed_from = monotonic()
        if found["silent"] or not found["edges"]:
            raise BrokenPromise(f"Edges did not obey the rollback: {found['silent']}")
        (withdrawn,) = found["withdrawn"]
        self.seen.manual_rollback = {"from": withdrawn, "to": found["to_version"]}
        self.seen.rollback_ms = round(found["milliseconds"], 2)
        self._narrator.quote(
            [
                f"from {withdrawn} to {found['to_version']}, obeyed by "
                f"{', '.join(found['edges'])} after {found['milliseconds']:.1f} ms"
            ]
        )
        await asyncio.sleep(LOOKED_AT)
        answered = self._traffic.since(obeyed_from)
        if set(answered) != {FIRST}:
            raise BrokenPromise(f"After the rollback, versions answered: {dict(answered)}")
        self._narrator.done(
            f"All of the next {answered[FIRST]} requests were answered by version {FIRST}."
        )

    async def receipts(self) -> None:
        """Make every decision again, from its receipt alone."""
        self._narrator.act("Act 6: every decision is made again, from its receipt alone.")
        listed = (await _asked(lambda: self._control.history(MODEL)))["receipts"]
        expected: str | None = listed[0]["id"] if listed else None
        for link in listed:
            if link["id"] != expected:
                raise BrokenPromise(f"The chain of receipts leads to {expected}, not {link['id']}.")
            expected = (await self._receipt(link["id"]))["previous"]
            try:
                await _asked(partial(self._control.replay, link["id"]))
            except Refused as error:
                raise BrokenPromise(f"A receipt does not replay: {error.message}") from error
            self._narrator.quote([f"{link['id'][:12]} {link['act']} by {link['by']}: same again"])
        if expected is not None:
            raise BrokenPromise(f"The chain of receipts breaks off at {expected}.")
        self.seen.receipts = len(listed)
        self._narrator.done(f"{len(listed)} receipts, each chained to the one before.")

    async def _deploy(self, version: Version) -> None:
        with _said_twice(AlreadyDeployed.code):
            await _asked(lambda: self._control.deploy(MODEL, version, replicas=1))
        self._scoreboard.begin(_loading(version))

    async def _hot(self, version: Version) -> None:
        """Wait until a version has been loaded, and answers.

        Raises:
            BrokenPromise: it does not load.
        """

        async def loaded() -> Answer | None:
            host = await self._control.host(MODEL, version)
            if host["state"] == "failed":
                raise BrokenPromise(f"Version {version} does not load: {host['reason']}")
            reason = f": {host['reason']}" if host["reason"] else ""
            self._scoreboard.note(_loading(version), f"{host['state']}{reason}")
            return host if host["state"] == "hot" else None

        await _until(loaded)
        self._scoreboard.end(_loading(version))
        self._narrator.say(f"Version {version} is loaded, warmed up and probed.")

    async def _experiment(self, challenger: Version) -> tuple[Answer, Answer]:
        """Run an experiment to its end; return it, and the receipt that ended it."""
        file = files(__package__).joinpath(f"{MODEL}-v{challenger}.yaml").read_bytes()
        self._narrator.quote(file.decode().splitlines())
        name = self._scoreboard.experiment = f"{MODEL}-v{challenger}"
        with _said_twice(ExperimentExists.code):
            await _asked(lambda: self._control.start(file, by=BY))
        self._narrator.say(f"Experiment {name} runs. Every second the evidence is looked at.")
        told: tuple[str, ...] = ()

        async def ended() -> Answer | None:
            nonlocal told
            found = await self._control.experiment(name)
            if tuple(found["reasons"]) != told:
                told = tuple(found["reasons"])
                self._narrator.quote([f"{found['state']}: {reason}" for reason in told])
            return found if found["ended_at"] else None

        over = await _until(ended)
        self._scoreboard.experiment = None
        if over["receipt"] is None:
            raise BrokenPromise(f"Experiment {name} is {over['state']} without a receipt.")
        return over, await self._receipt(over["receipt"])

    async def _receipt(self, name: str) -> Answer:
        found: Answer = json.loads(await _asked(lambda: self._control.receipt(name)))
        return found

    def _require_rolled_back(
        self, over: Answer, receipt: Answer, right: Callable[[list[str]], bool], why: str
    ) -> None:
        (version,), act = over["challengers"], receipt["act"]
        if over["state"] != "rolled_back" or act["kind"] != "roll_back":
            raise BrokenPromise(f"Version {version} was not rolled back: it is {over['state']}.")
        if not right(act["culprits"]):
            culprits = ", ".join(act["culprits"])
            raise BrokenPromise(f"Version {version} was rolled back for {culprits}, not for {why}.")


async def _until(look: Callable[[], Awaitable[T | None]]) -> T:
    """Look until there is something."""
    while (found := await _asked(look)) is None:  # noqa: ASYNC110  it is for others to happen
        await asyncio.sleep(POLL)
    return found


async def _asked(question: Callable[[], Awaitable[T]]) -> T:
    """Return the answer of a control that may have to be asked again, as on a machine whose disk
    holds up Redis for a moment. Users are served meanwhile.

    Raises:
        TiltyardError: control has said no.
    """
    while True:
        try:
            return await question()
        except TiltyardError as error:
            if not is_away(error):
                raise
        await asyncio.sleep(POLL)


@contextmanager
def _said_twice(code: str) -> Iterator[None]:
    """Let a command that was carried out, but not answered, be refused the second time."""
    try:
        yield
    except Refused as error:
        if error.refusal != code:
            raise


def _loading(version: Version) -> str:
    return f"loading version {version}"


def _seconds(experiment: Answer) -> float:
    began, ended = (datetime.fromisoformat(experiment[at]) for at in ("started_at", "ended_at"))
    return round((ended - began).total_seconds(), 2)
