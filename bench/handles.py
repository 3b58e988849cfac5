"""A Ray of its own for the usual ingress deployment, with Serve's defaults or its fast settings."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from bench.load import Target
from bench.processes import Group
from bench.questions import Dialect
from bench.servers import DoesNotServe
from serving.local.ports import free_ports
from serving.local.ray_options import RayCluster, command, environment, make_folder, token_file

PATIENCE = 180.0

PATH = "/v2/models/digits/infer"

_FAST = ("RAY_SERVE_ENABLE_HA_PROXY", "RAY_SERVE_THROUGHPUT_OPTIMIZED")


class Handles:
    """An ingress that calls one of two versions by `handle.remote()`.

    Args:
        fast: With RAY_SERVE_THROUGHPUT_OPTIMIZED and Serve's HAProxy, instead of Serve's defaults.
        versions: Artifact and digest of each.
    """

    dialect = Dialect.OPEN_INFERENCE
    facilities = "1 ingress replica, 1 replica of each of 2 versions"

    def __init__(
        self, *, fast: bool, run: str, folder: Path, versions: list[tuple[str, str]]
    ) -> None:
        self.name = "handles" if fast else "handles_default"
        self.group = Group(run, self.name)
        self._fast = fast
        self._folder = folder / self.name
        self.log = self._folder / "ray.log"
        self._versions = versions
        self._place: Path | None = None

    def start(self) -> Sequence[Target]:
        """Start Ray and the application."""
        serve_port, dashboard_port = free_ports(2)
        self._folder.mkdir()
        cluster = RayCluster(self._folder, dashboard_port)
        place = self._place = make_folder(self._folder)
        variables = environment(cluster, place) | self.group.mark
        if not self._fast:
            variables = {name: value for name, value in variables.items() if name not in _FAST}
        self.group.start(command(cluster, place), self.log, only=variables)
        url = f"{cluster.dashboard_url}/api/serve/applications/"
        self._deploy(url, token_file(self._folder).read_text(), serve_port)
        return [Target(self.name, f"http://127.0.0.1:{serve_port}", (PATH,))]

    def stop(self) -> None:
        """End Ray."""
        self.group.end()
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    def _deploy(self, url: str, token: str, port: int) -> None:
        wanted = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": port},
            "logging_config": {"log_level": "WARNING", "enable_access_log": False},
            "applications": [
                {
                    "name": "digits",
                    "route_prefix": PATH,
                    "import_path": "bench.handles_app:build",
                    "args": {"versions": self._versions, "workdir": str(self._folder / "models")},
                }
            ],
        }
        until, is_asked, status = time.monotonic() + PATIENCE, False, "unknown"
        while time.monotonic() < until:
            time.sleep(0.3)
            try:
                if not is_asked:
                    _ask(url, token, wanted)
                    is_asked = True
                found = _ask(url, token)["applications"]["digits"]
            except (OSError, KeyError):
                continue
            status = found["status"]
            if status == "RUNNING":
                return
            if status == "DEPLOY_FAILED":
                raise DoesNotServe(f"the application is not deployed: {found['message'][-200:]}")
        raise DoesNotServe(f"the application is {status} after {PATIENCE:.0f} s")


def _ask(url: str, token: str, body: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = Request(url, data, headers, method="GET" if body is None else "PUT")
    with urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"{}")
