from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import (
    InvalidOutcome,
    InvalidPrediction,
    LateOutcome,
    MalformedBody,
    MalformedJson,
    TooManyOutcomes,
)
from experiments.model import (
    BasisPoints,
    Declaration,
    Direction,
    Goal,
    Guardrail,
    HeaderUnit,
    Limits,
    Variant,
    experiment_name,
)
from experiments.outcomes import MOST_OUTCOMES, Outcome, check_outcome, parse_outcomes
from experiments.prediction import Prediction
from experiments.store import Cell, OutcomeRecord
from registry.errors import TiltyardError
from registry.refs import Version, model_name

MINTED = datetime(2025, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(days=1)

DECLARATION = Declaration(
    name=experiment_name("digits-v2"),
    model=model_name("digits"),
    challenger=Version(2),
    unit=HeaderUnit("x-unit-id"),
    ramp=(BasisPoints(500),),
    goal=Goal("correct", Direction.INCREASE, 0.01),
    guardrails=(Guardrail("error_rate", max_ratio=2.0),),
    limits=Limits(200, timedelta(seconds=10), timedelta(days=7)),
)

PREDICTION = Prediction(
    model=model_name("digits"),
    version=Version(2),
    experiment=DECLARATION.name,
    stage=1,
    variant=Variant.CHALLENGER,
    slot=77,
    minted_at=MINTED,
    nonce="0123456789abcdef0123456789abcdef",
)

SENT = {"prediction_id": "some.id", "metric": "correct", "value": 1}


def check(outcome, prediction=PREDICTION, *, now=MINTED):
    return check_outcome(outcome, prediction, DECLARATION, now=now, window=WINDOW)


def outcome(value, metric="correct"):
    return Outcome("some.id", metric, value)


@pytest.mark.parametrize("body", [SENT, [SENT], {"outcomes": [SENT]}])
def test_one_outcome_may_be_sent_alone_in_a_list_or_under_outcomes(body):
    assert parse_outcomes(orjson.dumps(body)) == (Outcome("some.id", "correct", 1),)


@pytest.mark.parametrize("body", [b"[]", b'{"outcomes": []}'])
def test_an_empty_batch_is_nothing_to_do(body):
    assert parse_outcomes(body) == ()


def test_a_batch_keeps_its_order():
    sent = [{**SENT, "prediction_id": str(number)} for number in range(3)]
    assert [each.prediction_id for each in parse_outcomes(orjson.dumps(sent))] == ["0", "1", "2"]


@pytest.mark.parametrize("wrap", [list, lambda sent: {"outcomes": sent}])
def test_a_batch_of_a_thousand_is_read_and_one_more_refused(wrap):
    assert len(parse_outcomes(orjson.dumps(wrap([SENT] * MOST_OUTCOMES)))) == 1000
    with pytest.raises(TooManyOutcomes, match="1001 outcomes") as refused:
        parse_outcomes(orjson.dumps(wrap([SENT] * (MOST_OUTCOMES + 1))))
    assert refused.value.code == "too_many_outcomes"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1,]",
        b"\xff",
        b'{"prediction_id": "a", "metric": "correct", "value": NaN}',
        b'{"prediction_id": "a", "metric": "correct", "value": Infinity}',
        b'{"prediction_id": "a", "metric": "correct", "value": -Infinity}',
        b'{"prediction_id": "a", "metric": "correct", "value": 1e999}',
        b'{"prediction_id": "\\ud800", "metric": "correct", "value": 1}',
        b"[" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(body):
    with pytest.raises(MalformedJson) as refused:
        parse_outcomes(body)
    assert refused.value.code == "malformed_json"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (3, "must be an outcome or a list of them, not 3"),
        (None, "not None"),
        ("text", "not 'text'"),
        ({}, "the outcome has no prediction_id"),
        ({"outcomes": 3}, "unknown field 'outcomes'"),
        ({"outcomes": [], "more": 1}, "unknown field 'more' beside outcomes"),
        ([SENT, 3], r"outcomes\[1\] must have the fields prediction_id, metric, value, not 3"),
        ([SENT, [SENT]], r"outcomes\[1\] must have the fields"),
        ([{**SENT, "metrics": 1}], "unknown field 'metrics'; did you mean metric?"),
        ({**SENT, "prediction_id": None}, "prediction_id of the outcome must be text"),
        ({**SENT, "prediction_id": 3}, "prediction_id of the outcome must be text"),
        ({**SENT, "metric": ["correct"]}, "metric of the outcome must be text"),
        ({**SENT, "metric": "x" * 1025}, "longer than 1024"),
        ([{"prediction_id": "a", "metric": "correct"}], r"outcomes\[0\] has no value"),
    ],
)
def test_json_that_is_no_outcome_is_refused_with_its_place(body, message):
    with pytest.raises(MalformedBody, match=message) as refused:
        parse_outcomes(orjson.dumps(body))
    assert refused.value.code == "malformed_body"


def test_a_long_value_is_not_repeated_in_full():
    with pytest.raises(MalformedBody) as refused:
        parse_outcomes(orjson.dumps({**SENT, "metric": ["x" * 100_000]}))
    assert len(refused.value.message) < 200


@pytest.mark.parametrize(
    ("value", "counter"),
    [
        (1, "correct:1"),
        (0, "correct:0"),
        (1.0, "correct:1"),
        (0.0, "correct:0"),
        (-0.0, "correct:0"),
    ],
)
def test_an_outcome_counts_where_its_prediction_belongs(value, counter):
    assert check(outcome(value)) == OutcomeRecord(
        cell=Cell(DECLARATION.name, 1, Variant.CHALLENGER, counter),
        token="0123456789abcdef0123456789abcdef:correct",
        slot=77,
        dedupe="correct",
        expires_at=MINTED + WINDOW,
    )


def test_a_request_that_is_its_own_unit_has_no_slot():
    assert check(outcome(1), replace(PREDICTION, slot=None)).slot is None


def test_the_same_prediction_has_the_same_token_whatever_its_value():
    assert check(outcome(1)).token == check(outcome(0)).token
    other = replace(PREDICTION, nonce="f" * 32)
    assert check(outcome(1)).token != check(outcome(1), other).token


@pytest.mark.parametrize(("value", "number"), [(True, 1), (False, 0)])
def test_a_boolean_for_a_number_is_refused_with_what_to_send(value, number):
    with pytest.raises(InvalidOutcome, match=f"send {number} instead of {str(value).lower()}"):
        check(outcome(value))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(InvalidOutcome, match="not finite"):
        check(outcome(value))


@pytest.mark.parametrize(
    "value", [2, -1, 0.5, 1.0000001, 1e308, 10**30, "1", "", None, [1], {"value": 1}, "x" * 10_000]
)
def test_absurd_values_are_refused(value):
    with pytest.raises(InvalidOutcome, match="must be the number 0 or 1") as refused:
        check(outcome(value))
    assert refused.value.code == "invalid_outcome"
    assert len(refused.value.message) < 200


@pytest.mark.parametrize("metric", ["", "error_rate", "units", "CORRECT", "correct:1"])
def test_an_unknown_metric_is_refused_with_the_one_that_is_known(metric):
    with pytest.raises(InvalidOutcome, match="it has correct"):
        check(outcome(1, metric))


def test_a_misspelt_metric_is_refused_with_what_was_probably_meant():
    with pytest.raises(InvalidOutcome, match=r"did you mean correct\?"):
        check(outcome(1, "corect"))


@pytest.mark.parametrize(
    "changes",
    [
        {"experiment": None, "stage": None, "variant": None, "slot": None},
        {"experiment": experiment_name("another")},
        {"model": model_name("another")},
        {"stage": None},
        {"variant": None},
    ],
)
def test_a_prediction_from_elsewhere_is_foreign(changes):
    with pytest.raises(InvalidPrediction, match="foreign") as refused:
        check(outcome(1), replace(PREDICTION, **changes))
    assert refused.value.code == "invalid_prediction_id"


@pytest.mark.parametrize("after", [timedelta(0), timedelta(hours=23), WINDOW])
def test_within_the_window_an_outcome_counts(after):
    check(outcome(1), now=MINTED + after)


@pytest.mark.parametrize("beyond", [timedelta(microseconds=1), timedelta(days=300)])
def test_after_the_window_an_outcome_is_late(beyond):
    with pytest.raises(LateOutcome, match="2025-03-02T12:00:00Z") as refused:
        check(outcome(1), now=MINTED + WINDOW + beyond)
    assert refused.value.code == "late_outcome"


def test_a_clock_behind_the_edge_refuses_nothing():
    check(outcome(1), now=MINTED - timedelta(minutes=5))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["outcomes", "prediction_id", "metric", "value"]) | st.text(), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(JSON.map(orjson.dumps) | st.binary(max_size=50))
def test_whatever_is_sent_it_is_outcomes_or_an_error_of_ours(body):
    try:
        outcomes = parse_outcomes(body)
    except TiltyardError:
        return
    assert all(isinstance(each.prediction_id, str) for each in outcomes)


@settings(max_examples=60, deadline=None)
@given(JSON | st.floats() | st.integers())
def test_only_the_numbers_0_and_1_are_ever_counted(value):
    is_binary = isinstance(value, int | float) and not isinstance(value, bool) and value in (0, 1)
    if is_binary:
        assert check(outcome(value)).cell.counter == f"correct:{int(value)}"
    else:
        with pytest.raises(InvalidOutcome):
            check(outcome(value))
