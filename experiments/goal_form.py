"""The shape of the goal and of guardrails in an experiment file: what is asked of a metric.

Numbers are percentages where shares of units are compared, and plain otherwise.
"""

from datetime import timedelta
from math import inf
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from experiments.field import Rate, Said, Wrong
from experiments.metric import (
    EDGE_METRICS,
    ERROR_RATE,
    Count,
    Direction,
    Goal,
    Guardrail,
    Slow,
    Worse,
)
from experiments.metric_form import KINDS, KINDS_AT_EDGE, MetricForm
from experiments.quantities import read_number, read_rate, write_number, write_rate
from experiments.spelling import did_you_mean

DEFAULT_NEGLIGIBLE = 0.01
SMALLEST_EFFECT = 0.0001
"""Less would take more units than there are."""


def _is_share(info: ValidationInfo) -> bool:
    """Return whether what is compared is a share of units, so a percentage."""
    said = Said(info.data)
    kind = said["kind"]
    return kind in ("binary", "count") or (kind == "latency" and said["above"] is not None)


def _read_baseline(value: object, info: ValidationInfo) -> float:
    if _is_share(info):
        rate = read_rate(value)
        if not 0 < rate < 1:
            raise Wrong("must be above 0% and below 100%")
        return rate
    number = _positive(value)
    if Said(info.data)["kind"] == "score":
        low, high = Said(info.data)["range"]
        if not low < number < high:
            raise Wrong(f"must be within {write_number(low)} and {write_number(high)}, not at them")
    return number


def _read_spread(value: object, info: ValidationInfo) -> float:
    if _is_share(info):
        raise Wrong("of a share of units is known from its baseline: leave it out")
    return _positive(value)


def _read_difference(value: object, info: ValidationInfo) -> float:
    kind = Said(info.data)["kind"]
    if kind == "latency" and not _is_share(info):
        raise Wrong("a quantile does not take it: give max_ratio")
    if not _is_share(info):
        margin = _positive(value)
        for bounds in ("cap", "range"):
            low, high = Said(info.data)[bounds] or (-inf, inf)
            if margin >= high - low:
                raise Wrong(f"must be below {write_number(high - low)}: {bounds} is no wider")
        return margin
    rate = read_rate(value)
    if not 0 < rate < 1:
        raise Wrong(f"must be above 0% and below 100%, not {value}")
    return rate


def _positive(value: object) -> float:
    number = read_number(value)
    if number <= 0:
        raise Wrong(f"must be above 0, not {write_number(number)}")
    return number


def _require_scale(baseline: object, info: ValidationInfo) -> object:
    """Refuse a metric without any bounds of which no size is known: a test needs some scale."""
    said = Said(info.data)
    if baseline is None and said["kind"] == "ratio" and "max_difference" not in info.data:
        raise Wrong("is required for a ratio: about what is it with the champion?")
    if baseline is None and said["kind"] == "ratio" and said["max_difference"] is None:
        raise Wrong("is required for a ratio with max_ratio: about what is it with the champion?")
    return baseline


def _may_still_come(metric: str, kind: str | None, window: timedelta | None) -> bool:
    """Return whether a unit without an event may have one reported at any time."""
    return kind == "count" and metric not in EDGE_METRICS and window is None


Baseline = Annotated[float, BeforeValidator(_read_baseline)]
Known = Annotated[Baseline | None, BeforeValidator(_require_scale)]
Spread = Annotated[float, BeforeValidator(_read_spread)]


class GoalForm(MetricForm):
    direction: Literal["increase", "decrease"]
    min_effect: Rate
    baseline: Known = Field(default=None, validate_default=True)
    spread: Spread | None = None

    @field_validator("metric")
    @classmethod
    def _can_be_a_goal(cls, metric: str) -> str:
        if metric == ERROR_RATE:
            raise Wrong(f"{metric} is watched for harm, so it cannot be the goal")
        return metric

    @field_validator("min_effect")
    @classmethod
    def _can_happen(cls, effect: float, info: ValidationInfo) -> float:
        if not SMALLEST_EFFECT <= effect <= 10:
            least = write_rate(SMALLEST_EFFECT)
            raise Wrong(f"must be at least {least} and at most 1000%, not {write_rate(effect)}")
        if info.data.get("direction") == "decrease" and effect >= 1:
            raise Wrong(
                f"nothing can decrease by {write_rate(effect)} of itself: it must be below 100%"
            )
        return effect

    @field_validator("baseline")
    @classmethod
    def _leaves_room(cls, baseline: float | None, info: ValidationInfo) -> float | None:
        if baseline is None:
            return None
        said = Said(info.data)
        effect, grown = said["min_effect"], baseline * (1 + said["min_effect"])
        if said["direction"] == "decrease":
            return baseline
        if _is_share(info) and grown > 1:
            rate = write_rate(baseline)
            raise Wrong(f"a rate of {rate} cannot grow by {write_rate(effect)} of itself")
        if said["kind"] == "score" and grown > said["range"][1]:
            score = write_number(baseline)
            raise Wrong(f"a score of {score} cannot grow by {write_rate(effect)} within its range")
        return baseline

    @property
    def declared(self) -> Goal:
        return Goal(
            self.declared_metric,
            Direction(self.direction),
            self.min_effect,
            self.baseline,
            self.spread,
        )


class GuardrailForm(MetricForm):
    worse: Literal["higher", "lower", "either"] = Field(default=None, validate_default=True)
    max_difference: Annotated[float, BeforeValidator(_read_difference)] | None = None
    max_ratio: float | None = Field(default=None, gt=1, le=1000, validate_default=True)
    negligible: Rate | None = None
    baseline: Known = Field(default=None, validate_default=True)
    spread: Spread | None = None

    @classmethod
    def kind_by_default(cls, metric: str) -> str:
        """Return the kind of what the edge measures; an outcome's has to be declared."""
        if metric not in KINDS_AT_EDGE:
            meant = did_you_mean(metric, EDGE_METRICS)
            known = f"the edge does not measure {metric}{meant}"
            raise Wrong(f"is required, for {known}; an outcome is one of {KINDS}")
        return KINDS_AT_EDGE[metric]

    @field_validator("worse", mode="before")
    @classmethod
    def _is_said_or_plain(cls, worse: object, info: ValidationInfo) -> object:
        if worse is not None:
            return worse
        kind = Said(info.data)["kind"]
        if kind not in ("latency", "count"):
            raise Wrong(f"is required for a {kind} metric: higher, lower or either")
        return "higher"

    @field_validator("max_ratio")
    @classmethod
    def _is_the_only_margin(cls, ratio: float | None, info: ValidationInfo) -> float | None:
        difference = Said(info.data)["max_difference"]
        if ratio is None and difference is None:
            kind = Said(info.data)["kind"]
            quantile = kind == "latency" and not _is_share(info)
            raise Wrong("is required" + ("" if quantile else ", or give max_difference"))
        if ratio is not None and difference is not None:
            raise Wrong("cannot stand beside max_difference: give one of both")
        return ratio

    @field_validator("negligible")
    @classmethod
    def _is_a_rate_of_bad_units(cls, negligible: float, info: ValidationInfo) -> float:
        if not 0 < negligible < 1:
            raise Wrong(f"must be above 0% and below 100%, not {write_rate(negligible)}")
        kind = Said(info.data)["kind"]
        if kind == "binary" or not _is_share(info):
            words = "quantile" if kind == "latency" else kind
            raise Wrong(f"a {words} metric does not take it: only count and latency above do")
        if _may_still_come(Said(info.data)["metric"], kind, Said(info.data)["window"]):
            raise Wrong("needs a window: an event that may still be reported is not absent yet")
        return negligible

    @property
    def declared(self) -> Guardrail:
        metric = self.declared_metric
        open_end = _may_still_come(metric.name, self.kind, metric.window)
        bad_units = isinstance(metric.kind, Slow | Count) and not open_end
        return Guardrail(
            metric,
            Worse(self.worse),
            self.max_ratio,
            self.max_difference,
            (self.negligible or DEFAULT_NEGLIGIBLE) if bad_units else None,
            self.baseline,
            self.spread,
        )
