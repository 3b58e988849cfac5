"""Before anybody meets the challenger: control may die at any moment of it, and nobody notices."""

from pathlib import Path

import pytest

from experiments.lifecycle import Event, State
from registry.refs import Version, VersionRef
from serving.break_glass import Order
from serving.routes import Trial
from tests.story.crashes import GOOD, STARTED, assert_taken_out, ending, with_crashes
from tests.story.outside import DIGITS
from tests.story.pairs import ALONE, BEFORE_THE_RAMP, pairs
from tests.story.users import Users
from tests.story.world import World

ORDER = Order(DIGITS, by="me", why="I do not like it.")
FAILS = {"errors": (80, 0, 0)}
"""The challenger fails in a tenth of the pairs, the champion in none."""


async def in_shadow(folder: Path) -> World:
    world = await World.standing(folder)
    await world.start(BEFORE_THE_RAMP)
    return world


async def alone(folder: Path) -> World:
    world = await World.standing(folder)
    await world.start(ALONE)
    return world


async def trial(world: World) -> Trial:
    (found,) = (await world.route()).trials
    return found


async def test_in_the_shadow_the_route_repeats_requests_and_sends_nobody_away(tmp_path):
    world = await in_shadow(tmp_path)
    found = await trial(world)
    assert (found.shadow, found.cut, found.floor, found.stage) == (True, 2000, 0, 0)
    assert found.watch.tolerance == 0.5
    route = await world.route()
    assert route.control == 1
    assert "|shadow|" in world.edges["edge-0"].runtime.map[DIGITS]


async def test_after_the_shadow_the_first_users_meet_it_and_none_is_a_veteran(tmp_path):
    world = await in_shadow(tmp_path)
    await pairs(world)
    await world.live(5)
    found = await trial(world)
    assert (found.shadow, found.cut, found.floor, found.stage) == (False, 500, 0, 1)
    assert found.watch.tolerance is None
    assert "|live|" in world.edges["edge-0"].runtime.map[DIGITS]


async def test_a_challenger_goes_through_the_shadow_and_the_ramp_and_is_promoted(tmp_path):
    async def story(world: World) -> None:
        for _ in range(8):
            experiment = await world.experiment()
            if experiment.is_final:
                return
            if (await world.route()).trials and experiment.stage.shadow:
                await pairs(world)
            elif (await world.route()).trials:
                await world.evidence.traffic(2000, **GOOD)
            await world.live(5)
        raise AssertionError(f"it is {(await world.experiment()).state}")

    end = await with_crashes(tmp_path, story, prepared=in_shadow)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [2000, 500, 5000])}
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.history == [1, 2]
    assert end.acts == [*STARTED, "continue", "promote"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


@pytest.mark.parametrize("prepared", [in_shadow, alone])
@pytest.mark.parametrize(
    ("shown", "why"), [(FAILS, "error_rate in the shadow"), ({"differ": 160}, "agreement")]
)
async def test_harm_in_the_shadow_brings_the_challenger_down(tmp_path, prepared, shown, why):
    async def story(world: World) -> None:
        experiment = await world.experiment()
        if experiment.state is State.RAMPING:
            await pairs(world, **shown)
        await world.live(3)
        assert why in " ".join((await world.experiment()).reasons)

    end = await with_crashes(tmp_path, story, prepared=prepared)
    assert_taken_out(end, [2000], "roll_back")


async def test_alone_the_challenger_passes_and_stays_loaded_for_what_comes_next(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.RAMPING:
            await pairs(world)
            await world.live(12)

    end = await with_crashes(tmp_path, story, prepared=alone)
    assert end.experiments == {"digits-v2": (State.PASSED, [2000])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.aliases.champion == 1
    assert end.history == [1]
    assert end.acts == [*STARTED, "pass"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


@pytest.mark.parametrize("prepared", [in_shadow, alone])
async def test_a_shadow_that_shows_too_little_ends_when_its_time_is_up(tmp_path, prepared):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.RAMPING:
            await pairs(world, 100)
            await world.pass_time(8 * 24 * 3600)
            await world.live(1)

    end = await with_crashes(tmp_path, story, prepared=prepared)
    assert end.experiments == {"digits-v2": (State.INCONCLUSIVE, [2000])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts == [*STARTED, "inconclusive"]


async def test_a_shadow_is_paused_resumed_and_stopped(tmp_path):
    async def story(world: World) -> None:
        experiment = await world.experiment()
        name, tell = experiment.declaration.name, world.control.commands.tell
        if not experiment.reasons:
            await tell(name, Event.PAUSE, by="me", why="Lunch.")
        if (await world.experiment()).state is State.PAUSED:
            await pairs(world)
            await world.live(6)
            assert (await world.experiment()).stage.shadow, "paused, nobody meets the challenger"
            assert (await trial(world)).shadow, "requests are repeated all the same"
            await tell(name, Event.RESUME, by="me", why="Back.")
        if (await world.experiment()).stage.shadow:
            await world.live(6)
        experiment = await world.experiment()
        if experiment.state is State.RAMPING:
            assert experiment.stage.number == 1, "resumed, somebody does"
            await tell(name, Event.STOP, by="me", why="Enough.")

    end = await with_crashes(tmp_path, story, prepared=in_shadow)
    assert end.experiments == {"digits-v2": (State.STOPPED, [2000, 500])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts == [*STARTED, "pause", "resume", "continue", "stop"]


@pytest.mark.parametrize("prepared", [in_shadow, alone])
async def test_a_person_rolls_back_out_of_the_shadow(tmp_path, prepared):
    async def story(world: World) -> None:
        if (await world.route()).trials:
            await world.control.rollback(ORDER)
        await world.live(2)

    end = await with_crashes(tmp_path, story, prepared=prepared)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [2000])}
    assert (end.champion, end.trials) == (1, ())
    assert end.hosts == {"digits/1": "hot"}


@pytest.mark.parametrize("prepared", [in_shadow, alone])
async def test_an_edge_that_is_told_by_hand_repeats_nothing_any_more(tmp_path, prepared):
    world = await prepared(tmp_path)
    users = Users.of(world)
    world.store.disconnect()
    await world.edges["edge-0"].agent.roll_back(DIGITS, by="me", why="Harm!")
    assert world.edges["edge-0"].route(DIGITS).trials == ()
    world.store.reconnect()
    await world.live(6)
    users.assert_at_rest()
    end = await ending(world)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [2000])}
    assert (end.champion, end.trials) == (1, ())


async def test_a_person_may_promote_out_of_the_shadow(tmp_path):
    world = await in_shadow(tmp_path)
    ref = VersionRef(DIGITS, Version(2))
    await world.control.commands.promote(ref, by="me", why="I know it.")
    await world.live(4)
    assert (await ending(world)).experiments == {"digits-v2": (State.PROMOTED, [2000])}
    assert (await world.route()).champion == 2


async def test_requests_that_could_not_be_repeated_keep_the_gate_closed(tmp_path):
    world = await in_shadow(tmp_path)
    await pairs(world, dropped=400)
    await world.live(6)
    assert (await world.experiment()).stage.shadow
    view = (await world.http().get("/v1/experiments/digits-v2")).json()
    assert "33 % of the repeated requests were not compared" in " ".join(
        view["decision"]["reasons"]
    )
