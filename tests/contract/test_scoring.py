"""MLflow's payloads, answered by a host as MLflow's own scoring server answers them."""

import json
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from registry.digest import digest_of
from registry.mlflow import load, save_python_model, save_sklearn
from registry.mlflow_process import quietly
from registry.refs import VersionRef
from serving.hosts.endpoint import HostEndpoint

ROWS = np.arange(12.0).reshape(4, 3)
FRAME = pd.DataFrame({"a": [1.5, 2.0, -1.0], "b": [1, 2, 3], "c": ["x", "y", "z"]})
SPLIT = {"dataframe_split": FRAME.to_dict(orient="split")}
RECORDS = {"dataframe_records": FRAME.to_dict(orient="records")}
COLUMNS = {"inputs": FRAME.to_dict(orient="list")}
BY_ROW = {"instances": FRAME.to_dict(orient="records")}

JSON, CSV = "application/json", "text/csv"


class Described:
    """Takes a frame with `c`, gives a frame; fails on what its signature allows."""

    def predict(self, frame, params):
        if (frame["b"] == 13).any():
            raise ZeroDivisionError("unlucky")
        if (frame["b"] == 14).any():
            return float("nan")
        times = params.get("times", 1)
        return pd.DataFrame({"sum": (frame["a"] + frame["b"]) * times, "c": frame["c"]})


class Texts:
    """Is given texts in an array, and gives their lengths."""

    def predict(self, texts):
        return np.array([len(text) for text in texts])


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("saved")
    params = {"times": 2, "names": ["a", "b"]}
    return {
        "array": save_sklearn(
            LinearRegression().fit(ROWS, ROWS[:, 0]), folder / "array", example=ROWS[:2]
        ),
        "frame": save_python_model(Described(), folder / "frame", example=FRAME, params=params),
        "texts": save_python_model(Texts(), folder / "texts", example=np.array(["a", "bc"])),
    }


@pytest.fixture(scope="module")
def hosts(saved, tmp_path_factory):
    """The host of each model, and MLflow's own server of the same."""
    work = tmp_path_factory.mktemp("work")
    made = {}
    with quietly():
        import mlflow.pyfunc
        from mlflow.pyfunc import scoring_server

        for name, folder in saved.items():
            ours = HostEndpoint(
                VersionRef.parse("m/1"),
                load(folder.as_uri(), digest_of(folder), work),
                batch_rows=8,
                max_body_bytes=1 << 20,
            )
            made[name] = ours, scoring_server.init(mlflow.pyfunc.load_model(str(folder)))
    return made


async def sent(app, content, kind):
    headers = {"content-type": kind} if kind else {}
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, raise_app_exceptions=False), base_url="http://host"
    ) as client:
        return await client.post("/invocations", content=content, headers=headers)


def body(payload):
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


@pytest.mark.parametrize(
    ("model", "payload", "kind"),
    [
        ("array", {"inputs": ROWS.tolist()}, JSON),
        ("array", {"instances": ROWS.tolist()}, JSON),
        ("array", {"instances": ROWS.tolist(), "params": {"unknown": 1}}, f"{JSON}; charset=UTF-8"),
        ("array", {"dataframe_split": pd.DataFrame(ROWS).to_dict(orient="split")}, JSON),
        ("frame", SPLIT, JSON),
        ("frame", RECORDS, JSON),
        ("frame", COLUMNS, JSON),
        ("frame", BY_ROW, JSON),
        ("frame", FRAME.to_csv(index=False).encode(), f"{CSV}; charset=utf-8"),
        ("frame", SPLIT | {"params": {"times": 10, "unknown": 3}}, JSON),
        ("frame", SPLIT | {"params": None}, JSON),
        ("frame", RECORDS | {"dataframe": "neither"}, JSON),
        ("frame", {"dataframe_records": [{"b": 3, "c": "z", "a": 1, "more": []}]}, JSON),
        ("texts", {"inputs": ["a", "", "größer"]}, JSON),
    ],
)
async def test_what_mlflow_answers_is_answered_alike(hosts, model, payload, kind):
    ours, mlflows = hosts[model]
    expected = await sent(mlflows, body(payload), kind)
    assert expected.status_code == 200
    answer = await sent(ours, body(payload), kind)
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON)
    assert answer.json() == expected.json()
    assert list(answer.json()) == ["predictions"]


@pytest.mark.parametrize(
    ("model", "payload", "kind"),
    [
        ("array", b"", JSON),
        ("array", b"{", JSON),
        ("array", b"\xff", JSON),
        ("array", b"[[1, 2, 3]]", JSON),
        ("array", b"[" * 100_000, JSON),
        ("array", b'{"inputs": [[' + b"9" * 5_000 + b"]]}", JSON),
        ("array", {}, JSON),
        ("array", {"data": [[1, 2, 3]]}, JSON),
        ("array", {"inputs": [[1, 2, 3]], "instances": [[1, 2, 3]]}, JSON),
        ("array", {"inputs": [[1, 2]]}, JSON),
        ("array", {"inputs": [[1, 2, 3], [4]]}, JSON),
        ("array", {"inputs": [["a", "b", "c"]]}, JSON),
        ("array", {"inputs": None}, JSON),
        ("array", {"inputs": "here"}, JSON),
        ("array", b"0,1,2\n1.0,2.0,3.0\n", CSV),
        ("frame", b"a,b,c\n1.0,one,x\n", CSV),
        ("frame", b"a,b,c\n1.0,1,x,y\n", CSV),
        ("array", b"\xff,\xff", CSV),
        ("frame", {"dataframe_split": [[1]]}, JSON),
        ("frame", {"dataframe_split": {"columns": ["a"]}}, JSON),
        ("frame", {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, JSON),
        ("frame", {"dataframe_records": {"a": 1}}, JSON),
        ("frame", {"dataframe_records": [{"a": 1.5, "b": 1}]}, JSON),
        ("frame", {"dataframe_records": [{"a": 1.5, "b": "one", "c": "x"}]}, JSON),
        ("frame", SPLIT | {"params": {"times": "many"}}, JSON),
        ("frame", SPLIT | {"params": {"names": 3}}, JSON),
        ("frame", SPLIT | {"params": [3]}, JSON),
    ],
)
async def test_what_mlflow_refuses_is_the_clients_fault_here_too(hosts, model, payload, kind):
    ours, mlflows = hosts[model]
    assert (await sent(mlflows, body(payload), kind)).status_code in (400, 500)
    assert_refused(await sent(ours, body(payload), kind), 400)


@pytest.mark.parametrize(
    "payload",
    [
        {"inputs": []},
        {"instances": []},
        {"dataframe_records": []},
        {"dataframe_split": {"data": []}},
        b"a,b,c\n",
    ],
)
async def test_a_payload_without_rows_is_the_clients_fault_and_not_the_models(hosts, payload):
    kind = CSV if isinstance(payload, bytes) else JSON
    ours, _ = hosts["frame" if kind == CSV else "array"]
    assert_refused(await sent(ours, body(payload), kind), 400)


@pytest.mark.parametrize("kind", ["text/plain", f"{JSON}; charset=latin-1", f"{CSV}; header=none"])
async def test_other_media_types_are_refused_as_mlflow_does(hosts, kind):
    ours, mlflows = hosts["frame"]
    assert (await sent(mlflows, body(SPLIT), kind)).status_code == 415
    assert_refused(await sent(ours, body(SPLIT), kind), 415)


async def test_a_payload_that_does_not_say_what_it_is_is_taken_for_json(hosts):
    assert (await sent(hosts["frame"][0], body(SPLIT), None)).status_code == 200


async def test_what_goes_wrong_in_the_model_is_the_models_fault_unlike_in_mlflow(hosts):
    ours, mlflows = hosts["frame"]
    unlucky = body({"dataframe_records": [{"a": 1.0, "b": 13, "c": "x"}]})
    assert (await sent(mlflows, unlucky, JSON)).status_code == 400
    problem = assert_refused(await sent(ours, unlucky, JSON), 500)
    assert (problem["code"], problem["error_code"]) == ("model_error", "INTERNAL_ERROR")
    assert "ZeroDivisionError: unlucky" in problem["message"]


async def test_a_prediction_that_json_cannot_hold_is_the_models_fault(hosts):
    ours, _ = hosts["frame"]
    answer = await sent(ours, body({"dataframe_records": [{"a": 1.0, "b": 14, "c": "x"}]}), JSON)
    assert assert_refused(answer, 500)["code"] == "invalid_output"


async def test_a_prediction_of_nothing_from_nothing_is_the_clients(hosts):
    ours, _ = hosts["frame"]
    answer = await sent(ours, b'{"dataframe_records": [{"a": NaN, "b": 1, "c": "x"}]}', JSON)
    assert assert_refused(answer, 400)["code"] == "invalid_input"


def assert_refused(answer, status):
    problem = answer.json()
    assert answer.status_code == problem["status"] == status, problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["message"] == problem["error"] == problem["detail"]
    assert problem["error_code"] in ("BAD_REQUEST", "INTERNAL_ERROR")
    return problem
