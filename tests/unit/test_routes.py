"""What a route serves, and what is left of it when traffic is taken back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from experiments.model import BasisPoints, ExperimentName, Layer
from experiments.unit import HeaderUnit, RequestUnit
from registry.refs import ModelName, Version
from serving.errors import NothingToRollBack
from serving.routes import Route, SlowMark, Trial, Watch, is_recent, withdraw

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DIGITS = ModelName("digits")
TRIAL = Trial(
    experiment=ExperimentName("digits-v2"),
    stage=0,
    challengers=(Version(2),),
    cut=BasisPoints(500),
    unit=HeaderUnit("x-unit-id"),
    salt="digits-v2",
    deadline=timedelta(seconds=2),
    watch=Watch((SlowMark("latency_ms>250", 250),)),
)
ROUTE = Route(DIGITS, 5, Version(1), None, (), "me", "a test", NOW)
ON_TRIAL = replace(ROUTE, epoch=6, trials=(TRIAL,))
SEVERAL = replace(
    ON_TRIAL,
    trials=(
        replace(TRIAL, challengers=(Version(7), Version(8), Version(9)), dropped=(Version(8),)),
    ),
)
BESIDE = replace(TRIAL, experiment=ExperimentName("digits-v3"), salt="digits-v3")
BOTH = replace(ON_TRIAL, trials=(TRIAL, replace(BESIDE, challengers=(Version(3), Version(2)))))
PROMOTED = replace(ROUTE, epoch=7, champion=Version(2), previous=Version(1))
HOLDING_BACK = replace(PROMOTED, trials=(TRIAL,))


@pytest.mark.parametrize(
    ("before", "withdrawn"),
    [
        (ON_TRIAL, (2,)),
        (SEVERAL, (7, 9)),
        (BOTH, (2, 3)),
        (HOLDING_BACK, (2,)),
        (PROMOTED, (2,)),
    ],
)
def test_withdrawing_takes_away_the_trial_or_else_the_champion(before, withdrawn) -> None:
    done = withdraw(before, by="me", why="it errs", at=NOW)
    assert (done.withdrawn, done.to_version) == (withdrawn, 1)
    after = done.route
    assert (after.epoch, after.champion, after.trials) == (before.epoch + 1, Version(1), ())
    assert (after.previous, after.by, after.why) == (None, "me", "it errs")
    assert after.served.isdisjoint(withdrawn)


def test_a_trial_withdrawn_leaves_the_version_to_go_back_to() -> None:
    on_trial = replace(PROMOTED, trials=(replace(TRIAL, challengers=(Version(3),)),))
    done = withdraw(on_trial, by="me", why="", at=NOW)
    assert (done.route.champion, done.route.previous) == (2, 1)


def test_a_dropped_challenger_is_neither_served_nor_kept_loaded() -> None:
    assert SEVERAL.served == {1, 7, 9}
    assert {ref.version for ref in SEVERAL.versions} == {1, 7, 9}


def test_trials_are_put_in_and_taken_out_by_the_name_of_their_experiment() -> None:
    later = replace(BESIDE, stage=1)
    assert BOTH.without(TRIAL.experiment).trials == BOTH.trials[1:]
    assert BOTH.having(later).trials == (TRIAL, later)
    assert ON_TRIAL.having(later).trials == (TRIAL, later)
    assert ON_TRIAL.without(later.experiment) == ON_TRIAL
    assert BOTH.trial_of(later.experiment) == BOTH.trials[1]


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        (("a", 0, 5_000), ("a", 5_000, 10_000), True),
        (("a", 6_000, 7_000), ("a", 0, 5_999), True),
        (("a", 0, 5_001), ("a", 5_000, 10_000), False),
        (("a", 0, 5_000), ("b", 5_000, 10_000), False),
        (("a", 0, 5_000), None, False),
        (None, None, False),
    ],
)
def test_trials_are_apart_in_other_parts_of_one_layer(one, other, apart) -> None:
    first, second = (
        replace(TRIAL, layer=part and Layer(part[0], BasisPoints(part[1]), BasisPoints(part[2])))
        for part in (one, other)
    )
    assert first.is_apart_from(second) == second.is_apart_from(first) == apart
    by_request = replace(second, unit=RequestUnit())
    assert not first.is_apart_from(by_request), "one user has requests in both"


def test_in_a_holdback_the_old_champion_is_what_the_new_one_is_compared_with() -> None:
    assert (HOLDING_BACK.control, HOLDING_BACK.holds_back) == (1, True)
    assert HOLDING_BACK.served == {1, 2}
    for other in (ROUTE, ON_TRIAL, PROMOTED, SEVERAL):
        assert (other.control, other.holds_back) == (other.champion, False)


def test_without_trial_and_previous_there_is_nothing_to_withdraw() -> None:
    with pytest.raises(NothingToRollBack):
        withdraw(ROUTE, by="me", why="", at=NOW)


@pytest.mark.parametrize(
    ("age", "recent"), [(0, True), (29, True), (30, False), (-5, True), (-60, False)]
)
def test_a_clock_that_was_put_back_makes_no_rollback_recent_for_long(age, recent) -> None:
    assert is_recent(NOW, NOW + timedelta(seconds=age)) is recent
