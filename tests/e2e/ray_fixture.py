"""A real Ray with Serve on it, of the tests' own, and the reconciler's ticks driven by hand."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from experiments.store import Store
from registry.refs import VersionRef
from serving.hosts import HostSpec, HostState, HostStatus
from serving.hosts.reconciler import reconcile
from serving.hosts.serve import HostOptions, ServeClient
from serving.local import ray_cluster
from serving.local.ray_cluster import RayCluster
from serving.routes import host_path
from tests.contract.conftest import free_port

PATIENCE_SECONDS = 120.0
"""Far beyond what anything takes: it ends a run that hangs, it decides no test."""


@dataclass(frozen=True)
class RunningRay:
    """A cluster of ours; the resources are logical, so it has a GPU whatever the machine has."""

    cluster: RayCluster
    options: HostOptions

    def url(self, ref: VersionRef, path: str = "/infer") -> str:
        """Return where Serve's ingress reaches a version."""
        return f"http://127.0.0.1:{self.options.ingress_port}{host_path(ref)}{path}"

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["CountingServe"]:
        """Connect as the reconciler does."""
        token = ray_cluster.token_file(self.cluster.directory).read_text()
        async with CountingServe.open(
            self.cluster.dashboard_url, self.options, token=token
        ) as client:
            yield client


class CountingServe(ServeClient):
    """The real client, which notes what it was told to deploy."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.deployed: list[list[str]] = []

    async def deploy(self, specs):
        specs = tuple(specs)
        self.deployed.append(sorted(str(spec.ref) for spec in specs))
        await super().deploy(specs)

    async def replica_pids(self, name: str) -> list[int]:
        """Return the processes of an application's replicas."""
        found = (await self._ask("GET")).json()["applications"][name]
        replicas = [r for d in found["deployments"].values() for r in d["replicas"]]
        return [r["pid"] for r in replicas if r.get("pid") is not None]  # None while it starts


def make_ray(directory: Path) -> RunningRay:
    """Choose ports and folders for a cluster in `directory`; nothing is started."""
    return RunningRay(
        RayCluster(directory, dashboard_port=free_port(), cpus=8, gpus=1),
        HostOptions("127.0.0.1", free_port(), workdir=directory / "models"),
    )


@pytest.fixture(scope="module")
def ray(tmp_path_factory) -> Iterator[RunningRay]:
    """A Ray that runs."""
    running = make_ray(tmp_path_factory.mktemp("ray"))
    asyncio.run(ray_cluster.start(running.cluster))
    try:
        yield running
    finally:
        asyncio.run(ray_cluster.stop(running.cluster.directory))


async def tick_until(
    store: Store, serve: ServeClient, wanted: Mapping[VersionRef, HostState | None]
) -> Mapping[VersionRef, HostStatus]:
    """Reconcile until the versions are in these states (None: gone), and return what is seen."""
    seen: Mapping[VersionRef, HostStatus] = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                seen = await reconcile(store, serve, now=datetime.now(UTC))
                if all(
                    (seen[ref].state if ref in seen else None) is state
                    for ref, state in wanted.items()
                ):
                    return seen
                await asyncio.sleep(0.2)
    except TimeoutError:
        lines = [f"{ref}: {s.state} {s.ready_replicas} {s.reason}" for ref, s in seen.items()]
        raise AssertionError("\n".join(["not as wanted:", *lines])) from None


def host_of(ref: str, artifact: Path, digest: str, **resources: float) -> HostSpec:
    """Return the declaration of a version whose files are in the folder `artifact`."""
    return HostSpec(VersionRef.parse(ref), artifact.as_uri(), digest, **resources)
