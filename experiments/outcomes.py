"""Outcomes as clients report them: the body of `POST /v1/outcomes`, and what may be counted."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import orjson

from experiments.errors import (
    InvalidOutcome,
    InvalidPrediction,
    LateOutcome,
    MalformedBody,
    MalformedJson,
    TooManyOutcomes,
)
from experiments.metric import EDGE_METRICS, GROUPS, Metric, Per, Ratio
from experiments.model import Declaration
from experiments.observation import observe
from experiments.prediction import Prediction
from experiments.spelling import did_you_mean, shown
from experiments.store import Cell, OutcomeRecord

MOST_OUTCOMES = 1000
"""How many outcomes one request may carry."""

_LONGEST_TEXT = 1024
_NONCE_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome as it was sent.

    Args:
        value, denominator, covariate: Whatever JSON value stood there; `check_outcome` judges it.
    """

    prediction_id: str
    metric: str
    value: object
    denominator: object = None
    covariate: object = None


_REQUIRED = ("prediction_id", "metric", "value")
_FIELDS = tuple(field.name for field in fields(Outcome))


def parse_outcomes(body: bytes) -> tuple[Outcome, ...]:
    """Read one outcome, a list of them, or a list under `outcomes`.

    The body is read as a whole or not at all; each outcome is judged by itself afterwards.

    Raises:
        MalformedJson: `body` is not JSON.
        MalformedBody: it is JSON, but no outcome or list of outcomes.
        TooManyOutcomes: it lists more than `MOST_OUTCOMES`.
    """
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJson(f"the body is not JSON: {error}") from error
    match sent:
        case {"outcomes": list(listed), **others}:
            if others:
                raise MalformedBody(f"unknown field {shown(next(iter(others)))} beside outcomes")
        case list(listed):
            pass
        case dict():
            return (_outcome(sent, "the outcome"),)
        case _:
            raise MalformedBody(f"the body must be an outcome or a list of them, not {shown(sent)}")
    if len(listed) > MOST_OUTCOMES:
        raise TooManyOutcomes(f"{len(listed)} outcomes in one request; {MOST_OUTCOMES} are allowed")
    return tuple(_outcome(each, f"outcomes[{index}]") for index, each in enumerate(listed))


def is_single(body: bytes) -> bool:
    """Return whether a body that `parse_outcomes` reads is one outcome, and no list of them."""
    sent = orjson.loads(body)
    return isinstance(sent, dict) and "outcomes" not in sent


def check_outcome(
    outcome: Outcome,
    prediction: Prediction,
    declaration: Declaration,
    *,
    now: datetime,
    window: timedelta,
) -> tuple[OutcomeRecord, ...]:
    """Return what is to be counted for an outcome of a genuine prediction.

    Several records where several metrics read outcomes of one name; none for a count of 0, which
    is good news and nothing to count.

    Args:
        prediction: What the outcome's prediction id says, its signature verified.
        declaration: The experiment that the prediction names.
        window: How long after its prediction an outcome is accepted, where its metric does not
            declare that.

    Raises:
        InvalidPrediction: the prediction was not made in the experiment.
        InvalidOutcome: the experiment takes no outcomes of such a name, or the metric no such
            value.
        LateOutcome: the window has passed.
    """
    if (
        prediction.experiment != declaration.name
        or prediction.model != declaration.model
        or prediction.stage is None
        or prediction.variant is None
    ):
        raise InvalidPrediction(
            f"the prediction id is foreign: it was not made in the experiment {declaration.name}",
            next_step="Send outcomes only for answers that carry the X-Experiment header.",
        )
    records: dict[str, OutcomeRecord] = {}
    for metric in _named(outcome.metric, declaration):
        group = _group(prediction) if _is_grouped(metric, declaration) else None
        seen = observe(metric, outcome.value, outcome.denominator, outcome.covariate, group=group)
        expires_at = prediction.minted_at + (window if metric.window is None else metric.window)
        if now > expires_at:
            raise LateOutcome(f"the outcome came after {expires_at:%Y-%m-%dT%H:%M:%SZ}")
        if seen is None:
            continue
        records[metric.counter] = OutcomeRecord(
            cell=Cell(
                experiment=declaration.name,
                stage=prediction.stage,
                variant=prediction.variant,
                version=prediction.version,
                counter=f"{metric.counter}:{seen.index}",
                segment=prediction.segment,
                cohort=_cohort(prediction, declaration) if metric.window is not None else 0,
            ),
            token=f"{prediction.nonce}:{metric.counter}",
            slot=prediction.slot if group is None else None,
            expires_at=expires_at,
            pair=seen.pair,
        )
    return tuple(records.values())


def _named(name: str, declaration: Declaration) -> list[Metric]:
    """Return the metrics that read outcomes of this name; quantiles of one name, all of them."""
    if name in EDGE_METRICS:
        raise InvalidOutcome(f"{name} is measured at the edge: outcomes of it are not taken")
    found = [metric for metric in declaration.metrics if metric.name == name]
    if found:
        return found
    known = list(dict.fromkeys(m.name for m in declaration.metrics if not m.at_edge))
    has = f"it has {', '.join(known)}" if known else "all that it has is measured at the edge"
    raise InvalidOutcome(
        f"{declaration.name} has no metric {shown(name)}; {has}" + did_you_mean(name, known)
    )


def _is_grouped(metric: Metric, declaration: Declaration) -> bool:
    """Return whether all that a unit does counts, so that it is summed by groups of units."""
    if isinstance(metric.kind, Ratio):
        return True
    return metric.per is Per.REQUEST and declaration.returning


def _group(prediction: Prediction) -> int:
    """Return the hash group of a unit; a request that names none is a unit of its own."""
    if prediction.slot is not None:
        return prediction.slot % GROUPS
    return int(prediction.nonce[:_NONCE_DIGITS], 16) % GROUPS


def _cohort(prediction: Prediction, declaration: Declaration) -> int:
    assert declaration.cohort is not None
    return int(prediction.minted_at.timestamp() // declaration.cohort.total_seconds())


def _outcome(sent: object, where: str) -> Outcome:
    if not isinstance(sent, Mapping):
        raise MalformedBody(
            f"{where} must have the fields {', '.join(_REQUIRED)}, not {shown(sent)}"
        )
    for name in sent:
        if name not in _FIELDS:
            meant = did_you_mean(name, _FIELDS)
            raise MalformedBody(f"{where} has an unknown field {shown(name)}{meant}")
    for name in _REQUIRED:
        if name not in sent:
            raise MalformedBody(f"{where} has no {name}")
    return Outcome(
        _text(sent, "prediction_id", where),
        _text(sent, "metric", where),
        sent["value"],
        sent.get("denominator"),
        sent.get("covariate"),
    )


def _text(sent: Mapping[str, Any], name: str, where: str) -> str:
    text = sent[name]
    if not isinstance(text, str):
        raise MalformedBody(f"{name} of {where} must be text, not {shown(text)}")
    if len(text) > _LONGEST_TEXT:
        raise MalformedBody(f"{name} of {where} is longer than {_LONGEST_TEXT} characters")
    return text
