"""Ratings and other bounded scores on a grid: exact betting tests of the mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

from experiments.evidence import Sample
from experiments.methods import (
    NO_LEVEL,
    NO_MARGIN,
    Aim,
    Design,
    Effect,
    Level,
    Margin,
    Shrunk,
    Stages,
)
from experiments.methods.scales import Scales
from experiments.metric import Score
from experiments.stats.bounded import ScoreStage, score_difference_interval, score_log_e
from experiments.stats.combine import weighted_mean_log_e
from experiments.stats.contrast import Estimate
from experiments.stats.intervals import Insufficient
from experiments.stats.means import StageMoments, mean_contrast
from experiments.stats.mixture import shrunk_estimate
from experiments.stats.moments import Moments
from experiments.stats.stages import Side


@dataclass(frozen=True, slots=True)
class ScoreMethod:
    """Bets on the mean score with a fixed mixture of stakes, so only the counts matter."""

    design: Design
    kind: Score

    def compare(self, stages: Stages) -> "ScoreComparison":
        places = range(len(self.kind.grid))
        counts = tuple(
            ScoreStage(
                tuple(stage.treatment.counts.get(place, 0) for place in places),
                tuple(stage.control.counts.get(place, 0) for place in places),
                stage.share,
            )
            for stage in stages
        )
        return ScoreComparison(self.design, self.kind, counts)

    def level(self, samples: Sequence[Sample], units: int) -> Level:
        n = sum(sum(sample.counts.values()) for sample in samples)
        if not n:
            return NO_LEVEL
        grid = self.kind.grid
        total = fsum(grid[i] * count for sample in samples for i, count in sample.counts.items())
        return Level(total / n, f"{total / n:.4g} (of {n:,} units)")


@dataclass(frozen=True, slots=True)
class ScoreComparison:
    """How often each value was given, per arm and stage."""

    design: Design
    kind: Score
    counts: tuple[ScoreStage, ...]

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        taus, parts = self._scales.of(aim)
        log_es = [
            score_log_e(
                self.counts,
                self.kind.grid,
                side=side,
                difference=margin.difference,
                ratio=margin.ratio,
                centre=self._centres,
                spread=self._spreads,
                tau=tau,
            )
            for tau in taus
        ]
        return weighted_mean_log_e(log_es, parts)

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        found = score_difference_interval(
            self.counts,
            self.kind.grid,
            alpha=alpha,
            centre=self._centres,
            spread=self._spreads,
            tau=self._scales.shown,
        )
        return (Effect("difference", found),)

    def shrunk(self) -> Shrunk | Insufficient:
        found = self.estimate()
        if isinstance(found, Insufficient):
            return found
        kept = shrunk_estimate(found.value, found.error, self._scales.shown)
        return Shrunk("difference", kept[0])

    def estimate(self) -> Estimate | Insufficient:
        return mean_contrast(
            [
                StageMoments(self._moments(stage.treatment), self._moments(stage.control))
                for stage in self.counts
            ]
        )

    @property
    def _scales(self) -> Scales:
        return Scales(self.design, self.kind.high - self.kind.low)

    @property
    def _spreads(self) -> tuple[float, ...]:
        if self.design.spread is not None:
            return (self.design.spread,)
        extent = self.kind.high - self.kind.low
        return (0.1 * extent, 0.3 * extent)

    @property
    def _centres(self) -> tuple[float, ...]:
        if self.design.baseline is not None:
            return (self.design.baseline,)
        extent = self.kind.high - self.kind.low
        return tuple(self.kind.low + part * extent for part in (0.1, 0.5, 0.9))

    def _moments(self, counts: tuple[int, ...]) -> Moments:
        """Return the moments that the counts stand for."""
        n = sum(counts)
        if not n:
            return Moments(0)
        grid = self.kind.grid
        mean = fsum(value * count for value, count in zip(grid, counts, strict=True)) / n
        spread = (count * (value - mean) ** 2 for value, count in zip(grid, counts, strict=True))
        return Moments(n, mean, fsum(spread))
