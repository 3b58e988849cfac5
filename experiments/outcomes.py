"""Outcomes as clients report them: the body of `POST /v1/outcomes`, and what may be counted."""

import math
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
from experiments.model import Declaration
from experiments.prediction import Prediction
from experiments.spelling import did_you_mean, shown
from experiments.store import Cell, OutcomeRecord

MOST_OUTCOMES = 1000
"""How many outcomes one request may carry."""

_LONGEST_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome as it was sent.

    Args:
        value: Whatever JSON value stood there; `check_outcome` judges it.
    """

    prediction_id: str
    metric: str
    value: object


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
) -> OutcomeRecord:
    """Return what is to be counted for an outcome of a genuine prediction.

    Args:
        prediction: What the outcome's prediction id says, its signature verified.
        declaration: The experiment that the prediction names.
        window: How long after its prediction an outcome is accepted.

    Raises:
        InvalidPrediction: the prediction was not made in this experiment.
        InvalidOutcome: the experiment has no such metric, or the metric no such value.
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
    goal = declaration.goal.metric
    if outcome.metric != goal:
        raise InvalidOutcome(
            f"{declaration.name} has no metric {shown(outcome.metric)}; it has {goal}"
            + did_you_mean(outcome.metric, [goal])
        )
    value = _binary(outcome)
    expires_at = prediction.minted_at + window
    if now > expires_at:
        raise LateOutcome(f"the outcome came after {expires_at:%Y-%m-%dT%H:%M:%SZ}")
    return OutcomeRecord(
        cell=Cell(declaration.name, prediction.stage, prediction.variant, f"{goal}:{value}"),
        token=f"{prediction.nonce}:{goal}",
        slot=prediction.slot,
        dedupe=goal,
        expires_at=expires_at,
    )


def _outcome(sent: object, where: str) -> Outcome:
    if not isinstance(sent, Mapping):
        raise MalformedBody(f"{where} must have the fields {', '.join(_FIELDS)}, not {shown(sent)}")
    for name in sent:
        if name not in _FIELDS:
            meant = did_you_mean(name, _FIELDS)
            raise MalformedBody(f"{where} has an unknown field {shown(name)}{meant}")
    for name in _FIELDS:
        if name not in sent:
            raise MalformedBody(f"{where} has no {name}")
    return Outcome(_text(sent, "prediction_id", where), _text(sent, "metric", where), sent["value"])


def _text(sent: Mapping[str, Any], name: str, where: str) -> str:
    text = sent[name]
    if not isinstance(text, str):
        raise MalformedBody(f"{name} of {where} must be text, not {shown(text)}")
    if len(text) > _LONGEST_TEXT:
        raise MalformedBody(f"{name} of {where} is longer than {_LONGEST_TEXT} characters")
    return text


def _binary(outcome: Outcome) -> int:
    match outcome.value:
        case bool(value):
            raise InvalidOutcome(
                f"{outcome.metric} is a number: send {int(value)} instead of {shown(value)}"
            )
        case float(value) if not math.isfinite(value):
            raise InvalidOutcome(f"{outcome.metric} must be 0 or 1, not {value}: not finite")
        case (0 | 1) as value:
            return int(value)
        case value:
            raise InvalidOutcome(f"{outcome.metric} must be the number 0 or 1, not {shown(value)}")
