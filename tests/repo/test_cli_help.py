"""The command line explains itself: every command, every option, in every place that lists them."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import typer
from typer.testing import CliRunner

from serving.cli import app

SLOW = (
    "mlflow",
    "ray",
    "scipy",
    "numpy",
    "matplotlib",
    "redis",
    "fastapi",
    "httpx2",
    "pydantic_settings",
)
"""What `tiltyard --help` can do without."""

COMMANDS = {
    "up",
    "down",
    "doctor",
    "demo",
    "register",
    "deploy",
    "undeploy",
    "promote",
    "holdout",
    "rollback",
    "history",
    "status",
    "plan",
    "simulate",
    "certify",
    "drill",
    "receipt",
    "replay",
    "outcome",
    "experiment start",
    "experiment show",
    "experiment watch",
    "experiment pause",
    "experiment resume",
    "experiment stop",
    "experiment list",
}

WITHOUT_JSON: set[str] = set()
"""Commands that have no document to print; none so far."""


def commands() -> Iterator[tuple[str, object]]:
    def below(group: object, words: tuple[str, ...]) -> Iterator[tuple[str, object]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from below(command, (*words, name))
            else:
                yield " ".join((*words, name)), command

    yield from below(typer.main.get_command(app), ())


EVERY = dict(commands())


def test_the_commands_are_those_of_the_design():
    assert set(EVERY) == COMMANDS


@pytest.mark.parametrize("name", EVERY)
def test_a_command_says_in_a_sentence_what_it_does(name):
    command = EVERY[name]
    assert command.help
    first = command.help.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")


@pytest.mark.parametrize("name", EVERY)
def test_every_option_and_argument_of_a_command_is_explained(name):
    silent = [
        parameter.name
        for parameter in EVERY[name].params
        if parameter.name != "help" and not getattr(parameter, "help", None)
    ]
    assert silent == []


@pytest.mark.parametrize("name", EVERY)
def test_a_command_has_json_for_programs_or_is_a_known_exception(name):
    options = {text for parameter in EVERY[name].params for text in parameter.opts}
    assert ("--json" in options) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", ["", "experiment", *EVERY])
def test_help_is_printed_and_is_no_failure(name):
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "60"})
    assert result.exit_code == 0
    assert "Usage: " in result.stdout
    assert result.stderr == ""


def test_the_exit_statuses_are_explained():
    text = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for status in ("0 done", "1 refused", "2 wrong usage", "3 the system cannot be reached"):
        assert status in text


@pytest.mark.parametrize("words", [["fly"], ["experiment", "fly"], ["status", "--loud"]])
def test_what_is_no_command_is_wrong_usage(words):
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stdout) == (2, "")


def test_help_imports_nothing_that_is_slow():
    asked = (
        "import sys; from typer.testing import CliRunner; from serving.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        f"print([name for name in {SLOW!r} if name in sys.modules])"
    )
    command = [sys.executable, "-c", asked]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
