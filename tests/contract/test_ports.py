"""Ports of a local system: the usual ones where they are free, others where they are taken."""

import socket
from contextlib import ExitStack

import pytest
from pydantic import ValidationError

from serving.errors import SystemDidNotStart
from serving.local.ports import CALM_PORTS, free_ports, is_free, with_free_ports
from serving.settings import Settings


def listening(stack: ExitStack) -> int:
    server = stack.enter_context(socket.socket())
    server.bind(("127.0.0.1", 0))
    server.listen()
    port: int = server.getsockname()[1]
    return port


def test_ports_that_are_taken_are_replaced_and_the_others_stay() -> None:
    with ExitStack() as stack:
        edge, ray = listening(stack), listening(stack)
        control, redis, serve = free_ports(3)
        chosen = with_free_ports(
            Settings(
                edge_port=edge,
                control_port=control,
                serve_port=serve,
                redis_url=f"redis://127.0.0.1:{redis}/0",
                ray_dashboard_url=f"http://127.0.0.1:{ray}",
            )
        )
        assert (chosen.control_port, chosen.serve_port) == (control, serve)
        assert chosen.redis_url == f"redis://127.0.0.1:{redis}/0"
        assert chosen.edge_port != edge
        assert is_free("127.0.0.1", chosen.edge_port)
        assert chosen.ray_dashboard_url != f"http://127.0.0.1:{ray}"


def test_free_ports_are_distinct_and_outside_the_range_of_connections() -> None:
    found = free_ports(50)
    assert len(set(found)) == 50
    assert set(found) <= set(CALM_PORTS)


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"redis_url": "redis://:secret@redis.example:6379/3"},
        {"ray_dashboard_url": "http://ray.example:8265"},
    ],
)
def test_what_is_said_to_be_elsewhere_is_not_started_here(elsewhere) -> None:
    with pytest.raises(SystemDidNotStart, match=r"names \w+\.example"):
        with_free_ports(Settings(**elsewhere))


@pytest.mark.parametrize(
    "wrong",
    [
        {"edge_port": 0},
        {"control_port": 99_999_999},
        {"max_body_bytes": -1},
        {"retry_body_bytes": 0},
        {"edge_name": "../../elsewhere"},
        {"tick": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)
