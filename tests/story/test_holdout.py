"""Some units never meet any challenger: a promise of the model, kept through everything."""

import pytest

from experiments.errors import StaleRevision, WrongState
from experiments.model import BasisPoints
from registry.errors import InvalidName, UnknownModel
from registry.refs import ModelName, Version, VersionRef
from serving.break_glass import Order
from serving.switch import Switched
from tests.story.crashes import ADOPTED, GOOD, ending, promoted, started, with_crashes
from tests.story.outside import DIGITS
from tests.story.users import Users
from tests.story.world import World

SHARE = BasisPoints(500)
ORDER = Order(DIGITS, by="me", why="I do not like it.")
VERSION_2 = VersionRef(DIGITS, Version(2))


async def hold_out(world: World, share: int = SHARE, why: str = "") -> Switched:
    commands = world.control.commands
    return await commands.hold_out(DIGITS, BasisPoints(share), by="me", why=why)


async def assert_held_out(world: World, share: int = SHARE) -> None:
    """Everybody who has to know says the same."""
    assert (await world.route()).holdout == share
    for edge in world.edges.values():
        assert edge.route().holdout == share
        assert f"|{share}" in edge.runtime.map[DIGITS]
    assert await world.catalog.holdout(DIGITS) == share


async def test_it_is_in_the_route_at_every_edge_in_the_registry_and_in_the_history(tmp_path):
    async def story(world: World) -> None:
        await hold_out(world)
        await world.live(2)
        await assert_held_out(world)

    end = await with_crashes(tmp_path, story, prepared=World.standing)
    assert (end.champion, end.history) == (1, [1])
    assert end.acts == [*ADOPTED, "holdout"]


async def test_the_receipt_says_what_it_was_before_and_why(tmp_path):
    world = await World.standing(tmp_path)
    await hold_out(world, 250)
    done = await hold_out(world, 500, why="For the yearly report.")
    assert (done.before.holdout, done.after.holdout) == (250, 500)
    (_, latest), (_, before), *_ = await world.records.receipts(DIGITS)
    assert latest.act.reasons == (
        "5% of the units never meet a challenger, until now 2.5%.",
        "For the yearly report.",
    )
    assert before.act.reasons == ("2.5% of the units never meet a challenger, until now 0%.",)


async def test_the_same_share_again_changes_nothing(tmp_path):
    world = await World.standing(tmp_path)
    await hold_out(world)
    before = await world.route()
    assert not (await hold_out(world)).changed
    assert await world.route() == before


async def test_it_outlives_promotions_and_rollbacks_of_every_kind(tmp_path):
    world = await World.standing(tmp_path)
    await hold_out(world)
    await world.start()
    await world.evidence.traffic(2000, **GOOD)
    await world.live(6)
    await world.evidence.traffic(2000, **GOOD)
    await world.live(8)
    assert (await world.route()).champion == 2
    await assert_held_out(world)
    await world.control.rollback(ORDER)
    await assert_held_out(world)
    await world.control.commands.promote(VERSION_2, by="me", why="")
    await assert_held_out(world)
    world.store.disconnect()
    await world.edges["edge-0"].agent.roll_back(DIGITS, by="me", why="it errs")
    world.store.reconnect()
    await world.live(3)
    assert (await world.route()).champion == 1
    await assert_held_out(world)


async def test_edges_give_it_back_to_a_store_that_has_lost_everything(tmp_path):
    world = await World.standing(tmp_path)
    await hold_out(world)
    await world.live(1)
    world.store.lose_everything()
    await world.live(4)
    await assert_held_out(world)


async def test_the_map_file_alone_is_enough_for_an_edge_to_know_it(tmp_path):
    world = await World.standing(tmp_path)
    await hold_out(world)
    edge = world.edges["edge-0"]
    (tmp_path / "edge-0" / "routes.json").unlink()
    edge.alive = False
    world.store.lose_everything()
    await world.add_edge("edge-0")
    await world.live(4)
    await assert_held_out(world)


async def test_the_registry_gives_it_back_where_store_and_edges_have_lost_it(tmp_path):
    world = await World.standing(tmp_path)
    await hold_out(world)
    await world.live(2)
    world.store.lose_everything()
    for name in ("routes.json", "routes.map"):
        (tmp_path / "edge-0" / name).unlink()
    await world.add_edge("edge-0")
    await world.deploy(1)
    await world.live(3)
    await assert_held_out(world)


async def test_a_registry_that_was_away_is_told_later(tmp_path):
    world = await World.standing(tmp_path)
    world.catalog.up = False
    await hold_out(world)
    await world.live(2)
    world.catalog.up = True
    assert await world.catalog.holdout(DIGITS) == 0
    await world.live(2)
    await assert_held_out(world)


async def test_while_an_experiment_runs_nobody_changes_sides(tmp_path):
    world = await started(tmp_path)
    before = await world.route()
    with pytest.raises(WrongState) as refused:
        await hold_out(world)
    assert "digits is in the experiment digits-v2" in refused.value.message
    assert refused.value.hint == "Set the holdout once it is over."
    assert await world.route() == before


async def test_after_an_experiment_it_may_change(tmp_path):
    world = await promoted(tmp_path)
    await world.live(2)
    await hold_out(world, 1_000)
    await world.live(1)
    await assert_held_out(world, 1_000)
    assert (await ending(world)).champion == 2


async def test_an_experiment_that_is_started_meanwhile_is_not_changed(tmp_path):
    world = await World.standing(tmp_path)
    users = Users.of(world)
    keep_receipt, done = world.records.keep_receipt, []

    async def kept(receipt):
        if not done:
            done.append(receipt)
            await world.start()
        return await keep_receipt(receipt)

    world.records.keep_receipt = kept
    with pytest.raises(StaleRevision, match="was started meanwhile"):
        await hold_out(world)
    await world.live(3)
    users.assert_at_rest()
    assert (await world.route()).holdout == 0
    assert [trial.experiment for trial in (await world.route()).trials] == ["digits-v2"]


async def test_only_a_model_of_users_that_serves_has_one(tmp_path):
    world = await World.standing(tmp_path)
    commands = world.control.commands
    for model, error in (("nothing", UnknownModel), ("tiltyard-certify-digits", InvalidName)):
        with pytest.raises(error):
            await commands.hold_out(ModelName(model), SHARE, by="me", why="")
