"""What cannot be deployed, and what cannot be asked: refused in clear words, and no harm done."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from experiments.assignment import slot
from experiments.prediction import verify
from registry.refs import ModelName, VersionRef
from serving.api.bounded import LARGEST_BODY
from serving.client import ControlClient
from serving.errors import Refused
from tests.e2e.client import Row, eventually
from tests.e2e.oracle import Oracle, Stillborn
from tests.e2e.system_fixture import BY, System

MODEL = "refusals"

CHAMPION, CHALLENGER, CORRUPT, STILLBORN, GREEDY, FOREIGN = 1, 2, 3, 4, 5, 6

UNDEPLOYED = 7

TRIAL = f"""
name: asked-badly
model: {MODEL}
challenger: {CHALLENGER}
unit: header:x-unit-id
share: [50%]
goal: {{metric: correct, kind: binary, direction: increase, min_effect: 50%}}
guardrails:
  - {{metric: error_rate, max_ratio: 5.0}}
limits: {{min_units: 100000, min_runtime: 1h, max_runtime: 1d}}
"""

GOOD = Row("user-1", label=3, difficulty=0.5).body

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def refusals(system: System) -> System:
    """The system with one model, of whose versions some are good and some are not."""

    async def prepare() -> None:
        good = Oracle(0.8)
        await system.register(MODEL, good, good, good, Stillborn(0.8), good)
        await system.register(MODEL, Oracle(0.8), example=[[3.0, 0.0, 0.0, 0.0]])
        await system.register(MODEL, good)
        await spoil(system, CORRUPT)
        async with system.control() as control:
            await control.deploy(MODEL, CHALLENGER, replicas=1, gpus=1)
            await control.deploy(MODEL, CORRUPT, replicas=1)
            await control.deploy(MODEL, STILLBORN, replicas=1)
            await system.hot(control, MODEL, v1=1)
            await eventually(lambda: state_is(control, CHALLENGER, "hot"), what="hot with a GPU")
            await control.start(TRIAL.encode(), by=BY)

    asyncio.run(prepare())
    return system


async def spoil(system: System, version: int) -> None:
    """Change one byte of a version's files after its digest was taken."""
    async with system.catalog() as catalog:
        found = await catalog.version(VersionRef(ModelName(MODEL), version))
    path = Path(urlsplit(found.artifact).path, "python_model.pkl")
    content = bytearray(await asyncio.to_thread(path.read_bytes))
    content[len(content) // 2] ^= 1
    await asyncio.to_thread(path.write_bytes, content)


async def state_is(control: ControlClient, version: int, *states: str) -> dict[str, Any] | None:
    host = await control.host(MODEL, version)
    return host if host["state"] in states else None


@pytest.fixture
async def edge(refusals: System) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the edge."""
    async with httpx2.AsyncClient(base_url=refusals.settings.edge_url, trust_env=False) as http:
        yield http


@pytest.fixture
async def api(refusals: System) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the control API that may send anything."""
    async with httpx2.AsyncClient(base_url=refusals.settings.control_url, trust_env=False) as http:
        yield http


async def everything(control: ControlClient) -> dict[str, Any]:
    """Return all that a refused request must not change."""
    status = await control.status()
    views = await control.experiments()
    hosts = {model["model"]: model["hosts"] for model in status["models"]}
    return {
        "models": [model["model"] for model in status["models"]],
        "hosts": {host["version"]: host["role"] for host in hosts[MODEL]},
        "route": await control.route(MODEL),
        "history": await control.history(MODEL),
        "experiments": {view["name"]: view["state"] for view in views},
        "outcomes": [
            tally["samples"]
            for view in views
            for stage in view["evidence"]["stages"]
            for tally in (stage["champion"], *stage["challengers"].values())
            if view["model"] == MODEL
        ],
    }


# ---- versions


@pytest.mark.parametrize(
    ("version", "why"),
    [
        (CORRUPT, "CorruptArtifact"),
        (STILLBORN, "the weights are those of another architecture"),
    ],
)
async def test_a_version_that_cannot_be_loaded_has_failed_and_meets_no_traffic(
    refusals: System,
    control: ControlClient,
    edge: httpx2.AsyncClient,
    version: int,
    why: str,
):
    host = await eventually(lambda: state_is(control, version, "failed"), what="it fails")
    assert why in host["reason"]
    before = await everything(control)

    async def is_unknown() -> bool:
        answer = await edge.post(f"/v2/models/{MODEL}/versions/{version}/infer", content=GOOD)
        found = answer.status_code, answer.json()["code"]
        # Control says so at once, and Ray lets go of what has failed a moment later.
        assert found in ((404, "unknown_version"), (503, "no_host_answered"))
        return found[0] == 404

    await eventually(is_unknown, what="Ray does not know it any more")
    with pytest.raises(Refused) as refused:
        await control.promote(MODEL, version, by=BY)
    assert refused.value.refusal in ("target_not_hot", "wrong_state")
    assert await everything(control) == before


async def test_a_gpu_is_given_to_one_version_and_another_waits_and_says_for_what(
    refusals: System, control: ControlClient
):
    assert (await control.host(MODEL, CHALLENGER))["gpus"] == 1
    await control.deploy(MODEL, GREEDY, replicas=1, gpus=1)

    async def waits() -> bool:
        host = await control.host(MODEL, GREEDY)
        assert host["state"] in ("pending", "deploying"), host
        return "GPU" in host["reason"]

    await eventually(waits, what="it waits for a GPU")
    await control.undeploy(MODEL, GREEDY)

    async def gone() -> bool:
        try:
            await control.host(MODEL, GREEDY)
        except Refused as error:
            return error.refusal == "unknown_version"
        return False

    await eventually(gone, what="it is not deployed any more")
    assert await state_is(control, CHALLENGER, "hot")


# ---- the edge


INFER = f"/v2/models/{MODEL}/infer"


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "code"),
    [
        ("/v2/models/nobody/infer", {}, GOOD, 404, "unknown_model"),
        ("/v2/models/No%20Name/infer", {}, GOOD, 404, "unknown_model"),
        (f"/v2/models/{MODEL}/versions/99/infer", {}, GOOD, 404, "unknown_version"),
        (f"/v2/models/{MODEL}/versions/x/infer", {}, GOOD, 404, "unknown_version"),
        (f"/v2/models/{MODEL}/guess", {}, GOOD, 404, "unknown_path"),
        (INFER, {"x-unit-id": "malformed"}, b'{"inputs": [', 400, "malformed_request"),
        (INFER, {"x-unit-id": "no-input"}, b'{"inputs": []}', 400, None),
        (INFER, {"x-unit-id": "large"}, b" " * (8 * 1024 * 1024 + 1), 413, "body_too_large"),
        (INFER, {"x-unit-id": ""}, GOOD, 400, "unit_empty"),
        (INFER, {"x-unit-id": "u" * 257}, GOOD, 400, "unit_too_long"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_the_edge_refuses_a_bad_request_with_a_stable_code(
    control: ControlClient,
    edge: httpx2.AsyncClient,
    path: str,
    headers: Mapping[str, str],
    content: bytes,
    status: int,
    code: str | None,
):
    before = await everything(control)
    answer = await edge.post(path, headers=headers, content=content)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert problem["code"] == code or (code is None and problem["code"])
    assert problem["next_step"]
    assert await everything(control) == before


@pytest.mark.parametrize(
    "unit", ["Jürgen-日本語-🙂".encode(), b"\xff\xfe\x80 no text", b"u" * 256], ids=str
)
async def test_a_unit_may_be_any_bytes(refusals: System, edge: httpx2.AsyncClient, unit: bytes):
    answer = await edge.post(INFER, headers=[(b"x-unit-id", unit)], content=GOOD)
    assert answer.status_code == 200
    found = verify(answer.headers["x-prediction-id"], refusals.key)
    assert found.slot == slot(unit, salt="asked-badly")


# ---- the control API


def declared(**changes: str) -> bytes:
    """Return an experiment file with some lines in the place of others."""
    lines = dict(line.split(":", 1) for line in TRIAL.strip().splitlines() if line[0] != " ")
    lines["guardrails"] = " [{metric: error_rate, max_ratio: 5.0}]"
    given = {name: f" {value}" for name, value in ({"name": "another"} | changes).items()}
    return "\n".join(f"{name}:{value}" for name, value in (lines | given).items()).encode()


HOST = "/v1/models/{model}/versions/{version}/host"


def host(model: str = MODEL, version: object = UNDEPLOYED) -> str:
    return HOST.format(model=model, version=version)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        ("PUT", host("nobody", 1), b"{}", 404, "unknown_model"),
        ("PUT", host(version=99), b"{}", 404, "unknown_version"),
        ("PUT", host(version="x"), b"{}", 422, "invalid_name"),
        ("PUT", host(), b"{", 400, "malformed_json"),
        ("PUT", host(), b'{"replicas": "two"}', 400, "malformed_body"),
        ("PUT", host(), b'{"replicas": 0}', 400, "malformed_body"),
        ("PUT", host(), b'{"gpus": -1}', 400, "malformed_body"),
        ("PUT", host(), b'{"replica": 1}', 400, "malformed_body"),
        ("PUT", host(), b" " * (LARGEST_BODY + 1), 413, "body_too_large"),
        ("PUT", host(version=CHAMPION), b'{"replicas": 1}', 409, "already_deployed"),
        ("PUT", host(version=FOREIGN), b"{}", 409, "signature_mismatch"),
        ("DELETE", host(version=CHAMPION), b"", 409, "version_in_use"),
        ("POST", f"/v1/models/{MODEL}/promote", b'{"version": 99}', 404, "unknown_version"),
        ("POST", f"/v1/models/{MODEL}/promote", b'{"version": true}', 400, "malformed_body"),
        ("POST", "/v1/models/nobody/rollback", b"{}", 404, "unknown_model"),
        ("GET", "/v1/experiments/nothing", b"", 404, "unknown_experiment"),
        ("POST", "/v1/experiments", declared(name="asked-badly"), 409, "experiment_exists"),
        ("POST", "/v1/experiments", declared(), 409, "experiment_exists"),
        ("POST", "/v1/experiments", declared(challenger="1"), 409, "challenger_is_champion"),
        ("POST", "/v1/experiments", declared(challenger="99"), 404, "unknown_version"),
        ("POST", "/v1/experiments", declared(model="nobody"), 404, "unknown_model"),
        ("POST", "/v1/experiments", declared(share="[50%, 20%]"), 422, "invalid_declaration"),
        ("POST", "/v1/experiments", declared(share="[150%]"), 422, "invalid_declaration"),
        ("POST", "/v1/experiments", declared(unit="cookie"), 422, "invalid_declaration"),
        ("POST", "/v1/experiments", declared(colour="red"), 422, "invalid_declaration"),
        ("POST", "/v1/experiments", b"\x00: [", 422, "invalid_declaration"),
        ("POST", "/v1/outcomes", b"[{", 400, "malformed_json"),
        ("POST", "/v1/outcomes", b'{"prediction_id": "x"}', 400, "malformed_body"),
        ("POST", "/v1/outcomes", b"[" + b"{}," * 1000 + b"{}]", 413, "too_many_outcomes"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_control_refuses_a_bad_request_with_a_stable_code(
    control: ControlClient,
    api: httpx2.AsyncClient,
    method: str,
    path: str,
    content: bytes,
    status: int,
    code: str,
):
    before = await everything(control)
    kind = "application/yaml" if path == "/v1/experiments" else "application/json"
    answer = await api.request(method, path, content=content, headers={"content-type": kind})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    assert answer.headers["content-type"] == "application/problem+json"
    assert await everything(control) == before


@pytest.mark.parametrize(
    ("metric", "value", "code"),
    [
        ("correct", "NaN", "malformed_json"),
        ("correct", "1e999", "malformed_json"),
        ("correct", "true", "invalid_outcome"),
        ("correct", "2", "invalid_outcome"),
        ("correct", '"1"', "invalid_outcome"),
        ("correct", "null", "invalid_outcome"),
        ("clicks", "1", "invalid_outcome"),
    ],
)
async def test_a_bad_value_of_a_true_prediction_is_not_counted(
    control: ControlClient,
    api: httpx2.AsyncClient,
    edge: httpx2.AsyncClient,
    metric: str,
    value: str,
    code: str,
):
    answer = await edge.post(INFER, headers={"x-unit-id": "badly-valued"}, content=GOOD)
    token = answer.headers["x-prediction-id"]
    before = await everything(control)
    body = f'{{"prediction_id": "{token}", "metric": "{metric}", "value": {value}}}'
    refused = await api.post("/v1/outcomes", content=body)
    assert refused.json()["code"] == code
    assert await everything(control) == before


async def test_an_outcome_is_counted_once_and_only_for_a_prediction_of_ours(
    control: ControlClient, edge: httpx2.AsyncClient
):
    answer = await edge.post(INFER, headers={"x-unit-id": "once"}, content=GOOD)
    token = answer.headers["x-prediction-id"]
    pinned = await edge.post(f"/v2/models/{MODEL}/versions/1/infer", content=GOOD)
    assert (await control.outcome(token, "correct", 1))["counted"] == 1
    before = await everything(control)
    forged = token.replace(".c.", ".t.") if ".c." in token else token.replace(".t.", ".c.")
    for sent, code in (
        (token, "duplicate_outcome"),
        (forged, "invalid_prediction_id"),
        (token[:-1], "invalid_prediction_id"),
        (token[:40], "invalid_prediction_id"),
        ("é" * 40, "invalid_prediction_id"),
        (pinned.headers["x-prediction-id"], "invalid_prediction_id"),
    ):
        with pytest.raises(Refused) as refused:
            await control.outcome(sent, "correct", 1)
        assert refused.value.refusal == code
    assert await everything(control) == before


async def test_a_wrong_experiment_file_is_told_field_and_line(api: httpx2.AsyncClient):
    answer = await api.post("/v1/experiments", content=declared(share="[50%, 20%]"))
    (told,) = answer.json()["problems"]
    assert told["field"].startswith("share")
    assert told["line"] == 1 + declared().decode().splitlines().index("share: [50%]")
