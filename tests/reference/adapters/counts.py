"""Counts: conditional, randomisation and multinomial tests, and how e-values combine."""

from collections.abc import Callable
from itertools import accumulate
from math import exp, log
from typing import Any

from experiments.stats.binary import randomisation_log_e
from experiments.stats.combine import (
    anytime_p_value,
    e_holm,
    product_log_e,
    weighted_mean_log_e,
)
from experiments.stats.effects import conditional_ratio_interval
from experiments.stats.events import conditional_log_e, event_ratio_log_e
from experiments.stats.intervals import beta_mixture_interval
from experiments.stats.proportion import bernoulli_interval, tuned_bernoulli_interval
from experiments.stats.rate_ratio import shifted_share
from experiments.stats.sample_ratio import multinomial_log_e
from experiments.stats.stages import Side, StageCounts, StageEvents
from experiments.stats.tuning import approximate_omega, omega_star

Inputs = dict[str, Any]
Answer = dict[str, Any]


def _randomisation(x: Inputs) -> Answer:
    stages = [StageCounts(*counts) for counts in x["stages"]]
    log_e = randomisation_log_e(stages, tau=x["tau"], planning_rate=x["pi"], nodes=x["m"])
    return {"log_e": log_e}


def _ramp(x: Inputs) -> Answer:
    side = Side.GREATER if x["one_sided"] else Side.TWO_SIDED
    stages = [StageEvents(*counts) for counts in x["stages"]]
    return {"log_e": event_ratio_log_e(stages, tau=x["tau"], side=side)}


def _conditional(x: Inputs) -> Answer:
    if "theta0" in x:
        first, second = x["counts"]
        prior = tuple(x["concentration"] * theta for theta in x["theta0"])
        found = beta_mixture_interval(first, second, alpha=x["alpha"], prior=lambda _p, _q: prior)
        return {"lower": [found.low], "upper": [found.high]}
    if "concentration" in x:
        control, treatment = x["counts"]
        share = x["rho"][1]
        prior = (x["concentration"] * share, x["concentration"] * x["rho"][0])
        ratio = conditional_ratio_interval(
            treatment, control, share=share, prior=prior, alpha=x["alpha"]
        )
        return {
            "log_e": conditional_log_e(treatment, control, share=share, prior=prior),
            "log_ratio": log(ratio.estimate),
            "ci_lower": log(ratio.low),
            "ci_upper": log(ratio.high),
        }
    events = (x["events_treat"], x["events_control"])
    given = {"share": x["rho"], "prior": (x["a"], x["b"])}
    ratio = conditional_ratio_interval(*events, **given, alpha=x["alpha"])
    return {
        "log_e": conditional_log_e(*events, **given),
        "log_e_harm": conditional_log_e(*events, **given, side=Side.GREATER),
        "log_e_benefit": conditional_log_e(*events, **given, side=Side.LESS),
        "ratio_ci_lower": ratio.low,
        "ratio_ci_upper": ratio.high,
    }


def _non_inferiority(x: Inputs) -> Answer:
    events = (x["events_treat"], x["events_control"])
    share = shifted_share(x["rho"], ratio=1.0 - x["margin_rel"])
    given = {"share": share, "prior": (x["k"] * share, x["k"] * (1.0 - share))}
    return {
        "q0": share,
        "log_e_noninferior": conditional_log_e(*events, **given, side=Side.GREATER),
        "log_e_inferior": conditional_log_e(*events, **given, side=Side.LESS),
    }


def _bernoulli_interval(x: Inputs) -> Answer:
    if "t_opt" in x:
        found = tuned_bernoulli_interval(
            x["num_successes"],
            x["num_trials"],
            alpha=x["alpha"],
            planned_n=x["t_opt"],
            alpha_opt=x["alpha_opt"],
        )
    else:
        found = bernoulli_interval(x["successes"], x["n"], alpha=x["alpha"], prior=(x["a"], x["b"]))
    return {"lower": found.low, "upper": found.high}


def _bernoulli_test(x: Inputs) -> Answer:
    successes, failures = x["successes"], x["n"] - x["successes"]
    prior = (x["a"], x["b"])
    return {"log_e": conditional_log_e(successes, failures, share=x["p0"], prior=prior)}


def _sample_ratio(x: Inputs) -> Answer:
    def log_e(counts: list[int]) -> float:
        return multinomial_log_e(counts, x["theta0"], concentration=x["concentration"])

    if "counts" in x:
        found = log_e(x["counts"])
        return {"log_e": found, "p_value": anytime_p_value(found)}
    running = accumulate(x["batches"], _add)
    log_es = [log_e(counts) for counts in running]
    p_values = accumulate(map(anytime_p_value, log_es), min)
    return {"log_e": log_es, "p_running_min": [*p_values]}


def _add(sums: list[int], batch: list[int]) -> list[int]:
    return [a + b for a, b in zip(sums, batch, strict=True)]


def _merge(x: Inputs) -> Answer:
    log_es = [log(e) for e in x["e"]]
    return {
        "mean": exp(weighted_mean_log_e(log_es, x["w"])),
        "log_product": product_log_e(log_es),
    }


def _multiple(x: Inputs) -> Answer:
    return {"adjusted": [exp(e) for e in e_holm([log(e) for e in x["e"]])]}


def _tuning(x: Inputs) -> Answer:
    return {
        "omega_exact": [omega_star(alpha) for alpha in x["alpha"]],
        "omega_howard": [approximate_omega(alpha) for alpha in x["alpha"]],
    }


ADAPTERS: dict[str, Callable[[Inputs], Answer]] = {
    "bernoulli_cs": _bernoulli_interval,
    "bernoulli_e_process": _bernoulli_test,
    "bernoulli_randomisation_eprocess": _randomisation,
    "conditional_poisson": _conditional,
    "e_merge": _merge,
    "e_multiple": _multiple,
    "mixture_tuning": _tuning,
    "non_inferiority_exact": _non_inferiority,
    "ramp_conditional": _ramp,
    "srm_dirichlet_multinomial": _sample_ratio,
}
