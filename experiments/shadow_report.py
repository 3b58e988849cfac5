"""What an experiment shows in the shadow, for people: its tests, and how large differences are."""

from collections.abc import Mapping

from experiments.assessment import Verdicts
from experiments.evidence import Evidence
from experiments.finding import Finding
from experiments.methods.events import share_of
from experiments.metric import Goal, Guardrail
from experiments.model import Declaration
from experiments.pairs import Paired, compared_in_pairs
from experiments.reported import EvidenceReport, PairsReport, Range, ShadowReport
from experiments.restated import effect_of, level_of, margins_of, range_of, test_of
from experiments.shadow import pair_comparison
from experiments.stats.intervals import Insufficient
from experiments.stats.moments import Moments
from experiments.stats.paired import paired_mean_interval
from experiments.stats.proportion import bernoulli_interval
from registry.refs import Version


def report_shadow(
    declaration: Declaration, evidence: Evidence, verdicts: Verdicts
) -> ShadowReport | None:
    """Return everything that pairs of answers tell of a challenger; None without a shadow."""
    shadow, tests = declaration.shadow, verdicts.in_shadow
    if shadow is None or tests is None:
        return None
    seen, alpha = evidence.paired(verdicts.version), interval_alpha(declaration)

    def mean(differences: Moments) -> Range | Insufficient:
        return range_of(paired_mean_interval(differences, alpha=alpha, planned=shadow.pairs))

    return ShadowReport(
        level=1 - alpha,
        units=seen.units,
        needed=shadow.pairs,
        pairs=seen.pairs,
        dropped=seen.dropped,
        dropped_share=seen.dropped_share if seen.pairs + seen.dropped else None,
        agreement=level_of(share_of(seen.agreed.yes, seen.agreed.n)),
        agreement_range=range_of(bernoulli_interval(seen.agreed.yes, seen.agreed.n, alpha=alpha)),
        declared=shadow.agreement,
        difference=mean(seen.difference),
        latency=mean(seen.latency),
        slower=level_of(share_of(seen.slower, seen.slower + seen.faster)),
        slower_range=range_of(
            bernoulli_interval(seen.slower, seen.slower + seen.faster, alpha=alpha)
        ),
        metrics=tuple(
            _metric(asked, seen, verdicts, alpha) for asked in compared_in_pairs(declaration)
        ),
        tests=() if tests.agreement is None else _agreement_tests(tests.agreement, verdicts),
    )


def measure_shadow(
    declaration: Declaration, evidence: Evidence, version: Version
) -> Mapping[str, tuple[float | None, ...]]:
    """Return what a picture over time shows of the shadow: how many answers differ."""
    if declaration.shadow is None:
        return {}
    agreed = evidence.paired(version).agreed
    found = bernoulli_interval(agreed.no, agreed.n, alpha=interval_alpha(declaration))
    return {f"{version}/{DIFFERS}": (found.estimate, found.low, found.high, None)}


DIFFERS = "answers that differ"
"""Beside the keys of metrics; no key has blanks."""


def interval_alpha(declaration: Declaration) -> float:
    """Return how often an interval may err.

    Two-sided, so that each end errs as rarely as a promotion, over all challengers together.
    """
    return 2 * declaration.alpha.promote / len(declaration.challengers)


def _metric(asked: Goal | Guardrail, seen: Paired, verdicts: Verdicts, alpha: float) -> PairsReport:
    pairs = seen.bad_of(asked.metric)
    effects = pair_comparison(asked, seen).effects(alpha=alpha)
    return PairsReport(
        metric=asked.metric.key,
        neither=pairs.neither,
        challenger_alone=pairs.treatment,
        champion_alone=pairs.control,
        both=pairs.both,
        champion=level_of(share_of(pairs.control_bad, pairs.n)),
        challenger=level_of(share_of(pairs.treatment_bad, pairs.n)),
        effects=tuple(effect_of(effect, 1 - alpha) for effect in effects),
        margins=() if isinstance(asked, Goal) else margins_of(asked),
        tests=_tests(asked.metric.key, verdicts),
    )


def _tests(key: str, verdicts: Verdicts) -> tuple[EvidenceReport, ...]:
    assert verdicts.in_shadow is not None
    kept = (found for found in verdicts.in_shadow.not_inferior if found.metric == key)
    return (*(test_of("not inferior", found) for found in kept), _harm(key, verdicts))


def _agreement_tests(agreement: Finding, verdicts: Verdicts) -> tuple[EvidenceReport, ...]:
    return (test_of("agrees", agreement), _harm(agreement.metric, verdicts))


def _harm(key: str, verdicts: Verdicts) -> EvidenceReport:
    return test_of("harm", next(f for f in verdicts.harm if f.shadow and f.metric == key))
