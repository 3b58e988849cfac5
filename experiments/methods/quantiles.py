"""A quantile of times, from a histogram whose edges never change."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, inf, log

from experiments.evidence import Sample
from experiments.methods import NO_LEVEL, NO_MARGIN, Aim, Effect, Level, Margin, Shrunk, Stages
from experiments.metric import Quantile
from experiments.stats.contrast import Estimate
from experiments.stats.histogram import histogram_quantile
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.mixture import shrunk_estimate
from experiments.stats.quantile_bets import QuantileStage
from experiments.stats.quantiles import quantile_log_e, quantile_log_es, quantile_ratio_interval
from experiments.stats.stages import Side
from experiments.stats.woodruff import quantile_log_ratio

TUNED_UNITS = 2_000
"""Units in each arm at which the test is sharpest."""

USUALLY_APART = log(1.5)
"""How far quantiles of two versions usually are apart, as a log ratio."""


@dataclass(frozen=True, slots=True)
class QuantileMethod:
    """Two beta-binomial tests at each edge, one per arm; the weakest edge decides."""

    kind: Quantile

    def compare(self, stages: Stages) -> "QuantileComparison":
        histograms = tuple(
            QuantileStage.of_histograms(stage.treatment.counts, stage.control.counts)
            for stage in stages
        )
        return QuantileComparison(self.kind, histograms)

    def level(self, samples: Sequence[Sample], units: int) -> Level:
        counts: dict[int, int] = {}
        for sample in samples:
            for bucket, count in sample.counts.items():
                counts[bucket] = counts.get(bucket, 0) + count
        found = histogram_quantile(counts, p=self.kind.p)
        if isinstance(found, Insufficient):
            return NO_LEVEL
        of = f"(of {sum(counts.values()):,} units)"
        if found.high == inf:
            return Level(found.low, f"over {found.low:.4g} ms {of}")
        return Level(found.high, f"{found.high:.4g} ms {of}")


@dataclass(frozen=True, slots=True)
class QuantileComparison:
    """Histograms per arm and stage."""

    kind: Quantile
    histograms: tuple[QuantileStage, ...]
    _found: dict[float, dict[Side, float]] = field(default_factory=dict, compare=False, repr=False)
    """By ratio. Who asks for one side asks for the other as well, and both come in one go."""

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        p, ratio = self.kind.p, margin.ratio
        if side is Side.TWO_SIDED:
            return quantile_log_e(self.histograms, p=p, ratio=ratio, tuned_n=TUNED_UNITS)
        if ratio not in self._found:
            both = quantile_log_es(self.histograms, p=p, ratio=ratio, tuned_n=TUNED_UNITS)
            self._found[ratio] = both
        return self._found[ratio][side]

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        found = quantile_ratio_interval(
            self.histograms, p=self.kind.p, alpha=alpha, tuned_n=TUNED_UNITS
        )
        estimate = self.estimate()
        if isinstance(found, Interval) and isinstance(estimate, Estimate):
            # Finer than whole buckets, which is all that the interval speaks of.
            middle = min(max(exp(estimate.value), found.low), found.high)
            found = Interval(found.low, found.high, middle)
        return (Effect("ratio", found),)

    def shrunk(self) -> Shrunk | Insufficient:
        found = self.estimate()
        if isinstance(found, Insufficient):
            return found
        return Shrunk("ratio", exp(shrunk_estimate(found.value, found.error, USUALLY_APART)[0]))

    def estimate(self) -> Estimate | Insufficient:
        return quantile_log_ratio(self.histograms, p=self.kind.p)
