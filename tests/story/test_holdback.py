"""After promotion some units stay with the old champion; control may die at any moment of it."""

from pathlib import Path

import pytest

from experiments.errors import WrongState
from experiments.lifecycle import Event, State
from registry.refs import Version, VersionRef
from serving.break_glass import Order
from serving.errors import NothingToRollBack
from tests.story.crashes import GOOD, SETTLED, STARTED, ending, with_crashes
from tests.story.outside import DIGITS
from tests.story.users import Users
from tests.story.world import FILE, World

ORDER = Order(DIGITS, by="me", why="I do not like it.")
VERSION_2, VERSION_3 = (VersionRef(DIGITS, Version(number)) for number in (2, 3))
HELD_BACK = FILE + "holdback: {share: 10%, for: 60s}\n"
SHARES = [500, 5000, 9000]
WON = [*STARTED, "continue", "promote"]


async def at_last_stage(folder: Path, *, file: str = HELD_BACK, versions: int = 2) -> World:
    world = await World.standing(folder, versions=versions)
    await world.start(file)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(6)
    assert (await world.experiment()).stage.number == 1
    await world.evidence.traffic(2000, **GOOD)
    await world.live(3)
    return world


async def held_back(folder: Path, *, file: str = HELD_BACK, versions: int = 2) -> World:
    """Return a world in which version 2 is the champion, but for those held back."""
    world = await at_last_stage(folder, file=file, versions=versions)
    await world.live(6)
    assert (await world.experiment()).state is State.HOLDING_BACK
    return world


async def test_the_winner_becomes_the_champion_while_some_stay_with_the_old_one(tmp_path):
    async def story(world: World) -> None:
        await world.live(6)

    end = await with_crashes(tmp_path, story, prepared=at_last_stage)
    assert end.experiments == {"digits-v2": (State.HOLDING_BACK, SHARES)}
    assert (end.champion, end.previous, end.trials) == (2, 1, ("digits-v2",))
    assert (end.aliases.champion, end.aliases.previous, end.aliases.challenger) == (2, 1, None)
    assert end.history == [1, 2]
    assert end.acts == WON
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def test_without_harm_the_holdback_ends_in_promotion(tmp_path):
    async def story(world: World) -> None:
        if (await world.route()).trials:
            await world.evidence.traffic(2000, **GOOD)
        await world.pass_time(60)
        await world.live(2)

    end = await with_crashes(tmp_path, story, prepared=held_back)
    assert end.experiments == {"digits-v2": (State.PROMOTED, SHARES)}
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.history == [1, 2]
    assert end.acts == WON, "two promotions in a row: into the holdback, and out of it"
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def test_harm_that_shows_in_the_holdback_brings_the_old_champion_back(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.HOLDING_BACK:
            await world.evidence.traffic(9000, goal=(0.9, 0.2))
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=held_back)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, SHARES)}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1, 2, 1]
    assert end.acts == [*WON, "roll_back"]
    assert end.hosts == {"digits/1": "hot"}


async def test_a_person_goes_back_in_the_middle_of_a_holdback(tmp_path):
    async def story(world: World) -> None:
        if (await world.route()).champion == 2:
            done = await world.control.rollback(ORDER)
            assert (done.withdrawn, done.to_version) == ((2,), 1)
            route = world.edges["edge-0"].route()
            assert (route.champion, route.trials) == (1, ())

    end = await with_crashes(tmp_path, story, prepared=held_back, repair=0)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, SHARES)}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1, 2, 1]
    assert end.acts == [*WON, "rollback"]
    assert end.hosts == {"digits/1": "hot"}


async def test_a_holdback_is_rolled_back_at_an_edge_while_the_store_is_away(tmp_path):
    async def broken_glass(folder: Path) -> World:
        world = await held_back(folder)
        world.store.disconnect()
        await world.live(5)
        told = world.clock()
        await world.edges["edge-0"].agent.roll_back(DIGITS, by="me", why="Harm!")
        route = world.edges["edge-0"].route()
        assert (route.champion, route.previous, route.trials) == (1, None, ())
        await world.live(20)
        world.store.reconnect()
        assert world.clock() > told
        return world

    async def story(world: World) -> None:
        await world.live(4)
        experiment = await world.experiment()
        assert experiment.state is State.ROLLED_BACK
        assert experiment.reasons == ("At an edge: Harm!",)
        assert experiment.ended_at is not None
        gone = (world.clock() - experiment.ended_at).total_seconds()
        assert gone >= 20, "it ended when the edge was told, not when that was taken over"

    end = await with_crashes(tmp_path, story, prepared=broken_glass)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, SHARES)}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1, 2, 1]
    assert end.acts == [*WON, "rollback"]
    assert end.hosts == {"digits/1": "hot"}


async def test_a_person_ends_the_holdback_early(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.HOLDING_BACK:
            await world.control.commands.promote(VERSION_2, by="me", why="I have seen enough.")
        await world.live(2)

    end = await with_crashes(tmp_path, story, prepared=held_back, repair=0)
    assert end.experiments == {"digits-v2": (State.PROMOTED, SHARES)}
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.history == [1, 2]


async def test_a_promotion_by_hand_during_the_ramp_holds_nobody_back(tmp_path):
    world = await World.standing(tmp_path)
    users = Users.of(world)
    await world.start(HELD_BACK)
    await world.control.commands.promote(VERSION_2, by="me", why="I know it is better.")
    await world.live(SETTLED)
    users.assert_at_rest()
    end = await ending(world)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500])}
    assert (end.champion, end.previous, end.trials) == (2, 1, ())


async def test_units_that_are_not_divided_as_meant_halt_a_holdback_and_the_old_champion_is_back(
    tmp_path,
):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.HOLDING_BACK:
            await world.evidence.traffic(4000, **GOOD, share=0.3)
            await world.live(2)
        experiment = await world.experiment()
        if experiment.state is State.HALTED:
            assert (await world.route()).champion == 1
            name = experiment.declaration.name
            await world.control.commands.tell(name, Event.STOP, by="me", why="Enough.")

    end = await with_crashes(tmp_path, story, prepared=held_back)
    assert end.experiments == {"digits-v2": (State.STOPPED, SHARES)}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1, 2, 1]
    assert end.acts == [*WON, "halt", "stop"]


@pytest.mark.parametrize("event", [Event.PAUSE, Event.STOP, Event.RESUME])
async def test_a_holdback_is_neither_paused_nor_stopped(tmp_path, event):
    world = await held_back(tmp_path)
    name = (await world.experiment()).declaration.name
    with pytest.raises(WrongState, match="promote"):
        await world.control.commands.tell(name, event, by="me", why="")
    assert (await world.experiment()).state is State.HOLDING_BACK


async def test_in_a_holdback_of_several_only_the_winner_may_be_promoted(tmp_path):
    file = HELD_BACK.replace("challenger: 2", "challengers: [2, 3]")
    world = await World.standing(tmp_path, versions=3)
    users = Users.of(world)
    await world.start(file)
    for _ in range(2):
        await world.evidence.traffic(4000, goal=(0.5, 0.95, 0.55))
        await world.live(7)
    assert (await world.experiment()).winner == 2
    with pytest.raises(WrongState, match="not with 3") as refused:
        await world.control.commands.promote(VERSION_3, by="me", why="")
    assert "tiltyard rollback" in refused.value.hint
    await world.control.commands.promote(VERSION_2, by="me", why="")
    await world.live(SETTLED)
    users.assert_at_rest()
    end = await ending(world)
    assert (end.champion, end.previous) == (2, 1)
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def test_the_version_that_is_held_against_the_old_one_is_nothing_to_go_back_to(tmp_path):
    world = await held_back(tmp_path)
    with pytest.raises(NothingToRollBack, match="on trial"):
        await world.control.rollback(Order(DIGITS, by="me", why="", to=Version(2)))
    done = await world.control.rollback(Order(DIGITS, by="me", why="", to=Version(1)))
    assert (done.withdrawn, done.to_version) == ((2,), 1)


async def test_when_the_store_has_lost_how_a_holdback_ended_it_ends_as_the_edges_have_it(tmp_path):
    """The store comes back as it was during the holdback; the edges know better."""
    for promoted in (True, False):
        folder = tmp_path / str(promoted)
        folder.mkdir()
        world = await held_back(folder)
        users = Users.of(world)
        before = world.store.remember()
        if promoted:
            await world.control.commands.promote(VERSION_2, by="me", why="")
        else:
            await world.control.rollback(ORDER)
        await world.live(2)
        await world.store.come_back_as(before)
        await world.live(SETTLED)
        users.assert_at_rest()
        route, state = await world.route(), (await world.experiment()).state
        assert (route.champion, route.trials) == (2 if promoted else 1, ())
        assert state is (State.PROMOTED if promoted else State.ROLLED_BACK)
