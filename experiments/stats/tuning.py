"""How wide a mixture should be."""

from math import e, inf, log, log1p

from scipy.special import lambertw


def omega_star(alpha: float) -> float:
    """Where a normal-mixture confidence sequence is narrowest.

    *Estimand*: tau^2 over squared standard error at which the width, in standard errors, is least.

    *Valid*: for two-sided sequences at level `alpha`; give 2 alpha for a one-sided one.

    Args:
        alpha: Level, in (0, 1).

    Returns:
        The number w; choose tau = sqrt(w) times the standard error planned for.

    *Source*: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Annals of Statistics 52,
    arXiv 2103.06476, appendix on tuning (the lower Lambert W branch).

    Examples:
        >>> round(omega_star(0.05), 6)
        8.211968
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    return -float(lambertw(-alpha * alpha / e, k=-1).real) - 1.0


def approximate_omega(alpha: float) -> float:
    """Nearly `omega_star`, as other engines reckon it: 1 to 4 % below.

    *Source*: Howard, Ramdas, McAuliffe and Sekhon (2021), Annals of Statistics 49, arXiv
    1810.08240, on choosing the mixture; used by confseq and GrowthBook.

    Examples:
        >>> round(approximate_omega(0.05), 6)
        7.936155
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    surprise = 2.0 * log(1.0 / alpha)
    return surprise + log1p(surprise)


def information_by_units(omega: float, *, units: float, planned: float) -> float:
    """The mixture's w where every unit brings the same information, as other engines reckon it.

    Our own clock is the information itself, 1 / SE^2; it does not need this.

    Examples:
        >>> information_by_units(8.0, units=500, planned=1_000)
        4.0
    """
    if not (units > 0.0 and planned > 0.0):
        raise ValueError(f"units and planned units must be positive, got {units} and {planned}")
    return omega * (units / planned)


def require_scale(tau: float) -> None:
    """Refuse a mixture scale, in whatever unit, that is none.

    Raises:
        ValueError: `tau` is not positive and finite.
    """
    if not 0.0 < tau < inf:
        raise ValueError(f"tau must be positive and finite, got {tau}")
