"""Several e-values into one, and which of them stand alone."""

from collections.abc import Sequence
from math import exp, fsum, inf, isclose, isnan, log


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
    if len(log_es) != len(weights) or not log_es:
        raise ValueError(f"{len(log_es)} e-values need as many weights, got {len(weights)}")
    if min(weights) < 0.0 or not isclose(fsum(weights), 1.0, abs_tol=1e-9):
        raise ValueError(f"weights must not be negative and must sum to 1, got {list(weights)}")
    _refuse_nan(log_es)
    return _log_sum_exp([e + log(w) for e, w in zip(log_es, weights, strict=True) if w > 0.0])


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
    order = sorted(range(len(log_es)), key=log_es.__getitem__)
    adjusted = list(log_es)
    for rank, index in enumerate(order):
        smaller: list[float] = []
        for count, other in enumerate(order[:rank], start=1):
            smaller.append(log_es[other])
            mean = _log_sum_exp([log_es[index], *smaller]) - log(count + 1)
            adjusted[index] = min(adjusted[index], mean)
    return tuple(adjusted)


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


def _refuse_nan(log_es: Sequence[float]) -> None:
    if any(map(isnan, log_es)):
        raise ValueError(f"a log e-value is not a number: {list(log_es)}")
