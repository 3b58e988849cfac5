"""Answers that begin after their version was withdrawn: nobody gets them."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection

import pytest

from experiments.model import BasisPoints
from registry.refs import Version
from serving.edge.runtime import Incident
from tests.e2e.edge_checks import EVERYBODY, assert_problem
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    MODEL,
    PATIENCE_SECONDS,
    PREVIOUS,
    Edge,
    edge,
    make_route,
    running,
)
from tests.e2e.ingress import Mood
from tests.e2e.waiting import Waiting, waiting

__all__ = ["edge", "running", "waiting"]

OTHER = Version(7)


def withdrawn(edge: Edge) -> int:
    return asyncio.run(edge.runtime.incidents()).get(MODEL, {}).get(Incident.WITHDRAWN, 0)


def test_the_champion_answers_in_place_of_a_version_that_was_rolled_back(
    edge: Edge, waiting: Waiting
) -> None:
    before = withdrawn(edge)
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, 5)
    edge.route()
    answers = waiting.answers()
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
    edge: Edge, waiting: Waiting, change: dict[str, object]
) -> None:
    before = withdrawn(edge)
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, 1)
    edge.route(**change)
    answer = waiting.answer()
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
    edge: Edge, waiting: Waiting, change: dict[str, object]
) -> None:
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, 1)
    champion = edge.route(**change).champion
    answer = waiting.answer()
    assert (answer.version, answer.headers["x-failover"]) == (champion, "1")
    assert answer.headers["x-model-version"] == str(champion)


def test_a_challenger_that_fails_is_stood_in_for_by_whoever_is_champion_then(
    edge: Edge, waiting: Waiting
) -> None:
    edge.behave(challenger=Mood.ERROR_500)
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, 1)
    edge.route(champion=OTHER)
    answer = waiting.answer()
    assert (answer.version, answer.headers["x-model-version"]) == (OTHER, str(OTHER))


def test_the_version_behind_a_champion_stands_in_for_it(edge: Edge, waiting: Waiting) -> None:
    """It serves nobody otherwise, and yet is none that was withdrawn."""
    edge.behave(champion=Mood.ERROR_500)
    edge.route(previous=PREVIOUS)
    waiting.fill(CHAMPION, 1)
    edge.route(previous=PREVIOUS)
    answer = waiting.answer()
    assert (answer.version, answer.headers["x-model-version"]) == (PREVIOUS, str(PREVIOUS))


# ---- a new champion that is watched against the old one


def held_back(edge: Edge, cut: int, holdout: int = 0) -> None:
    """Route to a new champion on trial; `holdout` is the share that no experiment counts."""
    route = make_route(1, cut=cut, champion=CHALLENGER, previous=CHAMPION)
    edge.obey(replace(route, holdout=BasisPoints(holdout)))


@pytest.mark.parametrize("holdout", [0, EVERYBODY], ids=["counted", "held out"])
def test_a_new_champion_that_is_rolled_back_while_it_is_watched_answers_nobody(
    edge: Edge, waiting: Waiting, holdout: int
) -> None:
    before = withdrawn(edge)
    held_back(edge, EVERYBODY, holdout)
    waiting.fill(CHALLENGER, 1)
    edge.route()
    answer = waiting.answer()
    assert (answer.version, answer.headers["x-failover"]) == (CHAMPION, "1")
    assert withdrawn(edge) == before + 1


def test_who_is_not_counted_meets_a_watched_champion_and_nothing_is_said_of_it(edge: Edge) -> None:
    held_back(edge, EVERYBODY, EVERYBODY)
    answer = edge.client().infer()
    assert (answer.version, answer.headers["x-model-version"]) == (CHALLENGER, str(CHALLENGER))
    assert not {"x-experiment", "x-variant", "x-failover"} & answer.headers.keys()
    [line] = edge.logged(1)
    assert (line.experiment, line.variant, line.server) == (None, None, "host")


def test_who_is_held_back_never_gets_the_champion_that_was_rolled_back(
    edge: Edge, waiting: Waiting
) -> None:
    edge.behave(champion=[Mood.ERROR_500, Mood.ANSWER])
    held_back(edge, 0)
    waiting.fill(CHAMPION, 1)
    edge.route()
    answer = waiting.answer()
    assert (answer.version, answer.headers["x-model-version"]) == (CHAMPION, str(CHAMPION))
    assert [version for version, _, _ in edge.ingress.calls] == [CHAMPION, CHAMPION]


def test_a_champion_that_is_rolled_back_while_it_stands_in_answers_nobody(
    edge: Edge, waiting: Waiting
) -> None:
    """The request has had its second try, so its client is told to come back."""
    before = withdrawn(edge)
    edge.behave(champion=Mood.ERROR_500)
    held_back(edge, 0)
    waiting.fill(CHALLENGER, 1)
    edge.route()
    answer = waiting.answer()
    assert_problem(answer, 503, "version_withdrawn")
    assert answer.headers["retry-after"] == "1"
    assert withdrawn(edge) == before + 1


def test_a_champion_that_nobody_watches_finishes_what_it_was_asked(
    edge: Edge, waiting: Waiting
) -> None:
    edge.route(champion=CHALLENGER, previous=CHAMPION)
    waiting.fill(CHALLENGER, 1)
    edge.route()
    assert waiting.answer().version == CHALLENGER
    assert edge.client().infer().version == CHAMPION


# ---- what cannot be taken back


def test_a_request_too_large_for_a_second_try_is_told_to_come_back(
    edge: Edge, waiting: Waiting
) -> None:
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, 1, b"x" * 200_000)
    edge.route()
    answer = waiting.answer()
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
