"""A Ray of our own on this machine: started in its own session, stopped without touching others.

Everything that Ray keeps machine-wide by default (ports, sockets, its HAProxy's files) is
moved into one folder and to free ports, so that several clusters can live side by side.
"""

import asyncio
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx2
import psutil

import serving
from serving.errors import HostsUnavailable

_LONGEST_FOLDER = 31
"""HAProxy allows 97 characters for its socket, and Ray puts a node's 56 in the middle of them."""

_STATE_FILE = "ray.json"
_OBJECT_STORE_BYTES = 100 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RayCluster:
    """What to start.

    Args:
        directory: Where this cluster's state is kept; one cluster a folder.
        cpus, gpus: What Ray's scheduler may give away; None is what the machine has. They are
            logical: a number beyond the machine's is believed.
    """

    directory: Path
    dashboard_port: int
    cpus: float | None = None
    gpus: float | None = None

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def log(self) -> Path:
        """What `ray start` said."""
        return self.directory / "ray.log"


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
            return os.getsid(process.pid) == self.session and (
                process.status() != psutil.STATUS_ZOMBIE
            )
        except (ProcessLookupError, PermissionError, psutil.Error):
            return False


async def start(cluster: RayCluster, *, patience: float = 90.0) -> None:
    """Start Ray and return when its REST API answers. A cluster that runs already is kept.

    Raises:
        HostsUnavailable: Ray ended or did not answer within `patience` seconds; nothing of it
            is left running.
    """
    if await running(cluster.directory):
        return
    cluster.directory.mkdir(parents=True, exist_ok=True)
    folder = _folder(cluster.directory)
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
    members = state.members()
    for process in members:
        if process.pid == state.session:
            _signal(process, signal.SIGTERM)
    await _gone(members, patience)
    while members := state.members():
        for process in members:
            _signal(process, signal.SIGKILL)
        await _gone(members, 2.0)
    shutil.rmtree(state.folder, ignore_errors=True)
    (directory / _STATE_FILE).unlink(missing_ok=True)


def token_file(directory: Path) -> Path:
    """Return the file with the token that Ray's REST API asks for, readable to us alone."""
    path = directory / "ray.token"
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path


def _spawn(cluster: RayCluster, folder: Path) -> int:
    """Start `ray start` in a session of its own and return its number.

    It is to outlive this call, this event loop and maybe this process, which objects of
    `subprocess` and `asyncio` resent.
    """
    command = _command(cluster, folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    return os.posix_spawn(
        command[0],
        command,
        _environment(cluster, folder),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(cluster.log), flags, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _command(cluster: RayCluster, folder: Path) -> list[str]:
    agent, agent_grpc, runtime_env, metrics = _free_ports(4)
    options: dict[str, object] = {
        "node-ip-address": "127.0.0.1",
        "port": 0,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": cluster.dashboard_port,
        "dashboard-agent-listen-port": agent,
        "dashboard-agent-grpc-port": agent_grpc,
        "runtime-env-agent-port": runtime_env,
        "metrics-export-port": metrics,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "include-dashboard": "true",
        "include-log-monitor": "false",
        "object-store-memory": _OBJECT_STORE_BYTES,
        "temp-dir": folder,
        "num-cpus": cluster.cpus,
        "num-gpus": cluster.gpus,
    }
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    return [*ray, "start", "--head", "--block", "--disable-usage-stats", "--no-monitor", *given]


def _environment(cluster: RayCluster, folder: Path) -> dict[str, str]:
    """Return our environment, with the settings that Ray and Serve take from nowhere else."""
    stats, metrics = _free_ports(2)
    # Another cluster's replicas must not come by the ports that our HAProxy still knows.
    first_replica_port = 20_000 + 200 * random.randrange(60)
    haproxy = folder / "h"
    source = str(Path(serving.__file__).parents[1])
    path = os.environ.get("PYTHONPATH")
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return inherited | {
        "PYTHONPATH": f"{source}{os.pathsep}{path}" if path else source,
        # Some of Ray's ports listen on every interface, and whoever reaches one may run code.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file(cluster.directory)),
        # Whatever its name says, this makes the node's address 127.0.0.1: a laptop that moves
        # to another network keeps its cluster.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_START_HOOK": "serving.local.ray_start.without_client_server",
        "RAY_TMPDIR": str(folder),
        "RAY_worker_niceness": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        # Per-request metric lines would cost CPU, and a log target that we do not listen on.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(haproxy / "l.sock"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_replica_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_replica_port + 199),
        # How long a removed version stays reachable for requests under way.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        # When Serve begins to say that a replica waits for resources.
        "RAY_SERVE_SLOW_STARTUP_WARNING_S": "5",
        "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "5",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_task_events_report_interval_ms": "0",
    }


async def _answering(cluster: RayCluster, process: psutil.Process, patience: float) -> None:
    headers = {"Authorization": f"Bearer {token_file(cluster.directory).read_text()}"}
    async with httpx2.AsyncClient(headers=headers, timeout=5.0) as client:
        try:
            async with asyncio.timeout(patience):
                while process.status() != psutil.STATUS_ZOMBIE:
                    with suppress(httpx2.HTTPError):
                        url = f"{cluster.dashboard_url}/api/serve/applications/"
                        if (await client.get(url)).status_code == 200:
                            return
                    await asyncio.sleep(0.2)
        except TimeoutError:
            raise HostsUnavailable(
                f"Ray did not answer within {patience:.0f} s; see {cluster.log}"
            ) from None
    raise HostsUnavailable(f"`ray start` ended with status {process.wait()}; see {cluster.log}")


async def _gone(processes: list[psutil.Process], patience: float) -> None:
    await asyncio.to_thread(psutil.wait_procs, processes, patience)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _read(directory: Path) -> _Running | None:
    try:
        return _Running(**json.loads((directory / _STATE_FILE).read_text()))
    except FileNotFoundError:
        return None


def _folder(directory: Path) -> Path:
    """Return a folder for Ray whose name is short enough for the sockets in it."""
    folder = directory / "ray"
    if len(str(folder)) > _LONGEST_FOLDER:
        name = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"tiltyard-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise HostsUnavailable(f"{folder} belongs to somebody else")
    (folder / "h").mkdir(exist_ok=True)
    return folder


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
