"""The control API before memory adapters: what it answers."""

import importlib
import json
import pkgutil
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

import serving.api
from experiments.store import Kind
from registry.errors import TiltyardError
from serving.api.problems import STATUSES
from serving.metrics.control import CONTROL
from tests.story.answers import everything
from tests.story.world import FILE


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
        "/v1/models/{model}/holdout",
        "/v1/models/{model}/rollback",
        "/v1/models/{model}/route",
        "/v1/models/{model}/history",
        "/v1/models/{model}/drills",
        "/v1/models/{model}/drills/last",
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
    assert sum(hasattr(module, "router") for module in routers) == 6


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
    assert 'tiltyard_rollback_seconds_count{by="person"} 1.0' in told
    assert 'tiltyard_outcomes_total{status="refused"} 1.0' in told


async def test_it_tells_prometheus_what_was_decided_and_how_long_that_took(world, http):
    await world.start()
    await world.tick()
    await world.evidence.traffic(2000, errors=(0, 0.5))
    await world.pass_time(10)
    await world.live(2)
    told = (await http.get("/metrics")).text
    assert 'tiltyard_decisions_total{kind="continue"} 1.0' in told
    assert 'tiltyard_decisions_total{kind="roll_back"} 1.0' in told
    assert 'tiltyard_rollback_seconds_count{by="controller"} 1.0' in told


async def test_it_tells_prometheus_of_edges_routes_and_hosts_as_long_as_it_can(world, http):
    told = (await http.get("/metrics")).text
    for line in (
        "tiltyard_edges 1.0",
        'tiltyard_epoch{model="digits"} 1.0',
        'tiltyard_replicas{model="digits",version="2"} 2.0',
        'tiltyard_ready_replicas{model="digits",version="2"} 2.0',
        "tiltyard_waiting_outcome_bytes 0.0",
    ):
        assert line in told.splitlines()
    world.store.disconnect()
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    assert "tiltyard_epoch" not in answer.text


async def test_a_scrape_has_every_declared_family_with_its_type_and_help_and_no_other(http):
    await http.post("/v1/models/digits/promote", json={"version": 2})
    await http.post("/v1/models/digits/rollback", json={"by": "me"})
    await http.post("/v1/outcomes", json=[{"prediction_id": "made up", "metric": "m", "value": 1}])
    told = text_string_to_metric_families((await http.get("/metrics")).text)
    # As the document lists them, which another test compares with the declarations.
    assert sorted((it.name, it.type, it.documentation) for it in told) == sorted(
        (it.name, it.kind.value, it.explained) for it in CONTROL
    )


async def test_it_says_that_it_lives_and_what_it_measures(http):
    assert (await http.get("/healthz")).json() == {"status": "alive"}
    assert (await http.get("/metrics")).status_code == 200


async def test_the_status_shows_models_versions_roles_and_edges(world, http):
    await world.start()
    found = (await http.get("/v1/status")).json()
    assert [edge["edge"] for edge in found["edges"]] == ["edge-0"]
    (digits,) = found["models"]
    assert (digits["champion"], digits["previous"]) == (1, None)
    assert digits["experiments"] == ["digits-v2"]
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
    await world.evidence.traffic(1000, goal=(0.8, 0.9))
    await world.tick()
    await world.pass_time(10)
    await world.evidence.traffic(4000, goal=(0.8, 0.9))
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
    await world.evidence.traffic(4000, goal=(0.8, 0.9), errors=(0.02, 0.02))
    goal, failing, slow = await main_effects(http)
    assert goal["interval"]["low"] < 0.1 < goal["interval"]["high"]
    assert goal["level"] == pytest.approx(0.95)
    assert failing["interval"]["low"] < 1 < failing["interval"]["high"]
    assert slow["interval"] == {"reason": "no unit with an event in either arm"}


async def test_a_ratio_that_nothing_bounds_yet_has_no_upper_end(world, http):
    await world.start()
    await world.evidence.traffic(2000, errors=(0, 0.1))
    ratio = (await main_effects(http))[1]["interval"]
    assert ratio["low"] > 1
    assert (ratio["high"], ratio["estimate"]) == (None, None)


async def test_evidence_that_is_missing_is_shown(world, http):
    await world.start()
    complete = (await http.get("/v1/experiments/digits-v2")).json()
    await world.evidence.lose(512, 7)
    found = (await http.get("/v1/experiments/digits-v2")).json()
    assert (found["evidence"]["lost_bytes"], found["evidence"]["lost_requests"]) == (512, 7)
    assert complete["incomplete"] == []
    assert found["incomplete"][0].startswith("Incomplete: up to 7 of its requests (512 bytes")


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


async def test_the_openapi_document_says_what_each_operation_does_and_how_it_fails(http):
    document = (await http.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    summaries = [operation["summary"] for operation in operations]
    assert len(set(summaries)) == len(summaries)
    for operation in operations:
        assert " " in operation["summary"], "no function's name"
        assert operation["description"].startswith(operation["summary"])
        # FastAPI would say that it answers 422 in a form of its own, which it never does.
        assert "422" not in operation["responses"]
        [(kind, content)] = operation["responses"]["default"]["content"].items()
        assert kind == "application/problem+json"
        schema = content["schema"]
    for answer in (
        await http.get("/v1/experiments/nothing"),
        await http.post("/v1/models/digits/promote", json={"version": "two"}),
        await http.get("/nowhere"),
    ):
        assert answer.headers["content-type"] == kind
        assert set(answer.json()) == set(schema["required"]) == set(schema["properties"])
