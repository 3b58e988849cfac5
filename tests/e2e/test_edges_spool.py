"""The request log while Redis is away: it waits, within a bound, and what is lost is told."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from experiments.completeness import incompleteness
from experiments.evidence import LOST, LOST_REQUESTS, Evidence
from experiments.model import ExperimentName
from serving.local.supervisor import edge_programs, redis_program
from tests.e2e.cable import Cable
from tests.e2e.client import eventually
from tests.e2e.edge_checks import EVERYBODY
from tests.e2e.edge_fixture import Client
from tests.e2e.edges_fixture import (
    LOOK_SECONDS,
    Control,
    Machine,
    control_of,
    machine_with,
    supervised,
)

BOUND = 256 * 1024
LINE = 70
"""Bytes that no line is shorter than."""

TRIAL = ExperimentName("trial")


@pytest.fixture(scope="module")
def net() -> Iterator[tuple[Machine, Cable]]:
    """One edge, whose log may grow to `BOUND`, at the end of a cable."""
    with machine_with(1, log_limit_bytes=BOUND) as machine:
        cable = Cable(machine.settings)
        [edge] = machine.edges
        programs = [redis_program(machine.settings), *edge_programs(cable.behind(edge))]
        with cable.laid(), supervised(machine.settings, programs):
            asyncio.run(machine.listen())
            yield machine, cable


def ask(machine: Machine, times: int) -> None:
    """Send so many requests, over a few connections."""
    connections = 4

    def send() -> None:
        client = Client(machine.edges[0].edge_port)
        for _ in range(times // connections):
            assert client.infer().status == 200
        client.close()

    threads = [threading.Thread(target=send) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def accounted(control: Control, requests: int) -> tuple[int, int, int]:
    """Wait until every request is counted or known to be lost; return both, and the bytes."""
    found = 0, 0, 0

    async def all_are() -> bool:
        nonlocal found
        counts = (await control.store.readings(TRIAL)).counts
        sums = [
            sum(count for cell, count in counts.items() if cell.counter == counter)
            for counter in ("requests", LOST_REQUESTS, LOST)
        ]
        found = sums[0], sums[1], sums[2]
        return sums[0] + sums[1] >= requests

    what = lambda: f"{requests} requests, of which are counted, lost: {found}"  # noqa: E731
    await eventually(all_are, what=what, pause=LOOK_SECONDS)
    return found


async def test_within_the_bound_every_request_is_counted_when_redis_is_back(net) -> None:
    machine, cable = net
    async with control_of(machine) as control:
        await control.publish(cut=EVERYBODY)
        cable.is_cut = True
        await asyncio.to_thread(ask, machine, 1000)
        cable.is_cut = False
        assert await accounted(control, 1000) == (1000, 0, 0)


async def test_beyond_it_the_older_half_goes_and_is_accounted_for_to_the_last(net) -> None:
    """The edge's users notice nothing, its disk neither, and the experiment says what it lacks."""
    machine, cable = net
    [edge] = machine.edges
    async with control_of(machine) as control:
        await control.publish(cut=EVERYBODY)
        before, _, _ = await accounted(control, 0)
        sent = 2 * BOUND // LINE
        sent -= sent % 4
        cable.is_cut = True
        await asyncio.to_thread(ask, machine, sent)
        log = edge.edge_dir / "requests.log"
        assert log.stat().st_blocks * 512 <= 2 * BOUND
        cable.is_cut = False
        counted, lost_requests, lost_bytes = await accounted(control, before + sent)
        assert counted + lost_requests == before + sent, "none twice"
        assert counted > before
        assert 0 < LINE * lost_requests <= lost_bytes
        evidence = Evidence((), lost_bytes=lost_bytes, lost_requests=lost_requests)
        assert f"up to {lost_requests:,} of its requests" in incompleteness(evidence)[0]

        async def told() -> bool:
            said = (await control.heard()).get(edge.edge_name)
            return said is not None and said.lost_requests == lost_requests

        await eventually(told, what="the edge tells of it", pause=LOOK_SECONDS)
