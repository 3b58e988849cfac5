"""Keeps the processes of a local system alive, and ends them when asked.

If the supervisor itself is killed, everything goes on without it; the next one finds its
predecessor's processes by their marks and looks after them instead of starting others.
"""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from registry.errors import TiltyardError
from serving.edge import config as edge
from serving.edge.gate import routes_are_known
from serving.errors import HostsUnavailable
from serving.local import ray_cluster
from serving.local.ports import environment, make_signing_key
from serving.local.process import Mark, Program, end, gone
from serving.redis_binary import redis_command
from serving.settings import Settings

log = logging.getLogger(__name__)

CHILDREN = "children.json"

REDIS = "redis"

HAPROXY = "-haproxy"
"""How the name of an edge's HAProxy ends."""

SOONEST, LATEST = 0.05, 5.0
"""Seconds before a process that ended is started again: at first, and if it keeps ending."""

STEADY = 10.0
"""A process that lived so long was not a failed start."""


def programs(settings: Settings) -> list[Program]:
    """Return what runs on this machine besides Ray, in the order in which to start it."""
    env, log = environment(settings), settings.state_dir / "logs" / "control.log"
    return [
        redis_program(settings),
        *chain.from_iterable(map(edge_programs, settings.local_edges)),
        Program("control", [sys.executable, "-m", "serving.api"], env, log),
    ]


def redis_program(settings: Settings) -> Program:
    """Return what keeps the hot state."""
    folder = settings.state_dir / "redis"
    return Program(
        REDIS,
        redis_command(urlsplit(settings.redis_url).port or 6379, folder),
        environment(settings),
        settings.state_dir / "logs" / "redis.log",
        before=lambda: folder.mkdir(parents=True, exist_ok=True),
    )


def edge_programs(settings: Settings) -> list[Program]:
    """Return what runs for one edge: HAProxy, and what runs beside it, one line each."""
    env = environment(settings)
    logs = settings.state_dir / "logs"

    def python(name: str, module: str) -> Program:
        return Program(name, [sys.executable, "-m", module], env, logs / f"{name}.log")

    haproxy = f"{settings.edge_name}{HAPROXY}"
    return [
        Program(
            haproxy,
            edge.command(settings),
            env,
            logs / f"{haproxy}.log",
            output=lambda: edge.open_log(settings),
            before=lambda: edge.write(settings),
            permission=lambda: routes_are_known(settings),
        ),
        python(f"{settings.edge_name}-agent", "serving.edge"),
        python(f"{settings.edge_name}-shadow", "serving.edge.shadow"),
    ]


def cluster(settings: Settings) -> ray_cluster.RayCluster:
    """Return the Ray that belongs to this system."""
    return ray_cluster.RayCluster(
        directory=settings.ray_dir,
        dashboard_port=urlsplit(settings.ray_dashboard_url).port or 8265,
        cpus=settings.ray_cpus,
        gpus=settings.ray_gpus,
    )


class Supervisor:
    """Starts everything at once, restarts what ends, and stops everything at SIGTERM.

    Args:
        ray: The cluster to keep alive, if any.
    """

    def __init__(
        self,
        settings: Settings,
        programs: Sequence[Program],
        ray: ray_cluster.RayCluster | None = None,
    ) -> None:
        self._settings = settings
        self._programs = programs
        self._ray = ray
        self._children = read_children(settings.state_dir)

    async def run(self) -> None:
        """Look after the system until SIGTERM or SIGINT, then end it."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        keeping, stopping = asyncio.create_task(self.keep()), asyncio.create_task(stop.wait())
        await asyncio.wait({keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            await keeping  # Only a defect ends it. What runs goes on, without a supervisor.
        keeping.cancel()
        await asyncio.wait({keeping})
        await stop_all(self._settings)

    async def keep(self) -> None:
        """Look after the system until cancelled, and leave it running then."""
        make_signing_key(self._settings)
        async with asyncio.TaskGroup() as keepers:
            for program in self._programs:
                keepers.create_task(self._keep(program))
            if self._ray is not None:
                keepers.create_task(self._keep_ray(self._ray))

    async def _keep(self, program: Program) -> None:
        pause = SOONEST
        loop = asyncio.get_running_loop()
        while True:
            mark = self._children.get(program.name)
            if mark is None or mark.process() is None:
                mark = await self._start(program)
            began = loop.time()
            await gone(mark)
            pause = SOONEST if loop.time() - began > STEADY else min(pause * 2, LATEST)
            log.warning("%s ended; it is started again in %.1f s", program.name, pause)
            await asyncio.sleep(pause)

    async def _start(self, program: Program) -> Mark:
        """Start a program, however long it takes until that is possible."""
        while True:
            if program.permission is not None:
                await program.permission()
            try:
                mark = program.start()
            except (OSError, TiltyardError) as error:
                log.warning("%s cannot be started; it is tried again: %s", program.name, error)
                await asyncio.sleep(LATEST)
                continue
            self._children[program.name] = mark
            write_children(self._settings.state_dir, self._children)
            log.info("%s started as %d", program.name, mark.pid)
            return mark

    async def _keep_ray(self, ray: ray_cluster.RayCluster) -> None:
        while True:
            try:
                await ray_cluster.start(ray)
            except HostsUnavailable as error:
                log.warning("%s %s", error.message, error.hint)
            await asyncio.sleep(LATEST / 2)


async def stop_all(settings: Settings) -> None:
    """End every process of the system, clients' side first; with or without a supervisor."""
    children = read_children(settings.state_dir)
    redis = {name: mark for name, mark in children.items() if name == REDIS}
    clients = {name: mark for name, mark in children.items() if name.endswith(HAPROXY)}
    others = {n: mark for n, mark in children.items() if n not in redis.keys() | clients.keys()}
    await _end_all(clients)
    await _end_all(others)
    await ray_cluster.stop(settings.ray_dir)
    await _end_all(redis)
    (settings.state_dir / CHILDREN).unlink(missing_ok=True)


async def _end_all(children: Mapping[str, Mark]) -> None:
    await asyncio.gather(*(end(mark, patience=5.0) for mark in children.values()))


def read_children(state_dir: Path) -> dict[str, Mark]:
    """Return the processes that were last started here, dead or alive, by name."""
    with suppress(FileNotFoundError, json.JSONDecodeError):
        found = json.loads((state_dir / CHILDREN).read_text())
        return {name: Mark(**mark) for name, mark in found.items()}
    return {}


def write_children(state_dir: Path, children: dict[str, Mark]) -> None:
    """Remember the processes, so that they are found again after a crash."""
    temporary = state_dir / f"{CHILDREN}.new"
    temporary.write_text(json.dumps({name: asdict(mark) for name, mark in children.items()}))
    temporary.replace(state_dir / CHILDREN)
