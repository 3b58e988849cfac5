"""A shadow that does not work costs no user anything, and nothing of it is lost uncounted."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.e2e.edge_fixture import BODY, CHALLENGER, PATIENCE_SECONDS, await_listener, start
from tests.e2e.scripted_hosts import Script
from tests.e2e.shadow_fixture import (
    Shadow,
    answering,
    by_version,
    pairs_of,
    reasons_of,
    running_shadow,
)

AT_ONCE = 2
WAITING = 256
"""As many as the edge lets wait, see `serving.edge.config`."""
MEMORY = 192 * 1024


@pytest.fixture(scope="module")
def running() -> Iterator[Shadow]:
    with running_shadow(
        shadow_at_once=AT_ONCE, shadow_memory_bytes=MEMORY, shadow_body_bytes=MEMORY
    ) as shadow:
        yield shadow


@pytest.fixture
def shadow(running: Shadow) -> Iterator[Shadow]:
    if running.worker is None:
        running.start_worker()
    running.forget()
    yield running
    running.forget()


def held_by(event: Event) -> Script:
    """Take requests for the challenger, and answer them once `event` is set."""

    def script(call):
        assert event.wait(PATIENCE_SECONDS)
        answering(call)

    return by_version(challenger=script)


def test_users_are_answered_while_the_challenger_answers_nobody(shadow: Shadow) -> None:
    may_answer = shadow.hold()
    shadow.hosts.script = held_by(may_answer)
    shadow.route()
    asked = AT_ONCE + WAITING + 30
    with ThreadPoolExecutor(4) as clients:
        sure = [shadow.ask() for _ in range(AT_ONCE)]
        shadow.await_that(lambda: len(shadow.asked(CHALLENGER)) == AT_ONCE)
        rest = [*clients.map(lambda _: shadow.ask(), range(asked - AT_ONCE))]
    assert {answer.status for (answer,) in [*sure, *rest]} == {200}
    assert len(shadow.asked(CHALLENGER)) == AT_ONCE

    may_answer.set()
    lines = shadow.put_down(asked)
    assert len(pairs_of(lines)) == AT_ONCE + WAITING
    assert reasons_of(lines) == {"queue_full": 30}


def test_copies_take_no_more_memory_than_is_set(shadow: Shadow) -> None:
    may_answer = shadow.hold()
    shadow.hosts.script = held_by(may_answer)
    shadow.route()
    half = bytes(MEMORY // 2 - 4096)
    assert [a.status for _ in range(5) for a in shadow.ask(1, body=half)] == [200] * 5
    may_answer.set()
    lines = shadow.put_down(5)
    assert (len(pairs_of(lines)), reasons_of(lines)) == (2, {"queue_full": 3})

    # What was delivered has made room again.
    shadow.ask(1, body=half)
    assert len(pairs_of(shadow.put_down(1))) == 1


def test_nothing_is_lost_while_the_worker_does_not_run(shadow: Shadow) -> None:
    shadow.end_worker()
    shadow.route()
    asked = AT_ONCE + WAITING + 5
    with ThreadPoolExecutor(4) as clients:
        assert {a.status for (a,) in clients.map(lambda _: shadow.ask(), range(asked))} == {200}
    assert not shadow.asked(CHALLENGER)

    shadow.start_worker()
    lines = shadow.put_down(asked)
    assert len(pairs_of(lines)) >= WAITING
    assert reasons_of(lines).keys() <= {"queue_full"}


@pytest.mark.parametrize("times", [1, 2])
def test_a_worker_that_is_killed_over_requests_is_given_them_again(
    shadow: Shadow, times: int
) -> None:
    shadow.route()
    with ThreadPoolExecutor(4) as clients:
        for _ in range(times):
            may_answer = shadow.hold()
            shadow.hosts.script = held_by(may_answer)
            shadow.hosts.calls.clear()
            list(clients.map(lambda _: shadow.ask(), range(10)))
            shadow.await_that(lambda: len(shadow.asked(CHALLENGER)) >= AT_ONCE)
            shadow.end_worker()
            may_answer.set()
            shadow.start_worker()
    assert len(pairs_of(shadow.put_down(10 * times))) == 10 * times


def test_a_request_that_kills_every_worker_is_given_up(shadow: Shadow) -> None:
    may_answer = shadow.hold()
    shadow.hosts.script = held_by(may_answer)
    shadow.route()
    shadow.ask()
    for tries in range(1, 4):
        shadow.await_that(lambda tries=tries: len(shadow.asked(CHALLENGER)) == tries)
        shadow.end_worker()
        shadow.start_worker()
    assert reasons_of(shadow.put_down(1)) == {"worker_failed": 1}


def test_a_worker_that_is_killed_while_it_writes_counts_nothing_twice(shadow: Shadow) -> None:
    """Killed at any moment, again and again, under traffic."""
    shadow.route()
    with ThreadPoolExecutor(2) as clients:
        asked = [clients.submit(shadow.ask, 150) for _ in range(2)]
        for _ in range(3):
            shadow.await_that(lambda: shadow.log.stat().st_size > 0)
            shadow.end_worker()
            shadow.start_worker()
        assert {a.status for found in asked for a in found.result()} == {200}
    lines = shadow.put_down(300)
    assert reasons_of(lines).keys() <= {"queue_full"}


def test_a_worker_that_hangs_keeps_nobody_waiting(shadow: Shadow) -> None:
    shadow.route()
    assert shadow.worker is not None
    shadow.worker.send_signal(signal.SIGSTOP)
    try:
        assert {answer.status for answer in shadow.ask(20)} == {200}
    finally:
        shadow.worker.send_signal(signal.SIGCONT)
    assert len(pairs_of(shadow.put_down(20))) == 20


def test_what_the_agent_has_not_written_down_is_counted(shadow: Shadow) -> None:
    shadow.route()
    known = shadow.edge.files.folder / "routes.json"
    body = known.read_bytes()
    known.write_bytes(b"{}")
    shadow.ask(2)
    assert reasons_of(shadow.put_down(2)) == {"unknown_experiment": 2}
    known.write_bytes(body)
    shadow.ask()
    assert len(pairs_of(shadow.put_down(1))) == 1


def test_a_log_that_is_replaced_is_written_anew(shadow: Shadow) -> None:
    shadow.route()
    shadow.ask()
    shadow.put_down(1)
    shadow.log.unlink()
    shadow.forget()
    shadow.ask(2)
    assert len(pairs_of(shadow.put_down(2))) == 2


def test_a_second_worker_is_refused(shadow: Shadow) -> None:
    first = shadow.worker
    shadow.start_worker()
    second, shadow.worker = shadow.worker, first
    assert second is not None
    assert second.wait(PATIENCE_SECONDS) == 1
    shadow.route()
    shadow.ask()
    assert len(pairs_of(shadow.put_down(1))) == 1


@pytest.mark.parametrize("step", ["Shadow:began(txn, message)", "Shadow:is_complete(txn)"])
def test_a_defect_of_the_filter_breaks_no_answer_off(shadow: Shadow, step: str) -> None:
    program = shadow.edge.files.folder / "shadow.lua"
    sound = program.read_text()
    try:
        program.write_text(sound.replace(f"function {step}", f"function {step} error('defect')"))
        restart(shadow)
        shadow.route()
        assert {answer.status for answer in shadow.ask(3)} == {200}
        assert reasons_of(shadow.put_down(3)) == {"error": 3}
    finally:
        program.write_text(sound)
        restart(shadow)


def restart(shadow: Shadow) -> None:
    edge = shadow.edge
    edge.process.terminate()
    edge.process.wait()
    edge.process = start(edge.settings)
    await_listener(edge.settings.edge_port, edge.process)


def test_an_edge_that_is_to_end_does_not_wait_for_the_shadow(shadow: Shadow) -> None:
    edge = shadow.edge
    shadow.route()
    shadow.ask(1, body=BODY)
    shadow.put_down(1)
    edge.forget()
    edge.process.send_signal(signal.SIGUSR1)
    assert edge.process.wait(PATIENCE_SECONDS) == 0
    edge.process = start(edge.settings)
    await_listener(edge.settings.edge_port, edge.process)
