"""`python -m bench`: measures everything, prints it, and writes results.json and results.png."""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from bench.plot import draw
from bench.processes import warden
from bench.results import complaints
from bench.run import Asked, Bench
from bench.show import show

HERE = Path(__file__).parent

INTERRUPTED = 130


def main() -> int:
    """Run, with progress on stderr; 1 if a figure is missing."""
    asked = _asked()
    began, words = time.monotonic(), Console(stderr=True, highlight=False, soft_wrap=True)

    def tell(what: str) -> None:
        words.print(f"[dim]{time.monotonic() - began:6.0f} s[/]  {what}", markup=True)

    # Whoever is told to end does what is left to do, as after an interrupt from the keyboard.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = f"bench-{os.getpid()}-{time.time_ns()}"
    # Ray's sockets deep inside it leave little room.
    try:
        with warden(run), tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
            results = Bench(asked, run, Path(folder), tell).everything()
    except KeyboardInterrupt:
        words.print("Interrupted: everything that was started is ended, and nothing is written.")
        return INTERRUPTED
    problems = list(complaints(results))
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    draw(results, HERE / "results.png")
    show(results, Console(highlight=False))
    for problem in problems:
        words.print(f"[red]results.json: {problem}[/]")
    words.print(f"Written: {HERE / 'results.json'} and results.png beside it.")
    return 1 if problems or results["missing"] else 0


def _asked() -> Asked:
    usual = Asked()
    asked = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    for name in ("rounds", "seconds", "drills", "requests", "lines"):
        asked.add_argument(f"--{name}", type=int, default=getattr(usual, name), metavar="N")
    asked.add_argument("--only", nargs="*", default=(), metavar="SERVER", help="beside Tiltyard")
    found = vars(asked.parse_args())
    return Asked(**found | {"only": tuple(found["only"])})


if __name__ == "__main__":
    sys.exit(main())
