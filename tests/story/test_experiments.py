"""The life of an experiment, with control killed after every single change that it makes."""

from pathlib import Path

import pytest

from experiments.lifecycle import Event, State
from registry.refs import Version, VersionRef
from serving.errors import TargetNotHot
from tests.story.crashes import (
    ADOPTED,
    BAD,
    GOOD,
    STARTED,
    assert_taken_out,
    at_second_stage,
    started,
    with_crashes,
)
from tests.story.outside import DIGITS
from tests.story.world import FILE, World

VERSION_1, VERSION_2 = (VersionRef(DIGITS, Version(number)) for number in (1, 2))


async def until_over(world: World, **traffic: object) -> None:
    """Have units meet the experiment until it is over."""
    for _ in range(8):
        if (await world.experiment()).is_final:
            return
        if (await world.route()).trials:
            await world.evidence.traffic(2000, **traffic)
        await world.live(5)
    raise AssertionError(f"it is {(await world.experiment()).state}")


async def test_a_better_challenger_climbs_the_ramp_and_is_promoted(tmp_path):
    async def story(world: World) -> None:
        await until_over(world, **GOOD)

    end = await with_crashes(tmp_path, story, prepared=started)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500, 5000])}
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.aliases.champion == 2
    assert end.aliases.previous == 1
    assert end.history == [1, 2]
    assert end.acts == [*STARTED, "continue", "promote"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


@pytest.mark.parametrize(
    ("harm", "act"),
    [
        (BAD, "correct"),
        ({"goal": (0.9, 0.9), "errors": (0.01, 0.3)}, "error_rate"),
        ({"goal": (0.9, 0.9), "slow": (0.01, 0.3)}, "latency_ms>250"),
    ],
    ids=["goal", "error_rate", "latency"],
)
async def test_a_harmful_challenger_is_rolled_back_and_unloaded(tmp_path, harm, act):
    async def story(world: World) -> None:
        await until_over(world, **harm)
        experiment = await world.experiment()
        assert act in " ".join(experiment.reasons)

    end = await with_crashes(tmp_path, story, prepared=started)
    assert_taken_out(end, [500], "roll_back")


async def test_units_that_are_not_divided_as_meant_halt_the_experiment(tmp_path):
    async def story(world: World) -> None:
        experiment = await world.experiment()
        if experiment.state is State.RAMPING:
            await world.evidence.traffic(2000, **GOOD, share=0.5)
            await world.live(2)
        experiment = await world.experiment()
        if experiment.state is State.HALTED:
            assert not (await world.route()).trials
            await world.control.commands.tell(
                experiment.declaration.name, Event.STOP, by="me", why="Enough."
            )

    end = await with_crashes(tmp_path, story, prepared=started)
    assert end.experiments == {"digits-v2": (State.STOPPED, [500])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts == [*STARTED, "halt", "stop"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def test_an_experiment_without_a_verdict_ends_when_its_time_is_up(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.RAMPING:
            await world.pass_time(8 * 24 * 3600)
            await world.live(1)

    end = await with_crashes(tmp_path, story, prepared=started)
    assert end.experiments == {"digits-v2": (State.INCONCLUSIVE, [500])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts == [*STARTED, "inconclusive"]


async def test_nothing_is_decided_of_an_experiment_that_nobody_has_met(tmp_path):
    world = await started(tmp_path)
    await world.live(30)
    assert (await world.experiment()).stage.number == 0
    assert (await world.experiment()).state is State.RAMPING


async def test_an_experiment_is_paused_resumed_and_stopped(tmp_path):
    async def story(world: World) -> None:
        experiment = await world.experiment()
        name, tell = experiment.declaration.name, world.control.commands.tell
        if not experiment.reasons:
            await tell(name, Event.PAUSE, by="me", why="Lunch.")
        if (await world.experiment()).state is State.PAUSED:
            await world.evidence.traffic(2000, **GOOD)
            await world.live(6)
            assert (await world.experiment()).stage.number == 0, "a paused ramp does not move"
            assert (await world.route()).trials
            await tell(name, Event.RESUME, by="me", why="Back.")
        if (await world.experiment()).stage.number == 0:
            await world.live(6)
        experiment = await world.experiment()
        if experiment.state is State.RAMPING:
            assert experiment.stage.number == 1, "a resumed one does"
            await tell(name, Event.STOP, by="me", why="Enough.")

    end = await with_crashes(tmp_path, story, prepared=started)
    assert end.experiments == {"digits-v2": (State.STOPPED, [500, 5000])}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts == [*STARTED, "pause", "resume", "continue", "stop"]


async def test_harm_is_found_in_a_paused_experiment_too(tmp_path):
    async def story(world: World) -> None:
        experiment = await world.experiment()
        if experiment.state is State.RAMPING:
            await world.control.commands.tell(
                experiment.declaration.name, Event.PAUSE, by="me", why="Lunch."
            )
        await until_over(world, **BAD)

    end = await with_crashes(tmp_path, story, prepared=started)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [500])}
    assert end.acts == [*STARTED, "pause", "roll_back"]


async def test_the_first_version_that_is_deployed_becomes_the_champion(tmp_path):
    async def nothing(folder: Path) -> World:
        world = World(folder)
        await world.add_edge("edge-0")
        await world.register()
        await world.register()
        return world

    async def story(world: World) -> None:
        for version in (1, 2):
            if await world.state(version) is None:
                await world.deploy(version)
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=nothing)
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def test_an_experiment_is_started_or_not_but_never_half(tmp_path):
    async def story(world: World) -> None:
        if not await world.records.experiments():
            await world.start()

    end = await with_crashes(tmp_path, story)
    assert end.experiments == {"digits-v2": (State.RAMPING, [500])}
    assert end.trials == ("digits-v2",)
    assert end.aliases.challenger == 2


@pytest.mark.parametrize("with_experiment", [True, False])
async def test_a_version_is_promoted_by_hand(tmp_path, with_experiment):
    async def story(world: World) -> None:
        if (await world.route()).champion == 1:
            await world.control.commands.promote(VERSION_2, by="me", why="I know it is better.")

    end = await with_crashes(
        tmp_path, story, prepared=started if with_experiment else World.standing
    )
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.history == [1, 2]
    assert end.acts == [*(STARTED if with_experiment else ADOPTED), "promote"]
    if with_experiment:
        assert end.experiments == {"digits-v2": (State.PROMOTED, [500])}


async def test_a_look_within_a_horizon_is_written_down_before_anything_follows_from_it(tmp_path):
    """Control may die after any step: what a look has spent is spent once, and not forgotten."""

    async def bounded(folder: Path) -> World:
        world = await World.standing(folder)
        await world.start(FILE + "horizon: {units: 100000}\n")
        return world

    async def story(world: World) -> None:
        await until_over(world, **GOOD)
        experiment = await world.experiment()
        assert [look.crossed for look in experiment.looks][-1]
        times = [look.time for look in experiment.looks]
        assert times == sorted(set(times)), "each look is taken once"
        receipts = await world.records.receipts(DIGITS)
        last = receipts[0][1].plan
        assert last is not None
        assert last.looks == experiment.looks, "the promotion rests on looks that were kept"

    end = await with_crashes(tmp_path, story, prepared=bounded)
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500, 5000])}
    assert end.acts == [*STARTED, "continue", "promote"]


async def test_a_version_that_is_not_hot_is_neither_tried_nor_promoted(tmp_path):
    world = await World.standing(tmp_path)
    world.serve.lost[VERSION_2] = 1
    await world.live(1)
    with pytest.raises(TargetNotHot, match="warm"):
        await world.start()
    with pytest.raises(TargetNotHot, match="warm"):
        await world.control.commands.promote(VERSION_2, by="me", why="")
    assert await world.records.experiments() == []
    assert (await world.route()).epoch == 1


async def test_nothing_is_promoted_while_what_it_replaces_is_not_hot(tmp_path):
    """A promotion that could not be taken back at once would be none."""
    world = await at_second_stage(tmp_path)
    world.serve.lost[VERSION_1] = 1
    await world.live(1)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(10)
    assert (await world.experiment()).state is State.RAMPING
    world.serve.lost.clear()
    await world.live(5)
    assert (await world.experiment()).state is State.PROMOTED
