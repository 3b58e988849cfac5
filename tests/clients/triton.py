"""NVIDIA's client of the Open Inference Protocol, as it comes: `tritonclient[http]`."""

import ml_dtypes
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.e2e.echoing import TENSORS

MODEL = "echo"
SPECIAL = {"float16": np.nan, "float32": np.inf, "float64": -np.inf}
"""What JSON cannot hold."""


def _client(url):
    return triton.InferenceServerClient(url.removeprefix("http://"))


def _tensors(**changes):
    """Return what the model takes, with raw bytes and, for each float, a value that JSON lacks."""
    special = {
        name: np.array([[1.5, value]], dtype=TENSORS[name].dtype) for name, value in SPECIAL.items()
    }
    gate = np.array(["größer"], dtype=object)
    return TENSORS | special | {"gate": gate} | changes


def _plain():
    """Return what the model takes, of values that JSON can hold."""
    text = {"gate": np.array(["größer"], dtype=object), "bytes": np.array(["é"], dtype=object)}
    return TENSORS | text


def _inputs(tensors, *, binary=lambda _: True):
    inputs = []
    for name, array in tensors.items():
        asked = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        asked.set_data_from_numpy(array, binary_data=binary(name))
        inputs.append(asked)
    return inputs


def _same(result, tensors, names=None):
    for name in names or tensors:
        found, expected = result.as_numpy(name), tensors[name]
        assert found.dtype.kind == expected.dtype.kind, name
        if expected.dtype.kind == "O":
            assert [_raw(each) for each in found] == [_raw(each) for each in expected], name
        else:
            assert found.tobytes() == np.ascontiguousarray(expected).tobytes(), name


def _raw(element):
    return element if isinstance(element, bytes) else element.encode()


def _refused(call):
    try:
        call()
    except InferenceServerException as error:
        return error.status(), error.message()
    raise AssertionError("not refused")


def the_server_and_the_model_tell_of_themselves(url):
    with _client(url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL)
        assert client.is_model_ready(MODEL, "1")
        assert not client.is_model_ready("nobody")
        server = client.get_server_metadata()
        assert server["name"] == "tiltyard"
        assert "binary_tensor_data" in server["extensions"]
        for version in ("", "1"):
            metadata = client.get_model_metadata(MODEL, version)
            assert metadata["versions"] == ["1"]
            types = {each["name"]: each["datatype"] for each in metadata["inputs"]}
            assert types == {n: np_to_triton_dtype(a.dtype) for n, a in _plain().items()}


def every_datatype_goes_there_and_back_in_bytes(url):
    with _client(url) as client:
        tensors = _tensors()
        _same(client.infer(MODEL, _inputs(tensors)), tensors)


def every_datatype_goes_there_and_back_in_json(url):
    with _client(url) as client:
        tensors = _plain()
        inputs = _inputs(tensors, binary=lambda _: False)
        outputs = [triton.InferRequestedOutput(name, binary_data=False) for name in tensors]
        result = client.infer(MODEL, inputs, outputs=outputs)
        assert all("data" in each for each in result.get_response()["outputs"])
        _same(result, tensors)


def json_and_bytes_mix_in_both_directions(url):
    with _client(url) as client:
        tensors = _plain()
        inputs = _inputs(tensors, binary=lambda name: name.startswith(("float", "g")))
        outputs = [
            triton.InferRequestedOutput("float32", binary_data=True),
            triton.InferRequestedOutput("int64", binary_data=False),
            triton.InferRequestedOutput("bytes", binary_data=True),
        ]
        result = client.infer(MODEL, inputs, outputs=outputs, request_id="mine")
        response = result.get_response()
        assert response["id"] == "mine"
        assert (response["model_name"], response["model_version"]) == (MODEL, "1")
        assert ["data" in each for each in response["outputs"]] == [False, True, False]
        _same(result, tensors, ["float32", "int64", "bytes"])


def parameters_reach_the_model(url):
    with _client(url) as client:
        result = client.infer(
            MODEL, _inputs(_tensors()), model_version="1", parameters={"times": 3}, priority=1
        )
        assert result.as_numpy("int8").shape == (3, 2)
        status, message = _refused(
            lambda: client.infer(MODEL, _inputs(_tensors()), parameters={"times": "many"})
        )
        assert status == "400"
        assert "'times'" in message


def bodies_may_be_compressed(url):
    with _client(url) as client:
        tensors = _tensors()
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                MODEL,
                _inputs(tensors),
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            )
            _same(result, tensors)


def a_body_beyond_the_edges_buffer_is_no_different(url):
    rows = np.random.default_rng(7).normal(size=(40_000, 2))
    with _client(url) as client:
        tensors = {n: np.repeat(a, len(rows), axis=0) for n, a in _plain().items()}
        tensors["float64"] = rows
        outputs = [triton.InferRequestedOutput("float64")]
        _same(client.infer(MODEL, _inputs(tensors), outputs=outputs), tensors, ["float64"])


def requests_may_be_under_way_together(url):
    with triton.InferenceServerClient(url.removeprefix("http://"), concurrency=4) as client:
        asked = [_tensors(int8=np.array([[n, -n]], dtype=np.int8)) for n in range(8)]
        waiting = [client.async_infer(MODEL, _inputs(tensors)) for tensors in asked]
        for tensors, each in zip(asked, waiting, strict=True):
            _same(each.get_result(), tensors)


def what_is_refused_is_said(url):
    with _client(url) as client:
        status, message = _refused(lambda: client.infer("nobody", _inputs(_tensors())))
        assert (status, message) == ("404", "No model of this name is served here.")
        status, message = _refused(lambda: client.infer(MODEL, _inputs(_tensors()), "9"))
        assert (status, message) == ("404", "The model has no such version deployed.")
        wrong = _tensors(int8=np.array([[1, 2]], dtype=np.int16))
        status, message = _refused(lambda: client.infer(MODEL, _inputs(wrong)))
        assert (status, message) == ("400", "input 'int8' is INT16, but the model takes INT8")
        brain = _tensors(float32=np.array([[1, 2]], dtype=ml_dtypes.bfloat16))
        status, message = _refused(lambda: client.infer(MODEL, _inputs(brain)))
        assert status == "400"
        assert "BF16" in message
        outputs = [triton.InferRequestedOutput("int8", class_count=2)]
        status, message = _refused(
            lambda: client.infer(MODEL, _inputs(_tensors()), outputs=outputs)
        )
        assert status == "400"
        assert "classification" in message
