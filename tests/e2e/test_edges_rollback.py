"""Three edges: rollbacks that no dead edge delays, and that say who has not obeyed."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest

from serving.break_glass import Order
from serving.edge.config import EdgeFiles
from serving.edge.runtime import EdgeRuntime
from serving.routes import map_value
from serving.switch import PATIENCE
from tests.e2e.client import eventually
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL
from tests.e2e.edges_fixture import LOOK_SECONDS, Control, Machine, control_of, running_machine

EVERYBODY = 10_000
ALL = ("edge-0", "edge-1", "edge-2")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Three edges."""
    with running_machine(3) as machine:
        yield machine


@pytest.fixture
async def control(machine: Machine) -> AsyncIterator[Control]:
    """Version 2 is the champion at every edge, and version 1 is what there is to go back to."""
    async with control_of(machine) as control:
        await control.hot(CHAMPION, CHALLENGER)
        await control.publish(champion=CHALLENGER, previous=CHAMPION)
        yield control


ORDER = Order(MODEL, "tests", "a test", force=True)


@contextmanager
def frozen(machine: Machine, name: str) -> Iterator[None]:
    """Stop a process where it is, and let it go on."""
    pid = machine.mark(name).pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def in_memory(machine: Machine) -> set[str]:
    """Return what the HAProxies obey that run."""
    runtimes = [EdgeRuntime(EdgeFiles(edge.edge_dir).admin_socket) for edge in machine.edges]
    return {(await runtime.routes())[MODEL] for runtime in runtimes}


async def test_a_rollback_is_acknowledged_by_every_edge(machine: Machine, control: Control) -> None:
    done = await control.rollback(ORDER)
    assert (done.edges, done.silent, done.lost) == (ALL, (), ())
    assert done.milliseconds == max(done.acknowledged.values()) <= done.waited
    assert await in_memory(machine) == {map_value((await control.records.route(MODEL)).value)}


@pytest.mark.parametrize("dead", [("agent",), ("haproxy", "agent")], ids="-".join)
async def test_an_edge_whose_agent_was_killed_just_now_delays_nobody(
    machine: Machine, control: Control, dead: tuple[str, ...]
) -> None:
    """Its HAProxy would go on with what was rolled back: it is told in the agent's place."""
    names = [f"edge-1-{name}" for name in dead]
    killed = machine.kill(*names)
    done = await control.rollback(ORDER)
    route = (await control.records.route(MODEL)).value
    assert (done.edges, done.silent, done.lost) == (ALL, (), ())
    if "haproxy" not in dead:
        assert await in_memory(machine) == {map_value(route)}
    for name, mark in zip(names, killed, strict=True):
        await machine.lives(name, after=mark)
    await machine.listens(machine.edges[1])
    assert await in_memory(machine) == {map_value(route)}
    await control.obeyed(route.epoch)


async def test_an_edge_whose_agent_hangs_is_waited_for_until_its_lease_ends_and_then_no_more(
    machine: Machine, control: Control
) -> None:
    """It is never called obedient: nobody knows what it serves."""
    with frozen(machine, "edge-1-agent"):
        done = await control.rollback(ORDER)
        assert done.edges == ("edge-0", "edge-2")
        assert (done.silent, done.lost) == (("edge-1",), ())
        assert done.milliseconds < done.waited < (PATIENCE + 5) * 1000

        async def lease_is_over() -> bool:
            return "edge-1" not in await control.heard()

        await eventually(lease_is_over, what="the lease ends", pause=LOOK_SECONDS)
        await control.write(champion=CHALLENGER, previous=CHAMPION)
        again = await control.rollback(ORDER)
        assert (again.edges, again.silent, again.lost) == (("edge-0", "edge-2"), (), ("edge-1",))
        assert len(await in_memory(machine)) == 2
    await control.obeyed((await control.records.route(MODEL)).value.epoch)
    assert len(await in_memory(machine)) == 1


async def test_a_drill_times_every_edge_and_touches_no_users_route(
    machine: Machine, control: Control
) -> None:
    before = await in_memory(machine)
    await control.drills.start(MODEL, 20, by="tests")

    async def over() -> bool:
        return (await control.drills.last(MODEL)).ended_at is not None

    await eventually(over, what="the drill ends", pause=LOOK_SECONDS)
    drill = await control.drills.last(MODEL)
    assert (drill.done, drill.failures, drill.lost) == (20, {}, ())
    assert {edge: spread.count for edge, spread in drill.edges.items()} == dict.fromkeys(ALL, 20)
    assert await in_memory(machine) == before
    await control.controller.tick()
    runtime = EdgeRuntime(EdgeFiles(machine.edges[0].edge_dir).admin_socket)

    async def forgotten() -> bool:
        return (await runtime.routes()).keys() == {MODEL}

    await eventually(forgotten, what="the lane is forgotten", pause=LOOK_SECONDS)
