"""The real HAProxy, configured as the edge: who gets a request, what is said of it, who answers."""

import asyncio
import re
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from experiments.assignment import MAX_UNIT_BYTES, assign, bucket, slot, unit_bytes
from experiments.model import BasisPoints, HeaderUnit, RequestUnit, Variant
from experiments.prediction import verify
from serving.edge.config import write
from serving.errors import EdgeStopped, UnusableEdgeFolder
from serving.routes import map_value
from tests.e2e.edge_fixture import (
    BODY,
    CHALLENGER,
    CHAMPION,
    FAILURES,
    KEY,
    MODEL,
    PATIENCE_SECONDS,
    PREVIOUS,
    Answer,
    Client,
    Edge,
    Mood,
    await_listener,
    edge,
    make_route,
    running,
    running_edge,
    start,
)

__all__ = ["edge", "running"]

UNIT = HeaderUnit("x-unit-id")
EVERYBODY = 10_000
VERSION = {Variant.CHAMPION: CHAMPION, Variant.CHALLENGER: CHALLENGER}

# Whatever a header value can carry in UTF-8, blanks around it included.
header_values = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\t"), min_size=1)
    .map(lambda text: text.encode())
    .filter(lambda raw: raw.strip(b" \t") and len(raw.strip(b" \t")) <= MAX_UNIT_BYTES)
)
salts = st.text(
    st.characters(exclude_categories=("Cs",)).filter(str.isprintable), min_size=1, max_size=63
)


# ---- which version


@settings(max_examples=150, deadline=None)
@given(
    salt=salts,
    cuts=st.tuples(st.integers(0, EVERYBODY), st.integers(0, EVERYBODY)),
    values=st.lists(header_values, min_size=1, max_size=5),
)
@example(
    salt="digits-v2", cuts=(0, 5_000), values=[b"a, b", b'"q" \\ x', b"a|b;c", "😀 é".encode()]
)
@example(
    salt="a b\\ ;#|é",
    cuts=(500, 2_500),
    values=[b"x" * 256, b" \t x \t", b",", b"%41", b"\xc2\xa0"],
)
@example(salt="<<", cuts=(0, 0), values=[b"u"])
def test_edge_and_reference_assign_alike(
    running: Edge, salt: str, cuts: tuple[int, int], values: list[bytes]
) -> None:
    floor, cut = map(BasisPoints, sorted(cuts))
    running.route(cut=cut, floor=floor, unit=UNIT, salt=salt)
    client = running.client()
    for value in values:
        unit = unit_bytes(value)
        variant = assign(unit, salt=salt, cut=cut, floor=floor)
        meets = Variant.CHAMPION if variant is Variant.CHAMPION else Variant.CHALLENGER
        answer = client.infer(("X-Unit-Id", value))
        assert (answer.status, answer.version) == (200, VERSION[meets])
        assert answer.headers["x-variant"] == meets
        prediction = verify(answer.headers["x-prediction-id"], KEY)
        assert (prediction.variant, prediction.slot) == (variant, slot(unit, salt=salt))
    running.forget()


@pytest.mark.parametrize("user", [b"user-1", b"user-2", b"user-3"])
def test_cut_and_floor_belong_to_the_side_above(edge: Edge, user: bytes) -> None:
    at = bucket(user, salt="trial")
    client = edge.client()
    for floor, cut, expected in (
        (0, at, Variant.CHAMPION),
        (0, at + 1, Variant.CHALLENGER),
        (at, at + 1, Variant.CHALLENGER),
        (at + 1, at + 1, Variant.VETERAN),
    ):
        edge.route(cut=cut, floor=floor, unit=UNIT)
        answer = client.infer(("x-unit-id", user))
        assert verify(answer.headers["x-prediction-id"], KEY).variant is expected


def test_growing_a_share_moves_nobody_out_of_the_challenger(edge: Edge) -> None:
    client = edge.client()
    users = [f"user-{i}" for i in range(300)]
    before: set[str] = set()
    for cut in (500, 2_500, 5_000):
        edge.route(cut=cut, unit=UNIT, salt="ramp")
        met = {user for user in users if client.infer(("x-unit-id", user)).version == CHALLENGER}
        assert met == {
            user
            for user in users
            if assign(user.encode(), salt="ramp", cut=BasisPoints(cut)) is Variant.CHALLENGER
        }
        assert before <= met
        before = met


def test_requests_without_the_header_are_units_of_their_own(edge: Edge) -> None:
    edge.route(cut=2_500, unit=UNIT)
    client = edge.client()
    n = 800
    answers = [client.infer() for _ in range(n)]
    assert Counter(line.slot for line in edge.logged(n)) == {None: n}
    assert {verify(a.headers["x-prediction-id"], KEY).slot for a in answers} == {None}
    met = sum(answer.version == CHALLENGER for answer in answers)
    assert binomtest(met, n, 0.25).pvalue > 1e-6


def test_requests_as_units_are_assigned_by_their_nonce(edge: Edge) -> None:
    edge.route(cut=5_000, unit=RequestUnit(), salt="by-request")
    client = edge.client()
    for _ in range(50):
        answer = client.infer(("x-unit-id", ""))
        prediction = verify(answer.headers["x-prediction-id"], KEY)
        expected = assign(prediction.nonce.encode(), salt="by-request", cut=BasisPoints(5_000))
        assert (answer.headers["x-variant"], prediction.slot) == (expected, None)


def test_any_header_can_name_the_unit_and_its_last_value_counts(edge: Edge) -> None:
    edge.route(cut=5_000, unit=HeaderUnit("x-session"))
    client = edge.client()
    for i in range(40):
        answer = client.infer(("X-Session", "other"), ("X-SESSION", f"s{i}"), ("x-unit-id", ""))
        assert answer.version == VERSION[assign(b"s%d" % i, salt="trial", cut=BasisPoints(5_000))]


def test_a_unit_that_is_no_utf8_is_assigned_by_its_bytes(edge: Edge) -> None:
    edge.route(cut=5_000, unit=UNIT)
    client = edge.client()
    for raw in (b"\xff\xfe", b"\x80", b"caf\xe9"):
        expected = VERSION[assign(raw, salt="trial", cut=BasisPoints(5_000))]
        assert client.infer(("x-unit-id", raw)).version == expected


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", "unit_empty"),
        (b" \t ", "unit_empty"),
        (b"x" * 255, None),
        (b"x" * 256, None),
        (b"x" * 257, "unit_too_long"),
        (b"x" * 20_000, "unit_too_long"),
    ],
)
def test_a_unit_has_1_to_256_bytes(edge: Edge, value: bytes, code: str | None) -> None:
    edge.route(cut=5_000, unit=UNIT)
    answer = edge.client().infer(("x-unit-id", value))
    if code is None:
        assert answer.status == 200
        edge.logged(1)
    else:
        assert_problem(answer, 400, code)
        edge.logged(0)
        assert edge.ingress.calls == []


def test_the_header_does_not_matter_outside_an_experiment(edge: Edge) -> None:
    edge.route()
    assert edge.client().infer(("x-unit-id", "")).status == 200


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


# ---- bodies


@pytest.mark.parametrize("size", [1_000, 32 * 1024 - 1, 32 * 1024])
def test_what_fits_the_buffer_gets_its_second_try(edge: Edge, size: int) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.ERROR_500)
    single = asyncio.run(edge.runtime.counters()).single_try
    answer = edge.client().infer(("x-padding", "p" * 8_000), body=b"x" * size)
    assert (answer.status, answer.version) == (200, CHAMPION)
    assert asyncio.run(edge.runtime.counters()).single_try == single


def test_what_does_not_fit_has_one_try_and_is_counted(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    single = asyncio.run(edge.runtime.counters()).single_try
    large = b"x" * (256 * 1024)
    assert edge.client().infer(body=large).version == CHALLENGER
    edge.behave(challenger=Mood.ERROR_500)
    assert_problem(edge.client().infer(body=large), 503, "no_host_answered")
    assert asyncio.run(edge.runtime.counters()).single_try == single + 2


@pytest.mark.parametrize(
    ("size", "status"), [((1 << 20) - 1, 200), (1 << 20, 200), ((1 << 20) + 1, 413)]
)
def test_a_body_may_be_as_large_as_the_settings_say(edge: Edge, size: int, status: int) -> None:
    edge.route()
    answer = edge.client().infer(body=b"x" * size)
    assert answer.status == status
    if status == 413:
        assert_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    ("size", "status"), [(10, 200), (32 * 1024, 200), (32 * 1024 + 1, 413), (1 << 19, 413)]
)
@pytest.mark.parametrize("piece", [7, 4096])
def test_a_body_of_undeclared_length_has_to_fit_the_buffer(
    edge: Edge, size: int, status: int, piece: int
) -> None:
    edge.route()
    pieces = [b"x" * min(piece, size - at) for at in range(0, size, piece)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in pieces) + b"0\r\n\r\n"
    head = (
        f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = raw(edge, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert (status == 200) == (b"body_too_large" not in answer)


def test_a_body_that_comes_late_is_waited_for(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    edge.behave(challenger=Mood.ERROR_500)
    with socket.create_connection(("127.0.0.1", edge.settings.edge_port)) as late:
        head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: e\r\nContent-Length: {len(BODY)}"
        late.sendall(f"{head}\r\n\r\n".encode() + BODY[:3])
        time.sleep(0.1)
        assert edge.ingress.calls == []
        late.sendall(BODY[3:])
        assert late.recv(65536).startswith(b"HTTP/1.1 200 ")


# ---- paths


def test_a_pinned_version_is_no_exposure(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    answer = edge.client().request(
        "POST", f"/v2/models/{MODEL}/versions/{PREVIOUS}/infer", body=BODY
    )
    assert (answer.status, answer.version) == (200, PREVIOUS)
    assert answer.headers["x-model-version"] == str(PREVIOUS)
    assert not {"x-experiment", "x-variant"} & answer.headers.keys()
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert (prediction.version, prediction.experiment) == (PREVIOUS, None)
    edge.logged(0)


@pytest.mark.parametrize("mood", [Mood.ERROR_500, Mood.ERROR_503, Mood.CLOSE])
def test_nobody_answers_for_a_pinned_version(edge: Edge, mood: Mood) -> None:
    edge.route(previous=PREVIOUS)
    edge.behave(champion=mood)
    path = f"/v2/models/{MODEL}/versions/{CHAMPION}/infer"
    assert_problem(edge.client().request("POST", path, body=BODY), 503, "no_host_answered")
    assert {version for version, _, _ in edge.ingress.calls} == {CHAMPION}


@pytest.mark.parametrize("path", ["infer", "ready", ""])
def test_a_version_that_is_not_deployed_is_unknown(edge: Edge, path: str) -> None:
    edge.route()
    edge.behave(previous=Mood.ABSENT_404)
    answer = edge.client().request(
        "POST" if path == "infer" else "GET",
        f"/v2/models/{MODEL}/versions/{PREVIOUS}/{path}".rstrip("/"),
        body=BODY if path == "infer" else None,
    )
    assert_problem(answer, 404, "unknown_version")


@pytest.mark.parametrize(
    ("asked", "host"),
    [
        (f"/v2/models/{MODEL}", f"/hosts/{MODEL}/{CHAMPION}"),
        (f"/v2/models/{MODEL}/ready", f"/hosts/{MODEL}/{CHAMPION}/ready"),
        (f"/v2/models/{MODEL}/versions/3", f"/hosts/{MODEL}/3"),
        (f"/v2/models/{MODEL}/versions/3/ready", f"/hosts/{MODEL}/3/ready"),
        (f"/v2/models/{MODEL}/versions/3/live", f"/hosts/{MODEL}/3/live"),
    ],
)
def test_metadata_and_readiness_are_the_hosts_to_tell(edge: Edge, asked: str, host: str) -> None:
    edge.route(cut=EVERYBODY)
    answer = edge.client().request("GET", asked)
    assert answer.status == 200
    assert [path for _, path, _ in edge.ingress.calls] == [host]
    assert answer.headers["x-model-version"] == host.split("/")[3]
    assert not {"x-prediction-id", "x-variant"} & answer.headers.keys()
    edge.logged(0)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v2/models/nope/infer", 404, "unknown_model"),
        ("GET", "/v2/models/nope", 404, "unknown_model"),
        ("GET", "/v2/models/nope/ready", 404, "unknown_model"),
        ("POST", "/v2/models/DIGITS/infer", 404, "unknown_model"),
        ("POST", "/v2/models/%64igits/infer", 404, "unknown_model"),
        ("POST", "/v2/models/../versions/1/infer", 404, "unknown_model"),
        ("POST", f"/v2/models/{MODEL}/versions/x/infer", 404, "unknown_version"),
        ("POST", f"/v2/models/{MODEL}/versions/0/infer", 404, "unknown_version"),
        ("POST", f"/v2/models/{MODEL}/versions/../infer", 404, "unknown_version"),
        ("GET", "/", 404, "unknown_path"),
        ("GET", "/v2/", 404, "unknown_path"),
        ("POST", f"/v2/models/{MODEL}/infer/", 404, "unknown_path"),
        ("POST", f"/v2/models/{MODEL}/explain", 404, "unknown_path"),
        ("POST", f"/hosts/{MODEL}/1/infer", 404, "unknown_path"),
        ("GET", f"/v2/models/{MODEL}/infer", 405, "method_not_allowed"),
        ("DELETE", f"/v2/models/{MODEL}", 405, "method_not_allowed"),
        ("POST", "/v2/health/ready", 405, "method_not_allowed"),
    ],
)
def test_what_cannot_be_served_gets_a_problem_document(
    edge: Edge, method: str, path: str, status: int, code: str
) -> None:
    edge.route()
    answer = edge.client().request(method, path, body=b"")
    assert_problem(answer, status, code)
    assert ("allow" in answer.headers) == (status == 405)
    assert edge.ingress.calls == []
    edge.logged(0)


def test_the_edge_tells_of_itself(edge: Edge) -> None:
    client = edge.client()
    assert client.request("GET", "/v2").json["name"] == "tiltyard"
    assert client.request("GET", "/v2/health/live").json == {"live": True}
    assert client.request("HEAD", "/v2/health/live").status == 200


def test_the_edge_is_ready_once_it_has_a_route(edge: Edge) -> None:
    client = edge.client()
    edge.files.routes.write_text("")
    assert_problem(client.request("GET", "/v2/health/ready"), 503, "not_ready")
    edge.files.routes.write_text(f"{MODEL} {map_value(make_route(1))}\n")
    assert client.request("GET", "/v2/health/ready").json == {"ready": True}


def test_a_route_of_another_release_is_refused_and_breaks_nothing(edge: Edge) -> None:
    asyncio.run(edge.runtime.set_route(MODEL, "of|another|kind"))
    client = edge.client()
    assert_problem(client.infer(), 503, "route_unreadable")
    edge.route()
    assert client.infer().status == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NOT HTTP\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: e\r\nContent-Length: x\r\n\r\n",
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: e\r\nx-unit-id: a\0b\r\n\r\n",
    ],
)
def test_malformed_http_is_refused_and_not_logged(edge: Edge, request_bytes: bytes) -> None:
    edge.route()
    assert raw(edge, request_bytes).startswith(b"HTTP/1.1 400 ")
    assert edge.client().infer().status == 200
    edge.logged(1)


# ---- routes that change


def test_flipping_routes_under_load_loses_no_request(edge: Edge) -> None:
    """Nor does a request that starts after a change has returned obey the route before."""
    edge.route(champion=CHAMPION)
    first = edge.epoch
    stop = threading.Event()
    seen: list[tuple[float, Answer]] = []

    def ask(client: Client) -> None:
        while not stop.is_set():
            started = time.monotonic()
            seen.append((started, client.infer()))

    threads = [threading.Thread(target=ask, args=(edge.client(),)) for _ in range(8)]
    flips: list[tuple[float, int]] = []
    for thread in threads:
        thread.start()
    try:
        for flip in range(100):
            edge.route(champion=(CHALLENGER, CHAMPION)[flip % 2])
            flips.append((time.monotonic(), edge.epoch))
            while len(seen) < 10 * len(flips):
                time.sleep(0.001)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert Counter(answer.status for _, answer in seen) == {200: len(seen)}
    for started, answer in seen:
        epoch = int(answer.headers["x-route-epoch"])
        assert answer.version == (CHAMPION, CHALLENGER)[(epoch - first) % 2]
        assert epoch >= max((at for when, at in flips if when < started), default=first)
    lines = edge.logged(len(seen))
    assert Counter(line.epoch for line in lines) == Counter(
        int(answer.headers["x-route-epoch"]) for _, answer in seen
    )


def test_routes_can_be_read_back_and_removed(edge: Edge) -> None:
    route = edge.route(cut=500, unit=UNIT, salt="with blank; | and \\ é")

    async def story() -> None:
        assert (await edge.runtime.routes())[MODEL] == map_value(route)
        await edge.runtime.delete_route(MODEL)
        await edge.runtime.delete_route(MODEL)
        assert MODEL not in await edge.runtime.routes()

    asyncio.run(story())
    assert_problem(edge.client().infer(), 404, "unknown_model")


def test_counters_count_inferences_apart_from_the_rest(edge: Edge) -> None:
    edge.route(cut=EVERYBODY)
    before = asyncio.run(edge.runtime.counters())
    client = edge.client()
    client.infer()
    edge.behave(challenger=Mood.ERROR_500)
    client.infer()
    client.request("GET", "/v2")
    edge.logged(2)
    after = asyncio.run(edge.runtime.counters())
    assert after.requests - before.requests == 3
    assert after.routed - before.routed == 2
    assert after.failovers - before.failovers == 1
    assert after.dropped_lines == 0


# ---- the process


def test_an_edge_starts_with_the_routes_in_its_file_and_logs_requests_only() -> None:
    with running_edge() as edge:
        edge.files.routes.write_text(f"{MODEL} {map_value(make_route(7, cut=0))}\n")
        edge.client().request("GET", "/v2")
        edge.process.terminate()
        edge.process.wait()
        with pytest.raises(EdgeStopped):
            asyncio.run(edge.runtime.routes())
        edge.process = start(edge.settings)
        await_listener(edge.settings.edge_port, edge.process)
        assert edge.client().infer().headers["x-route-epoch"] == "7"
        [line] = edge.logged(1)
        assert line.epoch == 7
        edge.process.terminate()
        assert edge.log_text().count("\n") == 1


def test_an_edge_that_is_started_again_keeps_what_the_last_one_logged() -> None:
    with running_edge() as edge:
        for _ in range(3):
            edge.route()
            assert edge.client().infer().status == 200
            edge.logged(1)
            edge.process.kill()
            edge.process.wait()
            edge.process = start(edge.settings)
            await_listener(edge.settings.edge_port, edge.process)
        assert edge.log_text().count("\n") == 3


def test_two_edges_cannot_share_a_port() -> None:
    with running_edge() as edge:
        second = start(edge.settings)
        try:
            assert second.wait(PATIENCE_SECONDS) != 0
        finally:
            second.kill()
        assert b"in use" in (edge.settings.edge_dir / "haproxy.err").read_bytes()


def test_the_key_is_in_no_file_of_the_edge_and_its_files_are_the_owners(edge: Edge) -> None:
    for file in (edge.files.config, edge.files.lua, edge.files.log):
        text = file.read_bytes()
        assert KEY not in text
        assert b"AAECAwQF" not in text
    assert edge.files.folder.stat().st_mode & 0o077 == 0
    assert edge.files.admin_socket.stat().st_mode & 0o077 == 0
    assert edge.files.log.stat().st_mode & 0o077 == 0


def test_a_folder_too_deep_for_sockets_is_refused(edge: Edge) -> None:
    deep = edge.settings.state_dir / ("x" * 90)
    with pytest.raises(UnusableEdgeFolder, match="too long"):
        write(edge.settings.model_copy(update={"state_dir": deep}))
    assert not deep.exists()


def assert_problem(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.json.keys() != {"code"}:
        assert answer.json["status"] == status
        assert {"type", "title", "detail", "next_step"} <= answer.json.keys()
        assert re.match("[A-Z]", answer.json["title"])


def raw(edge: Edge, request: bytes) -> bytes:
    """Send bytes and return the answer's, as far as they come at once."""
    with socket.create_connection(("127.0.0.1", edge.settings.edge_port)) as connection:
        connection.settimeout(30)
        sender = threading.Thread(target=_send_all, args=(connection, request))
        sender.start()
        try:
            return connection.recv(65536)
        finally:
            connection.shutdown(socket.SHUT_RDWR)
            sender.join()


def _send_all(connection: socket.socket, request: bytes) -> None:
    with suppress(OSError):  # the edge need not read what it has refused
        connection.sendall(request)
