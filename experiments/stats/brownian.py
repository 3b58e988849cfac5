"""A Brownian motion that is looked at now and then, and stops when it leaves a region.

Estimates that gather information behave like one: with information I (one over the squared
standard error) the score S = z * sqrt(I) has independent normal increments of variance the
growth of I, and a mean of drift * I.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log, sqrt
from typing import Self

import numpy as np
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

Array = NDArray[np.float64]

FARTHEST_Z = 8.0
"""No boundary lies beyond; a z-score gets there by chance with probability 6e-16."""

_PANEL_WIDTH = 3.0
_PANEL_NODES, _PANEL_WEIGHTS = leggauss(10)
_KERNEL_REACH = 9.0
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The motion from one look to the next, for those paths that were never stopped.

    The density at a look is kept as masses at quadrature nodes. They are placed only once the
    following look is known, because they must be dense compared with the shorter of the two
    steps: so looks may come at any times, however unequal.
    """

    nodes: Array
    """Where the score may have been at `start`."""

    mass: Array
    """How probable that is without drift, stopped paths left out."""

    start: float
    end: float
    """Information at the two looks."""

    @classmethod
    def first(cls, information: float) -> Self:
        """From nothing to the first look."""
        return cls(_read_only(np.zeros(1)), _read_only(np.ones(1)), 0.0, information)

    def above(self, z: float, *, drift: float = 0.0) -> float:
        """Probability of coming, never stopped, to a z-score above `z` at the end.

        The drift is put in afterwards, by its likelihood ratio: one recursion serves all drifts.
        """
        spread = sqrt(self.end - self.start)
        ahead = (self.nodes - z * sqrt(self.end)) / spread + drift * spread
        return float(self._tilted(drift) @ ndtr(ahead))

    def below(self, z: float, *, drift: float = 0.0) -> float:
        """Probability of coming, never stopped, to a z-score below `z` at the end."""
        spread = sqrt(self.end - self.start)
        behind = (z * sqrt(self.end) - self.nodes) / spread - drift * spread
        return float(self._tilted(drift) @ ndtr(behind))

    def z_exceeded_with(self, probability: float) -> float:
        """The z-score that `above` gives this (small) probability, at most 8."""
        if self.above(FARTHEST_Z) >= probability:
            return FARTHEST_Z
        if self.above(-FARTHEST_Z) <= probability:
            return -FARTHEST_Z

        def excess(z: float) -> float:
            return log(max(self.above(z), _SMALLEST) / probability)

        return float(brentq(excess, -FARTHEST_Z, FARTHEST_Z, xtol=1e-13, rtol=1e-14))

    def then(self, low: float, high: float, information: float) -> "Step":
        """Stop the paths whose z-score is not between `low` and `high`; the others go on."""
        root = sqrt(self.end)
        scale = sqrt(min(self.end - self.start, information - self.end))
        nodes, weights = _panels(low * root, high * root, scale)
        mass = weights * self._density(nodes)
        return Step(_read_only(nodes), _read_only(mass), self.end, information)

    def _tilted(self, drift: float) -> Array:
        if drift == 0.0:
            return self.mass
        # At most z * z / 2 in the exponent, so it cannot overflow.
        tilted: Array = self.mass * np.exp(drift * self.nodes - drift * drift * self.start / 2.0)
        return tilted

    def _density(self, x: Array) -> Array:
        """Density of the score at the end; steps beyond nine standard deviations are left out."""
        spread = sqrt(self.end - self.start)
        reach = _KERNEL_REACH * spread
        blocks = max(1, round((x[-1] - x[0]) / (2.0 * reach)))
        edges = np.linspace(0, x.size, blocks + 1, dtype=np.int64)
        density = np.empty_like(x)
        for low, high in pairwise(edges.tolist()):
            near = slice(
                np.searchsorted(self.nodes, x[low] - reach),
                np.searchsorted(self.nodes, x[high - 1] + reach, side="right"),
            )
            steps = (x[low:high, None] - self.nodes[near]) / spread
            density[low:high] = np.exp(-0.5 * steps * steps) @ self.mass[near]
        scaled: Array = density / (spread * sqrt(2.0 * np.pi))
        return scaled


def _panels(low: float, high: float, scale: float) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on panels about as wide as a step."""
    count = max(1, ceil((high - low) / (_PANEL_WIDTH * scale)))
    half = (high - low) / (2.0 * count)
    middles = low + half * (2.0 * np.arange(count) + 1.0)
    nodes = (middles[:, None] + half * _PANEL_NODES).ravel()
    return nodes, np.tile(half * _PANEL_WEIGHTS, count)


def _read_only(x: Array) -> Array:
    x.setflags(write=False)
    return x
