"""The policy `champion`, where the agent cannot see to it: HAProxy knows when the lease ends."""

import asyncio
import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest

from serving.break_glass import Order
from serving.edge.partition import PartitionPolicy
from serving.errors import EdgeUnresponsive
from serving.routes import control_only
from serving.settings import Settings
from tests.e2e.client import eventually
from tests.e2e.edge_checks import EVERYBODY
from tests.e2e.edge_fixture import (
    CHALLENGER,
    CHAMPION,
    MODEL,
    PREVIOUS,
    Answer,
    Client,
    Edge,
    Mood,
    running_edge,
)
from tests.e2e.edges_fixture import LOOK_SECONDS, Machine, control_of, running_machine

FOR_LONG = 3600.0
LEASE = timedelta(seconds=1)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    """An edge that has just been started, and no agent has ever spoken to."""
    with running_edge(partition_policy=PartitionPolicy.CHAMPION) as edge:
        yield edge


def told(answer: Answer) -> tuple[object, ...]:
    names = ("x-model-version", "x-failover", "x-experiment", "x-variant")
    return answer.status, *(answer.headers.get(name) for name in names)


def let_meet(edge: Edge, seconds: float) -> None:
    async def let() -> None:
        await edge.runtime.let_meet(await edge.runtime.moment(), seconds)

    asyncio.run(let())


def test_nobody_meets_a_challenger_before_an_agent_has_said_so(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    client = edge.client()
    assert client.infer().version == CHAMPION
    let_meet(edge, FOR_LONG)
    assert client.infer().version == CHALLENGER
    let_meet(edge, -1)
    answer = client.infer()
    assert (answer.version, "x-experiment" in answer.headers) == (CHAMPION, False)
    asyncio.run(edge.runtime.let_meet_for_ever())
    assert client.infer().version == CHALLENGER


def test_a_lease_ends_by_itself(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    client = edge.client()
    let_meet(edge, 0.3)
    while client.infer().version != CHAMPION:
        pass
    assert client.infer().version == CHAMPION


@pytest.mark.parametrize(("own", "wall"), [(FOR_LONG, -2), (-1, FOR_LONG)])
def test_either_of_two_clocks_may_end_a_lease(edge: Edge, own, wall) -> None:
    """One stands still while HAProxy is suspended, the other may be put back."""
    edge.route(cut=EVERYBODY)
    let_meet(edge, FOR_LONG)
    assert edge.client().infer().version == CHALLENGER

    async def let() -> None:
        now, clock = (await edge.runtime.moment()).split()
        await edge.runtime.let_meet(f"{float(now) + own} {int(clock) + wall}", 0.0)

    asyncio.run(let())
    assert edge.client().infer().version == CHAMPION


@pytest.mark.parametrize(
    ("champion", "previous"),
    [(CHAMPION, None), (CHAMPION, PREVIOUS), (CHALLENGER, CHAMPION)],
    ids=["a trial", "a trial after a promotion", "a holdback"],
)
def test_what_is_served_then_is_what_the_agent_would_have_served(
    edge: Edge, champion, previous
) -> None:
    changes = {"cut": EVERYBODY, "champion": champion, "previous": previous}
    for moods in ({}, {"champion": Mood.ERROR_500}):
        edge.behave(**moods)
        let_meet(edge, -1)
        route = edge.route(**changes)
        fenced = edge.client().infer()
        let_meet(edge, FOR_LONG)
        edge.obey(control_only(route))
        expected = edge.client().infer()
        assert told(fenced) == told(expected)
        assert fenced.headers.get("x-model-version") != str(CHALLENGER)
    edge.behave()


def test_what_no_clock_can_say_changes_nothing(edge: Edge) -> None:
    let_meet(edge, FOR_LONG)
    edge.route(cut=EVERYBODY)
    with pytest.raises(EdgeUnresponsive, match="no numbers"):
        asyncio.run(edge.runtime.let_meet("yesterday", 3.0))
    assert edge.client().infer().version == CHALLENGER


def ask(edge: Settings) -> int:
    client = Client(edge.edge_port)
    try:
        return client.infer().version
    finally:
        client.close()


@pytest.fixture
def machine() -> Iterator[Machine]:
    with running_machine(2, edge_lease=LEASE, partition_policy=PartitionPolicy.CHAMPION) as made:
        yield made


async def test_a_rollback_holds_at_an_edge_whose_agent_hangs(machine) -> None:
    async with control_of(machine) as control:
        await control.hot(CHAMPION, CHALLENGER)
        await control.publish(champion=CHAMPION, cut=EVERYBODY)
        far = machine.edges[1]

        async def meets() -> bool:
            return await asyncio.to_thread(ask, far) == CHALLENGER

        await eventually(meets, what="the challenger is met", pause=LOOK_SECONDS)
        agent = machine.mark("edge-1-agent").pid
        os.kill(agent, signal.SIGSTOP)
        try:
            done = await control.rollback(Order(MODEL, "me", "it errs", force=True))
            answers = [await asyncio.to_thread(ask, far) for _ in range(5)]
        finally:
            os.kill(agent, signal.SIGCONT)
        assert (done.edges, done.silent, done.lost) == (("edge-0",), (), ("edge-1",))
        assert answers == [CHAMPION] * 5
        await control.publish(champion=CHAMPION, cut=EVERYBODY)
        await eventually(meets, what="it is met again", pause=LOOK_SECONDS)
