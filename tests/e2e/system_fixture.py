"""One whole system on real components, shared by every test that asks for `system`."""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psutil
import pytest

from experiments.lifecycle import State, is_final
from registry.mlflow import MlflowCatalog, save_python_model
from registry.refs import ModelName
from serving.client import ControlClient
from serving.errors import Refused
from serving.local import ray_cluster
from serving.local.ports import is_free
from serving.local.process import Mark
from serving.local.supervisor import read_children
from serving.local.system import down, read_running, up
from serving.settings import Settings
from tests.e2e.client import Reports, Rows, Traffic, eventually, traffic_to, whether_right
from tests.e2e.ledger import counted, misplaced, owed
from tests.e2e.oracle import EXAMPLE, Oracle

CLIENTS = 6
THINKING_SECONDS = 0.01
"""Between an answer and the next request: two cores have all the rest to run as well."""

BY = "tests"


@dataclass
class System:
    """A running system, and what tests do to it."""

    settings: Settings
    oracles: dict[str, dict[int, Oracle]] = field(default_factory=dict)

    @property
    def key(self) -> bytes:
        return self.settings.signing_key.read_bytes()

    # ---- models

    async def register(
        self, model: str, *oracles: Oracle, example: Sequence[Sequence[float]] = EXAMPLE
    ) -> None:
        """Make the oracles the next versions of a model."""
        versions = self.oracles.setdefault(model, {})
        with tempfile.TemporaryDirectory() as folder:
            async with self.catalog() as catalog:
                for oracle in oracles:
                    path = Path(folder, str(len(versions)))
                    artifact = await asyncio.to_thread(
                        save_python_model, oracle, path, example=np.array(example)
                    )
                    found = await catalog.register(ModelName(model), artifact)
                    versions[found.ref.version] = oracle

    def catalog(self) -> AbstractAsyncContextManager[MlflowCatalog]:
        """Open the registry that the system uses."""
        settings = self.settings
        return MlflowCatalog.open(settings.catalog_uri, settings.artifact_dir)

    def control(self) -> AbstractAsyncContextManager[ControlClient]:
        """Open the control API."""
        return ControlClient.open(self.settings.control_url)

    async def hot(self, control: ControlClient, model: str, **replicas: int) -> None:
        """Have versions deployed and wait until they are hot: `hot(control, "m", v1=2, v2=1)`."""
        wanted = {int(name.removeprefix("v")): count for name, count in replicas.items()}
        for version, count in wanted.items():
            with suppress_code("already_deployed"):
                await control.deploy(model, version, replicas=count)

        hosts: list[dict[str, Any]] = []

        async def ready() -> bool:
            hosts[:] = [await control.host(model, version) for version in wanted]
            assert not any(host["state"] == "failed" for host in hosts), hosts
            return all(host["state"] == "hot" for host in hosts)

        await eventually(ready, what=lambda: f"{model} is hot: {hosts}")
        await eventually(lambda: control.route(model), what=f"{model} has a route")

    async def stand(self, control: ControlClient, model: str, champion: int) -> None:
        """Have no experiment on the model, and this champion, whatever happened before."""
        for view in await control.experiments():
            if view["model"] == model and view["ended_at"] is None:
                await self.stopped(control, view["name"])
        if (await control.route(model))["champion"] != champion:
            await control.promote(model, champion, by=BY)

    async def stopped(self, control: ControlClient, name: str) -> None:
        """End an experiment without a verdict."""
        with suppress_code("wrong_state"):
            await control.stop(name, by=BY)
        await self.ended(control, name)

    async def ended(self, control: ControlClient, name: str) -> dict[str, Any]:
        """Return an experiment once it is over."""

        async def over() -> dict[str, Any] | None:
            view = await control.experiment(name)
            return view if is_final(State(view["state"])) else None

        view = await eventually(over, what=f"{name} ends")
        assert view is not None
        return view

    # ---- traffic and evidence

    @asynccontextmanager
    async def traffic(
        self,
        control: ControlClient,
        model: str,
        rows: Rows,
        *,
        clients: int = CLIENTS,
        thinking: float = THINKING_SECONDS,
        outcomes: Reports = whether_right,
    ) -> AsyncIterator[Traffic]:
        """Let clients ask; on the way out, wait until each outcome is accepted."""

        def made(http: httpx2.AsyncClient) -> Traffic:
            oracles, key = self.oracles[model], self.key
            return Traffic(
                model, oracles, rows, key=key, http=http, control=control, outcomes=outcomes
            )

        async with traffic_to(
            self.settings.edge_url, made, clients=clients, thinking=thinking
        ) as traffic:
            yield traffic

    async def books_balance(
        self, control: ControlClient, name: str, *traffic: Traffic
    ) -> dict[str, Any]:
        """Return an experiment once what is counted is exactly what clients saw, and stays it."""
        answers = [answer for each in traffic for answer in each.answers]
        due = owed(answers, name)
        try:
            view = await self.settled(control, name, lambda view: counted(view) == due)
        except AssertionError as error:
            found = counted(await control.experiment(name))
            raise AssertionError(f"{error}\nowed    {due}\ncounted {found}") from None
        assert view["evidence"]["lost_bytes"] == view["evidence"]["late"] == 0
        assert view["incomplete"] == [], view["incomplete"]
        assert misplaced(answers, view) == []
        assert not any(each.refused for each in traffic)
        return view

    async def settled(
        self,
        control: ControlClient,
        name: str,
        agrees: Callable[[Mapping[str, Any]], bool],
    ) -> dict[str, Any]:
        """Return an experiment once everything is read and what it shows agrees, and stays so."""
        beats: list[str] = []

        async def equal() -> dict[str, Any] | None:
            view = await control.experiment(name)
            edges = (await control.status())["edges"]
            edge = edges[0] if edges else {"backlog_bytes": None}
            if edge["backlog_bytes"] != 0 or self.spools() or not agrees(view):
                beats.clear()
                return None
            # Once more after all has been read: what is counted twice is often counted later.
            if edge["heard_at"] not in beats:
                beats.append(edge["heard_at"])
            return view if len(beats) > 2 else None

        view = await eventually(equal, what=f"{name}: counted is what clients saw", pause=0.2)
        assert view is not None
        return view

    def spools(self) -> list[Path]:
        """Return the files in which outcomes wait for Redis."""
        return [*self.settings.state_dir.glob("control-*/outcomes.*")]

    # ---- processes

    def mark(self, name: str) -> Mark:
        """Return the process that the supervisor keeps under a name."""
        return read_children(self.settings.state_dir)[name]

    def kill(self, name: str) -> Mark:
        """End a process as a crash would, and return which it was."""
        mark = self.mark(name)
        os.kill(mark.pid, signal.SIGKILL)
        return mark

    async def gone(self, *marks: Mark) -> None:
        """Wait until processes have ended."""

        async def ended() -> bool:
            return all(mark.process() is None for mark in marks)

        await eventually(ended, what=f"{marks} end")

    async def another(self, name: str, before: Mark) -> None:
        """Wait until the supervisor runs another process than `before` under the name."""

        async def there() -> bool:
            mark = self.mark(name)
            return mark != before and mark.process() is not None

        await eventually(there, what=f"{name} is started again")

    async def well(self, control: ControlClient) -> None:
        """Wait until every part has done its work since now, and nothing is in trouble."""
        now = datetime.now(UTC)

        status: dict[str, Any] = {}

        async def is_well() -> bool:
            status.update(await control.status())
            heard = [datetime.fromisoformat(edge["heard_at"]) > now for edge in status["edges"]]
            return status["leads"] and heard == [True] and not status["troubles"]

        await eventually(is_well, what=lambda: f"all is well since {now}: {status}")

    def supervisor(self) -> Mark:
        """Return the process that looks after the others."""
        running = read_running(self.settings.state_dir)
        assert running is not None
        return running.supervisor

    def replicas(self, model: str, version: int) -> list[psutil.Process]:
        """Return the processes that serve a version."""
        title = f"ServeReplica:{model}-{version}:"
        found = []
        for process in ray_cluster.members(self.settings.ray_dir):
            with suppress(psutil.Error):
                if title in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def processes(self) -> list[psutil.Process]:
        """Return every process of the system, whoever started it."""
        mine = {f"TILTYARD_STATE_DIR={self.settings.state_dir}"}
        found = {process.pid: process for process in ray_cluster.members(self.settings.ray_dir)}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                variables = {f"{name}={value}" for name, value in process.environ().items()}
                if mine <= variables and process.pid != os.getpid():
                    found[process.pid] = process
        return list(found.values())


@contextmanager
def suppress_code(*codes: str) -> Iterator[None]:
    """Go on if control refuses for one of these reasons."""
    try:
        yield
    except Refused as error:
        if error.refusal not in codes:
            raise


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process where it is, without its knowing, and let it go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def settings_in(folder: Path) -> Settings:
    """Return settings that share nothing with any other system on this machine."""
    edge, metrics, control, redis, serve, ray = ports(6)
    return Settings(
        state_dir=folder,
        edge_port=edge,
        edge_metrics_port=metrics,
        control_port=control,
        redis_url=f"redis://127.0.0.1:{redis}/0",
        serve_port=serve,
        ray_dashboard_url=f"http://127.0.0.1:{ray}",
        ray_cpus=8,
        ray_gpus=1,
    )


def ports(count: int) -> list[int]:
    """Return ports that nobody has, and that no client is given while nobody listens there yet."""
    below_clients = random.sample(range(10_000, 20_000), 100)
    return list(islice((port for port in below_clients if is_free("127.0.0.1", port)), count))


def answering(settings: Settings) -> list[str]:
    """Return where somebody listens, of all that a system was told to listen on."""
    urls = (settings.edge_url, settings.control_url, settings.serve_url)
    found = []
    for url in (*urls, settings.redis_url, settings.ray_dashboard_url):
        with socket.socket() as probe:
            parts = urlsplit(url)
            if probe.connect_ex((parts.hostname, parts.port)) == 0:
                found.append(url)
    return found


@contextmanager
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of somebody else's, in the same session, that looks like one of ours."""
    program = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "-m", "serving.api", "redis-server", "haproxy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def lives(process: psutil.Process) -> bool:
    """Tell whether a process has not ended."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def described(process: psutil.Process) -> str:
    """Return what is known of a process, for whoever has to find out why it lives."""
    with suppress(psutil.Error):
        command = " ".join(process.cmdline())[:200]
        return f"{process.pid} {process.status()} child of {process.ppid()}: {command}"
    return str(process.pid)


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> Iterator[System]:
    """A whole system, started once. When it goes down nothing of it may be left, and all else.

    Its files are kept if a test failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="ty-"))
    settings = settings_in(folder)
    asyncio.run(up(settings, lambda _part, _seconds: None))
    running = System(settings)
    with bystander() as innocent:
        try:
            yield running
        finally:
            mine, answered = running.processes(), answering(settings)
            # First of all: a check that fails must leave nothing running.
            went_down = asyncio.run(down(settings))
            assert len(answered) == 5
            assert went_down
        left = [described(each) for each in (*mine, *running.processes()) if lives(each)]
        assert left == []
        assert answering(settings) == []
        assert innocent.poll() is None, "`down` has ended a process of somebody else's"
    assert mine, "nothing ran"
    if not request.session.testsfailed:
        shutil.rmtree(folder)


@pytest.fixture
async def control(system: System) -> AsyncIterator[ControlClient]:
    """The control API of the system."""
    async with system.control() as control:
        yield control
