"""Load on a server: wrk if it is installed, or else a generator of our own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.questions import Question

PATIENCE = 30
"""Seconds after which an answer counts as missing."""

SLACK = 30.0
"""Seconds beyond what was asked after which a generator counts as stuck."""


@dataclass(frozen=True, slots=True)
class Load:
    """What came of sending one question again and again.

    Args:
        answers: Those that came, right or wrong.
        good: Those with status 200 and the expected prediction.
        broken: Connections that failed.
        timeouts: Answers that did not come in time.
        statuses, variants: How often each was answered.
        rescued: Answers that another version gave in place of one that failed.
        stray: The first wrong answer, shortened.
    """

    seconds: float
    answers: int
    good: int
    p50_ms: float
    p99_ms: float
    broken: int
    timeouts: int
    statuses: Mapping[str, int]
    variants: Mapping[str, int]
    rescued: int = 0
    stray: str = ""

    @property
    def per_second(self) -> float:
        """Right answers a second: a quick error is none."""
        return self.good / self.seconds

    @property
    def failures(self) -> int:
        """What users would have complained about."""
        return self.answers - self.good + self.broken + self.timeouts


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask.

    Args:
        paths: Asked in turn.
    """

    name: str
    url: str
    paths: tuple[str, ...]


class UnreadableLoad(ValueError):
    """A generator said something else than what it measured."""


class Generator(Protocol):
    """Sends requests and looks at the answers."""

    @property
    def name(self) -> str:
        """What to call it in the results."""

    def start(
        self, target: Target, question: Question, *, connections: int, seconds: int
    ) -> "subprocess.Popen[str]":
        """Begin; what it measured is one line of JSON, its last."""


class Wrk:
    """wrk with a script that varies the unit and looks at every answer."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
        self.name = " ".join((said.stdout + said.stderr).split()[:3])

    def start(
        self, target: Target, question: Question, *, connections: int, seconds: int
    ) -> "subprocess.Popen[str]":
        """Begin, in one thread: there are two cores, and the server needs them more."""
        script = Path(__file__).with_name("wrk.lua")
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{PATIENCE}s"]
        return _popen(
            [self._binary, *options, "-s", script, target.url, "--", *_asked(target, question)]
        )


class OwnGenerator:
    """Several processes of Python. Slower than wrk by far; its ceiling is measured and shown."""

    name = "bench.generator (Python)"

    def start(
        self, target: Target, question: Question, *, connections: int, seconds: int
    ) -> "subprocess.Popen[str]":
        """Begin, in as many processes as help."""
        options = [str(connections), str(seconds), target.url]
        return _popen(
            [sys.executable, "-m", "bench.generator", *options, *_asked(target, question)]
        )


def generator() -> Generator:
    """Return the best that this machine has."""
    binary = shutil.which("wrk")
    return Wrk(binary) if binary else OwnGenerator()


def measured(
    by: Generator, target: Target, question: Question, *, connections: int, seconds: int
) -> Load:
    """Load a target and return what came of it.

    Raises:
        UnreadableLoad: the generator failed.
    """
    started = by.start(target, question, connections=connections, seconds=seconds)
    return finished(started, within=seconds + PATIENCE + SLACK)


def finished(started: "subprocess.Popen[str]", *, within: float) -> Load:
    """Wait for a generator and return what it measured.

    Raises:
        UnreadableLoad: it failed, or does not come to an end.
    """
    try:
        output, errors = started.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        raise UnreadableLoad(f"the generator did not end within {within:.0f} s") from None
    try:
        return parse(output)
    except UnreadableLoad as error:
        raise UnreadableLoad(f"{error}; {errors.strip()[-300:]}") from None


def parse(output: str) -> Load:
    """Return what the last line of a generator's output says.

    Raises:
        UnreadableLoad: it is something else.
    """
    lines = output.strip().splitlines()
    try:
        found = json.loads(lines[-1])
        load = Load(**found)
    except (IndexError, ValueError, TypeError) as error:
        raise UnreadableLoad(f"not a measurement: {output[-200:]!r}") from error
    if load.seconds <= 0 or load.good > load.answers:
        raise UnreadableLoad(f"not a possible measurement: {load}")
    return load


def _asked(target: Target, question: Question) -> list[str]:
    return [str(question.body), "application/json", question.expected, *target.paths]


def _popen(command: Sequence[str | Path]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
