"""Success or failure, once per unit: exact tests that need no model of the outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p

from experiments.evidence import Sample
from experiments.methods import NO_MARGIN, Aim, Design, Effect, Level, Margin, Shrunk, Stages
from experiments.methods.events import HARM, SAFETY, bets_on_rate, share_of
from experiments.methods.scales import PARTS, SCALES
from experiments.stats.binary import UNKNOWN_RATE, Scale, randomisation_log_e, share_surplus
from experiments.stats.bounded import ScoreStage, score_log_e
from experiments.stats.combine import weighted_mean_log_e
from experiments.stats.contrast import Estimate
from experiments.stats.effects import (
    rate_ratio_interval,
    risk_difference,
    risk_difference_interval,
)
from experiments.stats.events import event_ratio_log_e
from experiments.stats.intervals import Insufficient
from experiments.stats.mixture import shrunk_estimate
from experiments.stats.stages import Side, StageCounts, StageEvents

GROSS = 1.5
"""Scale of the log odds ratio for harm: finds gross harm in tens of units."""

USUAL_BASELINE = 0.5
"""Rate that sizes the interval where none is declared; it costs width, never truth."""

EXPECTED_EFFECTS = 3.0
"""Differences that the interval is sharpest for, in multiples of the smallest one of interest."""

LEAST_EXPECTED = 1e-9
"""No difference of rates that anybody sees is smaller; none is larger than 1."""


@dataclass(frozen=True, slots=True)
class BinaryMethod:
    """Without a margin, bets on the arm once the outcome is known; with one, on the outcome too."""

    design: Design

    def compare(self, stages: Stages) -> "BinaryComparison":
        return BinaryComparison(self.design, tuple(both_outcomes(stages)))

    def level(self, samples: Sequence[Sample], units: int) -> Level:
        successes = sum(sample.counts.get(1, 0) for sample in samples)
        return share_of(successes, successes + sum(s.counts.get(0, 0) for s in samples))


@dataclass(frozen=True, slots=True)
class BinaryComparison:
    """Successes and failures per arm and stage."""

    design: Design
    counts: tuple[StageCounts, ...]

    def log_e(self, *, side: Side, margin: Margin = NO_MARGIN, aim: Aim = Aim.HARM) -> float:
        if margin != NO_MARGIN:
            return self._beyond(side, margin, aim)
        if aim is not Aim.BETTER:
            return self._differs(side, GROSS, Scale.ODDS_RATIO)
        log_es = [
            self._differs(side, log1p(multiple * self.design.effect), Scale.RATE_RATIO)
            for multiple in SCALES
        ]
        found = weighted_mean_log_e(log_es, PARTS)
        if self.design.baseline is not None:
            return found
        # Some of the rates that are tried are far from the truth, and bet on which arm reports its
        # outcomes more often. That must not make a challenger the better one.
        return found - share_surplus(self.counts)

    def effects(self, *, alpha: float) -> tuple[Effect, ...]:
        difference = risk_difference_interval(self.counts, alpha=alpha, tau=self._tau)
        ratio = rate_ratio_interval(_successes(self.counts), alpha=alpha, tau=SAFETY)
        return (Effect("difference", difference), Effect("ratio", ratio))

    def shrunk(self) -> Shrunk | Insufficient:
        found = self.estimate()
        if isinstance(found, Insufficient):
            return found
        return Shrunk("difference", shrunk_estimate(found.value, found.error, self._tau)[0])

    def estimate(self) -> Estimate | Insufficient:
        return risk_difference(self.counts)

    def _differs(self, side: Side, tau: float, scale: Scale) -> float:
        return randomisation_log_e(
            self.counts, tau=tau, planning_rate=self._rates, side=side, scale=scale
        )

    def _beyond(self, side: Side, margin: Margin, aim: Aim) -> float:
        """Two valid tests of the same null, sharp where successes are many, or few."""
        on_outcome = score_log_e(
            [
                ScoreStage(
                    (s.treatment_failures, s.treatment_successes),
                    (s.control_failures, s.control_successes),
                    s.share,
                )
                for s in self.counts
            ],
            (0.0, 1.0),
            side=side,
            difference=margin.difference,
            ratio=margin.ratio,
            **bets_on_rate(self.design, UNKNOWN_RATE),
        )
        if margin.difference:
            return on_outcome
        on_arm = event_ratio_log_e(
            _successes(self.counts),
            tau=HARM if aim is Aim.HARM else SAFETY,
            side=side,
            margin_ratio=margin.ratio,
        )
        return weighted_mean_log_e((on_outcome, on_arm), (0.5, 0.5))

    @property
    def _rates(self) -> tuple[float, ...]:
        return UNKNOWN_RATE if self.design.baseline is None else (self.design.baseline,)

    @property
    def _tau(self) -> float:
        baseline = USUAL_BASELINE if self.design.baseline is None else self.design.baseline
        return min(max(EXPECTED_EFFECTS * self.design.effect * baseline, LEAST_EXPECTED), 1.0)


def both_outcomes(stages: Stages) -> list[StageCounts]:
    """Return what the tests of a binary metric look at."""
    return [
        StageCounts(
            s.treatment.counts.get(1, 0),
            s.treatment.counts.get(0, 0),
            s.control.counts.get(1, 0),
            s.control.counts.get(0, 0),
            s.share,
        )
        for s in stages
    ]


def _successes(counts: Sequence[StageCounts]) -> list[StageEvents]:
    return [StageEvents(s.treatment_successes, s.control_successes, s.share) for s in counts]
