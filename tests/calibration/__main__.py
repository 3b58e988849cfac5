"""Measure how often the engine is wrong and how long it takes: python -m tests.calibration"""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.calibration.canary import canaries
from tests.calibration.cases import cases
from tests.calibration.margins import margins
from tests.calibration.picture import draw
from tests.calibration.race import race
from tests.calibration.report import Report
from tests.calibration.shadow import gates, shadows
from tests.calibration.traps import traps
from tests.calibration.work import Scale, judge_all
from tests.calibration.written import as_markdown

SEED = 20_260_301
QUICK = 0.05
DOCS = Path(__file__).parents[2] / "docs"


def main(arguments: list[str]) -> int:
    """Calibrate; print the tables, write them and the picture, and fail if a bar is missed."""
    asked = _asked(arguments)
    # The processes share the cores among themselves; each call is too small to be divided.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    scale = Scale(asked.seed, QUICK if asked.quick else asked.part, asked.jobs)
    started = time.monotonic()
    every = (*cases(), *margins(), *shadows())
    report = Report(
        seed=scale.seed,
        part=scale.part,
        racers=race(scale),
        canaries=canaries(scale),
        gates=gates(scale),
        traps=traps(scale),
        cases=every,
        rates=judge_all(every, scale),
    )
    document = as_markdown(report)
    sys.stdout.write(document)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "calibration.md").write_text(document)
    draw(report, asked.out / "calibration.png")
    sys.stderr.write(f"{time.monotonic() - started:.0f} s; written to {asked.out}\n")
    return 0 if report.met else 1


def _asked(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.calibration", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the runs")
    parser.add_argument("--part", type=float, default=1.0, help="of the runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=DOCS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
