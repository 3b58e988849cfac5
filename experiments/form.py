"""The shape of an experiment file, field by field; `experiments.spec` turns it into domain values.

Checks that compare two fields sit on the later of the two, so that the place of the error is a
field and never the file as a whole. They are skipped while one of the two is itself wrong.
"""

import re
from datetime import timedelta
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from experiments.audience import MOST_CONDITIONS
from experiments.audience_form import ConditionForm
from experiments.field import (
    HEADING,
    Duration,
    ErrorRate,
    Form,
    HeaderText,
    Said,
    Share,
    VersionNumber,
    Wrong,
    accepted_by,
)
from experiments.goal_form import GoalForm, GuardrailForm
from experiments.metric import Metric, Quantile, Slow
from experiments.model import WHOLE, BasisPoints, experiment_name, layer_name
from experiments.quantities import write_duration, write_share
from experiments.shadow_form import NOBODY, ShadowOrShare, require_pairs_tell
from experiments.spelling import shown
from experiments.unit import FORMS, RequestUnit, parse_unit
from registry.refs import RESERVED, users_model_name

_NAMING = "use lower-case letters, digits, '-' and '_', at most 63 of them"
_LONGEST_DEADLINE = timedelta(minutes=5)
_SHORTEST_HOLDBACK = timedelta(seconds=1)
_SEGMENT = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)

ModelText = Annotated[
    str, accepted_by(users_model_name, f"{_NAMING}, and do not begin with {RESERVED!r}")
]
ExperimentText = Annotated[str, accepted_by(experiment_name, _NAMING)]
LayerText = Annotated[str, accepted_by(layer_name, _NAMING)]
UnitText = Annotated[str, accepted_by(parse_unit, f"use {FORMS}; a header is {HEADING}")]


def _at_most_all(share: int) -> int:
    if share > WHOLE:
        raise Wrong(f"must be at most 100%, not {_share(share)}")
    return share


Part = Annotated[Share, AfterValidator(_at_most_all)]


class LimitsForm(Form):
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


class AlphaForm(Form):
    harm: ErrorRate = 0.05
    promote: ErrorRate = 0.025
    sample_ratio: ErrorRate = 0.001


class HorizonForm(Form):
    units: int = Field(ge=1, le=1_000_000_000)


class HoldbackForm(Form):
    share: Share
    span: Duration = Field(alias="for")

    @field_validator("share")
    @classmethod
    def _is_something(cls, share: int) -> int:
        if not 0 < share < WHOLE:
            raise Wrong(f"must be above 0% and below 100%, not {_share(share)}")
        return share

    @field_validator("span")
    @classmethod
    def _is_a_while(cls, span: timedelta) -> timedelta:
        if span < _SHORTEST_HOLDBACK:
            raise Wrong(f"must be at least 1s, not {write_duration(span)}")
        return span


class SegmentsForm(Form):
    header: HeaderText
    values: list[str] = Field(min_length=1, max_length=8)

    @field_validator("values")
    @classmethod
    def _can_travel(cls, values: list[str]) -> list[str]:
        for index, value in enumerate(values):
            if not _SEGMENT.fullmatch(value):
                raise Wrong(
                    f"{shown(value)} is not allowed: "
                    "use letters, digits, '_', '.' and '-', at most 32 of them",
                    index,
                )
            if value in values[:index]:
                raise Wrong(f"says the same as values[{values.index(value)}]", index)
        return values


class FailoverForm(Form):
    budget: Part


class LayerForm(Form):
    name: LayerText
    part: list[Part] = Field(min_length=2, max_length=2)

    @field_validator("part")
    @classmethod
    def _begins_before_it_ends(cls, part: list[int]) -> list[int]:
        if part[0] >= part[1]:
            raise Wrong(f"must be above {_share(part[0])}, where the part begins", 1)
        return part


class FileForm(Form):
    name: ExperimentText
    model: ModelText
    challengers: list[VersionNumber] | None = Field(default=None, min_length=1, max_length=8)
    challenger: VersionNumber | None = Field(default=None, validate_default=True)
    unit: UnitText
    mode: Literal["live", "shadow"] = "live"
    share: list[Share] | None = Field(
        default=None, min_length=1, max_length=20, validate_default=True
    )
    limits: LimitsForm = LimitsForm()
    goal: GoalForm | None = Field(default=None, validate_default=True)
    guardrails: list[GuardrailForm] = Field(default=[], max_length=20)
    alpha: AlphaForm = AlphaForm()
    deadline: Duration = timedelta(seconds=2)
    failover: FailoverForm | None = None
    horizon: HorizonForm | None = None
    holdback: HoldbackForm | None = None
    segments: SegmentsForm | None = None
    audience: list[ConditionForm] | None = Field(
        default=None, min_length=1, max_length=MOST_CONDITIONS
    )
    layer: LayerForm | None = None
    shadow: ShadowOrShare | None = Field(default=None, validate_default=True)

    @field_validator("challengers")
    @classmethod
    def _are_different(cls, versions: list[int]) -> list[int]:
        for index, version in enumerate(versions):
            if version in versions[:index]:
                raise Wrong(f"says the same as challengers[{versions.index(version)}]", index)
        return versions

    @field_validator("challenger")
    @classmethod
    def _is_the_only_one(cls, version: int | None, info: ValidationInfo) -> int | None:
        if version is None and info.data.get("challengers", ()) is None:
            raise Wrong("is required, or challengers with a list of versions")
        if version is not None and info.data.get("challengers") is not None:
            raise Wrong("cannot stand beside challengers: give one of both")
        return version

    @property
    def versions(self) -> list[int]:
        return self.challengers or ([] if self.challenger is None else [self.challenger])

    @field_validator("share", "goal")
    @classmethod
    def _need_users(cls, value: object, info: ValidationInfo) -> object:
        live = Said(info.data)["mode"] == "live"
        if live and value is None:
            raise Wrong("is required")
        if not live and value is not None:
            raise Wrong(f"leave it out: {NOBODY}")
        return value

    @field_validator("failover", "horizon", "holdback", "segments")
    @classmethod
    def _watch_users(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and Said(info.data)["mode"] != "live":
            raise Wrong(f"leave it out: {NOBODY}")
        return value

    @field_validator("shadow")
    @classmethod
    def _is_there(cls, shadow: object, info: ValidationInfo) -> object:
        if shadow is None and Said(info.data)["mode"] != "live":
            raise Wrong("is required with mode: shadow, such as `shadow: 20%`")
        return shadow

    @field_validator("limits")
    @classmethod
    def _count_users(cls, limits: LimitsForm, info: ValidationInfo) -> LimitsForm:
        if "min_units" in limits.model_fields_set and Said(info.data)["mode"] != "live":
            raise Wrong(f"use pairs, in shadow: {NOBODY}", "min_units")
        return limits

    @field_validator("share")
    @classmethod
    def _grows(cls, ramp: list[int] | None) -> list[int] | None:
        if ramp is None:
            return None
        for index, share in enumerate(ramp):
            if not 0 < share < WHOLE:
                raise Wrong(f"must be above 0% and below 100%, not {_share(share)}", index)
        for index, (before, after) in enumerate(pairwise(ramp), start=1):
            if after <= before:
                raise Wrong(f"shares must grow: {_share(after)} after {_share(before)}", index)
        return ramp

    @field_validator("goal")
    @classmethod
    def _closes_in_time(cls, goal: GoalForm | None, info: ValidationInfo) -> GoalForm | None:
        if goal is not None:
            _check_window(goal.window, info, "window")
        return goal

    @field_validator("guardrails")
    @classmethod
    def _differ(cls, guardrails: list[GuardrailForm], info: ValidationInfo) -> list[GuardrailForm]:
        goal: GoalForm | None = info.data.get("goal")
        seen: dict[str, Metric] = {} if goal is None else {"goal": goal.declared_metric}
        for index, guardrail in enumerate(guardrails):
            _check_window(guardrail.window, info, index, "window")
            metric = guardrail.declared_metric
            if info.data.get("mode") == "shadow":
                require_pairs_tell(metric, index)
            for where, other in seen.items():
                _check_pair(metric, index, other, where)
            seen[f"guardrails[{index}]"] = metric
        return guardrails

    @field_validator("deadline")
    @classmethod
    def _is_bounded(cls, deadline: timedelta) -> timedelta:
        if not timedelta(0) < deadline <= _LONGEST_DEADLINE:
            longest = write_duration(_LONGEST_DEADLINE)
            raise Wrong(f"must be longer than 0s and at most {longest}")
        return deadline

    @field_validator("horizon")
    @classmethod
    def _holds_both_arms(cls, horizon: HorizonForm, info: ValidationInfo) -> HorizonForm:
        limits: LimitsForm | None = info.data.get("limits")
        if limits is not None and horizon.units < 2 * limits.min_units:
            raise Wrong(
                f"must be at least {2 * limits.min_units}: it counts both arms, "
                f"and the challenger alone has to meet {limits.min_units} (limits.min_units)",
                "units",
            )
        return horizon

    @field_validator("holdback")
    @classmethod
    def _finds_units(cls, holdback: HoldbackForm, info: ValidationInfo) -> HoldbackForm:
        ramp: list[int] | None = info.data.get("share")
        if ramp is None:
            return holdback
        if ramp[-1] + holdback.share > WHOLE:
            raise Wrong(
                f"the last share is {_share(ramp[-1])}, so at most {_share(WHOLE - ramp[-1])} of "
                "the units have not met a challenger",
                "share",
            )
        if ramp[-1] + holdback.share == WHOLE and info.data.get("unit") != str(RequestUnit()):
            # Units that met a challenger before are no longer randomised: nothing could be seen.
            raise Wrong(
                f"must be below {_share(holdback.share)}: the last share is {_share(ramp[-1])}, "
                "and some who have not met a challenger must now do so, to be compared with",
                "share",
            )
        return holdback


def _check_window(window: timedelta | None, info: ValidationInfo, *at: str | int) -> None:
    limits: LimitsForm | None = info.data.get("limits")
    if window is not None and limits is not None and window >= limits.max_runtime:
        raise Wrong(
            f"must be below max_runtime: {write_duration(window)} "
            f"against {write_duration(limits.max_runtime)}",
            *at,
        )


def _check_pair(metric: Metric, index: int, other: Metric, where: str) -> None:
    """Refuse two metrics that one outcome could not serve, or that are the same."""
    if metric.name != other.name:
        return
    if metric.key == other.key:
        raise Wrong(f"says the same as {where}: {metric.key} can be declared once", index)
    both = isinstance(metric.kind, Slow | Quantile) and isinstance(other.kind, Slow | Quantile)
    if not both:
        raise Wrong(f"{metric.name} is of another kind in {where}", index, "kind")
    if metric.window != other.window:
        raise Wrong(f"{metric.name} has another window in {where}", index, "window")


def _share(share: int) -> str:
    return write_share(BasisPoints(share))
