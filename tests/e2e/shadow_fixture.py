"""A real HAProxy and a real shadow worker, before hosts that do what a test says."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from experiments.unit import RequestUnit, Unit
from registry.refs import Version
from serving.edge.pairline import Drops, Pair, parse
from serving.edge.routebook import Known, RouteBook
from serving.local.ports import environment
from serving.routes import Route, Watch, map_value
from tests.e2e.edge_fixture import (
    CHALLENGER,
    CHAMPION,
    MODEL,
    PATIENCE_SECONDS,
    Answer,
    Edge,
    make_route,
    running_edge,
)
from tests.e2e.scripted_hosts import Call, Hosts, Script, scripted_hosts


def outputs(call: Call, *, data: str = "[1.0, 2.0]") -> bytes:
    """Return an answer of the protocol's form."""
    output = f'{{"name": "y", "datatype": "FP64", "shape": [2], "data": {data}}}'
    return f'{{"model_version": "{call.version}", "outputs": [{output}]}}'.encode()


def answering(call: Call) -> None:
    call.answer(outputs(call))


def by_version(**scripts: Script) -> Script:
    """Let `champion` and `challenger` follow scripts of their own, and all others answer."""
    known = {CHAMPION: scripts.get("champion"), CHALLENGER: scripts.get("challenger")}

    def script(call: Call) -> None:
        (known.get(Version(call.version)) or answering)(call)

    return script


class Shadow:
    """An edge with a route whose requests are repeated, and the worker beside it."""

    def __init__(self, edge: Edge, hosts: Hosts) -> None:
        self.edge = edge
        self.hosts = hosts
        self.worker: subprocess.Popen[bytes] | None = None
        self._read = 0
        self._held: list[threading.Event] = []

    @property
    def log(self) -> Path:
        return self.edge.files.pairs

    def route(
        self,
        *,
        cut: int = 10_000,
        unit: Unit | None = None,
        deadline: timedelta = timedelta(seconds=20),
        tolerance: float = 0.01,
        previous: Version | None = None,
    ) -> Route:
        """Have requests of units below `cut` repeated, and write down what the agent would."""
        self.edge.epoch += 1
        plain = make_route(
            self.edge.epoch,
            cut=cut,
            unit=unit or RequestUnit(),
            deadline=deadline,
            previous=previous,
        )
        watch = Watch(tolerance=tolerance)
        route = replace(plain, trials=(replace(plain.trials[0], shadow=True, watch=watch),))
        RouteBook(self.edge.files.folder).record(Known().with_route(route))
        asyncio.run(self.edge.runtime.set_route(MODEL, map_value(route)))
        return route

    def start_worker(self) -> None:
        with (self.edge.files.folder / "shadow.err").open("ab") as errors:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "serving.edge.shadow"],
                env=environment(self.edge.settings),
                stdout=errors,
                stderr=errors,
            )
        self.await_that(self.edge.files.shadow_socket.exists)

    def end_worker(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.worker is not None:
            self.worker.send_signal(how)
            self.worker.wait()
            self.worker = None
            self.edge.files.shadow_socket.unlink(missing_ok=True)

    def hold(self) -> threading.Event:
        """Return what a script may wait for; it is set at the end of the test at the latest."""
        self._held.append(threading.Event())
        return self._held[-1]

    def ask(self, times: int = 1, *headers: tuple[str, str], **more: Any) -> list[Answer]:
        client = self.edge.client()
        return [client.infer(*headers, **more) for _ in range(times)]

    def asked(self, version: Version) -> list[Call]:
        return [call for call in self.hosts.calls if call.version == version]

    def await_that(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "it has not come about"
            time.sleep(0.01)

    def put_down(self, expected: int) -> list[Pair | Drops]:
        """Return the lines since the last call, once they account for so many requests."""
        self.await_that(lambda: sum(map(_requests, self._fresh())) >= expected)
        fresh = self._fresh()
        assert sum(map(_requests, fresh)) == expected
        self._read += len(fresh)
        names = [line.about.name for line in self._lines()]
        assert len(names) == len(set(names))
        return fresh

    def forget(self) -> None:
        """Begin anew: hosts answer, nobody waits, and what was put down is of no interest."""
        for event in self._held:
            event.set()
        self._held.clear()
        self.edge.forget()
        self.hosts.script = answering
        self.hosts.calls.clear()
        self._read = len(self._lines())

    def _lines(self) -> list[Pair | Drops]:
        text = self.log.read_text() if self.log.exists() else ""
        return [parse(line) for line in text.split("\n")[:-1]]

    def _fresh(self) -> list[Pair | Drops]:
        return self._lines()[self._read :]


def _requests(line: Pair | Drops) -> int:
    return line.count if isinstance(line, Drops) else 1


def pairs_of(lines: Sequence[Pair | Drops]) -> list[Pair]:
    return [line for line in lines if isinstance(line, Pair)]


def reasons_of(lines: Sequence[Pair | Drops]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines:
        if isinstance(line, Drops):
            found[line.reason.value] += line.count
    return found


@contextmanager
def running_shadow(**settings: Any) -> Iterator[Shadow]:
    """Start an edge before scripted hosts, and a worker beside it."""
    with running_edge(**settings) as edge, scripted_hosts(edge) as hosts:
        shadow = Shadow(edge, hosts)
        shadow.start_worker()
        try:
            yield shadow
        finally:
            shadow.forget()
            shadow.end_worker(signal.SIGTERM)
