"""The normal mixture: evidence in a z or t value that may be looked at as often as one likes.

A z value is weighed against effects spread like N(0, tau^2), or that folded to one side. All that
matters of tau is w = tau^2 / SE^2, which grows with the information in the data.
"""

from math import erf, exp, expm1, inf, log, log1p, sqrt

from scipy.optimize import brentq
from scipy.special import erfcx

from experiments.stats.intervals import require_alpha
from experiments.stats.normal import student_log_cdf
from experiments.stats.stages import Side
from experiments.stats.tuning import approximate_omega

_LOG_2, _ROOT_2 = log(2.0), sqrt(2.0)
_MOST_EXPONENT = 700.0
_FARTHEST_T = 1e9


def normal_mixture_log_e(z: float, w: float, side: Side = Side.TWO_SIDED) -> float:
    """Evidence in a z value.

    *Estimand*: log e-value. TWO_SIDED: the null is an effect of 0. GREATER: an effect of at most
    0. LESS: of at least 0.

    *Assumes*: z behaves like a Brownian motion over the square root of its information, with
    tau, hence w, not chosen by looking at the data.

    *Valid*: at any time; exact for normal increments of known variance, otherwise asymptotic.

    Args:
        z: Effect over its standard error.
        w: tau^2 over squared standard error, positive.
        side: GREATER if only positive z count, LESS if only negative.

    *Source*: Robbins (1970), Ann. Math. Stat. 41; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas
    (2024), Annals of Statistics 52, arXiv 2103.06476, two-sided and one-sided asymptotic
    confidence sequences. On the unlikely side the two growing terms are cancelled by hand.

    Examples:
        >>> round(normal_mixture_log_e(10.0, 8.0), 6)
        43.345832
        >>> round(normal_mixture_log_e(-5.0, 8.0, Side.GREATER), 6)
        -2.915751
    """
    if not 0.0 < w < inf:
        raise ValueError(f"w must be positive and finite, got {w}")
    x = z * sqrt(w / (1.0 + w)) if w > 1e-300 else 0.0
    start = -0.5 * log1p(w)
    if side is Side.TWO_SIDED:
        return start + 0.5 * x * x
    if side is Side.LESS:
        x = -x
    if x < 0.0:
        return start + log(float(erfcx(-x / _ROOT_2)))
    return start + 0.5 * x * x + log1p(erf(x / _ROOT_2))


def known_variance_log_e(
    mean: float, *, n: int, null: float, deviation: float, tau: float, side: Side = Side.TWO_SIDED
) -> float:
    """Evidence that the mean of one sample is not `null`: the mixture sequential probability ratio.

    *Estimand*: as `normal_mixture_log_e`.

    *Assumes*: independent normal values with standard deviation `deviation`.

    *Valid*: at any time, exact.

    *Source*: Johari, Koomen, Pekelis and Walsh (2022), "Always Valid Inference: Continuous
    Monitoring of A/B Tests", Operations Research 70, on the mixture test; Robbins (1970).

    Examples:
        >>> found = known_variance_log_e(0.05, n=1_000, null=0.0, deviation=1.0, tau=0.1)
        >>> round(found, 6)
        -0.062584
    """
    if n == 0:
        return 0.0
    error = deviation / sqrt(n)
    root = tau / error
    return normal_mixture_log_e((mean - null) / error, root * root, side)


def normal_mixture_radius(w: float, *, alpha: float, side: Side = Side.TWO_SIDED) -> float:
    """How many standard errors a z value must reach for evidence of 1 / alpha.

    *Estimand*, *Assumes*, *Valid*: as `normal_mixture_log_e`, inverted.

    Args:
        w: tau^2 over squared standard error, positive.
        alpha: Probability of ever reaching it under the null.
        side: Both one-sided ones have the same.

    *Source*: as `normal_mixture_log_e`; one-sided by root finding.

    Examples:
        >>> w = 6.638352067993812
        >>> round(normal_mixture_radius(w, alpha=0.05), 6)
        3.038664
        >>> round(normal_mixture_radius(w, alpha=0.05, side=Side.GREATER), 6)
        2.765827
    """
    require_alpha(alpha)
    threshold = -log(alpha)
    both = sqrt((1.0 + 1.0 / w) * (log1p(w) + 2.0 * threshold))
    if side is Side.TWO_SIDED or both == inf:
        return both
    return float(
        brentq(
            lambda z: normal_mixture_log_e(z, w, Side.GREATER) - threshold,
            0.0,
            both,
            xtol=1e-13,
            rtol=1e-13,
        )
    )


def one_sided_radius_bound(w: float, *, alpha: float) -> float:
    """A little more than the one-sided `normal_mixture_radius`, in closed form.

    *Source*: Waudby-Smith et al. (2024), arXiv 2103.06476, one-sided asymptotic confidence
    sequences; used by GrowthBook.

    Examples:
        >>> round(one_sided_radius_bound(6.638352067993812, alpha=0.05), 6)
        2.778515
    """
    require_alpha(alpha)
    return sqrt(2.0 * (1.0 + 1.0 / w) * log1p(sqrt(1.0 + w) / (2.0 * alpha)))


def one_sided_bound_p_value(z: float, w: float) -> float:
    """The alpha at which `one_sided_radius_bound` is just z, at most 1.

    Examples:
        >>> round(one_sided_bound_p_value(one_sided_radius_bound(8.0, alpha=0.03), 8.0), 12)
        0.03
        >>> one_sided_bound_p_value(-1.0, 8.0)
        1.0
    """
    exponent = 0.5 * z * z * (w / (1.0 + w))
    if z <= 0.0 or exponent == 0.0:
        return 1.0
    if exponent > _MOST_EXPONENT:
        return 0.5 * sqrt(1.0 + w) * exp(-exponent)
    return min(1.0, 0.5 * sqrt(1.0 + w) / expm1(exponent))


def t_mixture_log_e(t_squared: float, *, degrees: float, shrinkage: float) -> float:
    """Evidence in the square of a t value, where the variance is known from few groups only.

    *Estimand*: log e-value for the null of an effect of 0, two-sided.

    *Assumes*: normal residuals; `shrinkage` not chosen by looking at the effect.

    *Valid*: at any time.

    Args:
        t_squared: Square of effect over standard error.
        degrees: Residual degrees of freedom, positive.
        shrinkage: 1 / (1 + w), in (0, 1).

    *Source*: Lindon, Ham, Tingley and Bojinov, "Anytime-Valid Linear Models and Regression
    Adjusted Causal Inference in Randomized Experiments", arXiv 2210.08589, for one coefficient.

    Examples:
        >>> round(t_mixture_log_e(9.0, degrees=998, shrinkage=1.0 / 1001.0), 6)
        1.025442
    """
    _require_t(degrees, shrinkage)
    growth = log1p(t_squared / degrees) - log1p(shrinkage * (t_squared / degrees))
    return 0.5 * log(shrinkage) + 0.5 * (degrees + 1.0) * growth


def t_mixture_one_sided_log_e(t: float, *, degrees: float, shrinkage: float) -> float:
    """Evidence that the effect behind a t value is positive.

    *Estimand*: log e-value for the null of an effect of at most 0; give -t for the other side.

    *Assumes*, *Valid*, *Args*: as `t_mixture_log_e`.

    *Source*: as there; the mixture is folded to positive effects, which multiplies the e-value by
    twice the posterior probability of a positive effect: Student's t with one degree more.

    Examples:
        >>> both = t_mixture_log_e(9.0, degrees=30, shrinkage=0.1)
        >>> one = t_mixture_one_sided_log_e(3.0, degrees=30, shrinkage=0.1)
        >>> both < one < both + log(2.0)
        True
    """
    two_sided = t_mixture_log_e(t * t, degrees=degrees, shrinkage=shrinkage)
    scale = sqrt((1.0 - shrinkage) * (degrees + 1.0) / (degrees + shrinkage * t * t))
    return _LOG_2 + two_sided + student_log_cdf(t * scale, degrees=degrees + 1.0)


def t_mixture_radius(
    *, degrees: float, shrinkage: float, alpha: float, side: Side = Side.TWO_SIDED
) -> float:
    """How many standard errors a t value must reach for evidence of 1 / alpha.

    *Estimand*, *Assumes*, *Valid*: as `t_mixture_log_e`, inverted.

    Returns:
        Infinity if no t value is evidence enough with so few degrees of freedom.

    *Source*: as `t_mixture_log_e`; one-sided by root finding.

    Examples:
        >>> round(t_mixture_radius(degrees=997, shrinkage=1.0 / 11.0, alpha=0.05), 6)
        3.043966
        >>> t_mixture_radius(degrees=1, shrinkage=0.9, alpha=0.05)
        inf
    """
    require_alpha(alpha)
    _require_t(degrees, shrinkage)
    power = exp((log(shrinkage) + 2.0 * log(alpha)) / (degrees + 1.0))
    both = sqrt(degrees * (1.0 - power) / (power - shrinkage)) if power > shrinkage else inf
    if side is Side.TWO_SIDED:
        return both
    far = min(both, _FARTHEST_T)

    def surplus(t: float) -> float:
        return t_mixture_one_sided_log_e(t, degrees=degrees, shrinkage=shrinkage) + log(alpha)

    return float(brentq(surplus, 0.0, far, xtol=1e-13, rtol=1e-13)) if surplus(far) > 0.0 else inf


def normal_mixture_bound(
    v: float, *, alpha: float, v_opt: float, alpha_opt: float, one_sided: bool
) -> float:
    """How far a sum with variance v may stray, at all v at once.

    *Estimand*: u(v) with P(some S_v reaches u(v)) at most alpha; |S_v| if two-sided.

    *Assumes*: S is sub-Gaussian with variance v.

    *Valid*: at all v at once.

    Args:
        v: Accumulated variance, positive.
        alpha: See above.
        v_opt: Variance at which the bound is to be tightest.
        alpha_opt: Level at which it is to be so.
        one_sided: See above.

    *Source*: Howard, Ramdas, McAuliffe and Sekhon (2021), "Time-uniform, nonparametric,
    nonasymptotic confidence sequences", Annals of Statistics 49, section on normal mixtures.

    Examples:
        >>> bound = normal_mixture_bound(100.0, alpha=0.05, v_opt=1e3, alpha_opt=0.05,
        ...                              one_sided=False)
        >>> round(bound, 6)
        38.550546
    """
    w, side = _tuned(v, v_opt, alpha_opt, one_sided)
    return sqrt(v) * normal_mixture_radius(w, alpha=alpha, side=side)


def normal_mixture_sum_log_e(
    s: float, v: float, *, v_opt: float, alpha_opt: float, one_sided: bool
) -> float:
    """Evidence in a sum with variance v, for `normal_mixture_bound`.

    Examples:
        >>> log_e = normal_mixture_sum_log_e(100.0, 1e3, v_opt=1e3, alpha_opt=0.05,
        ...                                  one_sided=False)
        >>> round(log_e, 6)
        3.345423
    """
    w, side = _tuned(v, v_opt, alpha_opt, one_sided)
    return normal_mixture_log_e(s / sqrt(v), w, side)


def _tuned(v: float, v_opt: float, alpha_opt: float, one_sided: bool) -> tuple[float, Side]:
    omega = approximate_omega(2.0 * alpha_opt if one_sided else alpha_opt)
    return omega * v / v_opt, Side.GREATER if one_sided else Side.TWO_SIDED


def shrunk_estimate(estimate: float, error: float, tau: float) -> tuple[float, float]:
    """What to expect of an effect that was picked out because it looked large.

    *Estimand*: mean and standard deviation of the effect, given the estimate.

    *Assumes*: effects are spread like N(0, tau^2) over experiments.

    *Valid*: whenever one stops.

    *Source*: the posterior of the normal model, with tau fixed beforehand.

    Examples:
        >>> value, deviation = shrunk_estimate(0.02, 0.01, 0.01)
        >>> value, round(deviation, 9)
        (0.01, 0.007071068)
    """
    if not (error > 0.0 and tau > 0.0):
        raise ValueError(f"error and tau must be positive, got {error} and {tau}")
    kept = 1.0 / (1.0 + (error / tau) * (error / tau))
    return estimate * kept, error * sqrt(kept)


def _require_t(degrees: float, shrinkage: float) -> None:
    if not degrees > 0.0:
        raise ValueError(f"degrees of freedom must be positive, got {degrees}")
    if not 0.0 < shrinkage < 1.0:
        raise ValueError(f"shrinkage must lie strictly between 0 and 1, got {shrinkage}")
