"""MLServer's own types and codecs make the requests and read the answers."""

import json

import numpy as np
import pandas as pd
import requests
from mlserver.codecs import Base64Codec, NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    Parameters,
    RequestOutput,
)

from tests.e2e.echoing import TENSORS

FRAME = pd.DataFrame({"a": [1.5, 2.0], "b": [1, 2], "c": ["x", "größer"]}).astype({"c": object})
"""Of objects, because MLServer does not know the type of texts that pandas 3 has."""


def _post(url, request, *, call="infer", model="echo"):
    """Send a request as MLServer's types write it, with null for whatever it does not say."""
    return requests.post(
        f"{url}/v2/models/{model}/{call}",
        data=request.model_dump_json(),
        headers={"content-type": "application/json"},
        timeout=60,
    )


def _inputs(**changes):
    arrays = {n: a for n, a in TENSORS.items() if a.dtype.kind not in "OU"} | changes
    encoded = [NumpyCodec.encode_input(name, array) for name, array in arrays.items()]
    encoded.append(StringCodec.encode_input("gate", ["größer"], use_bytes=False))
    encoded.append(Base64Codec.encode_input("bytes", [b"text, in base64"], use_bytes=False))
    return encoded


def metadata_is_what_mlserver_expects(url):
    server = MetadataServerResponse.model_validate(requests.get(f"{url}/v2", timeout=60).json())
    assert server.name == "tiltyard"
    answer = requests.get(f"{url}/v2/models/echo", timeout=60)
    model = MetadataModelResponse.model_validate(answer.json())
    assert [each.name for each in model.inputs] == list(TENSORS)


def arrays_and_texts_go_there_and_back(url):
    request = InferenceRequest(
        id="mine",
        inputs=_inputs(),
        outputs=[
            RequestOutput(name=name) for name in ("float32", "uint64", "bool", "gate", "bytes")
        ],
        parameters=Parameters(content_type="np", times=2),
    )
    answer = _post(url, request)
    assert answer.status_code == 200, answer.text
    response = InferenceResponse.model_validate(answer.json())
    assert response.id == "mine"
    found = {each.name: each for each in response.outputs}
    for name in ("float32", "uint64", "bool"):
        expected = np.repeat(TENSORS[name], 2, axis=0)
        np.testing.assert_array_equal(NumpyCodec.decode_output(found[name]), expected)
    assert StringCodec.decode_output(found["gate"]) == ["größer"] * 2
    assert StringCodec.decode_output(found["bytes"]) == ["text, in base64"] * 2


def a_frame_goes_there_and_back(url):
    request = PandasCodec.encode_request(FRAME, use_bytes=False)
    answer = _post(url, request, model="columns")
    assert answer.status_code == 200, answer.text
    frame = PandasCodec.decode_response(InferenceResponse.model_validate(answer.json()))
    assert frame["sum"].tolist() == [2.5, 4.0]
    assert frame["text"].tolist() == ["x", "größer"]


def a_whole_request_is_one_array(url):
    request = NumpyRequestCodec.encode_request(np.array([[1.0, 2.0, 3.0]]))
    request.inputs[0].name = "input-0"
    answer = _post(url, request, model="sums")
    response = InferenceResponse.model_validate(answer.json())
    assert NumpyRequestCodec.decode_response(response).tolist() == [6.0]


def errors_are_what_mlserver_expects(url):
    answer = _post(url, InferenceRequest(inputs=_inputs(int8=TENSORS["int16"])))
    assert answer.status_code == 400
    error = InferenceErrorResponse.model_validate(answer.json())
    assert error.error == "input 'int8' is INT16, but the model takes INT8"


def each_event_of_a_stream_is_a_response(url):
    request = InferenceRequest(inputs=_inputs(), parameters=Parameters(times=1))
    answer = _post(url, request, call="infer_stream")
    assert answer.headers["content-type"] == "text/event-stream", answer.text
    [event] = [line for line in answer.iter_lines() if line]
    response = InferenceResponse.model_validate(json.loads(event.removeprefix(b"data: ")))
    assert NumpyCodec.decode_output(response.outputs[0]).tolist() == [0]
