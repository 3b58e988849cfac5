"""One run of everything, in order. Whatever fails is named as missing, and the rest goes on."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench import faults, questions
from bench.ceiling import ceiling
from bench.figures import EDGE, Figures
from bench.handles import Handles
from bench.load import Target, generator
from bench.machine import machine, versions
from bench.peers import PEERS, Peer, python_of
from bench.questions import Dialect
from bench.results import FAULTS
from bench.rollback import drilled
from bench.rounds import Sample, Tell, played
from bench.servers import DoesNotServe, Field, Server
from bench.tiltyard import PATH, Tiltyard, counted
from registry.digest import digest_of
from registry.mlflow import save_sklearn

ROOM = 10 * 2**30
"""Bytes of memory that all servers need side by side."""

TURNS = "Every server stays loaded; all but the one that is measured are frozen (SIGSTOP)."

WORKERS = {"mlserver": (0, 2), "bentoml": (1, 2), "litserve": (1, 2)}
"""Each peer alone, and with as many processes as an experiment has hosts. MLServer alone answers
in the server's own process, which is the faster way to have one."""

VERSIONS = ("one", "two")

MEMORY_CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """How much to measure.

    Args:
        seconds: For each figure.
        requests: After which memory is looked at again.
        lines: Of the request log, for the collector.
        only: Servers beside Tiltyard that take part; empty for all.
    """

    rounds: int = 5
    seconds: int = 3
    drills: int = 100
    requests: int = 200_000
    lines: int = 1_000_000
    only: tuple[str, ...] = ()


@dataclass
class Bench:
    """What a run has found so far."""

    asked: Asked
    run: str
    folder: Path
    tell: Tell
    samples: list[Sample] = field(default_factory=list)
    rollbacks: dict[str, Any] = field(default_factory=dict)
    endured: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, dict[str, float]] = field(default_factory=dict)
    ceilings: dict[str, float] = field(default_factory=dict)
    collector: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, int] = field(default_factory=dict)
    up_seconds: float | None = None

    def everything(self) -> dict[str, Any]:
        """Measure everything and return the results."""
        on = machine()
        if psutil.virtual_memory().available < ROOM:
            self.tell("there is little memory: servers may push each other out of it")
        self._model, self._images = questions.fitted()
        self.field = Field(generator(), self._questions())
        self.tell(f"load comes from {self.field.generator.name}")
        self._part("generator's ceiling", self._ceiling)
        self._part("collector", self._collector)
        system = Tiltyard(run=self.run, models=self._versions())
        try:
            self._side_by_side(system)
        finally:
            for server in [*self.field.servers]:
                server.stop()
        self._part("rollback with 3 edges", self._rollback_of_three)
        peers = {peer: python_of(peer) for peer in PEERS}
        return self.results() | {"machine": on, "versions": versions(peers)}

    def _side_by_side(self, system: Tiltyard) -> None:
        self._enter(system)
        if system in self.field.servers:
            self.up_seconds = system.up_seconds
            self._part("memory at rest", lambda: self._memory(system, "at_rest"))
        for server in self._others():
            self._enter(server)
        asked = self.asked
        self.samples = played(
            self.field, rounds=asked.rounds, seconds=asked.seconds, tell=self.tell
        )
        for server in [*self.field.servers]:
            if server is not system:
                server.stop()
        if system not in self.field.servers:
            return
        with self.field.awake(system):
            self._part("memory after requests", lambda: self._used_memory(system))
            self._part("evidence", lambda: self._evidence(system))
            self._part("rollback with 1 edge", lambda: self._rollback(system))
            self._part("faults", lambda: self._faults(system))

    def _questions(self) -> dict[str, dict[Dialect, questions.Question]]:
        rows = {"small": self._images[3:4], "large": questions.large_rows(self._images)}
        return {
            size: questions.write(self.folder, size, self._model, each)
            for size, each in rows.items()
        }

    def _versions(self) -> list[Path]:
        folders = [self.folder / name for name in VERSIONS]
        for folder in folders:
            save_sklearn(self._model, folder, example=self._images[:4])
        return folders

    def _others(self) -> list[Server]:
        artifacts = [self.folder / name for name in VERSIONS]
        hosted = [(folder.as_uri(), digest_of(folder)) for folder in artifacts]
        model = self.folder / "model.joblib"
        model.write_bytes(pickle.dumps(self._model))
        handles = [
            Handles(fast=fast, run=self.run, folder=self.folder, versions=hosted)
            for fast in (True, False)
        ]
        peers = [
            Peer(peer, workers, run=self.run, folder=self.folder, model=model)
            for peer in PEERS
            for workers in WORKERS[peer]
        ]
        only = self.asked.only
        servers: list[Server] = [*handles, *peers]
        return [each for each in servers if not only or each.name in only]

    def _enter(self, server: Server) -> None:
        self.tell(f"starting {server.name} ({server.facilities})")
        self.field.enter(server)
        why = self.field.missing.get(server.name)
        took = self.field.start_seconds.get(server.name)
        self.tell(f"{server.name} is missing: {why}" if why else f"{server.name}: {took} s")

    def _part(self, name: str, work: Callable[[], None]) -> None:
        self.tell(f"{name} ...")
        try:
            work()
        except Exception as error:  # one part less is better than none at all
            self.field.missing[name] = f"{type(error).__name__}: {error}"[:300]
            self.tell(f"{name} is missing: {error}")

    def _ceiling(self) -> None:
        self.ceilings = ceiling(self.field, self.run, self.folder, self.asked.seconds)
        self.tell(f"the generator manages {self.ceilings} requests a second by connections")

    def _collector(self) -> None:
        command = [sys.executable, "-m", "bench.collecting", str(self.asked.lines)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise DoesNotServe(done.stderr.strip()[-300:])
        self.collector = json.loads(done.stdout)
        self.tell(f"the collector takes in {self.collector['events_per_second']:,} lines a second")

    def _memory(self, system: Tiltyard, when: str) -> None:
        for process, megabytes in system.megabytes().items():
            self.memory.setdefault(process, {})[when] = megabytes

    def _used_memory(self, system: Tiltyard) -> None:
        """Ask until the edge has answered as many requests as wanted."""
        target = Target(EDGE, system.edges[0], (PATH,))
        question = self.field.questions["small"][Dialect.OPEN_INFERENCE]
        while (answered := self.field.answered[EDGE]) < self.asked.requests:
            self.tell(f"{answered:,} of {self.asked.requests:,} requests answered")
            self.field.load(target, question, MEMORY_CONNECTIONS, 10)
        self._memory(system, "after_requests")

    def _evidence(self, system: Tiltyard) -> None:
        """Wait until nothing is left to be counted, and compare with what was answered."""
        before, shown = -1, system.do("experiment", "show", "bench")
        while counted(shown) != before:
            before = counted(shown)
            time.sleep(3)
            shown = system.do("experiment", "show", "bench")
        self.evidence = {
            "answered": self.field.answered[EDGE],
            "counted": counted(shown),
            "lost_bytes": shown["evidence"]["lost_bytes"],
        }
        self.tell(f"evidence: {self.evidence}")

    def _rollback(self, system: Tiltyard) -> None:
        edges = str(len(system.edges))
        self.rollbacks[edges] = drilled(self.field, system, times=self.asked.drills, tell=self.tell)

    def _rollback_of_three(self) -> None:
        system = Tiltyard(run=self.run, models=[self.folder / name for name in VERSIONS], edges=3)
        try:
            system.start()
            self._rollback(system)
        finally:
            system.stop()

    def _faults(self, system: Tiltyard) -> None:
        system.do("experiment", "stop", "bench")
        folder = faults.save_fragile(self._model, self._images, self.folder / "fragile")
        system.do("register", "digits", str(folder))
        asked = faults.ask(self._model, self.folder)
        seconds = max(5, self.asked.seconds)
        self.endured = faults.endured(self.field, system, asked, seconds=seconds, tell=self.tell)

    def results(self) -> dict[str, Any]:
        figures = Figures(self.samples)
        one = self.rollbacks.get("1", {})
        facilities = {each.name: each.facilities for each in self.field.servers}
        return {
            "ratios": figures.ratios("small"),
            "ratios_large": figures.ratios("large"),
            "added_p50_ms": figures.added_p50_ms(),
            "rollback_ms": {
                **{name: one.get(name) for name in ("p50", "p99", "drills", "failed_requests")},
                "by_edges": self.rollbacks,
            },
            "user_failures": {
                fault: self.endured.get(fault, {}).get("failures") for fault in FAULTS
            },
            "faults": self.endured,
            "events_per_second": self.collector.get("events_per_second"),
            "collector": self.collector,
            "memory_mb": self.memory,
            "memory_after_requests": self.asked.requests,
            "start_seconds": self.up_seconds,
            "start_seconds_until_first_answer": self.field.start_seconds,
            "evidence": self.evidence,
            "throughput": figures.table(),
            "facilities": facilities,
            "generator": {
                "name": self.field.generator.name,
                "per_second": self.ceilings,
                "held_back": figures.near(self.ceilings),
            },
            "rounds": self.asked.rounds,
            "seconds": self.asked.seconds,
            "turns": TURNS,
            "missing": self.field.missing,
        }
