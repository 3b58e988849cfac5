"""How long the shadow takes: until there are enough pairs, and until they show what is asked."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isfinite

from experiments.assessment import Verdicts, assess
from experiments.evidence import Evidence
from experiments.metric import ERROR_RATE, Goal, Guardrail
from experiments.model import WHOLE, Declaration, Shadow
from experiments.pairs import Agreed, Paired, compared_in_pairs
from experiments.planning.search import first
from experiments.stats.paired import Pairs

FAILING = 0.1
"""Part of the pairs in which a challenger fails that does gross harm; the champion never does."""


@dataclass(frozen=True, slots=True)
class PairNeed:
    """What it takes to have, or to show, something.

    Args:
        what: In words.
        pairs: Of different units, for each challenger; None if more than can be foreseen.
        units: That come until then, whose requests are repeated or not.
        seconds: None where the traffic is not known.
    """

    what: str
    pairs: int | None
    units: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ShadowForecast:
    """What the shadow needs.

    Args:
        share: Of the units whose requests are repeated, from 0 to 1.
        least: Until the gate can open at the earliest.
        needs: Until what is asked is shown, each under what is supposed in its words.
        harm: Until gross harm is found, about as often sooner as later.
    """

    share: float
    least: PairNeed
    needs: tuple[PairNeed, ...]
    harm: PairNeed


def forecast_shadow(declaration: Declaration, rate: float | None) -> ShadowForecast | None:
    """Look ahead at the shadow.

    *Estimand*: pairs until the tests of `experiments.shadow` have spoken, if just what is expected
    is seen: about the median.

    *Assumes*: as many units come in every second, each for the first time; none of their requests
    is dropped.

    Args:
        rate: Units a second; without it nothing is said about time.

    Returns:
        None where there is no shadow.
    """
    shadow = declaration.shadow
    if shadow is None:
        return None
    way = _Way(declaration, shadow, rate)
    return ShadowForecast(
        share=shadow.share / WHOLE,
        least=_least(way),
        needs=(*_agreement(way), *_kept(way)),
        harm=way.need(
            f"harm found, if the challenger alone fails in {FAILING:.0%} of the pairs",
            first(lambda n: way.seen(n, failing=FAILING).any_harm.reached),
        ),
    )


def seconds_in_shadow(declaration: Declaration, rate: float) -> float:
    """Return how long the shadow takes at the least; 0 where there is none."""
    if declaration.shadow is None:
        return 0.0
    return _least(_Way(declaration, declaration.shadow, rate)).seconds or 0.0


@dataclass(frozen=True, slots=True)
class _Way:
    declaration: Declaration
    shadow: Shadow
    rate: float | None

    def need(self, what: str, pairs: float) -> PairNeed:
        if not isfinite(pairs):
            return PairNeed(what, None, None, None)
        lane = self.shadow.share / WHOLE / len(self.declaration.challengers)
        units = ceil(pairs / lane)
        seconds = units / self.rate if self.rate else None
        return PairNeed(what, ceil(pairs), units, seconds)

    def seen(self, pairs: float, *, differ: float = 0.0, failing: float = 0.0) -> Verdicts:
        """Ask the tests what they make of expected counts."""
        n = round(pairs)
        bad, apart = round(n * failing), round(n * max(differ, failing))
        tables = {key: Pairs(n, 0, 0, 0) for key in map(_key, compared_in_pairs(self.declaration))}
        found = Paired(
            units=n,
            pairs=n,
            bad=tables | {ERROR_RATE: Pairs(n - bad, bad, 0, 0)},
            agreed=Agreed(n - apart, apart),
        )
        shadow = {self.declaration.challengers[0]: found}
        return assess(self.declaration, Evidence((), shadow=shadow)).challengers[0]


def _key(asked: Goal | Guardrail) -> str:
    return asked.metric.key


def _least(way: _Way) -> PairNeed:
    limits = way.declaration.limits
    part = limits.min_runtime.total_seconds() / way.declaration.gates
    by_pairs = way.need(f"{way.shadow.pairs:,} pairs, as the file asks", way.shadow.pairs)
    if by_pairs.seconds is None or by_pairs.seconds >= part:
        return by_pairs
    return PairNeed("its part of min_runtime", by_pairs.pairs, by_pairs.units, part)


def _agreement(way: _Way) -> tuple[PairNeed, ...]:
    declared = way.shadow.agreement
    if declared is None:
        return ()

    def is_shown(differ: float) -> Callable[[float], bool]:
        def shown(pairs: float) -> bool:
            found = way.seen(pairs, differ=differ).in_shadow
            assert found is not None
            assert found.agreement is not None
            return found.agreement.reached

        return shown

    return tuple(
        way.need(
            f"agreement of {100 * declared:g} % shown, if {100 * (1 - differ):.4g} % agree",
            first(is_shown(differ)),
        )
        for differ in ((1 - declared) / 2, 0.0)
    )


def _kept(way: _Way) -> tuple[PairNeed, ...]:
    """Where nobody is ever to meet it, guardrails have to be shown to be kept."""
    if not way.declaration.shadow_only:
        return ()

    def is_shown(pairs: float) -> bool:
        found = way.seen(pairs).in_shadow
        assert found is not None
        return all(each.reached for each in found.not_inferior)

    return (way.need("guardrails shown to be kept, if no answer is bad", first(is_shown)),)
