"""The shape of an experiment file, field by field; `experiments.spec` turns it into domain values.

Checks that compare two fields sit on the later of the two, so that the place of the error is a
field and never the file as a whole. They are skipped while one of the two is itself wrong.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from experiments.model import WHOLE, BasisPoints, experiment_name, parse_unit
from experiments.quantities import (
    read_duration,
    read_rate,
    read_share,
    write_duration,
    write_rate,
    write_share,
)
from experiments.spelling import shown
from registry.errors import TiltyardError
from registry.refs import model_name

EDGE_METRICS = ("error_rate", "latency_ms")
"""What the edge measures by itself, so what a guardrail may watch."""

EDGE_COUNTERS = (*EDGE_METRICS, "requests", "failovers", "errors", "units")
"""Counters that the edge keeps; a goal metric of such a name would be mixed up with them."""

_METRIC = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NAMING = "use lower-case letters, digits, '-' and '_', at most 63 of them"
_LONGEST_DEADLINE = timedelta(minutes=5)


class Wrong(ValueError):
    """A problem with a value, or with what stands at `at` inside it."""

    def __init__(self, message: str, *at: str | int) -> None:
        super().__init__(message)
        self.at = at


def _accepted_by(check: Callable[[str], object], advice: str) -> AfterValidator:
    def checked(text: str) -> str:
        try:
            check(text)
        except TiltyardError:
            raise Wrong(f"{shown(text)} is not allowed: {advice}") from None
        return text

    return AfterValidator(checked)


ModelText = Annotated[str, _accepted_by(model_name, _NAMING)]
ExperimentText = Annotated[str, _accepted_by(experiment_name, _NAMING)]
UnitText = Annotated[
    str,
    _accepted_by(parse_unit, "use `request` or `header:NAME`, the name in lower case"),
]
Rate = Annotated[float, BeforeValidator(read_rate)]
Share = Annotated[int, BeforeValidator(read_share)]
Duration = Annotated[timedelta, BeforeValidator(read_duration)]
ErrorRate = Annotated[float, Field(gt=0, lt=0.5)]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class GoalForm(_Form):
    metric: str
    kind: Literal["binary"] = "binary"
    direction: Literal["increase", "decrease"]
    min_effect: Rate
    baseline: Rate | None = None

    @field_validator("metric")
    @classmethod
    def _is_a_name_of_its_own(cls, metric: str) -> str:
        if not _METRIC.fullmatch(metric):
            raise Wrong(
                f"{shown(metric)} is not a metric name: start with a lower-case letter, "
                "then use lower-case letters, digits and '_', at most 63 in all"
            )
        if metric in EDGE_COUNTERS:
            raise Wrong(f"{metric} is measured at the edge: name the goal otherwise")
        return metric

    @field_validator("min_effect")
    @classmethod
    def _can_happen(cls, effect: float, info: ValidationInfo) -> float:
        if not 0 < effect <= 10:
            raise Wrong(f"must be above 0% and at most 1000%, not {write_rate(effect)}")
        if info.data.get("direction") == "decrease" and effect >= 1:
            raise Wrong(f"no rate can decrease by {write_rate(effect)}: it must be below 100%")
        return effect

    @field_validator("baseline")
    @classmethod
    def _leaves_room(cls, baseline: float | None, info: ValidationInfo) -> float | None:
        if baseline is None or not 0 < baseline < 1:
            raise Wrong("must be above 0% and below 100%")
        effect = info.data.get("min_effect")
        growing = info.data.get("direction") == "increase"
        if growing and effect is not None and baseline * (1 + effect) > 1:
            raise Wrong(
                f"a rate of {write_rate(baseline)} cannot grow by {write_rate(effect)} of itself"
            )
        return baseline


class GuardrailForm(_Form):
    metric: Literal["error_rate", "latency_ms"]
    above: int | None = Field(default=None, gt=0, le=600_000, validate_default=True)
    max_ratio: float = Field(gt=1, le=1000)
    negligible: Rate = 0.01

    @field_validator("above")
    @classmethod
    def _belongs_to_latency(cls, above: int | None, info: ValidationInfo) -> int | None:
        metric = info.data.get("metric")
        if metric == "latency_ms" and above is None:
            raise Wrong("latency_ms needs it: the milliseconds beyond which a request is slow")
        if metric == "error_rate" and above is not None:
            raise Wrong("error_rate does not take it: only latency_ms does")
        return above

    @field_validator("negligible")
    @classmethod
    def _is_a_rate(cls, negligible: float) -> float:
        if not 0 < negligible < 1:
            raise Wrong(f"must be above 0% and below 100%, not {write_rate(negligible)}")
        return negligible


class LimitsForm(_Form):
    min_units: int = Field(default=200, ge=1, le=1_000_000)
    min_runtime: Duration = timedelta(minutes=10)
    max_runtime: Duration = Field(default="7d", validate_default=True)

    @field_validator("max_runtime")
    @classmethod
    def _comes_later(cls, longest: timedelta, info: ValidationInfo) -> timedelta:
        shortest = info.data.get("min_runtime")
        if shortest is not None and longest <= shortest:
            raise Wrong(
                f"must be longer than min_runtime: {write_duration(longest)} "
                f"against {write_duration(shortest)}"
            )
        return longest


class AlphaForm(_Form):
    harm: ErrorRate = 0.05
    promote: ErrorRate = 0.025
    sample_ratio: ErrorRate = 0.001


class FileForm(_Form):
    name: ExperimentText
    model: ModelText
    challenger: int = Field(ge=1, le=999_999_999)
    unit: UnitText
    share: list[Share] = Field(min_length=1, max_length=20)
    goal: GoalForm
    guardrails: list[GuardrailForm] = Field(default=[], max_length=20)
    limits: LimitsForm = LimitsForm()
    alpha: AlphaForm = AlphaForm()
    deadline: Duration = timedelta(seconds=2)

    @field_validator("share")
    @classmethod
    def _grows(cls, ramp: list[int]) -> list[int]:
        for index, share in enumerate(ramp):
            if not 0 < share < WHOLE:
                raise Wrong(f"must be above 0% and below 100%, not {_share(share)}", index)
        for index, (before, after) in enumerate(pairwise(ramp), start=1):
            if after <= before:
                raise Wrong(f"shares must grow: {_share(after)} after {_share(before)}", index)
        return ramp

    @field_validator("guardrails")
    @classmethod
    def _differ(cls, guardrails: list[GuardrailForm]) -> list[GuardrailForm]:
        seen: dict[Any, int] = {}
        for index, guardrail in enumerate(guardrails):
            key = (guardrail.metric, guardrail.above)
            if key in seen:
                raise Wrong(f"says the same as guardrails[{seen[key]}]", index)
            seen[key] = index
        return guardrails

    @field_validator("deadline")
    @classmethod
    def _is_bounded(cls, deadline: timedelta) -> timedelta:
        if not timedelta(0) < deadline <= _LONGEST_DEADLINE:
            longest = write_duration(_LONGEST_DEADLINE)
            raise Wrong(f"must be longer than 0s and at most {longest}")
        return deadline


def _share(share: int) -> str:
    return write_share(BasisPoints(share))
