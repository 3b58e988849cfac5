"""`tiltyard demo`, as a newcomer runs it: the whole story, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from serving.local.ports import CALM_PORTS, is_free

PATIENCE_SECONDS = 280.0
MARK = "DEMO_UNDER_TEST"


class Demo:
    """A demo under way, in a temporary folder and an environment of its own.

    Attributes:
        ports: Where its processes were ever seen to listen, of the ports that it chooses itself.
        state_dirs: Where they kept their files.
        started: What it has ever been seen to have started, directly or not.
    """

    def __init__(self, folder: Path) -> None:
        self.mark = uuid4().hex
        self.folder = folder
        self.users = folder / "users"
        self.told = folder / "told"
        self.ports: set[int] = set()
        self.started: set[psutil.Process] = set()
        self.state_dirs: set[str] = set()
        self.users.mkdir()
        (self.users / "running.json").write_text("somebody's own system")
        environment = os.environ | {
            MARK: self.mark,
            # A system of the user's own, which is none of the demo's business.
            "TILTYARD_STATE_DIR": str(self.users),
            "TILTYARD_REDIS_URL": "redis://127.0.0.1:1/0",
            "TILTYARD_MLFLOW_URI": "http://127.0.0.1:1",
        }
        with self.told.open("wb") as out, (folder / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("tiltyard"), "demo"],
                env=environment,
                stdout=out,
                stderr=errors,
            )

    def until(self, words: str) -> str:
        """Wait until it has told `words`, or has ended; return all that it has told."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in (text := self.told.read_text()) and self.process.poll() is None:
            assert time.monotonic() < deadline, text
            self._look()
            time.sleep(0.5)
        return text

    def end(self) -> tuple[int, str]:
        """Wait until it has ended; return its exit status, and all that it has told."""
        self.until("nobody ever says this")
        return self.process.wait(), self.told.read_text()

    def _look(self) -> None:
        # Redis and Ray's workers write over their environment, so ask for descendants as well.
        with suppress(psutil.NoSuchProcess):
            self.started |= set(psutil.Process(self.process.pid).children(recursive=True))
        for process in self.started:
            self.ports |= set(listening(process)) & set(CALM_PORTS)
        for process in self.processes():
            found = environment_of(process).get("TILTYARD_STATE_DIR", str(self.users))
            self.state_dirs |= {found} - {str(self.users)}

    def processes(self) -> set[psutil.Process]:
        """Return what lives of itself and of all that it has started."""
        marked = {p for p in psutil.process_iter() if environment_of(p).get(MARK) == self.mark}
        return {process for process in marked | self.started if lives(process)}

    def assert_nothing_left(self) -> None:
        assert not self.processes()
        assert [path for path in self.state_dirs if Path(path).exists()] == []
        assert not [port for port in self.ports if not is_free("127.0.0.1", port)]
        assert [path.name for path in self.users.iterdir()] == ["running.json"]
        assert (self.users / "running.json").read_text() == "somebody's own system"


def lives(process: psutil.Process) -> bool:
    """Tell whether it has not ended; whoever inherits a zombie buries it when it likes."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def listening(process: psutil.Process) -> list[int]:
    try:
        found = process.net_connections("tcp")
    except psutil.Error:
        return []
    return [each.laddr.port for each in found if each.status == psutil.CONN_LISTEN]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    try:
        yield demo
    finally:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(60)


def test_the_demo_keeps_every_promise_and_leaves_nothing(demo: Demo) -> None:
    status, told = demo.end()
    assert status == 0, told + (demo.folder / "errors").read_text()

    seen = json.loads(told.splitlines()[-1])
    assert list(seen) == [
        "requests",
        "failed_requests",
        "promoted",
        "promote_seconds",
        "promote_units",
        "harm_rollback",
        "harm_seconds",
        "fault_rollback",
        "fault_seconds",
        "manual_rollback",
        "rollback_ms",
        "receipts",
    ]
    assert seen["requests"] > 1_000
    assert seen["failed_requests"] == 0
    assert seen["promoted"] == 2
    assert seen["promote_units"] > 200
    assert seen["harm_rollback"] == 3
    assert seen["fault_rollback"] == 4
    assert seen["manual_rollback"] == {"from": 2, "to": 1}
    # Version 1 goes live, three experiments start, a share grows twice, a promotion, two rollbacks,
    # and one by hand; and whatever else a share grows before harm is beyond doubt.
    assert seen["receipts"] >= 10, told
    for measured in ("promote_seconds", "harm_seconds", "fault_seconds", "rollback_ms"):
        assert seen[measured] > 0
    assert "correct is" in told
    assert "error_rate is" in told
    assert len(demo.ports) >= 5
    assert len(demo.started) > 15
    assert len(demo.state_dirs) == 1
    demo.assert_nothing_left()


def test_an_interrupted_demo_leaves_nothing_either(demo: Demo) -> None:
    demo.until("Ray is ready")
    assert len(demo.processes()) > 5
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGINT)
    status, told = demo.end()
    assert status == 130, told
    assert json.loads(told.splitlines()[-1])["promoted"] is None
    demo.assert_nothing_left()
