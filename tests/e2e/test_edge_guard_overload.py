"""Too many requests under way: who is let in, who is told to come back, and what is counted."""

import asyncio
from collections.abc import Iterator

import pytest

from experiments.model import Variant
from serving.edge.runtime import Incident
from tests.e2e.edge_checks import EVERYBODY, assert_problem
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    MODEL,
    PREVIOUS,
    Answer,
    Edge,
    edge,
    running_edge,
)
from tests.e2e.ingress import Mood
from tests.e2e.waiting import Waiting, waiting

__all__ = ["edge", "waiting"]

MOST = 10
CROWDED = 8
"""Of `MOST`, four fifths: from so many on, the champion's hosts are for its own requests."""


@pytest.fixture(scope="module")
def running() -> Iterator[Edge]:
    with running_edge(version_in_flight=MOST, retry_body_bytes=32 * 1024) as edge:
        yield edge


def incidents(edge: Edge) -> dict[Incident, int]:
    return asyncio.run(edge.runtime.incidents()).get(MODEL, {})


def assert_told_to_come_back(answer: Answer) -> None:
    assert_problem(answer, 429, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert not {"x-model-version", "x-prediction-id", "x-failover"} & answer.headers.keys()


def test_the_champion_takes_as_many_requests_as_may_be_under_way(
    edge: Edge, waiting: Waiting
) -> None:
    before = incidents(edge).get(Incident.SHED_CHAMPION, 0)
    edge.route(previous=PREVIOUS)
    waiting.fill(CHAMPION, MOST)
    refused = edge.client().infer()
    assert_told_to_come_back(refused)
    assert refused.headers["x-route-epoch"] == str(edge.epoch)
    assert {answer.status for answer in waiting.answers()} == {200}
    assert edge.client().infer().status == 200
    edge.logged(MOST + 1)
    assert incidents(edge)[Incident.SHED_CHAMPION] == before + 1


def test_while_the_champion_is_crowded_no_request_is_one_of_an_experiment(
    edge: Edge, waiting: Waiting
) -> None:
    edge.route()
    waiting.fill(CHAMPION, CROWDED)
    edge.logged(0)

    edge.route(cut=EVERYBODY)
    refused = edge.client().infer()
    assert_told_to_come_back(refused)
    assert not {"x-experiment", "x-variant"} & refused.headers.keys()
    edge.logged(0)

    edge.route(cut=0)
    waiting.fill(CHAMPION, MOST - CROWDED)
    assert_told_to_come_back(edge.client().infer())
    answers = waiting.answers()
    assert {answer.status for answer in answers} == {200}
    assert not any("x-experiment" in answer.headers for answer in answers)
    assert {line.experiment for line in edge.logged(MOST)} == {None}


def test_below_the_mark_everybody_is_let_in_and_counted(edge: Edge, waiting: Waiting) -> None:
    edge.route()
    waiting.fill(CHAMPION, CROWDED - 1)
    edge.route(cut=EVERYBODY)
    assert edge.client().infer().version == CHALLENGER
    [line] = edge.logged(1)
    assert line.variant is Variant.CHALLENGER


def test_a_new_champion_comes_before_the_units_that_are_held_back(
    edge: Edge, waiting: Waiting
) -> None:
    edge.route(champion=CHALLENGER)
    waiting.fill(CHALLENGER, CROWDED)
    held_back = {"champion": CHALLENGER, "previous": CHAMPION}
    edge.route(cut=0, **held_back)
    assert_told_to_come_back(edge.client().infer())
    edge.route(cut=EVERYBODY, **held_back)
    waiting.fill(CHALLENGER, 1)
    answers = waiting.answers()
    assert {answer.version for answer in answers} == {CHALLENGER}
    assert not any("x-variant" in answer.headers for answer in answers)


@pytest.mark.parametrize("version", [CHAMPION, CHALLENGER])
def test_who_pins_a_version_comes_after_the_champions_own(
    edge: Edge, waiting: Waiting, version: int
) -> None:
    path = f"/v2/models/{MODEL}/versions/{version}/infer"
    edge.route()
    waiting.fill(CHAMPION, CROWDED)
    refused = edge.client().request("POST", path, body=BODY)
    assert_told_to_come_back(refused)
    assert refused.headers["x-route-epoch"] == str(edge.epoch)
    waiting.answers()
    assert edge.client().request("POST", path, body=BODY).version == version


def test_failovers_do_not_crowd_the_champion_out(edge: Edge, waiting: Waiting) -> None:
    edge.behave(challenger=Mood.ERROR_500)
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, 2)
    edge.route(cut=0)
    waiting.fill(CHAMPION, CROWDED - 1)
    before = incidents(edge).get(Incident.SHED_FAILOVER, 0)

    edge.ingress.let_go(CHALLENGER)
    [turned_away] = edge.logged(1)
    assert (turned_away.status, turned_away.variant) == (429, Variant.CHALLENGER)
    assert turned_away.failed_over, "the challenger has failed, whoever could not make up for it"
    assert incidents(edge)[Incident.SHED_FAILOVER] == before + 1

    answers = waiting.answers()
    assert sorted(answer.status for answer in answers) == [200] * (CROWDED) + [429]
    [refused] = [answer for answer in answers if answer.status == 429]
    assert_told_to_come_back(refused)
    assert refused.headers["x-variant"] == "challenger"


def test_a_challenger_that_hangs_holds_no_more_requests_than_may_be_under_way(
    edge: Edge, waiting: Waiting
) -> None:
    edge.route(cut=EVERYBODY)
    waiting.fill(CHALLENGER, MOST)
    answer = edge.client().infer()
    assert (answer.version, answer.headers["x-failover"]) == (CHAMPION, "1")
    [line] = edge.logged(1)
    assert (line.version, line.variant, line.failed_over) == (CHALLENGER, Variant.CHALLENGER, True)
    assert incidents(edge)[Incident.CHALLENGER_FULL] == 1


# ---- what the hosts say themselves


def test_a_champion_that_has_enough_to_do_is_not_asked_twice(edge: Edge) -> None:
    edge.route(previous=PREVIOUS)
    edge.behave(champion=Mood.BUSY_429)
    assert_told_to_come_back(edge.client().infer())
    assert {version for version, _, _ in edge.ingress.calls} == {CHAMPION}
    [line] = edge.logged(1)
    assert (line.status, line.failed_over) == (429, False)


def test_a_challenger_that_has_enough_to_do_turns_no_user_away(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.BUSY_429)
    answer = edge.client().infer()
    assert (answer.version, answer.headers["x-failover"]) == (CHAMPION, "1")
    [line] = edge.logged(1)
    assert (line.version, line.failed_over) == (CHALLENGER, True)


def test_who_pins_a_version_hears_that_it_has_enough_to_do(edge: Edge) -> None:
    edge.route()
    edge.behave(challenger=Mood.BUSY_429)
    path = f"/v2/models/{MODEL}/versions/{CHALLENGER}/infer"
    assert_told_to_come_back(edge.client().request("POST", path, body=BODY))


# ---- bodies that are refused before they have come


@pytest.mark.parametrize("size", [10, 4 * 1024 * 1024])
def test_a_refused_client_can_read_why_however_much_it_sends(
    edge: Edge, waiting: Waiting, size: int
) -> None:
    edge.route()
    waiting.fill(CHAMPION, MOST)
    assert_told_to_come_back(edge.client().infer(body=b"x" * size))
