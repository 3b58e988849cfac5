"""Keeps the processes of a local system alive, and ends them when asked.

If the supervisor itself is killed, everything goes on without it; the next one finds its
predecessor's processes by their marks and looks after them instead of starting others.
"""

import asyncio
import json
import logging
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from serving.edge import config as edge
from serving.errors import HostsUnavailable
from serving.local import ray_cluster
from serving.local.ports import environment, make_signing_key
from serving.local.process import Mark, Program, end, gone
from serving.redis_binary import redis_command
from serving.settings import Settings

log = logging.getLogger(__name__)

CHILDREN = "children.json"

SOONEST, LATEST = 0.05, 5.0
"""Seconds before a process that ended is started again: at first, and if it keeps ending."""

STEADY = 10.0
"""A process that lived so long was not a failed start."""


def programs(settings: Settings) -> list[Program]:
    """Return what runs on this machine besides Ray, in the order in which to start it."""
    env = environment(settings)
    logs = settings.state_dir / "logs"
    redis_dir = settings.state_dir / "redis"
    redis_port = urlsplit(settings.redis_url).port or 6379
    return [
        Program(
            "redis",
            redis_command(redis_port, redis_dir),
            env,
            logs / "redis.log",
            before=lambda: redis_dir.mkdir(parents=True, exist_ok=True),
        ),
        Program(
            "haproxy",
            edge.command(settings),
            env,
            logs / "haproxy.log",
            output=lambda: edge.open_log(settings),
            before=lambda: edge.write(settings),
        ),
        Program("agent", [sys.executable, "-m", "serving.edge"], env, logs / "agent.log"),
        Program("control", [sys.executable, "-m", "serving.api"], env, logs / "control.log"),
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
    """Starts everything at once, restarts what ends, and stops everything at SIGTERM."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._children = read_children(settings.state_dir)

    async def run(self) -> None:
        """Look after the system until SIGTERM or SIGINT, then end it."""
        make_signing_key(self._settings)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        keepers = [asyncio.create_task(self._keep(p)) for p in programs(self._settings)]
        keepers.append(asyncio.create_task(self._keep_ray()))
        await stop.wait()
        for keeper in keepers:
            keeper.cancel()
        await asyncio.wait(keepers)
        await stop_all(self._settings)

    async def _keep(self, program: Program) -> None:
        pause = SOONEST
        loop = asyncio.get_running_loop()
        while True:
            mark = self._children.get(program.name)
            if mark is None or mark.process() is None:
                mark = program.start()
                self._children[program.name] = mark
                write_children(self._settings.state_dir, self._children)
                log.info("%s started as %d", program.name, mark.pid)
            began = loop.time()
            await gone(mark)
            pause = SOONEST if loop.time() - began > STEADY else min(pause * 2, LATEST)
            log.warning("%s ended; it is started again in %.1f s", program.name, pause)
            await asyncio.sleep(pause)

    async def _keep_ray(self) -> None:
        while True:
            try:
                await ray_cluster.start(cluster(self._settings))
            except HostsUnavailable as error:
                log.warning("%s %s", error.message, error.hint)
            await asyncio.sleep(LATEST / 2)


async def stop_all(settings: Settings) -> None:
    """End every process of the system, clients' side first; with or without a supervisor."""
    children = read_children(settings.state_dir)
    for name in ("haproxy", "agent", "control"):
        if name in children:
            await end(children[name], patience=5.0)
    await ray_cluster.stop(settings.ray_dir)
    if "redis" in children:
        await end(children["redis"], patience=5.0)
    (settings.state_dir / CHILDREN).unlink(missing_ok=True)


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
