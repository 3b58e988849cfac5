"""One process that is to live: started, found again, restarted, and ended; never another's."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL = 0.02
"""Seconds between two looks at whether a process lives, where the kernel does not tell."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Enough to know a process again: its number alone may be another's by now."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "Mark":
        """Return the mark of a living process.

        Raises:
            psutil.NoSuchProcess: there is none.
        """
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process if it still lives."""
        with suppress(psutil.Error):
            found = psutil.Process(self.pid)
            if found.create_time() == self.created and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how.

    Args:
        output: Opens what the program's standard output goes to; its errors go to `log`.
        before: Done each time before it is started.
        permission: Waited for each time before it is started.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    output: Callable[[], int] | None = None
    before: Callable[[], object] = field(default=lambda: None)
    permission: Callable[[], Awaitable[object]] | None = None

    def start(self) -> Mark:
        """Start it in a session of its own, so that it outlives a supervisor that is killed."""
        self.before()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        errors = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        output = self.output() if self.output else errors
        try:
            # An object of `subprocess` would resent it.
            started = os.posix_spawn(
                self.command[0],
                list(self.command),
                self.environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, errors, 2),
                ],
                setsid=True,
            )
        finally:
            for descriptor in {errors, output}:
                os.close(descriptor)
        return Mark.of(started)


async def gone(mark: Mark, *, within: float | None = None) -> bool:
    """Wait until a process has ended; False if it lives after `within` seconds."""
    try:
        async with asyncio.timeout(within):
            await _ended(mark)
    except TimeoutError:
        return False
    with suppress(ChildProcessError):
        os.waitpid(mark.pid, os.WNOHANG)  # noqa: ASYNC222  it does not wait
    return True


async def _ended(mark: Mark) -> None:
    if not hasattr(os, "pidfd_open"):  # Linux has it; to look takes 5 % of a core.
        while mark.process() is not None:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(POLL)
        return
    try:
        descriptor = os.pidfd_open(mark.pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        # Only now is it sure whose descriptor it is.
        if mark.process() is not None:
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def end(mark: Mark, *, patience: float) -> None:
    """End a process: ask first, and after `patience` seconds do not ask."""
    for signal in ("terminate", "kill"):
        process = mark.process()
        if process is None:
            break
        with suppress(psutil.NoSuchProcess):
            getattr(process, signal)()
        if await gone(mark, within=patience):
            break
