"""Tails of the normal and of Student's t, however far out."""

from math import exp, log, log1p, pi

from scipy.special import betaln, log_ndtr, ndtri, stdtr

from experiments.stats.beta import log_relative_lower_beta

_LOG_2, _LOG_10 = log(2.0), log(10.0)
_SMALLEST = 1e-280
_FARTHEST = 1e150


def normal_log_p(z: float) -> float:
    """Natural logarithm of the two-sided p-value of a standard normal z.

    Beyond 1e150 standard errors it is that of 1e150.

    Examples:
        >>> round(normal_log_p(45.0), 4)
        -1016.5329
    """
    far = min(abs(z), _FARTHEST)
    if far > 1e4:
        return _LOG_2 - far * (far / 2.0) - log(far) - 0.5 * log(2.0 * pi) - log1p(1.0 / far / far)
    return _LOG_2 + float(log_ndtr(-far))


def normal_log_cdf(z: float) -> float:
    """Logarithm of the normal distribution function.

    Examples:
        >>> round(normal_log_cdf(-45.0), 4)
        -1017.2261
    """
    return normal_log_p(z) - _LOG_2 if z < 0.0 else float(log_ndtr(z))


def normal_quantile(p: float) -> float:
    """Where the normal distribution function is p.

    Examples:
        >>> round(normal_quantile(0.975), 6)
        1.959964
    """
    return float(ndtri(p))


def normal_p_value(z: float) -> float:
    """Two-sided p-value of a standard normal z; 0 only where no float is as small.

    *Estimand*: P(|Z| >= |z|).

    *Valid*: for one look at a fixed n.

    *Source*: the logarithm of the normal distribution function, never 1 minus it, which is 0 from
    8.3 standard errors on.

    Examples:
        >>> f"{normal_p_value(20.0):.6e}", normal_p_value(0.0)
        ('5.507248e-89', 1.0)
    """
    return min(1.0, exp(max(normal_log_p(z), -1e3)))


def neg_log10_p(z: float) -> float:
    """Minus the decimal logarithm of the two-sided p-value of a standard normal z.

    *Estimand*, *Valid*: as `normal_p_value`.

    Returns:
        Finite and not negative, also where the p-value itself is no float any more.

    Examples:
        >>> round(neg_log10_p(45.28), 4)
        446.9665
    """
    return max(0.0, -normal_log_p(z) / _LOG_10)


def student_log_cdf(x: float, *, degrees: float) -> float:
    """Logarithm of Student's t distribution function, also where that is no float any more.

    *Estimand*: log P(T <= x).

    Args:
        x: Finite.
        degrees: Of freedom, positive.

    *Source*: half an incomplete beta integral, DLMF 8.17(i), taken in log space where it is tiny.

    Examples:
        >>> student_log_cdf(0.0, degrees=5.0) == log(0.5)
        True
        >>> round(student_log_cdf(-1e5, degrees=200.0), 3)
        -1776.323
    """
    if not degrees > 0.0:
        raise ValueError(f"degrees of freedom must be positive, got {degrees}")
    p = float(stdtr(degrees, x))
    if p > _SMALLEST:
        return log(p)
    a, square = degrees / 2.0, x * x / degrees
    log_y = -log1p(square)
    log_part = a * log_y + 0.5 * (log(square) + log_y) - float(betaln(a, 0.5))
    return log_part + log_relative_lower_beta(a, 0.5, exp(log_y)) - _LOG_2
