"""Rollback drills: timed, remembered, out of everybody's way, and honest about what failed."""

import asyncio

import httpx2
import pytest

from experiments.store import Kind
from registry.errors import UnknownModel
from registry.refs import ModelName
from serving.drill import SILENCE, DrillState
from serving.errors import LaneTaken, UnknownDrill
from tests.story.crashes import promoted
from tests.story.outside import DIGITS
from tests.story.terminal import Terminal, nobody
from tests.story.users import Users
from tests.story.world import World

LANE = ModelName("tiltyard-drill-digits")


async def ended(world: World) -> None:
    """Let the drill that goes on come to its end."""
    while (await world.control.drills.last(DIGITS)).ended_at is None:  # noqa: ASYNC110  no clock
        await asyncio.sleep(0)


async def begun(world: World) -> None:
    """Let the drill get as far as the edges."""
    while LANE not in world.edges["edge-0"].agent.known.routes:  # noqa: ASYNC110  no clock
        await asyncio.sleep(0)


async def with_two_edges(tmp_path) -> World:
    return await World.standing(tmp_path, edges=2)


async def test_a_drill_times_every_rollback_at_every_edge_and_is_remembered(tmp_path):
    world = await with_two_edges(tmp_path)
    first = await world.control.drills.start(DIGITS, 7, by="me")
    assert (first.times, first.done, first.rollback) == (7, 0, None)
    await ended(world)
    drill = await world.control.drills.last(DIGITS)
    assert (drill.by, drill.done, drill.failed, drill.lost) == ("me", 7, 0, ())
    assert drill.rollback is not None
    assert drill.rollback.count == len(drill.milliseconds) == 7
    assert 0 < drill.rollback.p50 <= drill.rollback.p95 <= drill.rollback.p99
    assert drill.rollback.p99 <= drill.rollback.max == pytest.approx(max(drill.milliseconds), 1e-2)
    assert {edge: spread.count for edge, spread in drill.edges.items()} == {
        "edge-0": 7,
        "edge-1": 7,
    }
    assert all(spread.max <= drill.rollback.max for spread in drill.edges.values())


async def test_a_drill_touches_no_user_and_leaves_nothing_behind(tmp_path):
    """Nor does it need a host, or leave receipts, or changes of champion, to the registry."""
    world = await promoted(tmp_path)
    users = Users.of(world)
    before = await world.route()
    receipts = set(await world.store.read_all(Kind.RECEIPT))
    hosts = set(await world.store.read_all(Kind.HOST))
    await world.control.drills.start(DIGITS, 5, by="me")
    await begun(world)
    await ended(world)
    assert set(await world.store.read_all(Kind.HOST)) == hosts
    await world.live(2)
    users.assert_at_rest()
    assert await world.route() == before
    assert set(await world.store.read_all(Kind.RECEIPT)) == receipts
    assert LANE not in await world.records.routes()
    assert LANE not in world.edges["edge-0"].agent.known.routes
    assert LANE not in world.edges["edge-0"].runtime.map
    assert (await world.control.drills.last(DIGITS)).done == 5


async def test_a_second_drill_waits_for_the_first_and_both_are_remembered(tmp_path):
    world = await with_two_edges(tmp_path)
    await world.control.drills.start(DIGITS, 3, by="me")
    with pytest.raises(LaneTaken, match="me uses the lane"):
        await world.control.drills.start(DIGITS, 3, by="you")
    await ended(world)
    await world.live(2)
    await world.control.drills.start(DIGITS, 4, by="you")
    await ended(world)
    latest, before = await world.control.drills.all(DIGITS)
    assert (latest.by, latest.done, before.by, before.done) == ("you", 4, "me", 3)
    assert len(latest.milliseconds) == 4
    assert before.milliseconds == ()


async def test_an_edge_that_says_nothing_makes_a_drill_fail_and_a_dead_one_does_not(tmp_path):
    world = await with_two_edges(tmp_path)
    world.edges["edge-1"].deaf = True
    await world.control.drills.start(DIGITS, 2, by="me")
    await ended(world)
    drill = await world.control.drills.last(DIGITS)
    assert drill.failures == {"no word in time from edge-1": 2}
    assert drill.rollback is None
    assert drill.edges["edge-0"].count == 2
    world.edges["edge-1"].alive = False
    await world.live(4)
    await world.control.drills.start(DIGITS, 2, by="me")
    await ended(world)
    drill = await world.control.drills.last(DIGITS)
    assert (drill.failed, drill.lost, drill.edges.keys()) == (0, ("edge-1",), {"edge-0"})


async def test_a_drill_without_edges_shows_nothing(tmp_path):
    world = await World.standing(tmp_path, edges=0)
    await world.control.drills.start(DIGITS, 2, by="me")
    await ended(world)
    assert (await world.control.drills.last(DIGITS)).failures == {"no edge is alive": 2}


async def test_when_the_store_goes_away_a_drill_ends_and_its_lane_is_swept(tmp_path):
    world = await with_two_edges(tmp_path)
    await world.control.drills.start(DIGITS, 1000, by="me")
    await begun(world)
    world.store.disconnect()
    for _ in range(10_000):
        await asyncio.sleep(0)
    world.store.reconnect()
    await world.control.drills.close()
    await world.live(round(SILENCE.total_seconds()) + 3)
    assert LANE not in await world.records.routes()
    drill = await world.control.drills.last(DIGITS)
    assert drill.state(world.clock()) in (DrillState.INTERRUPTED, DrillState.ENDED)
    await world.control.drills.start(DIGITS, 1, by="you")
    await ended(world)


async def test_a_drill_whose_control_dies_is_interrupted(tmp_path):
    world = await with_two_edges(tmp_path)
    await world.control.drills.start(DIGITS, 1000, by="me")
    await world.control.drills.close()
    drill = await world.control.drills.last(DIGITS)
    assert drill.state(world.clock()) is DrillState.RUNNING
    await world.pass_time(SILENCE.total_seconds() + 1)
    assert drill.state(world.clock()) is DrillState.INTERRUPTED


async def test_what_serves_no_traffic_cannot_be_drilled(tmp_path):
    world = await World.standing(tmp_path, versions=0)
    with pytest.raises(UnknownModel):
        await world.control.drills.start(DIGITS, 1, by="me")
    with pytest.raises(UnknownDrill):
        await world.control.drills.last(DIGITS)
    assert await world.store.read_all(Kind.LANE) == {}


# The command


def test_a_person_is_told_times_and_edges(tiltyard: Terminal):
    result = tiltyard("drill", "digits", "--times", 5)
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["rollback", "p50", "p95", "p99", "max", "times"]
    assert rows[1][:3] == ["at", "every", "edge"]
    assert (rows[2][0], rows[2][-1]) == ("edge-0", "5")
    assert "5 of 5 rollbacks of a lane of digits, 0 failed; by " in result.stdout
    shown = tiltyard("drill", "digits", "--last")
    assert (shown.exit_code, shown.stdout) == (0, result.stdout)
    history = tiltyard("history", "digits").stdout
    assert "Drills" in history
    assert "5 of 5" in history


def test_a_program_is_told_the_same(tiltyard: Terminal):
    found = tiltyard.json("drill", "digits", "--times", 5)
    assert (found["model"], found["state"], found["times"]) == ("digits", "ended", 5)
    assert (found["done"], found["failed"], found["failures"]) == (5, 0, {})
    assert found["rollback"].keys() == {"count", "p50", "p95", "p99", "max"}
    assert found["edges"].keys() == {"edge-0"}
    assert len(found["milliseconds"]) == 5
    (kept,) = tiltyard.json("history", "digits")["drills"]
    assert kept == found | {"milliseconds": []}


def test_a_drill_with_failures_is_a_negative_answer(tiltyard: Terminal):
    tiltyard.world.edges["edge-0"].deaf = True
    result = tiltyard("drill", "digits", "--times", 2)
    assert result.exit_code == 1
    assert "2 failed: no word in time from edge-0" in result.stdout


def test_what_was_never_drilled_is_said(tiltyard: Terminal):
    result = tiltyard("drill", "digits", "--last")
    assert result.exit_code == 1
    assert "Code: unknown_drill" in result.stderr
    assert tiltyard("drill", "tiltyard-drill-digits").exit_code == 1
    assert tiltyard("drill", "digits", "--times", 0).exit_code == 2


def test_without_control_there_is_no_drill(tiltyard: Terminal):
    tiltyard.transport = httpx2.MockTransport(nobody)
    assert tiltyard("drill", "digits").exit_code == 3
