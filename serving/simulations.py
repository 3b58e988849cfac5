"""Many simulated runs on all cores; the same runs on any number of them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any, TypeAlias

import numpy as np

from experiments.model import Declaration
from experiments.simulation import Extent, Run, Truth, simulate

Worker: TypeAlias = "connection.Connection[Any, Any]"

_LARGEST_CHUNK = 16
_CHUNKS_A_PROCESS = 8


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be simulated.

    Args:
        seed: Each run has a random generator of its own, made from this and the run's number.
        watched: Runs, from the first, whose evidence is kept.
    """

    declaration: Declaration
    truth: Truth
    extent: Extent
    runs: int
    seed: int
    watched: int = 0


def carry_out(order: Order, *, processes: int, progress: Callable[[int], None]) -> list[Run]:
    """Return the runs, in their order.

    Args:
        processes: How many at once; one runs right here.
        progress: Called with the number of runs that are finished anew.

    Raises:
        KeyboardInterrupt: after no process is left behind.
    """
    if processes <= 1 or order.runs <= 1:
        runs = []
        for number in range(order.runs):
            runs.append(_run(order, number))
            progress(1)
        return runs
    size = max(1, min(_LARGEST_CHUNK, order.runs // (processes * _CHUNKS_A_PROCESS)))
    chunks = [range(first, min(first + size, order.runs)) for first in range(0, order.runs, size)]
    found: dict[int, Run] = {}
    with _workers(order, min(processes, len(chunks))) as idle:
        waiting = chunks[::-1]
        busy: dict[Worker, range] = {}
        while waiting or busy:
            while idle and waiting:
                worker, chunk = idle.pop(), waiting.pop()
                worker.send(chunk)
                busy[worker] = chunk
            for ready in connection.wait(list(busy)):
                assert isinstance(ready, connection.Connection)
                answer = ready.recv()
                if isinstance(answer, Exception):
                    raise answer
                chunk = busy.pop(ready)
                idle.append(ready)
                found.update(zip(chunk, answer, strict=True))
                progress(len(chunk))
    return [found[number] for number in range(order.runs)]


@contextmanager
def _workers(order: Order, count: int) -> Iterator[list[Worker]]:
    """Give connections to as many processes; on the way out none of them is left.

    Each has a connection of its own, and shares no queue whose lock it could die with.
    """
    # Started with the first process it would unblock the interrupts that are to wait.
    resource_tracker.ensure_running()
    # A fresh interpreter each: a fork would copy whatever threads hold at the moment.
    spawn = multiprocessing.get_context("spawn")
    ours: list[Worker] = []
    processes = []
    try:
        with _interrupts_waiting():
            for _ in range(count):
                here, there = spawn.Pipe()
                process = spawn.Process(target=work, args=(order, there), daemon=True)
                process.start()
                there.close()
                processes.append(process)
                ours.append(here)
        yield list(ours)
    finally:
        # What they are at is of no use to anybody any more.
        for process in processes:
            process.kill()
        for process in processes:
            process.join()
        for each in ours:
            each.close()


def work(order: Order, parent: Worker) -> None:
    """Make the runs that are asked for, until there is nobody to ask; a process of its own."""
    _end_with_parent()
    while True:
        numbers = parent.recv()
        try:
            parent.send(run_chunk(order, numbers))
        except Exception as error:
            parent.send(error)


def run_chunk(order: Order, numbers: Sequence[int]) -> list[Run]:
    """Make some of the runs, in the order given."""
    return [_run(order, number) for number in numbers]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(order: Order, number: int) -> Run:
    seed = np.random.SeedSequence(order.seed, spawn_key=(number,))
    return simulate(
        order.declaration,
        order.truth,
        rng=np.random.default_rng(seed),
        batch=order.extent.batch,
        most_units=order.extent.units,
        rate=order.extent.rate,
        watch=number < order.watched,
    )


def _end_with_parent() -> None:
    """Let a process of the pool end when the one that it works for has died, however it did."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Let the processes that are started with the tasks never hear Ctrl-C.

    A terminal sends it to all of them. They inherit that it is blocked; this process hears it once
    they are started, and ends them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
