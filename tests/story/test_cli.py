"""The command line, in front of the real control API: what it prints, and how it ends."""

import asyncio
import getpass
import json
from contextlib import nullcontext
from datetime import timedelta

import httpx2
import pytest

from experiments.model import ExperimentName
from serving.cli.session import login
from serving.client import ControlClient
from serving.edge.collector import Progress
from serving.edge.partition import CutOff, PartitionPolicy
from serving.errors import ControlUnavailable, Refused
from serving.settings import Settings, running_settings
from tests.story.outside import model_folder
from tests.story.terminal import Terminal, nobody
from tests.story.world import FILE, World

ME = getpass.getuser()


# Deploying


@pytest.fixture
def registry(tiltyard, monkeypatch) -> None:
    """`register` finds the world's registry where it expects MLflow."""

    class Catalog:
        @staticmethod
        def open(uri, artifacts):
            assert uri == f"sqlite:///{tiltyard.folder}/mlflow.db"
            assert artifacts == tiltyard.folder / "artifacts"
            return nullcontext(tiltyard.world.catalog)

    monkeypatch.setattr("registry.mlflow.MlflowCatalog", Catalog)


@pytest.mark.usefixtures("registry")
def test_register_tells_the_version_that_the_folder_has_become(tiltyard):
    folder = model_folder(tiltyard.folder, "new")
    assert tiltyard("register", "digits", folder).stdout == "digits has version 3 now.\n"
    found = tiltyard.json("register", "digits", folder)
    assert found["version"] == 4
    assert found["digest"].startswith("sha256:")


@pytest.mark.usefixtures("registry")
def test_register_refuses_a_folder_that_holds_no_model(tiltyard):
    empty = tiltyard.folder / "empty"
    empty.mkdir()
    result = tiltyard("register", "digits", empty)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Code: unreadable_model" in result.stderr
    assert tiltyard("register", "Not a name", empty).exit_code == 1
    assert tiltyard("register", "digits", tiltyard.folder / "nowhere").exit_code == 2


def test_deploy_waits_until_the_version_is_hot_and_shows_what_it_waits_for(tiltyard):
    asyncio.run(tiltyard.world.register())
    result = tiltyard("deploy", "digits", 3)
    assert result.exit_code == 0
    assert result.stdout == "digits/3 is HOT, 2 of 2 replicas are ready\n"
    assert "digits/3 is PENDING, 0 of 2 replicas are ready" in result.stderr


def test_deploy_passes_on_what_each_replica_is_given(tiltyard):
    asyncio.run(tiltyard.world.register())
    options = ("--replicas", 3, "--cpus", 0.5, "--gpus", 0.25, "--no-wait")
    found = tiltyard.json("deploy", "digits", 3, *options)
    assert (found["state"], found["replicas"]) == ("pending", 3)
    assert (found["cpus"], found["gpus"]) == (0.5, 0.25)


def test_a_version_that_does_not_load_ends_deploy_with_its_reason(tiltyard):
    ref = asyncio.run(tiltyard.world.register())
    tiltyard.world.serve.broken[ref] = "CorruptArtifact: the digest is another"
    result = tiltyard("deploy", "digits", 3)
    assert result.exit_code == 1
    assert "digits/3 is FAILED" in result.stdout
    assert "CorruptArtifact: the digest is another" in result.stdout


def test_deploy_gives_up_waiting_when_time_is_up_and_says_that_it_goes_on(tiltyard):
    asyncio.run(tiltyard.world.register())
    result = tiltyard("deploy", "digits", 3, "--timeout", 0)
    assert (result.exit_code, tiltyard.looks) == (1, 0)
    assert "It goes on" in result.stderr


def test_deploy_goes_on_waiting_while_control_is_away(tiltyard):
    ref = asyncio.run(tiltyard.world.register())
    inner = tiltyard.world.transport()
    asked = 0

    class Flaky(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            nonlocal asked
            asked += 1
            if asked in (2, 3):
                raise httpx2.ConnectError("connection refused", request=request)
            return await inner.handle_async_request(request)

    tiltyard.transport = Flaky()
    result = tiltyard("deploy", "digits", ref.version)
    assert result.exit_code == 0
    assert "Trying again." in result.stderr


@pytest.mark.parametrize("version", [0, -1, "two", "1.5"])
def test_a_version_that_is_none_is_wrong_usage(tiltyard, version):
    assert tiltyard("deploy", "digits", version).exit_code == 2


def test_undeploy_says_what_is_being_unloaded(tiltyard):
    assert tiltyard("undeploy", "digits", 2).stdout == "digits/2 is being unloaded.\n"
    assert tiltyard("undeploy", "digits", 1).exit_code == 1


def test_holdout_sets_a_share_and_without_one_shows_it(tiltyard):
    assert (
        tiltyard("holdout", "digits").stdout
        == "digits: 0 % of the units never meet a challenger.\n"
    )
    result = tiltyard("holdout", "digits", "2.5%", "--why", "Yearly report.")
    assert "digits: holdout 0 % -> 2.5 %" in result.stdout
    assert "obeyed by edge-0" in result.stdout
    assert tiltyard.json("holdout", "digits")["holdout"] == 250
    assert "2.5 % held out" in tiltyard("status").stdout
    (latest, *_) = tiltyard.json("history", "digits")["receipts"]
    assert (latest["act"], latest["reasons"][-1]) == ("holdout", "Yearly report.")


@pytest.mark.parametrize("share", ["5", "0.05", "100%", "much"])
def test_what_is_no_share_is_refused(tiltyard, share):
    result = tiltyard("holdout", "digits", share)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "share" in result.stderr


# The status, and not being able to tell it


def test_status_shows_models_versions_edges_and_troubles(tiltyard):
    tiltyard("experiment", "start", tiltyard.file())
    tiltyard.world.control.troubles["registry"] = "MLflow does not answer."
    tiltyard.world.edges["edge-0"].runtime.up = False
    asyncio.run(tiltyard.world.pass_time(1))
    text = tiltyard("status").stdout
    for said in ("digits", "champion", "challenger", "HOT", "digits-v2", "edge-0", "DOWN"):
        assert said in text
    assert "registry: MLflow does not answer." in text


def test_status_says_which_edge_was_cut_off_and_what_an_edge_has_lost(tiltyard):
    world = tiltyard.world
    lossy = Progress(lost_bytes=4096, lost_requests=1234)
    asyncio.run(world.add_edge("edge-1", progress=lambda: lossy))
    for name, policy in (("edge-0", PartitionPolicy.KEEP), ("edge-1", PartitionPolicy.CHAMPION)):
        partition = world.edges[name].agent.partition
        partition.policy = policy
        partition.cut_off = CutOff(world.clock(), world.clock() + timedelta(seconds=5))
    asyncio.run(world.pass_time(1))
    text = " ".join(tiltyard("status").stdout.split())
    assert "edge-0: cut off from Redis from 2026-01-02 12:00:00 UTC to" in text
    assert "it kept the routes that it knew" in text
    assert "nobody met a challenger there" in text
    assert "1,234 requests" in text


def test_status_of_an_empty_system_says_how_to_begin(tmp_path, monkeypatch):
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    result = Terminal(World(tmp_path), tmp_path)("status")
    assert result.exit_code == 0
    assert "`tiltyard deploy MODEL VERSION`" in result.stdout
    assert "No edge is alive." in result.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("deploy", "digits", "2"),
        ("history", "digits"),
        ("experiment", "list"),
        ("experiment", "watch", "digits-v2"),
        ("replay", "abc"),
        ("outcome", "id", "correct", "1"),
        ("promote", "digits", "2"),
        ("holdout", "digits", "5%"),
    ],
)
def test_without_control_commands_end_with_3_and_say_where_they_looked(tiltyard, words):
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard(*words)
    assert (result.exit_code, result.stdout) == (3, "")
    assert "Control does not answer at http://127.0.0.1:8090" in result.stderr
    assert "Next: Start it with `tiltyard up`" in result.stderr
    document = tiltyard.json(*words, status=3)
    assert document["code"] == "control_unavailable"


def test_without_the_store_commands_end_with_3(tiltyard):
    tiltyard.world.store.disconnect()
    result = tiltyard("status")
    assert result.exit_code == 3
    assert "Code: store_unavailable" in result.stderr


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>hello</html>"),
        httpx2.Response(404, text="not here"),
        httpx2.Response(500, json={"error": "no problem document"}),
        httpx2.Response(502, json=["no", "object"]),
    ],
)
def test_a_stranger_on_controls_port_is_not_taken_for_control(tiltyard, answer):
    tiltyard.transport = httpx2.MockTransport(lambda _: answer)
    result = tiltyard("status")
    assert result.exit_code == 3
    assert "is not Tiltyard's control" in result.stderr


def test_what_others_wrote_is_shown_as_it_stands_and_never_as_markup(tiltyard):
    tiltyard("promote", "digits", 2, "--why", "[bold]loud[/bold] [/] :boom:")
    assert "[bold]loud[/bold] [/] :boom:" in tiltyard("history", "digits").stdout


def test_the_login_is_unknown_where_the_user_has_no_name(monkeypatch):
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert login() == "unknown"


# The client and its settings


async def test_the_client_raises_a_refusal_with_controls_code_and_words(tiltyard):
    world = tiltyard.world
    async with ControlClient.open("http://control", transport=world.transport()) as control:
        with pytest.raises(Refused) as refused:
            await control.experiment("nothing")
        assert refused.value.refusal == "unknown_experiment"
        assert refused.value.problem["status"] == 404
        assert (await control.route("digits"))["champion"] == 1
        assert (await control.outcomes([]))["counted"] == 0
        strange = await world.start(FILE)
        assert (await control.experiment(strange))["name"] == ExperimentName("digits-v2")


async def test_the_client_asks_for_names_as_they_stand():
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.raw_path)
        return httpx2.Response(200, json={})

    transport = httpx2.MockTransport(answer)
    async with ControlClient.open("http://control", transport=transport) as control:
        await control.history("a/../b?c")
        await control.experiment("x y")
    assert asked == [b"/v1/models/a%2F..%2Fb%3Fc/history", b"/v1/experiments/x%20y"]


async def test_a_control_that_says_nothing_is_unavailable():
    def silent(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadTimeout("", request=request)

    transport = httpx2.MockTransport(silent)
    async with ControlClient.open("http://control", transport=transport) as control:
        with pytest.raises(ControlUnavailable, match="ReadTimeout"):
            await control.status()


def test_settings_come_from_the_environment_then_from_what_runs_then_from_defaults(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    assert running_settings() == Settings()
    wanted = Settings(control_port=18090, edge_port=18080)
    written = wanted.model_dump(mode="json", exclude_none=True)
    (tmp_path / "running.json").write_text(json.dumps({"settings": written, "supervisor": {}}))
    assert running_settings() == wanted
    monkeypatch.setenv("TILTYARD_CONTROL_PORT", "8090")
    assert running_settings() == Settings(control_port=8090, edge_port=18080)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"settings": {"control_port": "x"}}'])
def test_a_damaged_file_of_what_runs_is_said_and_not_guessed_around(tiltyard, text):
    (tiltyard.folder / "running.json").write_text(text)
    result = tiltyard("status")
    assert result.exit_code == 1
    assert "Code: unreadable_running_file" in result.stderr


@pytest.mark.parametrize("command", ["status", "up", "down", "doctor"])
def test_a_setting_that_cannot_be_is_wrong_usage_and_named(tiltyard, monkeypatch, command):
    monkeypatch.setenv("TILTYARD_CONTROL_PORT", "ninety")
    result = tiltyard(command)
    assert result.exit_code == 2
    assert "TILTYARD_CONTROL_PORT" in result.stderr


def test_what_it_means_is_shown_before_what_a_small_terminal_crops(tiltyard):
    asyncio.run(tiltyard.world.start())
    shown = tiltyard("experiment", "show", "digits-v2").stdout
    assert 0 < shown.index("Now:") < shown.index("By stage")
    assert len(shown[: shown.index("Now:")].splitlines()) < 24
