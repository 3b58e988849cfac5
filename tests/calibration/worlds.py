"""Truths in which every unit is seen once: outcomes of some few kinds, or values."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.special import ndtr

from experiments.evidence import Sample
from experiments.stats.latency_grid import EDGES
from experiments.stats.moments import Moments
from tests.calibration.history import Generated
from tests.calibration.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Categories:
    """Each unit's outcome is one of some: a success, a place on a scale, a bucket, an event.

    Args:
        champion, challenger: Probabilities of the outcomes at a level.
        counted: Index under which each outcome is counted; None if it is not.
        segments: How many there are beside everybody else.
        lanes: How many challengers share the treated.
    """

    champion: Callable[[float], np.ndarray]
    challenger: Callable[[float], np.ndarray]
    counted: tuple[int | None, ...]
    segments: int = 0
    lanes: int = 1

    def generate(self, rng: np.random.Generator, traffic: Traffic, runs: int) -> Generated:
        groups = self.segments + 1
        batches = len(traffic.sizes)
        units = np.zeros((runs, batches, groups, self.lanes + 1), dtype=np.int64)
        cells = np.zeros((*units.shape, len(self.counted)), dtype=np.int32)
        for batch, (size, level) in enumerate(zip(traffic.sizes, traffic.levels, strict=True)):
            where = rng.multinomial(size, [1.0 / groups] * groups, size=runs)
            share = traffic.treated[batch]
            arms = [share / self.lanes] * self.lanes + [1.0 - share]
            units[:, batch] = rng.multinomial(where, arms)
            for arm in range(self.lanes + 1):
                odds = (self.champion if arm == self.lanes else self.challenger)(level)
                cells[:, batch, :, arm] = rng.multinomial(units[:, batch, :, arm], odds)
        return Generated(units, cells)

    def sample(self, cells: np.ndarray) -> Sample:
        places = np.flatnonzero(cells).tolist()
        return Sample(
            {
                index: int(cells[place])
                for place in places
                if (index := self.counted[place]) is not None
            }
        )


@dataclass(frozen=True, slots=True)
class Shares:
    """The chances of failure and success."""

    rate: float
    factor: float = 1.0

    def __call__(self, level: float) -> np.ndarray:
        p = self.rate * level * self.factor
        return np.array([1.0 - p, p])


@dataclass(frozen=True, slots=True)
class Stars:
    """The chances of one to five stars, tilted by the level.

    Args:
        shift: Of the mean; ones become fives.
    """

    shift: float = 0.0

    def __call__(self, level: float) -> np.ndarray:
        odds = np.array([0.12, 0.08, 0.2, 0.35, 0.25]) * np.exp(0.4 * (level - 1.0) * np.arange(5))
        return odds / odds.sum() + self.shift / 4.0 * np.array([-1.0, 0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True)
class Latencies:
    """The chances of the histogram's buckets: log-normal around 80 ms."""

    factor: float = 1.0

    def __call__(self, level: float) -> np.ndarray:
        edges = np.log(np.array(EDGES))
        below = ndtr((edges - log(80.0 * level * self.factor)) / 0.5)
        return np.diff(below, prepend=0.0, append=1.0)


@dataclass(frozen=True, slots=True)
class Values:
    """Each unit gives a number: often none, sometimes a lot; cut off at the cap.

    Args:
        active: Part of the units whose number is not 0.
        deviation: Of the number's logarithm.
        cap: Numbers beyond count as this.
        covariate: How much of the logarithm was known before; None if nothing is sent.
        shift: What is added to a challenger's numbers.
    """

    active: float
    deviation: float
    cap: float
    covariate: float | None = None
    shift: float = 0.0

    def generate(self, rng: np.random.Generator, traffic: Traffic, runs: int) -> Generated:
        batches = len(traffic.sizes)
        units = np.zeros((runs, batches, 1, 2), dtype=np.int64)
        cells = np.zeros((runs, batches, 1, 2, 6))
        for batch, (size, level) in enumerate(zip(traffic.sizes, traffic.levels, strict=True)):
            y, x = self._draw(rng, (runs, size), level)
            treated = rng.random((runs, size)) < traffic.treated[batch]
            sums = np.stack([np.ones_like(y), y, y * y, x, x * x, x * y], axis=-1)
            for arm, mask in enumerate((treated, ~treated)):
                units[:, batch, 0, arm] = mask.sum(axis=1)
                seen = np.einsum("rnk,rn->rk", sums, mask.astype(np.float64))
                if arm == 0 and self.shift:
                    seen[:, 5] += self.shift * seen[:, 3]
                    seen[:, 2] += self.shift * (2.0 * seen[:, 1] + self.shift * seen[:, 0])
                    seen[:, 1] += self.shift * seen[:, 0]
                cells[:, batch, 0, arm] = seen
        return Generated(units, cells)

    def _draw(self, rng, shape, level):
        known, new = rng.normal(size=shape), rng.normal(size=shape)
        part = self.covariate or 0.0
        size = np.exp(self.deviation * (part * known + np.sqrt(1.0 - part * part) * new))
        y = np.minimum(level * size, self.cap) * (rng.random(shape) < self.active)
        return y, np.exp(self.deviation * known) if self.covariate else np.zeros(shape)

    def sample(self, cells: np.ndarray) -> Sample:
        """Sums of squares do here, where the numbers are near 1; the engine does not use them."""
        n, y, yy, x, xx, xy = cells.tolist()
        if not n:
            return Sample()
        mean, mean_x = y / n, x / n
        moments = Moments(
            int(n),
            mean,
            max(yy - n * mean * mean, 0.0),
            mean_x,
            max(xx - n * mean_x * mean_x, 0.0),
            xy - n * mean * mean_x,
        )
        return Sample(moments={0 if self.covariate is None else 1: moments})
