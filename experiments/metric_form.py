"""The shape of a metric in an experiment file, whether it stands in the goal or in a guardrail.

What may be said of a metric depends on its kind. Each check sits on the field that it refuses, and
is skipped while what it depends on is itself wrong.
"""

import re
from datetime import timedelta
from typing import Annotated, Literal, assert_never

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from experiments.evidence import LATE, LOST, LOST_REQUESTS, REFUSED, UNITS
from experiments.field import Duration, Form, Said, Wrong
from experiments.metric import (
    EDGE_METRICS,
    ERROR_RATE,
    LATENCY,
    Binary,
    Count,
    Kind,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Score,
    Slow,
)
from experiments.quantities import (
    Bounds,
    read_bounds,
    read_cap,
    read_share,
    write_duration,
    write_number,
)
from experiments.spelling import shown

EDGE_COUNTERS = ("requests", "failovers", "errors", UNITS, LOST, LOST_REQUESTS, LATE, REFUSED)
"""Counters that are kept besides metrics; no metric may have the name of one."""

_DEFAULT_STEPS = 100
_MOST_STEPS = 1000
_FINEST = 1e-9
"""Relative to the bounds of a score: what floats tell apart with digits to spare."""
_SHORTEST_WINDOW = timedelta(seconds=1)

_METRIC = re.compile(r"[a-z][a-z0-9_]{0,62}")
_ONLY = {
    "cap": "mean",
    "covariate": "mean",
    "range": "score",
    "step": "score",
    "quantile": "latency",
    "above": "latency",
}
KINDS_AT_EDGE = {ERROR_RATE: "count", LATENCY: "latency"}
KINDS = "binary, mean, score, ratio, latency, count"


def _read_quantile(value: object) -> float:
    share = read_share(value)
    if not 0 < share < 10_000:
        raise Wrong(f"must be above 0% and below 100%, not {value}")
    return share / 10_000


class MetricForm(Form):
    metric: str
    kind: Literal["binary", "mean", "score", "ratio", "latency", "count"] = Field(
        default=None, validate_default=True
    )
    per: Literal["unit", "request"] | None = None
    window: Duration | None = None
    cap: Annotated[Bounds, BeforeValidator(read_cap)] | None = Field(
        default=None, validate_default=True
    )
    covariate: bool = False
    range: Annotated[Bounds, BeforeValidator(read_bounds)] | None = Field(
        default=None, validate_default=True
    )
    step: float | None = Field(default=None, gt=0)
    quantile: Annotated[float, BeforeValidator(_read_quantile)] | None = None
    above: int | None = Field(default=None, gt=0, le=600_000, validate_default=True)

    @field_validator("metric")
    @classmethod
    def _is_a_name_of_its_own(cls, metric: str) -> str:
        if not _METRIC.fullmatch(metric):
            raise Wrong(
                f"{shown(metric)} is not a metric name: start with a lower-case letter, "
                "then use lower-case letters, digits and '_', at most 63 in all"
            )
        if metric in EDGE_COUNTERS:
            raise Wrong(f"{metric} is counted at the edge: name the metric otherwise")
        return metric

    @field_validator("kind", mode="before")
    @classmethod
    def _is_known(cls, kind: object, info: ValidationInfo) -> object:
        metric = Said(info.data)["metric"]
        if kind is None:
            return cls.kind_by_default(metric)
        wanted = KINDS_AT_EDGE.get(metric, kind)
        if kind != wanted:
            raise Wrong(f"{metric} is measured at the edge: its kind is {wanted}")
        return kind

    @classmethod
    def kind_by_default(cls, metric: str) -> str:
        """Return the kind of a metric whose file does not tell it."""
        return KINDS_AT_EDGE.get(metric, "binary")

    @field_validator("per")
    @classmethod
    def _can_be_observed(cls, per: str, info: ValidationInfo) -> str:
        kind = Said(info.data)["kind"]
        if kind == "ratio" and per == "unit":
            raise Wrong("a ratio is always per request: leave it out")
        if kind in ("latency", "count") and per == "request":
            raise Wrong(f"a {kind} metric is always per unit: a unit counts once, however often")
        return per

    @field_validator("window")
    @classmethod
    def _is_for_outcomes(cls, window: timedelta, info: ValidationInfo) -> timedelta:
        metric = Said(info.data)["metric"]
        if metric in EDGE_METRICS:
            raise Wrong(f"{metric} is measured at the edge, at once: it has no window")
        if window < _SHORTEST_WINDOW:
            raise Wrong(f"must be at least 1s, not {write_duration(window)}")
        return window

    @field_validator(*_ONLY)
    @classmethod
    def _is_of_the_kind(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        kind, only = Said(info.data)["kind"], _ONLY[info.field_name]
        if value is not None and kind != only:
            raise Wrong(f"a {kind} metric does not take it: only {only} does")
        return value

    @field_validator("cap")
    @classmethod
    def _is_declared(cls, cap: Bounds | None, info: ValidationInfo) -> Bounds | None:
        if cap is None and Said(info.data)["kind"] == "mean":
            raise Wrong("a mean needs it: values beyond count as this, so that a few cannot decide")
        return cap

    @field_validator("covariate")
    @classmethod
    def _is_of_a_unit(cls, covariate: bool, info: ValidationInfo) -> bool:
        if covariate and Said(info.data)["per"] == "request":
            raise Wrong("belongs to a unit: it cannot be used with per: request")
        return covariate

    @field_validator("range")
    @classmethod
    def _is_bounded(cls, bounds: Bounds | None, info: ValidationInfo) -> Bounds | None:
        if Said(info.data)["kind"] != "score":
            return bounds
        if bounds is None:
            raise Wrong("a score needs it: the least and the most that it can be, such as [1, 5]")
        low, high = bounds
        if high - low < _DEFAULT_STEPS * _FINEST * max(abs(low), abs(high)):
            raise Wrong("is too narrow for numbers of this size: subtract what they share")
        return bounds

    @field_validator("step")
    @classmethod
    def _divides_the_range(cls, step: float, info: ValidationInfo) -> float:
        low, high = Said(info.data)["range"]
        steps = (high - low) / step
        if steps > _MOST_STEPS * (1 + _FINEST):
            least = write_number((high - low) / _MOST_STEPS)
            raise Wrong(f"is too fine: at most {_MOST_STEPS} steps, so at least {least}")
        if round(steps) < 1 or abs(steps - round(steps)) > _FINEST * steps:
            bounds = f"{write_number(low)} to {write_number(high)}"
            raise Wrong(f"must divide the range: {write_number(step)} does not divide {bounds}")
        return step

    @field_validator("above")
    @classmethod
    def _is_one_of_two(cls, above: int | None, info: ValidationInfo) -> int | None:
        if Said(info.data)["kind"] != "latency":
            return above
        quantile = Said(info.data)["quantile"]
        if above is None and quantile is None:
            raise Wrong(
                f"{info.data['metric']} needs it: the milliseconds beyond which a request is slow; "
                "or give quantile, such as 99%"
            )
        if above is not None and quantile is not None:
            raise Wrong("cannot stand beside quantile: declare two metrics")
        return above

    @property
    def declared_metric(self) -> Metric:
        per = Per.REQUEST if self.kind == "ratio" else Per(self.per or "unit")
        return Metric(self.metric, self._declared_kind(), per, self.window)

    def _declared_kind(self) -> Kind:
        match self.kind:
            case "binary":
                return Binary()
            case "mean":
                assert self.cap is not None
                return Mean(*self.cap, covariate=self.covariate)
            case "score":
                assert self.range is not None
                low, high = self.range
                return Score(low, high, self.step or (high - low) / _DEFAULT_STEPS)
            case "ratio":
                return Ratio()
            case "latency" if self.quantile is not None:
                return Quantile(self.quantile)
            case "latency":
                assert self.above is not None
                return Slow(self.above)
            case "count":
                return Count()
            case _:
                assert_never(self.kind)
