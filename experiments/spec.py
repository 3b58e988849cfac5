"""The experiment file: YAML to a `Declaration`, with the place of everything that is wrong.

What the file may say, and what holds where it says nothing:

    name, model     lower-case letters, digits, `-` and `_`, at most 63 characters
    challenger      a version, a whole number from 1
    unit            `request` or `header:NAME`, the name in lower case
    share           the ramp: 1 to 20 percentages, growing, above 0% and below 100%
    goal            metric, direction (increase, decrease), min_effect, kind (binary), baseline
    guardrails      metric error_rate or latency_ms (with above, in ms), max_ratio, negligible (1%)
    limits          min_units (200), min_runtime (10m), max_runtime (7d)
    alpha           harm (0.05), promote (0.025), sample_ratio (0.001)
    deadline        how long the challenger may take (2s)

A file without a guardrail on `error_rate` is given one with `max_ratio: 2.0`: no challenger is
tried without its errors being watched.
"""

import hashlib
from typing import Any

import orjson
import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from experiments.errors import InvalidFile, Problem
from experiments.form import (
    AlphaForm,
    FileForm,
    GoalForm,
    GuardrailForm,
    LimitsForm,
    Wrong,
)
from experiments.model import (
    Alpha,
    BasisPoints,
    Declaration,
    Direction,
    Goal,
    Guardrail,
    Limits,
    experiment_name,
    parse_unit,
)
from experiments.quantities import write_duration, write_rate, write_share
from experiments.source import Path, Source, dotted, read_source, scalar
from experiments.spelling import did_you_mean, shown
from registry.refs import Version, model_name

WATCHED_ERRORS = Guardrail("error_rate", max_ratio=2.0)
"""The guardrail that a file without one on `error_rate` is given."""

_FORMS: dict[tuple[str, ...], type[BaseModel]] = {
    (): FileForm,
    ("goal",): GoalForm,
    ("guardrails",): GuardrailForm,
    ("limits",): LimitsForm,
    ("alpha",): AlphaForm,
}

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list in brackets",
    "model_type": "fields with values",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
}


def read_declaration(raw: bytes | str) -> Declaration:
    """Read an experiment file.

    Raises:
        InvalidFile: something in it is wrong; carries everything that is, in the file's order.
    """
    source = read_source(raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))
    try:
        form = FileForm.model_validate(source.data)
    except ValidationError as error:
        found = [_problem(source, detail) for detail in error.errors(include_url=False)]
        source.problems += [problem for problem in found if problem is not None]
    if source.problems:
        raise InvalidFile(tuple(sorted(source.problems, key=lambda p: (p.line, p.column))))
    guardrails = tuple(_guardrail(each) for each in form.guardrails)
    if all(guardrail.metric != WATCHED_ERRORS.metric for guardrail in guardrails):
        guardrails = (WATCHED_ERRORS, *guardrails)
    return Declaration(
        name=experiment_name(form.name),
        model=model_name(form.model),
        challenger=Version(form.challenger),
        unit=parse_unit(form.unit),
        ramp=tuple(BasisPoints(share) for share in form.share),
        goal=_goal(form.goal),
        guardrails=guardrails,
        limits=Limits(form.limits.min_units, form.limits.min_runtime, form.limits.max_runtime),
        alpha=Alpha(form.alpha.harm, form.alpha.promote, form.alpha.sample_ratio),
        deadline=form.deadline,
    )


def as_dict(declaration: Declaration) -> dict[str, Any]:
    """Return the declaration in the file's own words, every default written out."""
    goal, limits, alpha = declaration.goal, declaration.limits, declaration.alpha
    return {
        "name": declaration.name,
        "model": declaration.model,
        "challenger": declaration.challenger,
        "unit": str(declaration.unit),
        "share": [write_share(share) for share in declaration.ramp],
        "goal": {
            "metric": goal.metric,
            "kind": "binary",
            "direction": goal.direction.value,
            "min_effect": write_rate(goal.min_effect),
        }
        | ({} if goal.baseline is None else {"baseline": write_rate(goal.baseline)}),
        "guardrails": [_guardrail_as_dict(guardrail) for guardrail in declaration.guardrails],
        "limits": {
            "min_units": limits.min_units,
            "min_runtime": write_duration(limits.min_runtime),
            "max_runtime": write_duration(limits.max_runtime),
        },
        "alpha": {
            "harm": alpha.harm,
            "promote": alpha.promote,
            "sample_ratio": alpha.sample_ratio,
        },
        "deadline": write_duration(declaration.deadline),
    }


def to_yaml(declaration: Declaration) -> str:
    """Return a file that `read_declaration` reads as an equal declaration."""
    return yaml.dump(
        as_dict(declaration), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100
    )


def spec_hash(declaration: Declaration) -> str:
    """Return `sha256:...` of what is declared, whatever the file's layout, comments and spelling.

    Defaults are part of it: a release with other defaults does not change an old hash.
    """
    canonical = orjson.dumps(as_dict(declaration), option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


class _Dumper(yaml.SafeDumper):
    """Quotes every text that this reader, or another of YAML 1.1, takes for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _goal(form: GoalForm) -> Goal:
    return Goal(form.metric, Direction(form.direction), form.min_effect, form.baseline)


def _guardrail(form: GuardrailForm) -> Guardrail:
    return Guardrail(form.metric, form.max_ratio, form.above, form.negligible)


def _guardrail_as_dict(guardrail: Guardrail) -> dict[str, Any]:
    above = {} if guardrail.above_ms is None else {"above": guardrail.above_ms}
    return {
        "metric": guardrail.metric,
        **above,
        "max_ratio": guardrail.max_ratio,
        "negligible": write_rate(guardrail.negligible),
    }


def _problem(source: Source, detail: ErrorDetails) -> Problem | None:
    """Return what pydantic found in the file's words, or None where the reader has spoken."""
    wrong = detail.get("ctx", {}).get("error")
    path: Path = detail["loc"] + (wrong.at if isinstance(wrong, Wrong) else ())
    if any(path[:length] in source.spoilt for length in range(len(path) + 1)):
        return None
    kind = detail["type"]
    if kind == "missing":
        position = source.name_position(path[:-1])
    elif kind == "extra_forbidden":
        position = source.name_position(path)
    else:
        position = source.value_position(path)
    return Problem(dotted(path), position.line, position.column, _message(source, path, detail))


def _message(source: Source, path: Path, detail: ErrorDetails) -> str:
    given = detail["input"]
    ctx = detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            known = _FORMS[tuple(part for part in path[:-1] if isinstance(part, str))].model_fields
            meant = did_you_mean(str(path[-1]), known)
            return f"unknown field{meant or '; known are ' + ', '.join(known)}"
        case _ if given is None and path in source.values:
            return "has no value"
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
