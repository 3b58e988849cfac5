"""An edge cut off from the store: what it serves, and when it may serve a challenger again."""

from dataclasses import replace
from datetime import timedelta

import pytest

from experiments.errors import StoreUnavailable
from registry.refs import Version
from serving.edge.agent import Agent
from serving.edge.partition import CutOff, PartitionPolicy
from tests.story.agent_world import (
    DIGITS,
    HOLDING_BACK,
    ON_TRIAL,
    PROMOTED,
    ROUTE,
    Edge,
    edge,
)

__all__ = ["edge"]

WITHOUT_TRIAL = replace(ON_TRIAL, trials=())
ROLLED_BACK = replace(WITHOUT_TRIAL, epoch=7)


async def second(agent: Agent) -> None:
    """Do what an agent does every second."""
    await agent.sync()
    await agent.beat()
    if not agent.lease.is_waited_for:
        await agent.sync()


async def serving(edge: Edge, route=ON_TRIAL, policy=PartitionPolicy.CHAMPION) -> Agent:
    """Return the agent of an edge that lives and obeys a route."""
    edge.policy = policy
    agent = await edge.agent()
    await edge.publish(route)
    await second(agent)
    edge.haproxy.start()
    edge.assert_obeys(route)
    return agent


async def time_passes(edge: Edge, agent: Agent, seconds: float) -> None:
    edge.seconds += seconds
    edge.now += timedelta(seconds=seconds)
    await agent.heed_lease()


async def cut_off(edge: Edge, agent: Agent, seconds: float = 60) -> None:
    """Have the store be away for so long."""
    edge.store.disconnect()
    await time_passes(edge, agent, seconds)


def met(edge: Edge) -> bool:
    """Return whether a challenger is met here, or will be by a HAProxy that starts now."""
    assert edge.haproxy.entries is not None
    return "digits-v2" in edge.haproxy.entries[DIGITS] or bool(edge.file()[DIGITS].trials)


async def test_an_edge_that_keeps_its_routes_says_that_it_was_cut_off(edge) -> None:
    agent = await serving(edge, policy=PartitionPolicy.KEEP)
    await cut_off(edge, agent, 2.6)
    assert agent.report().cut_off is None
    await time_passes(edge, agent, 10)
    began = edge.now
    edge.assert_obeys(ON_TRIAL)
    assert agent.report().cut_off == CutOff(began, None)
    await time_passes(edge, agent, 10)
    edge.store.reconnect()
    await second(agent)
    await agent.beat()
    assert (await edge.reported()).cut_off == CutOff(began, began + timedelta(seconds=10))
    assert (await edge.reported()).cut_offs == 1
    edge.assert_obeys(ON_TRIAL)


async def test_without_the_store_no_challenger_meets_anybody_once_the_lease_is_over(edge) -> None:
    agent = await serving(edge)
    await cut_off(edge, agent, 2.6)
    edge.assert_obeys(ON_TRIAL)
    await time_passes(edge, agent, 0.2)
    edge.assert_obeys(WITHOUT_TRIAL)
    assert agent.report().routes == {DIGITS: ON_TRIAL}, "it is not forgotten"
    edge.haproxy.start()
    edge.assert_obeys(WITHOUT_TRIAL)


async def test_it_ends_here_before_it_ends_in_the_store(edge, monkeypatch) -> None:
    """However long the heartbeat takes on its way: the lease runs from before it was sent."""
    agent = await serving(edge)
    beat = edge.store.beat

    async def slow(*args, **options) -> None:
        edge.seconds += 2.9
        await beat(*args, **options)

    monkeypatch.setattr(edge.store, "beat", slow)
    await agent.beat()
    await agent.heed_lease()
    assert not met(edge)


async def test_heartbeats_without_a_break_need_no_second_look(edge) -> None:
    agent = await serving(edge)
    for _ in range(10):
        await time_passes(edge, agent, 2)
        await agent.beat()
        await agent.heed_lease()
        edge.assert_obeys(ON_TRIAL)


async def test_an_edge_that_is_heard_of_again_serves_the_trial_again(edge) -> None:
    agent = await serving(edge)
    await cut_off(edge, agent)
    edge.store.reconnect()
    await second(agent)
    edge.assert_obeys(ON_TRIAL)


async def test_what_others_rolled_back_meanwhile_is_never_served_again(edge) -> None:
    agent = await serving(edge)
    await cut_off(edge, agent)
    edge.store.reconnect()
    await edge.publish(ROLLED_BACK)
    for step in (agent.sync, agent.beat, agent.sync):
        await step()
        assert not met(edge)
    edge.assert_obeys(ROLLED_BACK)


async def test_routes_read_before_anybody_waits_for_this_edge_do_not_count(edge) -> None:
    """Whoever rolls back between reading and heartbeat does not know that this edge lives."""
    agent = await serving(edge)
    await cut_off(edge, agent)
    edge.store.reconnect()
    await agent.sync()
    await edge.publish(ROLLED_BACK)
    await agent.beat()
    await agent.heed_lease()
    assert not met(edge)
    await agent.sync()
    edge.assert_obeys(ROLLED_BACK)


async def test_an_agent_that_starts_cut_off_serves_no_challenger(edge) -> None:
    await serving(edge)
    edge.store.disconnect()
    agent = await edge.agent()
    edge.assert_obeys(WITHOUT_TRIAL)
    with pytest.raises(StoreUnavailable):
        await agent.sync()
    edge.haproxy.start()
    edge.assert_obeys(WITHOUT_TRIAL)
    edge.store.reconnect()
    await second(agent)
    edge.assert_obeys(ON_TRIAL)


async def test_a_trial_is_taken_up_again_though_only_the_map_without_it_is_left(edge) -> None:
    await cut_off(edge, await serving(edge))
    (edge.folder / "routes.json").unlink()
    await edge.agent()
    agent = await edge.agent()
    edge.assert_obeys(WITHOUT_TRIAL)
    edge.store.reconnect()
    await second(agent)
    edge.assert_obeys(ON_TRIAL)


async def test_a_haproxy_that_hangs_is_told_as_soon_as_it_listens(edge) -> None:
    agent = await serving(edge)
    edge.haproxy.hangs = True
    await cut_off(edge, agent)
    assert edge.file()[DIGITS].trials == ()
    edge.haproxy.hangs = False
    await agent.mend()
    edge.assert_obeys(WITHOUT_TRIAL)


async def test_in_a_holdback_the_old_champion_answers_and_nobody_falls_back_on_the_new(
    edge,
) -> None:
    agent = await serving(edge, HOLDING_BACK)
    await cut_off(edge, agent)
    edge.assert_obeys(replace(PROMOTED, champion=Version(1), previous=None))


async def test_without_a_trial_nothing_changes(edge) -> None:
    agent = await serving(edge, PROMOTED)
    await cut_off(edge, agent)
    edge.assert_obeys(PROMOTED)
    assert edge.haproxy.asked == []


async def test_a_rollback_by_hand_of_an_edge_that_is_cut_off_stands_when_it_is_back(edge) -> None:
    agent = await serving(edge)
    await cut_off(edge, agent)
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    edge.assert_obeys(done.route)
    assert done.withdrawn == (2,)
    agent = await edge.agent()
    edge.store.reconnect()
    await second(agent)
    edge.assert_obeys(done.route)
    assert await edge.override() == done.route
    route = await edge.take_over(epoch=9)
    await agent.sync()
    edge.assert_obeys(route)


async def test_a_trial_that_began_meanwhile_is_served_once_the_edge_is_back(edge) -> None:
    agent = await serving(edge, ROUTE)
    await cut_off(edge, agent)
    edge.store.reconnect()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    edge.assert_obeys(WITHOUT_TRIAL)
    await second(agent)
    edge.assert_obeys(ON_TRIAL)


async def test_haproxy_has_the_end_of_the_lease_should_the_agent_hang(edge) -> None:
    """From a moment before the heartbeat, however long that was under way."""
    agent = await serving(edge)
    edge.haproxy.meets.clear()
    beat = edge.store.beat

    async def slowly(*args, **options) -> None:
        await beat(*args, **options)
        edge.seconds += 0.5

    edge.store.beat = slowly
    await agent.beat()
    assert edge.haproxy.meets == ["2.7 s from 0.0"]


async def test_haproxy_is_given_no_time_before_the_routes_were_read(edge) -> None:
    """An agent that has hung is heard before it knows what it has missed."""
    agent = await serving(edge)
    edge.haproxy.meets.clear()
    edge.seconds += 60
    await agent.beat()
    assert edge.haproxy.meets == []
    await edge.publish(ROLLED_BACK)
    await agent.sync()
    assert edge.haproxy.meets == ["2.7 s from 60.0"]
    assert not met(edge)


async def test_a_haproxy_that_hangs_keeps_no_heartbeat(edge) -> None:
    agent = await serving(edge)
    edge.haproxy.hangs = True
    edge.haproxy.meets.clear()
    edge.now += timedelta(seconds=1)
    await agent.beat()
    assert (await edge.reported()).at == edge.now
    assert edge.haproxy.meets == []


async def test_an_edge_that_keeps_its_routes_sets_its_haproxy_no_end(edge) -> None:
    edge.haproxy.start()
    agent = await serving(edge, policy=PartitionPolicy.KEEP)
    await second(agent)
    assert edge.haproxy.meets == ["for ever"]
