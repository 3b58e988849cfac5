"""How many units a test at one look needs, and what a running test still needs."""

from dataclasses import dataclass
from math import asin, inf, sqrt

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from experiments.stats.designs import fixed_signal
from experiments.stats.intervals import require_alpha
from experiments.stats.mixture import normal_mixture_radius
from experiments.stats.spending import Sides
from experiments.stats.tuning import approximate_omega, information_by_units


def fixed_units(
    effect: float,
    *,
    variances: tuple[float, float],
    alpha: float,
    power: float,
    sides: Sides = 2,
    share: float = 0.5,
) -> float:
    """Units that a difference of means needs at one look, both arms together.

    *Estimand*: the least number of units, not rounded.

    *Assumes*: independent units; means near enough to normal.

    *Valid*: one look. Looking on needs the multiples of `experiments.stats.planning`.

    Args:
        effect: The difference to be found, in the metric's unit.
        variances: Of one unit in control and in treatment.
        alpha: Level over all sides.
        power: Probability of finding the difference.
        sides: One or two.
        share: Of the units that are sent to the treatment.

    Returns:
        Infinity for an effect of zero; 0 if nothing varies.

    *Source*: the textbook formula, as in Duflo, Glennerster and Kremer (2007), section 4 of
    Using Randomization in Development Economics Research.

    Examples:
        >>> round(fixed_units(0.1, variances=(1.0, 1.0), alpha=0.05, power=0.8))
        3140
        >>> round(fixed_units(0.1, variances=(1.0, 1.0), alpha=0.05, power=0.8, share=0.05))
        16524
    """
    if not 0.0 < share < 1.0:
        raise ValueError(f"share must lie strictly between 0 and 1, got {share}")
    signal = fixed_signal(alpha=alpha, sides=sides, power=power)
    control, treatment = variances
    if effect == 0.0:
        return inf
    return (control / (1.0 - share) + treatment / share) * (signal / effect) ** 2


def fixed_units_per_arm(
    control: float, treatment: float, *, alpha: float, power: float, sides: Sides = 2
) -> float:
    """Units that two proportions need in each of two equal arms at one look.

    *Estimand*, *Assumes*, *Valid*: as `fixed_units`, with unpooled variances p * (1 - p).

    Args:
        control: Share of successes without the change.
        treatment: Share of successes with it.
        alpha: Level over all sides.
        power: Probability of finding the difference.
        sides: One or two.

    Returns:
        Units per arm, not rounded; infinity if the two are equal.

    *Source*: as `fixed_units`.

    Examples:
        >>> round(fixed_units_per_arm(0.10, 0.11, alpha=0.05, power=0.8), 1)
        14748.0
    """
    variances = (control * (1.0 - control), treatment * (1.0 - treatment))
    effect = treatment - control
    return fixed_units(effect, variances=variances, alpha=alpha, power=power, sides=sides) / 2.0


def fixed_units_from_baseline(
    baseline: float,
    effect: float,
    *,
    alpha: float,
    power: float,
    sides: Sides = 2,
    share: float = 0.5,
) -> float:
    """Units that a change of a proportion needs at one look, both arms together.

    *Estimand*, *Assumes*, *Valid*: as `fixed_units`, with the baseline's variance in both arms,
    which suits a change of either sign.

    Args:
        baseline: Share of successes without the change.
        effect: Absolute change of that share.
        alpha: Level over all sides.
        power: Probability of finding the change.
        sides: One or two.
        share: Of the units that are sent to the treatment.

    *Source*: as `fixed_units`; Spotify's confidence package plans proportions so.

    Examples:
        >>> round(fixed_units_from_baseline(0.05, 0.01, alpha=0.05, power=0.8))
        14913
    """
    spread = baseline * (1.0 - baseline)
    return fixed_units(
        effect,
        variances=(spread, spread),
        alpha=alpha,
        power=power,
        sides=sides,
        share=share,
    )


def arcsine_units_per_arm(
    control: float, treatment: float, *, alpha: float, power: float, sides: Sides = 2
) -> float:
    """The same on the scale where proportions have a constant variance.

    *Estimand*, *Assumes*: as `fixed_units_per_arm`, with the difference of 2 * asin(sqrt(p)).

    *Valid*: one look. With two sides a rejection on the wrong side counts, which matters in the
    sixth digit.

    Args:
        control: Share of successes without the change.
        treatment: Share of successes with it.
        alpha: Level over all sides.
        power: Probability of rejecting.
        sides: One or two.

    *Source*: Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, chapter 6.

    Examples:
        >>> round(arcsine_units_per_arm(0.10, 0.11, alpha=0.05, power=0.8), 1)
        14744.1
    """
    h = 2.0 * (asin(sqrt(treatment)) - asin(sqrt(control)))
    if h == 0.0:
        return inf
    radius = -float(ndtri(alpha / sides))
    # With one side it is the solution itself, and rounding could put it on either side of it.
    most = 1.001 * fixed_signal(alpha=alpha, sides=sides, power=power)
    signal = brentq(lambda x: power_at_look(x, radius, sides=sides) - power, 0.0, most, xtol=1e-13)
    return 2.0 * float(signal / h) ** 2


def power_at_look(signal: float, radius: float, *, sides: Sides = 2) -> float:
    """Probability that an estimate lies further than `radius` from the null, at one look.

    Args:
        signal: True effect in standard errors.
        radius: Of the interval, in standard errors.
        sides: With two, lying outside on the wrong side counts as well.

    Examples:
        >>> round(power_at_look(2.8016, 1.96), 3)
        0.8
    """
    found = float(ndtr(signal - radius))
    return found if sides == 1 else found + float(ndtr(-signal - radius))


def growth_needed(
    signal: float,
    *,
    alpha: float,
    power: float,
    information: float | None = None,
) -> float:
    """How much more data a running test needs, relative to what it has.

    *Estimand*: g such that with (1 + g) times the present data one look has the power asked.

    *Assumes*: data go on coming as they came, so standard errors shrink by sqrt(1 + g).

    *Valid*: two-sided, at that one look; a sequence may well decide at an earlier one, so for
    sequences it is a bound from above.

    Args:
        signal: Effect to be found, in present standard errors.
        alpha: Level over both sides.
        power: Probability asked.
        information: For a confidence sequence, its present mixture variance over the squared
            standard error. Without it, a fixed interval.

    Returns:
        0 if the present data are enough; infinity for no effect.

    *Source*: the definition; GrowthBook's mid-experiment power solves the same equation by
    bisection.

    Examples:
        >>> round(growth_needed(1.4008, alpha=0.05, power=0.8), 2)
        3.0
    """
    require_alpha(alpha)

    def surplus(growth: float) -> float:
        return (
            power_now(
                signal * sqrt(1.0 + growth),
                alpha=alpha,
                information=None if information is None else information * (1.0 + growth),
            )
            - power
        )

    if signal == 0.0:
        return inf
    if surplus(0.0) >= 0.0:
        return 0.0
    most = 1.0
    while surplus(most) < 0.0:
        most *= 2.0
    return float(brentq(surplus, 0.0, most, xtol=1e-12))


def power_now(signal: float, *, alpha: float, information: float | None = None) -> float:
    """Probability that the two-sided interval at this look leaves out zero.

    *Estimand*, *Assumes*, *Valid*, Args: as `growth_needed`, without any growth.

    Examples:
        >>> round(power_now(2.8016, alpha=0.05), 3)
        0.8
    """
    if information is None:
        return power_at_look(abs(signal), -float(ndtri(alpha / 2.0)))
    return power_at_look(abs(signal), normal_mixture_radius(information, alpha=alpha))


def conditional_power(z: float, time: float, *, boundary: float, signal: float) -> float:
    """Probability of still rejecting at the end, given what is known now.

    *Estimand*: the chance that the z-score at the end exceeds its boundary.

    *Assumes*: independent increments; looks in between are not counted.

    *Valid*: as a non-binding reason to give up: stopping early because it is low cannot raise
    the error of a test that rejects only at its boundaries.

    Args:
        z: Present z-score.
        time: Share of the final information that is reached, in (0, 1).
        boundary: At the end.
        signal: True effect in standard errors at the end.

    *Source*: Jennison and Turnbull (2000), Group Sequential Methods, chapter 10.

    Examples:
        >>> round(conditional_power(0.0, 0.5, boundary=1.96, signal=2.8016), 3)
        0.215
    """
    if not 0.0 < time < 1.0:
        raise ValueError(f"time must lie strictly between 0 and 1, got {time}")
    rest = 1.0 - time
    return float(ndtr((z * sqrt(time) + signal * rest - boundary) / sqrt(rest)))


@dataclass(frozen=True, slots=True)
class Running:
    """What a test that is running can still find, and what it would take.

    Args:
        power: Probability to find the effect with the present data.
        growth: Data needed beyond the present, relative to them.
        units: The same in units.
    """

    power: float
    growth: float
    units: float


def running_power(
    effect: float, *, error: float, units: int, alpha: float, power: float, planned: float | None
) -> Running:
    """How a running test stands, and how much more it needs to find an effect.

    *Estimand*, *Assumes*, *Valid*, *Source*: as `power_now` and `growth_needed`; a confidence
    sequence is tuned as other engines do, by units.

    Args:
        effect: To be found, in the unit of `error`.
        error: Present standard error, positive.
        units: Present units, in both arms.
        alpha: Level over both sides.
        power: Probability asked.
        planned: Units that a confidence sequence is tuned to; None for a fixed interval.

    Returns:
        Infinite growth for no effect.

    Examples:
        >>> found = running_power(0.14, error=0.1, units=500, alpha=0.05, power=0.8, planned=None)
        >>> round(found.growth, 2), round(found.units)
        (3.0, 1502)
    """
    signal = abs(effect) / error
    information = (
        None
        if planned is None
        else information_by_units(approximate_omega(alpha), units=units, planned=planned)
    )
    growth = growth_needed(signal, alpha=alpha, power=power, information=information)
    return Running(power_now(signal, alpha=alpha, information=information), growth, growth * units)
