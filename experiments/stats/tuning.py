"""How wide a mixture should be."""

from math import e

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
