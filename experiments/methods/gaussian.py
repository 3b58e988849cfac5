"""Means and ratios, by normal approximation: valid at every look once dozens of units are seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.evidence import Sample
from experiments.methods import (
    NO_LEVEL,
    NO_MARGIN,
    Aim,
    Effect,
    Level,
    Margin,
    Shrunk,
    Stages,
)
from experiments.methods.scales import Scales
from experiments.metric import GROUPS
from experiments.stats.combine import weighted_mean_log_e
from experiments.stats.contrast import (
    Contrast,
    Estimate,
    contrast_difference_interval,
    contrast_log_e,
    contrast_ratio_interval,
)
from experiments.stats.covariate import adjusted
from experiments.stats.intervals import Insufficient
from experiments.stats.means import StageMoments, mean_arms
from experiments.stats.mixture import shrunk_estimate
from experiments.stats.moments import total
from experiments.stats.ratio import GroupedStage, GroupSums, ratio_arms
from experiments.stats.stages import Side

WITHOUT_COVARIATE, WITH_COVARIATE = 0, 1


@dataclass(frozen=True, slots=True)
class GaussianMethod:
    """A number per arm and its standard error.

    Two ways to get them: means over units, adjusted for what was known before; or, where units
    give outcomes again and again, a sum over another, whose spread is that between hash groups of
    units. Requests of one unit resemble each other; groups of units do not.
    """

    scales: Scales
    grouped: bool

    def compare(self, stages: Stages) -> "GaussianComparison":
        arms = ratio_arms(_groups(stages)) if self.grouped else mean_arms(_moments(stages))
        return GaussianComparison(self.scales, arms)

    def level(self, samples: Sequence[Sample], units: int) -> Level:
        found = total(moments for sample in samples for moments in sample.moments.values())
        if not found.n or (self.grouped and not found.mean_x):
            return NO_LEVEL
        if self.grouped:
            value = found.mean / found.mean_x
            return Level(value, f"{value:.6g} ({found.n:,} outcomes of {units:,} units)")
        return Level(found.mean, f"{found.mean:.6g} (of {found.n:,} units)")


@dataclass(frozen=True, slots=True)
class GaussianComparison:
    """Both arms' numbers, with their errors."""

    scales: Scales
    arms: Contrast | Insufficient

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        if isinstance(self.arms, Insufficient):
            return 0.0
        taus, parts = self.scales.of(aim)
        log_es = [
            contrast_log_e(
                self.arms, side=side, tau=tau, ratio=margin.ratio, difference=margin.difference
            )
            for tau in taus
        ]
        return weighted_mean_log_e(log_es, parts)

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        arms, tau = self.arms, self.scales.shown
        if isinstance(arms, Insufficient):
            return (Effect("difference", arms),)
        difference = contrast_difference_interval(arms, alpha=alpha, tau=tau, side=Side.TWO_SIDED)
        ratio = contrast_ratio_interval(arms, alpha=alpha, tau=tau)
        return (Effect("difference", difference), Effect("ratio", ratio))

    def shrunk(self) -> Shrunk | Insufficient:
        found = self.estimate()
        if isinstance(found, Insufficient):
            return found
        kept = shrunk_estimate(found.value, found.error, self.scales.shown)
        return Shrunk("difference", kept[0])

    def estimate(self) -> Estimate | Insufficient:
        return self.arms if isinstance(self.arms, Insufficient) else self.arms.against()


def _moments(stages: Stages) -> list[StageMoments]:
    """Units with a covariate and those without are compared within themselves, like stages."""
    with_covariate = _stratum(stages, WITH_COVARIATE)
    return [*adjusted(with_covariate), *_stratum(stages, WITHOUT_COVARIATE)]


def _stratum(stages: Stages, index: int) -> list[StageMoments]:
    return [
        StageMoments(stage.treatment.moments[index], stage.control.moments[index])
        for stage in stages
        if index in stage.treatment.moments and index in stage.control.moments
    ]


def _groups(stages: Stages) -> list[GroupedStage]:
    return [GroupedStage(_sums(stage.treatment), _sums(stage.control)) for stage in stages]


def _sums(sample: Sample) -> GroupSums:
    y, x = [0.0] * GROUPS, [0.0] * GROUPS
    for group, found in sample.moments.items():
        y[group], x[group] = found.n * found.mean, found.n * found.mean_x
    return GroupSums(tuple(y), tuple(x))
