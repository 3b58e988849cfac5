"""How often the engine decides wrongly, counted through its own tests and looks."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from scipy.stats import binomtest

from experiments.assessment import Verdicts as Challenger
from experiments.assessment import assess
from experiments.evidence import Evidence
from experiments.finding import Finding
from experiments.looks import Look, due
from experiments.model import Declaration, Horizon

CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Rate:
    """How often something happened that should be rare.

    Args:
        alpha: How often it may.
    """

    found: int
    runs: int
    alpha: float

    @property
    def share(self) -> float:
        return self.found / self.runs

    @property
    def interval(self) -> tuple[float, float]:
        """Exact (Clopper and Pearson), two-sided."""
        return tuple(binomtest(self.found, self.runs).proportion_ci(CONFIDENCE))

    @property
    def kept(self) -> bool:
        """The lower end of the interval does not exceed alpha."""
        return self.interval[0] <= self.alpha

    def __add__(self, other: "Rate") -> "Rate":
        return Rate(self.found + other.found, self.runs + other.runs, self.alpha)


PROMOTED, PROMOTED_IN_TIME, HARMED, SAFE, HALTED = (
    "promotion, open-ended",
    "promotion, bounded",
    "harm",
    "safety",
    "sample ratio",
)


@dataclass(slots=True)
class Verdicts:
    """What one run ever said, over all its looks."""

    declaration: Declaration
    horizon: int | None
    said: set[str] = field(default_factory=set)
    taken: tuple[Look, ...] = ()

    def hear(self, evidence: Evidence) -> None:
        """Look once more."""
        found = assess(self.declaration, evidence)
        if found.sample_ratio.reached:
            self.said.add(HALTED)
        for verdicts in found.challengers:
            if isinstance(verdicts.superior, Finding) and verdicts.superior.reached:
                self.said.add(PROMOTED)
            if verdicts.any_harm.reached:
                self.said.add(HARMED)
            if any(finding.reached for finding in (*verdicts.not_inferior, *_shown(verdicts))):
                self.said.add(SAFE)
        if self.horizon is not None and PROMOTED_IN_TIME not in self.said:
            self._look(evidence, self.horizon)

    def _look(self, evidence: Evidence, horizon: int) -> None:
        bounded = replace(self.declaration, horizon=Horizon(horizon))
        for version in self.declaration.challengers:
            look = due(bounded, evidence, version, self.taken)
            if look is not None:
                self.taken += (look,)
                if look.crossed:
                    self.said.add(PROMOTED_IN_TIME)


def _shown(verdicts: Challenger) -> tuple[Finding, ...]:
    """Return what is shown of a challenger in the shadow: agreement, or else its guardrails."""
    tests = verdicts.in_shadow
    if tests is None:
        return ()
    return tests.not_inferior if tests.agreement is None else (tests.agreement,)


def verdicts_on(
    declaration: Declaration, looks: Iterable[Evidence], *, horizon: int | None
) -> set[str]:
    """Return everything that was ever said in one run that is looked at to its end."""
    verdicts = Verdicts(declaration, horizon)
    for evidence in looks:
        verdicts.hear(evidence)
    return verdicts.said


def alpha_of(verdict: str, declaration: Declaration) -> float:
    """Return how often the engine promises that a verdict is false, at most."""
    alpha = declaration.alpha
    return {HARMED: alpha.harm, HALTED: alpha.sample_ratio}.get(verdict, alpha.promote)
