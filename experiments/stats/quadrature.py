"""Nodes and weights of mixtures, and integrals of log-concave functions."""

from collections.abc import Callable
from functools import lru_cache
from math import inf, log, sqrt

import numpy as np
from numpy.polynomial.hermite import hermgauss
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray

from experiments.stats.stages import Side

Array = NDArray[np.float64]

MAX_TAU = 20.0
"""Beyond this a log ratio would overflow when exponentiated, and no effect is that large."""

_HALF_NORMAL_REACH = 8.0
_NEGLIGIBLE = 45.0
_PANEL_NODES = 24
_PANEL_EDGES = (0.0, 0.1, 0.4, 1.0)


def require_tau(tau: float) -> None:
    """Refuse a mixture scale that is no scale.

    Raises:
        ValueError: `tau` is not a number in (0, 20].
    """
    if not 0.0 < tau <= MAX_TAU:
        raise ValueError(f"tau must lie in (0, {MAX_TAU:g}], got {tau}")


@lru_cache(maxsize=256)
def effect_nodes(tau: float, side: Side, nodes: int) -> tuple[Array, Array]:
    """Discretise the mixture over effects: normal, or half-normal on the side that counts.

    The log weights are normalised, so any mixture of e-values over them is an e-value, exactly.

    Args:
        tau: Standard deviation of the (unfolded) normal.
        side: TWO_SIDED by Gauss-Hermite, otherwise Gauss-Legendre on (0, 8 tau) or its mirror.
        nodes: How many.

    Returns:
        Effects and log weights, read-only.

    Examples:
        >>> effects, log_weights = effect_nodes(0.5, Side.LESS, 24)
        >>> bool((effects < 0).all()), round(float(np.exp(log_weights).sum()), 12)
        (True, 1.0)
    """
    require_tau(tau)
    if side is Side.TWO_SIDED:
        x, weights = _normal_rule(nodes)
        effects, log_weights = sqrt(2.0) * tau * x, np.log(weights)
    else:
        x, weights = _even_rule(nodes)
        z = _HALF_NORMAL_REACH * (x + 1.0) / 2.0
        effects, log_weights = tau * z, np.log(weights) - z * z / 2.0
        if side is Side.LESS:
            effects = -effects
    log_weights = log_weights - log_sum_exp(log_weights)
    effects.setflags(write=False)
    log_weights.setflags(write=False)
    return effects, log_weights


# Rules take an eigenvalue problem each, and every experiment has scales of its own.
_normal_rule = lru_cache(maxsize=16)(hermgauss)
_even_rule = lru_cache(maxsize=16)(leggauss)


def log_sum_exp(x: Array) -> float:
    """Logarithm of the sum of exponentials of finite `x`, without leaving log space.

    Examples:
        >>> round(log_sum_exp(np.array([1000.0, 1000.0])), 6)
        1000.693147
    """
    top = float(x.max())
    return top + log(float(np.exp(x - top).sum()))


def log_concave_integral(
    log_f: Callable[[float], float],
    log_f_many: Callable[[Array], Array],
    *,
    mode: float,
    width: float,
    low: float | None = None,
) -> float:
    """Logarithm of the integral of a log-concave function, to about 1e-12.

    Each side of the mode is cut where the function has fallen by a factor of about e^45, and
    integrated there by Gauss-Legendre, densest near the mode. So the nodes follow a peak however
    narrow it is.

    Args:
        log_f: Its logarithm at a point.
        log_f_many: The same at many points.
        mode: Where it is largest (on the range).
        width: A first guess at how far it reaches, positive.
        low: Start of the range; without one the range is the whole line.
    """
    top = log_f(mode)
    right = _reach(lambda step: top - log_f(mode + step), width)
    x, weights = _panels()
    points, scale = mode + right * x, right * weights
    if low is None or low < mode:
        left = _reach(lambda step: top - log_f(mode - step), width)
        left = left if low is None else min(left, mode - low)
        points = np.concatenate([points, mode - left * x])
        scale = np.concatenate([scale, left * weights])
    return top + log(float(scale @ np.exp(log_f_many(points) - top)))


def _reach(fall: Callable[[float], float], width: float) -> float:
    """How far to go for the function to have fallen by about `_NEGLIGIBLE`.

    It falls about as the square of the distance, so the next guess is nearly right. Guesses that
    leave the bracket are replaced by its middle.
    """
    near, far, reach = 0.0, inf, width
    while True:
        fallen = fall(reach)
        if fallen < _NEGLIGIBLE:
            near = reach
        elif fallen <= 1.5 * _NEGLIGIBLE:
            return reach
        else:
            far = reach
        guess = reach * sqrt(1.2 * _NEGLIGIBLE / max(fallen, 1.0))
        middle = 2.0 * near if far == inf else (near + far) / 2.0
        reach = guess if near < guess < min(far, 4.0 * middle) else middle
        if reach in (near, far):
            return far


@lru_cache(maxsize=1)
def _panels() -> tuple[Array, Array]:
    """Nodes and weights on (0, 1), from panels that shrink towards 0."""
    x, weights = _even_rule(_PANEL_NODES)
    starts, ends = np.array(_PANEL_EDGES[:-1]), np.array(_PANEL_EDGES[1:])
    halves = (ends - starts) / 2.0
    x = ((starts + ends)[:, None] / 2.0 + halves[:, None] * x).ravel()
    weights = (halves[:, None] * weights).ravel()
    x.setflags(write=False)
    weights.setflags(write=False)
    return x, weights
