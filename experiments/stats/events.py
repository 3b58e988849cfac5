"""Do events come at different rates in the two arms? Exact tests without denominators.

Given that an event happened, it fell on the treatment with probability share if the rates are
equal, and with `shifted_share(share, ratio=m)` if the treatment's rate is m times the control's.
So the rates themselves may drift together, and nobody needs to know them.
"""

from collections.abc import Sequence
from math import exp, log

from experiments.stats.beta import log_relative_beta, log_relative_lower_beta
from experiments.stats.rate_ratio import RatioLikelihood
from experiments.stats.stages import Side, StageEvents


def conditional_log_e(
    treatment: int,
    control: int,
    *,
    share: float,
    prior: tuple[float, float],
    side: Side = Side.TWO_SIDED,
) -> float:
    """Evidence that the treatment's part of the events is not `share`.

    For one stage, or stages of equal share. `event_ratio_log_e` takes ramps.

    *Estimand*: log e-value for the null that an event falls on the treatment with probability
    `share` (LESS: at least, GREATER: at most). For a margin on the rate ratio give
    `shifted_share(share, ratio=margin)`.

    *Assumes*: events fall on the arms independently of each other given the past.

    *Valid*: at any time, exact from the first event.

    Args:
        treatment: Events in the treatment.
        control: Events in the control.
        share: The null's probability.
        prior: Beta parameters (a, b) of the mixture over the treatment's part, fixed beforehand;
            on one side it is truncated at `share`.
        side: GREATER if only a larger part counts, LESS if only a smaller.

    Returns:
        Finite; 0 without events.

    *Source*: Lindon and Malek (2022), "Anytime-Valid Inference For Multinomial Count Data",
    NeurIPS 35, arXiv 2011.03567, section on Poisson counts; truncation of the prior added here.

    Examples:
        >>> round(conditional_log_e(20, 0, share=0.5, prior=(1.0, 1.0)), 6)
        10.818421
        >>> round(conditional_log_e(20, 0, share=0.5, prior=(1.0, 1.0), side=Side.LESS), 6)
        -3.044522
    """
    stage = StageEvents(treatment, control, share)
    if stage.treatment + stage.control == 0:
        return 0.0
    a, b = prior
    if side is Side.GREATER:
        a, b, treatment, control, share = b, a, control, treatment, 1.0 - share
    integral = log_relative_beta if side is Side.TWO_SIDED else log_relative_lower_beta
    return integral(a + treatment, b + control, share) - integral(a, b, share)


def event_ratio_log_e(
    stages: Sequence[StageEvents],
    *,
    tau: float | Sequence[float],
    side: Side = Side.TWO_SIDED,
    margin_ratio: float = 1.0,
) -> float:
    """Evidence that the ratio of event rates, treatment over control, is not `margin_ratio`.

    One log ratio d is bet on in all stages, and its probability for an event is worked out from
    each stage's share anew: a ramp changes nothing, nor does a drift of both rates.

    *Estimand*: log e-value. TWO_SIDED: the null is ratio = margin. GREATER: the null is
    ratio <= margin, so evidence is for "the ratio is above the margin" (harm, for errors). LESS:
    the null is ratio >= margin, so evidence is for "below the margin" (with a margin over 1:
    non-inferiority).

    *Assumes*: events fall on the arms independently of each other given the past; for errors
    that come in clusters count the units with an error. Where an event is a success of which
    most units have one, little is learnt: take the failures.

    *Valid*: at any time, from the first event, exact but for the integration (1e-12).

    Args:
        stages: Events per stretch of constant share; never pooled.
        tau: Standard deviation of the normal mixture over d - log margin, folded to the side
            that counts; fixed beforehand. Several are mixed with equal weights.
        side: See above.
        margin_ratio: The null's ratio, positive.

    Returns:
        Finite; 0 without events.

    *Source*: Lindon and Malek (2022), arXiv 2011.03567, with a normal mixture over the log ratio
    (Robbins 1970, Ann. Math. Stat. 41) in place of the Dirichlet, so that stages share it.

    Examples:
        >>> ramp = [StageEvents(25, 190, 0.05), StageEvents(230, 150, 0.5)]
        >>> round(event_ratio_log_e(ramp, tau=0.5, side=Side.GREATER), 6)
        12.426116
        >>> safe = event_ratio_log_e(ramp, tau=0.5, side=Side.LESS, margin_ratio=3.0)
        >>> bool(safe > log(40))
        True
    """
    taus = (tau,) if isinstance(tau, int | float) else tuple(tau)
    if not taus:
        raise ValueError("a mixture needs at least one tau")
    likelihood = RatioLikelihood.of(stages, margin_ratio=margin_ratio)
    if side is Side.LESS:
        likelihood = likelihood.mirrored()
    one_sided = side is not Side.TWO_SIDED
    logs = [likelihood.log_marginal(tau=each, one_sided=one_sided) for each in taus]
    top = max(logs)
    return top + log(sum(exp(each - top) for each in logs) / len(logs))
