"""When two versions gave the same answer, and how far apart their answers lie."""

import struct
from math import inf, nan
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.edge.pairline import NO_ANSWER
from serving.edge.shadow.answer import Answer
from serving.edge.shadow.comparison import Likeness, compare

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | numbers | st.text(max_size=3)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner)
)


def tensor(
    data: list[Any], datatype: str = "FP64", *, name: str = "y", shape: list[int] | None = None
) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def answer(*outputs: dict[str, Any], version: int = 1) -> Answer:
    document = {"model_version": str(version), "id": str(version), "outputs": list(outputs)}
    return Answer(200, body=orjson.dumps(document))


def binary(data: bytes, datatype: str, count: int) -> Answer:
    output = {"name": "y", "datatype": datatype, "shape": [count]}
    head = orjson.dumps({"outputs": [{**output, "parameters": {"binary_data_size": len(data)}}]})
    length = (b"inference-header-content-length", b"%d" % len(head))
    return Answer(200, (length,), head + data)


def scoring(document: object) -> Answer:
    return Answer(200, body=orjson.dumps(document))


def likeness(one: Answer, other: Answer, tolerance: float = 0.01) -> Likeness:
    found = compare(one, other, tolerance=tolerance)
    assert compare(other, one, tolerance=tolerance) == found
    return found


# ---- fractions


@pytest.mark.parametrize(
    ("one", "other", "agreed"),
    [
        (0.5, 0.5, True),
        (0.5, 0.509, True),
        (0.5, 0.511, False),
        (0.0, -0.009, True),
        (0.0, -0.011, False),
        (1000.0, 1009.0, True),
        (1000.0, 1011.0, False),
        (-1000.0, -1009.0, True),
        (-1000.0, 1000.0, False),
        (1e308, -1e308, False),
    ],
)
def test_fractions_agree_within_the_tolerance_absolute_or_relative(
    one: float, other: float, agreed: bool
) -> None:
    assert likeness(answer(tensor([one])), answer(tensor([other]))).agreed is agreed


def test_the_difference_is_the_mean_over_all_elements_of_all_outputs() -> None:
    one = answer(tensor([1.0, 2.0]), tensor([5, 7], "INT64", name="n"))
    other = answer(tensor([1.5, 2.0]), tensor([5, 8], "INT64", name="n"), version=2)
    assert likeness(one, other) == Likeness(False, 1.5 / 4)


@pytest.mark.parametrize(
    ("one", "other", "agreed", "difference"),
    [
        (nan, nan, True, 0.0),
        (inf, inf, True, 0.0),
        (inf, -inf, False, None),
        (inf, 1.0, False, None),
        (nan, 1.0, False, None),
        (nan, inf, False, None),
    ],
)
def test_what_is_no_number_agrees_with_itself_alone(
    one: float, other: float, agreed: bool, difference: float | None
) -> None:
    packed = (binary(struct.pack("<2d", value, 0.0), "FP64", 2) for value in (one, other))
    assert likeness(*packed, tolerance=100.0) == Likeness(agreed, difference)


def test_null_is_not_a_number_in_json() -> None:
    null = answer(tensor([None, 1.0]))
    assert likeness(null, null) == Likeness(True, 0.0)
    assert likeness(null, answer(tensor([0.0, 1.0]))) == Likeness(False, None)


def test_a_difference_that_no_number_can_hold_is_none() -> None:
    far = answer(tensor([1.7e308])), answer(tensor([-1.7e308]))
    assert likeness(*far) == Likeness(False, None)


# ---- everything else is exact


@pytest.mark.parametrize(
    ("datatype", "one", "other", "difference"),
    [
        ("INT64", 1_000_000, 1_000_001, 1.0),
        ("INT64", 2**62, 2**62 + 1, 0.0),
        ("UINT64", 2**64 - 1, 0, 2.0**64),
        ("UINT8", 0, 255, 255.0),
        ("BOOL", True, False, 1.0),
        ("BYTES", "yes", "no", 1.0),
    ],
)
def test_whole_numbers_booleans_and_strings_agree_if_they_are_equal(
    datatype: str, one: Any, other: Any, difference: float
) -> None:
    ours = answer(tensor([one], datatype))
    assert likeness(ours, ours, 0.5) == Likeness(True, 0.0)
    assert likeness(ours, answer(tensor([other], datatype)), 0.5) == Likeness(False, difference)


def test_strings_differ_by_their_share() -> None:
    one, other = tensor(["a", "b", "c", "d"], "BYTES"), tensor(["a", "x", "c", "y"], "BYTES")
    assert likeness(answer(one), answer(other)) == Likeness(False, 0.5)


# ---- form


@pytest.mark.parametrize(
    "other",
    [
        answer(tensor([1.0, 2.0, 3.0])),
        answer(tensor([1.0, 2.0], name="z")),
        answer(tensor([1.0, 2.0], "FP32")),
        answer(tensor([1.0, 2.0], shape=[1, 2])),
        answer(tensor([1.0, 2.0]), tensor([1.0], name="z")),
        answer(),
        scoring({"predictions": [1.0, 2.0]}),
        scoring([1.0, 2.0]),
    ],
)
def test_answers_of_other_forms_do_not_agree_and_have_no_distance(other: Answer) -> None:
    assert likeness(answer(tensor([1.0, 2.0])), other) == Likeness(False, None)


def test_outputs_may_come_in_any_order_and_nested() -> None:
    flat, nested = tensor([1.0, 2.0], shape=[2, 1]), tensor([[1.0], [2.0]], shape=[2, 1])
    other = tensor([3.0], name="z")
    assert likeness(answer(flat, other), answer(other, nested)) == Likeness(True, 0.0)


def test_an_answer_without_outputs_agrees_with_another() -> None:
    assert likeness(answer(), answer(version=2)) == Likeness(True, 0.0)


# ---- binary tensors


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [("FP16", "<f2"), ("FP32", "<f4"), ("INT8", "<i1"), ("UINT16", "<u2"), ("BOOL", "?")],
)
def test_binary_tensors_are_those_that_json_writes(datatype: str, dtype: str) -> None:
    data = np.array([0, 1, 1], dtype=dtype)
    found = likeness(
        binary(data.tobytes(), datatype, 3), answer(tensor(data.tolist(), datatype, shape=[3]))
    )
    assert found == Likeness(True, 0.0)


def test_binary_strings_have_their_lengths_before_them() -> None:
    data = b"".join(struct.pack("<I", len(each)) + each for each in (b"yes", b"", b"no"))
    assert likeness(
        binary(data, "BYTES", 3), answer(tensor(["yes", "", "no"], "BYTES"))
    ) == Likeness(True, 0.0)


def test_half_of_a_float_is_a_float() -> None:
    upper = (np.array([1.0, -2.5], "<f4").view("<u4") >> 16).astype("<u2")
    assert likeness(
        binary(upper.tobytes(), "BF16", 2), answer(tensor([1.0, -2.5], "BF16"))
    ) == Likeness(True, 0.0)


# ---- other JSON


def test_scores_of_mlflow_agree_within_the_tolerance() -> None:
    one = scoring({"predictions": [{"label": "a", "score": 0.5}]})
    assert likeness(one, scoring({"predictions": [{"label": "a", "score": 0.505}]})).agreed
    assert not likeness(one, scoring({"predictions": [{"label": "b", "score": 0.5}]})).agreed


def test_labels_that_are_whole_numbers_have_no_tolerance() -> None:
    labels = scoring({"predictions": [1000, 7]}), scoring({"predictions": [1001, 7]})
    assert likeness(*labels) == Likeness(False, 0.5)


@given(document=documents)
def test_every_answer_agrees_with_itself(document: object) -> None:
    assert likeness(scoring(document), scoring(document)) == Likeness(True, 0.0)


# ---- no answers


@pytest.mark.parametrize("status", [NO_ANSWER, 500, 503])
def test_where_the_champion_failed_there_is_nothing_to_agree_with(status: int) -> None:
    assert compare(Answer(status), answer(tensor([1.0])), tolerance=0.0) == Likeness(None, None)


@pytest.mark.parametrize("status", [NO_ANSWER, 422, 429, 500])
def test_a_challenger_that_does_not_answer_does_not_agree(status: int) -> None:
    assert compare(answer(tensor([1.0])), Answer(status), tolerance=0.0) == Likeness(False, None)


def test_refusals_agree_if_they_are_of_one_kind() -> None:
    assert likeness(Answer(422, body=b"one"), Answer(422, body=b"other")).agreed
    assert not likeness(Answer(422), Answer(400)).agreed


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"{",
        b"\xff",
        b'{"outputs": [1]}',
        b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [2], "data": [1.0]}]}',
        b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [1], "data": [1.5]}]}',
        b'{"outputs": [{"name": "y", "datatype": "INT8", "shape": [1], "data": [300]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": "x", "data": [1.0]}]}',
        b'{"outputs": [{"name": "y", "datatype": "WHAT", "shape": [1], "data": [1.0]}]}',
        b'{"outputs": [{"name": "y", "datatype": "BYTES", "shape": [1], "data": [1.0]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": 1.0}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": ["x"]}]}',
        b"[" * 1000 + b"]" * 1000,
        b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "parameters": 1}]}',
        b'{"outputs": [{"name": ["y"], "datatype": "FP64", "shape": [1], "data": [1.0]}]}',
    ],
)
def test_what_cannot_be_read_agrees_byte_for_byte(nonsense: bytes) -> None:
    assert likeness(Answer(200, body=nonsense), Answer(200, body=nonsense)) == Likeness(True, None)
    assert likeness(Answer(200, body=nonsense), answer(tensor([1.0]))) == Likeness(False, None)


@given(
    body=st.binary(max_size=60),
    length=st.none() | st.integers(-5, 70) | st.just("x"),
    tail=st.binary(max_size=20),
)
def test_no_answer_is_too_strange_to_be_compared(
    body: bytes, length: int | str | None, tail: bytes
) -> None:
    header = () if length is None else ((b"inference-header-content-length", str(length).encode()),)
    strange = Answer(200, header, body + tail)
    assert likeness(strange, strange).agreed is True
