"""Means, ratios and adjusted means: from summaries to the engine."""

from collections.abc import Callable
from typing import Any, TypeVar

from experiments.stats.combine import anytime_p_value
from experiments.stats.contrast import Estimate, estimate_interval, estimate_log_e
from experiments.stats.covariate import adjusted, theta
from experiments.stats.fixed_horizon import (
    Arm,
    adjusted_effect,
    arm_estimate,
    effect,
    log_ratio_interval,
    proportion_z,
    student_test,
)
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.means import StageMoments
from experiments.stats.mixture import (
    known_variance_log_e,
    normal_mixture_bound,
    normal_mixture_log_e,
    normal_mixture_radius,
    normal_mixture_sum_log_e,
    one_sided_radius_bound,
    t_mixture_log_e,
    t_mixture_radius,
)
from experiments.stats.moments import Moments
from experiments.stats.normal import neg_log10_p, normal_p_value
from experiments.stats.published import one_sided_interval, one_sided_p_value
from experiments.stats.stages import Side
from experiments.stats.tuning import approximate_omega, information_by_units, omega_star
from tests.reference.series import read_series

Inputs = dict[str, Any]
Answer = dict[str, Any]
T = TypeVar("T")


def _log_e(x: Inputs) -> Answer:
    z, w = x["z"], x["w"]
    return {
        "log_e": normal_mixture_log_e(z, w),
        "log_e_one_sided": normal_mixture_log_e(z, w, Side.GREATER),
    }


def _one_sided(x: Inputs) -> Answer:
    alpha = x["alpha"]
    if "w" in x:
        return {
            "z_exact": normal_mixture_radius(x["w"], alpha=alpha, side=Side.GREATER),
            "z_closed": one_sided_radius_bound(x["w"], alpha=alpha),
            "z_two_sided": normal_mixture_radius(x["w"], alpha=alpha),
        }
    found, w = effect_of(x), _unit_clock(x, approximate_omega(2.0 * alpha))
    side = Side.LESS if "Lesser" in x.get("call", "") else Side.GREATER
    interval = one_sided_interval(found, w, alpha=alpha, side=side)
    p_value = one_sided_p_value(found, w, side=side)
    return _point(found) | _bounds(interval) | {"p_value": p_value}


def _two_sided(x: Inputs) -> Answer:
    found, w = effect_of(x), _unit_clock(x, approximate_omega(x["alpha"]))
    asymptotic = Estimate(found.value, found.error)
    p_value = anytime_p_value(estimate_log_e(asymptotic, w, Side.TWO_SIDED))
    interval = estimate_interval(asymptotic, w, alpha=x["alpha"])
    return _point(found) | _bounds(interval) | {"p_value": p_value} | _theta(x)


def _fixed(x: Inputs) -> Answer:
    if "m1" in x:
        one, other = (Arm(x[f"n{k}"], x[f"m{k}"], x[f"s{k}"] * x[f"s{k}"]) for k in (1, 2))
        test = student_test(_told(effect(one, other)), alpha=0.05)
        return {"t": test.statistic, "p": test.p_value}
    if "type" not in x["control"]:
        return _fixed_by_variances(x)
    found = effect_of(x)
    test = student_test(found, alpha=x["alpha"])
    return _point(found) | _bounds(test.interval) | {"p_value": test.p_value} | _theta(x)


def _fixed_by_variances(x: Inputs) -> Answer:
    alpha = x.get("alpha", 0.05)
    stage = StageMoments(_moments(x["treatment"]), _moments(x["control"]))
    if "mean_y" in x["control"]:
        (stage,) = adjusted([stage])
    of = Arm.of_ratio if "mean_num" in x["control"] else Arm.of_mean
    one, other = _told(of(stage.treatment)), _told(of(stage.control))
    found = _told(effect(one, other))
    test = student_test(found, alpha=alpha)
    relative = _told(log_ratio_interval(one, other, alpha=alpha))
    return {
        "control": other.value,
        "treatment": one.value,
        "effect_size": found.value,
        "effect_size_ci_lower": test.interval.low,
        "effect_size_ci_upper": test.interval.high,
        "rel_effect_size": relative.estimate - 1.0,
        "rel_effect_size_ci_lower": relative.low - 1.0,
        "rel_effect_size_ci_upper": relative.high - 1.0,
        "pvalue": test.p_value,
        "statistic": test.statistic,
    }


def _t(x: Inputs) -> Answer:
    if "t2" not in x:
        g, n = x["g"], x["n"]
        radius = t_mixture_radius(degrees=n - x["k"], shrinkage=g / (g + n), alpha=x["alpha"])
        return {"t_radius": radius}
    g, n = (x["g"], x["n"]) if "g" in x else (x["phi"], x["z2"])
    return {"log_e": t_mixture_log_e(x["t2"], degrees=x["nu"], shrinkage=g / (g + n))}


def _mixture(x: Inputs) -> Answer:
    tuned = {"v_opt": x["v_opt"], "alpha_opt": x["alpha_opt"], "one_sided": x["is_one_sided"]}
    if "s" in x:
        return {"log_e": normal_mixture_sum_log_e(x["s"], x["v"], **tuned)}
    return {"bound": normal_mixture_bound(x["v"], alpha=x["alpha"], **tuned)}


def _one_sample(x: Inputs) -> Answer:
    moments = Moments.of(read_series(x["x"]))
    w = information_by_units(omega_star(x["alpha"]), units=moments.n, planned=x["t_opt"])
    found = _told(arm_estimate(Arm.of_mean(moments)))
    interval = estimate_interval(found, w, alpha=x["alpha"])
    return {"estimate": found.value, "lower": interval.low, "upper": interval.high}


def _known_variance(x: Inputs) -> Answer:
    log_e = known_variance_log_e(
        x["mean"], n=x["n"], null=x["theta0"], deviation=x["sigma"], tau=x["tau"]
    )
    return {"log_e": log_e}


def _pooled_z(x: Inputs) -> Answer:
    one, other = (Arm.of_proportion(s, n) for s, n in zip(x["s"], x["n"], strict=True))
    z = _told(proportion_z(one, other))
    return {"z": z, "p": normal_p_value(z)}


def _unpooled_z(x: Inputs) -> Answer:
    other, one = (Arm.of_proportion(s, n) for s, n in zip(x["s"], x["n"], strict=True))
    found = _told(effect(one, other))
    test = student_test(Estimate(found.value, found.error), alpha=x.get("alpha", 0.05))
    interval = test.interval
    return {
        "diff": found.value,
        "lower": interval.low,
        "upper": interval.high,
        "p": test.p_value,
    }


def _tail(x: Inputs) -> Answer:
    return {"p": normal_p_value(x["z"]), "neg_log10_p": neg_log10_p(x["z"])}


def effect_of(x: Inputs) -> Estimate:
    relative = x["difference_type"] == "relative"
    if x["control"]["type"] == "cuped":
        return _told(adjusted_effect(_stage(x), relative=relative))
    one, other = (_arm(x[name]) for name in ("treatment", "control"))
    return _told(effect(one, other, relative=relative))


def _arm(x: Inputs) -> Arm:
    match x["type"]:
        case "proportion":
            return Arm.of_proportion(x["sum"], x["n"])
        case "ratio":
            return _told(Arm.of_ratio(_pairs(x["m"], x["d"], x["md"])))
        case _:
            return Arm.of_mean(_of_sums(x))


def _stage(x: Inputs) -> StageMoments:
    one, other = (_pairs(x[k]["post"], x[k]["pre"], x[k]["pp"]) for k in ("treatment", "control"))
    return StageMoments(one, other)


def _of_sums(x: Inputs) -> Moments:
    n, total = x["n"], x["sum"]
    if x["type"] == "proportion":
        # Such a share's variance is p (1 - p) in the packages that the cases are from.
        p = total / n
        return Moments(n, p, p * (1.0 - p) * (n - 1))
    return Moments(n, total / n, x["sum_squares"] - total**2 / n)


def _pairs(y: Inputs, x: Inputs, products: float) -> Moments:
    one, other, n = _of_sums(y), _of_sums(x), y["n"]
    co = products - y["sum"] * x["sum"] / n
    if y["type"] == x["type"] == "proportion":
        co *= (n - 1) / n
    return Moments(n, one.mean, one.m2, other.mean, other.m2, co)


def _moments(x: Inputs) -> Moments:
    n, free = x["n"], x["n"] - 1
    if "mean" in x:
        return Moments(n, x["mean"], x["var"] * free)
    y, of = ("num", "den") if "mean_num" in x else ("y", "x")
    means, spreads = (x[f"mean_{y}"], x[f"mean_{of}"]), (x[f"var_{y}"], x[f"var_{of}"])
    return Moments(n, means[0], spreads[0] * free, means[1], spreads[1] * free, x["cov"] * free)


def _theta(x: Inputs) -> Answer:
    return {"theta": theta([_stage(x)])} if x["control"]["type"] == "cuped" else {}


def _unit_clock(x: Inputs, omega: float) -> float:
    units = x["treatment"]["n"] + x["control"]["n"]
    return information_by_units(omega, units=units, planned=x["n_star"])


def _point(found: Estimate) -> Answer:
    return {"point_estimate": found.value, "se": found.error}


def _bounds(interval: Interval) -> Answer:
    return {"ci_lower": interval.low, "ci_upper": interval.high}


class _Unanswered(Exception):
    """The engine says that nothing can be said."""


def _told(found: T | Insufficient) -> T:
    if isinstance(found, Insufficient):
        raise _Unanswered(found.reason)
    return found


def _if_told(adapter: Callable[[Inputs], Answer]) -> Callable[[Inputs], Answer]:
    """Answer no key at all where the engine says that nothing can be said."""

    def answer(x: Inputs) -> Answer:
        try:
            return adapter(x)
        except _Unanswered:
            return {}

    return answer


_ADAPTERS: dict[str, Callable[[Inputs], Answer]] = {
    "anytime_valid_t": _t,
    "asymptotic_cs_log_e": _log_e,
    "asymptotic_cs_one_sample": _one_sample,
    "asymptotic_cs_one_sided": _one_sided,
    "asymptotic_cs_two_sided": _two_sided,
    "cuped": _fixed,
    "cuped_asymptotic_cs": _two_sided,
    "msprt": _known_variance,
    "normal_mixture": _mixture,
    "ratio_asymptotic_cs": _two_sided,
    "ratio_delta": _fixed,
    "tiny_p": _tail,
    "welch_t_delta": _fixed,
    "z_test_pooled": _pooled_z,
    "z_test_unpooled": _unpooled_z,
}

ADAPTERS = {area: _if_told(adapter) for area, adapter in _ADAPTERS.items()}
