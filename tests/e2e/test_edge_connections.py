"""The edge keeps connections to Ray's ingress, which is replaced whenever a version is deployed."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from experiments.model import BasisPoints, ExperimentName
from experiments.unit import RequestUnit
from registry.refs import Version
from serving.routes import Route, Trial, map_value
from tests.e2e import edge_fixture
from tests.e2e.edge_fixture import MODEL, Edge, running_edge
from tests.e2e.ingress import Ingress

CLIENTS = 8


class Replaced(Ingress):
    """An ingress as Ray replaces it: who is connected already stays with the one that was there.

    That one knows the versions of its time, and closes a connection with its next answer.

    Attributes:
        deployed: What a connection that is opened now will know of.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.deployed = {1, 2}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = self.deployed
        try:
            head = b"-"
            while head:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split()[0])
                await reader.readexactly(length)
                version = int(head.split(b"/")[3])
                found = b"200 OK" if version in known else b"404 Not Found"
                close = b"" if known is self.deployed else b"Connection: close\r\n"
                body = b'{"version": %d}' % version
                kind = b"Content-Type: application/json\r\n"
                size = b"Content-Length: %d\r\n" % len(body)
                writer.write(b"HTTP/1.1 " + found + b"\r\n" + kind + size + close + b"\r\n" + body)
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def edge(monkeypatch: pytest.MonkeyPatch) -> Iterator[Edge]:
    monkeypatch.setattr(edge_fixture, "Ingress", Replaced)
    with running_edge() as edge:
        yield edge


def test_a_version_is_not_charged_with_an_ingress_that_did_not_know_it_yet(edge: Edge) -> None:
    on_trial(edge, Version(2), "first")
    assert answers(edge, "infer") == {(200, None): 400}

    deploy(edge, 3)
    on_trial(edge, Version(3), "second")
    assert answers(edge, "infer") == {(200, None): 400}


def test_a_new_champion_is_not_taken_for_absent(edge: Edge) -> None:
    on_trial(edge, Version(2), "first")
    answers(edge, "infer")

    deploy(edge, 3)
    champion(edge, Version(3))
    assert answers(edge, "infer") == {(200, None): 400}


def test_a_new_version_can_be_pinned(edge: Edge) -> None:
    champion(edge, Version(1))
    answers(edge, "versions/2/infer")

    deploy(edge, 3)
    assert answers(edge, "versions/3/infer") == {(200, None): 400}


def deploy(edge: Edge, version: int) -> None:
    ingress = edge.ingress
    assert isinstance(ingress, Replaced)
    ingress.deployed = ingress.deployed | {version}


def champion(edge: Edge, version: Version) -> Route:
    edge.epoch += 1
    route = Route(MODEL, edge.epoch, version, None, (), by="test", why="test", at=datetime.now(UTC))
    asyncio.run(edge.runtime.set_route(MODEL, map_value(route)))
    return route


def on_trial(edge: Edge, challenger: Version, experiment: str) -> None:
    trial = Trial(
        experiment=ExperimentName(experiment),
        stage=0,
        challengers=(challenger,),
        cut=BasisPoints(5_000),
        unit=RequestUnit(),
        salt=experiment,
        deadline=timedelta(seconds=5),
    )
    route = replace(champion(edge, Version(1)), trials=(trial,))
    asyncio.run(edge.runtime.set_route(MODEL, map_value(route)))


def answers(edge: Edge, call: str) -> Counter[tuple[int, str | None]]:
    """Return how often clients that ask at once got which status, and whether by failover."""

    def ask(_: int) -> Counter[tuple[int, str | None]]:
        client, path = edge.client(), f"/v2/models/{MODEL}/{call}"
        found = [client.request("POST", path, body=b"{}") for _ in range(50)]
        return Counter((answer.status, answer.headers.get("x-failover")) for answer in found)

    with ThreadPoolExecutor(CLIENTS) as clients:
        return sum(clients.map(ask, range(CLIENTS)), Counter())
