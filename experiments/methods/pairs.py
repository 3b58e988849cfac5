"""Bad answers in the shadow: both versions answer the same requests, so pairs are compared."""

from dataclasses import dataclass

from experiments.methods import NO_MARGIN, Aim, Effect, Margin, Shrunk
from experiments.stats.combine import weighted_mean_log_e
from experiments.stats.contrast import Estimate
from experiments.stats.intervals import Insufficient
from experiments.stats.paired import (
    Pairs,
    paired_difference_interval,
    paired_log_e,
    paired_ratio_interval,
)
from experiments.stats.proportion import below_rate_log_e
from experiments.stats.stages import Side

_EXACT = Insufficient("pairs are compared by exact tests alone")


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Pairs by which answer was bad; every test is exact, from the first pair.

    Args:
        negligible: Rate of bad answers that does not matter; None if every one does.
    """

    pairs: Pairs
    negligible: float | None = None

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        found = paired_log_e(
            self.pairs, side=side, ratio=margin.ratio, difference=margin.difference
        )
        if aim is not Aim.SAFE or side is not Side.LESS or self.negligible is None:
            return found
        # Harmless is a rate within the margin, or one so low that it does not matter. Were the
        # challenger harmful both nulls would hold, so the mean of both is an e-value.
        rare = below_rate_log_e(self.pairs.treatment_bad, self.pairs.n, rate=self.negligible)
        return weighted_mean_log_e((found, rare), (0.5, 0.5))

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        difference = paired_difference_interval(self.pairs, alpha=alpha)
        ratio = paired_ratio_interval(self.pairs, alpha=alpha)
        return (Effect("difference", difference), Effect("ratio", ratio))

    def shrunk(self) -> Shrunk | Insufficient:
        return _EXACT

    def estimate(self) -> Estimate | Insufficient:
        return _EXACT
