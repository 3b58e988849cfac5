"""Bounded horizon and planning: from cases to the engine."""

from collections.abc import Callable
from math import ceil
from typing import Any

from experiments.stats.designs import POCOCK, boundary_constant, inflation
from experiments.stats.planning import open_ended_course
from experiments.stats.power import (
    arcsine_units_per_arm,
    fixed_units,
    fixed_units_from_baseline,
    fixed_units_per_arm,
    running_power,
)
from experiments.stats.spending import PowerFamily, boundary, obrien_fleming
from tests.reference.adapters.gaussian import effect_of

Inputs = dict[str, Any]
Answer = dict[str, Any]


def _group_sequential(x: Inputs) -> Answer:
    if "t" in x:
        return {"z": _boundaries(x)}
    given = {"alpha": x["alpha"], "sides": x.get("sides", 2)}
    if "power" in x:
        given["power"] = x["power"]
        return {"R_B": inflation(x["K"], **given), "R_P": inflation(x["K"], **given, shape=POCOCK)}
    return {
        "C_B_obrien_fleming": boundary_constant(x["K"], **given),
        "C_P_pocock": boundary_constant(x["K"], **given, shape=POCOCK),
    }


def _boundaries(x: Inputs) -> list[float]:
    looks = tuple((t, t) for t in x["t"])
    if "phi" in x:
        # Per side: that package never lets one side's boundary stop the other's test.
        given = {"alpha": x["alpha"] / x.get("sides", 2), "spending": PowerFamily(x["phi"])}
    else:
        given = {"alpha": x["alpha"], "sides": x.get("sides", 2), "spending": obrien_fleming}
    return [boundary(looks[:k], **given) for k in range(1, len(looks) + 1)]


def _planning(x: Inputs) -> Answer:
    if "t_opt" in x:
        return _open_ended(x)
    if "target_mde" in x:
        return _running(x)
    given = {"alpha": x["alpha"], "power": x["power"], "sides": x.get("sides", 2)}
    if "p1" in x:
        return {
            "n_arcsine": arcsine_units_per_arm(x["p0"], x["p1"], **given),
            "n_unpooled_z": fixed_units_per_arm(x["p0"], x["p1"], **given),
        }
    if "variance" in x:
        variances = (x["variance"], x["variance"])
        return {"total": ceil(fixed_units(x["mde"], variances=variances, **given))}
    return {"total": ceil(fixed_units_from_baseline(x["p0"], x["mde"], **given))}


def _open_ended(x: Inputs) -> Answer:
    given = {"alpha": x["alpha"], "tuned_at": x["t_opt"], "sides": x.get("sides", 2)}
    course, null = open_ended_course(**given), open_ended_course(**given, effect=0.0)
    return {
        "N50": course.sample_for(0.5),
        "N80": course.sample_for(0.8),
        "N90": course.sample_for(0.9),
        "E_stop_trunc4": course.expected_sample,
        "power_at_1": course.decided_by(1.0),
        "fpr_by_1": null.decided_by(1.0),
        "fpr_by_4": null.decided_by(4.0),
    }


def _running(x: Inputs) -> Answer:
    found = running_power(
        x["target_mde"],
        error=effect_of({"difference_type": "relative"} | x).error,
        units=x["treatment"]["n"] + x["control"]["n"],
        alpha=x.get("alpha", 0.05),
        power=x.get("target_power", x.get("power", 0.8)),
        planned=x["n_star"] if x.get("sequential") else None,
    )
    return {
        "power_now": found.power,
        "scaling_factor": found.growth,
        "additional_users": found.units,
    }


ADAPTERS: dict[str, Callable[[Inputs], Answer]] = {
    "group_sequential": _group_sequential,
    "power_planning": _planning,
}
