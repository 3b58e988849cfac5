"""What is wrong with an experiment file, told in the file's words and with its place."""

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from experiments.audience_form import ConditionForm
from experiments.errors import Problem
from experiments.field import Unsure, Wrong
from experiments.form import (
    AlphaForm,
    FailoverForm,
    FileForm,
    HoldbackForm,
    HorizonForm,
    LayerForm,
    LimitsForm,
    SegmentsForm,
)
from experiments.goal_form import GoalForm, GuardrailForm
from experiments.shadow_form import ShadowForm
from experiments.source import Path, Source, dotted
from experiments.spelling import did_you_mean, shown

_FORMS: dict[tuple[str, ...], type[BaseModel]] = {
    (): FileForm,
    ("goal",): GoalForm,
    ("guardrails",): GuardrailForm,
    ("limits",): LimitsForm,
    ("alpha",): AlphaForm,
    ("failover",): FailoverForm,
    ("horizon",): HorizonForm,
    ("holdback",): HoldbackForm,
    ("segments",): SegmentsForm,
    ("shadow",): ShadowForm,
    ("audience",): ConditionForm,
    ("layer",): LayerForm,
}

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list in brackets",
    "model_type": "fields with values",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def problem_of(source: Source, detail: ErrorDetails) -> Problem | None:
    """Return what pydantic found in the file's words, or None where it is told already."""
    wrong = detail.get("ctx", {}).get("error")
    path: Path = detail["loc"] + (wrong.at if isinstance(wrong, Wrong) else ())
    if isinstance(wrong, Unsure) or source.is_spoilt(path):
        return None
    kind = detail["type"]
    if kind == "missing":
        position = source.name_position(path[:-1])
    elif kind == "extra_forbidden":
        position = source.name_position(path)
    else:
        position = source.value_position(path)
    return Problem(dotted(path), position.line, position.column, _message(path, detail))


def _message(path: Path, detail: ErrorDetails) -> str:
    given = detail["input"]
    ctx = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            form = _FORMS[tuple(part for part in path[:-1] if isinstance(part, str))]
            known = [field.alias or name for name, field in form.model_fields.items()]
            meant = did_you_mean(str(path[-1]), known)
            return f"unknown field{meant or '; known are ' + ', '.join(known)}"
        case "value_error":
            return str(ctx["error"])
        case "literal_error":
            return f"{shown(given)} is not known; use {ctx['expected']}"
        case "too_short":
            return f"must hold at least {ctx['min_length']}, not {ctx['actual_length']}"
        case "too_long":
            return f"must hold at most {ctx['max_length']}, not {ctx['actual_length']}"
        case kind:
            return f"must be {_EXPECTED[kind].format(**ctx)}, not {shown(given)}"
