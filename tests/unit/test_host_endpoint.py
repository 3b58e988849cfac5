"""A host's HTTP interface, without Ray and without sockets."""

import asyncio
import gzip
import json
import zlib

import httpx2
import numpy as np
import pytest

from registry import Signature, Tensor
from registry.errors import InvalidInput
from registry.refs import VersionRef
from registry.tensors import check
from serving.hosts.endpoint import HostEndpoint
from serving.hosts.faults import Fault

REF = VersionRef.parse("digits/2")
PREFIX = "/hosts/digits/2"


class Model:
    """Answers the sum of each row; fails in the ways that models fail."""

    signature = Signature((Tensor("x", "FP64", (-1, 2)),), (Tensor("y", "FP64", (-1,)),))
    scorer = None
    streams = False

    def parameters(self, _given):
        return {}

    def predict(self, inputs, _parameters):
        check(inputs, self.signature.inputs, optional=frozenset())
        total = inputs["x"].sum(axis=1)
        if (total == 13).any():
            raise ZeroDivisionError("unlucky")
        return {"y": np.where(total == 14, np.nan, total)}

    predict_stream = None


@pytest.fixture
async def host():
    app = HostEndpoint(REF, Model(), batch_rows=8, max_body_bytes=1000)
    # As Serve mounts it: the prefix is in `root_path`, and in front of `path`.
    transport = httpx2.ASGITransport(app, root_path=PREFIX)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://host{PREFIX}") as client:
        yield client


def request(*row, **changes):
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": row} | changes
    return {"inputs": [tensor]}


async def test_a_prediction(host):
    response = await host.post("/infer", json=request(1, 2) | {"id": "mine"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "model_name": "digits",
        "model_version": "2",
        "id": "mine",
        "outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": [3.0]}],
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/ready", {"ready": True}),
        ("/live", {"live": True}),
        (
            "",
            {
                "name": "digits",
                "versions": ["2"],
                "platform": "mlflow_pyfunc",
                "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 2]}],
                "outputs": [{"name": "y", "datatype": "FP64", "shape": [-1]}],
            },
        ),
    ],
)
async def test_what_a_host_says_of_itself(host, path, body):
    response = await host.get(path)
    assert (response.status_code, response.json()) == (200, body)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "malformed_request"),
        (b" " * 1001, 400, "malformed_request"),
        (json.dumps(request(1)).encode(), 400, "malformed_request"),
        (json.dumps(request(1, 2, name="z")).encode(), 400, "invalid_input"),
        (json.dumps(request(1, 2, datatype="INT64")).encode(), 400, "invalid_input"),
        (json.dumps(request(1, 2, shape=[2])).encode(), 400, "invalid_input"),
        (json.dumps(request(1, True)).encode(), 400, "invalid_input"),
        (json.dumps(request(1, 2) | {"outputs": [{"name": "z"}]}).encode(), 400, "invalid_input"),
        (json.dumps(request(6, 7)).encode(), 500, "model_error"),
        (json.dumps(request(7, 7)).encode(), 500, "invalid_output"),
    ],
)
async def test_whose_fault_it_was_shows_in_status_and_code(host, content, status, code):
    response = await host.post("/infer", content=content)
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["detail"] == problem["error"]
    assert problem["next_step"]


def in_bytes(*row):
    """Return a request whose tensor is behind its JSON, and the header that says where."""
    size = {"parameters": {"binary_data_size": 8 * len(row)}}
    tensor = {"name": "x", "datatype": "FP64", "shape": [1, len(row)]} | size
    document = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    text = json.dumps(document).encode()
    header = {"inference-header-content-length": str(len(text))}
    return text + np.array(row, "<f8").tobytes(), header


@pytest.mark.parametrize(("row", "answer"), [((1, 2), 3), ((7, 7), np.nan), ((np.nan, 1), np.nan)])
async def test_a_prediction_in_bytes(host, row, answer):
    content, header = in_bytes(*row)
    response = await host.post("/infer", content=content, headers=header)
    assert (response.status_code, response.headers["content-type"]) == (
        200,
        "application/octet-stream",
    )
    length = int(response.headers["inference-header-content-length"])
    [output] = json.loads(response.content[:length])["outputs"]
    assert output["parameters"] == {"binary_data_size": 8}
    np.testing.assert_array_equal(np.frombuffer(response.content[length:]), [answer])


@pytest.mark.parametrize("length", ["-1", "0x1", "1e3", "9" * 20, "1, 1", "100000"])
async def test_a_header_that_is_no_length_of_this_body_is_malformed(host, length):
    content, _ = in_bytes(1, 2)
    header = {"inference-header-content-length": length}
    response = await host.post("/infer", content=content, headers=header)
    assert (response.status_code, response.json()["code"]) == (400, "malformed_request")


async def test_the_signature_holds_for_bytes_as_well(host):
    content, header = in_bytes(1, 2, 3)
    response = await host.post("/infer", content=content, headers=header)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_input")


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_a_body_may_be_compressed(host, encoding, compress):
    content, header = in_bytes(1, 2)
    header["content-encoding"] = encoding
    response = await host.post("/infer", content=compress(content), headers=header)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("content", "encoding", "status"),
    [
        (gzip.compress(b" " * 1001), "gzip", 400),
        (gzip.compress(b"{}")[:-1], "gzip", 400),
        (gzip.compress(b"{}") + b"more", "gzip", 400),
        (b"{}", "gzip", 400),
        (b"{}", "br", 415),
        (gzip.compress(gzip.compress(b"{}")), "gzip, gzip", 415),
    ],
)
async def test_what_does_not_decompress_or_swells_is_refused(host, content, encoding, status):
    response = await host.post("/infer", content=content, headers={"content-encoding": encoding})
    assert response.status_code == status
    assert response.json()["error"]


async def test_other_paths_and_methods_are_refused(host):
    elsewhere = await host.get("/elsewhere")
    assert (elsewhere.status_code, elsewhere.headers.get("allow")) == (404, None)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/infer", "POST"),
        ("HEAD", "/infer", "POST"),
        ("HEAD", "/infer_stream", "POST"),
        ("GET", "/invocations", "POST"),
        ("POST", "/ready", "GET, HEAD"),
        ("DELETE", "", "GET, HEAD"),
        ("POST", "/example", "GET, HEAD"),
    ],
)
async def test_who_asks_with_a_wrong_method_learns_the_right_one(host, method, path, allow):
    response = await host.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allow)


@pytest.mark.parametrize("path", ["", "/ready", "/live", "/example"])
async def test_head_is_answered_as_get_is(host, path):
    got, head = await host.get(path), await host.head(path)
    assert (head.status_code, head.headers) == (got.status_code, got.headers)


async def test_a_model_whose_signature_has_no_rows_is_called_for_each_request():
    rows = []

    class Whole(Model):
        signature = Signature((Tensor("x", "FP64", (2,)),), (Tensor("y", "FP64", (2,)),))

        def predict(self, inputs, _parameters):
            if inputs["x"].shape != (2,):
                raise InvalidInput("two values")
            rows.append(inputs["x"].shape[0])
            return {"y": inputs["x"]}

    endpoint = HostEndpoint(REF, Whole(), batch_rows=8, max_body_bytes=1000)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(endpoint), base_url="http://host"
    ) as client:
        response = await client.post("/infer", json=request(1, 2, shape=[2]))
    assert response.json()["outputs"][0]["data"] == [1, 2]
    assert rows == [2]


async def test_a_host_shows_what_its_model_was_saved_with_and_takes_it_back():
    example = {"x": np.array([[1.0, 2.0], [3.0, 4.0]])}
    app = HostEndpoint(REF, Model(), batch_rows=8, max_body_bytes=1000, example=example)
    transport = httpx2.ASGITransport(app, root_path=PREFIX)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://host{PREFIX}") as host:
        shown = await host.get("/example")
        assert shown.json() == request(shape=[2, 2], data=[1.0, 2.0, 3.0, 4.0])
        assert (await host.post("/infer", content=shown.content)).status_code == 200


async def test_a_model_that_was_saved_without_an_example_has_none_to_show(host):
    assert (await host.get("/example")).status_code == 404


async def test_a_fault_is_planted_between_the_model_and_its_answer():
    app = HostEndpoint(REF, Model(), batch_rows=8, max_body_bytes=1000, fault=Fault.ERRORS)
    transport = httpx2.ASGITransport(app, root_path=PREFIX)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://host{PREFIX}") as host:
        statuses = {(await host.post("/infer", json=request(1, 2))).status_code for _ in range(100)}
        assert statuses == {200, 500}
        assert (await host.get("/ready")).status_code == 200


class Unpromised(Model):
    """Gives an output that its signature, of inputs alone, does not declare."""

    signature = Signature(Model.signature.inputs, ())

    def __init__(self):
        self.rows = []

    def predict(self, inputs, parameters):
        self.rows.append(inputs["x"].shape[0])
        return {"output-0": super().predict(inputs, parameters)["y"]}


class Unsigned(Unpromised):
    """Says neither what it takes nor what it gives."""

    signature = None

    def predict(self, inputs, _parameters):
        self.rows.append(inputs["x"].shape[0])
        return {"output-0": inputs["x"].sum(axis=1)}


@pytest.mark.parametrize("model", [Unpromised(), Unsigned()])
async def test_clients_may_name_outputs_that_no_signature_declares(model):
    app = HostEndpoint(REF, model, batch_rows=8, max_body_bytes=1000)
    transport = httpx2.ASGITransport(app, root_path=PREFIX)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://host{PREFIX}") as host:
        everything = await host.post("/infer", json=request(1, 2))
        named = await host.post("/infer", json=asking_for("output-0"))
        wrong = await host.post("/infer", json=asking_for("output-1"))
    assert everything.json()["outputs"][0]["data"] == [3.0]
    assert (named.status_code, named.json()) == (200, everything.json())
    # Not the model's fault, or one client could have a version rolled back.
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_input")
    assert "the model gives output-0" in wrong.json()["detail"]


async def test_who_names_an_output_that_there_is_not_spoils_no_answer_in_the_same_batch():
    model = Unpromised()
    app = HostEndpoint(REF, model, batch_rows=8, max_body_bytes=1000)
    transport = httpx2.ASGITransport(app, root_path=PREFIX)
    async with httpx2.AsyncClient(transport=transport, base_url=f"http://host{PREFIX}") as host:
        answers = await asyncio.gather(
            *(host.post("/infer", json=asking_for(f"output-{n}")) for n in (0, 1, 0))
        )
    assert [answer.status_code for answer in answers] == [200, 400, 200]
    assert max(model.rows) > 1


def asking_for(output):
    return request(1, 2) | {"outputs": [{"name": output}]}
