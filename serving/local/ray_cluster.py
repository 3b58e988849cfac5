"""A Ray of our own on this machine: started in its own session, stopped without touching others."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2
import psutil

from serving.errors import HostsUnavailable
from serving.local.ray_options import RayCluster, command, environment, make_folder, token_file

__all__ = ["RayCluster", "members", "running", "start", "stop", "token_file"]

_STATE_FILE = "ray.json"


@dataclass(frozen=True, slots=True)
class _Running:
    """Enough to find every process of a cluster again, and no other.

    Every process stays in the session that `ray start` opened, and the kernel does not give a
    session's number away while a member lives. A leader that was started at another moment is
    therefore another session, and ours has ended.
    """

    session: int
    leader_created: float
    booted: float
    folder: str

    def members(self) -> list[psutil.Process]:
        if abs(self.booted - psutil.boot_time()) > 60:
            return []
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(self.session).create_time() != self.leader_created:
                return []
        return [process for process in psutil.process_iter() if self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        try:
            return os.getsid(process.pid) == self.session and _lives(process)
        except (ProcessLookupError, PermissionError):
            return False


async def start(cluster: RayCluster, *, patience: float = 180.0) -> None:
    """Start Ray and return when its REST API answers. A cluster that runs already is kept.

    Raises:
        HostsUnavailable: Ray ended or did not answer within `patience` seconds; nothing of it
            is left running.
    """
    if await running(cluster.directory):
        return
    await stop(cluster.directory)
    cluster.directory.mkdir(parents=True, exist_ok=True)
    folder = make_folder(cluster.directory)
    process = psutil.Process(_spawn(cluster, folder))
    state = _Running(
        session=process.pid,
        leader_created=process.create_time(),
        booted=psutil.boot_time(),
        folder=str(folder),
    )
    (cluster.directory / _STATE_FILE).write_text(json.dumps(asdict(state)))
    try:
        await _answering(cluster, process, patience)
    except BaseException:
        await stop(cluster.directory)
        raise


async def running(directory: Path) -> bool:
    """Tell whether the cluster of this folder has a living `ray start`."""
    state = _read(directory)
    return state is not None and any(p.pid == state.session for p in state.members())


def members(directory: Path) -> list[psutil.Process]:
    """Return every living process of the cluster of this folder."""
    state = _read(directory)
    return state.members() if state else []


async def stop(directory: Path, *, patience: float = 8.0) -> None:
    """End every process of the cluster of this folder; do nothing if there is none.

    Ray is asked first; whatever is alive after `patience` seconds is killed. That is as much
    as there is to lose: hosts keep nothing, and the edge has other replicas or has stopped.
    """
    state = _read(directory)
    if state is None:
        return
    alive = state.members()
    for leader in alive:
        if leader.pid == state.session:
            _signal(leader, signal.SIGTERM)
            await _gone(alive, patience)
    while alive := state.members():
        for process in alive:
            _signal(process, signal.SIGKILL)
        await _gone(alive, 2.0)
    _bury(state.session)
    shutil.rmtree(state.folder, ignore_errors=True)
    (directory / _STATE_FILE).unlink(missing_ok=True)


def _spawn(cluster: RayCluster, folder: Path) -> int:
    """Start `ray start` in a session of its own and return its number.

    It is to outlive this call, this event loop and maybe this process, which objects of
    `subprocess` and `asyncio` resent.
    """
    arguments = command(cluster, folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        arguments[0],
        arguments,
        environment(cluster, folder),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(cluster.log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


async def _answering(cluster: RayCluster, process: psutil.Process, patience: float) -> None:
    headers = {"Authorization": f"Bearer {token_file(cluster.directory).read_text()}"}
    async with httpx2.AsyncClient(headers=headers, timeout=5.0, trust_env=False) as client:
        try:
            async with asyncio.timeout(patience):
                while _lives(process):
                    with suppress(httpx2.HTTPError):
                        url = f"{cluster.dashboard_url}/api/serve/applications/"
                        if (await client.get(url)).status_code == 200:
                            return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise HostsUnavailable(
                f"Ray did not answer within {patience:.0f} s; see {cluster.log}"
            ) from None
    raise HostsUnavailable(f"`ray start` ended; see {cluster.log}")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _gone(processes: list[psutil.Process], patience: float) -> None:
    await asyncio.to_thread(psutil.wait_procs, processes, patience)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _bury(pid: int) -> None:
    """Take note of the end of `ray start`, if it was this process that started it."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _read(directory: Path) -> _Running | None:
    try:
        return _Running(**json.loads((directory / _STATE_FILE).read_text()))
    except FileNotFoundError:
        return None
