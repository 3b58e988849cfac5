"""Samples into figures: medians, spread, ratios. Pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from bench.load import Load
from bench.rounds import CONNECTIONS, Sample

EDGE, BARE = "edge", "bare"

RIVALS: Mapping[str, Sequence[str]] = {
    "edge_over_bare": (BARE,),
    "edge_over_bare_one": ("bare_one",),
    "edge_over_handles": ("handles",),
    "edge_over_handles_default": ("handles_default",),
    "edge_over_mlserver": ("mlserver_1", "mlserver_2"),
    "edge_over_bentoml": ("bentoml_1", "bentoml_2"),
    "edge_over_litserve": ("litserve_1", "litserve_2"),
}
"""Targets that the edge is compared with; of several, the one that is faster."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summarise at least one value."""
        found = list(values)
        return cls(*(round(value, 4) for value in (median(found), min(found), max(found))))


class Figures:
    """Everything that can be said of samples."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._loads: dict[tuple[str, str, int], dict[int, Load]] = defaultdict(dict)
        for sample in samples:
            key = (sample.target, sample.size, sample.connections)
            self._loads[key][sample.round] = sample.load

    def table(self) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
        """Return what was measured by target, size and connections."""
        found: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
        for (target, size, connections), by_round in self._loads.items():
            loads = list(by_round.values())
            found.setdefault(target, {}).setdefault(size, {})[str(connections)] = {
                "per_second": asdict(Spread.of(load.per_second for load in loads)),
                "p50_ms": asdict(Spread.of(load.p50_ms for load in loads)),
                "p99_ms": asdict(Spread.of(load.p99_ms for load in loads)),
                "answers": sum(load.answers for load in loads),
                "failures": sum(load.failures for load in loads),
            }
        return found

    def ratios(self, size: str) -> dict[str, dict[str, float | None]]:
        """Return how much the edge serves of what others do, by connections."""
        return {
            name: {str(each): self.ratio(rivals, size, each) for each in CONNECTIONS}
            for name, rivals in RIVALS.items()
        }

    def ratio(self, rivals: Sequence[str], size: str, connections: int) -> float | None:
        """Return the median over rounds of edge over rival; None if either was not measured.

        Both are of the same round, when the machine was in about the same mood.
        """
        rates = {rival: self._rates(rival, size, connections) for rival in rivals}
        usual = {rival: median(rate.values()) for rival, rate in rates.items() if rate}
        rival = max(usual, key=lambda name: usual[name], default=None)
        if rival is None or not usual[rival]:
            return None
        found = self._paired(EDGE, rival, size, connections, lambda load: load.per_second)
        quotients = [edge / other for edge, other in found if other]
        return round(median(quotients), 3) if quotients else None

    def added_p50_ms(self) -> float | None:
        """Return what the edge adds to the median latency of one connection."""
        found = self._paired(EDGE, BARE, "small", 1, lambda load: load.p50_ms)
        return round(median(edge - bare for edge, bare in found), 3) if found else None

    def near(self, ceilings: Mapping[str, float]) -> list[str]:
        """Return what was served at more than half of what the generator manages by itself."""
        return [
            f"{target} on {connections}"
            for (target, size, connections), by_round in self._loads.items()
            if size == "small"
            and (ceiling := ceilings.get(str(connections)))
            and median(load.per_second for load in by_round.values()) > ceiling / 2
        ]

    def _rates(self, target: str, size: str, connections: int) -> dict[int, float]:
        by_round = self._loads.get((target, size, connections), {})
        return {number: load.per_second for number, load in by_round.items()}

    def _paired(
        self, one: str, other: str, size: str, connections: int, of: Callable[[Load], float]
    ) -> list[tuple[float, float]]:
        first = self._loads.get((one, size, connections), {})
        second = self._loads.get((other, size, connections), {})
        return [(of(first[n]), of(second[n])) for n in sorted(first.keys() & second.keys())]
