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
from experiments.metric import (
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Slow,
    Worse,
)
from experiments.model import Segments, Variant, experiment_name
from experiments.outcomes import MOST_OUTCOMES, Outcome, check_outcome, parse_outcomes
from experiments.prediction import Prediction
from experiments.store import Cell, OutcomeRecord
from experiments.unit import RequestUnit
from registry.errors import TiltyardError
from registry.refs import Version, model_name
from tests.unit.declared import DECLARATION

MINTED = datetime(2025, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(days=1)

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


def records(outcome, prediction=PREDICTION, *, declaration=DECLARATION, now=MINTED):
    return check_outcome(outcome, prediction, declaration, now=now, window=WINDOW)


def check(outcome, prediction=PREDICTION, *, declaration=DECLARATION, now=MINTED):
    (record,) = records(outcome, prediction, declaration=declaration, now=now)
    return record


def outcome(value, metric="correct", **beside):
    return Outcome("some.id", metric, value, **beside)


def declared(*metrics, **changes):
    """The experiment with these metrics: the first as its goal, the others watched."""
    goal = Goal(metrics[0], Direction.INCREASE, 0.01)
    watched = tuple(Guardrail(metric, Worse.HIGHER, 2.0) for metric in metrics[1:])
    return replace(DECLARATION, goal=goal, guardrails=watched, **changes)


@pytest.mark.parametrize("body", [SENT, [SENT], {"outcomes": [SENT]}])
def test_one_outcome_may_be_sent_alone_in_a_list_or_under_outcomes(body):
    assert parse_outcomes(orjson.dumps(body)) == (Outcome("some.id", "correct", 1),)


def test_a_denominator_and_a_covariate_may_stand_beside_a_value():
    sent = {**SENT, "denominator": 3, "covariate": None}
    assert parse_outcomes(orjson.dumps(sent)) == (Outcome("some.id", "correct", 1, 3),)
    sent = {**SENT, "covariate": 0.5}
    assert parse_outcomes(orjson.dumps(sent)) == (Outcome("some.id", "correct", 1, None, 0.5),)


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
        cell=Cell(DECLARATION.name, 1, Variant.CHALLENGER, Version(2), counter),
        token="0123456789abcdef0123456789abcdef:correct",
        slot=77,
        expires_at=MINTED + WINDOW,
    )


def test_a_request_that_is_its_own_unit_has_no_slot():
    assert check(outcome(1), replace(PREDICTION, slot=None)).slot is None


def test_the_same_prediction_has_the_same_token_whatever_its_value():
    assert check(outcome(1)).token == check(outcome(0)).token
    other = replace(PREDICTION, nonce="f" * 32)
    assert check(outcome(1)).token != check(outcome(1), other).token


@pytest.mark.parametrize("metric", ["", "units", "CORRECT", "correct:1", "error"])
def test_an_unknown_metric_is_refused_with_the_one_that_is_known(metric):
    with pytest.raises(InvalidOutcome, match="it has correct"):
        check(outcome(1, metric))


@pytest.mark.parametrize("metric", ["error_rate", "latency_ms"])
def test_what_the_edge_measures_is_not_taken_from_clients(metric):
    with pytest.raises(InvalidOutcome, match=f"{metric} is measured at the edge"):
        check(outcome(1, metric))


def test_an_experiment_that_needs_no_outcomes_says_so():
    declaration = declared(Metric("latency_ms", Quantile(0.99)), Metric("error_rate", Count()))
    with pytest.raises(InvalidOutcome, match="all that it has is measured at the edge"):
        check(outcome(1), declaration=declaration)


def test_every_metric_of_clients_is_named_once_where_one_is_unknown():
    declaration = declared(
        Metric("answer_ms", Slow(9)), Metric("answer_ms", Quantile(0.9)), Metric("b", Binary())
    )
    with pytest.raises(InvalidOutcome, match=r"it has answer_ms, b$"):
        check(outcome(1, "zzz"), declaration=declaration)


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


@pytest.mark.parametrize("variant", Variant)
def test_each_side_and_version_of_an_experiment_is_counted_by_itself(variant):
    prediction = replace(PREDICTION, variant=variant, version=Version(9))
    cell = check(outcome(1), prediction).cell
    assert (cell.variant, cell.version) == (variant, 9)


def test_the_segment_of_a_prediction_is_its_outcomes_segment():
    declaration = declared(
        Metric("correct", Binary()), segments=Segments("x-country", ("de", "fr"))
    )
    prediction = replace(PREDICTION, segment=2)
    assert check(outcome(1), prediction, declaration=declaration).cell.segment == 2


def test_one_outcome_serves_every_metric_of_its_name_and_all_quantiles_at_once():
    metrics = [
        Metric("answer_ms", kind) for kind in (Slow(250), Quantile(0.5), Quantile(0.9), Slow(9))
    ]
    found = records(outcome(250, "answer_ms"), declaration=declared(*metrics))
    assert [record.cell.counter for record in found] == [
        "answer_ms>250:0",
        "answer_ms:279",
        "answer_ms>9:1",
    ]
    assert len({record.token for record in found}) == 3
    assert {record.slot for record in found} == {77}


def test_no_events_are_good_news_and_nothing_to_count():
    declaration = declared(Metric("complaints", Count()))
    assert records(outcome(0, "complaints"), declaration=declaration) == ()
    assert check(outcome(3, "complaints"), declaration=declaration).cell.counter == "complaints:1"


LATE_LABELS = declared(
    Metric("correct", Binary(), window=timedelta(hours=2)), Metric("tokens", Ratio(), Per.REQUEST)
)


def test_a_metric_with_a_window_has_its_own_and_not_the_systems():
    record = check(outcome(1), declaration=LATE_LABELS, now=MINTED + timedelta(hours=2))
    assert record.expires_at == MINTED + timedelta(hours=2)
    with pytest.raises(LateOutcome, match="2025-03-01T14:00:00Z"):
        check(outcome(1), declaration=LATE_LABELS, now=MINTED + timedelta(hours=2, seconds=1))


def test_a_window_longer_than_the_systems_is_kept():
    declaration = declared(Metric("correct", Binary(), window=timedelta(days=3)))
    assert check(outcome(1), declaration=declaration, now=MINTED + timedelta(days=3))


def test_a_metric_with_a_window_is_counted_by_the_age_of_its_prediction():
    cohort = LATE_LABELS.cohort
    first = check(outcome(1), declaration=LATE_LABELS).cell.cohort
    assert first == int(MINTED.timestamp() // cohort.total_seconds())
    later = replace(PREDICTION, minted_at=MINTED + cohort)
    assert check(outcome(1), later, declaration=LATE_LABELS).cell.cohort == first + 1


def test_a_metric_without_a_window_is_counted_whatever_the_age():
    tokens = check(outcome(5, "tokens", denominator=2), declaration=LATE_LABELS)
    assert (tokens.cell.cohort, tokens.expires_at) == (0, MINTED + WINDOW)


def test_a_late_outcome_is_late_even_if_there_is_nothing_to_count():
    declaration = declared(Metric("complaints", Count()))
    with pytest.raises(LateOutcome):
        records(outcome(0, "complaints"), declaration=declaration, now=MINTED + 2 * WINDOW)


@pytest.mark.parametrize(
    ("prediction", "group"),
    [
        (PREDICTION, 77),
        (replace(PREDICTION, slot=4_194_303), 3),
        (replace(PREDICTION, slot=None), 0x01234567 % 100),
    ],
)
def test_what_a_unit_does_again_and_again_is_summed_in_its_hash_group(prediction, group):
    declaration = declared(Metric("correct", Binary(), Per.REQUEST))
    record = check(outcome(1), prediction, declaration=declaration)
    assert (record.cell.counter, record.slot) == (f"correct:{group}", None)
    assert record.pair == (1.0, 1.0)


def test_a_ratio_is_grouped_even_where_each_request_is_a_unit():
    declaration = declared(Metric("tokens", Ratio(), Per.REQUEST), unit=RequestUnit())
    sent = outcome(5, "tokens", denominator=2)
    record = check(sent, replace(PREDICTION, slot=None), declaration=declaration)
    assert (record.cell.counter, record.pair) == ("tokens:43", (5.0, 2.0))


def test_where_each_request_is_a_unit_every_outcome_stands_by_itself():
    metric = Metric("minutes", Mean(0.0, 9.0), Per.REQUEST)
    declaration = declared(metric, unit=RequestUnit())
    record = check(outcome(99, "minutes"), declaration=declaration)
    assert (record.cell.counter, record.pair) == ("minutes:0", (9.0, 0.0))


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


@settings(max_examples=30, deadline=None)
@given(JSON.map(orjson.dumps) | st.binary(max_size=50))
def test_whatever_is_sent_it_is_outcomes_or_an_error_of_ours(body):
    try:
        outcomes = parse_outcomes(body)
    except TiltyardError:
        return
    assert all(isinstance(each.prediction_id, str) for each in outcomes)
