"""Requests that are repeated in the shadow, and what both answers are like."""

from collections.abc import Mapping

import numpy as np

from experiments.metric import Goal, Guardrail
from experiments.model import WHOLE, Declaration, Stage
from experiments.pairs import Agreed, Paired, compared_in_pairs
from experiments.simulation.truth import Truth, premises
from experiments.stats.paired import Pairs
from registry.refs import Version


class Pairing:
    """All pairs so far. A unit arrives once, so each gives one; how far apart is not simulated."""

    def __init__(self, declaration: Declaration, truth: Truth, rng: np.random.Generator) -> None:
        self._first = declaration.challengers[0]
        self._truth = truth
        self._rng = rng
        self._asked = compared_in_pairs(declaration)
        self._rates = {each.key: each.value for each in premises(declaration, truth)}
        self._seen: dict[Version, Paired] = {}

    def arrive(self, n: int, stage: Stage, dropped: tuple[Version, ...], *, drift: float) -> None:
        """Repeat the requests of those of `n` units that the stage says.

        Args:
            drift: What the rates are multiplied with at this moment, with everybody.
        """
        lane = stage.share / WHOLE / len(stage.challengers)
        for version in stage.challengers:
            # A lane that was dropped still has its units; nothing is repeated for them.
            units = int(self._rng.binomial(n, lane))
            if version not in dropped:
                self._add(version, units, drift)

    def evidence(self, stages: tuple[Stage, ...]) -> Mapping[Version, Paired]:
        """Return what there is to look at."""
        there = {version for stage in stages if stage.shadow for version in stage.challengers}
        return {version: self._seen.get(version, Paired()) for version in sorted(there)}

    def _add(self, version: Version, units: int, drift: float) -> None:
        before = self._seen.get(version, Paired())
        agree = self._truth.agreement if version == self._first else 1.0
        yes = int(self._rng.binomial(units, agree))
        self._seen[version] = Paired(
            units=before.units + units,
            pairs=before.pairs + units,
            bad={
                asked.metric.key: _sum(
                    before.bad_of(asked.metric), self._draw(asked, version, units, drift)
                )
                for asked in self._asked
            },
            agreed=Agreed(before.agreed.yes + yes, before.agreed.no + units - yes),
        )

    def _draw(self, asked: Goal | Guardrail, version: Version, units: int, drift: float) -> Pairs:
        champion = self._rates[asked.metric.key] * drift
        factor = self._truth.factor(asked) if version == self._first else 1.0
        challenger = champion * factor
        alike = self._truth.alike
        both = alike * min(champion, challenger) + (1.0 - alike) * champion * challenger
        alone, its = challenger - both, champion - both
        neither = max(0.0, 1.0 - alone - its - both)
        counts = self._rng.multinomial(units, [neither, alone, its, both]).tolist()
        return Pairs(*counts)


def _sum(one: Pairs, other: Pairs) -> Pairs:
    return Pairs(*map(sum, zip(one.counts, other.counts, strict=True)))
