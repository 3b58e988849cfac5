"""Answers that begin after their version was withdrawn: nobody gets them."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection

import pytest

from registry.refs import Version
from serving.edge.runtime import Incident
from tests.e2e.edge_checks import EVERYBODY, assert_problem
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    MODEL,
    PATIENCE_SECONDS,
    Answer,
    Edge,
    edge,
    running,
)
from tests.e2e.ingress import Mood

__all__ = ["edge", "running"]

OTHER = Version(7)


class Asked:
    """A request whose answer is awaited at a version that takes its time."""

    def __init__(self, edge: Edge, version: Version) -> None:
        self._edge, self._version = edge, version
        self._threads = ThreadPoolExecutor(8)
        self._answers: list[Future[Answer]] = []
        edge.ingress.hold(version)

    def ask(self, body: bytes = BODY) -> None:
        """Return when the request has reached the version."""
        arrived = len(self._edge.ingress.calls) + 1
        client = self._edge.client()
        self._answers.append(self._threads.submit(client.infer, body=body))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self._edge.ingress.calls) < arrived:
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def answers(self) -> list[Answer]:
        self._edge.ingress.let_go()
        return [answer.result() for answer in self._answers]

    def answer(self) -> Answer:
        """Let the version answer, and return what the client got."""
        [answer] = self.answers()
        return answer


@pytest.fixture
def asked(edge: Edge) -> Iterator[Asked]:
    asked = Asked(edge, CHALLENGER)
    yield asked
    asked.answers()


def withdrawn(edge: Edge) -> int:
    return asyncio.run(edge.runtime.incidents()).get(MODEL, {}).get(Incident.WITHDRAWN, 0)


def test_the_champion_answers_in_place_of_a_version_that_was_rolled_back(
    edge: Edge, asked: Asked
) -> None:
    before = withdrawn(edge)
    edge.route(cut=EVERYBODY)
    for _ in range(5):
        asked.ask()
    edge.route()
    answers = asked.answers()
    assert {(answer.status, answer.version) for answer in answers} == {(200, CHAMPION)}
    assert {answer.headers["x-failover"] for answer in answers} == {"1"}
    assert withdrawn(edge) == before + 5
    # It is the epoch that the request was routed by; the one after it is the champion's alone.
    assert {answer.headers["x-route-epoch"] for answer in answers} == {str(edge.epoch - 1)}
    assert all(line.failed_over for line in edge.logged(5))


@pytest.mark.parametrize(
    "change",
    [
        {"cut": 1},
        {"cut": EVERYBODY, "floor": 5_000, "salt": "another"},
        {"cut": EVERYBODY, "challengers": (OTHER, CHALLENGER), "dropped": (OTHER,)},
        {"champion": CHALLENGER},
        {"champion": CHALLENGER, "previous": CHAMPION, "cut": EVERYBODY},
        {"champion": OTHER, "cut": EVERYBODY},
    ],
    ids=["share", "stage", "other dropped", "promoted", "held back", "champion"],
)
def test_other_changes_of_the_route_take_no_answer_away(
    edge: Edge, asked: Asked, change: dict[str, object]
) -> None:
    before = withdrawn(edge)
    edge.route(cut=EVERYBODY)
    asked.ask()
    edge.route(**change)
    answer = asked.answer()
    assert (answer.version, answer.headers["x-model-version"]) == (CHALLENGER, str(CHALLENGER))
    assert "x-failover" not in answer.headers
    assert withdrawn(edge) == before


@pytest.mark.parametrize(
    "change",
    [
        {"cut": EVERYBODY, "challengers": (CHALLENGER, OTHER), "dropped": (CHALLENGER,)},
        {"cut": EVERYBODY, "challengers": (OTHER,)},
        {"champion": OTHER},
    ],
    ids=["dropped", "another experiment", "another champion"],
)
def test_a_version_that_serves_nobody_any_more_is_withdrawn_however_that_came(
    edge: Edge, asked: Asked, change: dict[str, object]
) -> None:
    edge.route(cut=EVERYBODY)
    asked.ask()
    edge.route(**change)
    answer = asked.answer()
    assert (answer.version, answer.headers["x-failover"]) == (CHAMPION, "1")


def test_a_new_champion_that_is_rolled_back_while_it_is_watched_answers_nobody(
    edge: Edge, asked: Asked
) -> None:
    edge.route(cut=EVERYBODY, champion=CHALLENGER, previous=CHAMPION)
    asked.ask()
    edge.route()
    answer = asked.answer()
    assert (answer.version, answer.headers["x-failover"]) == (CHAMPION, "1")


def test_a_champion_that_nobody_watches_finishes_what_it_was_asked(
    edge: Edge, asked: Asked
) -> None:
    edge.route(champion=CHALLENGER, previous=CHAMPION)
    asked.ask()
    edge.route()
    assert asked.answer().version == CHALLENGER
    assert edge.client().infer().version == CHAMPION


def test_a_request_too_large_for_a_second_try_is_told_to_come_back(
    edge: Edge, asked: Asked
) -> None:
    edge.route(cut=EVERYBODY)
    asked.ask(b"x" * 200_000)
    edge.route()
    answer = asked.answer()
    assert_problem(answer, 503, "version_withdrawn")
    assert answer.headers["retry-after"] == "1"
    assert not {"x-model-version", "x-prediction-id"} & answer.headers.keys()


def test_an_answer_that_had_begun_is_not_cut_off(edge: Edge) -> None:
    edge.ingress.hold(CHALLENGER)
    edge.behave(challenger=Mood.STREAM)
    edge.route(cut=EVERYBODY)
    connection = HTTPConnection("127.0.0.1", edge.settings.edge_port, timeout=PATIENCE_SECONDS)
    connection.request("POST", f"/v2/models/{MODEL}/infer", BODY)
    answer = connection.getresponse()
    edge.route()
    edge.ingress.let_go()
    assert answer.read() == b"data: first\n\ndata: last\n\n"
    assert answer.headers["x-model-version"] == str(CHALLENGER)
    connection.close()


def test_no_answer_of_a_challenger_begins_after_its_rollback_is_acknowledged(edge: Edge) -> None:
    """Under load, and by the log: `at` and `first` say when an answer began."""
    stop = time.monotonic() + 2.0
    away: list[tuple[datetime, datetime]] = []

    def ask(_: int) -> int:
        client, asked = edge.client(), 0
        while time.monotonic() < stop:
            assert client.infer().status == 200
            asked += 1
        return asked

    edge.route(cut=5_000)
    with ThreadPoolExecutor(16) as clients:
        asking = [clients.submit(ask, number) for number in range(16)]
        while time.monotonic() < stop - 0.1:
            edge.route()
            acknowledged = datetime.now(UTC)
            time.sleep(0.01)
            away.append((acknowledged, datetime.now(UTC) - timedelta(milliseconds=1)))
            edge.route(cut=5_000)
            time.sleep(0.02)
        requests = sum(each.result() for each in asking)
    begun = [
        line.at + line.first
        for line in edge.logged(requests)
        if line.version == CHALLENGER and not line.failed_over and line.first is not None
    ]
    assert len(begun) > 100
    assert withdrawn(edge) > 0, "or nothing was under way when the route changed"
    assert [at for at in begun for since, until in away if since < at < until] == []
