"""A challenger beside the champion, one metric at a time, stage by stage."""

from collections.abc import Sequence

from experiments.evidence import StageEvidence, Tally
from experiments.methods import Compared, Level, Method
from experiments.metric import Metric
from registry.refs import Version


def compared(metric: Metric, stages: Sequence[StageEvidence], version: Version) -> list[Compared]:
    """Return what the tests of a metric look at: stages in which the challenger was on trial."""
    key = metric.key
    return [
        Compared(
            treatment=treatment.sample(key),
            control=stage.champion.sample(key),
            treatment_units=treatment.units_of(key),
            control_units=stage.champion.units_of(key),
            share=stage.probability,
        )
        for stage in stages
        if (treatment := stage.challengers.get(version)) is not None
    ]


def levels(
    method: Method, metric: Metric, stages: Sequence[StageEvidence], version: Version
) -> tuple[Level, Level]:
    """Return what the champion shows and what the challenger does, where both were on trial."""

    def level(arm: list[Tally]) -> Level:
        samples = [tally.sample(metric.key) for tally in arm]
        return method.level(samples, sum(tally.units_of(metric.key) for tally in arm))

    there = [stage for stage in stages if version in stage.challengers]
    return level([s.champion for s in there]), level([s.challengers[version] for s in there])
