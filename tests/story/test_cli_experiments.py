"""Experiments, receipts and outcomes from the command line."""

import asyncio
import getpass
import json
from hashlib import sha256

import httpx2
import pytest

from experiments.store import Kind
from tests.story.terminal import Terminal, stored
from tests.story.world import FILE

ME = getpass.getuser()


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
    asyncio.run(tiltyard.world.evidence.traffic(2000, goal=(0.8, 0.9), errors=(0.02, 0.02)))
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
    asyncio.run(world.evidence.traffic(1000))
    asyncio.run(world.evidence.lose(4096, 1_024))
    late = asyncio.run(world.evidence.prediction())
    asyncio.run(world.pass_time(100_000))
    tiltyard("outcome", late, "correct", 1)
    text = tiltyard("experiment", "show", "digits-v2").stdout
    flat = " ".join(text.split())
    lost = "up to 1,024 of its requests (4,096 bytes of request log) were never counted"
    assert f"Incomplete: {lost}, beside 1," in flat
    assert "versions are still compared fairly, on fewer units" in flat
    assert "INCOMPLETE" in tiltyard("experiment", "list").stdout
    assert "1 outcomes came after the attribution window; not counted." in text


def run_to(tiltyard: Terminal, challenger: float, **rates: tuple[float, float]) -> None:
    """Start an experiment, and have the traffic show what the challenger is like."""
    tiltyard("experiment", "start", tiltyard.file())

    async def pause(seconds: float) -> None:
        await tiltyard.world.evidence.traffic(4000, goal=(0.8, challenger), **rates)
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
    asyncio.run(tiltyard.world.evidence.traffic(4000, share=0.5))
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
    prediction = asyncio.run(tiltyard.world.evidence.prediction())
    result = tiltyard("outcome", prediction, "correct", 1)
    assert (result.exit_code, result.stdout) == (0, "1 counted\n")
    again = tiltyard("outcome", prediction, "correct", 1)
    assert again.exit_code == 1
    assert "Code: duplicate_outcome" in again.stderr


@pytest.mark.parametrize("value", ["true", "NaN", "nan", "Infinity", "-1", "2", "yes", ""])
def test_an_outcome_with_a_value_that_is_none_is_refused(tiltyard, value):
    tiltyard("experiment", "start", tiltyard.file())
    prediction = asyncio.run(tiltyard.world.evidence.prediction())
    result = tiltyard("outcome", prediction, "correct", value)
    assert result.exit_code == 1
    assert "Code: invalid_outcome" in result.stderr


def test_many_outcomes_are_reported_from_a_file_or_from_stdin(tiltyard):
    tiltyard("experiment", "start", tiltyard.file())
    genuine = [asyncio.run(tiltyard.world.evidence.prediction()) for _ in range(2)]
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
