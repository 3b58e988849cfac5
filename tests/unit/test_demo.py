"""The demo's parts that need no system: what counts as failed, and what counts as promised."""

import io
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from rich.console import Console

import serving.demo
from experiments.spec import read_declaration
from serving.demo.fragile import Fragile
from serving.demo.models import BETTER, FIRST, FRAGILE, MISLABELLED, MODEL, halves, harmless
from serving.demo.narrator import Evidence, Glance, Narrator
from serving.demo.promises import GUARDRAILS, Seen, broken, for_a_guardrail, for_the_goal
from serving.demo.stage import own_settings
from serving.demo.traffic import METRIC, read_digit
from serving.local.ports import free_ports

TRUE = Seen(
    requests=9_000,
    promoted=BETTER,
    harm_rollback=MISLABELLED,
    fault_rollback=FRAGILE,
    manual_rollback={"from": BETTER, "to": FIRST},
    receipts=7,
)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b'{"outputs": [{"data": [7]}]}'),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b'{"outputs": [{"data": []}]}'),
        (200, b'{"outputs": [{"data": [7, 7]}]}'),
        (200, b'{"outputs": [{"data": [true]}]}'),
        (200, b'{"outputs": [{"data": [7.0]}]}'),
        (200, b'{"outputs": [{"data": [10]}]}'),
        (200, b'{"outputs": [{"data": [-1]}]}'),
    ],
)
def test_an_answer_that_is_no_digit_is_a_failed_request(status: int, body: bytes) -> None:
    with pytest.raises(ValueError):
        read_digit(status, body)


def test_nothing_is_broken_where_everything_came_true() -> None:
    assert not list(broken(TRUE))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"failed_requests": 1}, "1 of 9000 client requests failed"),
        ({"requests": 0}, "No client"),
        ({"promoted": MISLABELLED}, "promoted should be 2 and is 3"),
        ({"harm_rollback": None}, "harm_rollback should be 3 and is None"),
        ({"fault_rollback": None}, "fault_rollback should be 4 and is None"),
        ({"manual_rollback": None}, "manual_rollback should be"),
        ({"receipts": None}, "No receipt"),
        ({"receipts": 0}, "No receipt"),
    ],
)
def test_each_broken_promise_is_named(change: dict[str, int | None], named: str) -> None:
    (words,) = broken(replace(TRUE, **change))
    assert named in words


def test_the_two_reasons_for_a_rollback_are_not_mixed_up() -> None:
    assert for_the_goal([METRIC])
    assert not for_the_goal([METRIC, "error_rate"])
    assert for_a_guardrail(["error_rate"])
    assert not for_a_guardrail([METRIC, "error_rate"])
    assert not for_a_guardrail([])


@pytest.mark.parametrize("challenger", [BETTER, MISLABELLED, FRAGILE])
def test_every_experiment_file_declares_what_the_story_tells(challenger: int) -> None:
    file = files(serving.demo).joinpath(f"{MODEL}-v{challenger}.yaml").read_bytes()
    declaration = read_declaration(file)
    assert declaration.name == f"{MODEL}-v{challenger}"
    assert declaration.challengers == (challenger,)
    assert declaration.goal.metric.name == METRIC
    assert {guardrail.key for guardrail in declaration.guardrails} == GUARDRAILS


class Sevens:
    def predict(self, rows: np.ndarray, /) -> np.ndarray:
        return np.full(len(rows), 7)


def test_the_fragile_version_fails_on_much_ink_and_is_unremarkable_otherwise() -> None:
    fragile = Fragile(Sevens(), raises_above=100.0, dies_above=np.inf, hangs_below=0.0)
    assert fragile.predict(np.full((2, 64), 1.0)).tolist() == [7, 7]
    with pytest.raises(ValueError, match="too much ink"):
        fragile.predict(np.full((1, 64), 2.0))


def test_the_examples_that_hosts_warm_up_with_have_the_usual_amount_of_ink() -> None:
    training, _ = halves()
    ink = harmless(training.images).sum(axis=1)
    low, high = np.quantile(training.images.sum(axis=1), (0.4, 0.6))
    assert low <= ink.min() <= ink.max() <= high


def test_users_send_images_that_no_version_was_trained_with() -> None:
    training, live = halves()
    seen = {image.tobytes() for image in training.images}
    assert not any(image.tobytes() in seen for image in live.images)


def test_the_demo_takes_nothing_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("TILTYARD_STATE_DIR", "/somebody/elses")
    monkeypatch.setenv("TILTYARD_REDIS_URL", "redis://somebody.elses:6379/0")
    monkeypatch.setenv("TILTYARD_MLFLOW_URI", "http://somebody.elses")
    settings = own_settings(tmp_path)
    assert "else" not in settings.model_dump_json()


def test_ports_are_not_given_twice() -> None:
    assert len(set(free_ports(50))) == 50


def test_without_a_terminal_a_line_every_other_second_is_not_broken() -> None:
    out = io.StringIO()
    narrator = Narrator(Console(file=out, width=40))
    evidence = Evidence("digits-v2", 0.25, "3.1", "40", "0.7", "20")
    for second in range(4):
        narrator.glance(
            Glance(second, requests=900, rate=210.0, versions={1: 0.75, 2: 0.25}, evidence=evidence)
        )
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "requests/s 210 │ requests 900 │ failed 0" in lines[1]
    assert "v1 75%, v2 25%" in lines[1]
    assert "e better 3.1 of 40" in lines[1]
