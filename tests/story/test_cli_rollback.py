"""Promotion and rollback from the command line, also where control is away."""

import asyncio
import getpass
import json
import shutil
from collections.abc import Sequence

import httpx2
import pytest

from registry.refs import Version, VersionRef
from serving.break_glass import Order, RolledBack
from serving.edge.breakglass import app
from serving.errors import EdgeUnavailable
from serving.settings import Settings
from tests.story.outside import DIGITS
from tests.story.terminal import nobody
from tests.story.world import FILE, World

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


async def nothing_to_measure() -> str:
    return ""


class Doors:
    """The agents' own sockets, of this machine's edges.

    Attributes:
        orders: Every rollback that was asked for there: the edge, and what it was told.
        shut: Edges whose agents do not answer.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.orders: list[tuple[str, dict[str, object]]] = []
        self.shut: set[str] = set()

    def of(self, edge: Settings) -> httpx2.AsyncBaseTransport:
        agent = self.world.edges[edge.edge_name].agent
        within = httpx2.ASGITransport(app=app(agent, nothing_to_measure))

        async def opened(request: httpx2.Request) -> httpx2.Response:
            if edge.edge_name in self.shut:
                raise httpx2.ConnectError("no such file", request=request)
            if request.method == "POST":
                self.orders.append((edge.edge_name, json.loads(request.content)))
            return await within.handle_async_request(request)

        return httpx2.MockTransport(opened)


@pytest.fixture
def doors(tiltyard, monkeypatch) -> Doors:
    """This machine's edge takes orders on its socket."""
    doors = Doors(tiltyard.world)
    monkeypatch.setattr("serving.break_glass.door_of", doors.of)
    monkeypatch.setattr("serving.break_glass.ROLLBACK_SECONDS", 0.0)
    return doors


@pytest.fixture
def three(tiltyard, doors, monkeypatch) -> Doors:
    """Three edges of this machine, which all take orders."""
    monkeypatch.setenv("TILTYARD_EDGES", "3")
    for number in (1, 2):
        asyncio.run(tiltyard.world.add_edge(f"edge-{number}"))
    return doors


def test_without_control_rollback_asks_this_machines_edge_and_says_so(tiltyard, doors):
    tiltyard("promote", "digits", 2)
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0
    assert "Asking this machine's edges themselves." in result.stderr
    assert "digits: version 2 -> version 1 in " in result.stdout
    assert "ms, obeyed by edge-0\n" in result.stdout
    assert "control takes it over" in result.stdout
    ((_, order),) = doors.orders
    assert (order["by"], order["why"]) == (ME, f"Rolled back by {ME}.")
    assert tiltyard.world.edges["edge-0"].route().champion == 1


def test_without_the_store_rollback_asks_this_machines_edge(tiltyard, doors, monkeypatch):
    tiltyard("promote", "digits", 2)

    async def nothing(edges: Sequence[Settings], order: Order) -> RolledBack:
        raise EdgeUnavailable("control's own edge is away")

    monkeypatch.setattr("serving.app.break_glass", nothing)
    tiltyard.world.store.disconnect()
    found = tiltyard.json("rollback", "digits", "--why", "Redis died")
    assert (found["to_version"], found["break_glass"]) == (1, True)
    assert doors.orders[0][1]["why"] == "Redis died"


def test_a_rollback_whose_answer_is_lost_takes_nothing_more_back(tiltyard, doors):
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
    assert doors.orders[0][1]["withdrawn"] == [1]
    route = tiltyard.world.edges["edge-0"].route()
    assert (route.champion, route.previous, route.trials) == (2, 1, ())


def test_rollback_local_asks_nobody_but_the_edge(tiltyard, doors):
    tiltyard("promote", "digits", 2)
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits", "--local")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(doors.orders) == 1
    assert tiltyard("rollback", "digits", "--local", "--to", 1).exit_code == 2
    again = tiltyard("rollback", "digits", "--local", "--force")
    assert (again.exit_code, "has no trial, and no previous version" in again.stderr) == (1, True)


def test_an_edge_knows_no_way_to_a_version_of_ones_choice(tiltyard, doors):
    tiltyard.transport = httpx2.MockTransport(nobody)
    assert tiltyard("rollback", "digits", "--to", 1).exit_code == 3
    assert doors.orders == []


def test_what_control_refuses_is_not_asked_of_the_edge(tiltyard, doors):
    assert tiltyard("rollback", "digits").exit_code == 1
    assert doors.orders == []


def test_without_control_and_without_an_edge_here_rollback_cannot_reach_anything(tiltyard):
    shutil.rmtree(tiltyard.folder / "edge-0")
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 3
    assert "Code: control_unavailable" in result.stderr
    local = tiltyard("rollback", "digits", "--local")
    assert local.exit_code == 3
    assert "Code: edge_unavailable" in local.stderr


# Several edges on one machine


def test_rollback_local_asks_every_edge_of_this_machine(tiltyard, three):
    tiltyard("promote", "digits", 2)
    result = tiltyard("rollback", "digits", "--local")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count(" ms)") == 3
    found = {name: edge.route().champion for name, edge in tiltyard.world.edges.items()}
    assert found == {"edge-0": 1, "edge-1": 1, "edge-2": 1}


def test_rollback_local_at_one_edge_leaves_the_others_alone(tiltyard, three):
    tiltyard("promote", "digits", 2)
    assert tiltyard.json("rollback", "digits", "--local", "--edge", "edge-1")["edges"] == ["edge-1"]
    found = {name: edge.route().champion for name, edge in tiltyard.world.edges.items()}
    assert found == {"edge-0": 2, "edge-1": 1, "edge-2": 2}


def test_an_edge_that_went_back_before_goes_back_no_further(tiltyard, three):
    """Whoever repeats the rollback for the others means the same version."""
    tiltyard("promote", "digits", 2)
    asyncio.run(tiltyard.world.start(FILE.replace("challenger: 2", "challenger: 1")))
    tiltyard("rollback", "digits", "--local", "--edge", "edge-1")
    found = tiltyard.json("rollback", "digits", "--local")
    assert (found["withdrawn"], found["to_version"]) == ([1], 2)
    assert found["edges"] == ["edge-0", "edge-1", "edge-2"]
    routes = [edge.route() for edge in tiltyard.world.edges.values()]
    assert [(route.champion, route.trials) for route in routes] == [(2, ())] * 3


def test_two_who_press_the_button_at_once_take_one_step_back(tiltyard, three):
    tiltyard("promote", "digits", 2)
    asyncio.run(tiltyard.world.start(FILE.replace("challenger: 2", "challenger: 1")))
    tiltyard.world.store.disconnect()
    for repeated in (False, True):
        result = tiltyard("rollback", "digits", "--local")
        assert (result.exit_code, result.stderr) == (0, "")
        assert "digits: version 1 -> version 2" in result.stdout
        assert result.stdout.count("Already withdrawn there: nothing was changed.") == 3 * repeated
    routes = [edge.route() for edge in tiltyard.world.edges.values()]
    assert [route.champion for route in routes] == [2] * 3
    found = tiltyard.json("rollback", "digits", "--local", "--force")
    assert (found["withdrawn"], found["to_version"], found["said"]) == ([2], 1, {})


@pytest.mark.parametrize("force", [False, True])
def test_at_one_edge_a_second_step_back_has_to_be_confirmed(tiltyard, doors, force):
    tiltyard("promote", "digits", 2)
    asyncio.run(tiltyard.world.start(FILE.replace("challenger: 2", "challenger: 1")))
    tiltyard.world.store.disconnect()
    assert tiltyard("rollback", "digits", "--local").exit_code == 0
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits", *(["--force"] if force else []))
    champion = tiltyard.world.edges["edge-0"].route().champion
    if force:
        assert (result.exit_code, champion) == (0, 1)
    else:
        assert (result.exit_code, champion) == (1, 2)
        assert "was rolled back here by" in result.stderr
        assert "confirm with --force" in result.stderr


def test_what_an_edge_did_not_do_is_said_and_is_no_success(tiltyard, three):
    tiltyard("promote", "digits", 2)
    three.shut.add("edge-1")
    shutil.rmtree(tiltyard.folder / "edge-1")
    result = tiltyard("rollback", "digits", "--local")
    assert result.exit_code == 1
    assert "obeyed by edge-0 (" in result.stdout
    assert "edge-1: The agent of edge-1 does not answer" in result.stdout
    assert "No word in time from edge-1, which may serve the old route." in result.stdout


def test_an_edge_whose_agent_is_dead_is_told_in_its_place(tiltyard, three):
    """What is left behind there is what its next agent begins with, and publishes."""
    tiltyard("promote", "digits", 2)
    three.shut.add("edge-1")
    result = tiltyard("rollback", "digits", "--local")
    assert result.exit_code == 0, result.stdout
    assert "edge-1 (" in result.stdout
    assert "edge-1: HAProxy does not run there" in result.stdout
    again = asyncio.run(tiltyard.world.add_edge("edge-1"))
    assert again.route().champion == 1
    assert again.agent.known.overrides.keys() == {DIGITS}


def test_an_edge_that_does_not_know_the_model_keeps_nobody_from_going_back(tiltyard, three):
    tiltyard("promote", "digits", 2)
    shutil.rmtree(tiltyard.folder / "edge-2")
    tiltyard.world.store.disconnect()
    asyncio.run(tiltyard.world.add_edge("edge-2"))
    found = tiltyard.json("rollback", "digits", "--local")
    assert (found["edges"], found["silent"]) == (["edge-0", "edge-1"], [])
    assert "no route" in found["said"]["edge-2"]


def test_without_the_store_control_asks_every_edge_beside_it(tiltyard, three):
    tiltyard("promote", "digits", 2)
    tiltyard.world.settings = tiltyard.world.settings.model_copy(update={"edges": 3})
    asyncio.run(tiltyard.world.restart_control())
    tiltyard.world.store.disconnect()
    found = tiltyard.json("rollback", "digits")
    assert (found["edges"], found["break_glass"]) == (["edge-0", "edge-1", "edge-2"], True)


@pytest.mark.parametrize("words", [("--edge", "edge-0"), ("--local", "--edge", "edge-9")])
def test_an_edge_is_named_among_those_of_this_machine(tiltyard, three, words):
    assert tiltyard("rollback", "digits", *words).exit_code == 2
    assert three.orders == []
