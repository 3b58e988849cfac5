"""The route that an experiment asks for, in every state of its life."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from experiments.experiment import Experiment
from experiments.lifecycle import State, is_final, serves_challenger
from experiments.model import ExperimentName, RequestUnit
from registry.refs import ModelName, Version, VersionRef
from serving.intent import CONTROLLER, trial_of, wanted_route
from serving.routes import Route, SlowMark, map_value
from tests.unit import samples
from tests.unit.samples import DECLARATION, RAMP, SECOND, SLOW, START

NOW = START + 60 * SECOND
BEGUN = Experiment.begin(DECLARATION, Version(1), START)
PLAIN = Route(ModelName("digits"), 7, Version(1), None, None, "me", "deployed", START)
SERVING = [state for state in State if serves_challenger(state)]
WITHDRAWING = [State.HALTED, State.ROLLING_BACK, State.STOPPING, State.CONCLUDING]
FINAL = [state for state in State if is_final(state)]


def wanted(route, experiment):
    return wanted_route(route, experiment, by=CONTROLLER, at=NOW)


def on_trial(experiment=BEGUN):
    return replace(PLAIN, trial=trial_of(experiment))


def test_every_state_is_in_one_of_these_groups() -> None:
    assert sorted([*SERVING, *WITHDRAWING, *FINAL, State.PROMOTING]) == sorted(State)


@pytest.mark.parametrize("state", SERVING)
def test_while_it_serves_the_trial_is_put_into_the_route(state) -> None:
    route = wanted(PLAIN, replace(BEGUN, state=state))
    assert route.trial == trial_of(BEGUN)
    assert (route.champion, route.previous, route.epoch) == (1, None, 8)
    assert (route.by, route.at) == (CONTROLLER, NOW)
    assert VersionRef(route.model, Version(2)) in route.versions


@pytest.mark.parametrize("state", WITHDRAWING)
def test_while_it_withdraws_the_trial_is_taken_out_and_the_champion_stays(state) -> None:
    route = wanted(on_trial(), replace(BEGUN, state=state))
    assert route.trial is None
    assert (route.champion, route.previous, route.epoch) == (1, None, 8)


@pytest.mark.parametrize("state", WITHDRAWING)
def test_nothing_is_taken_out_twice(state) -> None:
    assert wanted(PLAIN, replace(BEGUN, state=state)) is PLAIN


def test_a_promotion_makes_the_challenger_champion_and_keeps_the_champion_as_previous() -> None:
    route = wanted(replace(on_trial(), previous=Version(9)), replace(BEGUN, state=State.PROMOTING))
    assert (route.champion, route.previous, route.trial) == (2, 1, None)


def test_a_promotion_carried_out_twice_keeps_the_version_to_go_back_to() -> None:
    promoting = replace(BEGUN, state=State.PROMOTING)
    once = wanted(on_trial(), promoting)
    assert wanted(once, promoting) is once
    # A crash between the two: champion set, trial back in by a process that was asleep.
    again = wanted(replace(once, trial=trial_of(BEGUN)), promoting)
    assert (again.champion, again.previous, again.trial) == (2, 1, None)


@pytest.mark.parametrize("state", FINAL)
@pytest.mark.parametrize("route", [PLAIN, on_trial()])
def test_a_finished_experiment_asks_for_nothing(state, route) -> None:
    assert wanted(route, replace(BEGUN, state=state, receipt="r")) is route


@pytest.mark.parametrize("state", State)
def test_the_trial_of_another_experiment_is_left_alone(state) -> None:
    other = replace(BEGUN, declaration=replace(DECLARATION, name=ExperimentName("other")))
    route = on_trial(other)
    assert wanted(route, replace(BEGUN, state=state)) is route


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("route", [PLAIN, on_trial()], ids=["plain", "on trial"])
def test_asking_twice_changes_nothing_more(state, route) -> None:
    asking = replace(BEGUN, state=state, receipt="r", reasons=("because",))
    once = wanted(route, asking)
    assert wanted(once, asking) is once
    assert wanted_route(once, asking, by="another", at=NOW + SECOND) is once


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("route", [PLAIN, on_trial()], ids=["plain", "on trial"])
def test_a_changed_route_is_one_epoch_on_and_an_unchanged_one_is_the_same(state, route) -> None:
    once = wanted(route, replace(BEGUN, state=state))
    assert once is route or once.epoch == route.epoch + 1


@settings(max_examples=15, deadline=None)
@given(experiment=samples.experiments())
def test_whatever_the_experiment_asking_twice_changes_nothing_more(experiment) -> None:
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
    assert trial.slow == (SlowMark(SLOW, 250),)
    assert (trial.unit, trial.salt) == (DECLARATION.unit, "digits-v2")
    assert map_value(wanted(PLAIN, grown)) == (
        "8|1|-|digits-v2|1|2|500|2500|2000|header:x-unit-id|digits-v2"
    )


def test_a_new_stage_is_a_new_route() -> None:
    grown = BEGUN.at_rung(1, NOW, reasons=(), receipt="r")
    assert wanted(on_trial(), grown).trial == trial_of(grown)


def test_a_trial_of_requests_has_no_veterans() -> None:
    of_requests = Experiment.begin(replace(DECLARATION, unit=RequestUnit()), Version(1), START)
    trial = trial_of(of_requests.at_rung(2, NOW, reasons=(), receipt="r"))
    assert trial is not None
    assert (trial.floor, trial.cut) == (0, RAMP[2])
