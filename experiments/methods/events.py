"""Units with an event: errors, slow answers, complaints. Rare, and often none in one arm."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log1p, sqrt
from typing import TypedDict

from experiments.evidence import Sample
from experiments.methods import (
    NO_LEVEL,
    NO_MARGIN,
    Aim,
    Compared,
    Design,
    Effect,
    Level,
    Margin,
    Shrunk,
    Stages,
)
from experiments.methods.scales import PARTS, SCALES
from experiments.stats.bounded import ScoreStage, score_log_e
from experiments.stats.combine import weighted_mean_log_e
from experiments.stats.contrast import Estimate
from experiments.stats.effects import rate_ratio_interval
from experiments.stats.events import event_ratio_log_e
from experiments.stats.intervals import Insufficient
from experiments.stats.proportion import below_rate_log_e
from experiments.stats.rate_ratio import RatioLikelihood
from experiments.stats.stages import Side, StageEvents

HARM = (0.7, 3.0)
"""Scales of the log rate ratio for harm: the mild kind, and a challenger that errs where the
champion never does."""

SAFETY = 0.7
"""Scale of the log rate ratio for being within a margin, and of the interval that is shown."""


@dataclass(frozen=True, slots=True)
class EventMethod:
    """Given that a unit has an event, in which arm is it? Needs no denominators.

    A margin that is absolute needs them: then units without an event count as well.

    Args:
        reported: Units without an event are reported too, so units of which nothing is known
            are not taken for them.
    """

    design: Design
    reported: bool = False

    def compare(self, stages: Stages) -> "EventComparison":
        if self.reported:
            stages = [
                replace(
                    stage,
                    treatment_units=sum(stage.treatment.counts.values()),
                    control_units=sum(stage.control.counts.values()),
                )
                for stage in stages
            ]
        return EventComparison(self.design, tuple(stages), tuple(bad_units(stages)))

    def level(self, samples: Sequence[Sample], units: int) -> Level:
        if self.reported:
            units = sum(sum(sample.counts.values()) for sample in samples)
        return share_of(sum(sample.counts.get(1, 0) for sample in samples), units)


@dataclass(frozen=True, slots=True)
class EventComparison:
    """Events per arm and stage, and the units that they happened to."""

    design: Design
    stages: tuple[Compared, ...]
    events: tuple[StageEvents, ...]

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        if margin.difference:
            return self._beyond_difference(side, margin)
        if aim is Aim.BETTER:
            log_es = [
                event_ratio_log_e(self.events, tau=log1p(multiple * self.design.effect), side=side)
                for multiple in SCALES
            ]
            return weighted_mean_log_e(log_es, PARTS)
        found = event_ratio_log_e(
            self.events,
            tau=HARM if aim is Aim.HARM else SAFETY,
            side=side,
            margin_ratio=margin.ratio,
        )
        if aim is not Aim.SAFE or side is not Side.LESS or self.design.negligible is None:
            return found
        # Harmless is a ratio below the margin, or a rate so low that its ratio does not matter.
        # Were the challenger harmful both nulls would hold, so the mean of both is an e-value.
        units = sum(stage.treatment_units for stage in self.stages)
        bad = min(units, sum(stage.treatment for stage in self.events))
        rare = below_rate_log_e(bad, units, rate=self.design.negligible)
        return weighted_mean_log_e((found, rare), (0.5, 0.5))

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        if not any(stage.treatment + stage.control for stage in self.events):
            return (Effect("ratio", NO_EVENT),)
        return (Effect("ratio", rate_ratio_interval(self.events, alpha=alpha, tau=SAFETY)),)

    def shrunk(self) -> Shrunk | Insufficient:
        likelihood = RatioLikelihood.of(self.events)
        if not likelihood.events:
            return NO_EVENT
        return Shrunk("ratio", exp(likelihood.posterior_mode(tau=SAFETY, one_sided=False)[0]))

    def estimate(self) -> Estimate | Insufficient:
        likelihood = RatioLikelihood.of(self.events)
        if not 0 < likelihood.treatment < likelihood.events:
            return Insufficient("no unit with an event in one of the arms")
        mode, error = likelihood.posterior_mode(tau=_FLAT, one_sided=False)
        return Estimate(mode, error)

    def _beyond_difference(self, side: Side, margin: Margin) -> float:
        return score_log_e(
            [_as_scores(stage) for stage in self.stages],
            (0.0, 1.0),
            side=side,
            difference=margin.difference,
            ratio=margin.ratio,
            **bets_on_rate(self.design, RARE),
        )


NO_EVENT = Insufficient("no unit with an event in either arm")

RARE = (0.001, 0.01, 0.1)
"""Rates of bad units to expect where none is known; they tune power only."""

_FLAT = 20.0


class RateBets(TypedDict):
    """What bets on the difference of two rates are tuned to."""

    centre: tuple[float, ...]
    spread: tuple[float, ...]
    tau: tuple[float, ...]


def bets_on_rate(design: Design, unknown: tuple[float, ...]) -> RateBets:
    """Return bets for outcomes of 0 and 1.

    Args:
        unknown: Rates to expect where no baseline is declared.
    """
    rates = unknown if design.baseline is None else (design.baseline,)
    largest = max(sqrt(rate * (1.0 - rate)) for rate in rates)
    matters = design.difference or design.effect * max(rates)
    return RateBets(centre=rates, spread=(largest,), tau=(matters, min(10.0 * matters, 1.0)))


def bad_units(stages: Stages) -> list[StageEvents]:
    """Return what the tests of events look at."""
    return [
        StageEvents(s.treatment.counts.get(1, 0), s.control.counts.get(1, 0), s.share)
        for s in stages
    ]


def _as_scores(stage: Compared) -> ScoreStage:
    bad1, bad0 = stage.treatment.counts.get(1, 0), stage.control.counts.get(1, 0)
    # An event may be counted a moment before the unit that had it.
    return ScoreStage(
        (max(0, stage.treatment_units - bad1), bad1),
        (max(0, stage.control_units - bad0), bad0),
        stage.share,
    )


def share_of(part: int, whole: int) -> Level:
    """Return a share of units; without units there is no share.

    Examples:
        >>> share_of(3, 40)
        Level(value=0.075, words='7.5 % (3 of 40)')
        >>> share_of(0, 0)
        Level(value=None, words='nothing yet')
    """
    if not whole:
        return NO_LEVEL
    return Level(part / whole, f"{100 * part / whole:.3g} % ({part:,} of {whole:,})")
