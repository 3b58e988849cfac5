"""`tiltyard certify`, as a person and a program meet it."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from serving.cli import app
from serving.cli.session import Session
from tests.story.test_certify import DataPlane, nothing_is_left, pausing
from tests.story.world import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    return asyncio.run(World.standing(tmp_path, versions=1))


def certify(world: World, *words: str, plane: DataPlane | None = None) -> Result:
    session = Session(
        transport=world.transport(), edge=plane or DataPlane(world), pause=pausing(world)
    )
    few = ("--requests", "300", "--rate", "10000")
    arguments = ["certify", "digits", *few, *words]
    env = {"COLUMNS": "110", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, arguments, obj=session, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_person_is_told_what_was_found_and_how_soon(world: World):
    result = certify(world, "--only", "aa,errors")
    assert result.exit_code == 0, result.stderr
    assert "errors  rolled back  rolled back" in result.stdout
    assert "error_rate is" in result.stdout
    assert "2 of 2 trials of digits/1 passed: 0 false alarms, 0 misses" in result.stdout
    assert "Waiting for the champion's double" in result.stderr
    assert "of 300 requests" in result.stderr


def test_a_program_is_told_the_same(world: World):
    result = certify(world, "--only", "wrong", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["model"], found["version"], found["certified"]) == ("digits", 1, True)
    (trial,) = found["trials"]
    assert (trial["trial"], trial["actual"], trial["passed"]) == ("wrong", "rolled_back", True)
    assert 0 < trial["challenger_requests"] < trial["requests"] <= 300
    assert trial["seconds"] >= 0


def test_a_miss_is_a_negative_answer(world: World):
    result = certify(world, "--only", "slow", plane=DataPlane(world, plants=False))
    assert result.exit_code == 1
    assert "slow   rolled back  no alarm" in result.stdout
    assert "0 of 1 trials of digits/1 passed: 0 false alarms, 1 misses" in result.stdout


def test_failed_requests_are_a_negative_answer_and_said(world: World):
    plane = DataPlane(world, broken=lambda number: number % 150 == 0)
    result = certify(world, "--only", "aa", plane=plane)
    assert result.exit_code == 1
    assert "answered 503: the edge is on fire" in result.stdout


def test_a_model_that_answers_nothing_is_refused_and_nothing_is_left(world: World):
    result = certify(world, "--only", "aa", plane=DataPlane(world, broken=lambda _: True))
    assert result.exit_code == 1
    assert "Code: uncertifiable" in result.stderr
    asyncio.run(world.live(4))
    assert asyncio.run(nothing_is_left(world))


@pytest.mark.parametrize("only", ["aaa", "slow,fast", "none"])
def test_a_trial_that_there_is_not_is_wrong_usage(world: World, only: str):
    result = certify(world, "--only", only)
    assert result.exit_code == 2
    assert "aa, slow, errors, wrong, empty" in " ".join(result.stderr.split())
