"""How long it takes to show that a guardrail is kept, and how soon gross harm is found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite, log, sqrt

from scipy.special import ndtri

from experiments.assessment import assess
from experiments.evidence import Evidence, Sample
from experiments.metric import Count, Direction, Goal, Guardrail, Mean, Quantile, Ratio, Slow, Worse
from experiments.model import Declaration
from experiments.planning.expected import LEAST_ALPHA, Known, evidence_of, known, sample_of
from experiments.planning.goal import POWERS, Need, alpha_of, whole
from experiments.planning.ramp import Ramp
from experiments.planning.search import first
from experiments.stats.designs import fixed_signal
from experiments.stats.intervals import Insufficient


@dataclass(frozen=True, slots=True)
class Safety:
    """What it takes to show that a guardrail is kept, if the challenger equals the champion.

    Args:
        margin: In words.
        at_one_look: As it would be if only one look were taken, at the end.
        kept: At any one look, in either mode.
        if_none: For bad units: that come until it is shown, if the challenger has none at all;
            None for other metrics.
    """

    metric: str
    margin: str
    at_one_look: tuple[Need, ...] | Insufficient
    kept: tuple[Need, ...] | Insufficient
    if_none: Need | None


@dataclass(frozen=True, slots=True)
class Found:
    """When harm is found in the first stage, as often sooner as later.

    Args:
        units: Of the challenger.
        seconds: None where the traffic is not known.
    """

    units: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Harm:
    """How soon one kind of gross harm is found in the first stage.

    Args:
        what: From which value to which.
        found: None if never.
    """

    metric: str
    what: str
    found: Found | Insufficient | None


def forecast_safety(declaration: Declaration, ramp: Ramp, guardrail: Guardrail) -> Safety:
    """Return what it takes to show that a guardrail is kept.

    *Estimand*: units until the e-value for "within the margin" is large enough at one look, with a
    given probability; a promotion needs all of them large at the same look.

    *Assumes*: the challenger equals the champion.

    *Valid*: the test itself is asked; what it is asked about, an estimate that is as bad as chance
    makes it one time in so many, is asymptotic.
    """
    found = known(guardrail)
    is_bad = isinstance(guardrail.metric.kind, Slow | Count)
    once: tuple[Need, ...] | Insufficient
    needs: tuple[Need, ...] | Insufficient
    if isinstance(found, Insufficient):
        once = needs = found
    elif alpha_of(declaration) < LEAST_ALPHA:
        once = needs = Insufficient("alpha.promote is too small for any forecast")
    else:
        way = _Way(declaration, ramp, found)
        once = tuple(way.need(p, _at_one_look(way, guardrail, p)) for p in POWERS)
        needs = tuple(way.need(p, first(partial(way.is_kept, power=p))) for p in POWERS)
    return Safety(
        metric=guardrail.key,
        margin=_margin(guardrail),
        at_one_look=once,
        kept=needs,
        if_none=_if_none(declaration, ramp, guardrail) if is_bad else None,
    )


def forecast_harm(
    declaration: Declaration, ramp: Ramp, asked: Goal | Guardrail
) -> tuple[Harm, ...]:
    """Return how soon gross harm is found, were the first stage to last as long.

    *Estimand*: units of the challenger until the weighted mean of the e-values for harm is large
    enough, if exactly what is expected happens: about the median.
    """
    key, found = asked.metric.key, known(asked)
    if isinstance(asked.metric.kind, Quantile):
        assert isinstance(found, Insufficient)
        return (Harm(key, "gross harm", found),)
    low_is_bad = _low_is_bad(asked)
    is_bad_share = isinstance(asked.metric.kind, Slow | Count)
    factor = _gross(asked)
    gross = f"{'1/' if low_is_bad else ''}{factor:g} times the champion's"
    if isinstance(found, Insufficient):
        harms = [Harm(key, gross, found)]
        if is_bad_share and not low_is_bad:
            never = Known(asked, 0.0, None, "ratio")
            harm = _found(declaration, ramp, never, 1.0)
            harms.append(Harm(key, "from none to every unit", harm))
        return tuple(harms)
    harms = []
    moved = found.baseline * (1.0 / factor if low_is_bad else factor)
    low, high = found.limits
    if low < moved < high:
        harms.append(Harm(key, gross, _found(declaration, ramp, found, moved)))
    if not isinstance(asked.metric.kind, Mean | Ratio):
        harm = _found(declaration, ramp, found, low if low_is_bad else high)
        words = "none" if low_is_bad else "every unit"
        worst = words if found.spread is None else f"{low if low_is_bad else high:g}"
        harms.append(Harm(key, f"from {_value(found)} to {worst}", harm))
    return tuple(harms)


@dataclass(frozen=True, slots=True)
class _Way:
    """One guardrail along the ramp."""

    declaration: Declaration
    ramp: Ramp
    known: Known

    @property
    def guardrail(self) -> Guardrail:
        assert isinstance(self.known.asked, Guardrail)
        return self.known.asked

    def need(self, power: float, units: float) -> Need:
        return _need(self.ramp, self.guardrail, power, units)

    def is_kept(self, units: float, power: float) -> bool:
        """Whether it shows, even if the estimate is one of the worst that chance allows."""
        worse = self.guardrail.worse
        # Two margins are both kept if neither tail of the estimate is beyond its own.
        bad_luck = float(ndtri((1.0 + power) / 2.0 if worse is Worse.EITHER else power))
        distance = bad_luck * self.known.error(self.ramp, units, self.known.baseline)
        signs = {Worse.HIGHER: (1.0,), Worse.LOWER: (-1.0,), Worse.EITHER: (1.0, -1.0)}[worse]
        return all(self._passes(units, self.known.at(sign * distance)) for sign in signs)

    def _passes(self, units: float, value: float) -> bool:
        values = (self.known.baseline, value)
        returning = self.declaration.returning

        def sample(treated: bool, n: int) -> Sample:
            return sample_of(self.known, values[treated], n, returning=returning)

        return _is_safe(self.declaration, self.ramp, self.guardrail, units, sample)


def _is_safe(
    declaration: Declaration,
    ramp: Ramp,
    guardrail: Guardrail,
    units: float,
    sample: Callable[[bool, int], Sample],
) -> bool:
    alone = replace(declaration, guardrails=(guardrail,), segments=None, horizon=None)
    evidence = evidence_of(alone, ramp, units, sample, key=guardrail.key)
    return assess(alone, evidence).challengers[0].not_inferior[0].reached


def _if_none(declaration: Declaration, ramp: Ramp, guardrail: Guardrail) -> Need:
    def is_safe(units: float) -> bool:
        return _is_safe(declaration, ramp, guardrail, units, lambda *_: Sample())

    return _need(ramp, guardrail, 1.0, first(is_safe))


def _need(ramp: Ramp, guardrail: Guardrail, power: float, units: float) -> Need:
    if not isfinite(units):
        return Need(power, None, None, (), None)
    window = guardrail.metric.window
    late = window.total_seconds() if window else 0.0
    return Need(
        power=power,
        units=round(units),
        compared=round(ramp.gathered(units, ramp.compared)),
        stages=whole(ramp.parts(units)),
        seconds=ramp.seconds(max(units + late * (ramp.rate or 0.0), ramp.least)),
    )


def _at_one_look(way: _Way, guardrail: Guardrail, power: float) -> float:
    """Units that one look needs: for the margin, or for the rate that does not matter."""
    found, ramp = way.known, way.ramp
    alpha = alpha_of(way.declaration)
    power = (1.0 + power) / 2.0 if guardrail.worse is Worse.EITHER else power
    signal = fixed_signal(alpha=alpha, sides=1, power=power)
    variance = found.variance(found.baseline)
    units = max(
        ramp.until((signal / distance) ** 2, ramp.informations(variance, square * variance))
        for distance, square in _distances(found, guardrail)
    )
    rare = guardrail.negligible
    if rare is None or found.baseline >= rare or guardrail.worse is not Worse.HIGHER:
        return units
    errors = [sqrt(rate * (1.0 - rate)) for rate in (rare, found.baseline)]
    spread = -float(ndtri(alpha)) * errors[0] + float(ndtri(power)) * errors[1]
    alone = (spread / (rare - found.baseline)) ** 2
    return min(units, ramp.until(alone, [rung.lane for rung in ramp.rungs]))


def _distances(found: Known, guardrail: Guardrail) -> list[tuple[float, float]]:
    """How far each margin is, and the squared factor that the champion's variance enters with."""
    if guardrail.max_difference is not None:
        return [(guardrail.max_difference, 1.0)]
    assert guardrail.max_ratio is not None
    ratios = {
        Worse.HIGHER: (guardrail.max_ratio,),
        Worse.LOWER: (1.0 / guardrail.max_ratio,),
        Worse.EITHER: (guardrail.max_ratio, 1.0 / guardrail.max_ratio),
    }[guardrail.worse]
    if found.scale == "ratio":
        return [(abs(log(ratio)), 1.0) for ratio in ratios]
    return [(abs(ratio - 1.0) * abs(found.baseline), ratio * ratio) for ratio in ratios]


def _found(declaration: Declaration, ramp: Ramp, of: Known, value: float) -> Found | None:
    values, returning = (of.baseline, value), declaration.returning

    def is_found(units: float) -> bool:
        evidence = evidence_of(
            declaration,
            ramp,
            units,
            lambda treated, n: sample_of(of, values[treated], n, returning=returning),
            key=of.asked.metric.key,
            first_stage=True,
        )
        # Segments keep part of the error rate, whatever is seen in them.
        named = declaration.segments.values if declaration.segments else ()
        seen = Evidence(evidence.stages, segments=dict.fromkeys(named, ()))
        return assess(declaration, seen).challengers[0].any_harm.reached

    units = first(is_found)
    if not isfinite(units):
        return None
    window = of.asked.metric.window
    late = window.total_seconds() if window else 0.0
    seconds = ramp.seconds(units)
    challenger = max(1, round(units * ramp.rungs[0].lane))
    return Found(challenger, None if seconds is None else seconds + late)


def _gross(asked: Goal | Guardrail) -> float:
    """A doubling, or twice the margin where a doubling is allowed."""
    margin = asked.max_ratio if isinstance(asked, Guardrail) else None
    return 2.0 if margin is None or margin < 2.0 else 2.0 * margin


def _low_is_bad(asked: Goal | Guardrail) -> bool:
    if isinstance(asked, Goal):
        return asked.direction is Direction.INCREASE
    return asked.worse is Worse.LOWER


def _margin(guardrail: Guardrail) -> str:
    if guardrail.max_ratio is not None:
        words = f"{guardrail.max_ratio:g} times the champion's"
        return f"{words} either way" if guardrail.worse is Worse.EITHER else words
    ways = {Worse.HIGHER: "above", Worse.LOWER: "below", Worse.EITHER: "beside"}
    return f"{guardrail.max_difference:g} {ways[guardrail.worse]} the champion's"


def _value(found: Known) -> str:
    return f"{found.baseline:g}" if found.spread is not None else f"{100 * found.baseline:g} %"
