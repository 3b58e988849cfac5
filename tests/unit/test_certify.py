"""What a certification asks, what it takes for right, and what it makes of what it saw."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from experiments.spec import as_dict, read_declaration
from registry.refs import ModelName, VersionRef
from serving.certify.learning import made_up
from serving.certify.questions import QUESTIONS, bodies, outputs, same
from serving.certify.report import Certificate, Tried, expected_of
from serving.certify.trials import Pace, declare_trial, label_of, named, trial_name
from serving.hosts.faults import Fault
from serving.lanes import CERTIFY, is_lane, lane_of

SIGNATURE = [
    {"name": "x", "datatype": "FP64", "shape": [-1, 2]},
    {"name": "kind", "datatype": "BYTES", "shape": [-1]},
]
EXAMPLE = {
    "inputs": [
        {"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [1.0, 2.0, 3.0, 4.0]},
        {"name": "kind", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
    ]
}
LABEL = [{"name": "y", "datatype": "INT64", "shape": [2], "data": [3, 4]}]
FOUND = Tried("errors", "rolled_back", "rolled_back", 1.5, 90, 200, 20, 0, ("why",), "abc")
QUIET = Tried("aa", "no_alarm", "no_alarm", None, 500, 1000, 0, 0, (), None)


def certificate(*trials, **changes):
    made = Certificate(
        VersionRef(ModelName("digits"), 2), datetime(2026, 1, 2, tzinfo=UTC), 210, 1.0, 0, trials
    )
    return replace(made, **changes)


def test_questions_are_the_rows_of_the_example_and_rows_like_them():
    asked = [json.loads(body)["inputs"] for body in bodies(EXAMPLE, SIGNATURE, seed=1)]
    assert len(asked) == QUESTIONS
    assert [tensor["data"] for tensor in asked[0]] == [[1.0, 2.0], ["a"]]
    assert [tensor["data"] for tensor in asked[1]] == [[3.0, 4.0], ["b"]]
    assert all(each[0]["shape"] == [1, 2] for each in asked)
    # Texts are left as they are; of numbers hardly two are alike.
    assert {each[1]["data"][0] for each in asked} == {"a", "b"}
    assert len({tuple(each[0]["data"]) for each in asked}) == QUESTIONS


def test_the_same_seed_asks_the_same():
    assert bodies(EXAMPLE, SIGNATURE, seed=1) == bodies(EXAMPLE, SIGNATURE, seed=1)
    assert bodies(EXAMPLE, SIGNATURE, seed=1) != bodies(EXAMPLE, SIGNATURE, seed=2)


def test_an_example_that_is_no_rows_is_asked_as_a_whole():
    whole = [{"name": "x", "datatype": "FP64", "shape": [2, 2]}]
    example = {"inputs": [EXAMPLE["inputs"][0]]}
    assert {
        json.loads(body)["inputs"][0]["shape"].__repr__() for body in bodies(example, whole, seed=1)
    } == {"[2, 2]"}


def test_a_model_without_an_example_is_asked_what_its_signature_allows():
    signature = [*SIGNATURE, {"name": "n", "datatype": "INT64", "shape": [3, -1]}]
    for tensor in made_up(signature, seed=1)["inputs"]:
        assert -1 not in tensor["shape"]
        size = 1
        for extent in tensor["shape"]:
            size *= extent
        assert len(tensor["data"]) == size


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (LABEL, True),
        ([LABEL[0] | {"data": [3, 5]}], False),
        ([LABEL[0] | {"shape": [0], "data": []}], False),
        ([LABEL[0] | {"name": "z"}], False),
        ([], False),
    ],
)
def test_an_answer_is_right_if_it_is_the_champions(other, expected):
    assert same(other, LABEL) is expected


def test_no_answer_is_never_the_right_one():
    nothing = [LABEL[0] | {"shape": [0], "data": []}]
    assert not same([], [])
    assert not same(nothing, nothing)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": 1}', b'{"outputs": 3}'])
def test_what_is_no_answer_has_no_outputs(body):
    assert outputs(body) == []


@pytest.mark.parametrize("fault", Fault)
def test_every_trial_is_a_declaration_that_can_be_written_down(fault):
    name = trial_name(ModelName("a" * 63), fault, "0123abcd")
    lane = lane_of(ModelName("a" * 63), CERTIFY)
    declaration = declare_trial(name, lane, fault, Pace(215, 2000))
    assert is_lane(lane)
    assert len(lane) <= 63
    written = as_dict(declaration) | {"model": "digits"}
    read = read_declaration(json.dumps(written))
    assert replace(read, model=lane) == declaration


def test_two_models_with_long_names_have_two_lanes():
    names = [ModelName("a" * 62 + last) for last in "bc"]
    assert len({lane_of(name, CERTIFY) for name in names}) == 2


@pytest.mark.parametrize("fault", Fault)
def test_trials_are_called_by_their_labels(fault):
    assert named(label_of(fault)) is fault


def test_only_an_a_a_is_to_stay_quiet():
    assert [fault for fault in Fault if expected_of(fault) == "no_alarm"] == [Fault.NONE]


def test_all_as_expected_is_certified():
    found = certificate(QUIET, FOUND)
    assert found.certified
    assert found.as_dict()["summary"] == {
        "trials": 2,
        "passed": 2,
        "false_alarms": 0,
        "misses": 0,
        "failed_requests": 0,
        "requests": 1200,
        "rescued": 20,
    }


@pytest.mark.parametrize("actual", ["rolled_back", "halted", "promoted", "inconclusive"])
def test_whatever_ends_an_a_a_is_a_false_alarm(actual):
    found = certificate(replace(QUIET, actual=actual), FOUND)
    assert (found.false_alarms, found.misses, found.certified) == (1, 0, False)


@pytest.mark.parametrize("actual", ["no_alarm", "halted", "promoted", "inconclusive"])
def test_whatever_a_fault_ends_in_but_a_rollback_is_a_miss(actual):
    found = certificate(QUIET, replace(FOUND, actual=actual))
    assert (found.false_alarms, found.misses, found.certified) == (0, 1, False)


@pytest.mark.parametrize(
    "found",
    [
        certificate(QUIET, replace(FOUND, failed_requests=1)),
        certificate(QUIET, FOUND, learning_failures=1),
    ],
)
def test_one_failed_request_is_too_many(found):
    assert (found.failed_requests, found.certified) == (1, False)
    assert found.as_dict()["certified"] is False
