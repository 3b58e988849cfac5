"""The integrals of `beta`, for whole histograms at once."""

from math import pi

import numpy as np
from scipy.special import betainc, betaln

from experiments.stats.quadrature import Array

_STIRLING_FROM = 30.0
_SMALLEST = 1e-280


def log_relative_betas(a: Array, b: Array, x: float | Array) -> Array:
    """`beta.log_relative_beta` for many a and b, and one x or as many.

    *Estimand*: log B(a, b) - a log x - b log(1 - x).

    *Assumes*: a, b > 0 and 0 < x < 1.

    *Valid*: to a relative 1e-13 or so, also for a and b of 1e9.

    *Source*: Stirling's series, NIST DLMF 5.11.1.

    Examples:
        >>> found = log_relative_betas(np.array([1.0, 3e8]), np.array([1.0, 7e8]), 0.3)
        >>> found.round(6).tolist()
        [1.560648, -8.662371]
    """
    n = a + b
    surplus = a - n * x
    divergence = a * np.log1p(surplus / (n * x)) + b * np.log1p(-surplus / (n * (1.0 - x)))
    of_a, of_b, of_n = _stirling(np.array([a, b, n]))
    correction = of_a + of_b - of_n
    large = divergence + 0.5 * np.log(2.0 * pi * n / a / b) + correction
    small = np.minimum(a, b) < _STIRLING_FROM
    if not small.any():
        return np.asarray(large)
    return np.asarray(np.where(small, betaln(a, b) - a * np.log(x) - b * np.log1p(-x), large))


def log_relative_lower_betas(a: Array, b: Array, x: float | Array) -> Array:
    """`beta.log_relative_lower_beta` for many a and b, and one x or as many.

    *Estimand*: log B(a, b) + log I_x(a, b) - a log x - b log(1 - x).

    *Assumes*: a, b > 0 and 0 < x < 1.

    *Valid*: to 1e-8 where I_x(a, b) underflows, which puts x more than 35 standard deviations
    below the mean; else as `log_relative_betas`.

    *Source*: where it underflows, three terms of Laplace's series at an end point, in the logit
    of t.

    Examples:
        >>> found = log_relative_lower_betas(np.array([1.0, 1e9]), np.array([1.0, 1.0]), 0.5)
        >>> found.round(6).tolist()
        [0.693147, -20.030119]
    """
    part = betainc(a, b, x)
    lost = part <= _SMALLEST
    found: Array = log_relative_betas(a, b, x) + np.log(np.maximum(part, _SMALLEST))
    if lost.any():
        found[lost] = _end_point_series(a[lost], b[lost], np.broadcast_to(x, a.shape)[lost])
    return found


def _end_point_series(a: Array, b: Array, x: Array) -> Array:
    """The exponent a log t + b log(1 - t) has these derivatives in the logit of t, at t = x."""
    first = a - (a + b) * x
    second = -(a + b) * x * (1.0 - x)
    third = second * (1.0 - 2.0 * x)
    ratio = second / (first * first)
    return np.asarray(np.log1p(ratio + 3.0 * ratio * ratio - third / first**3) - np.log(first))


def _stirling(x: Array) -> Array:
    square = 1.0 / (x * x)
    return np.asarray((1.0 - square * (1.0 / 30.0 - square / 105.0)) / (12.0 * x))
