"""What a request meets under a route, with all that can keep it from a challenger."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from experiments.assignment import holdout_bucket, layer_bucket
from experiments.audience import parse_audience
from experiments.identity import Asked
from experiments.model import BasisPoints, Variant
from experiments.unit import HeaderUnit, RequestUnit
from registry.refs import ModelName, Version
from serving.meeting import Met, Repeated, meet
from serving.routes import Route, Trial
from tests.unit.declared import START
from tests.unit.trials import layer, trial

MODEL = ModelName("digits")
CHAMPION, SEVEN, EIGHT = Version(1), Version(7), Version(8)
UNIT = HeaderUnit("x-unit-id")

users = st.binary(min_size=1, max_size=20).filter(lambda raw: raw.strip(b" \t"))
shares = st.integers(0, 10_000).map(BasisPoints)


def route(*trials: Trial, holdout: int = 0) -> Route:
    plain = Route(MODEL, 1, CHAMPION, None, trials, by="me", why="", at=START)
    return replace(plain, holdout=BasisPoints(holdout))


def met(user: bytes, by: Route, **said: bytes) -> Met:
    headers = [("x-unit-id", user), *((name.replace("_", "-"), it) for name, it in said.items())]
    return meet(by, Asked(headers), nonce="ab", longest_body=0)


OUTSIDE = Met(CHAMPION)


@given(user=users, one=shares, other=shares, holdout=shares, grown=shares)
def test_growing_a_share_moves_nobody_out_whatever_else_there_is(
    user: bytes, one: int, other: int, holdout: int, grown: int
) -> None:
    small, large = sorted((one, other))
    parts = (layer(0, 4_000), layer(4_000, 9_000))
    before = met(user, route(trial(SEVEN, small, layer=parts[0]), holdout=holdout))
    after = met(
        user,
        route(
            trial(SEVEN, large, layer=parts[0]),
            trial(EIGHT, grown, layer=parts[1]),
            holdout=holdout,
        ),
    )
    if before.variant is Variant.CHALLENGER:
        assert after == before


@given(user=users, cuts=st.tuples(shares, shares), bound=st.integers(1, 9_999))
def test_each_unit_is_in_one_experiment_of_a_layer(
    user: bytes, cuts: tuple[int, int], bound: int
) -> None:
    found = met(
        user,
        route(
            trial(SEVEN, cuts[0], layer=layer(0, bound)),
            trial(EIGHT, cuts[1], layer=layer(bound, 10_000)),
        ),
    )
    mine = SEVEN if layer_bucket(user.strip(b" \t"), layer="checkout") < bound else EIGHT
    assert found.experiment == f"trial-{mine}"
    assert found.version in (CHAMPION, mine)


@given(user=users, holdout=shares)
def test_who_is_held_out_is_in_no_experiment(user: bytes, holdout: int) -> None:
    found = met(user, route(trial(SEVEN), holdout=holdout))
    is_held = holdout_bucket(user.strip(b" \t"), model=MODEL) < holdout
    assert (found == OUTSIDE) == is_held


def test_who_is_not_in_the_audience_is_in_no_experiment() -> None:
    some = route(trial(SEVEN, audience=parse_audience("x-country:in:de")))
    assert met(b"u", some, x_country=b" de ").experiment == "trial-7"
    assert met(b"u", some, x_country=b"at") == OUTSIDE
    assert met(b"u", some) == OUTSIDE


def test_without_a_trial_nothing_is_asked_of_a_request() -> None:
    assert met(b"", route()) == OUTSIDE


def test_in_the_shadow_requests_are_repeated_and_counted_in_no_experiment() -> None:
    found = met(b"u", route(trial(SEVEN, shadow=True)))
    assert found.repeated is not None
    assert replace(found, repeated=None) == OUTSIDE
    assert found.repeated.version == SEVEN
    assert met(b"u", route(trial(SEVEN, shadow=True, cut=0))) == OUTSIDE
    assert met(b"u", route(trial(SEVEN, shadow=True, dropped=(SEVEN,)))) == OUTSIDE
    unnamed = met(b"u", route(trial(SEVEN, shadow=True, unit=RequestUnit())))
    assert unnamed.repeated == Repeated(SEVEN, None)


def test_whom_a_holdback_does_not_reach_has_the_new_champion() -> None:
    held = trial(SEVEN, cut=0, layer=layer(0, 5_000))
    promoted = replace(route(held), champion=SEVEN, previous=CHAMPION)
    seen = {(met(b"%d" % i, promoted).version, met(b"%d" % i, promoted).variant) for i in range(50)}
    assert seen == {(CHAMPION, Variant.CHAMPION), (SEVEN, None)}
