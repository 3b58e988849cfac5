"""A rollback at one edge stands there, whoever is away and whatever dies meanwhile."""

from dataclasses import replace
from datetime import timedelta

import pytest

from experiments.errors import StoreUnavailable
from experiments.model import BasisPoints
from experiments.store import Kind
from registry.errors import UnknownModel
from registry.refs import ModelName, Version
from serving.errors import EdgeUnresponsive, JustRolledBack, NothingToRollBack
from tests.story.agent_world import (
    DIGITS,
    HOLDING_BACK,
    ON_TRIAL,
    PROMOTED,
    ROUTE,
    SEVERAL,
    TRIAL,
    Crash,
    edge,
)

__all__ = ["edge"]


async def test_a_rollback_at_the_edge_needs_no_store(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(PROMOTED)
    await agent.sync()
    edge.store.disconnect()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    assert (done.withdrawn, done.to_version) == ((2,), 1)
    edge.assert_obeys(done.route)
    with pytest.raises(NothingToRollBack):
        await agent.roll_back(DIGITS, by="me", why="again")
    with pytest.raises(UnknownModel):
        await agent.roll_back(ModelName("nobody"), by="me", why="")
    assert agent.report().break_glass == (DIGITS,)


async def test_what_is_withdrawn_already_is_not_withdrawn_from_whoever_came_after(edge) -> None:
    """Control may have lost the store right after it published the very same rollback."""
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(PROMOTED)
    await agent.sync()
    before = agent.known.routes[DIGITS]
    done = await agent.roll_back(DIGITS, by="me", why="it errs", withdrawn=(Version(3),))
    assert (done.withdrawn, done.to_version) == ((3,), before.champion)
    assert agent.known.routes[DIGITS] == before
    done = await agent.roll_back(
        DIGITS, by="me", why="it errs", withdrawn=(Version(3), before.champion)
    )
    assert done.to_version == before.previous


async def test_a_rollback_that_haproxy_did_not_take_is_no_success(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(PROMOTED)
    await agent.sync()
    edge.haproxy.hangs = True
    with pytest.raises(EdgeUnresponsive):
        await agent.roll_back(DIGITS, by="me", why="it errs")
    edge.haproxy.hangs = False
    await agent.mend()
    assert edge.haproxy.entries is not None
    assert edge.haproxy.entries[DIGITS].startswith("8|1|-|")


async def test_a_rollback_at_the_edge_stands_until_the_controller_has_taken_it_over(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    edge.store.disconnect()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")

    agent = await edge.agent()  # killed and restarted meanwhile
    edge.assert_obeys(done.route)
    with pytest.raises(StoreUnavailable):
        await agent.sync()

    edge.store.reconnect()
    assert not await agent.sync()
    edge.assert_obeys(done.route)
    assert await edge.override() == done.route
    await agent.beat()
    assert (await edge.reported()).break_glass == (DIGITS,)

    route = await edge.take_over(epoch=9)
    assert await agent.sync()
    edge.assert_obeys(route)
    await agent.sync()
    assert await edge.override() is None
    assert agent.report().break_glass == ()


async def test_a_ramp_that_did_not_know_of_a_rollback_does_not_undo_it(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    ramped = replace(ON_TRIAL, epoch=20, trials=(replace(TRIAL, stage=1, cut=BasisPoints(5000)),))
    await edge.publish(ramped)
    assert not await agent.pull(DIGITS)
    assert not await agent.sync()
    assert not await agent.sync()
    edge.assert_obeys(done.route)

    route = await edge.take_over(epoch=21)
    assert await agent.pull(DIGITS)
    edge.assert_obeys(route)


@pytest.mark.parametrize("again", [(7,), (9,), (7, 8, 9)])
async def test_none_of_the_versions_that_were_withdrawn_comes_back_unseen(edge, again) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(SEVERAL)
    await agent.sync()
    done = await agent.roll_back(DIGITS, by="me", why="they err")
    assert done.withdrawn == (7, 9)
    await edge.publish(replace(ON_TRIAL, epoch=20, trials=(replace(TRIAL, challengers=again),)))
    assert not await agent.sync()
    edge.assert_obeys(done.route)


async def test_a_rollback_in_a_holdback_gives_the_old_champion_everything_back(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(HOLDING_BACK)
    await agent.sync()
    done = await agent.roll_back(DIGITS, by="me", why="it errs", withdrawn=(Version(2),))
    edge.assert_obeys(replace(ROUTE, epoch=8))
    await edge.publish(replace(PROMOTED, epoch=20))
    assert not await agent.sync()
    edge.assert_obeys(done.route)
    again = await agent.roll_back(DIGITS, by="me", why="again", withdrawn=(Version(2),))
    assert again.route == done.route


async def test_a_controller_that_has_seen_the_rollback_may_overrule_it(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    await agent.roll_back(DIGITS, by="me", why="it errs")
    await agent.sync()
    again = replace(ON_TRIAL, epoch=30)
    await edge.publish(again)
    await edge.store.delete(Kind.OVERRIDE, "edge-0:digits")
    assert await agent.sync()
    edge.assert_obeys(again)


async def test_a_store_that_lost_a_rollback_is_told_again(edge) -> None:
    agent = await edge.agent()
    await edge.publish(PROMOTED)
    await agent.sync()
    done = await agent.roll_back(DIGITS, by="me", why="it errs")
    await agent.sync()
    await edge.store.delete(Kind.OVERRIDE, "edge-0:digits")
    await edge.store.delete(Kind.ROUTE, DIGITS)
    await agent.sync()
    assert await edge.override() == done.route


async def test_killed_after_any_step_of_a_rollback_it_is_done_and_told_or_was_never_begun(
    edge,
) -> None:
    epoch = 10
    for step in range(1, 9):
        agent = await edge.agent()
        if step == 1:
            edge.haproxy.start()
        before = replace(ON_TRIAL, epoch=epoch)
        await edge.publish(before)
        await agent.sync()
        edge.store.armed, edge.fuse.left = True, step
        try:
            await agent.roll_back(DIGITS, by="me", why="it errs")
            await agent.sync()
            await agent.beat()
        except Crash:
            pass
        finally:
            edge.store.armed, edge.fuse.left = False, None
        agent = await edge.agent()
        await agent.sync()
        override = await edge.override()
        assert override is not None, "routes.json is the first step, and it was taken"
        edge.assert_obeys(override)
        assert (override.epoch, override.trials) == (epoch + 1, ())
        route = await edge.take_over(epoch + 2)
        await agent.sync()
        edge.assert_obeys(route)
        assert agent.report().break_glass == ()
        epoch += 10


async def test_a_second_press_on_the_same_button_does_not_withdraw_the_champion(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(replace(ON_TRIAL, previous=Version(3)))
    await agent.sync()
    edge.store.disconnect()
    done = await agent.roll_back(DIGITS, by="anna", why="it errs")
    assert (done.withdrawn, done.to_version, done.is_repeated) == ((2,), 1, False)
    with pytest.raises(JustRolledBack, match="by anna moments ago and stands for version 1"):
        await agent.roll_back(DIGITS, by="ben", why="it errs")
    agent = await edge.agent()  # Its files know.
    with pytest.raises(JustRolledBack):
        await agent.roll_back(DIGITS, by="ben", why="it errs")
    again = await agent.roll_back(DIGITS, by="ben", why="it errs", withdrawn=(Version(2),))
    assert (again.route, again.is_repeated) == (done.route, True)
    edge.assert_obeys(done.route)


@pytest.mark.parametrize("passed", [30, -60])
async def test_after_a_while_a_rollback_is_another_one(edge, passed) -> None:
    """A clock that was put back meanwhile makes it no younger."""
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(replace(ON_TRIAL, previous=Version(3)))
    await agent.sync()
    edge.store.disconnect()
    await agent.roll_back(DIGITS, by="me", why="it errs")
    edge.now += timedelta(seconds=passed)
    done = await agent.roll_back(DIGITS, by="me", why="so does this")
    assert (done.withdrawn, done.to_version) == ((1,), 3)


async def test_a_step_further_back_can_be_confirmed(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(replace(ON_TRIAL, previous=Version(3)))
    await agent.sync()
    await agent.roll_back(DIGITS, by="me", why="it errs")
    done = await agent.roll_back(DIGITS, by="me", why="so does this", force=True)
    assert (done.withdrawn, done.to_version) == ((1,), 3)
