"""MLServer, BentoML and LitServe, each in an environment of its own, with the model and no A/B."""

import json
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.load import Target
from bench.processes import Group
from bench.questions import Dialect
from bench.servers import DoesNotServe
from serving.local.ports import free_ports

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".peers"
PEERS = ("mlserver", "bentoml", "litserve")


def python_of(peer: str) -> Path:
    """Return the Python of a peer's environment."""
    return ENVIRONMENTS / peer / "bin" / "python"


def install(peer: str) -> None:
    """Install what a peer needs, pinned and verified, unless it is there.

    Raises:
        DoesNotServe: it cannot be installed.
    """
    wanted = HERE / "peers" / f"{peer}.txt"
    done = ENVIRONMENTS / peer / ".ready"
    if done.exists() and done.read_text() == wanted.read_text():
        return
    uv = Path(sysconfig.get_path("scripts"), "uv")
    _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, ENVIRONMENTS / peer)
    _run(
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        python_of(peer),
        "--require-hashes",
        "-r",
        wanted,
    )
    done.write_text(wanted.read_text())


class Peer:
    """One peer with so many processes that have the model; 0 is the server's own process."""

    def __init__(self, peer: str, workers: int, *, run: str, folder: Path, model: Path) -> None:
        self.name = f"{peer}_{max(workers, 1)}"
        self.peer = peer
        self.facilities = f"{max(workers, 1)} worker{'s' * (workers > 1)}"
        self.dialect = Dialect.OPEN_INFERENCE if peer == "mlserver" else Dialect.ROWS
        self.group = Group(run, self.name)
        self._workers = workers
        self._folder = folder / self.name
        self.log = self._folder / "server.log"
        self._model = model

    def start(self) -> Sequence[Target]:
        """Install and start it."""
        install(self.peer)
        self._folder.mkdir()
        port, *others = free_ports(3)
        begin: dict[str, Callable[[int, list[int]], str]] = {
            "mlserver": self._mlserver,
            "bentoml": self._bentoml,
            "litserve": self._litserve,
        }
        path = begin[self.peer](port, others)
        return [Target(self.name, f"http://127.0.0.1:{port}", (path,))]

    def stop(self) -> None:
        """End it."""
        self.group.end()

    def _mlserver(self, port: int, others: list[int]) -> str:
        settings = {
            "debug": False,
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": others[0],
            "metrics_endpoint": None,
            "parallel_workers": self._workers,
        }
        model = {
            "name": "digits",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(self._model)},
        }
        (self._folder / "settings.json").write_text(json.dumps(settings))
        (self._folder / "model-settings.json").write_text(json.dumps(model))
        self._start([python_of("mlserver").with_name("mlserver"), "start", str(self._folder)])
        return "/v2/models/digits/infer"

    def _bentoml(self, port: int, _: list[int]) -> str:
        bentoml = python_of("bentoml").with_name("bentoml")
        self._start(
            [
                bentoml,
                "serve",
                "bentoml_service:Digits",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            MODEL=str(self._model),
            WORKERS=str(self._workers),
            BENTOML_HOME=str(self._folder / "home"),
            BENTOML_DO_NOT_TRACK="true",
        )
        return "/infer"

    def _litserve(self, port: int, _: list[int]) -> str:
        program = HERE / "peers" / "litserve_server.py"
        self._start([python_of("litserve"), program, self._model, str(port), str(self._workers)])
        return "/predict"

    def _start(self, command: Sequence[str | Path], **variables: str) -> None:
        self.group.start([*map(str, command)], self.log, cwd=HERE / "peers", more=variables)


def _run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DoesNotServe(f"{command[1]} {command[2]}: {done.stderr.strip()[-300:]}")
