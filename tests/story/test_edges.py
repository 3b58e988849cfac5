"""Edges: told by hand, new, dead, deaf; and what they know when the store has lost it all."""

import asyncio
import io
from pathlib import Path

import pytest
from fastapi.encoders import jsonable_encoder
from rich.console import Console

from experiments.lifecycle import Event, State
from experiments.store import ANY, Kind
from registry.refs import Version, VersionRef
from serving.break_glass import Order
from serving.cli import show
from serving.rollback import Rollback
from serving.switch import Switch
from tests.story.crashes import (
    BAD,
    GOOD,
    SETTLED,
    STARTED,
    assert_taken_out,
    ending,
    promoted,
    started,
    with_crashes,
)
from tests.story.outside import DIGITS
from tests.story.users import Users
from tests.story.world import FILE, World

ORDER = Order(DIGITS, by="me", why="I do not like it.")
VERSION_1, VERSION_2 = (VersionRef(DIGITS, Version(number)) for number in (1, 2))


async def with_two_edges(folder: Path) -> World:
    world = await World.standing(folder, edges=2)
    await world.start()
    return world


def obeyed(world: World) -> list[tuple[int, bool]]:
    """Return champion, and whether there is a trial, at every edge."""
    routes = [edge.route() for edge in world.edges.values()]
    return [(route.champion, bool(route.trials)) for route in routes]


async def test_a_rollback_at_an_edge_holds_there_at_once_and_everywhere_when_the_store_is_back(
    tmp_path,
):
    """With a crash of control after each step of taking it over."""

    async def broken_glass(folder: Path) -> World:
        world = await with_two_edges(folder)
        world.store.disconnect()
        await world.live(5)
        await world.edges["edge-0"].agent.roll_back(DIGITS, by="me", why="Harm!")
        assert obeyed(world) == [(1, False), (1, True)]
        await world.live(5)
        assert obeyed(world) == [(1, False), (1, True)]
        return world

    async def story(world: World) -> None:
        world.store.reconnect()
        await world.live(3)
        assert obeyed(world) == [(1, False), (1, False)]
        epochs = {edge.route().epoch for edge in world.edges.values()}
        assert epochs == {(await world.route()).epoch}
        assert all(not edge.agent.known.overrides for edge in world.edges.values())

    end = await with_crashes(tmp_path, story, prepared=broken_glass)
    assert_taken_out(end, [500], "rollback")


async def test_a_promoted_version_is_taken_back_at_an_edge(tmp_path):
    async def broken_glass(folder: Path) -> World:
        world = await promoted(folder)
        world.store.disconnect()
        await world.edges["edge-0"].agent.roll_back(DIGITS, by="me", why="Harm!")
        return world

    async def story(world: World) -> None:
        world.store.reconnect()
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=broken_glass)
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1, 2, 1]
    assert end.acts == [*STARTED, "continue", "promote", "rollback"]
    assert end.aliases.champion == 1


async def test_the_same_rollback_made_at_every_edge_is_one_rollback(tmp_path):
    world = await with_two_edges(tmp_path)
    users = Users.of(world)
    world.store.disconnect()
    for edge in world.edges.values():
        await edge.agent.roll_back(DIGITS, by="me", why="Harm!")
    world.store.reconnect()
    await world.live(SETTLED)
    users.assert_at_rest()
    end = await ending(world)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [500])}
    assert (end.champion, end.trials) == (1, ())
    assert end.history == [1]


async def test_when_the_store_has_lost_everything_it_learns_the_routes_from_the_edges(tmp_path):
    """Users notice nothing; a trial that nobody can watch any more is withdrawn."""

    async def lost(folder: Path) -> World:
        world = await promoted(folder)
        third = (await world.register()).version
        await world.deploy(third)
        await world.start(
            FILE.replace("challenger: 2", "challenger: 3").replace("digits-v2", "digits-v3")
        )
        await world.live(1)
        world.store.lose_everything()
        return world

    async def story(world: World) -> None:
        before = world.edges["edge-0"].route()
        await world.live(4)
        assert world.edges["edge-0"].route().epoch >= before.epoch

    end = await with_crashes(tmp_path, story, prepared=lost)
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.experiments == {}
    assert end.history == [1, 2]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot", "digits/3": "hot"}


async def test_when_the_edges_are_lost_too_the_registrys_champion_stands(tmp_path):
    async def lost(folder: Path) -> World:
        world = await promoted(folder)
        await world.live(2)
        world.edges.clear()
        world.store.lose_everything()
        return world

    async def story(world: World) -> None:
        await world.live(3)
        if not world.edges:
            await world.add_edge("edge-9")

    end = await with_crashes(tmp_path, story, prepared=lost)
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.history == [1, 2]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def test_a_rollback_that_the_store_forgot_is_not_undone(tmp_path):
    """The store comes back as it was before the rollback, which edges had acknowledged."""
    world = await started(tmp_path)
    users = Users.of(world)
    remembered = {
        kind: dict(world.store._living(kind)) for kind in (Kind.ROUTE, Kind.EXPERIMENT, Kind.HOST)
    }
    await world.control.rollback(ORDER)
    epoch = world.edges["edge-0"].route().epoch
    world.store.listeners.clear()
    for kind, documents in remembered.items():
        for name, stored in documents.items():
            await world.store.write(kind, name, stored.body, expected=ANY)
    world.store.listeners = [edge.hear for edge in world.edges.values()]
    await world.live(SETTLED)
    users.assert_at_rest()
    assert world.edges["edge-0"].route().epoch > epoch
    assert not world.edges["edge-0"].route().trials
    assert (await world.experiment()).state is State.STOPPED


async def test_a_new_edge_obeys_what_the_others_do(tmp_path):
    world = await started(tmp_path)
    users = Users.of(world)
    await world.add_edge("edge-1")
    assert obeyed(world) == [(1, True), (1, True)]
    done = await world.control.rollback(ORDER)
    assert set(done.edges) == {"edge-0", "edge-1"}
    await world.live(2)
    users.assert_at_rest()


async def test_an_edge_that_starts_again_obeys_nothing_older_than_before(tmp_path):
    world = await with_two_edges(tmp_path)
    Users.of(world)
    epoch = world.edges["edge-1"].route().epoch
    world.edges["edge-1"].alive = False
    await world.live(4)
    await world.control.rollback(ORDER)
    edge = await world.add_edge("edge-1")
    assert edge.route().epoch > epoch
    assert not edge.route().trials


async def test_a_dead_edge_is_not_waited_for_once_its_lease_is_over(tmp_path):
    world = await with_two_edges(tmp_path)
    world.edges["edge-1"].alive = False
    await world.pass_time(world.settings.edge_lease.total_seconds())
    done = await world.control.rollback(ORDER)
    assert done.edges == ("edge-0",)
    assert done.silent == ()
    await world.live(2)
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_a_rollback_waits_for_an_edge_no_longer_than_its_lease(tmp_path):
    """The edge dies while it is waited for; time passes by the store's clock alone."""
    world = await with_two_edges(tmp_path)
    world.edges["edge-1"].alive = False
    switch = Switch(world.store, world.records, patience=60)
    waiting = asyncio.create_task(Rollback(world.store, world.records, switch, world.clock)(ORDER))
    while world.edges["edge-0"].route().trials:  # noqa: ASYNC110  no clock here
        await asyncio.sleep(0)
    for _ in range(round(world.settings.edge_lease.total_seconds())):
        assert not waiting.done()
        await world.pass_time(1)
    done = await waiting
    assert done.edges == ("edge-0",)
    assert done.silent == ("edge-1",), "it may serve the old route for all that anybody knows"


async def test_edges_that_a_store_has_not_heard_of_since_it_is_back_are_not_taken_for_dead(
    tmp_path,
):
    """Their leases ran out because there was nobody to hear them."""
    world = await with_two_edges(tmp_path)
    users = Users.of(world)
    world.store.disconnect()
    await world.live(10)
    world.store.reconnect()
    listening, world.store.listeners = world.store.listeners, []
    done = await world.control.rollback(ORDER)
    assert (done.edges, done.silent, done.lost) == ((), ("edge-0", "edge-1"), ())
    assert (await world.experiment()).state is State.ROLLING_BACK
    await world.control.controller.tick()
    assert (await world.experiment()).state is State.ROLLING_BACK, "nobody has obeyed yet"
    world.store.listeners = listening
    await world.live(3)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_an_edge_that_was_lost_is_named_until_it_is_back_or_has_ended_in_order(tmp_path):
    world = await World.standing(tmp_path, edges=2)
    lost = world.edges["edge-1"]
    lost.alive = False
    await world.live(4)
    promoted = await world.control.commands.promote(VERSION_2, by="me", why="")
    assert (promoted.obeyed, promoted.silent, promoted.lost) == (("edge-0",), (), ("edge-1",))
    lost.alive = True
    await world.live(2)
    done = await world.control.rollback(ORDER)
    assert (done.edges, done.silent, done.lost) == (("edge-0", "edge-1"), (), ())
    lost.runtime.up = False
    await lost.agent.leave()
    lost.alive = False
    promoted = await world.control.commands.promote(VERSION_2, by="me", why="")
    assert (promoted.obeyed, promoted.silent, promoted.lost) == (("edge-0",), (), ())


async def test_the_status_tells_of_edges_that_were_lost(tmp_path):
    world = await with_two_edges(tmp_path)
    assert (await world.control.overview()).lost_edges == {}
    world.edges["edge-1"].alive = False
    heard = world.clock()
    await world.live(4)
    assert (await world.control.overview()).lost_edges == {"edge-1": heard}
    shown = Console(width=120, record=True, file=io.StringIO())
    shown.print(show.system(jsonable_encoder(await world.control.overview())))
    assert "edge-1 is lost: it was last heard of about 2026-01-02" in shown.export_text()


async def test_an_agent_that_ends_while_its_haproxy_goes_on_is_not_forgotten(tmp_path):
    world = await with_two_edges(tmp_path)
    leaving = world.edges["edge-1"]
    await leaving.agent.leave()
    leaving.alive = False
    await world.live(4)
    assert (await world.control.rollback(ORDER)).lost == ("edge-1",)


async def test_a_deaf_edge_is_named_and_keeps_the_rollback_from_being_called_complete(tmp_path):
    world = await with_two_edges(tmp_path)
    users = Users.of(world)
    deaf = world.edges["edge-1"]
    deaf.deaf = True
    done = await world.control.rollback(ORDER)
    assert done.edges == ("edge-0",)
    assert done.silent == ("edge-1",)
    await world.live(3)
    assert (await world.experiment()).state is State.ROLLING_BACK
    assert await world.state(2) == "hot", "some users are still sent to it"
    deaf.deaf = False
    await world.live(3)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.ROLLED_BACK
    assert obeyed(world) == [(1, False), (1, False)]


async def test_a_deaf_edge_does_not_keep_the_controller_from_deciding(tmp_path):
    """It is waited for once a change, and not at every look."""
    world = await with_two_edges(tmp_path)
    world.edges["edge-1"].deaf = True
    await world.evidence.traffic(2000, **BAD)
    await world.live(1)
    patient = Switch(world.store, world.records, patience=3600)
    experiment = await world.experiment()
    assert experiment.state is State.ROLLING_BACK
    looked = await patient.settle(experiment, by="me", at=world.clock())
    assert not looked.changed
    assert looked.silent == ("edge-1",)


async def test_a_promotion_waits_for_every_edge_before_it_is_called_complete(tmp_path):
    world = await with_two_edges(tmp_path)
    users = Users.of(world)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(6)
    world.edges["edge-1"].deaf = True
    await world.evidence.traffic(2000, **GOOD)
    await world.live(8)
    assert (await world.experiment()).state is State.PROMOTING
    world.edges["edge-1"].deaf = False
    await world.live(3)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.PROMOTED
    assert obeyed(world) == [(2, False), (2, False)]


@pytest.mark.parametrize("event", [Event.PAUSE, Event.STOP])
async def test_what_a_person_says_reaches_every_edge(tmp_path, event):
    world = await with_two_edges(tmp_path)
    name = (await world.experiment()).declaration.name
    switched = await world.control.commands.tell(name, event, by="me", why="I wish it.")
    assert set(switched.obeyed) == {"edge-0", "edge-1"}
    assert obeyed(world) == [(1, event is Event.PAUSE)] * 2
    assert switched.after == await world.route()
