"""Bounded values, quantiles and several hypotheses: from cases to the engine."""

from collections.abc import Callable
from math import exp, inf, log
from typing import Any

from experiments.stats.bands import count_radius, distribution_radius
from experiments.stats.betting import (
    empirical_bernstein_interval,
    hedged_capital_interval,
    hedged_capital_log_e,
)
from experiments.stats.combine import (
    anytime_p_value,
    calibrated_log_e,
    e_benjamini_hochberg,
)
from experiments.stats.intervals import Insufficient, IntervalOrNot
from experiments.stats.quantiles import QuantileStage, quantile_log_e
from tests.reference.series import read_series

Inputs = dict[str, Any]
Answer = dict[str, Any]


def _quantile(x: Inputs) -> Answer:
    stage = QuantileStage.of_values(read_series(x["arm_b"]), read_series(x["arm_a"]))
    found = quantile_log_e(
        [stage], p=x["quantile_p"], tuned_n=x["t_opt"], alpha=x.get("alpha_opt", 0.05)
    )
    return {"p_value": anytime_p_value(found), "log_e": found}


def _hedged(x: Inputs) -> Answer:
    log_es = hedged_capital_log_e(
        read_series(x["x"]),
        mean=x["m"],
        alpha=x["alpha"],
        truncation=x.get("trunc_scale", 0.5),
        upward=x.get("theta", 0.5),
    )
    return {"log_e": [log_es[t - 1] for t in x["t"]] if "t" in x else log_es[-1]}


def _intervals(method: Callable[..., IntervalOrNot], option: str) -> Callable[[Inputs], Answer]:
    def answer(x: Inputs) -> Answer:
        values = read_series(x["x"])
        times = x.get("t", [len(values)])
        found = [method(values[:t], alpha=x["alpha"], truncation=x.get(option, 0.5)) for t in times]
        return {
            "lower": [0.0 if isinstance(each, Insufficient) else each.low for each in found],
            "upper": [1.0 if isinstance(each, Insufficient) else each.high for each in found],
        }

    return answer


def _radius(x: Inputs) -> Answer:
    # Observations in {-g, h} have variance g h each; those in {0, 1} are g + h times smaller.
    g, h = x["g"], x["h"]
    radius = count_radius(
        x["v"] / (g * h),
        p=g / (g + h),
        alpha=x["alpha"],
        tuned_n=x["v_opt"] / (g * h),
        tuned_alpha=x.get("alpha_opt", 0.05),
        one_sided=x["is_one_sided"],
    )
    return {"bound": (g + h) * radius}


def _band(x: Inputs) -> Answer:
    radius = distribution_radius(
        x["t"], alpha=x["alpha"], first_n=x["t_min"], factor=x.get("A", 0.85)
    )
    return {"bound": radius}


def _logs(e_values: list[float]) -> list[float]:
    return [log(float(e)) if float(e) > 0.0 else -inf for e in e_values]


def _e_bh(x: Inputs) -> Answer:
    return {"reject": [*e_benjamini_hochberg(_logs(x["e"]), alpha=x["alpha"])]}


def _calibrated(x: Inputs) -> Answer:
    return {
        "kappa_half": exp(calibrated_log_e(x["p"], kappa=0.5)),
        "mixture": exp(calibrated_log_e(x["p"])),
    }


ADAPTERS: dict[str, Callable[[Inputs], Answer]] = {
    "beta_binomial_mixture": _radius,
    "betting_cs": _intervals(hedged_capital_interval, "trunc_scale"),
    "betting_e_process": _hedged,
    "e_bh": _e_bh,
    "empirical_bernstein_cs": _intervals(empirical_bernstein_interval, "truncation"),
    "p_to_e": _calibrated,
    "quantile_band_DKW": _band,
    "quantile_two_sample": _quantile,
}
