"""Edges whose way to Redis is cut: what they serve, what a rollback waits for, and their return."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from experiments.codec import decode
from experiments.store import Kind
from registry.refs import Version
from serving.edge.partition import PartitionPolicy
from serving.edge.report import EdgeReport
from serving.local.supervisor import edge_programs, redis_program
from serving.routes import Route, withdraw
from serving.settings import Settings
from serving.switch import Switched
from tests.e2e.cable import Cable
from tests.e2e.client import eventually
from tests.e2e.edge_checks import EVERYBODY
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL, Answer, Client
from tests.e2e.edges_fixture import (
    LOOK_SECONDS,
    Control,
    Machine,
    control_of,
    machine_with,
    supervised,
)

LEASE = timedelta(seconds=1)


@dataclass
class Network:
    """Two edges: the first beside Redis, the second at the end of a cable."""

    machine: Machine
    cable: Cable

    @property
    def far(self) -> Settings:
        return self.machine.edges[1]

    async def answers(self, version: Version, *, epoch: int | None = None) -> None:
        """Wait until the far edge answers with a version, and at which epoch."""
        seen: Answer | None = None

        async def so() -> bool:
            nonlocal seen
            seen = await asyncio.to_thread(ask, self.far)
            stamped = epoch is None or seen.headers["x-route-epoch"] == str(epoch)
            return seen.version == version and stamped

        await eventually(so, what=lambda: f"{version}, not {seen}", pause=LOOK_SECONDS)

    async def has_lost_its_lease(self) -> None:
        """Wait until the far edge says, on its own socket, that it is cut off."""

        async def so() -> bool:
            cut_off = (await self.says()).cut_off
            return cut_off is not None and cut_off.until is None

        await eventually(so, what="the lease is over", pause=LOOK_SECONDS)

    async def says(self) -> EdgeReport:
        """Return what the far edge says of itself, whether or not Redis hears it."""
        answer = await self._at_socket("GET", "/routes")
        return decode(EdgeReport, answer.content)

    async def roll_back_by_hand(self) -> int:
        """Roll back on the far edge's own socket, and return the epoch."""
        answer = await self._at_socket("POST", "/rollback", {"model": MODEL})
        return int(answer.json()["epoch"])

    async def _at_socket(self, method: str, path: str, body: object = None) -> httpx2.Response:
        transport = httpx2.AsyncHTTPTransport(uds=str(self.far.agent_socket))
        async with httpx2.AsyncClient(transport=transport, base_url="http://edge") as client:
            return await client.request(method, path, json=body)


def ask(edge: Settings) -> Answer:
    client = Client(edge.edge_port)
    try:
        return client.infer()
    finally:
        client.close()


@contextmanager
def network(policy: PartitionPolicy) -> Iterator[Network]:
    with machine_with(2, edge_lease=LEASE, partition_policy=policy) as machine:
        settings = machine.settings
        cable = Cable(settings)
        near, far = machine.edges
        edges = edge_programs(near) + edge_programs(cable.behind(far))
        programs = [redis_program(settings), *edges]
        with cable.laid(), supervised(settings, programs):
            asyncio.run(machine.listen())
            yield Network(machine, cable)


@pytest.fixture(scope="module", params=PartitionPolicy)
def net(request: pytest.FixtureRequest) -> Iterator[Network]:
    with network(request.param) as made:
        yield made


FENCED = pytest.mark.parametrize("net", [PartitionPolicy.CHAMPION], indirect=True)
KEEPING = pytest.mark.parametrize("net", [PartitionPolicy.KEEP], indirect=True)


@asynccontextmanager
async def on_trial(net: Network) -> AsyncIterator[Control]:
    """Have every unit meet the challenger at both edges; leave the cable whole behind."""
    async with control_of(net.machine) as control:
        await control.publish(cut=EVERYBODY)
        await net.answers(CHALLENGER)
        try:
            yield control
        finally:
            net.cable.is_cut = False


async def take_back(control: Control) -> Switched:
    """Roll back as a person's command does, and return who obeyed it."""

    async def change(route: Route | None) -> Route:
        assert route is not None
        return withdraw(route, by="me", why="it errs", at=datetime.now(UTC)).route

    return await control.switch.change(MODEL, change)


@FENCED
async def test_once_a_rollback_is_acknowledged_no_edge_serves_the_challenger(net) -> None:
    """Not even one that nobody can tell: its lease was over before anybody stopped waiting."""
    async with on_trial(net) as control:
        net.cable.is_cut = True
        done = await take_back(control)
        assert set(done.acknowledged) == {"edge-0"}
        for _ in range(50):
            answer = await asyncio.to_thread(ask, net.far)
            assert answer.version == CHAMPION
            assert int(answer.headers["x-route-epoch"]) < done.after.epoch
        assert done.lost == ("edge-1",)
        net.cable.is_cut = False
        await net.answers(CHAMPION, epoch=done.after.epoch)
        await control.obeyed(done.after.epoch)
        told = (await control.heard())["edge-1"]
        assert told.policy is PartitionPolicy.CHAMPION
        assert told.cut_off is not None


@FENCED
async def test_a_trial_that_goes_on_is_served_again_by_an_edge_that_is_back(net) -> None:
    async with on_trial(net):
        net.cable.is_cut = True
        await net.answers(CHAMPION)
        net.cable.is_cut = False
        await net.answers(CHALLENGER)


@FENCED
async def test_an_edge_that_starts_cut_off_serves_no_challenger(net) -> None:
    async with on_trial(net) as control:
        net.cable.is_cut = True
        await net.answers(CHAMPION)
        names = ("edge-1-haproxy", "edge-1-agent")
        for name, before in zip(names, net.machine.kill(*names), strict=True):
            await net.machine.lives(name, after=before)
        await net.machine.listens(net.far)
        for _ in range(20):
            assert (await asyncio.to_thread(ask, net.far)).version == CHAMPION
        done = await take_back(control)
        net.cable.is_cut = False
        await net.answers(CHAMPION, epoch=done.after.epoch)


async def test_a_rollback_by_hand_holds_and_is_told_when_the_edge_is_back(net) -> None:
    async with on_trial(net) as control:
        net.cable.is_cut = True
        await net.has_lost_its_lease()
        epoch = await net.roll_back_by_hand()
        await net.answers(CHAMPION, epoch=epoch)
        net.cable.is_cut = False

        async def told() -> bool:
            report = (await control.heard()).get("edge-1")
            return report is not None and report.break_glass == (MODEL,)

        await eventually(told, what="control is told", pause=LOOK_SECONDS)
        await net.answers(CHAMPION)
        # Control takes it over: a later route, and then the edge's own is forgotten.
        done = await take_back(control)
        await control.store.delete(Kind.OVERRIDE, f"edge-1:{MODEL}")
        await control.obeyed(done.after.epoch)


@KEEPING
async def test_an_edge_that_keeps_its_routes_is_named_by_the_rollback_it_misses(net) -> None:
    async with on_trial(net) as control:
        net.cable.is_cut = True
        done = await take_back(control)
        assert (set(done.acknowledged), done.silent) == ({"edge-0"}, ("edge-1",))
        await net.answers(CHALLENGER)
        assert (await net.says()).cut_off is not None
        net.cable.is_cut = False
        await net.answers(CHAMPION, epoch=done.after.epoch)
