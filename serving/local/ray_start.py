"""What `ray start` has no option for; it calls `without_client_server` by `RAY_START_HOOK`."""

from typing import Any


def without_client_server(parameters: Any, _head: bool) -> None:  # noqa: ANN401  Ray's own type
    """Keep Ray's client server from being started: a process and a port that nobody uses."""
    parameters.ray_client_server_port = None
