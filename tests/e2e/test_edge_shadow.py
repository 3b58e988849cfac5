"""Requests repeated to a challenger that no user meets: what each of them becomes."""

import asyncio
import http.client
import json
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from experiments.assignment import slot
from experiments.model import ExperimentName
from experiments.store.memory import MemoryStore
from serving.edge.pairline import NO_ANSWER
from serving.edge.pairs import PairsCollector
from serving.edge.routebook import Known
from tests.e2e.edge_checks import UNIT
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL, PATIENCE_SECONDS, PREVIOUS
from tests.e2e.scripted_hosts import Call, Script
from tests.e2e.shadow_fixture import (
    Shadow,
    by_version,
    outputs,
    pairs_of,
    reasons_of,
    running_shadow,
)

LARGEST = 64 * 1024
TOO_LARGE = bytes(LARGEST + 1)
PATH = f"/v2/models/{MODEL}/infer"


@pytest.fixture(scope="module")
def running() -> Iterator[Shadow]:
    with running_shadow(shadow_body_bytes=LARGEST, retry_body_bytes=32 * 1024) as shadow:
        yield shadow


@pytest.fixture
def shadow(running: Shadow) -> Iterator[Shadow]:
    running.forget()
    yield running
    running.forget()


# ---- every request


def test_every_request_becomes_one_pair(shadow: Shadow) -> None:
    shadow.route(unit=UNIT)
    units = [f"unit-{number}" for number in range(96)]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda unit: shadow.ask(1, ("X-Unit-Id", unit))[0], units))

    pairs = pairs_of(shadow.put_down(len(units)))
    assert counted(shadow)["pairs"] >= len(units)
    assert Counter(answer.status for answer in answers) == {200: len(units)}
    assert {pair.slot for pair in pairs} == {slot(unit.encode(), salt="trial") for unit in units}
    for pair in pairs:
        assert (pair.champion, pair.challenger) == (200, 200)
        assert (pair.agreed, pair.difference) == (True, 0.0)
        assert pair.champion_ms > 0
        assert pair.challenger_ms > 0
        about = pair.about
        assert (about.model, about.experiment, about.stage, about.version) == (
            MODEL,
            "trial",
            4,
            CHALLENGER,
        )


def counted(shadow: Shadow) -> Counter[str]:
    """Return what the agent makes of the whole log."""

    async def collect() -> Counter[str]:
        store = MemoryStore(now=lambda: datetime.now(UTC))
        collector = PairsCollector(shadow.log, edge="edge-0", store=store, known=Known)
        while await collector.step():
            pass
        assert collector.progress.malformed_lines == 0
        cells = (await store.readings(ExperimentName("trial"))).counts
        return Counter({cell.counter: count for cell, count in cells.items()})

    return asyncio.run(collect())


def test_users_see_nothing_of_it(shadow: Shadow) -> None:
    shadow.route(unit=UNIT)
    answer = shadow.ask(1, ("X-Unit-Id", "ann"))[0]
    shadow.put_down(1)
    assert answer.body == outputs(shadow.asked(CHAMPION)[0])
    assert answer.headers["x-model-version"] == str(CHAMPION)
    assert {"x-experiment", "x-variant", "x-failover"}.isdisjoint(answer.headers)
    assert shadow.edge.logged(1)[0].experiment is None


def test_only_units_below_the_cut_are_repeated(shadow: Shadow) -> None:
    shadow.route(unit=UNIT, cut=0)
    shadow.ask(5, ("X-Unit-Id", "ann"))
    shadow.route(unit=UNIT)
    shadow.ask(3, ("X-Unit-Id", "ann"))
    assert len(pairs_of(shadow.put_down(3))) == 3


@pytest.mark.parametrize("address", ["", "http://edge"], ids=["path", "whole address"])
def test_the_challenger_is_asked_exactly_what_the_champion_was(
    shadow: Shadow, address: str
) -> None:
    body = bytes(range(256)) * 200  # more than the edge can retry
    headers = [("X-Own", "one"), ("X-Own", "two"), ("Content-Type", "application/octet-stream")]
    shadow.route()
    client = shadow.edge.client()
    client.request("POST", f"{address}{PATH}?trace=1&b=%20", headers, body)

    shadow.put_down(1)
    (ours,), (theirs,) = shadow.asked(CHAMPION), shadow.asked(CHALLENGER)
    assert ours.path == f"/hosts/{MODEL}/{CHAMPION}/infer?trace=1&b=%20"
    assert theirs.body == ours.body == body
    assert theirs.path == ours.path.replace(f"/{CHAMPION}/", f"/{CHALLENGER}/")
    own = "x-tiltyard-"
    assert {k: v for k, v in theirs.headers.items() if not k.startswith(own)} == {
        k: v for k, v in ours.headers.items() if not k.startswith(own)
    }
    assert [k for k in theirs.headers if k.startswith(own)] == ["x-tiltyard-shadow"]
    assert "x-tiltyard-shadow" not in ours.headers


def test_nobody_outside_can_pretend_to_be_repeated(shadow: Shadow) -> None:
    shadow.route(cut=0)
    shadow.ask(1, ("X-Tiltyard-Shadow", "1"))
    assert "x-tiltyard-shadow" not in shadow.asked(CHAMPION)[0].headers


def test_answers_are_compared_with_the_declared_tolerance(shadow: Shadow) -> None:
    shadow.route(tolerance=0.1)
    for data in ("[1.0, 2.1]", "[1.0, 3.0]", "[1.0]", "[1.0, 2.0]"):
        shadow.hosts.script = by_version(
            challenger=lambda call, data=data: call.answer(outputs(call, data=data))
        )
        shadow.ask()
        shadow.await_that(lambda: len(shadow.asked(CHALLENGER)) == 1)
        shadow.await_that(lambda: bool(shadow.asked(CHALLENGER)))
        shadow.hosts.calls.clear()
    found = [(p.agreed, p.difference) for p in pairs_of(shadow.put_down(4))]
    assert [agreed for agreed, _ in found] == [True, False, False, True]
    assert [d if d is None else round(d, 9) for _, d in found] == [0.05, 0.5, None, 0.0]


def test_binary_tensors_are_compared(shadow: Shadow) -> None:
    def binary(*numbers: float) -> Script:
        def script(call: Call) -> None:
            data = struct.pack(f"<{len(numbers)}f", *numbers)
            output = {"name": "y", "datatype": "FP32", "shape": [2]}
            head = json.dumps(
                {"outputs": [{**output, "parameters": {"binary_data_size": len(data)}}]}
            ).encode()
            call.begin(
                **{
                    "content-type": "application/octet-stream",
                    "content-length": str(len(head) + len(data)),
                    "inference-header-content-length": str(len(head)),
                }
            )
            call.handler.wfile.write(head + data)

        return script

    shadow.route()
    shadow.hosts.script = by_version(champion=binary(1.0, 2.0), challenger=binary(1.0, 4.0))
    shadow.ask()
    (pair,) = pairs_of(shadow.put_down(1))
    assert (pair.agreed, pair.difference) == (False, 1.0)


# ---- answers of every kind


def test_an_answer_is_passed_on_while_it_comes(shadow: Shadow) -> None:
    """Users have the first part before the champion has sent the second."""
    seen = shadow.hold()

    def in_parts(call: Call) -> None:
        call.begin(**{"content-type": "application/json", "transfer-encoding": "chunked"})
        call.chunk(b'{"outputs"')
        assert seen.wait(PATIENCE_SECONDS)
        call.chunk(b": []}")
        call.chunk(b"")

    shadow.route()
    shadow.hosts.script = by_version(champion=in_parts, challenger=in_parts)
    connection = http.client.HTTPConnection("127.0.0.1", shadow.edge.settings.edge_port)
    connection.request("POST", PATH, b"{}")
    response = connection.getresponse()
    assert response.read(10) == b'{"outputs"'
    seen.set()
    assert response.read() == b": []}"
    connection.close()
    assert pairs_of(shadow.put_down(1))[0].agreed


def streamed(call: Call) -> None:
    call.begin(**{"content-type": "text/event-stream", "transfer-encoding": "chunked"})
    call.chunk(b"data: 1\n\n")
    call.chunk(b"")


def large(call: Call) -> None:
    call.answer(TOO_LARGE)


def large_in_parts(call: Call) -> None:
    call.begin(**{"content-type": "application/json", "transfer-encoding": "chunked"})
    for _ in range(5):
        call.chunk(bytes(LARGEST // 4))
    call.chunk(b"")


@pytest.mark.parametrize(
    ("champion", "challenger", "reason"),
    [
        (streamed, None, "streamed"),
        (large, None, "answer_too_large"),
        (large_in_parts, None, "answer_too_large"),
        (None, large, "challenger_answer_too_large"),
        (None, large_in_parts, "challenger_answer_too_large"),
        (lambda call: call.answer(b"full", status=429), None, "turned_away"),
    ],
)
def test_what_cannot_be_compared_is_counted(
    shadow: Shadow, champion: Script | None, challenger: Script | None, reason: str
) -> None:
    shadow.route()
    shadow.hosts.script = by_version(
        **{k: v for k, v in (("champion", champion), ("challenger", challenger)) if v}
    )
    shadow.ask(3)
    assert reasons_of(shadow.put_down(3)) == {reason: 3}
    if champion is not None:
        assert not shadow.asked(CHALLENGER)


def test_a_request_too_large_to_be_copied_is_answered_and_counted(shadow: Shadow) -> None:
    shadow.route()
    assert shadow.ask(1, body=TOO_LARGE)[0].status == 200
    assert reasons_of(shadow.put_down(1)) == {"body_too_large": 1}
    assert shadow.asked(CHAMPION)[0].body == TOO_LARGE


def test_a_large_request_that_can_be_copied_is_repeated(shadow: Shadow) -> None:
    body = bytes(range(256)) * (LARGEST // 256)
    shadow.route()
    shadow.ask(1, body=body)
    shadow.put_down(1)
    assert [call.body == body for call in shadow.hosts.calls] == [True, True]


def test_a_client_that_leaves_before_the_end_makes_no_pair(shadow: Shadow) -> None:
    left = shadow.hold()

    def half(call: Call) -> None:
        call.begin(**{"content-type": "application/json", "content-length": "40000"})
        call.handler.wfile.write(bytes(20000))
        left.wait(PATIENCE_SECONDS)
        call.break_off()

    shadow.route()
    shadow.hosts.script = by_version(champion=half)
    connection = http.client.HTTPConnection("127.0.0.1", shadow.edge.settings.edge_port)
    connection.request("POST", PATH, b"{}")
    connection.getresponse().read(10000)
    connection.close()
    left.set()
    assert reasons_of(shadow.put_down(1)) == {"unfinished": 1}


# ---- failures


def broken(call: Call) -> None:
    call.answer(b'{"code": "model_error"}', status=500)


def breaking_off(call: Call) -> None:
    call.begin(**{"content-type": "application/json", "content-length": "100"})
    call.handler.wfile.write(b"{")
    call.break_off()


def absent(call: Call) -> None:
    call.answer(b"Path not found", status=404, kind="text/plain")


@pytest.mark.parametrize(
    ("challenger", "status"),
    [
        (broken, 500),
        (breaking_off, NO_ANSWER),
        (lambda call: call.break_off(), 502),
        (absent, 503),
    ],
)
def test_a_challenger_that_fails_is_charged_with_it(
    shadow: Shadow, challenger: Script, status: int
) -> None:
    shadow.route()
    shadow.hosts.script = by_version(challenger=challenger)
    assert shadow.ask()[0].status == 200
    (pair,) = pairs_of(shadow.put_down(1))
    assert (pair.champion, pair.challenger) == (200, status)
    assert (pair.agreed, pair.difference) == (False, None)


def test_a_challenger_that_says_nothing_has_its_deadline(shadow: Shadow) -> None:
    said = shadow.hold()
    shadow.route(deadline=timedelta(milliseconds=100))
    shadow.hosts.script = by_version(challenger=lambda _: said.wait(PATIENCE_SECONDS) or None)
    shadow.ask(2)
    pairs = pairs_of(shadow.put_down(2))
    assert [pair.challenger for pair in pairs] == [504, 504]
    assert all(pair.challenger_ms > 50 for pair in pairs)


def test_a_champion_that_fails_is_charged_with_it_whoever_answers(shadow: Shadow) -> None:
    shadow.route(previous=PREVIOUS)
    shadow.hosts.script = by_version(champion=broken)
    assert shadow.ask()[0].headers["x-failover"] == "1"
    (pair,) = pairs_of(shadow.put_down(1))
    assert (pair.champion, pair.challenger, pair.agreed) == (NO_ANSWER, 200, None)


def test_a_champion_whom_nobody_can_replace_is_charged_too(shadow: Shadow) -> None:
    shadow.route(previous=PREVIOUS)
    shadow.hosts.script = lambda call: absent(call) if call.version != CHALLENGER else broken(call)
    assert shadow.ask()[0].status == 503
    (pair,) = pairs_of(shadow.put_down(1))
    assert (pair.champion, pair.challenger, pair.agreed) == (503, 500, None)


def test_two_refusals_agree(shadow: Shadow) -> None:
    shadow.route()
    shadow.hosts.script = lambda call: call.answer(b'{"code": "bad_input"}', status=422)
    assert shadow.ask()[0].status == 422
    (pair,) = pairs_of(shadow.put_down(1))
    assert (pair.champion, pair.challenger, pair.agreed) == (422, 422, True)
