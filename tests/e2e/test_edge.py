"""The real HAProxy, configured as the edge: what is said of a request, and who answers."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from scipy.stats import binomtest

from experiments.assignment import slot
from experiments.model import Variant
from experiments.prediction import verify
from tests.e2e.edge_checks import EVERYBODY, UNIT, assert_problem
from tests.e2e.edge_fixture import (
    CHALLENGER,
    CHAMPION,
    KEY,
    MODEL,
    PREVIOUS,
    Answer,
    Edge,
    edge,
    running,
)
from tests.e2e.ingress import FAILURES, Mood

__all__ = ["edge", "running"]


# ---- what is said of it


def test_an_answer_in_an_experiment_carries_its_stamps(edge: Edge) -> None:
    route = edge.route(cut=EVERYBODY, unit=UNIT)
    before = datetime.now(UTC)
    answer = edge.client().infer(("x-unit-id", "u"))
    assert answer.headers["x-model-version"] == str(CHALLENGER)
    assert answer.headers["x-route-epoch"] == str(route.epoch)
    assert answer.headers["x-experiment"] == "trial"
    assert answer.headers["x-variant"] == "challenger"
    assert "x-failover" not in answer.headers
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert (prediction.model, prediction.version) == (MODEL, CHALLENGER)
    assert (prediction.experiment, prediction.stage) == ("trial", 4)
    assert before - timedelta(seconds=2) < prediction.minted_at <= datetime.now(UTC)
    [line] = edge.logged(1)
    assert (line.epoch, line.model, line.version) == (route.epoch, MODEL, CHALLENGER)
    assert (line.experiment, line.stage, line.variant) == ("trial", 4, Variant.CHALLENGER)
    assert line.slot == slot(b"u", salt="trial") == prediction.slot
    assert (line.status, line.retries, line.server) == (200, 0, "host")


def test_an_answer_outside_an_experiment_carries_no_variant(edge: Edge) -> None:
    edge.route()
    answer = edge.client().infer()
    assert answer.headers["x-model-version"] == str(CHAMPION)
    assert not {"x-experiment", "x-variant", "x-failover"} & answer.headers.keys()
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert (prediction.experiment, prediction.variant, prediction.slot) == (None, None, None)
    [line] = edge.logged(1)
    assert (line.experiment, line.stage, line.variant, line.slot) == (None, None, None, None)


def test_neither_client_nor_host_can_speak_for_the_edge(edge: Edge) -> None:
    edge.route(cut=0, unit=UNIT, previous=PREVIOUS)
    lies = [
        (name, "999")
        for name in (
            "X-Tiltyard-Fallback",
            "X-Tiltyard-Deadline",
            "X-Tiltyard-Anything",
            "X-Model-Version",
            "X-Prediction-Id",
            "X-Route-Epoch",
            "X-Experiment",
            "X-Variant",
            "X-Failover",
        )
    ]
    answer = edge.client().infer(*lies)
    # The stand-in host claims all of this as well, in every answer.
    assert answer.headers["x-model-version"] == str(CHAMPION)
    assert answer.headers["x-variant"] == "champion"
    assert not {"x-failover", "x-tiltyard-secret", "x-tiltyard-answered"} & answer.headers.keys()
    [(_, path, headers)] = edge.ingress.calls
    assert path == f"/hosts/{MODEL}/{CHAMPION}/infer"
    assert [value for values in headers.values() for value in values].count("999") == 0


def test_nonces_never_repeat_and_cannot_be_guessed_from_one_another(edge: Edge) -> None:
    edge.route()
    client = edge.client()
    n = 2_000
    nonces = [verify(client.infer().headers["x-prediction-id"], KEY).nonce for _ in range(n)]
    assert len(set(nonces)) == n
    ones = sum(int(nonce, 16).bit_count() for nonce in nonces)
    assert binomtest(ones, 128 * n, 0.5).pvalue > 1e-6
    changed = sum((int(a, 16) ^ int(b, 16)).bit_count() for a, b in pairwise(nonces))
    assert binomtest(changed, 128 * (n - 1), 0.5).pvalue > 1e-6


def test_what_ray_logs_of_a_request_can_be_found_by_its_prediction_id(edge: Edge) -> None:
    edge.route()
    prediction = verify(edge.client().infer().headers["x-prediction-id"], KEY)
    edge.client().infer(("X-Request-Id", "mine"))
    unnamed, named = (headers["x-request-id"] for _, _, headers in edge.ingress.calls)
    assert (unnamed, named) == ([prediction.nonce], ["mine"])


def test_serve_need_not_watch_for_clients_but_of_streams(edge: Edge) -> None:
    edge.route()
    for call in ("infer", "infer_stream"):
        edge.client().request("POST", f"/v2/models/{MODEL}/{call}", body=b"{}")
    watched = ["x-request-disconnect-disabled" in headers for _, _, headers in edge.ingress.calls]
    assert watched == [True, False]


# ---- who answers


@pytest.mark.parametrize("mood", FAILURES)
def test_a_failing_challenger_costs_no_user_anything(edge: Edge, mood: Mood) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT, deadline=timedelta(milliseconds=200))
    edge.behave(challenger=mood)
    client = edge.client()
    for i in range(5):
        answer = client.infer(("x-unit-id", f"u{i}"))
        assert (answer.status, answer.version) == (200, CHAMPION)
        assert answer.headers["x-failover"] == "1"
        assert answer.headers["x-model-version"] == str(CHAMPION)
        assert answer.headers["x-variant"] == "challenger"
        assert verify(answer.headers["x-prediction-id"], KEY).variant is Variant.CHALLENGER
    for line in edge.logged(5):
        assert (line.version, line.variant) == (CHALLENGER, Variant.CHALLENGER)
        assert (line.status, line.server, line.retries) == (200, "failover", 1)


def test_the_deadline_of_the_challenger_does_not_bind_the_champion(edge: Edge) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT, deadline=timedelta(milliseconds=100))
    edge.behave(challenger=Mood.HANG, champion=Mood.SLOW)
    answer = edge.client().infer(("x-unit-id", "u"))
    assert (answer.status, answer.version) == (200, CHAMPION)


def test_a_challenger_within_its_deadline_is_waited_for(edge: Edge) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT, deadline=timedelta(seconds=20))
    edge.behave(challenger=Mood.SLOW)
    assert edge.client().infer(("x-unit-id", "u")).version == CHALLENGER
    [line] = edge.logged(1)
    assert line.took >= timedelta(milliseconds=400)


def test_an_ingress_that_restarts_loses_no_request(edge: Edge) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT, deadline=timedelta(milliseconds=100))
    before = asyncio.run(edge.runtime.counters()).failovers
    edge.ingress.refuse()
    answers: list[Answer] = []
    client = edge.client()
    asking = threading.Thread(target=lambda: answers.append(client.infer(("x-unit-id", "u"))))
    asking.start()
    try:
        # Nobody listened for the challenger; somebody will for the champion.
        while asyncio.run(edge.runtime.counters()).failovers == before:
            time.sleep(0.005)
    finally:
        edge.ingress.listen()
        asking.join()
    [answer] = answers
    assert (answer.status, answer.version) == (200, CHAMPION)
    [line] = edge.logged(1)
    assert (line.version, line.server) == (CHALLENGER, "failover")


@pytest.mark.parametrize("mood", [Mood.ERROR_500, Mood.ABSENT_404, Mood.CLOSE, Mood.RESET])
def test_the_previous_version_answers_for_a_failing_champion(edge: Edge, mood: Mood) -> None:
    edge.route(previous=PREVIOUS)
    edge.behave(champion=mood)
    answer = edge.client().infer()
    assert (answer.status, answer.version) == (200, PREVIOUS)
    assert answer.headers["x-model-version"] == str(PREVIOUS)
    assert answer.headers["x-failover"] == "1"
    [line] = edge.logged(1)
    assert (line.version, line.server) == (CHAMPION, "failover")


def test_a_champion_without_a_previous_version_is_asked_again(edge: Edge) -> None:
    edge.route()
    edge.behave(champion=[Mood.ERROR_500, Mood.ANSWER])
    answer = edge.client().infer()
    assert (answer.status, answer.version) == (200, CHAMPION)
    assert answer.headers["x-failover"] == "1"


def test_a_champion_failing_twice_in_the_challengers_place_is_asked_again(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.CLOSE, champion=[Mood.CLOSE, Mood.ERROR_500, Mood.ANSWER])
    assert edge.client().infer().status == 200


@pytest.mark.parametrize("mood", [Mood.ERROR_500, Mood.ABSENT_404, Mood.CLOSE, Mood.JUNK])
@pytest.mark.parametrize("cut", [0, EVERYBODY])
def test_when_nobody_answers_the_problem_says_so(edge: Edge, mood: Mood, cut: int) -> None:
    route = edge.route(cut=cut, unit=UNIT)
    edge.behave(champion=mood, challenger=mood)
    answer = edge.client().infer(("x-unit-id", "u"))
    assert_problem(answer, 503, "no_host_answered")
    assert answer.headers["x-route-epoch"] == str(route.epoch)
    assert not {"x-model-version", "x-prediction-id"} & answer.headers.keys()
    [line] = edge.logged(1)
    assert (line.status, line.server) == (503, "failover")


def test_when_nobody_listens_the_problem_says_so(edge: Edge) -> None:
    edge.route(cut=EVERYBODY, deadline=timedelta(milliseconds=50))
    edge.ingress.refuse()
    try:
        assert_problem(edge.client().infer(), 503, "no_host_answered")
    finally:
        edge.ingress.listen()


def test_what_the_client_did_wrong_is_no_failure_of_the_host(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.BAD_INPUT)
    answer = edge.client().infer()
    assert_problem(answer, 422, "bad_input")
    assert "x-failover" not in answer.headers
    assert answer.headers["x-model-version"] == str(CHALLENGER)


def test_a_failure_of_one_host_does_not_touch_the_other_variant(edge: Edge) -> None:
    edge.route(cut=5_000, unit=UNIT)
    edge.behave(challenger=Mood.RESET)
    client = edge.client()
    n = 100
    assert {client.infer(("x-unit-id", f"u{i}")).status for i in range(n)} == {200}
    for line in edge.logged(n):
        assert line.failed_over == (line.variant is Variant.CHALLENGER)
