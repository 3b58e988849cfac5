"""Several controls, several people: one leads, and of two that want the same thing one gets it."""

import asyncio
from datetime import datetime

import pytest

from experiments.codec import decode
from experiments.errors import ExperimentExists
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.lifecycle import State
from experiments.receipts import Receipt
from experiments.spec import read_declaration
from experiments.store import Kind
from registry.refs import ModelName, Version, VersionRef
from serving.break_glass import Order
from serving.controller import Controller
from serving.errors import NothingToRollBack
from tests.story.crashes import (
    BAD,
    GOOD,
    SETTLED,
    STARTED,
    at_second_stage,
    ending,
    promoted,
    with_crashes,
)
from tests.story.outside import DIGITS
from tests.story.users import Users
from tests.story.world import FILE, World

ORDER = Order(DIGITS, by="me", why="I do not like it.")
VERSION_2, VERSION_3 = (VersionRef(DIGITS, Version(number)) for number in (2, 3))


async def test_a_defect_that_one_experiment_brings_out_does_not_stop_the_others(
    tmp_path, monkeypatch
):
    world = await at_second_stage(tmp_path)
    letters = ModelName("letters")
    for _ in range(2):
        ref = await world.register(letters)
        await world.deploy(ref.version, model=letters)
    await world.start(FILE.replace("model: digits", "model: letters").replace("-v2", "-v9"))
    await world.evidence.traffic(2000, **BAD)
    whole = Controller.evidence

    async def poisoned(self: Controller, experiment: Experiment, now: datetime) -> Evidence:
        if experiment.declaration.model == letters:
            raise ZeroDivisionError("a defect")
        return await whole(self, experiment, now)

    monkeypatch.setattr(Controller, "evidence", poisoned)
    ticked = await world.tick()
    assert "ZeroDivisionError" in ticked.failed["digits-v9"]
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_only_the_leader_acts(tmp_path):
    world = await at_second_stage(tmp_path)
    rival = world.rival()
    await world.evidence.traffic(2000, **BAD)
    ticked = await rival.controller.tick()
    assert ticked.fence is None
    assert ticked.acted == ()
    assert (await world.experiment()).state is State.RAMPING
    await world.live(1)
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_another_leads_once_the_leader_is_not_heard_of(tmp_path):
    world = await at_second_stage(tmp_path)
    rival = world.rival()
    await world.evidence.traffic(2000, **BAD)
    await world.pass_time(world.settings.leader_lease.total_seconds())
    assert (await rival.controller.tick()).fence is not None
    assert (await world.experiment()).state is State.ROLLED_BACK


@pytest.mark.parametrize("asleep_before", [Kind.RECEIPT, Kind.EXPERIMENT, Kind.ROUTE, Kind.HOST])
async def test_a_leader_that_overslept_changes_nothing(tmp_path, asleep_before):
    """It has decided to roll back, sleeps before it writes, and wakes up in another's reign."""
    world = await at_second_stage(tmp_path)
    users = Users.of(world)
    await world.evidence.traffic(2000, **BAD)
    rival = world.rival()

    async def sleep() -> None:
        await world.pass_time(world.settings.leader_lease.total_seconds())
        assert (await rival.controller.tick()).fence is not None

    slept = world.store.interrupt(asleep_before, sleep)
    ticked = await world.control.controller.tick()
    assert len(slept) == 1
    assert ticked.fence is None
    world.control = rival
    await world.live(SETTLED)
    users.assert_at_rest()
    end = await ending(world)
    assert end.experiments == {"digits-v2": (State.ROLLED_BACK, [500, 5000])}
    assert end.acts == [*STARTED, "continue", "roll_back"]
    assert (end.champion, end.trials) == (1, ())


FILES = (
    FILE.replace("digits-v2", "digits-a"),
    FILE.replace("digits-v2", "digits-b").replace("challenger: 2", "challenger: 3"),
)


@pytest.mark.parametrize("files", [FILES, FILES[::-1]], ids=["a first", "b first"])
@pytest.mark.parametrize("later", range(1, 40, 2))
async def test_of_two_experiments_started_at_once_one_stands(tmp_path, files, later):
    """However far the first is when the second begins."""
    world = await World.standing(tmp_path, versions=3)
    users = Users.of(world)
    starts = [begun(world, file, after) for file, after in zip(files, (0, later), strict=True)]
    outcomes = await asyncio.gather(*starts, return_exceptions=True)
    refused = [error for error in outcomes if isinstance(error, Exception)]
    assert [type(error) for error in refused] == [ExperimentExists]
    await world.live(SETTLED)
    users.assert_at_rest()
    (stands,) = await world.records.experiments()
    route = await world.route()
    assert route.trials
    assert [each.experiment for each in route.trials] == [stands.value.declaration.name]


async def begun(world: World, file: str, after: int) -> None:
    for _ in range(after):
        await asyncio.sleep(0)
    await patiently(world).start(read_declaration(file), by="me")


def patiently(world: World):
    """Let others in before each thing that a command does with the store."""
    read_all, write = world.store.read_all, world.store.write

    async def read_all_later(kind):
        await asyncio.sleep(0)
        return await read_all(kind)

    async def write_later(kind, name, body, *, expected, fence=None):
        await asyncio.sleep(0)
        return await write(kind, name, body, expected=expected, fence=fence)

    world.store.read_all, world.store.write = read_all_later, write_later
    return world.control.commands


async def test_of_two_experiments_that_a_crash_left_on_one_model_the_one_in_the_route_stands(
    tmp_path,
):
    async def three(folder):
        return await World.standing(folder, versions=3)

    async def story(world: World) -> None:
        for file in FILES:
            try:
                await world.control.commands.start(read_declaration(file), by="me")
            except ExperimentExists:
                continue

    end = await with_crashes(tmp_path, story, prepared=three)
    assert end.trials == ("digits-a",)
    assert end.experiments == {"digits-a": (State.RAMPING, [500])}


async def test_a_person_is_quicker_than_the_controller(tmp_path):
    """The controller decides on what it saw before the person acted: the person's act stands."""
    world = await at_second_stage(tmp_path)
    users = Users.of(world)
    await world.evidence.traffic(2000, **GOOD)
    await world.pass_time(8)
    met = world.store.interrupt(Kind.RECEIPT, lambda: world.control.rollback(ORDER))
    await world.live(1)
    assert decode(Receipt, met[0][0].body).act.kind == "promote"
    await world.live(SETTLED)
    users.assert_at_rest()
    assert (await world.experiment()).state is State.ROLLED_BACK
    assert (await world.route()).champion == 1


async def test_a_rollback_that_the_controller_was_quicker_than_still_goes_back(tmp_path):
    """The experiment is promoted right before the person's rollback is written."""
    world = await at_second_stage(tmp_path)
    users = Users.of(world)
    await world.evidence.traffic(2000, **GOOD)
    await world.pass_time(8)
    met = world.store.interrupt(Kind.ROUTE, lambda: world.live(1))
    rolled_back = await world.control.rollback(ORDER)
    assert [write.kind for write in met[0]] == [Kind.ROUTE, Kind.RECEIPT, Kind.EXPERIMENT]
    assert (await world.experiment()).state is State.PROMOTED
    assert (rolled_back.withdrawn, rolled_back.to_version) == ((2,), 1)
    await world.live(SETTLED)
    users.assert_at_rest()
    assert (await world.route()).champion == 1


async def test_a_rollback_for_what_the_controller_has_withdrawn_already_takes_nothing_more(
    tmp_path,
):
    """What the person saw on trial is gone; what the model stood for before is no target."""
    world = await promoted(tmp_path)
    third = (await world.register()).version
    await world.deploy(third)
    await world.start(FILES[1])

    async def controller() -> None:
        await world.evidence.traffic(2000, **BAD, name="digits-b")
        await world.live(2)

    world.store.interrupt(Kind.ROUTE, controller)
    with pytest.raises(NothingToRollBack, match="withdrawn already"):
        await world.control.rollback(ORDER)
    assert (await world.experiment("digits-b")).state is State.ROLLED_BACK
    assert (await world.route()).champion == 2


async def test_a_person_who_acts_while_the_controller_looks_is_not_undone(tmp_path):
    """The controller has read the experiment as ramping, and compares the route with that."""
    world = await at_second_stage(tmp_path)
    Users.of(world)
    read, done = world.records.route_if_any, []

    async def routed(model):
        if not done:
            done.append(model)
            await world.control.rollback(ORDER)
        return await read(model)

    world.records.route_if_any = routed
    await world.tick()
    assert done
    assert not world.edges["edge-0"].route().trials
    await world.live(2)
    assert (await world.experiment()).state is State.ROLLED_BACK


async def test_an_experiment_that_came_second_and_whose_command_died_is_stopped(tmp_path):
    """Its document was written when the route had a trial already; nobody is there to remove it."""
    world = await World.standing(tmp_path, versions=3)
    users = Users.of(world)
    await world.start(FILES[0])
    second = Experiment.begin(read_declaration(FILES[1]), Version(1), world.clock())
    await world.records.write_experiment(second, expected=0)
    await world.live(SETTLED)
    users.assert_at_rest()
    assert (await world.experiment("digits-a")).state is State.RAMPING
    assert (await world.experiment("digits-b")).state is State.STOPPED
    assert (await world.state(3)) == "hot"


async def test_no_experiment_goes_on_against_another_champion_than_it_began_with(tmp_path):
    """A promotion slips in between the experiment's document and its trial."""
    world = await World.standing(tmp_path, versions=3)
    users = Users.of(world)
    write, done = world.records.write_experiment, []

    async def written(experiment, *, expected, fence=None):
        if not done:
            done.append(experiment)
            await world.control.commands.promote(VERSION_3, by="me", why="I know it is better.")
        return await write(experiment, expected=expected, fence=fence)

    world.records.write_experiment = written
    with pytest.raises(ExperimentExists):
        await world.start()
    await world.live(SETTLED)
    users.assert_at_rest()
    assert await world.records.experiments() == []
    assert (await world.route()).champion == 3
