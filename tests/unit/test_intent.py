"""The route that an experiment asks for, in every state of its life."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings

from experiments.experiment import Experiment
from experiments.lifecycle import Event, State, is_final, serves_challenger
from experiments.metric import LATENCY, Guardrail, Metric, Quantile, Slow, Worse
from experiments.model import BasisPoints, ExperimentName, Holdback, Segments
from experiments.unit import RequestUnit
from registry.refs import ModelName, Version, VersionRef
from serving.intent import (
    CONTROLLER,
    giving_way,
    trial_of,
    wanted_route,
    watch_of,
)
from serving.routes import Route, SlowMark, Watch, map_value
from tests.unit import samples
from tests.unit.samples import DECLARATION, RAMP, SECOND, SLOW, START

NOW = START + 60 * SECOND
BEGUN = Experiment.begin(DECLARATION, Version(1), START)
HELD = replace(
    Experiment.begin(
        replace(DECLARATION, holdback=Holdback(BasisPoints(100), timedelta(days=1))),
        Version(1),
        START,
    ),
    receipt="begun",
).holding_back(Version(2), NOW, reasons=("better",), receipt="r")
PLAIN = Route(ModelName("digits"), 7, Version(1), None, (), "me", "deployed", START)
SERVING = [State.RAMPING, State.PAUSED]
WITHDRAWING = [
    State.HALTED,
    State.PASSING,
    State.ROLLING_BACK,
    State.STOPPING,
    State.CONCLUDING,
]
FINAL = [state for state in State if is_final(state)]


def wanted(route, experiment):
    return wanted_route(route, experiment, by=CONTROLLER, at=NOW)


def on_trial(experiment=BEGUN):
    return replace(PLAIN, trials=(trial_of(experiment),))


def at(state):
    """Return the experiment in a state, with what it must have by then."""
    if state is State.HOLDING_BACK:
        return HELD
    won = state in (State.PROMOTING, State.PROMOTED)
    return replace(BEGUN, state=state, winner=Version(2) if won else None)


def test_every_state_is_in_one_of_these_groups() -> None:
    others = [State.PROMOTING, State.HOLDING_BACK]
    assert sorted([*SERVING, *WITHDRAWING, *FINAL, *others]) == sorted(State)
    assert sorted([*SERVING, State.HOLDING_BACK]) == sorted(filter(serves_challenger, State))


@pytest.mark.parametrize("state", SERVING)
def test_while_it_serves_the_trial_is_put_into_the_route(state) -> None:
    route = wanted(PLAIN, replace(BEGUN, state=state))
    assert route.trials == (trial_of(BEGUN),)
    assert (route.champion, route.previous, route.epoch) == (1, None, 8)
    assert (route.by, route.at) == (CONTROLLER, NOW)
    assert VersionRef(route.model, Version(2)) in route.versions


@pytest.mark.parametrize("state", WITHDRAWING)
def test_while_it_withdraws_the_trial_is_taken_out_and_the_champion_stays(state) -> None:
    route = wanted(on_trial(), replace(BEGUN, state=state))
    assert not route.trials
    assert (route.champion, route.previous, route.epoch) == (1, None, 8)


@pytest.mark.parametrize("state", WITHDRAWING)
def test_nothing_is_taken_out_twice(state) -> None:
    assert wanted(PLAIN, replace(BEGUN, state=state)) is PLAIN


PROMOTING = replace(BEGUN, state=State.PROMOTING, winner=Version(2))


def test_a_promotion_makes_the_challenger_champion_and_keeps_the_champion_as_previous() -> None:
    route = wanted(replace(on_trial(), previous=Version(9)), PROMOTING)
    assert (route.champion, route.previous, route.trials) == (2, 1, ())


def test_a_promotion_carried_out_twice_keeps_the_version_to_go_back_to() -> None:
    once = wanted(on_trial(), PROMOTING)
    assert wanted(once, PROMOTING) is once
    # A crash between the two: champion set, trial back in by a process that was asleep.
    again = wanted(replace(once, trials=(trial_of(BEGUN),)), PROMOTING)
    assert (again.champion, again.previous, again.trials) == (2, 1, ())


@pytest.mark.parametrize("state", FINAL)
@pytest.mark.parametrize("route", [PLAIN, on_trial()])
def test_a_finished_experiment_asks_for_nothing(state, route) -> None:
    assert wanted(route, replace(BEGUN, state=state, receipt="r")) is route


@pytest.mark.parametrize("state", State)
def test_the_trial_of_another_experiment_is_left_alone(state) -> None:
    other = replace(BEGUN, declaration=replace(DECLARATION, name=ExperimentName("other")))
    route = on_trial(other)
    assert wanted(route, at(state)) is route


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("route", [PLAIN, on_trial()], ids=["plain", "on trial"])
def test_asking_twice_changes_nothing_more(state, route) -> None:
    asking = replace(at(state), receipt="r", reasons=("because",))
    once = wanted(route, asking)
    assert wanted(once, asking) is once
    assert wanted_route(once, asking, by="another", at=NOW + SECOND) is once


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("route", [PLAIN, on_trial()], ids=["plain", "on trial"])
def test_a_changed_route_is_one_epoch_on_and_an_unchanged_one_is_the_same(state, route) -> None:
    once = wanted(route, at(state))
    assert once is route or once.epoch == route.epoch + 1


@settings(max_examples=15, deadline=None)
@given(experiment=samples.experiments())
def test_whatever_the_experiment_asking_twice_changes_nothing_more(experiment) -> None:
    if experiment.state in (State.PROMOTING, State.HOLDING_BACK):
        experiment = replace(experiment, winner=experiment.declaration.challengers[0])
    once = wanted(PLAIN, experiment)
    assert wanted(once, experiment) is once


def test_the_route_says_why_and_carries_the_receipt() -> None:
    route = wanted(PLAIN, replace(BEGUN, reasons=("It is time.", "Really."), receipt="abc"))
    assert route.why == "digits-v2: It is time. Really."
    assert route.receipt == "abc"
    assert wanted(PLAIN, BEGUN).why == "digits-v2: ramping"


def test_an_experiment_without_a_receipt_keeps_the_routes_own() -> None:
    assert wanted(replace(PLAIN, receipt="old"), BEGUN).receipt == "old"


def test_the_trial_is_the_present_stage_with_its_veterans() -> None:
    grown = BEGUN.at_rung(1, NOW, reasons=(), receipt="r")
    trial = trial_of(grown)
    assert trial is not None
    assert (trial.stage, trial.floor, trial.cut) == (1, RAMP[0], RAMP[1])
    assert trial.watch == Watch(slow=(SlowMark(SLOW, 250),))
    assert (trial.unit, trial.salt) == (DECLARATION.unit, "digits-v2")
    assert map_value(wanted(PLAIN, grown)) == (
        "8|1|-|0|digits-v2|1|1|2|500|2500|2000|header:x-unit-id|-|-|-|live|10000|digits-v2"
    )


def test_a_new_stage_is_a_new_route() -> None:
    grown = BEGUN.at_rung(1, NOW, reasons=(), receipt="r")
    assert wanted(on_trial(), grown).trials == (trial_of(grown),)


def test_a_trial_of_requests_has_no_veterans() -> None:
    of_requests = Experiment.begin(replace(DECLARATION, unit=RequestUnit()), Version(1), START)
    trial = trial_of(of_requests.at_rung(2, NOW, reasons=(), receipt="r"))
    assert trial is not None
    assert (trial.floor, trial.cut) == (0, RAMP[2])


SEVERAL = Experiment.begin(
    replace(DECLARATION, challengers=(Version(7), Version(8))), Version(1), START
)


def test_several_challengers_are_on_trial_at_once_and_a_dropped_one_keeps_its_lane() -> None:
    trial = trial_of(SEVERAL)
    assert trial is not None
    assert (trial.challengers, trial.dropped) == ((7, 8), ())
    fewer = SEVERAL.without((Version(7),), NOW, reasons=("harm",), receipt="r")
    route = wanted(on_trial(SEVERAL), fewer)
    assert route.trials
    assert (route.trials[0].challengers, route.trials[0].dropped) == ((7, 8), (7,))
    assert (route.trials[0].stage, route.trials[0].cut) == (trial.stage, trial.cut)
    assert VersionRef(route.model, Version(7)) not in route.versions


def test_of_several_the_winner_becomes_the_champion() -> None:
    won = SEVERAL.promoting(Version(8), NOW, reasons=("better",), receipt="r")
    route = wanted(on_trial(SEVERAL), won)
    assert (route.champion, route.previous, route.trials) == (8, 1, ())


@pytest.mark.parametrize("champion", [7, 8])
def test_a_rollback_takes_back_whichever_had_been_promoted(champion) -> None:
    promoted = replace(PLAIN, champion=Version(champion), previous=Version(1))
    rolling = replace(SEVERAL, state=State.ROLLING_BACK)
    route = wanted(promoted, rolling)
    assert (route.champion, route.previous, route.trials) == (1, None, ())


def test_in_a_holdback_the_winner_is_champion_and_on_trial_against_the_one_before() -> None:
    route = wanted(on_trial(), HELD)
    assert (route.champion, route.previous, route.control) == (2, 1, 1)
    assert route.trials == (trial_of(HELD),)
    assert route.trials
    assert (route.trials[0].challengers, route.trials[0].cut, route.trials[0].floor) == (
        (2,),
        9_900,
        RAMP[0],
    )
    assert wanted(route, HELD) is route


def test_a_holdback_that_was_halted_or_stopped_gives_everything_back() -> None:
    route = wanted(on_trial(), HELD)
    for state in (State.HALTED, State.STOPPING, State.ROLLING_BACK):
        back = wanted(route, replace(HELD, state=state))
        assert (back.champion, back.previous, back.trials) == (1, None, ())
        assert wanted(back, replace(HELD, state=state)) is back


def test_a_holdback_that_is_over_leaves_the_old_champion_to_go_back_to() -> None:
    route = wanted(wanted(on_trial(), HELD), replace(HELD, state=State.PROMOTING))
    assert (route.champion, route.previous, route.trials) == (2, 1, ())


def test_a_holdback_does_not_replace_a_champion_of_which_it_knows_nothing() -> None:
    other = replace(PLAIN, champion=Version(9))
    assert wanted(other, HELD) is other


def test_an_experiment_that_has_no_part_in_the_route_leaves_its_receipts_alone() -> None:
    other = replace(PLAIN, champion=Version(9), receipt="how 9 was promoted")
    assert wanted(other, replace(BEGUN, receipt="how it began")) is other


def test_who_gives_way_ends_as_the_route_has_it() -> None:
    route = wanted(on_trial(), HELD)
    assert giving_way(BEGUN, PLAIN) is Event.STOP
    assert giving_way(HELD, replace(route, trials=())) is Event.PROMOTE
    assert giving_way(HELD, PLAIN) is Event.ROLL_BACK


def watched(*metrics, **changes):
    rails = tuple(Guardrail(metric, Worse.HIGHER, max_ratio=2.0) for metric in metrics)
    return watch_of(replace(DECLARATION, guardrails=rails, **changes))


def test_edges_watch_what_only_they_can_measure() -> None:
    assert watched() == Watch()
    assert watched(Metric("answer_ms", Slow(250)), Metric("answer_ms", Quantile(0.9))) == Watch()
    fast, often = Metric(LATENCY, Slow(250)), Metric(LATENCY, Slow(100))
    assert watched(fast, often).slow == (
        SlowMark("latency_ms>250", 250),
        SlowMark("latency_ms>100", 100),
    )
    assert watched(Metric(LATENCY, Quantile(0.99))) == Watch(histogram=True)


def test_edges_tell_units_apart_by_age_where_labels_come_late() -> None:
    goal = replace(DECLARATION.goal, metric=replace(DECLARATION.goal.metric, window=86400 * SECOND))
    declaration = replace(DECLARATION, goal=goal)
    assert declaration.cohort is not None
    seconds = watch_of(declaration).cohort_seconds
    assert seconds == declaration.cohort.total_seconds()


def test_the_trial_carries_the_declared_segments() -> None:
    segments = Segments("x-country", ("de", "fr"))
    begun = Experiment.begin(replace(DECLARATION, segments=segments), Version(1), START)
    trial = trial_of(begun)
    assert trial is not None
    assert trial.segments == segments
