"""Ports for a local system: the usual ones where they are free, others where they are taken."""

import os
import random
import secrets
import socket
from collections.abc import Container
from contextlib import closing, suppress
from urllib.parse import urlsplit

from serving.errors import SystemDidNotStart
from serving.settings import Settings

LOOPBACK = {"127.0.0.1", "localhost", "::1"}

CALM_PORTS = range(10_000, 20_000)
"""Outside the range of outgoing connections: one of those could be taken by anybody in the seconds
until its server starts."""


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen there now."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_ports(count: int, host: str = "127.0.0.1", *, among: range = CALM_PORTS) -> list[int]:
    """Return ports that nobody listens on.

    Args:
        among: Where to look. Who asks twice before listening gives ranges without a port in common.

    Raises:
        OSError: there are not as many.
    """
    found: list[int] = []
    for port in random.sample(among, len(among)):
        if is_free(host, port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"there are no {count} free ports on {host}")


def free_run(
    first: int, length: int, host: str = "127.0.0.1", *, avoid: Container[int] = ()
) -> int:
    """Return the first of so many free ports in a row: `first` itself where that is possible.

    Args:
        avoid: Ports that others are about to listen on.

    Raises:
        OSError: there are nowhere as many.
    """
    among = random.sample(CALM_PORTS, len(CALM_PORTS))
    for start in (first, *among):
        ports = range(start, start + length)
        if ports.stop <= 65536 and all(p not in avoid and is_free(host, p) for p in ports):
            return start
    raise OSError(f"there are no {length} free ports in a row on {host}")


def with_free_ports(settings: Settings) -> Settings:
    """Return the settings with every port that is taken replaced by one that is free.

    Edges have ports in a row: where one of them is taken, the others move with it.

    Raises:
        SystemDidNotStart: Redis or Ray is said to be on another machine.
    """
    spare = iter(free_ports(4))

    def choose(host: str, port: int) -> int:
        return port if is_free(host, port) else next(spare)

    redis = urlsplit(settings.redis_url)
    ray = urlsplit(settings.ray_dashboard_url)
    for name, url in (("TILTYARD_REDIS_URL", redis), ("TILTYARD_RAY_DASHBOARD_URL", ray)):
        if url.hostname not in LOOPBACK:
            raise SystemDidNotStart(
                f"{name} names {url.hostname}, but `tiltyard up` runs its own on this machine.",
                next_step=f"Unset {name}, or start the parts that you need by themselves.",
            )
    redis_port = choose("127.0.0.1", redis.port or 6379)
    ray_port = choose("127.0.0.1", ray.port or 8265)
    control_port = choose(settings.control_host, settings.control_port)
    serve_port = choose(settings.serve_host, settings.serve_port)
    others = (redis_port, ray_port, control_port, serve_port)
    edges = settings.edges
    edge_port = free_run(settings.edge_port, edges, settings.edge_host, avoid=others)
    avoid = (*others, *range(edge_port, edge_port + edges))
    metrics_port = free_run(
        settings.edge_metrics_port, edges, settings.edge_metrics_host, avoid=avoid
    )
    return settings.model_copy(
        update={
            "edge_port": edge_port,
            "edge_metrics_port": metrics_port,
            "control_port": control_port,
            "serve_port": serve_port,
            "redis_url": f"redis://127.0.0.1:{redis_port}/0",
            "ray_dashboard_url": f"http://127.0.0.1:{ray_port}",
        }
    )


def environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment, with these settings in it and no others."""
    values = settings.model_dump(mode="json", exclude_none=True)
    others = {k: v for k, v in os.environ.items() if not k.upper().startswith("TILTYARD_")}
    return others | {f"TILTYARD_{name.upper()}": str(v) for name, v in values.items()}


def make_signing_key(settings: Settings) -> None:
    """Make the key that signs prediction ids, unless there is one; only its owner may read it."""
    settings.signing_key.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(settings.signing_key, flags, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
