"""Outcomes that a unit gives again and again: those of one unit resemble each other.

A unit comes a random number of times (geometric), and all of its requests are seen at once. They
are kept by hash group, as the store keeps them.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from experiments.metric import GROUPS, Binary, Kind, Mean, Ratio, Score
from experiments.simulation.heaps import Floats, Ints, Sums
from experiments.simulation.sources import amounts

_PILOT = 20_000
"""Units that tell how much one unit's requests vary."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Outcomes of every request.

    Args:
        mean: The value with the champion.
        spread: Of one outcome: of the value, or of the numerator.
        visits: Mean number of requests of a unit; 1 where requests are the units.
        alike: Correlation of two outcomes of one unit.
    """

    kind: Kind
    mean: float
    spread: float
    visits: float
    alike: float

    def draw(self, rng: np.random.Generator, sizes: Ints, factor: float) -> Sums:
        n = int(sizes.sum())
        times = rng.geometric(1.0 / self.visits, n)
        units = np.repeat(np.arange(n), times)
        ys, xs = self._outcomes(rng, n, units, factor)
        groups = rng.integers(0, GROUPS, n)
        return Sums.of(
            ys,
            xs,
            segments=np.repeat(np.repeat(np.arange(len(sizes)), sizes), times),
            columns=groups[units],
            shape=(len(sizes), GROUPS),
            indices=tuple(range(GROUPS)),
        )

    @property
    def relative_variance(self) -> float:
        rng = np.random.default_rng(0)
        times = rng.geometric(1.0 / self.visits, _PILOT)
        units = np.repeat(np.arange(_PILOT), times)
        ys, xs = self._outcomes(rng, _PILOT, units, 1.0)
        y, x = np.bincount(units, ys), np.bincount(units, xs)
        ratio = y.sum() / x.sum()
        return float(np.mean((y - ratio * x) ** 2) / max((ratio * x.mean()) ** 2, 1e-12))

    def _outcomes(
        self, rng: np.random.Generator, n: int, units: Ints, factor: float
    ) -> tuple[Floats, Floats]:
        """Return a pair for each request: the value and 1, or numerator and denominator."""
        xs = np.ones(len(units))
        match self.kind:
            case Binary():
                rates = _rates(rng, n, min(1.0, self.mean * factor), self.alike)
                return (rng.random(len(units)) < rates[units]).astype(np.float64), xs
            case Score() as kind:
                extent = kind.high - kind.low
                steps = len(kind.grid) - 1
                at = min(max((self.mean * factor - kind.low) / extent, 0.0), 1.0)
                places = rng.binomial(steps, _rates(rng, n, at, self.alike)[units])
                return kind.low + extent * places / steps, xs
            case Mean(low, high):
                ys = amounts(self._scores(rng, n, units), self.mean, self.spread) * factor
                return np.clip(ys, low, high), xs
            case Ratio():
                # Numerators follow denominators, which a unit's own habits make large or small.
                xs = amounts(self._scores(rng, n, units), 1.0, 1.0)
                ys = amounts(self._scores(rng, n, units), self.mean, self.spread) * factor * xs
                return ys, xs
            case _:
                raise AssertionError(f"{self.kind} is never grouped")

    def _scores(self, rng: np.random.Generator, n: int, units: Ints) -> Floats:
        """Return standard normal scores, correlated within a unit."""
        own, new = rng.standard_normal(n), rng.standard_normal(len(units))
        return np.asarray(sqrt(self.alike) * own[units] + sqrt(1.0 - self.alike) * new)


def _rates(rng: np.random.Generator, n: int, mean: float, alike: float) -> Floats:
    """Return a rate for each unit, beta distributed."""
    if alike == 0.0 or mean in (0.0, 1.0):
        return np.full(n, mean)
    size = 1.0 / alike - 1.0
    return rng.beta(mean * size, (1.0 - mean) * size, n)
