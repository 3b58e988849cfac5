"""What an edge tells Prometheus, on a port that is not its clients'."""

import asyncio
import json
from collections.abc import Iterator, Mapping

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.edge.runtime import Incident
from serving.metrics import edge as metrics
from serving.settings import Settings
from tests.e2e.client import eventually
from tests.e2e.edge_checks import EVERYBODY
from tests.e2e.edge_fixture import BODY, CHALLENGER, MODEL, Client, Mood
from tests.e2e.edges_fixture import LOOK_SECONDS, Machine, control_of, running_machine

ARM = {"model": MODEL, "version": str(CHALLENGER), "variant": "challenger"}


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with running_machine(1, retry_body_bytes=1024) as machine:
        yield machine


def url(edge: Settings, path: str) -> str:
    return f"http://{edge.edge_metrics_host}:{edge.edge_metrics_port}{path}"


class Scrape:
    """What was told at one moment."""

    def __init__(self, edge: Settings) -> None:
        answer = httpx2.get(url(edge, "/agent/metrics"), trust_env=False)
        assert answer.status_code == 200
        self.families = {it.name: it for it in text_string_to_metric_families(answer.text)}

    def value(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """Return a sample's value, 0 if there is none."""
        samples = [sample for family in self.families.values() for sample in family.samples]
        return sum(it.value for it in samples if it.name == name and it.labels == (labels or {}))


async def once_all_are_counted(edge: Settings, requests: int) -> Scrape:
    async def they_are() -> Scrape | None:
        scrape = await asyncio.to_thread(Scrape, edge)
        return scrape if scrape.value(metrics.COUNTED.told) >= requests else None

    found = await eventually(they_are, what=f"{requests} are counted", pause=LOOK_SECONDS)
    assert found is not None
    return found


async def test_an_edge_tells_what_became_of_every_inference(machine) -> None:
    [edge] = machine.edges
    async with control_of(machine) as control:
        route = await control.publish(cut=EVERYBODY)
        client = Client(edge.edge_port)
        for moods in ([Mood.ANSWER], [Mood.ERROR_500], [Mood.BAD_INPUT]):
            machine.ingress.moods = {CHALLENGER: moods}
            await asyncio.to_thread(client.infer)
        machine.ingress.moods = {}
        large = json.dumps({"inputs": [], "pad": "x" * 200_000}).encode()
        await asyncio.to_thread(client.infer, body=large)
        client.request("POST", "/v2/models/no-such-model/infer", (), BODY)
        client.close()
        told = await once_all_are_counted(edge, 4)

    def answered(status: str, failover: str) -> float:
        return told.value(metrics.REQUESTS.told, ARM | {"status": status, "failover": failover})

    assert answered("200", "false") == 2
    assert answered("200", "true") == 1
    assert answered("422", "false") == 1
    for family in (metrics.DURATION, metrics.FIRST_BYTE):
        assert told.value(f"{family.name}_count", ARM) == 4
        assert told.value(f"{family.name}_bucket", ARM | {"le": "+Inf"}) == 4
    assert told.value(metrics.EPOCH.told, {"model": MODEL}) == route.epoch
    assert told.value(metrics.READY.told) == 1
    assert told.value(metrics.LOST_REQUESTS.told) == told.value(metrics.BACKLOG.told) == 0
    assert told.value(metrics.CUT_OFF.told) == 0
    one_try = {"model": MODEL, "kind": Incident.ONE_TRY}
    assert told.value(metrics.INCIDENTS.told, one_try) == 1
    names = {
        it.labels["model"]
        for family in told.families.values()
        for it in family.samples
        if "model" in it.labels
    }
    assert names == {MODEL}, "what clients ask for becomes no label"
    assert {it.name: (it.type, it.documentation) for it in told.families.values()} == {
        it.name: (it.kind.value, it.explained) for it in metrics.EDGE
    }


def test_haproxy_tells_of_itself(machine) -> None:
    [edge] = machine.edges
    answer = httpx2.get(url(edge, "/metrics"), trust_env=False)
    assert answer.status_code == 200
    assert "haproxy_frontend_http_requests_total" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/agent/routes", 404),
        ("GET", "/rollback", 404),
        ("POST", "/agent/metrics", 405),
        ("POST", "/rollback", 405),
    ],
)
def test_nothing_else_can_be_had_or_done_there(machine, method, path, status) -> None:
    [edge] = machine.edges
    answer = httpx2.request(method, url(edge, path), trust_env=False)
    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/metrics", "/agent/metrics"])
def test_clients_are_told_nothing_of_it(machine, path) -> None:
    [edge] = machine.edges
    assert httpx2.get(f"{edge.edge_url}{path}", trust_env=False).status_code == 404


def test_without_an_agent_haproxy_still_tells_of_itself(machine) -> None:
    [edge] = machine.edges
    [before] = machine.kill("edge-0-agent")
    assert httpx2.get(url(edge, "/metrics"), trust_env=False).status_code == 200
    asyncio.run(machine.lives("edge-0-agent", after=before))
