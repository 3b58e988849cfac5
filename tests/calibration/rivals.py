"""Other ways to decide, on the same counts: the published ones, and the one that is wrong.

None of these is used by the engine. Each gives, per run, the look at which it first rejects.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, sqrt

import numpy as np
from scipy.special import betaln

from experiments.stats.designs import boundary_constant, inflation
from experiments.stats.spending import boundary
from experiments.stats.tuning import approximate_omega, omega_star

ALPHA = 0.05
GROWTHBOOK_TUNING = 5_000
BOUNDED_HORIZON = 1.055
GROUPS_OF_LOOKS = 5


@dataclass(frozen=True, slots=True)
class Counts:
    """Runs x looks, added up: of the treatment (1) and the control (0).

    Args:
        fixed: Units an arm that one look needs.
    """

    n1: np.ndarray
    s1: np.ndarray
    n0: np.ndarray
    s0: np.ndarray
    fixed: float
    control: float
    treatment: float

    @property
    def parts(self) -> np.ndarray:
        """Sample at each look, over the fixed sample."""
        return (self.n1[0] + self.n0[0]) / (2.0 * self.fixed)

    @property
    def z(self) -> np.ndarray:
        """Difference over its standard error, both arms' spread their own."""
        return self._difference / np.sqrt(self._square)

    @property
    def information(self) -> np.ndarray:
        return 1.0 / self._square

    @property
    def _difference(self) -> np.ndarray:
        return self.s1 / self.n1 - self.s0 / self.n0

    @property
    def _square(self) -> np.ndarray:
        p1, p0 = self.s1 / self.n1, self.s0 / self.n0
        square = p1 * (1.0 - p1) / self.n1 + p0 * (1.0 - p0) / self.n0
        return np.maximum(square, 1e-12)


def first(rejected: np.ndarray) -> np.ndarray:
    """Return the index of the first look that rejects, per run; -1 if none does."""
    return np.where(rejected.any(axis=1), rejected.argmax(axis=1), -1)


def mixture_log_e(z: np.ndarray, w: np.ndarray | float) -> np.ndarray:
    """Return what `normal_mixture_log_e` does for two sides, many at a time."""
    return -0.5 * np.log1p(w) + z * z * w / (2.0 * (1.0 + w))


def every_look(counts: Counts) -> np.ndarray:
    """Compare each z-score with 1.96, as if it were the only one."""
    return first(np.abs(counts.z) > 1.959964)


def one_look(counts: Counts) -> np.ndarray:
    """Compare the z-score at the fixed sample only."""
    rejected = np.zeros_like(counts.z, dtype=bool)
    at = int(np.argmax(counts.parts >= 1.0 - 1e-9))
    rejected[:, at] = np.abs(counts.z[:, at]) > 1.959964
    return first(rejected)


def asymptotic_sequence(counts: Counts) -> np.ndarray:
    """Look at the asymptotic confidence sequence that is narrowest at the fixed sample.

    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52.
    """
    spread = counts.control * (1.0 - counts.control) + counts.treatment * (1.0 - counts.treatment)
    tau_squared = omega_star(ALPHA) * spread / counts.fixed
    return first(mixture_log_e(counts.z, tau_squared * counts.information) >= log(1.0 / ALPHA))


def growthbook(counts: Counts) -> np.ndarray:
    """Look at GrowthBook's sequential interval with its usual tuning, 5,000 units."""
    n = counts.n1 + counts.n0
    w = approximate_omega(ALPHA) * n / GROWTHBOOK_TUNING
    return first(mixture_log_e(counts.z, w) >= log(1.0 / ALPHA))


def sequential_ratio(counts: Counts) -> np.ndarray:
    """Look at the mixture sequential probability ratio, its prior as wide as the effect.

    Johari, Koomen, Pekelis and Walsh (2022), Operations Research 70: w = n tau^2 / V, with the
    variance of both arms pooled.
    """
    tau = counts.treatment - counts.control
    p = (counts.s1 + counts.s0) / (counts.n1 + counts.n0)
    square = np.maximum(p * (1.0 - p) * (1.0 / counts.n1 + 1.0 / counts.n0), 1e-12)
    z = (counts.s1 / counts.n1 - counts.s0 / counts.n0) / np.sqrt(square)
    return first(mixture_log_e(z, tau * tau / square) >= log(1.0 / ALPHA))


def successes_only(counts: Counts) -> np.ndarray:
    """Bet on the arm of each success, and on nothing else.

    Lindon and Malek (2022), "Anytime-Valid Inference for Multinomial Count Data", NeurIPS: the
    beta-binomial mixture, tuned to the successes at the fixed sample.
    """
    planned = counts.fixed * (counts.control + counts.treatment)
    prior = 0.5 * planned / omega_star(ALPHA)
    log_e = (
        betaln(prior + counts.s1, prior + counts.s0)
        - betaln(prior, prior)
        + (counts.s1 + counts.s0) * log(2.0)
    )
    return first(log_e >= log(1.0 / ALPHA))


def spending(counts: Counts) -> np.ndarray:
    """Spend like O'Brien and Fleming at every look, up to a declared end; two-sided."""
    return _at_looks(counts, _spending_boundaries(counts.parts / BOUNDED_HORIZON))


def group_sequential(counts: Counts) -> np.ndarray:
    """Look five times, with O'Brien and Fleming's boundaries; two-sided."""
    most = inflation(GROUPS_OF_LOOKS, alpha=ALPHA, power=0.8)
    constant = boundary_constant(GROUPS_OF_LOOKS, alpha=ALPHA)
    limits = np.full(len(counts.parts), np.inf)
    for look in range(1, GROUPS_OF_LOOKS + 1):
        share = look / GROUPS_OF_LOOKS
        at = int(np.argmax(counts.parts >= most * share - 1e-9))
        limits[at] = constant / sqrt(share)
    return _at_looks(counts, limits)


def _spending_boundaries(times: np.ndarray) -> np.ndarray:
    limits, looks = np.full(len(times), np.inf), ()
    for look, time in enumerate(times.tolist()):
        looks = (*looks, (min(time, 1.0), time))
        limits[look] = boundary(looks, alpha=ALPHA, sides=2)
        if time >= 1.0:
            break
    return limits


def _at_looks(counts: Counts, limits: np.ndarray) -> np.ndarray:
    return first(np.abs(counts.z) >= limits)


@dataclass(frozen=True, slots=True)
class Rival:
    """A way to decide.

    Args:
        end: Fixed samples after which it gives up; None if it need not.
    """

    name: str
    decide: Callable[[Counts], np.ndarray]
    end: float | None = None


RIVALS = (
    Rival("z-test at every look", every_look),
    Rival("one look at the fixed sample", one_look, 1.0),
    Rival("asymptotic confidence sequence, tuned", asymptotic_sequence),
    Rival("mixture sequential ratio (mSPRT)", sequential_ratio),
    Rival("GrowthBook's sequential, usual tuning", growthbook),
    Rival("successes only (Lindon and Malek)", successes_only),
    Rival("alpha spending at every look", spending, BOUNDED_HORIZON),
    Rival("five looks, O'Brien and Fleming", group_sequential, 1.028),
)


def looks_until(parts: float, fixed: float, batch: int) -> int:
    """Return after how many batches so many fixed samples are seen."""
    return ceil(parts * 2.0 * fixed / batch - 1e-9)
