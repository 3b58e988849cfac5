"""The control API before memory adapters: what it answers, and what it refuses to change."""

import importlib
import json
import pkgutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx2
import pytest

import serving.api
from experiments.model import ExperimentName, Variant
from experiments.prediction import verify
from experiments.store import Kind
from registry.errors import TiltyardError
from registry.refs import ModelName, Version, VersionRef
from serving.api.bounded import DRAINED_BYTES, LARGEST_BODY
from serving.api.problems import STATUSES, problem
from serving.errors import Refused
from tests.story.world import DIGITS, FILE, KEY, World

EVIDENCE = ExperimentName("digits-v2")


@pytest.fixture
async def world(tmp_path) -> World:
    """Two hot versions of `digits`, version 1 the champion, one edge."""
    return await World.standing(tmp_path)


@pytest.fixture
async def http(world) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.http() as client:
        yield client


async def everything(world: World) -> object:
    """Return all that a command could have changed."""
    kinds = {kind: dict(await world.store.read_all(kind)) for kind in Kind}
    names = [await world.catalog.aliases(model) for model in await world.catalog.models()]
    return kinds, names, dict((await world.store.readings(EVIDENCE)).counts)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    """Check that the answer is a problem document with this code, and return it."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"urn:tiltyard:{code}"
    assert body["detail"]
    assert body["next_step"]
    return body


def errors() -> set[type[TiltyardError]]:
    """Return every class of error that Tiltyard raises on purpose."""
    for module in ("registry.errors", "experiments.errors", "serving.errors"):
        importlib.import_module(module)
    found, todo = set(), [TiltyardError]
    while todo:
        error = todo.pop()
        found.add(error)
        todo += error.__subclasses__()
    return found


# The table of statuses, and the documentation


def test_every_error_has_a_status_and_every_status_an_error():
    assert set(STATUSES) == {error.code for error in errors()}


def test_every_status_says_that_something_went_wrong():
    assert all(400 <= status < 600 for status in STATUSES.values())


def test_every_error_says_what_to_do_next():
    silent = {error.__name__ for error in errors() if not error.next_step}
    # The root is never raised itself; the others bring words of their own each time.
    assert silent == {"TiltyardError", "Refused", "SystemDidNotStart"}


async def test_the_openapi_document_lists_every_path(http):
    document = (await http.get("/openapi.json")).json()
    assert set(document["paths"]) == {
        "/healthz",
        "/metrics",
        "/v1/status",
        "/v1/models/{model}/versions/{version}/host",
        "/v1/models/{model}/promote",
        "/v1/models/{model}/rollback",
        "/v1/models/{model}/route",
        "/v1/models/{model}/history",
        "/v1/experiments",
        "/v1/experiments/{name}",
        "/v1/experiments/{name}/trail",
        "/v1/experiments/{name}/{action}",
        "/v1/receipts/{receipt}",
        "/v1/receipts/{receipt}/replay",
        "/v1/outcomes",
        "/v1/certify/{model}",
        "/v1/certify/{model}/example",
        "/v1/certify/{model}/trials",
    }
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation["description"] for operation in operations)


def test_every_module_of_the_api_has_its_router_included():
    routers = [
        importlib.import_module(f"serving.api.{found.name}")
        for found in pkgutil.iter_modules(serving.api.__path__)
        if found.name != "__main__"
    ]
    assert sum(hasattr(module, "router") for module in routers) == 5


# What works


@pytest.mark.parametrize("path", ["nobody/versions/7", "digits/versions/99"])
async def test_what_is_not_deployed_cannot_be_undeployed(world, http, path):
    before = await everything(world)
    answer = await http.delete(f"/v1/models/{path}/host")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_version")
    assert await everything(world) == before


async def test_a_single_outcome_is_told_apart_whatever_its_words(http):
    sent = {"prediction_id": "made up", "metric": "outcomes", "value": 1}
    answer = await http.post("/v1/outcomes", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_prediction_id")


async def test_it_tells_prometheus_of_rollbacks_and_outcomes(world, http):
    await http.post("/v1/models/digits/promote", json={"version": 2})
    await http.post("/v1/models/digits/rollback", json={"by": "me"})
    await http.post(
        "/v1/outcomes", json={"prediction_id": "made up", "metric": "correct", "value": 1}
    )
    told = (await http.get("/metrics")).text
    assert "tiltyard_rollback_seconds_count 1.0" in told
    assert 'tiltyard_outcomes_total{status="refused"} 1.0' in told


async def test_it_says_that_it_lives_and_what_it_measures(http):
    assert (await http.get("/healthz")).json() == {"status": "alive"}
    assert (await http.get("/metrics")).status_code == 200


async def test_the_status_shows_models_versions_roles_and_edges(world, http):
    await world.start()
    found = (await http.get("/v1/status")).json()
    assert [edge["edge"] for edge in found["edges"]] == ["edge-0"]
    (digits,) = found["models"]
    assert (digits["champion"], digits["previous"], digits["experiment"]) == (1, None, "digits-v2")
    roles = {host["version"]: (host["role"], host["state"]) for host in digits["hosts"]}
    assert roles == {1: ("champion", "hot"), 2: ("challenger", "hot")}


async def test_a_version_is_deployed_and_can_be_followed_until_it_is_hot(world, http):
    await world.register()
    path = "/v1/models/digits/versions/3/host"
    answer = await http.put(path, json={"replicas": 3, "cpus": 0.2, "gpus": 0.5})
    assert (answer.status_code, answer.json()["state"]) == (202, "pending")
    await world.tick()
    await world.tick()
    host = (await http.get(path)).json()
    assert (host["state"], host["role"], host["ready_replicas"]) == ("hot", "spare", 3)
    assert (host["cpus"], host["gpus"]) == (0.2, 0.5)


async def test_a_version_that_does_not_load_says_why(world, http):
    ref = await world.register()
    world.serve.broken[ref] = "ValueError: no such layer"
    await world.deploy(3)
    host = (await http.get("/v1/models/digits/versions/3/host")).json()
    assert (host["state"], host["reason"]) == ("failed", "ValueError: no such layer")


async def test_an_experiment_goes_from_its_file_to_a_promotion_and_its_receipts(world, http):
    started = await http.post("/v1/experiments", content=FILE, params={"by": "ada"})
    assert (started.status_code, started.json()["state"]) == (201, "ramping")
    await world.pass_time(10)
    await world.traffic(1000, goal=(0.8, 0.9))
    await world.tick()
    await world.pass_time(10)
    await world.traffic(4000, goal=(0.8, 0.9))
    await world.tick()
    found = (await http.get("/v1/experiments/digits-v2")).json()
    assert (found["state"], found["decision"]) == ("promoted", None)
    history = (await http.get("/v1/models/digits/history")).json()
    assert [change["after"] for change in history["champions"]] == [1, 2]
    acts = [receipt["act"] for receipt in history["receipts"]]
    assert acts == ["promote", "continue", "start", "adopt"]
    for receipt in history["receipts"]:
        again = await http.post(f"/v1/receipts/{receipt['id']}/replay")
        assert again.json()["same"] is True


async def main_effects(http: httpx2.AsyncClient) -> list[dict[str, Any]]:
    """Return how large the difference is, by metric."""
    (challenger,) = (await http.get("/v1/experiments/digits-v2")).json()["report"]["challengers"]
    return [metric["effects"][0] for metric in challenger["metrics"]]


async def test_intervals_have_numbers_where_there_is_data_and_reasons_where_there_is_none(
    world, http
):
    await world.start()
    assert [set(each["interval"]) for each in await main_effects(http)] == [{"reason"}] * 3
    await world.traffic(4000, goal=(0.8, 0.9), errors=(0.02, 0.02))
    goal, failing, slow = await main_effects(http)
    assert goal["interval"]["low"] < 0.1 < goal["interval"]["high"]
    assert goal["level"] == pytest.approx(0.95)
    assert failing["interval"]["low"] < 1 < failing["interval"]["high"]
    assert slow["interval"] == {"reason": "no unit with an event in either arm"}


async def test_a_ratio_that_nothing_bounds_yet_has_no_upper_end(world, http):
    await world.start()
    await world.traffic(2000, errors=(0, 0.1))
    ratio = (await main_effects(http))[1]["interval"]
    assert ratio["low"] > 1
    assert (ratio["high"], ratio["estimate"]) == (None, None)


async def test_evidence_that_is_missing_is_shown(world, http):
    await world.start()
    await world.lose(512)
    evidence = (await http.get("/v1/experiments/digits-v2")).json()["evidence"]
    assert evidence["lost_bytes"] == 512


@pytest.mark.parametrize(
    ("actions", "state"),
    [
        (["pause"], "paused"),
        (["pause", "resume"], "ramping"),
        (["stop"], "stopping"),
        (["pause", "stop"], "stopping"),
    ],
)
async def test_an_experiment_is_paused_resumed_and_stopped(world, http, actions, state):
    await world.start()
    for action in actions:
        answer = await http.post(f"/v1/experiments/digits-v2/{action}", json={"by": "ada"})
        assert answer.status_code == 200
    assert answer.json()["state"] == state


async def test_a_rollback_names_from_to_and_every_edge_and_has_a_reason_even_if_none_was_given(
    world, http
):
    await world.add_edge("edge-1")
    await http.post("/v1/models/digits/promote", json={"version": 2, "by": "ada"})
    answer = (await http.post("/v1/models/digits/rollback", json={"by": "ada"})).json()
    assert (answer["withdrawn"], answer["to_version"]) == ([2], 1)
    assert answer["edges"] == ["edge-0", "edge-1"]
    assert answer["silent"] == []
    assert answer["milliseconds"] >= 0
    assert {edge.route().champion for edge in world.edges.values()} == {1}
    receipt = json.loads((await http.get(f"/v1/receipts/{answer['receipt']}")).content)
    assert receipt["act"]["reasons"] == ["Rolled back by ada."]


async def test_promoting_what_is_champion_already_changes_nothing(world, http):
    before = await everything(world)
    answer = await http.post("/v1/models/digits/promote", json={"version": 1})
    assert (answer.status_code, answer.json()["changed"]) == (200, False)
    assert await everything(world) == before


async def test_a_receipt_is_sent_byte_for_byte_and_found_by_its_beginning(world, http):
    await http.post("/v1/models/digits/promote", json={"version": 2})
    name, stored = next(iter((await world.store.read_all(Kind.RECEIPT)).items()))
    answer = await http.get(f"/v1/receipts/{name[:12]}")
    assert answer.content == stored.body
    assert answer.headers["x-receipt-id"] == name


# Bad input changes nothing

UNKNOWN = "/v1/models/nothing/versions/1/host"
HOST = "/v1/models/digits/versions/{}/host"

BAD_COMMANDS = [
    # method, path, body, status, code
    ("PUT", UNKNOWN, {}, 404, "unknown_model"),
    ("PUT", HOST.format(9), {}, 404, "unknown_version"),
    ("PUT", HOST.format(0), {}, 422, "invalid_name"),
    ("PUT", HOST.format("two"), {}, 422, "invalid_name"),
    ("PUT", HOST.format("9" * 30), {}, 400, "malformed_body"),
    ("PUT", "/v1/models/Digits/versions/1/host", {}, 422, "invalid_name"),
    ("PUT", "/v1/models/%2e%2e/versions/1/host", {}, 422, "invalid_name"),
    ("PUT", HOST.format(1), {}, 409, "already_deployed"),
    ("PUT", HOST.format(2), {"replicas": 0}, 400, "malformed_body"),
    ("PUT", HOST.format(2), {"replicas": True}, 400, "malformed_body"),
    ("PUT", HOST.format(2), {"replicas": "2"}, 400, "malformed_body"),
    ("PUT", HOST.format(2), {"gpus": -1}, 400, "malformed_body"),
    ("PUT", HOST.format(2), {"gpu": 1}, 400, "malformed_body"),
    ("PUT", HOST.format(2), [], 400, "malformed_body"),
    ("GET", HOST.format(9), None, 404, "unknown_version"),
    ("DELETE", HOST.format(1), None, 409, "version_in_use"),
    ("POST", "/v1/models/nothing/rollback", {}, 404, "unknown_model"),
    ("POST", "/v1/models/digits/rollback", {}, 409, "nothing_to_roll_back"),
    ("POST", "/v1/models/digits/rollback", {"to": 1}, 409, "nothing_to_roll_back"),
    ("POST", "/v1/models/digits/rollback", {"to": 9}, 409, "target_not_hot"),
    ("POST", "/v1/models/digits/rollback", {"to": -1}, 400, "malformed_body"),
    ("POST", "/v1/models/digits/rollback", {"by": ""}, 400, "malformed_body"),
    ("POST", "/v1/models/digits/promote", {"version": 9}, 404, "unknown_version"),
    ("POST", "/v1/models/nothing/promote", {"version": 1}, 404, "unknown_model"),
    ("POST", "/v1/models/digits/promote", {"version": True}, 400, "malformed_body"),
    ("POST", "/v1/models/digits/promote", {}, 400, "malformed_body"),
    ("GET", "/v1/models/nothing/route", None, 404, "unknown_model"),
    ("GET", "/v1/models/nothing/history", None, 404, "unknown_model"),
    ("GET", "/v1/experiments/nothing", None, 404, "unknown_experiment"),
    ("POST", "/v1/experiments/nothing/pause", {}, 404, "unknown_experiment"),
    ("POST", "/v1/experiments/nothing/explode", {}, 404, "unknown_experiment"),
    ("GET", "/v1/receipts/nothing", None, 404, "unknown_receipt"),
    ("POST", "/v1/receipts/nothing/replay", None, 404, "unknown_receipt"),
    ("GET", "/v1/nothing", None, 404, "unknown_path"),
    ("DELETE", "/v1/status", None, 405, "wrong_method"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    BAD_COMMANDS,
    ids=[f"{method} {path[:40]} {body}" for method, path, body, _, _ in BAD_COMMANDS],
)
async def test_a_wrong_command_is_refused_and_changes_nothing(
    world, http, method, path, body, status, code
):
    before = await everything(world)
    refused(await http.request(method, path, json=body), status, code)
    assert await everything(world) == before


@pytest.mark.parametrize("sent", [b"{", b"\xff\xfe", b'{"version": NaN}', b"[1, 2"])
async def test_a_command_that_is_not_json_is_refused(world, http, sent):
    before = await everything(world)
    headers = {"content-type": "application/json"}
    answer = await http.post("/v1/models/digits/promote", content=sent, headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] in ("malformed_json", "malformed_body")
    assert await everything(world) == before


async def test_a_version_with_another_signature_than_the_champions_is_refused(world, http):
    await world.register(columns=63)
    before = await everything(world)
    body = refused(await http.put(HOST.format(3), json={}), 409, "signature_mismatch")
    assert "digits/1" in str(body["detail"])
    assert await everything(world) == before


BAD_FILES = {
    "shares that shrink": ("share: [5%, 50%]", "share: [50%, 5%]", "share[1]"),
    "shares past the whole": ("share: [5%, 50%]", "share: [5%, 105%]", "share[1]"),
    "an unknown metric": ("metric: error_rate", "metric: happiness", "guardrails[0].kind"),
    "an unknown unit": ("unit: header:x-unit-id", "unit: cookie:id", "unit"),
    "an unknown field": ("challenger: 2", "challenger: 2\nchalenger: 2", "chalenger"),
    "a number that is none": ("min_effect: 1%", "min_effect: .nan", "goal.min_effect"),
    "a truth for a number": ("challenger: 2", "challenger: true", "challenger"),
}


@pytest.mark.parametrize(("good", "bad", "field"), BAD_FILES.values(), ids=BAD_FILES)
async def test_a_wrong_experiment_file_is_refused_with_the_place_of_each_problem(
    world, http, good, bad, field
):
    assert good in FILE
    before = await everything(world)
    answer = await http.post("/v1/experiments", content=FILE.replace(good, bad))
    problems = refused(answer, 422, "invalid_declaration")["problems"]
    assert [each["field"] for each in problems] == [field]
    assert all(each["line"] > 0 and each["column"] > 0 and each["message"] for each in problems)
    assert await everything(world) == before


BAD_EXPERIMENTS = {
    "an unknown model": ("model: digits", "model: letters", 404, "unknown_model"),
    "an unknown version": ("challenger: 2", "challenger: 9", 404, "unknown_version"),
    "the champion itself": ("challenger: 2", "challenger: 1", 409, "challenger_is_champion"),
}


@pytest.mark.parametrize(
    ("good", "bad", "status", "code"), BAD_EXPERIMENTS.values(), ids=BAD_EXPERIMENTS
)
async def test_an_experiment_that_cannot_be_is_refused(world, http, good, bad, status, code):
    before = await everything(world)
    answer = await http.post("/v1/experiments", content=FILE.replace(good, bad))
    refused(answer, status, code)
    assert await everything(world) == before


async def test_a_second_experiment_on_a_model_is_refused(world, http):
    await world.register()
    await world.deploy(3)
    await world.start()
    before = await everything(world)
    second = FILE.replace("digits-v2", "digits-v3").replace("challenger: 2", "challenger: 3")
    refused(await http.post("/v1/experiments", content=second), 409, "experiment_exists")
    refused(await http.post("/v1/experiments", content=FILE), 409, "experiment_exists")
    assert await everything(world) == before


async def test_the_name_of_an_experiment_that_is_over_is_not_given_away_again(world, http):
    await world.start()
    await http.post("/v1/experiments/digits-v2/stop", json={})
    await world.tick()
    before = await everything(world)
    refused(await http.post("/v1/experiments", content=FILE), 409, "experiment_exists")
    assert await everything(world) == before


async def test_a_challenger_that_is_not_hot_is_refused(world, http):
    await world.register()
    before = await everything(world)
    file = FILE.replace("challenger: 2", "challenger: 3")
    body = refused(await http.post("/v1/experiments", content=file), 409, "target_not_hot")
    assert "cold" in str(body["detail"])
    assert await everything(world) == before


async def test_what_the_lifecycle_does_not_allow_is_refused(world, http):
    await world.start()
    before = await everything(world)
    refused(await http.post("/v1/experiments/digits-v2/resume", json={}), 409, "wrong_state")
    answer = await http.post("/v1/models/digits/promote", json={"version": 1})
    refused(answer, 409, "wrong_state")
    assert await everything(world) == before


async def test_going_back_to_a_version_that_is_not_hot_needs_force(world, http):
    await http.post("/v1/models/digits/promote", json={"version": 2})
    world.serve.unreachable.add(VersionRef(DIGITS, Version(1)))
    await world.tick()
    before = await everything(world)
    refused(await http.post("/v1/models/digits/rollback", json={}), 409, "target_not_hot")
    assert await everything(world) == before
    forced = await http.post("/v1/models/digits/rollback", json={"force": True})
    assert forced.json()["to_version"] == 1


# Outcomes


async def test_an_outcome_is_counted(world, http):
    await world.start()
    sent = outcome(await world.prediction())
    answer = await http.post("/v1/outcomes", json=sent)
    assert answer.json() == {"counted": 1, "refused": 0, "results": [{"status": "counted"}]}
    assert await counted(world) == {"correct:1": 1}


async def test_a_unit_counts_once_however_many_of_its_predictions_have_outcomes(world, http):
    await world.start()
    sent = [outcome(await world.prediction(slot=77)) for _ in range(3)]
    results = (await http.post("/v1/outcomes", json=sent)).json()["results"]
    assert [each["status"] for each in results] == ["counted", "repeated_unit", "repeated_unit"]
    assert await counted(world) == {"correct:1": 1}


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_thousand_outcomes_are_counted_in_one_request(world, http, wrapped):
    await world.start()
    sent = [outcome(await world.prediction(), place % 2) for place in range(1000)]
    answer = await http.post("/v1/outcomes", json={"outcomes": sent} if wrapped else sent)
    assert (answer.status_code, answer.json()["counted"]) == (200, 1000)
    assert await counted(world) == {"correct:0": 500, "correct:1": 500}


async def test_a_thousand_and_one_outcomes_are_too_many_and_none_is_counted(world, http):
    await world.start()
    sent = [outcome(await world.prediction())] * 1001
    refused(await http.post("/v1/outcomes", json=sent), 413, "too_many_outcomes")
    assert await counted(world) == {}


async def test_each_outcome_of_a_batch_is_judged_by_itself(world, http):
    await world.start()
    good, other = await world.prediction(), await world.prediction()
    forged = await world.prediction(key=bytes(32))
    sent = [outcome(good), outcome(forged), outcome(other, 7), outcome(good), outcome(other, 0)]
    answer = await http.post("/v1/outcomes", json=sent)
    found = answer.json()
    assert (answer.status_code, found["counted"], found["refused"]) == (200, 2, 3)
    assert [each.get("code", each["status"]) for each in found["results"]] == [
        "counted",
        "invalid_prediction_id",
        "invalid_outcome",
        "duplicate_outcome",
        "counted",
    ]
    assert await counted(world) == {"correct:1": 1, "correct:0": 1}


@pytest.mark.parametrize("value", [True, False, None, "1", 2, -1, 0.5, 1e308, [1], {"is": 1}])
async def test_a_value_that_the_metric_cannot_take_is_refused(world, http, value):
    await world.start()
    answer = await http.post("/v1/outcomes", json=outcome(await world.prediction(), value))
    refused(answer, 422, "invalid_outcome")
    assert await counted(world) == {}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_number_that_is_none_is_refused(world, http, value):
    await world.start()
    sent = json.dumps(outcome(await world.prediction(), 0)).replace(": 0", f": {value}")
    answer = await http.post("/v1/outcomes", content=sent)
    assert answer.json()["code"] in ("malformed_json", "invalid_outcome")
    assert answer.status_code in (400, 422)
    assert await counted(world) == {}


@pytest.mark.parametrize("sent", [b"", b"{", b"[}", b"\xff", b"{'metric': 1}"])
async def test_outcomes_that_are_not_json_are_refused(world, http, sent):
    await world.start()
    refused(await http.post("/v1/outcomes", content=sent), 400, "malformed_json")


@pytest.mark.parametrize(
    "sent", [1, False, "text", [1], {}, {"outcomes": 1}, {"outcomes": [], "more": 1}, [{}]]
)
async def test_json_that_is_no_outcome_is_refused(world, http, sent):
    await world.start()
    refused(await http.post("/v1/outcomes", json=sent), 400, "malformed_body")


async def test_prediction_ids_that_this_system_did_not_make_are_refused(world, http):
    await world.start()
    genuine = await world.prediction()
    for wrong in (
        await world.prediction(key=bytes(32)),
        genuine[:-5],
        genuine.replace(".t.", ".c."),
        genuine.replace("digits.2", "digits.1"),
        await world.prediction(experiment=ExperimentName("of-another-system")),
        await world.prediction(model=ModelName("letters")),
        await world.prediction(experiment=None, stage=None, variant=None),
        "",
        "digits.2",
        "x" * 1000,
        "ünïcode",
    ):
        answer = await http.post("/v1/outcomes", json=outcome(wrong))
        refused(answer, 422, "invalid_prediction_id")
    assert await counted(world) == {}


async def test_a_prediction_that_was_used_already_is_refused(world, http):
    await world.start()
    sent = outcome(await world.prediction())
    await http.post("/v1/outcomes", json=sent)
    refused(await http.post("/v1/outcomes", json=sent), 409, "duplicate_outcome")
    refused(await http.post("/v1/outcomes", json=sent | {"value": 0}), 409, "duplicate_outcome")
    assert await counted(world) == {"correct:1": 1}


async def test_a_metric_that_the_experiment_has_not_declared_is_refused(world, http):
    await world.start()
    sent = outcome(await world.prediction()) | {"metric": "clicked"}
    refused(await http.post("/v1/outcomes", json=sent), 422, "invalid_outcome")


async def test_an_outcome_after_the_attribution_window_is_refused_and_shown_as_late(world, http):
    await world.start()
    sent = outcome(await world.prediction(Variant.CHAMPION))
    await world.pass_time(timedelta(days=1, seconds=1).total_seconds())
    for _ in range(2):
        refused(await http.post("/v1/outcomes", json=sent), 410, "late_outcome")
    assert (await http.get("/v1/experiments/digits-v2")).json()["evidence"]["late"] == 1


async def test_while_the_store_is_away_outcomes_are_kept_and_counted_later(world, http):
    await world.start()
    good = outcome(await world.prediction())
    forged = outcome(await world.prediction(key=bytes(32)))
    world.store.disconnect()
    answer = await http.post("/v1/outcomes", json=[good, forged])
    assert answer.status_code == 202
    assert [each["status"] for each in answer.json()["results"]] == ["spooled", "refused"]
    world.store.reconnect()
    assert await world.control.intake.drain() == 1
    assert await world.control.intake.drain() == 0
    assert await counted(world) == {"correct:1": 1}
    refused(await http.post("/v1/outcomes", json=good), 409, "duplicate_outcome")


# The store away, bodies without end, defects


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/status", None),
        ("PUT", HOST.format(2), {}),
        ("POST", "/v1/models/digits/promote", {"version": 2}),
        ("POST", "/v1/models/digits/rollback", {"to": 1}),
        ("GET", "/v1/experiments", None),
        ("GET", "/v1/receipts/abc", None),
    ],
)
async def test_without_the_store_commands_say_so(world, http, method, path, body):
    world.store.disconnect()
    refused(await http.request(method, path, json=body), 503, "store_unavailable")


async def test_what_an_edge_refused_is_passed_on_as_its_own_words(http):
    error = Refused("no way back", code="nothing_to_roll_back", next_step="Promote something.")
    answer = await problem(None, error)
    assert answer.status_code == 409
    assert json.loads(answer.body)["code"] == "nothing_to_roll_back"


async def test_what_another_process_refused_with_an_unknown_code_is_a_bad_gateway(http):
    answer = await problem(None, Refused("no", code="who_knows", next_step=""))
    assert (answer.status_code, json.loads(answer.body)["code"]) == (502, "refused")


@pytest.mark.parametrize(
    "path", ["/v1/outcomes", "/v1/experiments", "/v1/models/digits/promote", "/v1/nothing"]
)
async def test_a_body_that_announces_too_much_is_refused(world, http, path):
    before = await everything(world)
    refused(await http.post(path, content=b" " * (LARGEST_BODY + 1)), 413, "body_too_large")
    assert await everything(world) == before


@pytest.mark.parametrize("path", ["/v1/outcomes", "/v1/models/digits/promote"])
async def test_a_body_that_never_ends_is_refused_all_the_same(world, http, path):
    sent = 0

    async def endless():
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 65536

    refused(await http.post(path, content=endless()), 413, "body_too_large")
    assert sent <= DRAINED_BYTES // 65536 + 2


async def test_a_body_in_chunks_that_announces_nothing_is_refused_when_it_is_read(world, http):
    pieces = iter([b" " * LARGEST_BODY, b" ", b" "])

    async def chunks():
        for piece in pieces:
            yield piece

    refused(await http.post("/v1/outcomes", content=chunks()), 413, "body_too_large")
    assert list(pieces) == []


async def test_a_body_in_chunks_is_taken_as_a_whole(world, http):
    await world.start()
    sent = json.dumps(outcome(await world.prediction())).encode()

    async def pieces():
        for byte in sent:
            yield bytes([byte])

    assert (await http.post("/v1/outcomes", content=pieces())).json()["counted"] == 1


async def test_the_largest_body_that_is_taken_is_read(http):
    body = b" " * (LARGEST_BODY - 2) + b"[]"
    assert (await http.post("/v1/outcomes", content=body)).status_code == 200


async def test_a_client_that_leaves_before_it_has_said_everything_changes_nothing(world):
    before = await everything(world)
    said = iter(
        [
            {"type": "http.request", "body": b'{"version": 2}', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    answers = []

    async def receive():
        return next(said)

    async def send(message):
        answers.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/models/digits/promote",
        "headers": [(b"content-type", b"application/json")],
        "query_string": b"",
    }
    await world.transport().app(scope, receive, send)
    assert answers == []
    assert await everything(world) == before


async def test_a_defect_is_answered_with_a_problem_document_and_logged(world, caplog):
    world.control.records = None  # No code of ours foresees this.
    transport = world.transport()
    transport.raise_app_exceptions = False
    async with httpx2.AsyncClient(transport=transport, base_url="http://control") as client:
        refused(await client.get("/v1/status"), 500, "defect")
    assert "GET /v1/status failed" in caplog.text


# What stands in the tests above


def outcome(prediction_id: str, value: object = 1) -> dict[str, object]:
    return {"prediction_id": prediction_id, "metric": "correct", "value": value}


async def counted(world: World) -> dict[str, int]:
    counters = (await world.store.readings(EVIDENCE)).counts
    totals: dict[str, int] = {}
    for cell, count in counters.items():
        totals[cell.counter] = totals.get(cell.counter, 0) + count
    return totals


async def test_the_world_makes_ids_as_the_edge_does(world):
    await world.start()
    made = verify(await world.prediction(slot=5), KEY)
    assert (made.experiment, made.variant, made.slot) == ("digits-v2", Variant.CHALLENGER, 5)
    assert replace(made, slot=None) != made
