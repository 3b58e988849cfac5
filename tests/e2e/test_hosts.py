"""Versions as applications of a real Ray Serve: deployed, refused, killed, removed, restarted."""

import asyncio
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime

import httpx2
import numpy as np
import psutil
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from experiments.store.memory import MemoryStore
from registry.digest import digest_of
from registry.mlflow import save_sklearn
from registry.refs import VersionRef
from serving.errors import HostsUnavailable
from serving.hosts import HostState, declare, withdraw
from serving.hosts.reconciler import reconcile
from serving.local import ray_cluster
from serving.routes import host_path
from tests.e2e.ray_fixture import (
    PATIENCE_SECONDS,
    CountingServe,
    RunningRay,
    host_of,
    make_ray,
    ray,
    tick_until,
)

__all__ = ["ray"]

ONE, TWO, CORRUPT, GREEDY = (VersionRef.parse(f"digits/{n}") for n in (1, 2, 3, 4))
ROWS, LABELS = load_digits(return_X_y=True)

pytestmark = pytest.mark.timeout(600)


def request(*rows):
    data = {"name": "input-0", "shape": [len(rows), 64], "datatype": "FP64"}
    return {"inputs": [data | {"data": np.concatenate(rows).tolist()}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    fitted = LogisticRegression(max_iter=20_000).fit(ROWS[:900], LABELS[:900])
    folder = save_sklearn(fitted, tmp_path_factory.mktemp("model") / "digits", example=ROWS[:2])
    return fitted, folder, digest_of(folder)


@pytest.fixture(scope="module")
def store():
    return MemoryStore()


@pytest.fixture
async def serve(ray: RunningRay) -> AsyncIterator[CountingServe]:
    async with ray.serve() as client:
        yield client


@pytest.fixture
async def client():
    async with httpx2.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


async def send(client, url, rows, *, on_answer=None, until=None):
    """Send the rows one by one over and over until `until` is set; count what comes back."""
    seen = Counter()
    while not (until is None and seen.total() >= len(rows)) and not (until and until.is_set()):
        row = rows[seen.total() % len(rows)]
        try:
            response = await client.post(url, json=request(row))
        except httpx2.TransportError as error:
            seen[type(error).__name__] += 1
        else:
            seen[response.status_code] += 1
    return seen


# One Ray for all of these: they are run in this order, each from where the one before ended.


async def test_versions_become_hot_fail_or_wait_each_for_itself(ray, serve, store, model):
    _, folder, digest = model
    now = datetime.now(UTC)
    for spec in (
        host_of("digits/1", folder, digest, gpus=1),
        host_of("digits/2", folder, digest, replicas=2),
        host_of("digits/3", folder, "sha256:" + "0" * 64),
        host_of("digits/4", folder, digest, gpus=1),
    ):
        await declare(store, spec, now=now)
    seen = await tick_until(
        store, serve, {ONE: HostState.HOT, TWO: HostState.HOT, CORRUPT: HostState.FAILED}
    )
    assert seen[TWO].ready_replicas == 2
    assert seen[CORRUPT].reason.startswith("CorruptArtifact: ")
    # One PUT for all that was declared, and one to take out what failed.
    everything = ["digits/1", "digits/2", "digits/3", "digits/4"]
    assert serve.deployed == [everything, [ref for ref in everything if ref != "digits/3"]]
    while "GPU" not in seen[GREEDY].reason:
        seen = await tick_until(store, serve, {GREEDY: HostState.DEPLOYING})
        await asyncio.sleep(0.2)
    assert seen[GREEDY].reason == "waiting for resources: needs 1 GPU, the cluster has 0 free"


async def test_a_hot_version_predicts_what_the_model_predicts(ray, client, model):
    fitted, _, _ = model
    response = await client.post(ray.url(ONE), json=request(*ROWS[900:1000]))
    answer = response.json()
    assert (answer["model_name"], answer["model_version"]) == ("digits", "1")
    assert answer["outputs"][0]["data"] == fitted.predict(ROWS[900:1000]).tolist()
    metadata = (await client.get(ray.url(ONE, ""))).json()
    assert metadata["inputs"] == [{"name": "input-0", "datatype": "FP64", "shape": [-1, 64]}]


async def test_concurrent_requests_are_answered_each_with_its_own(ray, client, model):
    fitted, _, _ = model
    responses = await asyncio.gather(
        *(client.post(ray.url(ONE), json=request(row)) for row in ROWS[1000:1100])
    )
    got = [response.json()["outputs"][0]["data"][0] for response in responses]
    assert got == fitted.predict(ROWS[1000:1100]).tolist()


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{", "malformed_request"), (b'{"inputs": [{"name": "x"}]}', "malformed_request")],
)
async def test_bad_requests_are_the_clients_fault(ray, client, content, code):
    response = await client.post(ray.url(ONE), content=content)
    assert (response.status_code, response.json()["code"]) == (400, code)


async def test_a_replica_that_has_enough_to_do_says_when_to_come_back(ray, client):
    """By 429 and in plain text, which is how the edge tells it from what a model answers."""
    address = ("127.0.0.1", ray.options.ingress_port)
    head = f"POST {host_path(ONE)}/infer HTTP/1.1\r\nHost: edge\r\nContent-Length: 9\r\n\r\n{{"
    with ExitStack() as stack:
        for _ in range(2 * 256 + 10):  # One replica works at 256, and as many wait for it.
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(head.encode())
        async with asyncio.timeout(PATIENCE_SECONDS):
            response = None
            while response is None or response.status_code == 200:
                with suppress(httpx2.ReadTimeout):  # It waits with the others, for a while.
                    response = await client.post(ray.url(ONE), json=request(ROWS[0]), timeout=2)
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.headers["content-type"].startswith("text/plain")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while response.status_code != 200:
            response = await client.post(ray.url(ONE), json=request(ROWS[0]))


async def test_a_version_that_failed_is_not_reached(ray, client):
    assert (await client.get(ray.url(CORRUPT, "/ready"))).status_code == 404


async def test_a_killed_replica_costs_no_more_than_what_it_had_in_hand(ray, serve, store, client):
    stop = asyncio.Event()
    senders = [
        asyncio.create_task(send(client, ray.url(TWO), ROWS[:50], until=stop)) for _ in range(8)
    ]
    await asyncio.sleep(1)
    victim = (await serve.replica_pids("digits-2"))[0]
    os.kill(victim, signal.SIGKILL)
    # Ray takes a while to notice, and may report the dead replica as running until then.
    async with asyncio.timeout(PATIENCE_SECONDS):
        while victim in await serve.replica_pids("digits-2"):  # noqa: ASYNC110  Ray tells nobody
            await asyncio.sleep(0.2)
    await tick_until(store, serve, {TWO: HostState.HOT})
    stop.set()
    seen = sum(await asyncio.gather(*senders), Counter())
    failed = seen.total() - seen[200]
    # What was in hand is lost here, without the edge in front, which asks again.
    assert failed <= len(senders)
    assert seen[200] > len(senders)


async def test_removing_versions_fails_no_request_of_another(ray, serve, store, client):
    stop = asyncio.Event()
    sender = asyncio.create_task(send(client, ray.url(ONE), ROWS[:50], until=stop))
    serve.deployed.clear()
    for ref in (TWO, CORRUPT, GREEDY):
        await withdraw(store, ref, now=datetime.now(UTC))
    await tick_until(store, serve, {TWO: None, CORRUPT: None, GREEDY: None, ONE: HostState.HOT})
    stop.set()
    seen = await sender
    assert set(seen) == {200}
    assert serve.deployed == [["digits/1"]]
    assert (await client.get(ray.url(TWO, "/ready"))).status_code == 404


async def test_a_second_cluster_comes_and_goes_without_disturbing_the_first(ray, client, tmp_path):
    other = make_ray(tmp_path)
    await ray_cluster.start(other.cluster)
    try:
        async with other.serve() as serve:
            await serve.deploy(())
            assert (await client.get(ray.url(ONE, "/ready"))).status_code == 200
            assert (await client.get(other.url(ONE, "/ready"))).status_code == 404
    finally:
        await ray_cluster.stop(other.cluster.directory)
    assert not await ray_cluster.running(other.cluster.directory)
    assert (await client.get(ray.url(ONE, "/ready"))).status_code == 200


async def test_after_ray_was_away_everything_is_deployed_again(ray, serve, store, client):
    members = ray_cluster.members(ray.cluster.directory)
    assert any("haproxy" in process.name() for process in members)
    await ray_cluster.stop(ray.cluster.directory)
    assert not any(map(psutil.Process.is_running, members))
    with pytest.raises(HostsUnavailable):
        await reconcile(store, serve, now=datetime.now(UTC))
    await ray_cluster.start(ray.cluster)
    await tick_until(store, serve, {ONE: HostState.HOT})
    assert (await client.get(ray.url(ONE, "/ready"))).status_code == 200
