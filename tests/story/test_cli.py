"""The command line, in front of the real control API: what it prints, and how it ends."""

import asyncio
import getpass
import json
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner, Result

from experiments.model import ExperimentName
from experiments.store import Kind
from registry.refs import Version, VersionRef
from serving.break_glass import Order, RolledBack
from serving.cli import app
from serving.cli.session import Session, login
from serving.client import ControlClient
from serving.errors import ControlUnavailable, EdgeUnavailable, Refused
from serving.settings import Settings, running_settings
from tests.story.world import DIGITS, FILE, World, model_folder

ME = getpass.getuser()


@dataclass
class Terminal:
    """A shell before a world."""

    world: World
    folder: Path
    transport: httpx2.AsyncBaseTransport | None = None
    width: int = 110
    height: int = 100
    is_tty: bool = False
    looks: int = 0

    def __call__(self, *words: object, stdin: str | None = None) -> Result:
        session = Session(transport=self.transport or self.world.transport(), pause=self._pause)
        arguments = [str(word) for word in words]
        env = {"COLUMNS": str(self.width), "LINES": str(self.height)}
        env |= {"FORCE_COLOR": "1"} if self.is_tty else {"NO_COLOR": "1"}
        result = CliRunner().invoke(app, arguments, obj=session, input=stdin, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: object, status: int = 0) -> object:
        """Return the one document that a command prints."""
        result = self(*words, "--json")
        assert result.exit_code == status, result.stderr
        return json.loads(result.stdout)

    def file(self, text: str = FILE) -> Path:
        path = self.folder / "experiment.yaml"
        path.write_text(text)
        return path

    async def _pause(self, seconds: float) -> None:
        self.looks += 1
        assert self.looks < 100, "the command waits for something that never comes"
        await self.world.pass_time(seconds)
        await self.world.tick()


@pytest.fixture
def tiltyard(tmp_path, monkeypatch) -> Terminal:
    """Two hot versions of `digits`, version 1 the champion, one edge, and a shell."""
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    return Terminal(asyncio.run(World.standing(tmp_path)), tmp_path)


def nobody(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused", request=request)


def stored(tiltyard: Terminal) -> object:
    async def everything() -> object:
        return {kind: dict(await tiltyard.world.store.read_all(kind)) for kind in Kind}

    return asyncio.run(everything())


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


# Going forward and back


def test_promote_tells_from_to_edges_and_milliseconds(tiltyard):
    result = tiltyard("promote", "digits", 2, "--why", "it is Friday")
    assert result.exit_code == 0
    assert result.stdout.startswith("digits: version 1 -> version 2 in ")
    assert result.stdout.endswith(" ms, obeyed by edge-0\n")
    assert "already" in tiltyard("promote", "digits", 2).stdout
    asyncio.run(tiltyard.world.tick())
    history = tiltyard.json("history", "digits")
    assert history["champions"][-1]["why"] == "it is Friday"
    assert history["champions"][-1]["by"] == ME


def test_rollback_tells_from_to_edges_and_milliseconds(tiltyard):
    tiltyard("promote", "digits", 2)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0
    assert result.stdout.startswith("digits: version 2 -> version 1 in ")
    assert result.stdout.endswith(" ms, obeyed by edge-0\n")


def test_rollback_goes_to_a_version_of_ones_choice(tiltyard):
    tiltyard("promote", "digits", 2)
    found = tiltyard.json("rollback", "digits", "--to", 1, "--why", "a drill")
    assert (found["withdrawn"], found["to_version"], found["edges"]) == ([2], 1, ["edge-0"])


def test_a_rollback_names_every_version_that_it_withdraws(tiltyard):
    world = tiltyard.world
    asyncio.run(world.deploy(asyncio.run(world.register()).version))
    asyncio.run(world.start(FILE.replace("challenger: 2", "challengers: [2, 3]")))
    assert "2, 3" in tiltyard("experiment", "list").stdout
    result = tiltyard("rollback", "digits")
    assert result.stdout.startswith("digits: versions 2 and 3 -> version 1 in ")


def test_a_rollback_that_an_edge_has_not_obeyed_yet_is_no_success(tiltyard):
    tiltyard("promote", "digits", 2)
    tiltyard.world.edges["edge-0"].deaf = True
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 1
    assert "No word in time from edge-0" in result.stdout


def test_rollback_with_nothing_to_go_back_to_is_refused_in_words(tiltyard):
    result = tiltyard("rollback", "digits")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Code: nothing_to_roll_back" in result.stderr
    assert "Next: `tiltyard promote MODEL VERSION`" in result.stderr
    assert tiltyard.json("rollback", "digits", status=1)["code"] == "nothing_to_roll_back"


def test_rollback_to_a_version_that_is_not_hot_wants_force(tiltyard):
    tiltyard("promote", "digits", 2)
    tiltyard.world.serve.unreachable.add(VersionRef(DIGITS, Version(1)))
    asyncio.run(tiltyard.world.tick())
    assert "Code: target_not_hot" in tiltyard("rollback", "digits").stderr
    assert tiltyard("rollback", "digits", "--force").exit_code == 0


# Going back without control


@pytest.fixture
def at_the_edge(tiltyard, monkeypatch) -> list[Order]:
    """This machine's edge has a socket; return the orders that reach it."""
    orders: list[Order] = []
    (tiltyard.folder / "edge-0" / "agent.sock").touch()

    async def break_glass(socket: str, order: Order) -> RolledBack:
        assert socket == str(tiltyard.folder / "edge-0" / "agent.sock")
        orders.append(order)
        agent = tiltyard.world.edges["edge-0"].agent
        done = await agent.roll_back(
            order.model, by=order.by, why=order.why, withdrawn=order.withdrawn
        )
        versions = (done.withdrawn, done.to_version)
        return RolledBack(order.model, *versions, ("edge-0",), (), 0.5, None, break_glass=True)

    monkeypatch.setattr("serving.break_glass.break_glass", break_glass)
    return orders


def test_without_control_rollback_asks_this_machines_edge_and_says_so(tiltyard, at_the_edge):
    tiltyard("promote", "digits", 2)
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0
    assert "Asking this machine's edge itself." in result.stderr
    assert "digits: version 2 -> version 1 in 0.5 ms, obeyed by edge-0" in result.stdout
    assert "control takes it over" in result.stdout
    (order,) = at_the_edge
    assert (order.by, order.why) == (ME, f"Rolled back by {ME}.")
    assert tiltyard.world.edges["edge-0"].route().champion == 1


def test_without_the_store_rollback_asks_this_machines_edge(tiltyard, at_the_edge, monkeypatch):
    tiltyard("promote", "digits", 2)

    async def nothing(socket: str, order: Order) -> RolledBack:
        raise EdgeUnavailable("control's own edge is away")

    monkeypatch.setattr("serving.app.break_glass", nothing)
    tiltyard.world.store.disconnect()
    found = tiltyard.json("rollback", "digits", "--why", "Redis died")
    assert (found["to_version"], found["break_glass"]) == (1, True)
    assert at_the_edge[0].why == "Redis died"


def test_a_rollback_whose_answer_is_lost_takes_nothing_more_back(tiltyard, at_the_edge):
    """Control withdraws the trial and dies before it answers; version 2 stays the champion."""
    tiltyard("promote", "digits", 2)
    file = FILE.replace("challenger: 2", "challenger: 1")
    asyncio.run(tiltyard.world.start(file))
    whole = tiltyard.world.transport()

    async def mute(request: httpx2.Request) -> httpx2.Response:
        answer = await whole.handle_async_request(request)
        if request.url.path.endswith("/rollback"):
            raise httpx2.ReadError("control died")
        return answer

    tiltyard.transport = httpx2.MockTransport(mute)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 0, result.stderr
    assert at_the_edge[0].withdrawn == (1,)
    route = tiltyard.world.edges["edge-0"].route()
    assert (route.champion, route.previous, route.trial) == (2, 1, None)


def test_rollback_local_asks_nobody_but_the_edge(tiltyard, at_the_edge):
    tiltyard("promote", "digits", 2)
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits", "--local")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(at_the_edge) == 1
    assert tiltyard("rollback", "digits", "--local", "--to", 1).exit_code == 2
    assert tiltyard("rollback", "digits", "--local", "--force").exit_code == 2


def test_an_edge_knows_no_way_to_a_version_of_ones_choice(tiltyard, at_the_edge):
    tiltyard.transport = httpx2.MockTransport(nobody)
    assert tiltyard("rollback", "digits", "--to", 1).exit_code == 3
    assert at_the_edge == []


def test_what_control_refuses_is_not_asked_of_the_edge(tiltyard, at_the_edge):
    assert tiltyard("rollback", "digits").exit_code == 1
    assert at_the_edge == []


def test_without_control_and_without_an_edge_here_rollback_cannot_reach_anything(tiltyard):
    tiltyard.transport = httpx2.MockTransport(nobody)
    result = tiltyard("rollback", "digits")
    assert result.exit_code == 3
    assert "Code: control_unavailable" in result.stderr
    local = tiltyard("rollback", "digits", "--local")
    assert local.exit_code == 3
    assert "Code: edge_unavailable" in local.stderr


# Experiments


def test_an_experiment_is_started_steered_and_listed(tiltyard):
    assert "No experiment" not in tiltyard("experiment", "list").stdout
    started = tiltyard("experiment", "start", tiltyard.file())
    assert started.stdout.startswith(
        "digits-v2 is ramping: 5 % of units meet the challenger, stage 1 of 2.\n"
        "The traffic of digits is not known yet"
    )
    assert "paused at 5 %" in tiltyard("experiment", "pause", "digits-v2").stdout
    assert "ramping" in tiltyard("experiment", "resume", "digits-v2").stdout
    assert "digits-v2" in tiltyard("experiment", "list").stdout
    assert "being stopped" in tiltyard("experiment", "stop", "digits-v2", "--why", "tea").stdout
    found = tiltyard.json("experiment", "list")
    assert [(each["name"], each["reasons"]) for each in found] == [("digits-v2", ["tea"])]


def test_every_problem_of_a_file_is_a_line_with_its_place(tiltyard):
    path = tiltyard.file(FILE.replace("5%, 50%", "50%, 5%").replace("challenger: 2", "new: 2"))
    before = stored(tiltyard)
    result = tiltyard("experiment", "start", path)
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    places = [line.split(" ")[0] for line in lines if line.startswith(str(path))]
    assert places == [f"{path}:2:1:", f"{path}:4:1:", f"{path}:6:14:"]
    assert lines[-2] == "Code: invalid_declaration"
    assert lines[-1].startswith("Next: ")
    found = tiltyard.json("experiment", "start", path, status=1)
    assert [each["line"] for each in found["problems"]] == [2, 4, 6]
    assert stored(tiltyard) == before


def test_a_file_that_is_not_there_is_wrong_usage(tiltyard):
    assert tiltyard("experiment", "start", tiltyard.folder / "nothing.yaml").exit_code == 2


@pytest.mark.parametrize("width", [60, 110, 200])
def test_show_draws_both_variants_every_test_and_what_follows(tiltyard, width):
    tiltyard.width = width
    tiltyard("experiment", "start", tiltyard.file())
    asyncio.run(tiltyard.world.traffic(2000, goal=(0.8, 0.9), errors=(0.02, 0.02)))
    text = tiltyard("experiment", "show", "digits-v2").stdout
    assert max(map(len, text.splitlines())) <= width
    flat = " ".join(text.split())
    for said in (
        "version 2 against champion 1",
        "1,900",
        "superior",
        "Sample ratio",
        "Now: go on.",
        "error_rate",
        "points",
        "unknown:",
    ):
        assert said in flat


def test_show_says_what_is_missing_of_the_evidence(tiltyard):
    world = tiltyard.world
    tiltyard("experiment", "start", tiltyard.file())
    asyncio.run(world.lose(4096))
    late = asyncio.run(world.prediction())
    asyncio.run(world.pass_time(100_000))
    tiltyard("outcome", late, "correct", 1)
    text = tiltyard("experiment", "show", "digits-v2").stdout
    assert "Incomplete: 4,096 bytes of request log were never counted." in text
    assert "1 outcomes came after the attribution window; not counted." in text


def run_to(tiltyard: Terminal, challenger: float, **rates: tuple[float, float]) -> None:
    """Start an experiment, and have the traffic show what the challenger is like."""
    tiltyard("experiment", "start", tiltyard.file())

    async def pause(seconds: float) -> None:
        await tiltyard.world.traffic(4000, goal=(0.8, challenger), **rates)
        await Terminal._pause(tiltyard, 10 + seconds)

    tiltyard._pause = pause


def test_watch_ends_well_with_a_promotion(tiltyard):
    run_to(tiltyard, 0.9)
    result = tiltyard("experiment", "watch", "digits-v2")
    assert result.exit_code == 0
    assert "Promoted: version 2 is the champion." in result.stdout
    assert "ramping: 50 %" in result.stderr


def test_watch_ends_badly_with_a_rollback_and_names_the_culprit(tiltyard):
    run_to(tiltyard, 0.8, errors=(0.0, 0.3))
    result = tiltyard("experiment", "watch", "digits-v2")
    assert result.exit_code == 1
    assert "everybody meets version 1" in result.stdout
    assert "error_rate is 30 %" in " ".join(result.stdout.split())


def test_watch_ends_with_a_halt(tiltyard):
    tiltyard("experiment", "start", tiltyard.file())
    asyncio.run(tiltyard.world.traffic(4000, share=0.5))
    result = tiltyard("experiment", "watch", "digits-v2")
    assert result.exit_code == 1
    assert "halted: the data cannot be trusted" in result.stdout.lower()


def test_watch_on_a_terminal_redraws_one_board_until_the_experiment_is_over(tiltyard):
    run_to(tiltyard, 0.9)
    tiltyard.is_tty = True
    result = tiltyard("experiment", "watch", "digits-v2")
    assert result.exit_code == 0
    erased_lines = result.stdout.count("\x1b[2K")
    assert erased_lines > 20
    assert "Promoted: version 2 is the champion." in result.stdout.split("\x1b[2K")[-1]


def test_deploy_on_a_terminal_shows_its_progress_in_one_line_that_changes(tiltyard):
    asyncio.run(tiltyard.world.register())
    tiltyard.is_tty = True
    result = tiltyard("deploy", "digits", 3)
    assert result.stdout == "digits/3 is HOT, 2 of 2 replicas are ready\n"
    assert "\x1b[2K" in result.stderr


def test_watch_for_a_program_prints_one_document_at_the_end(tiltyard):
    run_to(tiltyard, 0.9)
    found = tiltyard.json("experiment", "watch", "digits-v2")
    assert found["state"] == "promoted"


def test_watch_goes_on_while_control_is_away(tiltyard):
    tiltyard("experiment", "start", tiltyard.file())
    tiltyard("experiment", "stop", "digits-v2")
    inner, asked = tiltyard.world.transport(), 0

    class Flaky(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            nonlocal asked
            asked += 1
            if asked == 2:
                raise httpx2.ReadTimeout("nothing came", request=request)
            return await inner.handle_async_request(request)

    tiltyard.transport = Flaky()
    result = tiltyard("experiment", "watch", "digits-v2")
    assert (result.exit_code, asked) == (1, 3)


def test_an_unknown_experiment_is_refused(tiltyard):
    for action in ("show", "watch", "pause", "resume", "stop"):
        result = tiltyard("experiment", action, "nothing")
        assert result.exit_code == 1
        assert "Code: unknown_experiment" in result.stderr


# Receipts and outcomes


def receipt_of(tiltyard: Terminal) -> str:
    tiltyard("promote", "digits", 2)
    return tiltyard.json("history", "digits")["receipts"][0]["id"]


def test_replay_makes_a_decision_again(tiltyard):
    run_to(tiltyard, 0.9)
    tiltyard("experiment", "watch", "digits-v2")
    receipts = tiltyard.json("history", "digits")["receipts"]
    assert [each["act"] for each in receipts] == [
        "promote",
        "continue",
        "start",
        "adopt",
    ]
    result = tiltyard("replay", receipts[0]["id"][:12])
    assert result.exit_code == 0
    assert "comes out the same: promote" in result.stdout
    assert tiltyard.json("replay", receipts[0]["id"])["same"] is True


def test_replay_of_a_receipt_that_was_altered_fails(tiltyard):
    receipt = receipt_of(tiltyard)

    async def alter() -> None:
        content = (await tiltyard.world.records.receipt(receipt))[1]
        changed = content.replace(b"Promoted by", b"Demoted by")
        await tiltyard.world.store.write(Kind.RECEIPT, receipt, changed, expected=-1)

    asyncio.run(alter())
    result = tiltyard("replay", receipt)
    assert result.exit_code == 1
    assert "Code: receipt_mismatch" in result.stderr


def test_a_receipt_is_printed_byte_for_byte_for_programs(tiltyard):
    receipt = receipt_of(tiltyard)
    result = tiltyard("receipt", receipt, "--json")
    assert sha256(result.stdout_bytes).hexdigest() == receipt
    assert json.loads(tiltyard("receipt", receipt[:10]).stdout) == json.loads(result.stdout)


def test_an_outcome_is_reported(tiltyard):
    tiltyard("experiment", "start", tiltyard.file())
    prediction = asyncio.run(tiltyard.world.prediction())
    result = tiltyard("outcome", prediction, "correct", 1)
    assert (result.exit_code, result.stdout) == (0, "1 counted\n")
    again = tiltyard("outcome", prediction, "correct", 1)
    assert again.exit_code == 1
    assert "Code: duplicate_outcome" in again.stderr


@pytest.mark.parametrize("value", ["true", "NaN", "nan", "Infinity", "-1", "2", "yes", ""])
def test_an_outcome_with_a_value_that_is_none_is_refused(tiltyard, value):
    tiltyard("experiment", "start", tiltyard.file())
    prediction = asyncio.run(tiltyard.world.prediction())
    result = tiltyard("outcome", prediction, "correct", value)
    assert result.exit_code == 1
    assert "Code: invalid_outcome" in result.stderr


def test_many_outcomes_are_reported_from_a_file_or_from_stdin(tiltyard):
    tiltyard("experiment", "start", tiltyard.file())
    genuine = [asyncio.run(tiltyard.world.prediction()) for _ in range(2)]
    sent = [{"prediction_id": name, "metric": "correct", "value": 1} for name in genuine]
    path = tiltyard.folder / "outcomes.json"
    path.write_text(json.dumps(sent[:1]))
    assert tiltyard("outcome", "--file", path).stdout == "1 counted\n"
    result = tiltyard("outcome", "--file", "-", stdin=json.dumps(sent))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 refused, 1 counted"
    assert "duplicate_outcome" in result.stdout


@pytest.mark.parametrize("words", [[], ["an-id"], ["an-id", "correct"]])
def test_half_an_outcome_is_wrong_usage(tiltyard, words):
    assert tiltyard("outcome", *words).exit_code == 2


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
