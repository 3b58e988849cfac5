"""Edges that start, die and start again: never from nothing, never with what was rolled back."""

import asyncio
from collections.abc import Iterator

import pytest

from serving.edge.config import EdgeFiles
from serving.edge.gate import reason_to_wait, routes_are_known
from serving.errors import EdgeUnavailable
from serving.local.supervisor import edge_programs, redis_program
from serving.routes import map_value
from tests.e2e.client import eventually
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL, Client, make_route
from tests.e2e.edges_fixture import (
    LOOK_SECONDS,
    Machine,
    control_of,
    held_back,
    is_live,
    machine_with,
    running_machine,
    supervised,
)

EVERYBODY = 10_000


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Two edges; what is done to the first is no matter to the second."""
    with running_machine(2) as machine:
        yield machine


async def waits(machine: Machine, why: str) -> None:
    """Wait until the first edge's agent says that, and why, HAProxy is not to be started."""
    said = ""

    async def so() -> bool:
        nonlocal said
        try:
            said = await reason_to_wait(machine.edges[0].agent_socket)
        except EdgeUnavailable:
            return False
        return why in said

    await eventually(so, what=lambda: f"{why!r} is said, not {said!r}", pause=LOOK_SECONDS)


async def test_a_new_edge_without_redis_waits_and_says_why() -> None:
    """With it, it learns that there are no routes, and answers so."""
    with machine_with(1) as machine:
        [edge] = machine.edges
        redis, may_live = held_back(redis_program(machine.settings))
        with supervised(machine.settings, [redis, *edge_programs(edge)]):
            await waits(machine, "There is no map file here, and the routes cannot be had: Redis")
            assert not await is_live(edge)
            may_live.set()
            await machine.listens(edge)
        assert EdgeFiles(edge.edge_dir).routes.read_bytes() == b""
        client = Client(edge.edge_port)
        assert client.infer().json["code"] == "unknown_model"
        client.close()


async def test_an_edge_with_a_map_file_starts_without_redis() -> None:
    with machine_with(1) as machine:
        [edge] = machine.edges
        edge.edge_dir.mkdir(parents=True)
        route = make_route(7)
        EdgeFiles(edge.edge_dir).routes.write_text(f"{MODEL} {map_value(route)}\n")
        with supervised(machine.settings, edge_programs(edge)):
            await machine.listens(edge)
            client = Client(edge.edge_port)
            assert client.infer().headers["x-route-epoch"] == "7"
            client.close()


@pytest.mark.parametrize(
    ("killed", "deleted"),
    [
        (("haproxy",), ("routes.map",)),
        (("agent",), ("routes.map", "routes.json")),
        (("haproxy", "agent"), ()),
        (("haproxy", "agent"), ("routes.map", "routes.json")),
    ],
)
async def test_an_edge_that_was_killed_comes_back_with_its_routes(
    machine: Machine, killed: tuple[str, ...], deleted: tuple[str, ...]
) -> None:
    [edge, other] = machine.edges
    async with control_of(machine) as control:
        route = await control.publish(cut=EVERYBODY)
        for name in deleted:
            (edge.edge_dir / name).unlink()
        names = [f"{edge.edge_name}-{name}" for name in killed]
        for name, mark in zip(names, machine.kill(*names), strict=True):
            await machine.lives(name, after=mark)
        client = Client(other.edge_port)
        assert client.infer().version == CHALLENGER
        client.close()
        await machine.listens(edge)
        client = Client(edge.edge_port)
        answer = client.infer()
        client.close()
        assert (answer.version, answer.headers["x-route-epoch"]) == (CHALLENGER, str(route.epoch))
        await control.obeyed(route.epoch)
        assert (await asyncio.to_thread(machine.in_memory, edge))[MODEL] == map_value(route)

        async def there() -> bool:
            return all((edge.edge_dir / name).exists() for name in deleted)

        await eventually(there, what="the files are written again", pause=LOOK_SECONDS)


async def test_an_edge_that_was_away_during_a_change_serves_nothing_older(machine: Machine) -> None:
    """HAProxy waits for its agent to have asked the store, though it has a map file."""
    edge = machine.edges[0]
    names = [f"{edge.edge_name}-{name}" for name in ("haproxy", "agent")]
    async with control_of(machine) as control:
        old = await control.publish(cut=EVERYBODY)
        before = machine.kill(*names)
        # As another control does that has no means to reach this edge.
        await control.write()
        for name, mark in zip(names, before, strict=True):
            await machine.lives(name, after=mark)
        await machine.listens(edge)
        client = Client(edge.edge_port)
        answer = client.infer()
        client.close()
    assert (answer.version, answer.headers["x-route-epoch"]) == (CHAMPION, str(old.epoch + 1))


async def test_a_haproxy_whose_agent_never_speaks_starts_with_the_last_known_routes(
    tmp_path,
) -> None:
    """Users who are not served at all are worse off."""
    with machine_with(1) as machine:
        [edge] = machine.edges
        edge.edge_dir.mkdir(parents=True)
        waiting = asyncio.create_task(routes_are_known(edge, patience=0.1))
        routes = EdgeFiles(edge.edge_dir).routes
        for nothing in (None, "", "# without trials\n"):
            if nothing is not None:
                routes.write_text(nothing)
            done, _ = await asyncio.wait({waiting}, timeout=0.5)
            assert not done, "there is no route to start with"
        routes.write_text(f"{MODEL} {map_value(make_route(7))}\n")
        await asyncio.wait_for(waiting, timeout=30)
