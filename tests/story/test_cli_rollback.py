"""Promotion and rollback from the command line, also where control is away."""

import asyncio
import getpass

import httpx2
import pytest

from registry.refs import Version, VersionRef
from serving.break_glass import Order, RolledBack
from serving.errors import EdgeUnavailable
from tests.story.outside import DIGITS
from tests.story.terminal import nobody
from tests.story.world import FILE

ME = getpass.getuser()


def test_promote_tells_from_to_edges_and_milliseconds(tiltyard):
    result = tiltyard("promote", "digits", 2, "--why", "it is Friday")
    assert result.exit_code == 0
    assert result.stdout.startswith("digits: version 1 -> version 2 in ")
    assert result.stdout.endswith(" ms, obeyed by edge-0\n")
    assert "already" in tiltyard("promote", "digits", 2).stdout
    asyncio.run(tiltyard.world.tick())
    history = tiltyard.json("history", "digits")
    assert history["champions"][-1]["why"] == "it is Friday"
    assert history["champions"][-1]["by"] == ME


def test_rollback_tells_from_to_edges_and_milliseconds(tiltyard):
    tiltyard("promote", "digits", 2)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0
    assert result.stdout.startswith("digits: version 2 -> version 1 in ")
    assert result.stdout.endswith(" ms, obeyed by edge-0\n")


def test_rollback_goes_to_a_version_of_ones_choice(tiltyard):
    tiltyard("promote", "digits", 2)
    found = tiltyard.json("rollback", "digits", "--to", 1, "--why", "a drill")
    assert (found["withdrawn"], found["to_version"], found["edges"]) == ([2], 1, ["edge-0"])


def test_a_rollback_names_every_version_that_it_withdraws(tiltyard):
    world = tiltyard.world
    asyncio.run(world.deploy(asyncio.run(world.register()).version))
    asyncio.run(world.start(FILE.replace("challenger: 2", "challengers: [2, 3]")))
    assert "2, 3" in tiltyard("experiment", "list").stdout
    result = tiltyard("rollback", "digits")
    assert result.stdout.startswith("digits: versions 2 and 3 -> version 1 in ")


def test_a_rollback_that_an_edge_has_not_obeyed_yet_is_no_success(tiltyard):
    tiltyard("promote", "digits", 2)
    tiltyard.world.edges["edge-0"].deaf = True
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 1
    assert "No word in time from edge-0" in result.stdout


def test_rollback_with_nothing_to_go_back_to_is_refused_in_words(tiltyard):
    result = tiltyard("rollback", "digits")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Code: nothing_to_roll_back" in result.stderr
    assert "Next: `tiltyard promote MODEL VERSION`" in result.stderr
    assert tiltyard.json("rollback", "digits", status=1)["code"] == "nothing_to_roll_back"


def test_rollback_to_a_version_that_is_not_hot_wants_force(tiltyard):
    tiltyard("promote", "digits", 2)
    tiltyard.world.serve.unreachable.add(VersionRef(DIGITS, Version(1)))
    asyncio.run(tiltyard.world.tick())
    assert "Code: target_not_hot" in tiltyard("rollback", "digits").stderr
    assert tiltyard("rollback", "digits", "--force").exit_code == 0


# Going back without control


@pytest.fixture
def at_the_edge(tiltyard, monkeypatch) -> list[Order]:
    """This machine's edge has a socket; return the orders that reach it."""
    orders: list[Order] = []
    (tiltyard.folder / "edge-0" / "agent.sock").touch()

    async def break_glass(socket: str, order: Order) -> RolledBack:
        assert socket == str(tiltyard.folder / "edge-0" / "agent.sock")
        orders.append(order)
        agent = tiltyard.world.edges["edge-0"].agent
        done = await agent.roll_back(
            order.model, by=order.by, why=order.why, withdrawn=order.withdrawn
        )
        versions = (done.withdrawn, done.to_version)
        return RolledBack(order.model, *versions, ("edge-0",), (), 0.5, None, break_glass=True)

    monkeypatch.setattr("serving.break_glass.break_glass", break_glass)
    return orders


def test_without_control_rollback_asks_this_machines_edge_and_says_so(tiltyard, at_the_edge):
    tiltyard("promote", "digits", 2)
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0
    assert "Asking this machine's edge itself." in result.stderr
    assert "digits: version 2 -> version 1 in 0.5 ms, obeyed by edge-0" in result.stdout
    assert "control takes it over" in result.stdout
    (order,) = at_the_edge
    assert (order.by, order.why) == (ME, f"Rolled back by {ME}.")
    assert tiltyard.world.edges["edge-0"].route().champion == 1


def test_without_the_store_rollback_asks_this_machines_edge(tiltyard, at_the_edge, monkeypatch):
    tiltyard("promote", "digits", 2)

    async def nothing(socket: str, order: Order) -> RolledBack:
        raise EdgeUnavailable("control's own edge is away")

    monkeypatch.setattr("serving.app.break_glass", nothing)
    tiltyard.world.store.disconnect()
    found = tiltyard.json("rollback", "digits", "--why", "Redis died")
    assert (found["to_version"], found["break_glass"]) == (1, True)
    assert at_the_edge[0].why == "Redis died"


def test_a_rollback_whose_answer_is_lost_takes_nothing_more_back(tiltyard, at_the_edge):
    """Control withdraws the trial and dies before it answers; version 2 stays the champion."""
    tiltyard("promote", "digits", 2)
    file = FILE.replace("challenger: 2", "challenger: 1")
    asyncio.run(tiltyard.world.start(file))
    whole = tiltyard.world.transport()

    async def mute(request: httpx2.Request) -> httpx2.Response:
        answer = await whole.handle_async_request(request)
        if request.url.path.endswith("/rollback"):
            raise httpx2.ReadError("control died")
        return answer

    tiltyard.transport = httpx2.MockTransport(mute)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0, result.stderr
    assert at_the_edge[0].withdrawn == (1,)
    route = tiltyard.world.edges["edge-0"].route()
    assert (route.champion, route.previous, route.trial) == (2, 1, None)


def test_rollback_local_asks_nobody_but_the_edge(tiltyard, at_the_edge):
    tiltyard("promote", "digits", 2)
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits", "--local")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(at_the_edge) == 1
    assert tiltyard("rollback", "digits", "--local", "--to", 1).exit_code == 2
    assert tiltyard("rollback", "digits", "--local", "--force").exit_code == 2


def test_an_edge_knows_no_way_to_a_version_of_ones_choice(tiltyard, at_the_edge):
    tiltyard.transport = httpx2.MockTransport(nobody)
    assert tiltyard("rollback", "digits", "--to", 1).exit_code == 3
    assert at_the_edge == []


def test_what_control_refuses_is_not_asked_of_the_edge(tiltyard, at_the_edge):
    assert tiltyard("rollback", "digits").exit_code == 1
    assert at_the_edge == []


def test_without_control_and_without_an_edge_here_rollback_cannot_reach_anything(tiltyard):
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 3
    assert "Code: control_unavailable" in result.stderr
    local = tiltyard("rollback", "digits", "--local")
    assert local.exit_code == 3
    assert "Code: edge_unavailable" in local.stderr
