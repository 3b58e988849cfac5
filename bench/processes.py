"""Processes that the bench starts: found again by a mark in their environment, stopped, ended.

Whatever they start inherits the mark, so a whole Ray is one group like any single server. Nothing
is ever touched that has not the mark, or was not started by what has it.
"""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "BENCH_MARK"
"""Environment variable that names run and group; not one of Tiltyard's own, which it passes on
to nobody."""

GONE_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Group:
    """Every process with one mark.

    Args:
        run: Of the bench, so that two benches never meet.
        name: Of the server that the processes make up.
    """

    run: str
    name: str

    @property
    def mark(self) -> dict[str, str]:
        """What every process of this group has in its environment."""
        return {MARK: f"{self.run}/{self.name}"}

    def start(
        self,
        command: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        only: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[bytes]":
        """Start a process in a session of its own; what it says goes to `log`.

        Args:
            only: The whole environment, in place of ours.
            more: What is added to it.
        """
        around = os.environ if only is None else only
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                env={**around, **(more or {}), **self.mark},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def members(self) -> list[psutil.Process]:
        """Return the processes that live."""
        return list(_marked(f"{self.run}/{self.name}"))

    def freeze(self, which: str = "") -> None:
        """Stop everything where it is: it keeps its memory and takes no time at all.

        Args:
            which: Only processes with this text in their command line.
        """
        # What was started between two looks is found by the second.
        for _ in range(2):
            self._signal(signal.SIGSTOP, which)

    def thaw(self) -> None:
        """Let everything go on."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """End everything, politely at first."""
        self.thaw()
        self._signal(signal.SIGTERM)
        psutil.wait_procs(self.members(), timeout=GONE_WITHIN)
        end_marked(f"{self.run}/{self.name}")

    def megabytes(self, names: Mapping[str, str]) -> dict[str, float]:
        """Return the memory of each kind of process: its own, and its part of what is shared.

        Args:
            names: What to call processes whose command line has a text in it; the first that fits.
        """
        found: Counter[str] = Counter()
        for process in self.members():
            with suppress(psutil.Error):
                command = " ".join(process.cmdline())
                kind = next((name for text, name in names.items() if text in command), "others")
                found[kind] += process.memory_full_info().pss
        return {kind: round(size / 2**20, 1) for kind, size in found.items()}

    def _signal(self, number: int, which: str = "") -> None:
        for process in self.members():
            with suppress(psutil.NoSuchProcess):
                if which in " ".join(process.cmdline()):
                    process.send_signal(number)


def end_marked(start: str) -> None:
    """Kill whatever has a mark that begins so, until nothing has."""
    while alive := list(_marked(start)):
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=1.0)


def _marked(start: str) -> Iterator[psutil.Process]:
    """Yield processes with the mark, and what they started: Redis writes over its environment."""
    alive: dict[int, psutil.Process] = {}
    parents: dict[int, int] = {}
    mine: set[int] = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            alive[process.pid], parents[process.pid] = process, process.ppid()
            if process.environ().get(MARK, "").startswith(start):
                mine.add(process.pid)
    while more := {pid for pid in alive if parents[pid] in mine} - mine:
        mine |= more
    yield from (alive[pid] for pid in mine)


@contextmanager
def warden(run: str) -> Iterator[None]:
    """End every process of a run when the run ends, however it ends, even by SIGKILL.

    Some may be frozen then, and would stay for ever.
    """
    command = [sys.executable, "-m", "bench.processes", run]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as watching:
        assert watching.stdin is not None
        try:
            yield
        finally:
            watching.stdin.close()
            watching.wait()


def main() -> None:
    """Wait until whoever started this closes its end of the pipe, or dies; then end the run."""
    sys.stdin.read()
    time.sleep(0.1)
    end_marked(f"{sys.argv[1]}/")


if __name__ == "__main__":
    main()
