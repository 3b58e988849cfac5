import json

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
from serving.hosts.answers import write_metadata, write_response
from serving.hosts.protocol import InferRequest, read_request, require_outputs

REF = VersionRef.parse("digits/2")
SIGNATURE = Signature((Tensor("x", "FP64", (-1, 2)),), (Tensor("y", "INT64", (-1,)),))


def body(**tensor):
    whole = {"name": "x", "shape": [2], "datatype": "FP64", "data": [1.5, 2]} | tensor
    return json.dumps({"inputs": [{k: v for k, v in whole.items() if v is not None}]}).encode()


def written(outputs, request=None, signature=None):
    answer = write_response(REF, request or InferRequest({}), outputs, signature)
    assert answer.header_length is None
    return json.loads(answer.content)


@given(data=st.data(), datatype=st.sampled_from(sorted(NUMPY_TYPES)))
def test_every_datatype_survives_being_written_and_read(data, datatype):
    dtype = NUMPY_TYPES[datatype]
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=3))
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    content = st.text(max_size=5) if dtype.kind == "O" else arrays.from_dtype(dtype, **finite)
    array = data.draw(arrays.arrays(dtype, shape, elements=content))

    answer = written({"x": array})["outputs"][0]
    assert (answer["datatype"], answer["shape"]) == (datatype, list(shape))

    read = read_request(json.dumps({"inputs": [answer]}).encode()).inputs["x"]
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


def test_data_may_be_nested_or_flat():
    nested = read_request(body(shape=[2, 2], data=[[1, 2], [3, 4]])).inputs["x"]
    flat = read_request(body(shape=[2, 2], data=[1, 2, 3, 4])).inputs["x"]
    np.testing.assert_array_equal(nested, flat)


def test_the_clients_id_is_kept():
    document = json.loads(body()) | {"id": "mine"}
    assert read_request(json.dumps(document).encode()).id == "mine"
    assert written({"y": np.array([1])}, InferRequest({}, id="mine"))["id"] == "mine"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b'{"inputs": [3]}',
        b'{"inputs": [{"shape": [1]}]}',
        b'{"id": 3, "inputs": []}',
        b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [NaN]}]}',
        b'{"inputs": [{"name": "\xff"}]}',
        body(datatype=None),
        body(datatype="DOUBLE"),
        body(datatype=["FP64"]),
        body(shape=None),
        body(shape=2),
        body(shape=[-1]),
        body(shape=[2.0]),
        body(shape=[True, 2]),
        body(shape=[1] * 33, data=[1]),
        body(shape=[2**63] * 30, data=[1]),
        body(datatype="BF16"),
        body(parameters=[]),
        body(parameters={"shared_memory_region": "here"}),
        body(data=None),
        body(data="12"),
        body(data=[1]),
        body(data=[1, 2, 3]),
        body(shape=[2, 2], data=[[1, 2], [3]]),
        body(shape=[2, 2], data=[[1, 2, 3, 4]]),
        body(shape=[2, 2], data=[[1, 2], 3]),
        json.dumps({"inputs": [{"name": "x"}, {"name": "x"}]}).encode(),
    ],
)
def test_what_is_not_of_the_protocols_form_is_malformed(text):
    with pytest.raises(MalformedRequest):
        read_request(text)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP64", True),
        ("FP64", "1.0"),
        ("FP64", None),
        ("FP32", 1e39),
        ("FP16", 70_000),
        ("INT64", 1.0),
        ("INT64", True),
        ("INT64", 2**63),
        ("INT8", 128),
        ("INT8", -129),
        ("UINT8", -1),
        ("UINT64", 2**64),
        ("BOOL", 1),
        ("BYTES", 1),
        ("FP64", [1.0]),
        ("FP64", {}),
    ],
)
def test_a_value_that_its_datatype_cannot_hold_is_invalid(datatype, value):
    with pytest.raises(InvalidInput, match="'x'"):
        read_request(body(datatype=datatype, shape=[1], data=[value]))


def test_what_is_null_is_not_there():
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1], "parameters": None}
    document = {"id": None, "parameters": None, "inputs": [tensor], "outputs": None}
    request = read_request(json.dumps(document).encode())
    assert (request.id, request.outputs, request.parameters) == (None, (), {})


def test_parameters_of_the_request_are_kept():
    document = json.loads(body()) | {"parameters": {"temperature": 0.5, "tags": ["a"]}}
    request = read_request(json.dumps(document).encode())
    assert request.parameters == {"temperature": 0.5, "tags": ["a"]}


def test_bytes_may_come_in_base64_if_the_tensor_says_so():
    tensor = {"datatype": "BYTES", "shape": [2], "data": ["/wA=", ""]}
    assert read_request(body(**tensor)).inputs["x"].tolist() == ["/wA=", ""]
    tensor["parameters"] = {"content_type": "base64"}
    assert read_request(body(**tensor)).inputs["x"].tolist() == [b"\xff\0", b""]
    with pytest.raises(InvalidInput, match="no base64"):
        read_request(body(**tensor | {"data": ["/wA", "é"]}))


def test_an_empty_tensor_is_the_clients_fault_not_the_models():
    with pytest.raises(InvalidInput, match="empty"):
        read_request(body(shape=[0, 2], data=[]))


def test_asking_for_an_output_that_there_is_not_is_invalid():
    request = InferRequest({}, outputs=("z",))
    with pytest.raises(InvalidInput, match="no output is called 'z'"):
        require_outputs(request, SIGNATURE)
    require_outputs(request, None)
    require_outputs(InferRequest({}, outputs=("y",)), SIGNATURE)


def test_a_signature_of_inputs_alone_says_nothing_of_outputs():
    require_outputs(InferRequest({}, outputs=("output-0",)), Signature(SIGNATURE.inputs, ()))


@pytest.mark.parametrize("signature", [None, Signature(SIGNATURE.inputs, ())])
def test_an_output_that_nobody_promised_is_missed_by_the_clients_fault(signature):
    request = InferRequest({}, outputs=("z", "y"))
    with pytest.raises(InvalidInput, match="no output is called 'z': the model gives y"):
        written({"y": np.array([1])}, request, signature)
    with pytest.raises(InvalidInput, match="the model gives none"):
        written({}, request, signature)


@pytest.mark.parametrize("asked", [(), ("y",)])
def test_an_output_that_the_signature_declares_is_missed_by_the_models_fault(asked):
    with pytest.raises(InvalidOutput, match="gave no output 'y'"):
        written({"z": np.array([1])}, InferRequest({}, outputs=asked), SIGNATURE)


def test_only_the_outputs_asked_for_are_sent():
    outputs = {"y": np.array([1]), "score": np.array([0.5])}
    request = InferRequest({}, outputs=("score",))
    assert [o["name"] for o in written(outputs, request)["outputs"]] == ["score"]
    assert [o["name"] for o in written(outputs)["outputs"]] == ["y", "score"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_output_that_is_not_finite_is_no_answer(value, dtype):
    with pytest.raises(InvalidOutput, match="NaN or infinite"):
        written({"y": np.array([1, value], dtype=dtype)})


@pytest.mark.parametrize(
    "array",
    [
        np.array([1 + 2j]),
        np.array([b"\xff"], dtype=object),
        np.array([3], dtype=object),
        np.array([None], dtype=object),
    ],
)
def test_an_output_that_no_tensor_can_hold_is_no_answer(array):
    with pytest.raises(InvalidOutput):
        written({"y": array})


def test_text_is_written_whatever_numpy_type_it_has():
    for array in (np.array(["é"]), np.array(["é".encode()]), np.array(["é"], dtype=object)):
        assert written({"y": array})["outputs"][0]["data"] == ["é"]


def test_an_output_takes_the_type_that_its_signature_declares():
    answer = written({"y": np.array([3], dtype=np.int32)}, signature=SIGNATURE)["outputs"][0]
    assert (answer["datatype"], answer["data"]) == ("INT64", [3])


@pytest.mark.parametrize(
    ("declared", "array"),
    [
        ("INT64", np.array([0.5])),
        ("INT8", np.array([300])),
        ("FP32", np.array([1e300])),
        ("FP64", np.array(["1"])),
        ("BYTES", np.array([1])),
    ],
)
def test_an_output_that_breaks_its_signature_is_no_answer(declared, array):
    with pytest.raises(InvalidOutput):
        written({"y": array}, signature=Signature((), (Tensor("y", declared, (-1,)),)))


def test_a_missing_output_is_no_answer():
    with pytest.raises(InvalidOutput, match="'y'"):
        written({"z": np.array([1])}, signature=SIGNATURE)


def test_any_memory_layout_is_written_row_by_row():
    table = np.arange(6, dtype=np.int64).reshape(2, 3)
    for array in (table, np.asfortranarray(table), table.astype(">i8")):
        assert written({"y": array})["outputs"][0]["data"] == [0, 1, 2, 3, 4, 5]
    assert written({"y": table.T})["outputs"][0]["data"] == [0, 3, 1, 4, 2, 5]


def test_metadata_lists_what_the_signature_says():
    metadata = json.loads(write_metadata(REF, SIGNATURE))
    assert (metadata["name"], metadata["versions"]) == ("digits", ["2"])
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}]
    assert json.loads(write_metadata(REF, None))["inputs"] == []
