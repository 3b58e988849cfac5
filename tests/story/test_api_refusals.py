"""What the control API refuses: then nothing has changed, and it says what to do."""

import json

import httpx2
import pytest

from registry.refs import Version, VersionRef
from serving.api.bounded import DRAINED_BYTES, LARGEST_BODY
from serving.api.problems import problem
from serving.errors import Refused
from tests.story.answers import everything, outcome, refused
from tests.story.outside import DIGITS
from tests.story.world import FILE

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
    ("PUT", "/v1/models/nothing/holdout", {"share": "5%"}, 404, "unknown_model"),
    ("PUT", "/v1/models/digits/holdout", {"share": 0.05}, 400, "malformed_body"),
    ("PUT", "/v1/models/digits/holdout", {"share": "100%"}, 400, "malformed_body"),
    ("PUT", "/v1/models/digits/holdout", {"share": "-5%"}, 400, "malformed_body"),
    ("PUT", "/v1/models/digits/holdout", {"share": "0.001%"}, 400, "malformed_body"),
    ("PUT", "/v1/models/digits/holdout", {}, 400, "malformed_body"),
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
    "an unknown unit": ("unit: header:x-unit-id", "unit: body:id", "unit"),
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
    sent = json.dumps(outcome(await world.evidence.prediction())).encode()

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
