"""Several experiments of one model at once, and those who are in none."""

from dataclasses import replace

import pytest

from experiments.assignment import holdout_bucket, layer_bucket
from experiments.audience import Among, Audience, Compared, Order
from experiments.model import BasisPoints, Layer, Variant
from experiments.prediction import verify
from registry.refs import Version
from serving.routes import Route, Trial
from tests.e2e.edge_checks import EVERYBODY, assert_problem
from tests.e2e.edge_fixture import (
    CHALLENGER,
    CHAMPION,
    KEY,
    MODEL,
    Answer,
    Client,
    Edge,
    Mood,
    edge,
    make_route,
    running,
)
from tests.unit.trials import layer, trial

__all__ = ["edge", "running"]

OTHER = Version(7)
USERS = [b"user-%d" % number for number in range(300)]


def routed(edge: Edge, *trials: Trial, holdout: int = 0) -> Route:
    return edge.obey(replace(make_route(1), trials=trials, holdout=BasisPoints(holdout)))


def asked(client: Client, user: bytes) -> Answer:
    return client.infer(("x-unit-id", user))


def assert_outside(answer: Answer) -> None:
    """Served by the champion, and counted nowhere."""
    assert (answer.status, answer.version) == (200, CHAMPION)
    assert "x-experiment" not in answer.headers
    assert "x-variant" not in answer.headers
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    assert (prediction.experiment, prediction.variant, prediction.slot) == (None, None, None)


# ---- layers


def test_experiments_of_a_layer_share_no_unit(edge: Edge) -> None:
    routed(edge, trial(CHALLENGER, layer=layer(0, 4_000)), trial(OTHER, layer=layer(5_000, 10_000)))
    client = edge.client()
    for user in USERS:
        at = layer_bucket(user, layer="checkout")
        answer = asked(client, user)
        if 4_000 <= at < 5_000:
            assert_outside(answer)
            continue
        challenger = CHALLENGER if at < 4_000 else OTHER
        assert answer.version == challenger
        assert answer.headers["x-experiment"] == f"trial-{challenger}"
    lines = edge.logged(len(USERS))
    assert {(line.experiment, line.version, line.variant) for line in lines} == {
        ("trial-2", CHALLENGER, Variant.CHALLENGER),
        ("trial-7", OTHER, Variant.CHALLENGER),
        (None, CHAMPION, None),
    }


@pytest.mark.parametrize("user", USERS[:3])
def test_the_bounds_of_a_part_belong_to_the_side_above(edge: Edge, user: bytes) -> None:
    at = layer_bucket(user, layer="checkout")
    client = edge.client()
    for part, inside in (
        (layer(at, at + 1), True),
        (layer(0, at), False),
        (layer(at + 1, EVERYBODY), False),
        (layer(0, at + 1), True),
    ):
        routed(edge, trial(CHALLENGER, layer=part))
        assert (asked(client, user).version == CHALLENGER) == inside


def test_one_experiment_that_ends_moves_nobody_of_the_other(edge: Edge) -> None:
    one = trial(CHALLENGER, layer=layer(0, 5_000))
    other = trial(OTHER, 5_000, layer=layer(5_000, 10_000))
    client = edge.client()
    routed(edge, one, other)
    before = {user: asked(client, user).version for user in USERS}
    routed(edge, other)
    for user in USERS:
        expected = CHAMPION if before[user] == CHALLENGER else before[user]
        assert asked(client, user).version == expected
    assert set(before.values()) == {CHAMPION, CHALLENGER, OTHER}


def test_trials_that_may_share_a_unit_are_not_guessed_at(edge: Edge) -> None:
    """No agent writes such a route; one that is damaged is refused and not half obeyed."""
    elsewhere = Layer("b", BasisPoints(0), BasisPoints(1))
    for one, other in ((layer(0, 5_000), None), (None, None), (layer(0, 5_000), elsewhere)):
        routed(edge, trial(CHALLENGER, layer=one), trial(OTHER, layer=other))
        assert_problem(asked(edge.client(), b"u"), 503, "route_unreadable")


# ---- those who are held out


@pytest.mark.parametrize("user", USERS[:3])
def test_the_share_of_a_holdout_belongs_to_the_side_above(edge: Edge, user: bytes) -> None:
    at = holdout_bucket(user, model=MODEL)
    client = edge.client()
    routed(edge, trial(CHALLENGER), holdout=at)
    assert asked(client, user).version == CHALLENGER
    routed(edge, trial(CHALLENGER), holdout=at + 1)
    assert_outside(asked(client, user))


def test_a_holdout_never_meets_any_challenger(edge: Edge) -> None:
    client = edge.client()
    held = {user for user in USERS if holdout_bucket(user, model=MODEL) < 2_000}
    assert held
    for trials in (
        [trial(CHALLENGER)],
        [trial(OTHER, layer=layer(0, 9_000))],
        [trial(CHALLENGER, layer=layer(0, 5_000)), trial(OTHER, layer=layer(5_000, 10_000))],
    ):
        routed(edge, *trials, holdout=2_000)
        for user in held:
            assert_outside(asked(client, user))


def test_growing_a_share_moves_nobody_out_with_layers_and_a_holdout(edge: Edge) -> None:
    client = edge.client()
    met: set[tuple[bytes, int]] = set()
    for cut in (500, 2_500, 5_000, 9_000):
        one, other = layer(0, 5_000), layer(5_000, 10_000)
        routed(
            edge,
            trial(CHALLENGER, cut, layer=one),
            trial(OTHER, cut // 2, layer=other),
            holdout=1_000,
        )
        now = {(user, asked(client, user).version) for user in USERS}
        on_trial = {(user, version) for user, version in now if version != CHAMPION}
        assert met <= on_trial
        met = on_trial
    assert {version for _, version in met} == {CHALLENGER, OTHER}
    assert all(holdout_bucket(user, model=MODEL) >= 1_000 for user, _ in met)


# ---- audiences


def test_who_is_not_in_the_audience_is_in_no_experiment(edge: Edge) -> None:
    grown = Compared("x-age", Order.AT_LEAST, 18.0)
    near = Among("x-country", ("de", "at"))
    routed(edge, trial(CHALLENGER, audience=Audience((near, grown))))
    client = edge.client()
    for country, age, inside in (
        ("de", "18", True),
        (" at ", "18.5", True),
        ("DE", "18", False),
        ("ch", "18", False),
        ("de", "17.999", False),
        ("de", f"18.{'1' * 15}", True),
        ("de", f"18.{'1' * 16}", False),
        ("de", "eighteen", False),
        ("de", "", False),
    ):
        answer = client.infer(("x-unit-id", "u"), ("X-Country", country), ("X-Age", age))
        if inside:
            assert answer.version == CHALLENGER
        else:
            assert_outside(answer)
    assert_outside(client.infer(("x-unit-id", "u"), ("X-Country", "de")))
    assert_outside(client.infer(("x-unit-id", "u"), ("X-Age", "18")))


def test_who_says_nothing_is_among_the_others_unless_the_empty_value_is_named(edge: Edge) -> None:
    client = edge.client()
    for values, meets in ((("de",), True), (("de", ""), False)):
        others = Among("x-country", values, others=True)
        routed(edge, trial(CHALLENGER, audience=Audience((others,))))
        assert (asked(client, b"u").version == CHALLENGER) == meets
        answer = client.infer(("x-unit-id", "u"), ("x-country", "fr"))
        assert answer.version == CHALLENGER
        assert_outside(client.infer(("x-unit-id", "u"), ("x-country", "de")))


def test_a_failing_champion_outside_an_experiment_falls_back_as_without_one(edge: Edge) -> None:
    route = routed(edge, trial(CHALLENGER), holdout=EVERYBODY)
    edge.obey(replace(route, previous=Version(3)))
    edge.ingress.moods = {CHAMPION: [Mood.ERROR_500]}
    answer = asked(edge.client(), b"u")
    assert (answer.status, answer.version) == (200, 3)
