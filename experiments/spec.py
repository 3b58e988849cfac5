"""The experiment file: YAML to a `Declaration`, with the place of everything that is wrong.

What the file may say, and what holds where it says nothing:

    name, model     lower-case letters, digits, `-` and `_`, at most 63 characters
    challenger      a version, a whole number from 1; or
    challengers     a list of 1 to 8 versions, each of which gets an equal part of the share
    unit            `request`, `header:NAME` in lower case, `cookie:NAME`, `query:NAME`, or
                    `json:$.PATH`, a string or number in the body
    mode            live; or shadow: nobody ever meets the challenger, there is only what shadow
                    says. Then there is no share, goal, min_units, failover, horizon, holdback or
                    segments, and only error_rate and latency above can guard (live)
    share           the ramp: 1 to 20 percentages, growing, above 0% and below 100%
    goal            a metric; direction (increase, decrease), min_effect, baseline, spread
    guardrails      metrics; worse (higher, lower, either), max_ratio or max_difference,
                    negligible (1%), baseline, spread
    limits          min_units (200), min_runtime (10m), max_runtime (7d)
    alpha           harm (0.05), promote (0.025), sample_ratio (0.001)
    deadline        how long a challenger may take (2s)
    failover        budget: at most this share of the model's requests may be answered by the
                    champion because a challenger did not answer; others fail (100%: none does)
    horizon         units: decide within this many, in both arms together (open-ended)
    holdback        share, for: how many units stay with the old champion after a promotion, and
                    how long (nobody)
    segments        header, values: 1 to 8 values of it in which harm is looked for separately
    audience        who can meet the challenger, 1 to 8 conditions, of which all must hold: header,
                    and one of in or not in with a list of values, above, at_least, at_most or below
                    with a number (everybody). A header that is not sent counts as an empty one,
                    which is no number
    layer           name, part: from where to where in the layer this experiment has its units, two
                    percentages; experiments in other parts run at the same time (all, and alone)
    shadow          before the ramp, or alone: the champion answers, and requests of a share of the
                    units are repeated to the challenger, whose answers are compared (no shadow). A
                    percentage, up to 100%, or share beside pairs: how many are needed (500);
                    agreement: how many of them have to agree (shown, not asked); tolerance: how far
                    numbers that agree may lie apart (0.01)

A metric, in the goal or in a guardrail:

    metric          error_rate and latency_ms are measured at the edge, any other name is an
                    outcome that clients report; error_rate cannot be the goal
    kind            binary, mean, score, ratio, latency, count; binary for a goal, count for
                    error_rate, latency for latency_ms
    per             unit (its first outcome in a stage counts) or request (every one does); a ratio
                    is always per request, latency and count are always per unit (unit)
    window          how long after its prediction an outcome counts; both arms are then seen at the
                    same age (as long as the system remembers predictions, and at any age)
    cap             of a mean: 600, or [0, 600]; values beyond count as this
    covariate       of a mean: true if outcomes carry a number known before the experiment (false)
    range, step     of a score: [1, 5] and the distance of neighbours (a hundredth of the range)
    above           of latency: milliseconds; the share of slower units is compared; or
    quantile        of latency: 99%; the time that this share of units stays within is compared

And of the numbers beside it:

    worse           which way is harm; required but for latency and count (higher)
    max_ratio       above 1, at most 1000: the margin as a multiple of the champion's value
    max_difference  of all but quantiles: the margin in the metric's own unit, a percentage where
                    shares of units are compared
    negligible      of count and latency above: a share of bad units so small that it is no harm;
                    a count that clients report needs a window for it, and has none without
    baseline        the champion's value as known beforehand, a percentage where shares of units
                    are compared (binary, count, latency above); it tunes and plans, no more. A
                    ratio needs it, unless it has max_difference: nothing else tells its scale
    spread          the standard deviation of an outcome as known beforehand, where no shares are
                    compared; it tunes and plans, no more

A file without a guardrail on `error_rate` is given one with `max_ratio: 2.0`: no challenger is
tried without its errors being watched.
"""

import hashlib
from typing import Any, assert_never

import orjson
from pydantic import ValidationError

from experiments.audience import Among, Audience, Compared, Condition
from experiments.complaints import problem_of
from experiments.errors import InvalidFile
from experiments.form import FileForm
from experiments.goal_form import DEFAULT_NEGLIGIBLE
from experiments.metric import (
    ERROR_RATE,
    Binary,
    Count,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Quantile,
    Ratio,
    Score,
    Slow,
    Worse,
)
from experiments.model import (
    WHOLE,
    Alpha,
    BasisPoints,
    Declaration,
    Holdback,
    Horizon,
    Layer,
    Limits,
    Segments,
    Shadow,
    experiment_name,
)
from experiments.quantities import write_duration, write_rate, write_share
from experiments.source import read_source
from experiments.unit import parse_unit
from registry.refs import Version, model_name

WATCHED_ERRORS = Guardrail(
    Metric(ERROR_RATE, Count()), Worse.HIGHER, max_ratio=2.0, negligible=DEFAULT_NEGLIGIBLE
)
"""The guardrail that a file without one on `error_rate` is given."""


def read_declaration(raw: bytes | str) -> Declaration:
    """Read an experiment file.

    Raises:
        InvalidFile: something in it is wrong; carries everything that is, in the file's order.
    """
    source = read_source(raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass"))
    try:
        form = FileForm.model_validate(source.data)
    except ValidationError as error:
        found = [problem_of(source, detail) for detail in error.errors(include_url=False)]
        source.problems += [problem for problem in found if problem is not None]
    if source.problems:
        raise InvalidFile(tuple(sorted(source.problems, key=lambda p: (p.line, p.column))))
    return _declaration(form)


def as_dict(declaration: Declaration) -> dict[str, Any]:
    """Return the declaration in the file's own words, every default written out."""
    limits, alpha, goal = declaration.limits, declaration.alpha, declaration.goal
    return {
        "name": declaration.name,
        "model": declaration.model,
        "challengers": list(declaration.challengers),
        "unit": str(declaration.unit),
        **({"mode": "shadow"} if declaration.shadow_only else {"share": _shares(declaration)}),
        **({} if goal is None else {"goal": _goal_as_dict(goal)}),
        "guardrails": [_guardrail_as_dict(guardrail) for guardrail in declaration.guardrails],
        "limits": {
            **({} if declaration.shadow_only else {"min_units": limits.min_units}),
            "min_runtime": write_duration(limits.min_runtime),
            "max_runtime": write_duration(limits.max_runtime),
        },
        "alpha": {
            "harm": alpha.harm,
            "promote": alpha.promote,
            "sample_ratio": alpha.sample_ratio,
        },
        "deadline": write_duration(declaration.deadline),
    } | _modes_as_dict(declaration)


def spec_hash(declaration: Declaration) -> str:
    """Return `sha256:...` of what is declared, whatever the file's layout, comments and spelling.

    Defaults are part of it: a release with other defaults does not change an old hash.
    """
    canonical = orjson.dumps(as_dict(declaration), option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(canonical).hexdigest()}"


def _declaration(form: FileForm) -> Declaration:
    guardrails = tuple(guardrail.declared for guardrail in form.guardrails)
    if all(guardrail.key != WATCHED_ERRORS.key for guardrail in guardrails):
        guardrails = (WATCHED_ERRORS, *guardrails)
    holdback, segments = form.holdback, form.segments
    audience, layer = form.audience, form.layer
    return Declaration(
        name=experiment_name(form.name),
        model=model_name(form.model),
        challengers=tuple(map(Version, form.versions)),
        unit=parse_unit(form.unit),
        ramp=tuple(BasisPoints(share) for share in form.share or ()),
        goal=form.goal.declared if form.goal else None,
        guardrails=guardrails,
        limits=Limits(form.limits.min_units, form.limits.min_runtime, form.limits.max_runtime),
        alpha=Alpha(form.alpha.harm, form.alpha.promote, form.alpha.sample_ratio),
        deadline=form.deadline,
        budget=BasisPoints(form.failover.budget) if form.failover else WHOLE,
        horizon=Horizon(form.horizon.units) if form.horizon else None,
        holdback=Holdback(BasisPoints(holdback.share), holdback.span) if holdback else None,
        segments=Segments(segments.header, tuple(segments.values)) if segments else None,
        audience=Audience(tuple(each.declared for each in audience)) if audience else None,
        layer=Layer(layer.name, *map(BasisPoints, layer.part)) if layer else None,
        shadow=form.shadow.declared if form.shadow else None,
    )


def _shares(declaration: Declaration) -> list[str]:
    return [write_share(share) for share in declaration.ramp]


def _goal_as_dict(goal: Goal) -> dict[str, Any]:
    return {
        **_metric_as_dict(goal.metric),
        "direction": goal.direction.value,
        "min_effect": write_rate(goal.min_effect),
        **_known_beforehand(goal),
    }


def _guardrail_as_dict(guardrail: Guardrail) -> dict[str, Any]:
    words = {**_metric_as_dict(guardrail.metric), "worse": guardrail.worse.value}
    if guardrail.max_ratio is not None:
        words["max_ratio"] = guardrail.max_ratio
    if guardrail.max_difference is not None:
        margin = guardrail.max_difference
        words["max_difference"] = write_rate(margin) if _is_share(guardrail) else margin
    if guardrail.negligible is not None:
        words["negligible"] = write_rate(guardrail.negligible)
    return words | _known_beforehand(guardrail)


def _metric_as_dict(metric: Metric) -> dict[str, Any]:
    words = {"metric": metric.name, **_kind_as_dict(metric), "per": metric.per.value}
    return words if metric.window is None else words | {"window": write_duration(metric.window)}


def _kind_as_dict(metric: Metric) -> dict[str, Any]:
    match metric.kind:
        case Mean(low, high, covariate):
            return {"kind": "mean", "cap": [low, high], "covariate": covariate}
        case Score(low, high, step):
            return {"kind": "score", "range": [low, high], "step": step}
        case Slow(above_ms):
            return {"kind": "latency", "above": above_ms}
        case Quantile(p):
            return {"kind": "latency", "quantile": write_rate(p)}
        case Binary(kind) | Ratio(kind) | Count(kind):
            return {"kind": kind}
        case _:
            assert_never(metric.kind)


def _known_beforehand(of: Goal | Guardrail) -> dict[str, Any]:
    words: dict[str, Any] = {}
    if of.baseline is not None:
        words["baseline"] = write_rate(of.baseline) if _is_share(of) else of.baseline
    if of.spread is not None:
        words["spread"] = of.spread
    return words


def _is_share(asked: Goal | Guardrail) -> bool:
    return isinstance(asked.metric.kind, Binary | Slow | Count)


def _modes_as_dict(declaration: Declaration) -> dict[str, Any]:
    horizon, holdback, segments = declaration.horizon, declaration.holdback, declaration.segments
    words: dict[str, Any] = {}
    if declaration.budget != WHOLE:
        words["failover"] = {"budget": write_share(declaration.budget)}
    if horizon is not None:
        words["horizon"] = {"units": horizon.units}
    if holdback is not None:
        words["holdback"] = {
            "share": write_share(holdback.share),
            "for": write_duration(holdback.span),
        }
    if segments is not None:
        words["segments"] = {"header": segments.header, "values": list(segments.values)}
    if declaration.audience is not None:
        words["audience"] = list(map(_condition_as_dict, declaration.audience.conditions))
    if (layer := declaration.layer) is not None:
        part = [write_share(layer.low), write_share(layer.high)]
        words["layer"] = {"name": layer.name, "part": part}
    if declaration.shadow is not None:
        words["shadow"] = _shadow_as_dict(declaration.shadow)
    return words


def _shadow_as_dict(shadow: Shadow) -> dict[str, Any]:
    words: dict[str, Any] = {"share": write_share(shadow.share), "pairs": shadow.pairs}
    if shadow.agreement is not None:
        words["agreement"] = write_rate(shadow.agreement)
    return words | {"tolerance": shadow.tolerance}


def _condition_as_dict(condition: Condition) -> dict[str, Any]:
    words: dict[str, Any] = {"header": condition.header}
    match condition:
        case Among(values=values, others=others):
            return words | {"not in" if others else "in": list(values)}
        case Compared(order=order, number=number):
            return words | {order.value: number}
        case _:
            assert_never(condition)
