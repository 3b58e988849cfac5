"""Did the arms receive the shares they were promised? If not, no result may be read."""

from collections.abc import Sequence
from math import fsum

from experiments.stats.beta import log_relative_beta
from experiments.stats.combine import weighted_mean_log_e
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
        fsum(
            multinomial_log_e(
                (s.treatment, s.control), (s.share, 1.0 - s.share), concentration=concentration
            )
            for s in stages
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
    if len(counts) != len(probabilities) or min(counts) < 0 or min(probabilities) <= 0.0:
        raise ValueError("every category needs a count and a positive probability")
    if abs(fsum(probabilities) - 1.0) > 1e-9:
        raise ValueError(f"probabilities must sum to 1, got {fsum(probabilities)}")
    if concentration <= 0.0:
        raise ValueError(f"concentration must be positive, got {concentration}")
    terms = []
    for i in range(len(counts) - 1):
        rest, units = fsum(probabilities[i + 1 :]), sum(counts[i:])
        if units:
            x = probabilities[i] / (probabilities[i] + rest)
            a, b = concentration * probabilities[i], concentration * rest
            after = log_relative_beta(a + counts[i], b + units - counts[i], x)
            terms.append(after - log_relative_beta(a, b, x))
    return fsum(terms)
