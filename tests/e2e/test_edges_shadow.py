"""A declared shadow on two edges: what users ask at either is compared, and counted once."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest

from experiments.model import ExperimentName
from serving.break_glass import Order
from tests.e2e.client import eventually
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL, Client
from tests.e2e.edges_fixture import (
    LOOK_SECONDS,
    Control,
    Machine,
    control_of,
    running_machine,
)

FILE = """
name: unseen
model: digits
challenger: 2
unit: header:x-unit-id
mode: shadow
shadow: 100%
"""
UNSEEN = ExperimentName("unseen")
USERS = [f"user-{number}" for number in range(10)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running_machine(2) as machine:
        yield machine


def ask(machine: Machine) -> None:
    """Have each user ask once at each edge."""
    for edge in machine.edges:
        client = Client(edge.edge_port)
        for user in USERS:
            answer = client.infer(("X-Unit-Id", user))
            assert (answer.status, answer.version) == (200, CHAMPION)
        client.close()


async def counted(control: Control, pairs: int) -> dict[str, int]:
    """Return the experiment's counters, once they have so many pairs."""
    found: dict[str, int] = {}

    async def all_are() -> bool:
        found.clear()
        for cell, count in (await control.store.readings(UNSEEN)).counts.items():
            found[cell.counter] = found.get(cell.counter, 0) + count
        return found.get("pairs", 0) >= pairs

    await eventually(all_are, what=lambda: f"{pairs} pairs: {found}", pause=LOOK_SECONDS)
    return found


async def test_pairs_of_every_edge_count_once_a_user_whatever_is_killed(machine: Machine) -> None:
    async with control_of(machine) as control:
        await control.publish(champion=CHAMPION)
        await control.hot(CHAMPION, CHALLENGER)
        await control.begin(FILE)
        await asyncio.to_thread(ask, machine)
        await counted(control, 20)

        # Of one edge the agent, of the other the worker.
        first, second = (edge.edge_name for edge in machine.edges)
        names = (f"{first}-agent", f"{second}-shadow")
        killed = dict(zip(names, machine.kill(*names), strict=True))
        await asyncio.to_thread(ask, machine)
        for name, mark in killed.items():
            await machine.lives(name, after=mark)

        found = await counted(control, 40)
        readings = await control.store.readings(UNSEEN)
        slower = {counter for counter in found if counter.startswith("pair_slower:")}
        assert sum(found.pop(counter) for counter in slower) <= 10
        assert found == {"pairs": 40, "pair_error:0": 10, "agreement:0": 10}
        moments = {cell.counter: found for cell, found in readings.moments.items()}
        assert moments.keys() == {"pair_difference:1", "pair_latency:1"}
        assert [found.n for found in moments.values()] == [10, 10]
        # The stand-ins answer with their versions, which are 1 and 2.
        assert moments["pair_difference:1"].mean == 1.0

        text = await scraped(machine)
        assert f'tiltyard_edge_shadow_pairs_total{{model="{MODEL}"}}' in text


async def scraped(machine: Machine) -> str:
    edge = machine.edges[1]
    async with httpx2.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{edge.edge_metrics_port}/agent/metrics"
        return (await client.get(url)).text


async def test_once_it_is_rolled_back_nothing_is_repeated(machine: Machine) -> None:
    async with control_of(machine) as control:
        before = await counted(control, 0)
        await control.rollback(Order(MODEL, by="tests", why="enough", force=True))
        machine.ingress.calls.clear()
        await asyncio.to_thread(ask, machine)
        assert {version for version, _, _ in machine.ingress.calls} == {CHAMPION}
        assert await counted(control, 0) == before
