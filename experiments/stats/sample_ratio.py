"""Did the arms receive the shares they were promised? If not, no result may be read."""

from collections.abc import Sequence
from functools import lru_cache
from math import fsum

from experiments.stats.beta import log_relative_beta
from experiments.stats.combine import product_log_e, weighted_mean_log_e
from experiments.stats.stages import StageEvents

CONCENTRATIONS = (100.0, 10_000.0)
"""The first finds gross mismatch within few units, the second slight mismatch in many."""


def sample_ratio_log_e(stages: Sequence[StageEvents]) -> float:
    """Evidence that units do not reach the arms in the promised shares.

    *Estimand*: log e-value for the null that each unit goes to the treatment with its stage's
    share.

    *Assumes*: units are counted once, and assigned independently under the null.

    *Valid*: at any time, exact from the first unit.

    Args:
        stages: Units that reached each arm, per stretch of constant share.

    Returns:
        Finite; 0 without units.

    *Source*: Lindon and Malek (2022), "Anytime-Valid Inference For Multinomial Count Data",
    NeurIPS 35, arXiv 2011.03567; the mean of two concentrations is an e-value again.

    Examples:
        >>> round(sample_ratio_log_e([StageEvents(1_300, 99_000, 0.01)]), 2)
        36.54
        >>> sample_ratio_log_e([StageEvents(5_050, 5_000, 0.5)]) < 0.0
        True
    """
    log_es = [
        product_log_e(
            [
                multinomial_log_e(
                    (s.treatment, s.control), (s.share, 1.0 - s.share), concentration=concentration
                )
                for s in stages
            ]
        )
        for concentration in CONCENTRATIONS
    ]
    return weighted_mean_log_e(log_es, [1.0 / len(log_es)] * len(log_es))


def multinomial_log_e(
    counts: Sequence[int], probabilities: Sequence[float], *, concentration: float
) -> float:
    """Evidence that counts do not come from the given probabilities.

    *Estimand*: log e-value for the null that every unit falls into the categories with these
    probabilities.

    *Assumes*: independent units under the null.

    *Valid*: at any time, exact from the first unit.

    Args:
        counts: Units in each category.
        probabilities: The null's, positive, summing to 1.
        concentration: Of the Dirichlet mixture around the null; fixed beforehand.

    Returns:
        Finite; 0 without units.

    *Source*: Lindon and Malek (2022), arXiv 2011.03567; computed as a product of beta-binomials,
    each category against those after it, which keeps its digits at 1e9 units.

    Examples:
        >>> round(multinomial_log_e([10_000, 10_500], [0.5, 0.5], concentration=100.0), 6)
        3.402426
    """
    splits = _splits(tuple(probabilities), concentration)
    if len(counts) != len(probabilities) or min(counts) < 0:
        raise ValueError("every category needs a count, not negative")
    terms, units = [], sum(counts)
    for count, (a, b, x, before) in zip(counts, splits, strict=False):
        if units:
            terms.append(log_relative_beta(a + count, b + units - count, x) - before)
        units -= count
    return fsum(terms)


@lru_cache(maxsize=1024)
def _splits(
    probabilities: tuple[float, ...], concentration: float
) -> tuple[tuple[float, float, float, float], ...]:
    """Each category against those after it: beta prior (a, b), the null's part, the prior's own."""
    if not probabilities or min(probabilities) <= 0.0:
        raise ValueError("every category needs a positive probability")
    if abs(fsum(probabilities) - 1.0) > 1e-9:
        raise ValueError(f"probabilities must sum to 1, got {fsum(probabilities)}")
    if concentration <= 0.0:
        raise ValueError(f"concentration must be positive, got {concentration}")
    splits = []
    for i, probability in enumerate(probabilities[:-1]):
        rest = fsum(probabilities[i + 1 :])
        a, b = concentration * probability, concentration * rest
        x = probability / (probability + rest)
        splits.append((a, b, x, log_relative_beta(a, b, x)))
    return tuple(splits)
