"""The edge and the reference agree on what each unit meets, and as what it is counted."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from experiments.assignment import (
    Assigned,
    bucket,
    lane,
    segment,
    slot,
)
from experiments.identity import MAX_UNIT_BYTES, unit_bytes
from experiments.model import Segments, Variant
from experiments.prediction import verify
from experiments.unit import HeaderUnit, RequestUnit
from registry.refs import Version
from serving.meeting import assigned
from serving.routes import Route
from tests.e2e.edge_checks import EVERYBODY, UNIT, assert_problem
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, KEY, PREVIOUS, Answer, Edge, edge, running
from tests.e2e.ingress import Mood

__all__ = ["edge", "running"]

LANES = (CHALLENGER, Version(7), Version(8))
PLANS = Segments("x-plan", ("free", "pro", "a.b-c_D"))

# Whatever a header value can carry in UTF-8, blanks around it included.
header_values = (
    st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\t"), min_size=1)
    .map(lambda text: text.encode())
    .filter(lambda raw: raw.strip(b" \t") and len(raw.strip(b" \t")) <= MAX_UNIT_BYTES)
)
salts = st.text(
    st.characters(exclude_categories=("Cs",)).filter(str.isprintable), min_size=1, max_size=63
)
plans = st.sampled_from(
    [None, b"", b"free", b"pro", b" pro\t", b"PRO", b"a.b-c_D", b"a", b"free,pro", b"1", b"\xff"]
)
trials = st.fixed_dictionaries(
    {
        "salt": salts,
        "cuts": st.tuples(st.integers(0, EVERYBODY), st.integers(0, EVERYBODY)),
        "lanes": st.integers(1, len(LANES)),
        "gone": st.sets(st.sampled_from(LANES)),
        "segments": st.none() | st.just(PLANS),
    }
)


def expected(route: Route, unit: bytes) -> Assigned:
    """Return what the reference says."""
    (trial,) = route.trials
    return assigned(trial, route.control, unit)


def routed(edge: Edge, drawn: dict, **more: object) -> Route:
    """Let the edge obey what was drawn."""
    floor, cut = sorted(drawn["cuts"])
    lanes = more.pop("lanes", LANES[: drawn["lanes"]])
    dropped = tuple(version for version in lanes if version in drawn["gone"])
    return edge.route(
        salt=drawn["salt"],
        cut=cut,
        floor=floor,
        challengers=lanes,
        segments=drawn["segments"],
        **{"unit": UNIT, "dropped": dropped} | more,
    )


def assert_met(answer: Answer, assigned: Assigned, route: Route, plan: bytes | None) -> None:
    """Check an answer, and the id that it carries, against the reference."""
    met_control = assigned.version == route.control
    (trial,) = route.trials
    assert trial is not None
    assert (answer.status, answer.version) == (200, assigned.version)
    assert answer.headers["x-model-version"] == str(assigned.version)
    assert answer.headers["x-variant"] == ("champion" if met_control else "challenger")
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert (prediction.version, prediction.variant) == (assigned.version, assigned.variant)
    values = trial.segments.values if trial.segments else ()
    assert prediction.segment == segment(plan, values)


def in_plan(plan: bytes | None) -> list[tuple[str, bytes]]:
    return [] if plan is None else [("X-Plan", plan)]


@settings(max_examples=150, deadline=None)
@given(drawn=trials, users=st.lists(st.tuples(header_values, plans), min_size=1, max_size=5))
@example(
    drawn={"salt": "digits-v2", "cuts": (0, 5_000), "lanes": 1, "gone": set(), "segments": None},
    users=[(raw, None) for raw in (b"a, b", b'"q" \\ x', b"a|b;c", "😀 é".encode())],
)
@example(
    drawn={
        "salt": "a b\\ ;#|é",
        "cuts": (500, 2_500),
        "lanes": 2,
        "gone": set(),
        "segments": PLANS,
    },
    users=[(raw, b"pro") for raw in (b"x" * 256, b" \t x \t", b",", b"%41", b"\xc2\xa0")],
)
@example(
    drawn={"salt": "<<", "cuts": (0, 0), "lanes": 1, "gone": set(), "segments": None},
    users=[(b"u", b"free")],
)
@example(
    drawn={"salt": "s", "cuts": (100, 9_000), "lanes": 3, "gone": set(LANES), "segments": PLANS},
    users=[(b"u", b"free")],
)
def test_edge_and_reference_assign_alike(
    running: Edge, drawn: dict, users: list[tuple[bytes, bytes | None]]
) -> None:
    route = routed(running, drawn)
    client = running.client()
    for value, plan in users:
        unit = unit_bytes(value)
        answer = client.infer(("X-Unit-Id", value), *in_plan(plan))
        assert_met(answer, expected(route, unit), route, plan)
        prediction = verify(answer.headers["x-prediction-id"], KEY)
        assert prediction.slot == slot(unit, salt=drawn["salt"])
    running.forget()


@settings(max_examples=40, deadline=None)
@given(drawn=trials, users=st.lists(st.tuples(header_values, plans), min_size=1, max_size=5))
def test_edge_and_reference_agree_on_whom_a_holdback_holds_back(
    running: Edge, drawn: dict, users: list[tuple[bytes, bytes | None]]
) -> None:
    promoted = {"champion": CHALLENGER, "previous": CHAMPION, "lanes": (CHALLENGER,), "dropped": ()}
    route = routed(running, drawn, **promoted)
    assert route.control == CHAMPION
    client = running.client()
    for value, plan in users:
        answer = client.infer(("X-Unit-Id", value), *in_plan(plan))
        assert_met(answer, expected(route, unit_bytes(value)), route, plan)
    running.forget()


@settings(max_examples=40, deadline=None)
@given(drawn=trials, plan=plans)
def test_edge_and_reference_assign_requests_alike_by_their_nonce(
    running: Edge, drawn: dict, plan: bytes | None
) -> None:
    route = routed(running, drawn, unit=RequestUnit())
    answer = running.client().infer(("x-unit-id", ""), *in_plan(plan))
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert prediction.slot is None
    assert_met(answer, expected(route, prediction.nonce.encode()), route, plan)
    running.forget()


def test_the_log_says_the_same_as_the_prediction_id(edge: Edge) -> None:
    edge.route(
        cut=6_000, floor=2_000, unit=UNIT, challengers=LANES, dropped=LANES[2:], segments=PLANS
    )
    client = edge.client()
    plans = [b"free", b"pro", b"other"]
    answers = [client.infer(("x-unit-id", f"u{i}"), ("x-plan", plans[i % 3])) for i in range(150)]
    said = [verify(answer.headers["x-prediction-id"], KEY) for answer in answers]
    lines = edge.logged(150)
    for prediction, line in zip(said, lines, strict=True):
        assert (line.version, line.variant) == (prediction.version, prediction.variant)
        assert (line.slot, line.segment) == (prediction.slot, prediction.segment)
        # To the second: whoever counts by age must find request and outcome at the same one.
        assert int(line.at.timestamp()) == int(prediction.minted_at.timestamp())
    assert {(line.variant, line.version) for line in lines} == {
        (Variant.CHAMPION, CHAMPION),
        (Variant.VETERAN, CHAMPION),
        *((variant, v) for variant in ("challenger", "veteran") for v in LANES[:2]),
    }
    assert {line.segment for line in lines} == {0, 1, 2}


def test_a_segment_is_the_last_value_of_its_header(edge: Edge) -> None:
    edge.route(cut=5_000, segments=PLANS)
    client = edge.client()
    for plans, index in (
        ([], 0),
        (["free"], 1),
        (["pro", "free"], 1),
        (["free", "pro"], 2),
        (["free", "x"], 0),
    ):
        answer = client.infer(*(("X-PLAN", plan) for plan in plans))
        assert verify(answer.headers["x-prediction-id"], KEY).segment == index


@pytest.mark.parametrize("user", [b"user-1", b"user-2", b"user-3"])
def test_cut_and_floor_belong_to_the_side_above(edge: Edge, user: bytes) -> None:
    at = bucket(user, salt="trial")
    client = edge.client()
    for floor, cut, variant in (
        (0, at, Variant.CHAMPION),
        (0, at + 1, Variant.CHALLENGER),
        (at, at + 1, Variant.CHALLENGER),
        (at + 1, at + 1, Variant.VETERAN),
    ):
        edge.route(cut=cut, floor=floor, unit=UNIT)
        answer = client.infer(("x-unit-id", user))
        assert verify(answer.headers["x-prediction-id"], KEY).variant is variant


def test_growing_a_share_moves_nobody_out_of_a_challenger(edge: Edge) -> None:
    client = edge.client()
    users = [f"user-{i}" for i in range(300)]
    before: set[tuple[str, int]] = set()
    for cut in (500, 2_500, 5_000):
        edge.route(cut=cut, unit=UNIT, salt="ramp", challengers=LANES)
        met = {(user, client.infer(("x-unit-id", user)).version) for user in users}
        on_trial = {(user, version) for user, version in met if version != CHAMPION}
        assert before <= on_trial
        before = on_trial
    assert {version for _, version in before} == set(LANES)


def test_dropping_a_challenger_moves_only_the_units_of_its_lane(edge: Edge) -> None:
    client = edge.client()
    users = [f"user-{i}" for i in range(100)]

    def met() -> dict[str, int]:
        return {user: client.infer(("x-unit-id", user)).version for user in users}

    edge.route(cut=5_000, unit=UNIT, challengers=LANES)
    before = met()
    edge.route(cut=5_000, unit=UNIT, challengers=LANES, dropped=LANES[1:2])
    after = met()
    for user in users:
        dropped = lane(user.encode(), salt="trial", lanes=len(LANES)) == 1
        assert after[user] == (CHAMPION if dropped else before[user])


# ---- who answers for whom


@pytest.mark.parametrize("challenger", LANES)
def test_the_champion_answers_for_each_failing_challenger(edge: Edge, challenger: Version) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT, challengers=LANES, previous=PREVIOUS)
    edge.ingress.moods = {challenger: [Mood.ERROR_500]}
    client = edge.client()
    answers = [client.infer(("x-unit-id", f"u{i}")) for i in range(40)]
    assert {answer.status for answer in answers} == {200}
    assert {answer.version for answer in answers} == {*LANES, CHAMPION} - {challenger}
    for line in edge.logged(40):
        assert line.failed_over == (line.version == challenger)


def test_the_old_champion_answers_for_a_failing_new_one(edge: Edge) -> None:
    edge.route(
        cut=9_000, unit=UNIT, champion=CHALLENGER, previous=CHAMPION, deadline=timedelta(seconds=1)
    )
    edge.behave(challenger=Mood.ERROR_500)
    client = edge.client()
    answers = [client.infer(("x-unit-id", f"u{i}")) for i in range(40)]
    assert {(answer.status, answer.version) for answer in answers} == {(200, CHAMPION)}
    for answer, line in zip(answers, edge.logged(40), strict=True):
        assert line.failed_over == (line.version == CHALLENGER)
        assert answer.headers["x-variant"] == line.variant
        assert answer.headers["x-model-version"] == str(CHAMPION)


def test_the_new_champion_answers_for_a_failing_old_one(edge: Edge) -> None:
    edge.route(cut=1_000, unit=UNIT, champion=CHALLENGER, previous=CHAMPION)
    edge.behave(champion=Mood.ERROR_500)
    client = edge.client()
    answers = [client.infer(("x-unit-id", f"u{i}")) for i in range(40)]
    assert {(answer.status, answer.version) for answer in answers} == {(200, CHALLENGER)}
    for answer, line in zip(answers, edge.logged(40), strict=True):
        assert line.failed_over == (line.version == CHAMPION)
        assert answer.headers["x-variant"] == line.variant


def test_a_dropped_lane_is_served_as_the_champion_is(edge: Edge) -> None:
    edge.route(cut=EVERYBODY, unit=UNIT, dropped=(CHALLENGER,), previous=PREVIOUS)
    client = edge.client()
    assert client.infer(("x-unit-id", "u")).version == CHAMPION
    edge.behave(champion=Mood.ERROR_500)
    answer = client.infer(("x-unit-id", "u"))
    assert (answer.status, answer.version) == (200, PREVIOUS)
    assert answer.headers["x-variant"] == "champion"


# ---- what names a unit


def test_requests_without_the_header_are_units_of_their_own(edge: Edge) -> None:
    edge.route(cut=2_500, unit=UNIT)
    client = edge.client()
    n = 800
    answers = [client.infer() for _ in range(n)]
    assert Counter(line.slot for line in edge.logged(n)) == {None: n}
    assert {verify(a.headers["x-prediction-id"], KEY).slot for a in answers} == {None}
    met = sum(answer.version == CHALLENGER for answer in answers)
    assert binomtest(met, n, 0.25).pvalue > 1e-6


def test_any_header_can_name_the_unit_and_its_last_value_counts(edge: Edge) -> None:
    route = edge.route(cut=5_000, unit=HeaderUnit("x-session"))
    client = edge.client()
    for i in range(40):
        answer = client.infer(("X-Session", "other"), ("X-SESSION", f"s{i}"), ("x-unit-id", ""))
        assert answer.version == expected(route, b"s%d" % i).version


def test_a_unit_that_is_no_utf8_is_assigned_by_its_bytes(edge: Edge) -> None:
    route = edge.route(cut=5_000, unit=UNIT)
    client = edge.client()
    for raw in (b"\xff\xfe", b"\x80", b"caf\xe9"):
        assert client.infer(("x-unit-id", raw)).version == expected(route, raw).version


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
