"""Ports of a local system: the usual ones where they are free, others where they are taken."""

import socket
from contextlib import ExitStack

import pytest
from pydantic import ValidationError

from serving.errors import SystemDidNotStart
from serving.local.ports import CALM_PORTS, free_ports, free_run, is_free, with_free_ports
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


def test_edges_have_ports_in_a_row_and_move_together() -> None:
    with ExitStack() as stack:
        taken = listening(stack)
        chosen = with_free_ports(Settings(edge_port=taken - 1, edges=3))
        ports = [edge.edge_port for edge in chosen.local_edges]
        assert ports == [ports[0], ports[0] + 1, ports[0] + 2]
        assert taken not in ports
        assert all(is_free("127.0.0.1", port) for port in ports)
        assert [edge.edge_name for edge in chosen.local_edges] == ["edge-0", "edge-1", "edge-2"]


def test_ports_of_edges_keep_clear_of_the_others() -> None:
    chosen = with_free_ports(Settings(edge_port=8080, control_port=8081, edges=2))
    assert chosen.control_port not in [edge.edge_port for edge in chosen.local_edges]


def test_there_is_no_row_beyond_the_last_port() -> None:
    assert free_run(65_535, 1) <= 65_535
    assert free_run(65_535, 2) < 65_535


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
        {"edges": 0},
        {"edges": 1000},
        {"tick": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_edges_and_their_metrics_have_ports_of_their_own() -> None:
    with ExitStack() as stack:
        taken = listening(stack)
        chosen = with_free_ports(Settings(edges=3, edge_port=taken, edge_metrics_port=taken))
        ports = [(each.edge_port, each.edge_metrics_port) for each in chosen.local_edges]
        assert len({port for pair in ports for port in pair}) == 6
        assert taken not in {port for pair in ports for port in pair}
