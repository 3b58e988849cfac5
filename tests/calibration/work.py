"""The same runs on however many cores: each chunk has a seed of its own, by name and number."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from zlib import crc32

import numpy as np

from tests.calibration.case import Case
from tests.calibration.judged import Rate, alpha_of, verdicts_on


def generator(seed: int, name: str, number: int = 0) -> np.random.Generator:
    """Return the random numbers of a chunk: independent of all others, and of their order."""
    return np.random.default_rng([seed, crc32(name.encode()), number])


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is to be done.

    Args:
        part: Of the full number of runs.
        jobs: Processes to use.
    """

    seed: int
    part: float
    jobs: int

    def runs(self, full: int) -> int:
        """Return how many runs that makes."""
        return max(10, round(full * self.part))


def judge_chunk(case: Case, seed: int, number: int, runs: int) -> Counter[str]:
    """Count the runs in which each verdict was ever given."""
    drawn = case.source.histories(generator(seed, case.name, number), runs)
    said: Counter[str] = Counter()
    for run in range(runs):
        said.update(verdicts_on(case.declaration, drawn.looks(run), horizon=case.horizon))
    return said


def judge(case: Case, seed: int, runs: int) -> dict[str, Rate]:
    """Judge some runs of a case, here and now."""
    return rates_of(case, judge_chunk(case, seed, 0, runs), runs)


def rates_of(case: Case, said: Counter[str], runs: int) -> dict[str, Rate]:
    """Return each verdict's rate beside what is promised."""
    return {
        verdict: Rate(said[verdict], runs, alpha_of(verdict, case.declaration))
        for verdict in case.verdicts
    }


def _chunks_of(case: Case, scale: Scale) -> Iterator[tuple[int, tuple[int, int]]]:
    runs = scale.runs(case.runs)
    for number, start in enumerate(range(0, runs, case.chunk)):
        yield number, (number, min(case.chunk, runs - start))


def judge_all(cases: Iterable[Case], scale: Scale) -> dict[str, dict[str, Rate]]:
    """Judge every case, by its name."""
    cases = tuple(cases)
    tasks = [
        (judge_chunk, (case, scale.seed, *chunk))
        for case in cases
        for _, chunk in _chunks_of(case, scale)
    ]
    owners = [case.name for case in cases for _ in _chunks_of(case, scale)]
    said: dict[str, Counter[str]] = {case.name: Counter() for case in cases}
    for index, found in together(tasks, scale.jobs, "experiments without effect"):
        said[owners[index]].update(found)
    return {case.name: rates_of(case, said[case.name], scale.runs(case.runs)) for case in cases}


def together(
    tasks: list[tuple[Callable[..., object], tuple[object, ...]]], jobs: int, what: str
) -> Iterator[tuple[int, object]]:
    """Call functions, in several processes if asked; yield index and result as they come."""
    show = sys.stderr.isatty()
    for done, found in enumerate(_results(tasks, jobs), start=1):
        yield found
        if show or done % max(1, len(tasks) // 10) == 0 or done == len(tasks):
            sys.stderr.write(f"{chr(13) if show else ''}{what}: {done} of {len(tasks)}")
            sys.stderr.write("" if show and done < len(tasks) else chr(10))
            sys.stderr.flush()


def _results(tasks, jobs: int) -> Iterator[tuple[int, object]]:
    if jobs == 1:
        yield from ((index, call(*given)) for index, (call, given) in enumerate(tasks))
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        pending = {pool.submit(call, *given): index for index, (call, given) in enumerate(tasks)}
        for future in as_completed(pending):
            yield pending[future], future.result()
