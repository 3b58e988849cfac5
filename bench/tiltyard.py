"""Tiltyard as a user has it: `tiltyard up`, two versions, an experiment that halves the users."""

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.load import Target
from bench.processes import Group
from bench.questions import Dialect
from bench.servers import DoesNotServe

MODEL = "digits"

PATH = f"/v2/models/{MODEL}/infer"

EXPERIMENT = """\
name: bench
model: digits
challenger: 2
unit: header:x-unit-id
share: [50%]
goal: {metric: correct, kind: binary, direction: increase, min_effect: 1%}
guardrails:
  - {metric: error_rate, max_ratio: 2.0}
  - {metric: latency_ms, above: 1000, max_ratio: 2.0}
limits: {min_units: 1000000, min_runtime: 7d, max_runtime: 30d}
alpha: {harm: 0.000001, promote: 0.025}
"""
"""Watched like any other, but never over while it is measured."""

PROCESSES = {
    "serving.edge.shadow": "shadow worker",
    "-m serving.edge": "agent",
    "haproxy -db -C": "edge",
    "-m serving.api": "control",
    "-m serving.local": "supervisor",
    "redis-server": "redis",
    f"ServeReplica:{MODEL}": "hosts",
    "haproxy": "ray_haproxy",
    "": "ray",
}
"""What to call processes whose command line has a text in it; the first that fits."""

COMMAND_WITHIN = 400.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command of Tiltyard's that was given."""

    arguments: Sequence[str]
    process: "subprocess.Popen[str]"

    def is_over(self) -> bool:
        """Tell whether it has ended."""
        return self.process.poll() is not None

    def result(self) -> Any:  # noqa: ANN401  whatever the command says
        """Wait for its end and return what it says.

        Raises:
            DoesNotServe: it was refused.
        """
        try:
            output, errors = self.process.communicate(timeout=COMMAND_WITHIN)
            found = json.loads(output)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, errors, found = "", "it took too long", None
        except ValueError:
            found = None
        if self.process.returncode or found is None:
            said = (errors or output).strip()[-300:]
            raise DoesNotServe(f"`tiltyard {' '.join(self.arguments)}`: {said}")
        return found


class Tiltyard:
    """The whole system, with so many edges.

    Args:
        models: Folders of the versions, in order; the first becomes the champion.
    """

    dialect = Dialect.OPEN_INFERENCE
    facilities = "1 replica of each of 2 versions"

    def __init__(self, *, run: str, models: Sequence[Path], edges: int = 1) -> None:
        self.name = "tiltyard" if edges == 1 else f"tiltyard_{edges}_edges"
        self.group = Group(run, self.name)
        self.up_seconds = 0.0
        self.edges: list[str] = []
        self._models = models
        self._count = edges
        # Ray's sockets deep inside it leave little room.
        self._folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
        self.log = self._folder / "logs" / "supervisor.log"

    def start(self) -> Sequence[Target]:
        """Start everything, deploy two versions, and begin the experiment."""
        began = time.monotonic()
        places = self._up()
        self.up_seconds = round(time.monotonic() - began, 2)
        self.edges = list(places["edges"].values())
        for folder in self._models:
            self.do("register", MODEL, str(folder))
        for version in (1, 2):
            self.do("deploy", MODEL, str(version), "--replicas", "1")
        self.begin(EXPERIMENT)
        serve = self.settings()["serve_port"]
        hosts = [f"/hosts/{MODEL}/{version}/infer" for version in (1, 2)]
        bare = f"http://127.0.0.1:{serve}"
        return [
            Target("edge", self.edges[0], (PATH,)),
            Target("bare", bare, tuple(hosts)),
            Target("bare_one", bare, tuple(hosts[:1])),
        ]

    def stop(self) -> None:
        """End everything that was started."""
        self.group.thaw()
        with suppress(DoesNotServe):
            self.do("down")
        self.group.end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def do(self, *arguments: str) -> Any:  # noqa: ANN401  whatever the command says
        """Give a command, and return what it says in JSON.

        Raises:
            DoesNotServe: it was refused.
        """
        with self.doing(*arguments) as command:
            return command.result()

    @contextmanager
    def doing(self, *arguments: str) -> Iterator["Command"]:
        """Give a command, and do something else meanwhile."""
        program = [f"{sysconfig.get_path('scripts')}/tiltyard", *arguments, "--json"]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            program, env=self._environment(), stdout=pipe, stderr=pipe, text=True
        ) as process:
            yield Command(arguments, process)

    def begin(self, experiment: str) -> None:
        """Start an experiment, once the versions have gone hot."""
        file = self._folder / "experiment.yaml"
        file.write_text(experiment)
        self.do("experiment", "start", str(file))

    def settings(self) -> dict[str, Any]:
        """Return the settings that the running system goes by."""
        found: dict[str, Any] = json.loads((self._folder / "running.json").read_text())["settings"]
        return found

    def megabytes(self) -> dict[str, float]:
        """Return the memory of each kind of process."""
        return self.group.megabytes(PROCESSES)

    def _up(self) -> Any:  # noqa: ANN401
        return self.do("up", *(["--edges", str(self._count)] if self._count > 1 else []))

    def _environment(self) -> dict[str, str]:
        others = {k: v for k, v in os.environ.items() if not k.startswith("TILTYARD_")}
        return {**others, **self.group.mark, "TILTYARD_STATE_DIR": str(self._folder)}


@contextmanager
def running(system: Tiltyard) -> Iterator[Sequence[Target]]:
    """Start a system for as long as the context lasts."""
    try:
        yield system.start()
    finally:
        system.stop()


def counted(shown: Mapping[str, Any]) -> int:
    """Return how many requests an experiment's evidence has, of those that `show` shows."""
    return sum(
        arm["requests"]
        for stage in shown["evidence"]["stages"]
        for arm in (stage["champion"], *stage["challengers"].values())
    )
