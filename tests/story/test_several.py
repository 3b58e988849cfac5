"""Several challengers at once, with control killed after every change that it makes."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.errors import ChallengerIsChampion, WrongState
from experiments.lifecycle import Event, State
from experiments.store import Kind
from registry.errors import UnknownVersion
from registry.refs import Version, VersionRef
from serving.break_glass import Order
from serving.errors import NothingToRollBack, TargetNotHot
from tests.story.crashes import SETTLED, STARTED, ending, with_crashes
from tests.story.outside import DIGITS
from tests.story.users import Users
from tests.story.world import FILE, World

ORDER = Order(DIGITS, by="me", why="I do not like them.")
VERSION_2, VERSION_3, VERSION_4 = (VersionRef(DIGITS, Version(number)) for number in (2, 3, 4))

SEVERAL = FILE.replace("challenger: 2", "challengers: [2, 3]")
ONE_BAD = {"goal": (0.6, 0.3, 0.9)}
"""Traffic in which version 2 is clearly worse than the champion, and version 3 clearly better."""


async def two_on_trial(folder: Path) -> World:
    world = await World.standing(folder, versions=3)
    await world.start(SEVERAL)
    return world


async def in_no_hurry(folder: Path) -> World:
    """Return a world in which two are on trial, and the ramp waits for many more units."""
    world = await World.standing(folder, versions=3)
    await world.start(SEVERAL.replace("min_units: 200", "min_units: 20000"))
    return world


async def one_dropped(folder: Path) -> World:
    world = await two_on_trial(folder)
    await world.evidence.traffic(4000, **ONE_BAD)
    await world.live(1)
    assert (await world.experiment()).dropped == (2,)
    return world


async def test_one_that_does_harm_is_dropped_and_the_other_goes_on(tmp_path):
    async def story(world: World) -> None:
        experiment = await world.experiment()
        if not experiment.dropped:
            await world.evidence.traffic(4000, **ONE_BAD)
            await world.live(1)
        experiment = await world.experiment()
        assert experiment.state is State.RAMPING
        assert experiment.dropped == (2,)
        (trial,) = (await world.route()).trials
        assert (trial.challengers, trial.dropped) == ((2, 3), (2,))

    end = await with_crashes(tmp_path, story, prepared=in_no_hurry)
    assert end.experiments == {"digits-v2": (State.RAMPING, [500])}
    assert end.trials == ("digits-v2",)
    assert end.aliases.challenger == 3
    assert end.acts == [*STARTED, "drop"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot", "digits/3": "hot"}


async def test_after_a_drop_the_other_is_promoted_and_the_dropped_one_unloaded(tmp_path):
    async def story(world: World) -> None:
        for _ in range(6):
            if (await world.experiment()).is_final:
                return
            if (await world.route()).trials:
                await world.evidence.traffic(4000, **ONE_BAD)
            await world.live(6)

    end = await with_crashes(tmp_path, story, prepared=one_dropped)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500, 5000])}
    assert (end.champion, end.previous, end.trials) == (3, 1, ())
    assert end.history == [1, 3]
    assert end.acts == [*STARTED, "drop", "continue", "promote"]
    assert end.hosts == {"digits/1": "hot", "digits/3": "hot"}


async def test_when_all_do_harm_all_are_rolled_back_and_unloaded(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.RAMPING:
            await world.evidence.traffic(4000, goal=(0.9, 0.3, 0.3))
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=two_on_trial)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [500])}
    assert end.acts == [*STARTED, "roll_back"]
    assert end.hosts == {"digits/1": "hot"}


async def test_harm_drops_a_challenger_of_a_paused_experiment_too(tmp_path):
    world = await two_on_trial(tmp_path)
    name = (await world.experiment()).declaration.name
    await world.control.commands.tell(name, Event.PAUSE, by="me", why="Lunch.")
    await world.evidence.traffic(4000, **ONE_BAD)
    await world.live(1)
    experiment = await world.experiment()
    assert (experiment.state, experiment.dropped) == (State.PAUSED, (2,))


async def test_a_person_promotes_whichever_they_like_and_the_others_are_unloaded(tmp_path):
    async def story(world: World) -> None:
        if (await world.route()).champion == 1:
            await world.control.commands.promote(VERSION_3, by="me", why="I know it is better.")

    end = await with_crashes(tmp_path, story, prepared=two_on_trial)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500])}
    assert (end.champion, end.previous, end.trials) == (3, 1, ())
    assert end.hosts == {"digits/1": "hot", "digits/3": "hot"}
    assert end.acts == [*STARTED, "promote"]


async def test_nobody_promotes_a_version_that_is_not_in_the_experiment(tmp_path):
    world = await two_on_trial(tmp_path)
    await world.deploy((await world.register()).version)
    with pytest.raises(WrongState, match="2 or 3"):
        await world.control.commands.promote(VERSION_4, by="me", why="")


@pytest.mark.parametrize(("prepared", "withdrawn"), [(two_on_trial, (2, 3)), (one_dropped, (3,))])
async def test_a_rollback_by_hand_withdraws_all_that_are_on_trial(tmp_path, prepared, withdrawn):
    async def story(world: World) -> None:
        if (await world.experiment()).state not in (State.ROLLING_BACK, State.ROLLED_BACK):
            done = await world.control.rollback(ORDER)
            assert (done.withdrawn, done.to_version) == (withdrawn, 1)

    end = await with_crashes(tmp_path, story, prepared=prepared, repair=0)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [500])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts[-1] == "rollback"
    assert end.hosts == {"digits/1": "hot"}


async def test_a_rollback_that_meant_fewer_withdraws_no_more(tmp_path):
    world = await two_on_trial(tmp_path)
    with pytest.raises(NothingToRollBack, match="withdrawn already"):
        await world.control.rollback(replace(ORDER, withdrawn=(Version(2),)))
    assert (await world.control.rollback(replace(ORDER, withdrawn=(2, 3, 4)))).withdrawn == (2, 3)


async def test_a_drop_in_the_middle_of_a_rollback_does_not_stop_it(tmp_path):
    """The controller drops one right before the person's rollback of both is written."""
    world = await two_on_trial(tmp_path)
    users = Users.of(world)
    await world.evidence.traffic(4000, **ONE_BAD)
    world.store.interrupt(Kind.ROUTE, lambda: world.live(1))
    rolled_back = await world.control.rollback(ORDER)
    assert (rolled_back.withdrawn, rolled_back.to_version) == ((3,), 1)
    await world.live(SETTLED)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_an_experiment_that_is_stopped_unloads_what_it_has_dropped_and_nothing_else(tmp_path):
    world = await one_dropped(tmp_path)
    users = Users.of(world)
    name = (await world.experiment()).declaration.name
    await world.control.commands.tell(name, Event.STOP, by="me", why="Enough.")
    await world.live(SETTLED)
    users.assert_at_rest()
    end = await ending(world)
    assert end.hosts == {"digits/1": "hot", "digits/3": "hot"}
    assert end.acts == [*STARTED, "drop", "stop"]


async def test_every_challenger_has_to_be_known_hot_and_another_than_the_champion(tmp_path):
    world = await World.standing(tmp_path, versions=2)
    with pytest.raises(UnknownVersion):
        await world.start(SEVERAL)
    await world.register()
    with pytest.raises(TargetNotHot, match="digits/3"):
        await world.start(SEVERAL)
    with pytest.raises(ChallengerIsChampion, match="Version 1"):
        await world.start(FILE.replace("challenger: 2", "challengers: [2, 1]"))
    assert await world.records.experiments() == []
    assert not (await world.route()).trials
