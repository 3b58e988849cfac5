"""Two experiments of one model at once, with control killed after every change that it makes."""

from pathlib import Path

import pytest

from experiments.errors import ExperimentExists, WrongState
from experiments.lifecycle import Event, State
from experiments.model import ExperimentName
from experiments.store import Kind
from registry.refs import Version, VersionRef
from serving.break_glass import Order
from tests.story.crashes import BAD, GOOD, SETTLED, ending, with_crashes
from tests.story.outside import DIGITS
from tests.story.users import Users
from tests.story.world import FILE, World

ORDER = Order(DIGITS, by="me", why="I do not like them.")
VERSION_3 = VersionRef(DIGITS, Version(3))

ONE = FILE + "layer: {name: checkout, part: [0%, 50%]}\n"
OTHER = (
    FILE.replace("digits-v2", "digits-v3").replace("challenger: 2", "challenger: 3")
    + "layer: {name: checkout, part: [50%, 100%]}\n"
)
SAME = OTHER.replace("challenger: 3", "challenger: 2")
BOTH_STARTED = ["adopt", "start"]
"""The acts until then, of the same name one after the other told once."""


def part(file: str, low: str, high: str, *, name: str = "digits-v9") -> str:
    head, _, _ = file.replace("digits-v3", name).partition("layer:")
    return f"{head}layer: {{name: checkout, part: [{low}, {high}]}}\n"


async def both(folder: Path, *, other: str = OTHER) -> World:
    world = await World.standing(folder, versions=3)
    await world.start(ONE)
    await world.start(other)
    return world


async def same_challenger(folder: Path) -> World:
    return await both(folder, other=SAME)


async def one_about_to_win(folder: Path) -> World:
    world = await both(folder)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(6)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(3)
    assert (await world.experiment()).stage.number == 1
    return world


async def states(world: World) -> list[str]:
    return [held.value.state for held in await world.records.experiments()]


async def test_both_are_in_the_route_and_at_rest_nothing_moves(tmp_path):
    async def story(world: World) -> None:
        if len(await world.records.experiments()) == 1:
            await world.start(OTHER)
        before = await world.route()
        await world.live(5)
        assert await world.route() == before

    async def prepared(folder: Path) -> World:
        world = await World.standing(folder, versions=3)
        await world.start(ONE)
        return world

    end = await with_crashes(tmp_path, story, prepared=prepared)
    assert end.trials == ("digits-v2", "digits-v3")
    assert end.acts == BOTH_STARTED
    assert end.aliases.challenger == 2


async def test_one_that_is_promoted_ends_the_other_whose_champion_has_gone(tmp_path):
    async def story(world: World) -> None:
        await world.live(8)

    end = await with_crashes(tmp_path, story, prepared=one_about_to_win)
    assert end.experiments == {
        "digits-v2": (State.PROMOTED, [500, 5000]),
        "digits-v3": (State.STOPPED, [500]),
    }
    assert (end.champion, end.previous, end.trials) == (2, 1, ())
    assert end.acts == [*BOTH_STARTED, "continue", "promote", "stop"]
    assert end.hosts == {"digits/1": "hot", "digits/2": "hot", "digits/3": "hot"}


async def test_it_is_said_why_the_other_was_ended(tmp_path):
    world = await one_about_to_win(tmp_path)
    await world.live(8)
    (why,) = (await world.experiment("digits-v3")).reasons
    assert "Version 2 is the champion now" in why
    assert "version 1, with which this experiment compares" in why


async def test_one_that_is_rolled_back_leaves_the_other_as_it_was(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.RAMPING:
            await world.evidence.traffic(2000, **BAD)
        before = (await world.route()).trial_of(ExperimentName("digits-v3"))
        await world.live(3)
        assert (await world.route()).trials == (before,)

    end = await with_crashes(tmp_path, story, prepared=both)
    assert end.experiments == {
        "digits-v2": (State.ROLLED_BACK, [500]),
        "digits-v3": (State.RAMPING, [500]),
    }
    assert (end.champion, end.trials) == (1, ("digits-v3",))
    assert end.acts == [*BOTH_STARTED, "roll_back"]
    assert end.hosts == {"digits/1": "hot", "digits/3": "hot"}


async def test_a_version_that_is_also_in_the_other_experiment_stays_loaded(tmp_path):
    async def story(world: World) -> None:
        if (await world.experiment()).state is State.RAMPING:
            await world.evidence.traffic(2000, **BAD)
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=same_challenger)
    assert end.experiments["digits-v2"][0] is State.ROLLED_BACK
    assert end.trials == ("digits-v3",)
    assert end.hosts["digits/2"] == "hot"


async def test_one_that_is_paused_or_ramped_up_leaves_the_other_as_it_was(tmp_path):
    async def story(world: World) -> None:
        other = (await world.experiment("digits-v3")).declaration.name
        if (await world.experiment("digits-v3")).state is State.RAMPING:
            await world.control.commands.tell(other, Event.PAUSE, by="me", why="Lunch.")
        if (await world.experiment()).stage.number == 0:
            await world.evidence.traffic(2000, **GOOD)
        await world.live(6)

    end = await with_crashes(tmp_path, story, prepared=both)
    assert end.experiments == {
        "digits-v2": (State.RAMPING, [500, 5000]),
        "digits-v3": (State.PAUSED, [500]),
    }
    assert end.trials == ("digits-v2", "digits-v3")
    assert sorted(end.acts) == sorted([*BOTH_STARTED, "pause", "continue"])


@pytest.mark.parametrize("prepared", [both, one_about_to_win, same_challenger])
async def test_a_rollback_by_hand_withdraws_both(tmp_path, prepared):
    async def story(world: World) -> None:
        if any(state is State.RAMPING for state in await states(world)):
            done = await world.control.rollback(ORDER)
            assert set(done.withdrawn) <= {2, 3}
            assert done.to_version == 1

    end = await with_crashes(tmp_path, story, prepared=prepared, repair=0)
    assert {state for state, _ in end.experiments.values()} == {State.ROLLED_BACK}
    assert (end.champion, end.previous, end.trials) == (1, None, ())
    assert end.acts[-1] == "rollback"
    assert end.hosts["digits/1"] == "hot"
    assert "digits/2" not in end.hosts


async def test_a_rollback_by_hand_says_all_that_it_withdrew_and_each_has_a_receipt(tmp_path):
    world = await both(tmp_path)
    done = await world.control.rollback(ORDER)
    assert (done.withdrawn, done.to_version) == ((2, 3), 1)
    await world.live(SETTLED)
    said = [r for _, r in await world.records.receipts(DIGITS) if r.by == "me"]
    assert {r.plan.declaration.name for r in said} == {"digits-v2", "digits-v3"}
    # One chain: each follows the one before.
    assert (await world.route()).receipt is not None
    names = [name for name, _ in await world.records.receipts(DIGITS)]
    following = [r.previous for _, r in await world.records.receipts(DIGITS)]
    assert following == [*names[1:], None]


async def test_a_rollback_at_an_edge_while_the_store_is_away_withdraws_both_everywhere(tmp_path):
    async def story(world: World) -> None:
        if any(state is State.RAMPING for state in await states(world)):
            edge = world.edges["edge-0"]
            world.store.disconnect()
            if edge.route().trials:
                done = await edge.agent.roll_back(DIGITS, by="me", why="it errs")
                assert (done.withdrawn, done.to_version) == ((2, 3), 1)
            world.store.reconnect()
        await world.live(3)

    end = await with_crashes(tmp_path, story, prepared=both)
    assert {state for state, _ in end.experiments.values()} == {State.ROLLED_BACK}
    assert (end.champion, end.trials) == (1, ())
    assert end.acts == [*BOTH_STARTED, "rollback"]
    assert end.hosts == {"digits/1": "hot"}


async def test_a_person_promotes_from_either_and_the_other_ends(tmp_path):
    async def story(world: World) -> None:
        if (await world.route()).champion == 1:
            await world.control.commands.promote(VERSION_3, by="me", why="I know it is better.")

    end = await with_crashes(tmp_path, story, prepared=both)
    assert end.experiments == {
        "digits-v2": (State.STOPPED, [500]),
        "digits-v3": (State.PROMOTED, [500]),
    }
    assert (end.champion, end.previous) == (3, 1)


async def test_nobody_promotes_a_version_that_is_in_neither(tmp_path):
    world = await both(tmp_path)
    await world.deploy((await world.register()).version)
    with pytest.raises(WrongState, match=r"digits-v2 and digits-v3.* with 2 or 3"):
        await world.control.commands.promote(VersionRef(DIGITS, Version(4)), by="me", why="")


async def test_a_holdback_of_the_one_leaves_no_room_for_another(tmp_path):
    world = await World.standing(tmp_path, versions=3)
    await world.start(ONE + "holdback: {share: 10%, for: 60s}\n")
    await world.start(OTHER)
    users = Users.of(world)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(6)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(8)
    assert await states(world) == [State.HOLDING_BACK, State.STOPPED]
    assert [trial.experiment for trial in (await world.route()).trials] == ["digits-v2"]
    users.assert_at_rest()
    with pytest.raises(ExperimentExists, match="holding back") as refused:
        await world.start(part(OTHER, "50%", "100%"))
    assert refused.value.hint == "Wait until it is over."


async def test_a_store_that_has_lost_everything_watches_neither_any_more(tmp_path):
    world = await both(tmp_path)
    users = Users.of(world)
    world.store.lose_everything()
    await world.live(6)
    users.assert_at_rest()
    end = await ending(world)
    assert (end.champion, end.trials, end.experiments) == (1, (), {})


async def test_a_store_that_has_lost_one_experiment_goes_on_with_the_other(tmp_path):
    world = await both(tmp_path)
    users = Users.of(world)
    await world.store.delete(Kind.EXPERIMENT, "digits-v3")
    await world.live(6)
    users.assert_at_rest()
    assert await states(world) == [State.RAMPING]
    assert [trial.experiment for trial in (await world.route()).trials] == ["digits-v2"]


# ---- what may not run beside another


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (FILE.replace("digits-v2", "digits-v9"), "is in the experiment digits-v2"),
        (part(OTHER, "40%", "60%"), "a part of the layer checkout (0% to 50%)"),
        (part(OTHER, "0%", "0.01%"), "a part of the layer checkout (0% to 50%)"),
        (part(OTHER, "50%", "100%").replace("name: checkout", "name: cart"), "layer checkout"),
        (
            part(OTHER, "50%", "100%").replace("header:x-unit-id", "request"),
            "whose unit is header:x-unit-id",
        ),
    ],
)
async def test_what_could_share_a_unit_is_refused(tmp_path, file, says):
    world = await World.standing(tmp_path, versions=3)
    await world.start(ONE)
    before = await world.route()
    with pytest.raises(ExperimentExists) as refused:
        await world.start(file)
    assert says in refused.value.message
    assert await world.route() == before
    assert len(await world.records.experiments()) == 1


async def test_beside_one_that_has_all_units_nothing_is_started(tmp_path):
    world = await World.standing(tmp_path, versions=3)
    await world.start()
    with pytest.raises(ExperimentExists) as refused:
        await world.start(OTHER)
    assert "digits-v2, which has no layer, and so all units" in refused.value.message


async def test_beside_one_that_is_halted_another_may_be_started(tmp_path):
    world = await World.standing(tmp_path, versions=3)
    users = Users.of(world)
    await world.start(ONE)
    await world.evidence.traffic(2000, **GOOD, share=0.5)
    await world.live(2)
    await world.start(OTHER)
    await world.control.commands.tell(ExperimentName("digits-v2"), Event.STOP, by="me", why="")
    await world.live(SETTLED)
    users.assert_at_rest()
    assert await states(world) == [State.STOPPED, State.RAMPING]


async def test_a_rollback_of_both_is_one_change(tmp_path):
    world = await both(tmp_path)
    before = world.fuse.steps
    await world.control.rollback(ORDER)
    assert world.fuse.steps == before + 1
    assert await states(world) == [State.ROLLING_BACK, State.ROLLING_BACK]
    assert not (await world.route()).trials
    first, second = [(await world.experiment(name)).receipt for name in ("digits-v2", "digits-v3")]
    (last, receipt), (before_last, _) = (await world.records.receipts(DIGITS))[:2]
    assert (last, receipt.previous, before_last) == (second, first, first)
    assert (await world.route()).receipt == second


async def test_while_one_is_halted_the_other_goes_on(tmp_path):
    world = await both(tmp_path)
    await world.evidence.traffic(2000, **GOOD, share=0.5)
    await world.live(2)
    assert await states(world) == [State.HALTED, State.RAMPING]
    before = await world.route()
    assert [trial.experiment for trial in before.trials] == ["digits-v3"]
    await world.live(3)
    assert await world.route() == before
    await world.evidence.traffic(2000, **GOOD, name="digits-v3")
    await world.live(6)
    assert (await world.experiment("digits-v3")).stage.number == 1


async def test_of_two_that_are_started_at_once_for_the_same_part_one_is_taken_back(tmp_path):
    world = await World.standing(tmp_path, versions=3)
    users = Users.of(world)
    write, started = world.records.write_experiment, []

    async def crossed(experiment, **asked):
        if not started:
            started.append(experiment)
            await world.start(part(OTHER, "25%", "75%"))
        return await write(experiment, **asked)

    world.records.write_experiment = crossed
    with pytest.raises(ExperimentExists, match="quicker"):
        await world.start(ONE)
    await world.live(SETTLED)
    users.assert_at_rest()
    assert [held.value.declaration.name for held in await world.records.experiments()] == [
        "digits-v9"
    ]
