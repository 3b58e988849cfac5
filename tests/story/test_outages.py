"""Registry, Ray and store away: users are served, nothing is lost, everything is made up for."""

import json
from collections.abc import Awaitable, Callable

import pytest

from experiments.errors import StoreUnavailable
from experiments.lifecycle import State
from experiments.model import Variant
from experiments.store import Cell, Kind
from registry.errors import CatalogUnavailable
from registry.refs import Version, VersionRef
from serving.break_glass import Order
from serving.errors import HostsUnavailable
from serving.rollback import CutShort
from tests.story.crashes import (
    BAD,
    GOOD,
    MOST_STEPS,
    at_second_stage,
    ending,
    promoted,
    started,
    with_crashes,
)
from tests.story.outside import DIGITS, Crashed
from tests.story.users import Users
from tests.story.world import World

ORDER = Order(DIGITS, by="me", why="I do not like it.")
VERSION_1, VERSION_2 = (VersionRef(DIGITS, Version(number)) for number in (1, 2))


async def test_the_registry_hears_of_every_champion_however_long_it_was_away(tmp_path):
    """A promotion and a rollback, and a crash anywhere in them, while there is no registry."""

    async def story(world: World) -> None:
        world.catalog.up = False
        if (await world.experiment()).state is State.RAMPING:
            await world.evidence.traffic(2000, **GOOD)
            assert CatalogUnavailable.code in await world.live(8)
        await world.live(2)
        if (await world.route()).champion == 2:
            await world.control.rollback(ORDER)
        world.catalog.up = True
        await world.live(2)

    end = await with_crashes(tmp_path, story, prepared=at_second_stage)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500, 5000])}
    assert end.history == [1, 2, 1]
    assert end.aliases.champion == 1
    assert end.aliases.previous is None


async def test_without_a_registry_nothing_is_deployed_started_or_promoted_by_hand(tmp_path):
    world = await World.standing(tmp_path)
    world.catalog.up = False
    with pytest.raises(CatalogUnavailable):
        await world.start()
    with pytest.raises(CatalogUnavailable):
        await world.control.commands.promote(VERSION_2, by="me", why="")
    with pytest.raises(CatalogUnavailable):
        await world.deploy(2)
    assert (await world.route()).epoch == 1
    assert await world.records.experiments() == []


async def test_while_ray_cannot_be_reached_decisions_are_taken_and_hosts_follow_later(tmp_path):
    async def story(world: World) -> None:
        world.serve.up = (await world.experiment()).is_final
        if (await world.experiment()).state is State.RAMPING:
            await world.evidence.traffic(2000, **BAD)
            failed = await world.live(3)
            assert HostsUnavailable.code in failed
        await world.live(2)
        assert (await world.experiment()).state is State.ROLLED_BACK
        world.serve.up = True
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=started)
    assert (end.champion, end.trials) == (1, ())
    assert end.hosts == {"digits/1": "hot"}


async def test_while_the_store_is_away_edges_go_on_and_nothing_is_decided(tmp_path):
    world = await started(tmp_path)
    Users.of(world)
    await world.evidence.traffic(2000, **BAD)
    before = world.edges["edge-0"].route()
    world.store.disconnect()
    failed = await world.live(20)
    assert set(failed) == {StoreUnavailable.code}
    assert world.edges["edge-0"].route() == before
    with pytest.raises(StoreUnavailable):
        await world.start()
    world.store.reconnect()
    await world.live(3)
    assert (await world.experiment()).state is State.ROLLED_BACK
    assert not world.edges["edge-0"].route().trials


@pytest.mark.parametrize("traffic", [GOOD, BAD], ids=["promotion", "rollback"])
async def test_a_store_that_leaves_in_the_middle_of_a_transition_finds_it_finished(
    tmp_path, traffic
):
    """As often as there are steps after which it can leave."""
    endings = []
    for steps in range(1, MOST_STEPS):
        folder = tmp_path / str(steps)
        folder.mkdir()
        world = await at_second_stage(folder)
        users = Users.of(world)
        await world.evidence.traffic(2000, **traffic)
        await world.pass_time(8)
        world.lose_store_after(steps)
        failed = await world.live(5)
        left = world.fuse.ends_at is None
        assert (StoreUnavailable.code in failed) == left
        world.store.reconnect()
        await world.live(5)
        users.assert_at_rest()
        endings.append(await ending(world))
        if not left:
            break
    assert len(endings) > 5
    assert all(end == endings[-1] for end in endings)
    assert endings[-1].champion == (2 if traffic is GOOD else 1)


@pytest.mark.parametrize("written", [False, True])
async def test_a_rollback_whose_answer_was_lost_is_in_force_or_not_and_then_finished_by_hand(
    tmp_path, written
):
    """The store goes away right before its one write, or right after it."""
    world = await at_second_stage(tmp_path)
    users = Users.of(world)
    if written:
        world.lose_store_after(1)
    else:
        world.store.interrupt(Kind.ROUTE, leaving(world))
    with pytest.raises(CutShort) as cut:
        await world.control.rollback(ORDER)
    assert cut.value.withdrawn == (2,)
    agent = world.edges["edge-0"].agent
    assert bool(agent.known.routes[DIGITS].trials) is not written
    done = await agent.roll_back(DIGITS, by="me", why=ORDER.why, withdrawn=cut.value.withdrawn)
    assert (done.withdrawn, done.to_version) == ((2,), 1)
    assert not world.edges["edge-0"].route().trials
    world.store.reconnect()
    await world.live(4)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.ROLLED_BACK
    receipts = await world.records.receipts(DIGITS)
    assert [receipt.by for _, receipt in receipts].count("me") == 1


def leaving(world: World) -> Callable[[], Awaitable[None]]:
    async def leave() -> None:
        world.store.disconnect()

    return leave


async def test_a_store_that_is_away_before_a_rollback_is_read_leaves_nothing_begun(tmp_path):
    """What is to be withdrawn is not known, so whoever finishes it asks the edges."""
    world = await at_second_stage(tmp_path)
    world.store.disconnect()
    with pytest.raises(StoreUnavailable) as away:
        await world.control.rollback(ORDER)
    assert not isinstance(away.value, CutShort)


async def outcomes(world: World, slots: range) -> bytes:
    """Return the body of a request with an outcome of each of these units."""
    sent = [
        {
            "prediction_id": await world.evidence.prediction(Variant.CHALLENGER, slot=slot),
            "metric": "correct",
            "value": 1,
        }
        for slot in slots
    ]
    return json.dumps(sent).encode()


async def counted(world: World) -> int:
    experiment = await world.experiment()
    name, stage = experiment.declaration.name, experiment.stage.number
    cell = Cell(name, stage, Variant.CHALLENGER, Version(2), "correct:1")
    return (await world.store.readings(name)).counts.get(cell, 0)


async def test_outcomes_wait_for_the_store_and_are_counted_exactly_once(tmp_path):
    """Control dies after each request that it has made up for, and once before all of them."""
    for steps in range(4):
        folder = tmp_path / str(steps)
        folder.mkdir()
        world = await started(folder)
        bodies = [await outcomes(world, range(at, at + 10)) for at in (0, 10, 20)]
        world.store.disconnect()
        for body in bodies:
            results = await world.control.intake.take(body)
            assert {result.status for result in results} == {"spooled"}
        await world.live(3)
        await world.restart_control()
        later = world.control.intake
        results = await later.take(bodies[0])
        assert {result.status for result in results} == {"spooled"}
        world.store.reconnect()
        await dying_after(world, steps)
        await world.restart_control()
        await world.live(3)
        assert await counted(world) == 10 * 3
        results = await world.control.intake.take(bodies[1])
        assert {result.refusal and result.refusal.code for result in results} == {
            "duplicate_outcome"
        }
        assert await counted(world) == 10 * 3


async def dying_after(world: World, requests: int) -> None:
    """Drain the spool, and die after so many requests."""
    observe = world.store.observe
    left = requests

    async def observed(records):
        nonlocal left
        if left == 0:
            raise Crashed
        left -= 1
        return await observe(records)

    world.store.observe = observed
    with pytest.raises(Crashed):
        await world.control.intake.drain()
    world.store.observe = observe


async def test_a_spooled_line_that_was_cut_short_is_no_obstacle_to_those_after_it(tmp_path):
    world = await started(tmp_path)
    first, second = await outcomes(world, range(10)), await outcomes(world, range(10, 15))
    world.store.disconnect()
    await world.control.intake.take(first)
    spool = tmp_path / "control" / "outcomes.spool"
    with spool.open("ab") as file:
        file.write(spool.read_bytes()[:40])
    await world.restart_control()
    await world.control.intake.take(second)
    world.store.reconnect()
    await world.live(2)
    assert await counted(world) == 15


async def test_an_outcome_is_judged_by_when_it_came_and_not_by_when_the_store_came_back(tmp_path):
    world = await started(tmp_path)
    in_time, late = await outcomes(world, range(10)), await outcomes(world, range(10, 20))
    world.store.disconnect()
    await world.control.intake.take(in_time)
    await world.pass_time(world.settings.attribution_window.total_seconds() + 1)
    await world.control.intake.take(late)
    world.store.reconnect()
    await world.live(2)
    assert await counted(world) == 10
    found = await world.control.controller.evidence(await world.experiment(), world.clock())
    assert found.late == 10


async def test_a_lost_replica_is_no_reason_to_touch_a_route(tmp_path):
    world = await promoted(tmp_path)
    before = await world.route()
    world.serve.lost[VERSION_2] = 1
    await world.live(5)
    assert await world.state(2) == "warm"
    assert await world.route() == before


async def test_a_rollback_does_without_registry_and_ray(tmp_path):
    world = await promoted(tmp_path)
    Users.of(world)
    world.catalog.up = world.serve.up = False
    done = await world.control.rollback(ORDER)
    assert (done.withdrawn, done.to_version) == ((2,), 1)
    assert world.edges["edge-0"].route().champion == 1
