"""`tiltyard rollback --local` without Redis and control, and how all edges agree afterwards."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from experiments.errors import StoreUnavailable
from experiments.lifecycle import State
from serving.clock import utc_now
from serving.edge.config import EdgeFiles
from serving.edge.mapfile import parse_value
from serving.edge.runtime import EdgeRuntime
from serving.local.ports import environment
from serving.local.supervisor import redis_program
from tests.e2e.client import eventually
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL
from tests.e2e.edges_fixture import (
    FILE,
    Control,
    Machine,
    control_of,
    edges_of,
    held_back,
    machine_with,
    supervised,
)


@dataclass
class Mortal:
    """Three edges, and a Redis that stays dead until it may live."""

    machine: Machine
    redis_may_live: threading.Event

    @asynccontextmanager
    async def without_redis(self) -> AsyncIterator[None]:
        """Kill Redis, and have it started again at the end."""
        self.redis_may_live.clear()
        [mark] = self.machine.kill("redis")
        try:
            yield
        finally:
            self.redis_may_live.set()
            await self.machine.lives("redis", after=mark)

    def tiltyard(self, *words: str) -> dict[str, Any]:
        """Return what a command prints for programs."""
        run = subprocess.run(
            [Path(sys.executable).with_name("tiltyard"), *words, "--json"],
            env=environment(self.machine.settings),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, (run.stdout, run.stderr)
        return dict(json.loads(run.stdout))

    async def on_trial(self) -> set[str]:
        """Return the edges whose HAProxy sends anybody to the challenger."""
        found = set()
        for edge in self.machine.edges:
            values = await EdgeRuntime(EdgeFiles(edge.edge_dir).admin_socket).routes()
            if parse_value(MODEL, values[MODEL], utc_now()).trials:
                found.add(edge.edge_name)
        return found


@pytest.fixture(scope="module")
def mortal() -> Iterator[Mortal]:
    with machine_with(3) as machine:
        redis, may_live = held_back(redis_program(machine.settings))
        may_live.set()
        with supervised(machine.settings, [redis, *edges_of(machine.settings)]):
            asyncio.run(machine.listen())
            yield Mortal(machine, may_live)


async def agreed(control: Control, name: str) -> None:
    """Let control tick until every edge obeys the same route, and the experiment is over."""

    async def so() -> bool:
        with suppress(StoreUnavailable):
            await control.controller.tick()
            [state] = [
                held.value.state
                for held in await control.records.experiments()
                if held.value.declaration.name == name
            ]
            epoch = (await control.records.route(MODEL)).value.epoch
            heard = await control.heard()
            obeyed = {report.epochs.get(MODEL) for report in heard.values()}
            return len(heard) == 3 and obeyed == {epoch} and state is State.ROLLED_BACK
        return False

    await eventually(so, what="all agree", pause=0.1)
    assert not await control.records.overrides()
    assert not any(report.break_glass for report in (await control.heard()).values())


async def test_an_edge_that_went_back_alone_is_followed_by_the_others(mortal: Mortal) -> None:
    """Also if its agent dies before anybody else could know of it."""
    async with control_of(mortal.machine) as control:
        await control.hot(CHAMPION, CHALLENGER)
        await control.publish(champion=CHAMPION)
        name = (await control.begin(FILE.format(name="alone"))).declaration.name
        assert await mortal.on_trial() == {"edge-0", "edge-1", "edge-2"}
        async with mortal.without_redis():
            done = await asyncio.to_thread(
                mortal.tiltyard, "rollback", MODEL, "--local", "--edge", "edge-1"
            )
            assert (done["edges"], done["withdrawn"], done["to_version"]) == (["edge-1"], [2], 1)
            [mark] = mortal.machine.kill("edge-1-agent")
            await mortal.machine.lives("edge-1-agent", after=mark)
            assert await mortal.on_trial() == {"edge-0", "edge-2"}
        await agreed(control, name)
        assert await mortal.on_trial() == set()
        route = (await control.records.route(MODEL)).value
        assert (route.champion, route.previous, route.trials) == (CHAMPION, None, ())


async def test_all_edges_go_back_without_redis_though_one_has_lost_its_agent(
    mortal: Mortal,
) -> None:
    """And those that are asked a second time go back no further."""
    async with control_of(mortal.machine) as control:
        await control.hot(CHAMPION, CHALLENGER)
        await control.publish(champion=CHAMPION, previous=3)
        name = (await control.begin(FILE.format(name="together"))).declaration.name
        async with mortal.without_redis():
            alone = ("rollback", MODEL, "--local", "--edge", "edge-0")
            await asyncio.to_thread(mortal.tiltyard, *alone)
            mortal.machine.kill("edge-2-agent")
            done = await asyncio.to_thread(mortal.tiltyard, "rollback", MODEL, "--local")
            assert done["edges"] == ["edge-0", "edge-1", "edge-2"]
            assert (done["withdrawn"], done["to_version"]) == ([2], 1)
            assert await mortal.on_trial() == set()
        await agreed(control, name)
        route = (await control.records.route(MODEL)).value
        assert (route.champion, route.previous, route.trials) == (CHAMPION, 3, ())
