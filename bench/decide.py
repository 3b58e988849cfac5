"""Decisions a second, on one core: `python -m bench.decide [--experiments N] [--json FILE]`."""

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from bench.mixes import MIXES, NOW, experiment
from experiments.decision import decide

BATCH = 50
SEED = 20_26
WANTED = 500
"""Decisions a second on `mixed`, on one core."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one mix was decided on.

    Args:
        per_second: By the clock on the wall, from the first experiment on: nothing is warmed up.
        per_cpu_second: The same by this process's own time, which other work does not lengthen.
        usual: By the clock on the wall, in the median batch.
        decisions: How often each was reached.
    """

    mix: str
    experiments: int
    per_second: float
    per_cpu_second: float
    usual: float
    decisions: dict[str, int]


def measured(mix: str, experiments: int) -> Pace:
    """Decide once on each of so many experiments, no two alike."""
    rng = np.random.default_rng(SEED)
    walls, wall, cpu, reached = [], 0.0, 0.0, Counter[str]()
    for start in range(0, experiments, BATCH):
        size = min(BATCH, experiments - start)
        batch = [experiment(MIXES[mix](rng), rng) for _ in range(size)]
        began, began_cpu = perf_counter(), process_time()
        decisions = [decide(plan, evidence, NOW) for plan, evidence in batch]
        cpu += process_time() - began_cpu
        took = perf_counter() - began
        wall += took
        walls.append(took / size)
        reached.update(decision.kind for decision in decisions)
    return Pace(
        mix,
        experiments,
        round(experiments / wall, 1),
        round(experiments / cpu, 1),
        round(1.0 / median(walls), 1),
        dict(reached),
    )


def main() -> None:
    """Measure each mix and say what was found."""
    asked = argparse.ArgumentParser(prog="python -m bench.decide", description=__doc__)
    asked.add_argument("--experiments", type=int, default=1_000, help="per mix")
    asked.add_argument("--mix", action="append", choices=list(MIXES), help="only this one")
    asked.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    arguments = asked.parse_args()
    tell = sys.stdout.write
    tell(f"{'per second':>10} {'usually':>8} {'per CPU second':>15}  6 metrics, 4 stages each\n")
    paces = []
    for mix in arguments.mix or MIXES:
        pace = measured(mix, arguments.experiments)
        paces.append(pace)
        tell(f"{pace.per_second:10.0f} {pace.usual:8.0f} {pace.per_cpu_second:15.0f}  {mix}\n")
    if arguments.json:
        found = {"wanted_per_second": {"mixed": WANTED}, "found": [asdict(pace) for pace in paces]}
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
