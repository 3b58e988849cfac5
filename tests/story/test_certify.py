"""A certification through the product's own control, agents and controller, without a socket.

Only the data plane is the test's: it obeys the edge's route, plants the hosts' faults, and counts.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import httpx2
import pytest

from experiments.assignment import slot
from experiments.model import Variant
from experiments.prediction import Prediction, mint
from experiments.store import Batch, Cell
from registry.errors import InvalidName
from registry.refs import ModelName, Version, VersionRef
from serving.certify.certification import Certification, Options
from serving.certify.report import Certificate
from serving.client import ControlClient
from serving.commands import Resources
from serving.errors import Refused
from serving.hosts import HostState, statuses
from serving.hosts.faults import Fault
from serving.lanes import LEASE, is_lane
from serving.meeting import assigned
from serving.routes import Route
from tests.story.evidence import KEY
from tests.story.outside import DIGITS
from tests.story.world import World

LANE = ModelName("tiltyard-certify-digits")
BY = "a test"

EVERY_FIFTH = 5


class DataPlane(httpx2.AsyncBaseTransport):
    """HAProxy and the hosts: answers as the edge's route says, and counts what it has answered.

    Args:
        plants: Whether the hosts' faults are obeyed; else nothing is ever wrong.
        broken: Says of a request, by its number, whether the edge itself refuses it.
        lingers: Whether the challenger's first answer begins after it was rolled back.
    """

    def __init__(
        self,
        world: World,
        *,
        plants: bool = True,
        broken: Callable[[int], bool] = lambda _: False,
        lingers: bool = False,
    ) -> None:
        self.world = world
        self.plants = plants
        self.broken = broken
        self.lingers = lingers
        self.asked = 0
        self.counted = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json={"inputs": SIGNATURE})
        self.asked += 1
        if self.broken(self.asked):
            return httpx2.Response(503, text="the edge is on fire")
        (edge,) = self.world.edges.values()
        route = edge.agent.known.routes[LANE]
        question = json.loads(await request.aread())["inputs"][0]["data"]
        right = [round(abs(question[0]) * 1e6) % 10]
        if not route.trials:
            return answered(right)
        return await self._tried(route, request.headers["x-unit-id"].encode(), right)

    async def _tried(self, route: Route, unit: bytes, right: list[int]) -> httpx2.Response:
        (trial,) = route.trials
        met = assigned(trial, route.control, unit)
        fault = (await self._hosts())[met.version] if self.plants else Fault.NONE
        hit = self.asked % EVERY_FIFTH == 0
        failed, slow = fault is Fault.ERRORS and hit, fault is Fault.SLOW
        place = slot(unit, salt=trial.salt)
        cell = Cell(trial.experiment, trial.stage, met.variant, met.version, "requests")
        seen = {"units": True, "error_rate:1": failed}
        seen |= {f"{mark.counter}:1": slow for mark in trial.watch.slow}
        await self._count(cell, place, seen)
        data = right
        if hit and fault is Fault.WRONG:
            data = [(right[0] + 1) % 10]
        if hit and fault is Fault.EMPTY:
            data = []
        prediction = Prediction(
            model=LANE,
            version=met.version,
            experiment=trial.experiment,
            stage=trial.stage,
            variant=met.variant,
            slot=place,
            minted_at=self.world.clock(),
            nonce=f"{self.asked:032x}",
        )
        stamps = {
            "x-experiment": trial.experiment,
            "x-variant": "champion" if met.variant is Variant.CHAMPION else "challenger",
            "x-prediction-id": mint(prediction, KEY),
        }
        if self.lingers and met.variant is Variant.CHALLENGER:
            self.lingers = False
            await self._withdrawn()
            data, failed = right, True
        return answered(data, stamps | ({"x-failover": "1"} if failed else {}))

    async def _withdrawn(self) -> None:
        """Return when the trial is over, and a little later."""
        (edge,) = self.world.edges.values()
        while edge.agent.known.routes[LANE].trials:  # noqa: ASYNC110  a route has no event
            await asyncio.sleep(0)
        self.world.clock.now += timedelta(milliseconds=1)

    async def _hosts(self) -> dict[Version, Fault]:
        found = await statuses(self.world.store)
        return {r.version: s.spec.fault for r, s in found.items() if r.model == LANE}

    async def _count(self, cell: Cell, place: int, seen: Mapping[str, bool]) -> None:
        slots = {
            Cell(cell.experiment, cell.stage, cell.variant, cell.version, name): frozenset({place})
            for name, happened in seen.items()
            if happened
        }
        batch = Batch("the lane's log", self.counted, self.counted + 1, {cell: 1}, slots)
        self.counted = await self.world.store.apply(batch)


SIGNATURE = [{"name": "input-0", "datatype": "FP64", "shape": [-1, 64]}]


def answered(data: list[int], headers: Mapping[str, str] | None = None) -> httpx2.Response:
    output = {"name": "output-0", "datatype": "INT64", "shape": [len(data)], "data": data}
    return httpx2.Response(200, json={"outputs": [output]}, headers=headers)


def pausing(world: World) -> Callable[[float], object]:
    """Return what lets a second pass in the world whenever somebody waits in earnest."""
    turn = asyncio.Lock()

    async def pause(_seconds: float) -> None:
        async with turn:
            await world.live(1)
        await asyncio.sleep(0)

    return pause


async def certify(
    world: World, plane: DataPlane, *faults: Fault, requests: int = 300
) -> Certificate:
    """Certify `digits`, and return what was found."""
    async with (
        ControlClient.open("http://control", transport=world.transport()) as control,
        httpx2.AsyncClient(transport=plane, base_url="http://edge") as edge,
    ):
        options = Options(faults or tuple(Fault), requests=requests, rate=1e9)
        trying = Certification(
            control,
            edge,
            DIGITS,
            options,
            by=BY,
            tell=lambda _: None,
            pause=pausing(world),
            clock=world.clock,
        )
        return await trying.run()


async def nothing_is_left(world: World) -> bool:
    """Tell whether the world is as if there had never been a lane."""
    (edge,) = world.edges.values()
    return (
        not any(map(is_lane, await world.records.routes()))
        and not any(is_lane(ref.model) for ref in await statuses(world.store))
        and not any(is_lane(h.value.declaration.model) for h in await world.records.experiments())
        and not any(map(is_lane, edge.runtime.map))
        and not any(map(is_lane, edge.agent.report().epochs))
        and not any(spec.ref.model == LANE for spec in world.serve.specs.values())
        and not world.store._counters
    )


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World.standing(tmp_path, versions=1)


async def test_every_fault_is_found_and_the_a_a_stays_quiet(world: World):
    before = await world.route()
    found = await certify(world, DataPlane(world))
    assert [each.actual for each in found.trials] == ["no_alarm", *["rolled_back"] * 4]
    assert found.certified
    assert (found.version, found.failed_requests) == (VersionRef(DIGITS, Version(1)), 0)
    errors = found.trials[2]
    assert errors.rescued > 0
    assert "error_rate" in " ".join(errors.reasons)
    await world.live(4)
    assert await nothing_is_left(world)
    assert await world.route() == before


async def test_what_was_under_way_at_the_rollback_was_rescued_from_no_fault(world: World):
    found = await certify(world, DataPlane(world, lingers=True), Fault.WRONG)
    (wrong,) = found.trials
    assert (wrong.actual, wrong.rescued, found.certified) == ("rolled_back", 0, True)


async def test_a_fault_that_nobody_sees_is_a_miss(world: World):
    found = await certify(world, DataPlane(world, plants=False), Fault.WRONG)
    assert [each.actual for each in found.trials] == ["no_alarm"]
    assert (found.misses, found.certified) == (1, False)
    assert found.trials[0].requests == 300


async def test_requests_that_fail_are_counted_and_spoil_the_certificate(world: World):
    plane = DataPlane(world, broken=lambda number: number % 100 == 0)
    found = await certify(world, plane, Fault.NONE)
    assert found.trials[0].actual == "no_alarm"
    assert (found.trials[0].failed_requests, found.certified) == (3, False)
    assert "answered 503" in " ".join(found.failures)


async def test_whoever_vanishes_leaves_nothing_behind_for_long(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        for _ in range(3):
            lane = await control.keep_lane("digits", "0123abcd", by=BY, faults=["errors"])
            await world.live(1)
        assert (lane["model"], lane["of"]) == (LANE, "digits/1")
        await control.keep_lane("digits", "0123abcd", by=BY, faults=["errors"])
        await control.lane_trial("digits", "0123abcd", "errors", 215, 2000, by=BY)
        assert not await nothing_is_left(world)
        await world.live(round(LEASE.total_seconds()) - 2)
        assert LANE in await world.records.routes()
    await world.live(6)
    assert await nothing_is_left(world)


async def test_two_cannot_certify_one_model_at_once(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        await control.keep_lane("digits", "0123abcd", by="Ann", faults=[])
        with pytest.raises(Refused, match="Ann uses the lane") as refused:
            await control.keep_lane("digits", "4567abcd", by="Bob", faults=[])
        assert refused.value.refusal == "lane_taken"
        with pytest.raises(Refused, match="Ann uses the lane"):
            await control.end_lane("digits", "4567abcd")
        await control.end_lane("digits", "0123abcd")
        await control.keep_lane("digits", "4567abcd", by="Bob", faults=[])


async def test_a_trial_needs_a_lane(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        with pytest.raises(Refused) as refused:
            await control.lane_trial("digits", "0123abcd", "errors", 215, 2000, by=BY)
        assert refused.value.refusal == "unknown_lane"


async def test_a_model_that_serves_nobody_cannot_be_certified(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        with pytest.raises(Refused) as refused:
            await control.keep_lane("nobodys", "0123abcd", by=BY, faults=[])
        assert refused.value.refusal == "unknown_model"


async def test_a_lane_is_shown_to_nobody_and_the_registry_never_hears_of_it(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        for _ in range(4):
            await control.keep_lane("digits", "0123abcd", by=BY, faults=["slow"])
            await world.live(1)
        await control.lane_trial("digits", "0123abcd", "slow", 215, 2000, by=BY)
        status = await control.status()
        assert [model["model"] for model in status["models"]] == ["digits"]
        assert list(status["edges"][0]["epochs"]) == ["digits"]
        assert await control.experiments() == []
        assert status["troubles"] == {}
    assert await world.catalog.models() == (DIGITS,)


async def test_a_lane_of_control_after_a_crash_is_swept_by_the_next(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        for _ in range(4):
            await control.keep_lane("digits", "0123abcd", by=BY, faults=["slow"])
            await world.live(1)
        await control.end_lane("digits", "0123abcd")
    await world.restart_control()
    await world.live(4)
    assert await nothing_is_left(world)


async def test_an_edge_that_slept_through_the_end_forgets_the_lane_when_it_wakes(world: World):
    (edge,) = world.edges.values()
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        for _ in range(3):
            await control.keep_lane("digits", "0123abcd", by=BY, faults=[])
            await world.live(1)
        edge.deaf = True
        await control.end_lane("digits", "0123abcd")
        await world.live(4)
        assert edge.route(LANE)
        edge.deaf = False
        await world.live(2)
    assert await nothing_is_left(world)
    assert edge.route(DIGITS)


async def test_what_a_store_has_lost_is_rebuilt_but_for_lanes(world: World):
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        for _ in range(3):
            await control.keep_lane("digits", "0123abcd", by=BY, faults=[])
            await world.live(1)
    world.store.lose_everything()
    await world.live(8)
    assert await nothing_is_left(world)
    assert (await world.route()).champion == 1
    assert await world.state(1) is HostState.HOT


async def test_nobody_may_register_or_deploy_a_model_with_a_name_of_tiltyards_own(world: World):
    with pytest.raises(InvalidName, match="keeps for itself"):
        await world.register(ModelName("tiltyard-mine"))
    with pytest.raises(InvalidName, match="keeps for itself"):
        await world.control.commands.deploy(
            VersionRef(LANE, Version(1)), Resources(replicas=1, cpus=0.1, gpus=0)
        )
