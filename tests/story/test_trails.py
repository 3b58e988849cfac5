"""The trail of an experiment: kept while it runs, missed by nobody when it is lost."""

from experiments.codec import decode, encode
from experiments.lifecycle import State
from experiments.store import Kind
from experiments.trail import Trail
from serving.trails import Trails
from tests.story.crashes import GOOD, at_second_stage, started
from tests.story.world import World

NAME = "digits-v2"


async def trail(world: World) -> Trail:
    stored = await world.store.read(Kind.TRAIL, NAME)
    return decode(Trail, stored.body) if stored else Trail()


async def test_it_has_a_point_every_few_seconds_of_what_was_seen_then(tmp_path):
    world = await started(tmp_path)
    trails = Trails(
        world.records,
        world.control.controller,
        lambda plan, evidence: {"units": (float(evidence.challenger_units(plan.on_trial[0])),)},
        world.clock,
    )
    fence = (await world.tick()).fence
    assert fence is not None
    await trails.tick(fence)
    await world.evidence.traffic(2000)
    for _ in range(4):
        await world.pass_time(1)
        await trails.tick(fence)
    assert [point.values["units"] for point in (await trail(world)).points] == [
        (0,),
        (100,),
        (100,),
    ]


async def test_it_ends_with_the_experiment(tmp_path):
    world = await at_second_stage(tmp_path)
    before = len((await trail(world)).points)
    assert before > 0
    await world.evidence.traffic(2000, **GOOD)
    await world.live(10)
    assert (await world.experiment()).state is State.PROMOTED
    after = (await trail(world)).points
    assert before < len(after)
    await world.live(10)
    assert (await trail(world)).points == after


async def test_one_that_is_lost_begins_anew_and_nothing_else_changes(tmp_path):
    world = await at_second_stage(tmp_path)
    await world.store.delete(Kind.TRAIL, NAME)
    assert await world.live(3) == []
    assert 0 < len((await trail(world)).points) <= 2


async def test_the_api_shows_it_as_it_is_and_empty_if_there_is_none(tmp_path):
    world = await started(tmp_path)
    async with world.http() as http:
        assert (await http.get(f"/v1/experiments/{NAME}/trail")).json()["points"] == []
        await world.live(4)
        answer = await http.get(f"/v1/experiments/{NAME}/trail")
        assert decode(Trail, encode(Trail, await trail(world))) == decode(Trail, answer.content)
        unknown = await http.get("/v1/experiments/nobody/trail")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_experiment")
