"""Plain `requests`: the protocol in JSON, and MLflow's payloads."""

import pandas as pd
import requests

FRAME = pd.DataFrame({"a": [1.5, 2.0], "b": [1, 2], "c": ["x", "größer"]})
PREDICTIONS = {"predictions": [{"sum": 2.5, "text": "x"}, {"sum": 4.0, "text": "größer"}]}


def _post(url, path, **content):
    return requests.post(f"{url}{path}", timeout=60, headers={"x-unit-id": "user-7"}, **content)


def _invoke(url, model, **content):
    answer = _post(url, f"/models/{model}/invocations", **content)
    assert answer.status_code == 200, answer.text
    for stamp in ("x-model-version", "x-prediction-id", "x-route-epoch"):
        assert answer.headers[stamp]
    return answer.json()


def every_form_of_mlflows_payloads_is_answered(url):
    for payload in (
        {"dataframe_split": FRAME.to_dict(orient="split")},
        {"dataframe_records": FRAME.to_dict(orient="records")},
        {"instances": FRAME.to_dict(orient="records")},
        {"inputs": FRAME.to_dict(orient="list")},
    ):
        assert _invoke(url, "columns", json=payload) == PREDICTIONS
    table = FRAME.to_csv(index=False).encode()
    answer = requests.post(
        f"{url}/models/columns/invocations",
        data=table,
        headers={"content-type": "text/csv"},
        timeout=60,
    )
    assert answer.json() == PREDICTIONS


def arrays_are_answered_too(url):
    for form in ("instances", "inputs"):
        assert _invoke(url, "sums", json={form: [[1, 2, 3], [4, 5, 6]]}) == {
            "predictions": [6.0, 15.0]
        }


def refusals_are_said_as_mlflow_says_them(url):
    answer = _post(url, "/models/columns/invocations", json={"inputs": {"a": [1.5]}})
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert answer.json()["message"]


def an_inference_is_asked_for_in_json(url):
    tensor = {
        "name": "input-0",
        "datatype": "FP64",
        "shape": [2, 3],
        "data": [[1, 2, 3], [4, 5, 6]],
    }
    for path in ("/v2/models/sums/infer", "/v2/models/sums/versions/1/infer"):
        answer = _post(url, path, json={"inputs": [tensor], "id": "mine"})
        assert answer.json()["outputs"] == [
            {"name": "output-0", "datatype": "FP64", "shape": [2], "data": [6.0, 15.0]}
        ]
        assert answer.json()["id"] == "mine"


def a_model_without_a_stream_says_so(url):
    tensor = {"name": "input-0", "datatype": "FP64", "shape": [1, 3], "data": [1, 2, 3]}
    answer = _post(url, "/v2/models/sums/infer_stream", json={"inputs": [tensor]})
    assert (answer.status_code, answer.json()["code"]) == (501, "not_streaming")
