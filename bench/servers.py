"""What a server under measurement is, and how several of them share two cores: one at a time.

All are started once and stay loaded. While one is measured the others are frozen: they keep their
memory and get no time, so rounds can interleave without a start in each of them.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Protocol
from urllib.request import Request, urlopen

from bench.load import PATIENCE, Generator, Load, Target, UnreadableLoad, measured
from bench.processes import Group
from bench.questions import Dialect, Question

READY_WITHIN = 120.0

DRAINED_BY = 4
"""Requests, one after another, of which each process that has the model gets one most likely."""


class DoesNotServe(RuntimeError):
    """A server did not start, or gives other answers than it should."""


class Server(Protocol):
    """Something that answers questions.

    Attributes:
        facilities: Its processes that have the model, for people.
        log: Where it says what is wrong with it.
    """

    name: str
    facilities: str
    group: Group
    dialect: Dialect
    log: Path

    def start(self) -> Sequence[Target]:
        """Start it and return where to ask, at least one place.

        Raises:
            DoesNotServe: it does not start.
        """

    def stop(self) -> None:
        """End it."""


@dataclass
class Field:
    """The servers that take part, and why others do not.

    Args:
        missing: What went wrong, by name of the server.
        start_seconds: From the start to the first right answer, by name.
        answered: Answers of each target so far, whatever they were for.
    """

    generator: Generator
    questions: dict[str, dict[Dialect, Question]]
    servers: list[Server] = field(default_factory=list)
    targets: dict[str, Sequence[Target]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    start_seconds: dict[str, float] = field(default_factory=dict)
    answered: Counter[str] = field(default_factory=Counter)

    def enter(self, server: Server) -> None:
        """Start a server and freeze it; if it does not serve, it is missing."""
        began = time.monotonic()
        try:
            self.targets[server.name] = server.start()
            self.servers.append(server)
            self._await(server)
            self.start_seconds[server.name] = round(time.monotonic() - began, 2)
        except Exception as error:  # whatever a peer does, the others are measured
            self.drop(server, error)
            return
        server.group.freeze()

    def drop(self, server: Server, error: Exception) -> None:
        """Go on without a server."""
        said = f"{type(error).__name__}: {error}"[:300]
        if last := _last_line(server.log):
            said = f"{said}; its log ends with: {last}"
        self.missing[server.name] = said
        self.servers = [each for each in self.servers if each.name != server.name]
        server.stop()

    @contextmanager
    def awake(self, server: Server) -> Iterator[None]:
        """Let one server run, and see first that it is well.

        Raises:
            DoesNotServe: it has not survived being frozen.
        """
        server.group.thaw()
        try:
            self._await(server)
            yield
        finally:
            server.group.freeze()

    def load(self, target: Target, question: Question, connections: int, seconds: int) -> Load:
        """Return what came of a load."""
        load = measured(self.generator, target, question, connections=connections, seconds=seconds)
        self.answered[target.name] += load.answers
        return load

    def await_target(self, target: Target, question: Question, patience: float) -> None:
        """Wait until a target answers right, and warm it up by that.

        Raises:
            DoesNotServe: it does not.
        """
        until = time.monotonic() + patience
        while True:
            try:
                load = self.load(target, question, 1, 1)
            except UnreadableLoad as error:
                why = str(error)
            else:
                if load.good and not load.failures:
                    return
                why = load.stray or str(load)
            if time.monotonic() > until:
                raise DoesNotServe(f"{target.name} does not answer {question.size} right: {why}")
            time.sleep(0.2)

    def drain(self, target: Target, question: Question) -> None:
        """Wait until a target has done with what clients asked that have left.

        A generator that stops leaves a request behind on each connection, which would be part of
        what is measured next. Whoever comes after them is answered after them.
        """
        body = question.body.read_bytes()
        for path, _ in product(target.paths, range(DRAINED_BY)):
            request = Request(f"{target.url}{path}", body, {"Content-Type": "application/json"})
            with suppress(OSError), urlopen(request, timeout=PATIENCE) as answer:
                answer.read()
                self.answered[target.name] += 1

    def _await(self, server: Server) -> None:
        for target in self.targets[server.name]:
            for dialects in self.questions.values():
                self.await_target(target, dialects[server.dialect], READY_WITHIN)


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")
