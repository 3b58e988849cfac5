"""Incomplete beta integrals, relative to their integrand at the bound.

Every beta-mixture e-value is a difference of two of these, posterior minus prior. Dividing by the
integrand keeps them small where the integrals themselves underflow, or cancel at large counts.
"""

from math import log, log1p, pi

from scipy.special import betainc, betaln

_STIRLING_FROM = 30.0
_SMALLEST = 1e-280


def log_relative_beta(a: float, b: float, x: float) -> float:
    """Log of the integral over t in (0, 1) of t^(a-1) (1-t)^(b-1), over x^a (1-x)^b.

    *Estimand*: log B(a, b) - a log x - b log(1 - x).

    *Assumes*: a, b > 0 and 0 < x < 1.

    *Valid*: to a relative 1e-13 or so, also for a and b of 1e9, where a difference of log gamma
    functions keeps few digits.

    *Source*: Stirling's series, NIST DLMF 5.11.1.

    Examples:
        >>> round(log_relative_beta(1.0, 1.0, 0.5), 12) == round(2 * log(2), 12)
        True
        >>> round(log_relative_beta(3e8, 7e8, 0.3), 6)
        -8.662371
    """
    if min(a, b) < _STIRLING_FROM:
        return float(betaln(a, b)) - a * log(x) - b * log1p(-x)
    n = a + b
    surplus = a - n * x
    divergence = a * log1p(surplus / (n * x)) + b * log1p(-surplus / (n * (1.0 - x)))
    correction = _stirling(a) + _stirling(b) - _stirling(n)
    return divergence + 0.5 * log(2.0 * pi * n / a / b) + correction


def log_relative_lower_beta(a: float, b: float, x: float) -> float:
    """Log of the integral over t in (0, x) of t^(a-1) (1-t)^(b-1), over x^a (1-x)^b.

    *Estimand*: log B(a, b) + log I_x(a, b) - a log x - b log(1 - x).

    *Assumes*: a, b > 0 and 0 < x < 1.

    *Valid*: also where I_x(a, b) underflows, when x is far below a / (a + b).

    *Source*: NIST DLMF 8.17.22 (continued fraction), by Lentz's method.

    Examples:
        >>> from math import isclose
        >>> isclose(log_relative_lower_beta(1.0, 1.0, 0.5), log(2.0))
        True
        >>> round(log_relative_lower_beta(1e9, 1.0, 0.5), 6)
        -20.030119
    """
    part = float(betainc(a, b, x))
    if part > _SMALLEST:
        return log_relative_beta(a, b, x) + log(part)
    return log(_continued_fraction(a, b, x)) - log(a)


def _stirling(x: float) -> float:
    square = 1.0 / (x * x)
    return (1.0 - square * (1.0 / 30.0 - square / 105.0)) / (12.0 * x)


def _continued_fraction(a: float, b: float, x: float) -> float:
    """The fraction of DLMF 8.17.22, which multiplies x^a (1-x)^b / a."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(1.0 - (a + b) * x / (a + 1.0), tiny)
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d, tiny)
            c = _away_from_zero(1.0 + term / c, tiny)
            value *= d * c
        if abs(d * c - 1.0) < 1e-15:
            break
    return value


def _away_from_zero(x: float, tiny: float) -> float:
    return x if abs(x) > tiny else tiny
