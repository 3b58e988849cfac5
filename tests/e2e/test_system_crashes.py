"""kill -9 in the middle of an experiment: nobody notices, and all is counted exactly once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from serving.client import ControlClient
from tests.e2e.client import Rows, Traffic, eventually
from tests.e2e.oracle import Oracle
from tests.e2e.system_fixture import BY, System

MODEL = "crashes"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def crashes(system: System) -> System:
    """The system with two versions of one model, the first of them twice."""

    async def prepare() -> None:
        await system.register(MODEL, Oracle(0.8), Oracle(0.8))
        async with system.control() as control:
            await system.hot(control, MODEL, v1=2, v2=1)

    asyncio.run(prepare())
    return system


def endless(name: str) -> bytes:
    """Return the file of an experiment that goes on until it is stopped."""
    return f"""
name: {name}
model: {MODEL}
challenger: 2
unit: header:x-unit-id
share: [40%]
goal: {{metric: correct, kind: binary, direction: increase, min_effect: 50%}}
guardrails:
  - {{metric: error_rate, max_ratio: 5.0}}
limits: {{min_units: 100000, min_runtime: 1h, max_runtime: 1d}}
""".encode()


@asynccontextmanager
async def experiment(system: System, control: ControlClient, name: str) -> AsyncIterator[Traffic]:
    """Have an experiment under traffic; afterwards see that nobody noticed, and all is counted."""
    await system.hot(control, MODEL, v1=2, v2=1)
    await system.stand(control, MODEL, champion=1)
    async with system.traffic(control, MODEL, Rows(name)) as traffic:
        await control.start(endless(name), by=BY)
        await traffic.answered(100, lambda answer: answer.prediction.experiment == name)
        yield traffic
        await traffic.answered(100, lambda answer: answer.prediction.experiment == name)
    assert traffic.failed == []
    view = await system.books_balance(control, name, traffic)
    assert view["state"] == "ramping"
    await system.stopped(control, name)


@pytest.mark.parametrize("name", ["control", "edge-0-agent", "redis"])
async def test_a_killed_process_costs_neither_an_answer_nor_a_count(
    crashes: System, control: ControlClient, name: str
):
    async with experiment(crashes, control, f"killed-{name}") as traffic:
        killed = crashes.kill(name)
        await traffic.answered(50)
        await crashes.another(name, killed)
        await crashes.well(control)


async def test_a_killed_replica_costs_neither_an_answer_nor_a_count(
    crashes: System, control: ControlClient
):
    async with experiment(crashes, control, "killed-replica") as traffic:
        before = crashes.replicas(MODEL, 1)
        assert len(before) == 2
        os.kill(before[0].pid, signal.SIGKILL)
        await traffic.answered(100)

        async def replaced() -> bool:
            now = crashes.replicas(MODEL, 1)
            return len(now) == 2 and before[1] in now

        await eventually(replaced, what="Ray starts another replica")
        await crashes.hot(control, MODEL, v1=2)


async def test_a_killed_haproxy_comes_back_with_its_routes_and_all_that_was_counted(
    crashes: System, control: ControlClient
):
    """Who is being answered as it dies notices; so nobody is."""
    name = "killed-haproxy"
    await crashes.hot(control, MODEL, v1=2, v2=1)
    await crashes.stand(control, MODEL, champion=1)
    await control.start(endless(name), by=BY)
    epoch = (await control.route(MODEL))["epoch"]
    rows = Rows(name)
    async with crashes.traffic(control, MODEL, rows) as before:
        await before.answered(300)
    await crashes.another("edge-0-haproxy", crashes.kill("edge-0-haproxy"))
    await eventually(lambda: answers(crashes), what="the edge answers again")
    async with crashes.traffic(control, MODEL, rows) as after:
        await after.answered(100)
    assert before.failed == after.failed == []
    assert {answer.epoch for answer in after.answers} == {epoch}
    await crashes.books_balance(control, name, before, after)
    await crashes.stopped(control, name)


async def answers(system: System) -> bool:
    """Tell whether the edge is there, without being counted."""
    async with httpx2.AsyncClient(base_url=system.settings.edge_url, trust_env=False) as http:
        try:
            return (await http.get("/v2/health/ready")).status_code == 200
        except httpx2.HTTPError:
            return False
