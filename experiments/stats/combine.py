"""Several e-values into one, and which of them stand alone."""

from collections.abc import Sequence
from functools import lru_cache
from math import exp, expm1, fsum, inf, isclose, isnan, log, log1p

_ROUNDING = 1e-12


def weighted_mean_log_e(log_es: Sequence[float], weights: Sequence[float]) -> float:
    """Merge e-values that may depend on each other in any way.

    *Estimand*: log of the weighted arithmetic mean of the e-values, for the null that all their
    nulls hold.

    *Assumes*: nothing about dependence.

    *Valid*: whenever the e-values are, at any time; weights fixed beforehand.

    Args:
        log_es: Log e-values; minus infinity is an e-value of 0.
        weights: Not negative, summing to 1.

    Returns:
        The log e-value; never exponentiates evidence.

    *Source*: Vovk and Wang (2021), "E-values: Calibration, combination and applications",
    Annals of Statistics 49, section 3.

    Examples:
        >>> round(weighted_mean_log_e([log(100.0), log(0.1), 0.0], [0.5, 0.25, 0.25]), 6)
        3.917508
        >>> weighted_mean_log_e([5000.0, 0.0], [0.5, 0.5]) == 5000.0 + log(0.5)
        True
    """
    logs = _logs(tuple(weights))
    if len(log_es) != len(logs) or not log_es:
        raise ValueError(f"{len(log_es)} e-values need as many weights, got {len(logs)}")
    _refuse_nan(log_es)
    return _log_sum_exp([e + w for e, w in zip(log_es, logs, strict=True) if w > -inf])


@lru_cache(maxsize=256)
def _logs(weights: tuple[float, ...]) -> tuple[float, ...]:
    if weights and (min(weights) < 0.0 or not isclose(fsum(weights), 1.0, abs_tol=1e-9)):
        raise ValueError(f"weights must not be negative and must sum to 1, got {list(weights)}")
    return tuple(log(weight) if weight > 0.0 else -inf for weight in weights)


def product_log_e(log_es: Sequence[float]) -> float:
    """Merge e-values each of which is one given those before it, such as those of stages.

    *Estimand*: log of the product, for the null that all their nulls hold.

    *Assumes*: each has expectation at most 1 given the outcomes of those before; independent ones
    do.

    *Valid*: whenever the e-values are.

    Returns:
        The log e-value; 0 for none.

    *Source*: Vovk and Wang (2021), Annals of Statistics 49, section on independent e-values.

    Examples:
        >>> round(product_log_e([log(100.0), log(0.1)]), 6)
        2.302585
    """
    _refuse_nan(log_es)
    return fsum(log_es)


def e_holm(log_es: Sequence[float]) -> tuple[float, ...]:
    """Say of each e-value what is left of it after looking at all of them.

    Rejecting every null whose adjusted e-value reaches 1 / alpha makes one or more false
    rejections with probability at most alpha.

    *Estimand*: log of the adjusted e-values, in the order given.

    *Assumes*: nothing about dependence.

    *Valid*: whenever the e-values are, at any time.

    Args:
        log_es: Log e-values; minus infinity is an e-value of 0.

    Returns:
        As many adjusted log e-values, none larger than its own.

    *Source*: Vovk and Wang (2021), Annals of Statistics 49, algorithm 1: closed testing with
    arithmetic means.

    Examples:
        >>> [round(exp(e), 4) for e in e_holm([log(100), log(60), log(4), log(0.5), log(0.2)])]
        [26.175, 16.175, 1.5667, 0.35, 0.2]
    """
    _refuse_nan(log_es)
    # The mean of an e-value with the smallest ones is least where the next of them would not lower
    # it any more: they grow. For a larger e-value that is not earlier, so one pass finds them all.
    order = sorted(range(len(log_es)), key=log_es.__getitem__)
    adjusted = [0.0] * len(log_es)
    smallest, taken = -inf, 0
    for rank, index in enumerate(order):
        mean = _log_add(log_es[index], smallest) - log(taken + 1)
        while taken < rank and log_es[order[taken]] < mean:
            smallest = _log_add(smallest, log_es[order[taken]])
            taken += 1
            mean = _log_add(log_es[index], smallest) - log(taken + 1)
        adjusted[index] = mean
    return tuple(adjusted)


def closed_log_e(log_e: float, others: Sequence[float]) -> float:
    """Say of one e-value what is left of it beside others.

    *Estimand*: log of the least mean of it and any of the others.

    *Assumes*, *Valid*, *Source*: as `e_holm`, which does this for each.

    Args:
        log_e: Log e-value.
        others: Log e-values; minus infinity is an e-value of 0.

    Examples:
        >>> round(exp(closed_log_e(log(60), [log(100), log(4), log(0.5), log(0.2)])), 4)
        16.175
        >>> closed_log_e(3.0, [])
        3.0
    """
    _refuse_nan((log_e, *others))
    least = together = log_e
    for count, other in enumerate(sorted(others), start=2):
        if other >= least:
            break
        together = _log_add(together, other)
        least = together - log(count)
    return least


def e_benjamini_hochberg(log_es: Sequence[float], *, alpha: float) -> tuple[bool, ...]:
    """Say which nulls to reject so that few of the rejections are false.

    Rejects the k largest e-values, with the largest k for which they all reach m / (alpha k).

    *Estimand*: whether each null is rejected, in the order given.

    *Assumes*: nothing about dependence.

    *Valid*: the expected part of false ones among the rejections (the false discovery rate) is
    at most `alpha`, for e-values that were stopped at the same time. It is no bound on the
    probability of any false rejection: for that take `e_holm`.

    Args:
        log_es: Log e-values; minus infinity is an e-value of 0.
        alpha: The rate, in (0, 1).

    Returns:
        As many answers as e-values.

    *Source*: Wang and Ramdas (2022), "False discovery rate control with e-values", JRSS B 84:
    the base e-BH procedure.

    Examples:
        >>> e_benjamini_hochberg([log(e) for e in (50, 30, 10, 4, 0.5)], alpha=0.1)
        (True, True, False, False, False)
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    _refuse_nan(log_es)
    order = sorted(range(len(log_es)), key=log_es.__getitem__, reverse=True)
    rejected = 0
    for k, index in enumerate(order, start=1):
        # An e-value that is just at the bound may miss it by the rounding of its logarithm.
        if log_es[index] >= log(len(log_es) / (alpha * k)) - _ROUNDING:
            rejected = k
    largest = set(order[:rejected])
    return tuple(index in largest for index in range(len(log_es)))


def calibrated_log_e(p_value: float, *, kappa: float | None = None) -> float:
    """Turn a p-value into an e-value, at a price.

    *Estimand*: log of kappa p^(kappa - 1), or of its mean over all kappa in (0, 1).

    *Assumes*: the p-value is at or below u with probability at most u, under the null.

    *Valid*: once, at the time for which the p-value holds.

    Args:
        p_value: In [0, 1].
        kappa: In (0, 1); without one the mean over all.

    Returns:
        The log e-value; infinite for a p-value of 0.

    *Source*: Vovk and Wang (2021), Annals of Statistics 49, section 2 on calibrators.

    Examples:
        >>> round(exp(calibrated_log_e(0.5, kappa=0.5)), 6), round(exp(calibrated_log_e(0.5)), 6)
        (0.707107, 0.638674)
        >>> round(calibrated_log_e(1e-300), 3)
        677.7
    """
    if not 0.0 <= p_value <= 1.0 or (kappa is not None and not 0.0 < kappa < 1.0):
        raise ValueError(f"p-value {p_value} or kappa {kappa} is out of range")
    if p_value == 0.0:
        return inf
    u = -log(p_value)
    if kappa is not None:
        return log(kappa) + (1.0 - kappa) * u
    if u < 1e-3:  # (e^u - 1 - u) / u^2 would cancel
        return log(0.5 + u / 6.0 + u * u / 24.0)
    if u < 1.0:
        return log((expm1(u) - u) / (u * u))
    return u + log1p(-(1.0 + u) * p_value) - 2.0 * log(u)


def anytime_p_value(log_e: float) -> float:
    """A p-value for people: valid at every look, and 1 rather than more.

    *Source*: Ville's inequality; Vovk and Wang (2021), Annals of Statistics 49, proposition 2.2.

    Examples:
        >>> anytime_p_value(-3.0), anytime_p_value(5000.0)
        (1.0, 0.0)
    """
    return min(1.0, exp(-max(log_e, 0.0)))


def _log_sum_exp(log_es: Sequence[float]) -> float:
    top = max(log_es)
    if top in (-inf, inf):
        return top
    return top + log(fsum(exp(e - top) for e in log_es))


def _log_add(one: float, other: float) -> float:
    low, high = (one, other) if one < other else (other, one)
    return high if low == -inf or high == inf else high + log1p(exp(low - high))


def _refuse_nan(log_es: Sequence[float]) -> None:
    if any(map(isnan, log_es)):
        raise ValueError(f"a log e-value is not a number: {list(log_es)}")
