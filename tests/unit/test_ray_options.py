import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from serving.local.ports import CALM_PORTS
from serving.local.ray_options import RayCluster, command, environment, make_folder, token_file

CONSTANTS = Path(find_spec("ray").origin).parent / "serve" / "_private" / "constants.py"

HARMLESS = {
    # Only for several nodes on one machine.
    "RAY_SERVE_WORKER_PROXY_HTTP_PORT",
    "RAY_SERVE_WORKER_PROXY_GRPC_PORT",
    # Hosts have no gRPC.
    "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT",
    "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT",
}


@pytest.fixture
def cluster(tmp_path):
    return RayCluster(tmp_path, dashboard_port=8265, gpus=1)


def test_nothing_that_serve_shares_machine_wide_is_left_as_it_is(cluster, tmp_path):
    """Two clusters that share a port or a socket answer each other's requests."""
    source = CONSTANTS.read_text()
    ports = set(re.findall(r'"(RAY_SERVE_\w+_PORT)"', source))
    files = set(re.findall(r'"(RAY_SERVE_\w+)",\s*"/tmp', source))
    assert len(ports) > 4
    assert len(files) > 4
    assert ports | files <= environment(cluster, tmp_path).keys() | HARMLESS


def test_no_two_clusters_share_a_port(cluster, tmp_path):
    def ports():
        given = environment(cluster, tmp_path)
        named = [value for name, value in given.items() if re.fullmatch(r"RAY_\w+_PORT", name)]
        options = [o for o in command(cluster, tmp_path) if "-port=" in o]
        return set(named) | {o.partition("=")[2] for o in options} - {"0", "8265"}

    assert len(ports()) > 8
    assert ports().isdisjoint(ports())


def test_a_cluster_elsewhere_is_not_joined(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    assert "RAY_ADDRESS" not in environment(cluster, tmp_path)


def test_workers_find_tiltyard_before_what_else_was_asked_for(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    first, *rest = environment(cluster, tmp_path)["PYTHONPATH"].split(":")
    assert (Path(first) / "serving" / "hosts").is_dir()
    assert rest == ["/elsewhere"]


def test_the_folder_is_short_enough_for_sockets_and_ours_alone(tmp_path):
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    folder = make_folder(deep)
    try:
        assert make_folder(deep) == folder
        assert len(str(folder / "h" / ("n" * 56) / "a.sock")) <= 97
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        for path in (folder / "h", folder / "t", folder):
            path.rmdir()


def test_the_token_is_kept_and_readable_to_us_alone(tmp_path):
    token = token_file(tmp_path).read_text()
    assert len(token) == 64
    assert token_file(tmp_path).read_text() == token
    assert token_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_resources_are_given_only_if_asked_for(cluster, tmp_path):
    given = command(cluster, tmp_path)
    assert "--num-gpus=1" in given
    assert not any(option.startswith("--num-cpus") for option in given)


def test_no_two_of_rays_ports_are_the_same_and_none_is_one_that_clients_get(cluster, tmp_path):
    given = dict(
        option.removeprefix("--").split("=", 1)
        for option in command(cluster, tmp_path)
        if option.startswith("--") and "=" in option
    )
    named = environment(cluster, tmp_path)
    ports = [
        *(int(given[f"{name}-port"]) for name in ("dashboard-agent-listen", "metrics-export")),
        *(int(given[f"{name}-port"]) for name in ("dashboard-agent-grpc", "runtime-env-agent")),
        *(int(named[f"RAY_SERVE_FALLBACK_PROXY_{kind}_PORT"]) for kind in ("HTTP", "GRPC")),
        *(int(named[f"RAY_SERVE_HAPROXY_{kind}_PORT"]) for kind in ("STATS", "METRICS")),
    ]
    assert len(set(ports)) == len(ports) == 8
    assert all(port in CALM_PORTS for port in ports)
