"""Rollbacks while Redis or control is away, and how they are made good afterwards."""

import asyncio
from time import monotonic

import pytest

from registry.refs import ModelName
from serving.break_glass import Order, break_glass
from serving.client import ControlClient
from tests.e2e.client import Rows, eventually
from tests.e2e.oracle import Oracle
from tests.e2e.system_fixture import BY, System, frozen

MODEL = "outages"

pytestmark = pytest.mark.timeout(600)

EXPERIMENT = f"""
name: frozen-redis
model: {MODEL}
challenger: 2
unit: header:x-unit-id
share: [50%]
goal: {{metric: correct, kind: binary, direction: increase, min_effect: 50%}}
guardrails:
  - {{metric: error_rate, max_ratio: 5.0}}
limits: {{min_units: 100000, min_runtime: 1h, max_runtime: 1d}}
"""


@pytest.fixture(scope="module")
def outages(system: System) -> System:
    """The system with two versions of one model."""

    async def prepare() -> None:
        await system.register(MODEL, Oracle(0.8), Oracle(0.9))
        async with system.control() as control:
            await system.hot(control, MODEL, v1=1, v2=1)

    asyncio.run(prepare())
    return system


async def registry_agrees(system: System, control: ControlClient) -> None:
    """Wait until the registry's names are those of the route."""

    async def agrees() -> bool:
        route = await control.route(MODEL)
        async with system.catalog() as catalog:
            names = await catalog.aliases(ModelName(MODEL))
        trial = route["trials"][0]["challengers"][0] if route["trials"] else None
        standing = (route["champion"], route["previous"], trial)
        return (names.champion, names.previous, names.challenger) == standing

    await eventually(agrees, what="the registry follows the route")


@pytest.mark.parametrize("dead", [("redis",), ("control",), ("redis", "control")], ids="-".join)
async def test_an_edge_rolls_back_by_itself_and_is_believed_later(
    outages: System, control: ControlClient, dead: tuple[str, ...]
):
    await outages.hot(control, MODEL, v1=1, v2=1)
    await outages.stand(control, MODEL, champion=1)
    await control.promote(MODEL, 2, by=BY)
    why = f"without {' and '.join(dead)}"
    async with outages.traffic(control, MODEL, Rows("edge")) as traffic:
        await traffic.answered(50, lambda answer: answer.version == 2)
        with frozen(outages.supervisor().pid):
            killed = {name: outages.kill(name) for name in dead}
            await outages.gone(*killed.values())
            done = await break_glass(outages.settings.local_edges, Order(ModelName(MODEL), BY, why))
            acknowledged = monotonic()
            await traffic.answered(50)
        assert (done.withdrawn, done.to_version, done.break_glass) == ((2,), 1, True)
        for name, mark in killed.items():
            await outages.another(name, mark)
        await outages.well(control)

        async def taken_over() -> bool:
            route = await control.route(MODEL)
            edges = (await control.status())["edges"]
            return route["champion"] == 1 and edges and not any(e["break_glass"] for e in edges)

        await eventually(taken_over, what="control takes the rollback over")
        await traffic.answered(50)
    assert traffic.failed == []
    assert {answer.version for answer in traffic.since(acknowledged)} == {1}
    await registry_agrees(outages, control)

    async def remembered() -> bool:
        change = (await control.history(MODEL))["champions"][-1]
        expected = {"before": 2, "after": 1, "by": BY, "why": why}
        return expected.items() <= change.items()

    await eventually(remembered, what="the history tells who rolled back and why")


async def test_control_rolls_back_through_the_edge_while_redis_hangs(
    outages: System, control: ControlClient
):
    name = "frozen-redis"
    await outages.hot(control, MODEL, v1=1, v2=1)
    await outages.stand(control, MODEL, champion=1)
    async with outages.traffic(control, MODEL, Rows(name)) as traffic:
        await control.start(EXPERIMENT.encode(), by=BY)
        await traffic.answered(50, lambda answer: answer.version == 2)
        with frozen(outages.mark("redis").pid):
            done = await control.rollback(MODEL, by=BY, why="redis hangs")
            acknowledged = monotonic()
            await traffic.answered(50)
        assert done["break_glass"]
        assert (done["withdrawn"], done["to_version"]) == ([2], 1)
        view = await outages.ended(control, name)
        await traffic.answered(50)
    assert traffic.failed == []
    assert {answer.version for answer in traffic.since(acknowledged)} == {1}
    assert view["state"] == "rolled_back"
    assert "redis hangs" in " ".join(view["reasons"])
    assert traffic.spooled > 0
    await outages.books_balance(control, name, traffic)
    await registry_agrees(outages, control)
