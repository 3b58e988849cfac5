"""`tiltyard up` and `down`: start a local system and wait for each part of it; end it."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

import httpx2

from experiments.errors import StoreUnavailable
from experiments.store import Kind
from experiments.store.redis import RedisStore
from serving.errors import AlreadyRunning, SystemDidNotStart
from serving.local.ports import environment, with_free_ports
from serving.local.process import Mark, end, gone
from serving.local.supervisor import read_children, stop_all
from serving.settings import Settings

RUNNING = "running.json"

PATIENCE = 120.0
"""Seconds for everything to start; on a small, busy machine Ray alone may take half of them."""

Progress = Callable[[str, float], None]
"""Told the name of a part that has just become ready, and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Running:
    """A local system: who supervises it, and the settings that it was started with."""

    supervisor: Mark
    settings: dict[str, object]


def read_running(state_dir: Path) -> Running | None:
    """Return what was last started here, if it was not ended since."""
    with suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
        found = json.loads((state_dir / RUNNING).read_text())
        return Running(Mark(**found["supervisor"]), found["settings"])
    return None


async def up(settings: Settings, progress: Progress) -> Settings:
    """Start the system, or find it running, and return the settings that it goes by.

    Raises:
        SystemDidNotStart: a part did not become ready; everything that was started is ended.
        AlreadyRunning: it runs, with another number of edges than was asked for.
    """
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = read_running(settings.state_dir)
    if found is not None:
        settings = _as_it_runs(found, settings)
    elif not read_children(settings.state_dir):
        settings = with_free_ports(settings)
    if found is None or found.supervisor.process() is None:
        _start_supervisor(settings)
    try:
        await _ready(settings, progress)
    except BaseException:
        await down(settings)
        raise
    return settings


def _as_it_runs(found: Running, asked: Settings) -> Settings:
    """Return the settings of the system that runs already, if it is the one that is asked for."""
    settings = Settings.model_validate(found.settings)
    if "edges" in asked.model_fields_set and asked.edges != settings.edges:
        raise AlreadyRunning(
            f"The system runs with {_edges(settings.edges)}, not with {_edges(asked.edges)}."
        )
    return settings


def _edges(count: int) -> str:
    return f"{count} edge{'s' if count > 1 else ''}"


async def down(settings: Settings) -> bool:
    """End the system and everything that it started, and nothing else; False if none ran."""
    found = read_running(settings.state_dir)
    if found is None and not read_children(settings.state_dir):
        return False
    if found is not None and (process := found.supervisor.process()) is not None:
        process.terminate()
        if not await gone(found.supervisor, within=60.0):
            await end(found.supervisor, patience=1.0)
    # What a supervisor that was killed has left, or did not manage to end.
    await stop_all(settings)
    (settings.state_dir / RUNNING).unlink(missing_ok=True)
    return True


def _start_supervisor(settings: Settings) -> None:
    logs = settings.state_dir / "logs"
    logs.mkdir(exist_ok=True)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    # It is to outlive this process, which an object of `subprocess` would resent.
    started = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "serving.local"],
        environment(settings),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(logs / "supervisor.log"), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    running = Running(
        supervisor=Mark.of(started),
        settings=settings.model_dump(mode="json", exclude_none=True),
    )
    temporary = settings.state_dir / f"{RUNNING}.new"
    temporary.write_text(json.dumps(asdict(running), indent=2))
    temporary.replace(settings.state_dir / RUNNING)


async def _ready(settings: Settings, progress: Progress) -> None:
    began = monotonic()
    async with httpx2.AsyncClient(trust_env=False, timeout=2.0) as client:

        async def answers(url: str) -> bool:
            return (await client.get(url)).status_code < 500

        async def edges_answer() -> bool:
            urls = [f"{edge.edge_url}/v2/health/live" for edge in settings.local_edges]
            return all(await asyncio.gather(*map(answers, urls)))

        async def agents_are_heard() -> bool:
            names = {edge.edge_name for edge in settings.local_edges}
            async with RedisStore.open(settings.redis_url) as store:
                return names <= (await store.read_all(Kind.EDGE)).keys()

        async def wait(part: str, ready: Callable[[], Awaitable[bool]]) -> None:
            while monotonic() - began < PATIENCE:
                with suppress(httpx2.HTTPError, StoreUnavailable):
                    if await ready():
                        progress(part, monotonic() - began)
                        return
                await asyncio.sleep(0.1)
            raise SystemDidNotStart(
                f"The {part} did not answer within {PATIENCE:.0f} s. Nothing is left running.",
                next_step=f"Look into {settings.state_dir / 'logs'} and run `tiltyard doctor`.",
            )

        await asyncio.gather(
            wait("edge", edges_answer),
            wait("edge agent", agents_are_heard),
            wait("control", lambda: answers(f"{settings.control_url}/healthz")),
            wait("Ray", lambda: answers(f"{settings.ray_dashboard_url}/api/version")),
        )
        while unready := await unready_models(settings, client):
            if monotonic() - began > PATIENCE:
                progress(f"all but {', '.join(unready)}, still being loaded,", monotonic() - began)
                return
            await asyncio.sleep(0.5)


async def unready_models(settings: Settings, client: httpx2.AsyncClient) -> list[str]:
    """Return the models whose champion does not answer through every edge (after `down` and `up`,
    until Ray has loaded it again)."""
    try:
        status = (await client.get(f"{settings.control_url}/v1/status")).json()
        models = [found["model"] for found in status["models"] if found["champion"]]

        async def answers(model: str) -> bool:
            paths = [f"{e.edge_url}/v2/models/{model}/ready" for e in settings.local_edges]
            found = await asyncio.gather(*map(client.get, paths))
            return all(answer.status_code == 200 for answer in found)

        ready = await asyncio.gather(*map(answers, models))
    except (httpx2.HTTPError, KeyError, ValueError):
        return ["control"]
    return [model for model, is_ready in zip(models, ready, strict=True) if not is_ready]
