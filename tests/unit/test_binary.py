"""Tensors as bytes behind the JSON of a request or an answer."""

import json
import struct
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from registry import Signature, Tensor
from registry.errors import InvalidInput
from registry.refs import VersionRef
from registry.tensors import NUMPY_TYPES
from serving.errors import InvalidOutput, MalformedRequest
from serving.hosts.answers import write_response
from serving.hosts.protocol import InferRequest, read_request, require_json

REF = VersionRef.parse("digits/2")
EVERYTHING_BINARY = InferRequest({}, all_binary=True)


def message(*inputs, tail=b"", **document):
    """Return a body and the length of its JSON."""
    header = json.dumps({"inputs": list(inputs)} | document).encode()
    return header + tail, len(header)


def tensor(size, *, name="x", datatype="FP32", shape=(2,), **more):
    described = {"name": name, "datatype": datatype, "shape": list(shape)}
    return described | {"parameters": {"binary_data_size": size}} | more


def elements(*texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def split(answer):
    """Return the JSON of an answer, and its outputs' bytes by name."""
    header = answer.content[: answer.header_length]
    document, rest = json.loads(header), answer.content[len(header) :]
    found = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            found[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return document, found


@given(data=st.data(), datatype=st.sampled_from(sorted(NUMPY_TYPES)))
def test_every_value_of_every_datatype_survives_being_written_and_read(data, datatype):
    dtype = NUMPY_TYPES[datatype]
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=3))
    anything = st.binary(max_size=5) if dtype.kind == "O" else arrays.from_dtype(dtype)
    array = data.draw(arrays.arrays(dtype, shape, elements=anything))

    document, found = split(write_response(REF, EVERYTHING_BINARY, {"x": array}, None))
    [answer] = document["outputs"]
    assert (answer["datatype"], answer["shape"]) == (datatype, list(shape))
    assert "data" not in answer

    read = read_request(*message(answer, tail=found["x"])).inputs["x"]
    assert (read.dtype, read.shape) == (dtype, shape)
    if dtype.kind == "O":
        assert read.tolist() == array.tolist()
    else:
        assert read.tobytes() == array.tobytes(), "NaN and -0.0 are kept to the bit"


def test_a_tensor_that_was_read_is_the_models_own():
    body, length = message(
        tensor(1, name="odd", datatype="INT8", shape=[1]), tensor(8), tail=b"\x07" + bytes(8)
    )
    array = read_request(body, length).inputs["x"]
    assert array.flags.aligned
    array[0] = 1
    assert body[length:] == b"\x07" + bytes(8)


def test_inputs_in_json_and_in_bytes_may_be_mixed():
    flag = {"name": "flag", "datatype": "BOOL", "shape": [1], "data": [True]}
    one, two = np.array([1.5, np.nan], "<f4"), elements(b"\xff\0", b"")
    body = message(
        tensor(8), flag, tensor(10, name="t", datatype="BYTES"), tail=one.tobytes() + two
    )
    inputs = read_request(*body).inputs
    assert list(inputs) == ["x", "flag", "t"]
    np.testing.assert_array_equal(inputs["x"], one)
    assert (inputs["flag"].tolist(), inputs["t"].tolist()) == ([True], [b"\xff\0", b""])


@pytest.mark.parametrize(
    ("inputs", "tail", "says"),
    [
        ([tensor(8)], bytes(7), "7 bytes are left"),
        ([tensor(8)], bytes(9), "1 bytes behind the JSON belong to no input"),
        ([tensor(7)], bytes(7), "has 8 bytes, not 7"),
        ([tensor(8), tensor(8, name="y")], bytes(8), "input 'y'.* 0 bytes are left"),
        ([tensor(8, shape=[2**62, 2**62])], bytes(8), "not 8"),
        ([tensor(8, shape=[1] * 33)], bytes(8), "more than 32 dimensions"),
        ([tensor(8, shape=[-2])], bytes(8), "no list of whole numbers"),
        ([tensor(-1)], b"", "is -1"),
        ([tensor(2**70)], b"", "and 0 bytes are left"),
        ([tensor(8.0)], bytes(8), "is 8.0"),
        ([tensor(True)], bytes(1), "is True"),
        ([tensor("8")], bytes(8), "is 8"),
        ([tensor(8, data=[1, 2])], bytes(8), "both `data` and `binary_data_size`"),
        ([tensor(8) | {"parameters": [8]}], bytes(8), "no JSON object"),
        ([tensor(8, datatype="BF16")], bytes(8), "BF16 .* send FP32"),
        ([tensor(8) | {"parameters": {"shared_memory_region": "a"}}], b"", "not offered"),
        ([tensor(7, datatype="BYTES")], bytes(7), "2 elements do not fit into 7 bytes"),
        ([tensor(8, datatype="BYTES", shape=[1])], bytes(8), "4 bytes are left over"),
        ([tensor(8, datatype="BYTES")], elements(b"long"), "element 1 has no length"),
        ([tensor(9, datatype="BYTES")], bytes(4) + b"\x02\0\0\0x", "element 1 ends beyond"),
        ([tensor(8, datatype="BYTES")], b"\xff" * 8, "element 0 ends beyond"),
        ([tensor(8, datatype="BYTES", shape=[2**31])], bytes(8), "do not fit"),
    ],
)  # fmt: skip
def test_bytes_that_are_not_what_the_json_says_are_malformed(inputs, tail, says):
    with pytest.raises(MalformedRequest, match=says):
        read_request(*message(*inputs, tail=tail))


@pytest.mark.parametrize("length", [-1, 10_000])
def test_json_cannot_be_longer_than_the_body(length):
    with pytest.raises(MalformedRequest, match="Inference-Header-Content-Length"):
        read_request(message(tensor(8), tail=bytes(8))[0], length)


def test_bytes_need_the_header_that_says_where_they_begin():
    with pytest.raises(MalformedRequest, match="Inference-Header-Content-Length is missing"):
        read_request(message(tensor(0))[0])


def test_a_boolean_is_zero_or_one():
    with pytest.raises(InvalidInput, match="0 or 1"):
        read_request(*message(tensor(2, datatype="BOOL"), tail=b"\x01\x02"))


def test_an_empty_tensor_is_empty_in_bytes_as_well():
    with pytest.raises(InvalidInput, match="is empty"):
        read_request(*message(tensor(0, shape=[0])))


@pytest.mark.parametrize(
    ("asked", "in_bytes"),
    [
        ({}, set()),
        ({"parameters": {"binary_data_output": True}}, {"a", "b"}),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": True}}, {"name": "b"}]}, {"a"}),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}],
            },
            {"b"},
        ),
        ({"parameters": {"binary_data_output": False}, "outputs": None}, set()),
        ({"parameters": None, "id": None}, set()),
    ],
)
def test_each_output_is_sent_as_it_is_asked_for(asked, in_bytes):
    request = read_request(*message(tensor(8), tail=bytes(8), **asked))
    outputs = {"a": np.array([np.pi]), "b": np.array(["é", "x"])}
    answer = write_response(REF, request, outputs, None)
    document, found = split(answer)
    assert found.keys() == in_bytes
    assert (answer.header_length is None) == (not in_bytes)
    assert {o["name"] for o in document["outputs"] if "data" in o} == {"a", "b"} - in_bytes
    if "a" in in_bytes:
        assert found["a"] == np.array([np.pi], "<f8").tobytes()
    if "b" in in_bytes:
        assert found["b"] == elements("é".encode(), b"x")


@pytest.mark.parametrize(
    "document",
    [
        {"parameters": {"binary_data_output": 1}},
        {"parameters": "all"},
        {"outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]},
        {"outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        {"parameters": {"shared_memory_region": "here"}},
    ],
)
def test_what_is_asked_for_must_be_understood(document):
    with pytest.raises(MalformedRequest):
        read_request(*message(tensor(8), tail=bytes(8), **document))


def test_a_stream_of_text_refuses_to_be_binary():
    require_json(InferRequest({}))
    for request in (EVERYTHING_BINARY, InferRequest({}, binary={"y": True})):
        with pytest.raises(MalformedRequest, match="in JSON"):
            require_json(request)


def test_an_output_in_bytes_need_not_be_finite_and_keeps_its_declared_type():
    signature = Signature((), (Tensor("y", "FP32", (-1,)),))
    outputs = {"y": np.array([1, np.nan, np.inf])}
    _, found = split(write_response(REF, EVERYTHING_BINARY, outputs, signature))
    assert found["y"] == np.array([1, np.nan, np.inf], "<f4").tobytes()


@pytest.mark.parametrize("value", [3, None, "\ud800"])
def test_an_output_of_what_is_neither_text_nor_bytes_is_no_answer(value):
    for request in (EVERYTHING_BINARY, InferRequest({})):
        with pytest.raises(InvalidOutput):
            write_response(REF, request, {"y": np.array([value], dtype=object)}, None)


def test_any_memory_layout_is_written_row_by_row():
    table = np.arange(6, dtype=np.int16).reshape(2, 3)
    expected = b"".join(struct.pack("<h", n) for n in range(6))
    for array in (table, np.asfortranarray(table), table.astype(">i2"), table.T.copy().T):
        assert split(write_response(REF, EVERYTHING_BINARY, {"y": array}, None))[1]["y"] == expected


def test_an_answer_that_json_cannot_hold_is_the_clients_if_the_question_was_none():
    outputs = {"y": np.array([np.nan])}
    with pytest.raises(InvalidOutput):
        write_response(REF, InferRequest({"x": np.ones(1)}), outputs, None)
    with pytest.raises(InvalidInput, match="ask for it as binary data"):
        write_response(REF, InferRequest({"x": np.array([np.inf])}), outputs, None)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@st.composite
def nonsense(draw):
    """Return a request in which one thing after another is something else than it should be."""
    size = {"binary_data_size": draw(st.integers(-1, 40) | anything)}
    described = {
        "name": draw(st.sampled_from(["x", "y"]) | anything),
        "datatype": draw(st.sampled_from(sorted(NUMPY_TYPES)) | anything),
        "shape": draw(st.lists(st.integers(-1, 2**64), max_size=3) | anything),
        "parameters": draw(st.just(size) | anything),
        "data": draw(st.none() | anything),
    }
    document = {"inputs": [described, tensor(8, name="z")], "outputs": draw(st.none() | anything)}
    header = json.dumps(document).encode()
    return header + draw(st.binary(max_size=60)), draw(st.just(len(header)) | st.integers(0, 999))


@given(nonsense())
def test_no_nonsense_is_more_than_refused(request):
    with suppress(MalformedRequest, InvalidInput):
        read_request(*request)
