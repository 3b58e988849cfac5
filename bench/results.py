"""`bench/results.json`: what it holds at least, and the bars that its figures are held against."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.rounds import CONNECTIONS

RATIOS = (
    "edge_over_bare",
    "edge_over_handles",
    "edge_over_handles_default",
    "edge_over_mlserver",
    "edge_over_bentoml",
    "edge_over_litserve",
)
FAULTS = ("errors", "hangs", "crashes")

SHAPE: Mapping[str, Sequence[str] | None] = {
    "ratios": RATIOS,
    "added_p50_ms": None,
    "rollback_ms": ("p50", "p99", "drills", "failed_requests"),
    "user_failures": FAULTS,
    "events_per_second": None,
    "memory_mb": (),
    "start_seconds": None,
    "machine": (),
    "versions": (),
}
"""Keys that are always there, and the keys within them; what was not measured is null."""

Results = Mapping[str, Any]


def complaints(results: Results) -> Iterator[str]:
    """Yield what results lack of their shape."""
    for name, within in SHAPE.items():
        if name not in results:
            yield f"{name} is missing"
        elif within is not None:
            if not isinstance(results[name], Mapping):
                yield f"{name} is no object"
                continue
            yield from (f"{name}.{each} is missing" for each in within if each not in results[name])
    for name in RATIOS:
        found = results.get("ratios", {}).get(name, {})
        yield from (
            f"ratios.{name} lacks {each} connections"
            for each in CONNECTIONS
            if str(each) not in found
        )


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure should be at least, and what is aimed at.

    Args:
        read: Finds the figure in results; None if it was not measured.
        more_is_better: Which way is good.
    """

    what: str
    read: Callable[[Results], float | None]
    least: float
    aim: float
    more_is_better: bool = True

    def verdict(self, results: Results) -> str:
        """Return in a word how far the figure is."""
        found = self.read(results)
        if found is None:
            return "not measured"
        sign = 1 if self.more_is_better else -1
        if sign * found >= sign * self.aim:
            return "aim"
        return "bar" if sign * found >= sign * self.least else "missed"


def _worst_ratio(name: str) -> Callable[[Results], float | None]:
    def read(results: Results) -> float | None:
        found = results["ratios"][name].values()
        return None if None in found else min(found)

    return read


def _at(*path: str) -> Callable[[Results], float | None]:
    def read(results: Results) -> float | None:
        found: Any = results
        for name in path:
            found = found[name]
        return None if found is None else float(found)

    return read


def _failures(results: Results) -> float | None:
    found = results["user_failures"].values()
    return None if None in found else sum(found)


BARS = (
    Bar("throughput over bare Ray Serve", _worst_ratio("edge_over_bare"), 0.75, 0.95),
    Bar("over handles, throughput-optimised", _worst_ratio("edge_over_handles"), 3, 8),
    Bar("over MLServer", _worst_ratio("edge_over_mlserver"), 1, 1.5),
    Bar("added p50 at one connection, ms", _at("added_p50_ms"), 0.4, 0.1, more_is_better=False),
    Bar("rollback p99, ms", _at("rollback_ms", "p99"), 50, 5, more_is_better=False),
    Bar(
        "requests failed in rollbacks",
        _at("rollback_ms", "failed_requests"),
        0,
        0,
        more_is_better=False,
    ),
    Bar("failures that users saw", _failures, 0, 0, more_is_better=False),
    Bar("events a second", _at("events_per_second"), 20_000, 100_000),
)
"""Ratios count where they are worst: at the number of connections that suits the edge least."""
