"""What a Ray of our own is started with.

Everything that Ray and Serve share machine-wide by default (ports, sockets, files of HAProxy)
is given a place in one folder or a free port. That is not tidiness: two clusters with the same
fallback port, say, answer each other's requests.
"""

import hashlib
import os
import random
import secrets
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import serving
from serving.errors import HostsUnavailable
from serving.local.ports import CALM_PORTS, free_ports

_LONGEST_FOLDER = 31
"""HAProxy allows 97 characters for its socket, and Ray puts a node's 56 in the middle of them."""

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
    cpus: int | None = None
    gpus: int | None = None

    @property
    def dashboard_url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard_port}"

    @property
    def log(self) -> Path:
        """What `ray start` said."""
        return self.directory / "ray.log"


def token_file(directory: Path) -> Path:
    """Return the file with the token that Ray's REST API asks for, readable to us alone."""
    path = directory / "ray.token"
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    return path


def make_folder(directory: Path) -> Path:
    """Return a folder for Ray whose name is short enough for the sockets in it.

    Raises:
        HostsUnavailable: somebody else has taken its place.
    """
    name = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
    places = (
        directory / "ray",
        Path(tempfile.gettempdir()) / f"tiltyard-{name}",
        Path("/tmp") / f"tiltyard-{name}",  # guarded below against another owner
    )
    folder = next(place for place in places if len(str(place)) <= _LONGEST_FOLDER)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise HostsUnavailable(f"{folder} belongs to somebody else")
    for within in ("h", "t"):
        (folder / within).mkdir(exist_ok=True)
    return folder


def command(cluster: RayCluster, folder: Path) -> list[str]:
    """Return the command that starts Ray and stays, with all ports free at this moment."""
    agent, agent_grpc, runtime_env, metrics = free_ports(4, among=CALM_PORTS[0::3])
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
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    return [*ray, "--disable-usage-stats", "--no-monitor", *given]


def environment(cluster: RayCluster, folder: Path) -> dict[str, str]:
    """Return our environment, with what Ray and Serve take from nowhere else."""
    source = str(Path(serving.__file__).parents[1])
    path = os.environ.get("PYTHONPATH")
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return (
        inherited
        | _ray(cluster, folder)
        | _serve()
        | _haproxy(folder / "h")
        | {
            "PYTHONPATH": f"{source}{os.pathsep}{path}" if path else source,
            "TMPDIR": str(folder / "t"),
        }
    )


def _ray(cluster: RayCluster, folder: Path) -> dict[str, str]:
    return {
        # Whoever reaches one of Ray's ports may run code.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file(cluster.directory)),
        # Whatever its name says, this makes the node's address 127.0.0.1. No port is open to
        # the network, and a laptop that moves to another network keeps its cluster.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_START_HOOK": "serving.local.ray_start.without_client_server",
        "RAY_TMPDIR": str(folder),
        "RAY_worker_niceness": "0",
        "RAY_enable_metrics_collection": "0",
        "RAY_task_events_report_interval_ms": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }


def _serve() -> dict[str, str]:
    fallback, fallback_grpc = free_ports(2, among=CALM_PORTS[1::3])
    # A block of our own: HAProxy may know a replica's port for some time after its end.
    first_replica_port = 20_000 + 200 * random.randrange(60)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first_replica_port),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first_replica_port + 199),
        # How long a removed version stays reachable for requests under way.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "5",
        # When Serve begins to say that a replica waits for resources.
        "RAY_SERVE_SLOW_STARTUP_WARNING_S": "5",
        "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "5",
    }


def _haproxy(folder: Path) -> dict[str, str]:
    stats, metrics = free_ports(2, among=CALM_PORTS[2::3])
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        # Lines and metrics for each request would cost time, and nobody reads them.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_LOG_TARGET": str(folder / "l.sock"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
    }
