"""`tiltyard simulate`: what it prints, draws and refuses, and that any number of cores agree."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from serving.cli import app

FILE = """\
name: small
model: m
challenger: 2
unit: request
share: [20%, 50%]
goal: {metric: ok, kind: binary, direction: increase, min_effect: 20%, baseline: 30%}
guardrails: [{metric: latency_ms, above: 250, max_ratio: 1.5}]
limits: {min_units: 40, min_runtime: 10s, max_runtime: 1d}
"""
QUICK = ("--runs", 4, "--units", 1_500, "--batch", 150, "--processes", 1)


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(FILE)
    return path


def tiltyard(*words: object) -> Result:
    env = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, [str(word) for word in words], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def told(*words: object) -> dict[str, object]:
    result = tiltyard(*words, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def test_simulate_says_what_is_supposed_how_runs_ended_and_what_was_wrong(file):
    result = tiltyard("simulate", file, "--effect", "0", *QUICK)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "small 4 runs, seed 0, up to 1,500 units, a look every 150 or less" in text
    assert "ok 30 % the same the file" in text
    assert "error_rate 0.1 % the same nobody" in text
    assert "give --traffic 50/s for times" in text
    for words in ("promoted", "rolled back", "inconclusive", "halted", "95 % interval"):
        assert words in text
    assert "False promotions: 0 of 4 runs, 0 % (0 % to 60.2 %); at most 2.5 % is promised." in text
    assert "50 %" in text


def test_json_tells_the_same_to_programs(file):
    found = told("simulate", file, "--effect", "40%", "--traffic", "5/s", *QUICK)
    assert (found["experiment"], found["effect"], found["runs"]) == ("small", 0.4, 4)
    assert sum(end["runs"] for end in found["ends"].values()) == 4
    assert found["false_promotions"] is None
    assert found["missed_harm"] is None
    assert found["units_per_second"] == 5
    assert found["units_to_verdict"]["low"] <= found["units_to_verdict"]["high"]
    assert found["seconds_to_verdict"]["mean"] > 0
    assert [gate["share"] for gate in found["gates"]] == ["20 %", "50 %"]


def test_only_those_who_can_be_in_the_experiment_arrive(file):
    words = ("--effect", "0", "--traffic", "5/s", "--holdout", "20%")
    assert told("simulate", file, *words, *QUICK)["units_per_second"] == 4


def test_times_are_told_only_where_the_traffic_is_known(file):
    found = told("simulate", file, "--effect", "0", *QUICK)
    assert (found["units_per_second"], found["seconds_to_verdict"]) == (None, None)


def test_gross_harm_to_a_guardrail_is_rolled_back_for_it(file):
    options = ("--harm", "latency_ms=30", "--baseline", "latency_ms=2%", "--baseline", "40%")
    found = told("simulate", file, "--effect", "0", *options, *QUICK)
    assert found["harm"] == {"latency_ms>250": 30}
    assert found["baselines"]["latency_ms>250"] == {"value": 0.02, "spread": None, "from": "given"}
    assert found["baselines"]["ok"]["value"] == 0.4
    assert found["ends"]["rolled_back"]["runs"] == 4
    assert found["missed_harm"]["runs"] == 0
    assert found["decided_by"] == {"latency_ms>250": 4}


def test_a_negative_effect_is_harm(file):
    found = told("simulate", file, "--effect", "-0.6", *QUICK)
    assert found["ends"]["rolled_back"]["runs"] == 4


def test_a_seed_gives_the_same_runs_on_any_number_of_processes(file):
    def runs(seed: int, processes: int) -> dict[str, object]:
        options = ("--units", 600, "--runs", 5, "--seed", seed, "--processes", processes)
        return told("simulate", file, "--effect", "0.3", *options)

    here = runs(1, 1)
    assert runs(1, 2) == here
    assert runs(2, 1) != here


@pytest.mark.parametrize(
    "more", ["", "horizon: {units: 1200}\n", "holdback: {share: 9%, for: 2h}\n"]
)
def test_the_picture_is_a_png_file(file, tmp_path, more):
    file.write_text(FILE + more)
    picture = tmp_path / "runs.png"
    result = tiltyard("simulate", file, "--effect", "0.5", "--plot", picture, *QUICK)
    assert result.exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ((), "must say what is true of the goal"),
        (("--effect", "much"), "a number such as 0.1 or 10%"),
        (("--effect", "nan"), "a number such as 0.1 or 10%"),
        (("--effect", "-2"), "nothing loses more than all of itself"),
        (("--effect", "900%"), "give another effect, or another baseline than 30 %"),
        (("--effect", "0", "--harm", "error_rate"), "takes METRIC=VALUE"),
        (("--effect", "0", "--harm", "error_rates=2"), "did you mean error_rate?"),
        (("--effect", "0", "--harm", "ok=2"), "is the goal"),
        (("--effect", "0", "--harm", "error_rate=-2"), "a factor from 0 on"),
        (("--effect", "0", "--baseline", "130%"), "from 0 % to 100 %"),
        (("--effect", "0", "--baseline", "x=1"), "it has ok, error_rate, latency_ms>250"),
        (("--effect", "0", "--traffic", "fast"), "50/s"),
        (("--effect", "0", "--runs", "0"), "'--runs': Input should be greater than or equal to 1"),
        (
            ("--effect", "0", "--units", "0"),
            "'--units': Input should be greater than or equal to 1",
        ),
        (("--effect", "0", "--plot", "runs.jpg"), "ends in .png"),
        (("--effect", "0", "--plot", "/nowhere/at/all.png"), "there is no folder /nowhere/at"),
        (("--effect", "0", "--plot", "x" * 300 + ".png"), "cannot be written"),
    ],
)
def test_wrong_options_are_refused_with_advice(file, options, advice):
    result = tiltyard("simulate", file, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    words = " ".join(result.stderr.replace("│", " ").split())
    assert advice in words


def test_traffic_that_ends_before_the_ramp_can_is_warned_of(file):
    result = tiltyard("simulate", file, "--effect", "0", "--traffic", "600/s", *QUICK)
    assert result.exit_code == 0
    assert "1,500 units will have arrived after 2.5 seconds" in " ".join(result.stderr.split())
    quiet = tiltyard("simulate", file, "--effect", "0", "--traffic", "1/s", *QUICK)
    assert "will have arrived" not in quiet.stderr


def test_a_wrong_file_is_refused_with_the_place(file):
    file.write_text(FILE.replace("min_effect: 20%", "min_effect: 0.2"))
    result = tiltyard("simulate", file, "--effect", "0")
    assert result.exit_code == 1
    assert f"{file}:6:" in result.stderr
    assert "Code: invalid_declaration" in result.stderr


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_the_command_ends_all_its_processes(file, ended_by):
    command = [sys.executable, "-c", "from serving.cli import app; app()"]
    words = ["simulate", str(file), "--effect", "0", "--runs", "100000", "--processes", "2"]
    running = subprocess.Popen(
        [*command, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_hear_interrupts,
    )
    try:
        # Two that simulate, and the one that multiprocessing keeps besides.
        while len(started := psutil.Process(running.pid).children()) < 3:
            assert running.poll() is None
            time.sleep(0.05)
        if ended_by is signal.SIGINT:
            os.killpg(running.pid, ended_by)
        else:
            running.send_signal(ended_by)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert out == b""
    if ended_by is signal.SIGINT:
        assert running.returncode == 130
        assert b"of 100,000 runs; nothing is reported." in err
        assert b"Traceback" not in err
    for _ in range(600):
        if not any(map(_is_running, started)):
            return
        time.sleep(0.05)
    pytest.fail(f"still running: {started}")


def _hear_interrupts() -> None:
    """Whatever a shell starts in the background ignores them, and so do these tests then."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _is_running(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


SHADOW = """\
name: small
model: m
challenger: 2
unit: request
mode: shadow
shadow: {share: 50%, pairs: 100, agreement: 90%}
limits: {min_runtime: 10s, max_runtime: 1d}
"""


def test_a_shadow_passes_or_not_and_needs_no_effect(file):
    file.write_text(SHADOW)
    text = tiltyard("simulate", file, *QUICK, "--agreement", "60%").stdout
    assert "agreement 60 % --agreement" in " ".join(text.split())
    assert "shadow, 50 %" in text
    assert "False passes: 0 of 4 runs" in text
    found = told("simulate", file, *QUICK, "--agreement", "60%")
    assert list(found["ends"]) == ["passed", "rolled_back", "inconclusive"]
    assert found["ends"]["rolled_back"]["runs"] == 4
    assert found["decided_by"] == {"agreement": 4}


def test_runs_in_the_shadow_are_drawn(file, tmp_path):
    file.write_text(SHADOW)
    picture = tmp_path / "runs.png"
    assert tiltyard("simulate", file, *QUICK, "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
