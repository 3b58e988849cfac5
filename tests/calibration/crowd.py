"""A truth in which users come back, and a user's outcomes resemble each other."""

from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from experiments.evidence import Sample
from experiments.metric import GROUPS
from experiments.stats.moments import Moments
from tests.calibration.history import Generated
from tests.calibration.traffic import Traffic


class Seen(Enum):
    """What is observed of users."""

    EVERY = auto()
    """Every success and failure, by hash group."""
    RATIO = auto()
    """A numerator and a denominator per request, by hash group."""
    FIRST = auto()
    """The first success or failure of each user in each stage."""
    ALONE = auto()
    """Every success and failure, as if each were a unit of its own: wrong, for comparison."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """Users who each have a rate of their own, from nearly never to nearly always.

    Users arrive over time, as many in a batch as the traffic says, and then stay. Some ask ten
    times as often as others. Their bucket never changes; who met a challenger in an earlier stage
    is a veteran, and compared with nobody.

    Args:
        factor: Of a challenger's rates.
        requests: Per user and batch, on average.
    """

    seen: Seen
    factor: float = 1.0
    requests: float = 1.0

    def generate(self, rng: np.random.Generator, traffic: Traffic, runs: int) -> Generated:
        drawn = [self._run(rng, traffic) for _ in range(runs)]
        units = np.stack([each[0] for each in drawn])[:, :, None]
        cells = np.stack([each[1] for each in drawn])[:, :, None]
        return Generated(units, cells)

    def _run(self, rng: np.random.Generator, traffic: Traffic) -> tuple[np.ndarray, np.ndarray]:
        arrived = np.repeat(np.arange(len(traffic.sizes)), traffic.sizes)
        users = len(arrived)
        bucket, group = rng.integers(10_000, size=users), rng.integers(GROUPS, size=users)
        often = self.requests * rng.gamma(0.8, 1.0 / 0.8, users)
        rate = rng.beta(0.4, 3.6, users)
        units = np.zeros((len(traffic.sizes), 2), dtype=np.int64)
        cells = np.zeros((len(traffic.sizes), 2, GROUPS, 3))
        met: np.ndarray = np.zeros(users, dtype=bool)
        for batch, number in enumerate(traffic.stage_of):
            if batch and number != traffic.stage_of[batch - 1]:
                met = np.zeros(users, dtype=bool)
            here = np.flatnonzero(arrived <= batch)
            asked = np.zeros(users, dtype=np.int64)
            asked[here] = rng.poisson(often[here])
            stage = traffic.stages[number]
            challenged = bucket < stage.share
            chance = np.minimum(rate * traffic.levels[batch], 1.0)
            chance = np.where(challenged, chance * self.factor, chance)
            for arm, mask in enumerate((challenged & (bucket >= stage.floor), ~challenged)):
                new = (asked > 0) & ~met & mask
                units[batch, arm] = new.sum()
                who = new if self.seen is Seen.FIRST else (asked > 0) & mask
                cells[batch, arm] = self._cells(rng, asked[who], chance[who], group[who])
            met |= asked > 0
        return units, cells.reshape(len(traffic.sizes), 2, GROUPS * 3)

    def _cells(self, rng, asked, chance, group):
        if self.seen is Seen.RATIO:
            # As many tokens in a request, of which some part are of a kind.
            below = asked * 10.0 + rng.poisson(10.0 * asked)
            above = below * chance + rng.normal(size=len(asked)) * np.sqrt(asked)
        elif self.seen is Seen.FIRST:
            asked = np.ones_like(asked)
            below, above = asked, rng.random(len(asked)) < chance
        else:
            below, above = asked, rng.binomial(asked, chance)
        return np.stack(
            [np.bincount(group, each, GROUPS) for each in (asked, above, below)], axis=-1
        )

    def sample(self, cells: np.ndarray) -> Sample:
        by_group = cells.reshape(GROUPS, 3)
        if self.seen in (Seen.FIRST, Seen.ALONE):
            n, successes = int(by_group[:, 0].sum()), int(by_group[:, 1].sum())
            return Sample({1: successes, 0: n - successes})
        return Sample(
            moments={
                group: Moments(int(n), above / n, 0.0, below / n)
                for group, (n, above, below) in enumerate(by_group.tolist())
                if n
            }
        )
