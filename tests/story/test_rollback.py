"""Going back by hand, from every state, with control killed after every change that it makes."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.lifecycle import Event, State
from experiments.store import ANY, Kind
from registry.refs import Version, VersionRef
from serving.break_glass import Order, RolledBack
from serving.errors import JustRolledBack, NothingToRollBack, TargetNotHot
from serving.hosts import HostState, statuses, write_status
from tests.story.crashes import (
    ADOPTED,
    GOOD,
    MOST_STEPS,
    SETTLED,
    STARTED,
    assert_taken_out,
    at_second_stage,
    ending,
    promoted,
    started,
    with_crashes,
)
from tests.story.outside import DIGITS, Crashed
from tests.story.users import Users
from tests.story.world import FILE, World

ORDER = Order(DIGITS, by="me", why="I do not like it.")
VERSION_1, VERSION_2, VERSION_3 = (VersionRef(DIGITS, Version(number)) for number in (1, 2, 3))


async def roll_back(world: World, **asked: object) -> RolledBack:
    """Roll back, and see that no edge serves what was withdrawn once that is acknowledged."""
    done = await world.control.rollback(replace(ORDER, **asked))
    for name in done.edges:
        obeyed = world.edges[name].route()
        assert obeyed.champion == done.to_version
        assert not obeyed.trials
    return done


async def paused(folder: Path) -> World:
    world = await started(folder)
    await tell(world, Event.PAUSE)
    return world


async def halted(folder: Path) -> World:
    world = await started(folder)
    await world.evidence.traffic(2000, **GOOD, share=0.5)
    await world.live(2)
    assert (await world.experiment()).state is State.HALTED
    return world


async def at_a_gate(folder: Path) -> World:
    """Return a world in which the next tick opens the second stage."""
    world = await started(folder)
    await world.evidence.traffic(2000, **GOOD)
    await world.pass_time(6)
    return world


async def stopping(folder: Path) -> World:
    world = await started(folder)
    await tell(world, Event.STOP)
    assert (await world.experiment()).state is State.STOPPING
    return world


async def tell(world: World, event: Event) -> None:
    name = (await world.experiment()).declaration.name
    await world.control.commands.tell(name, event, by="me", why="I wish it.")


@pytest.mark.parametrize(
    ("prepared", "shares", "acts"),
    [
        (started, [500], []),
        (at_a_gate, [500], []),
        (at_second_stage, [500, 5000], ["continue"]),
        (paused, [500], ["pause"]),
        (halted, [500], ["halt"]),
        (stopping, [500], ["stop"]),
    ],
)
async def test_a_challenger_is_withdrawn_by_hand_whatever_its_experiment_does(
    tmp_path: Path,
    prepared: Callable[[Path], Awaitable[World]],
    shares: list[int],
    acts: list[str],
):
    async def story(world: World) -> None:
        if (await world.experiment()).state not in (State.ROLLING_BACK, State.ROLLED_BACK):
            done = await roll_back(world)
            assert (done.withdrawn, done.to_version) == ((2,), 1)
            assert done.silent == ()

    # After a crash before anything was written the experiment lives on, so the person is quick.
    end = await with_crashes(tmp_path, story, prepared=prepared, repair=0)
    assert_taken_out(end, shares, *acts, "rollback")


async def test_a_version_that_was_just_promoted_is_taken_back(tmp_path):
    async def story(world: World) -> None:
        if (await world.route()).champion == 2:
            done = await roll_back(world)
            assert (done.withdrawn, done.to_version) == ((2,), 1)

    end = await with_crashes(tmp_path, story, prepared=promoted)
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.experiments == {"digits-v2": (State.PROMOTED, [500, 5000])}
    assert end.aliases.champion == 1
    assert end.aliases.previous is None
    assert end.history == [1, 2, 1]
    assert end.acts == [*STARTED, "continue", "promote", "rollback"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot"}


async def interrupted_promotion(folder: Path, steps: int) -> World | None:
    """Return a world in which control died in a promotion; None if that was over before."""
    world = await at_second_stage(folder)
    await world.evidence.traffic(2000, **GOOD)
    await world.pass_time(8)
    world.crash_after(steps)
    try:
        await world.live(1)
    except Crashed:
        await world.restart_control()
        return world
    return None


async def test_a_promotion_that_was_cut_short_anywhere_is_taken_back_from_anywhere(tmp_path):
    """Control dies in the promotion, a person rolls back, and control dies in that too."""
    seen = set()
    for first in range(1, MOST_STEPS):
        for second in range(1, MOST_STEPS):
            folder = tmp_path / f"{first}-{second}"
            folder.mkdir()
            world = await interrupted_promotion(folder, first)
            if world is None:
                assert {State.RAMPING, State.PROMOTING, State.PROMOTED} <= seen
                return
            seen.add((await world.experiment()).state)
            users = Users.of(world)
            world.crash_after(second)
            try:
                await roll_back(world)
                await world.live(SETTLED)
            except Crashed:
                await world.restart_control()
            else:
                break
            if (await world.records.receipts(DIGITS))[0][1].by != "me":
                running = await world.records.running(DIGITS)
                if not running or running[0].value.state is not State.ROLLING_BACK:
                    await roll_back(world)
            await world.live(SETTLED)
            users.assert_at_rest()
            end = await ending(world)
            assert (end.champion, end.previous, end.trials) == (1, None, ())
            assert end.hosts["digits/1"] == "hot"
            assert end.acts[-1] == "rollback"
            assert end.history[-1] == 1
    raise AssertionError("a promotion does not take so many steps")


async def test_a_rollback_that_is_under_way_may_be_asked_for_again(tmp_path):
    world = await started(tmp_path)
    world.crash_after(1)
    with pytest.raises(Crashed):
        await roll_back(world)
    await world.restart_control()
    assert (await world.experiment()).state is State.ROLLING_BACK
    assert not world.edges["edge-0"].route().trials
    done = await roll_back(world)
    assert (done.withdrawn, done.to_version) == ((2,), 1)
    await world.live(3)
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_an_experiment_that_begins_while_a_rollback_reads_ends_with_its_trial(tmp_path):
    """Its trial is in the route that was read; it was not there yet when experiments were."""
    world = await started(tmp_path)
    users = Users.of(world)
    running, asked = world.records.running, []

    async def too_early(model):
        asked.append(model)
        return await running(model) if len(asked) > 1 else []

    world.records.running = too_early
    done = await roll_back(world)
    assert (done.withdrawn, done.to_version) == ((2,), 1)
    await world.live(SETTLED)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_twice_in_a_row_there_is_nothing_left_to_go_back_to(tmp_path):
    world = await promoted(tmp_path)
    await roll_back(world)
    before = await world.route()
    with pytest.raises(NothingToRollBack):
        await roll_back(world)
    assert await world.route() == before


async def test_a_model_that_stands_for_its_first_version_has_nothing_to_go_back_to(tmp_path):
    world = await World.standing(tmp_path)
    with pytest.raises(NothingToRollBack):
        await roll_back(world)
    with pytest.raises(NothingToRollBack, match="already"):
        await roll_back(world, to=Version(1))
    assert (await world.route()).epoch == 1
    assert len(await world.records.receipts(DIGITS)) == len(ADOPTED)


@pytest.mark.parametrize("trouble", ["warm", "loading again"])
async def test_going_back_to_what_is_not_hot_is_refused_unless_forced(tmp_path, trouble):
    world = await promoted(tmp_path)
    users = Users.of(world)
    users.forced.add(VERSION_1)
    if trouble == "warm":
        world.serve.lost[VERSION_1] = 1
    else:
        world.serve.broken[VERSION_1] = "it was killed"
    await world.live(1)
    before = await world.route()
    with pytest.raises(TargetNotHot, match="digits/1 is"):
        await roll_back(world)
    assert await world.route() == before
    done = await roll_back(world, force=True)
    assert (done.withdrawn, done.to_version) == ((2,), 1)
    assert (await world.route()).champion == 1


async def test_a_version_of_choice_is_gone_back_to(tmp_path):
    """With a crash anywhere; nothing is pinned afterwards, for nothing was chosen to be."""

    async def three(folder: Path) -> World:
        world = await World.standing(folder, versions=3)
        await world.control.commands.promote(VERSION_2, by="me", why="Better.")
        await world.control.commands.promote(VERSION_3, by="me", why="Better yet.")
        await world.live(2)
        return world

    async def story(world: World) -> None:
        if (await world.route()).champion != 1:
            done = await roll_back(world, to=Version(1))
            assert (done.withdrawn, done.to_version) == ((3,), 1)

    end = await with_crashes(tmp_path, story, prepared=three)
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.history == [1, 2, 3, 1]


async def test_a_version_of_choice_is_gone_back_to_in_the_middle_of_an_experiment(tmp_path):
    async def three(folder: Path) -> World:
        world = await World.standing(folder, versions=3)
        await world.start()
        return world

    async def story(world: World) -> None:
        if (await world.route()).champion != 3:
            await roll_back(world, to=Version(3))

    end = await with_crashes(tmp_path, story, prepared=three, repair=0)
    assert (end.champion, end.previous, end.trials) == (3, None, ())
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [500])}
    assert end.hosts == {"digits/1": "hot", "digits/3": "hot"}


async def test_the_version_on_trial_is_nothing_to_go_back_to(tmp_path):
    """Whoever wants it as the champion promotes it."""
    world = await started(tmp_path)
    Users.of(world)
    before = await world.route()
    with pytest.raises(NothingToRollBack, match="on trial"):
        await roll_back(world, to=Version(2))
    await world.live(3)
    assert await world.route() == before


async def test_what_is_pinned_to_go_back_to_stays_loaded_after_a_failed_experiment(tmp_path):
    """A former champion may be tried again, and still is what there is to go back to."""
    world = await promoted(tmp_path)
    await world.live(1)
    file = FILE.replace("challenger: 2", "challenger: 1").replace("digits-v2", "digits-v1")
    await world.start(file)
    await roll_back(world)
    await world.live(3)
    assert (await world.route()).previous == 1
    done = await roll_back(world, force=True)
    assert done.to_version == 1


async def test_two_people_who_press_the_button_at_once_go_back_once(tmp_path):
    world = await promoted(tmp_path)
    await world.live(1)
    await world.start(FILE.replace("challenger: 2", "challenger: 1").replace("-v2", "-v1"))
    await roll_back(world)
    await world.live(3)
    with pytest.raises(JustRolledBack, match="withdraw that too"):
        await roll_back(world)
    assert (await world.route()).champion == 2
    await world.live(30)
    assert (await roll_back(world)).to_version == 1


async def test_a_rollback_needs_no_receipt_of_the_last_one(tmp_path):
    world = await promoted(tmp_path)
    receipt = (await world.route()).receipt
    await world.store.delete(Kind.RECEIPT, receipt)
    assert (await roll_back(world)).to_version == 1


@pytest.mark.parametrize("state", [HostState.FAILED, HostState.REMOVING, HostState.PENDING])
async def test_not_even_force_goes_to_a_version_that_was_never_loaded(tmp_path, state):
    world = await World.standing(tmp_path)
    found = (await statuses(world.store))[VERSION_2]
    unloaded = replace(found, state=state, ready_replicas=0, loaded=False)
    await world.store.write(Kind.HOST, str(VERSION_2), write_status(unloaded), expected=ANY)
    before = await world.route()
    with pytest.raises(TargetNotHot):
        await roll_back(world, to=Version(2), force=True)
    assert await world.route() == before


async def test_not_even_force_goes_to_a_version_that_is_not_deployed(tmp_path):
    world = await promoted(tmp_path)
    before = await world.route()
    with pytest.raises(TargetNotHot, match="not deployed"):
        await roll_back(world, to=Version(99), force=True)
    assert await world.route() == before
