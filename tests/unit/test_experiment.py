"""An experiment's document through its life."""

from dataclasses import replace
from datetime import timedelta
from itertools import permutations

import pytest

from experiments.codec import encode
from experiments.errors import WrongState
from experiments.experiment import Experiment, read_all
from experiments.lifecycle import TABLE, Event, State, is_final
from experiments.looks import Look
from experiments.model import BasisPoints, ExperimentName, Holdback, Stage
from experiments.store import Stored
from experiments.unit import RequestUnit
from registry.refs import Version
from tests.unit.samples import DECLARATION, RAMP, SECOND, START

BEGUN = Experiment.begin(DECLARATION, Version(1), START)
LANES = DECLARATION.challengers
SEVERAL = (Version(7), Version(8), Version(9))
HOLDBACK = Holdback(BasisPoints(100), timedelta(days=1))
OF_SEVERAL = Experiment.begin(
    replace(DECLARATION, challengers=SEVERAL, holdback=HOLDBACK), Version(1), START
)
LATER = START + 30 * SECOND


def grown(experiment, rung, seconds):
    at = START + seconds * SECOND
    return experiment.at_rung(rung, at, reasons=(f"rung {rung}",), receipt=f"receipt {rung}")


def test_it_begins_ramping_at_the_first_share_without_veterans() -> None:
    assert BEGUN.state is State.RAMPING
    assert BEGUN.stages == (Stage(0, 0, RAMP[0], START, LANES, floor=0),)
    assert (BEGUN.ended_at, BEGUN.reasons, BEGUN.receipt) == (None, (), None)
    assert not BEGUN.is_final


def test_each_rung_opens_a_stage_whose_veterans_are_those_of_the_last_share() -> None:
    climbed = grown(grown(BEGUN, 1, 20), 2, 50)
    assert climbed.stages == (
        Stage(0, 0, RAMP[0], START, LANES, floor=0),
        Stage(1, 1, RAMP[1], START + 20 * SECOND, LANES, floor=RAMP[0]),
        Stage(2, 2, RAMP[2], START + 50 * SECOND, LANES, floor=RAMP[1]),
    )
    assert climbed.stage == climbed.stages[-1]
    assert (climbed.reasons, climbed.receipt) == (("rung 2",), "receipt 2")
    assert climbed.state is State.RAMPING


def test_requests_never_come_back_so_there_are_no_veterans_among_them() -> None:
    of_requests = replace(DECLARATION, unit=RequestUnit())
    climbed = grown(grown(Experiment.begin(of_requests, Version(1), START), 1, 20), 2, 50)
    assert [stage.floor for stage in climbed.stages] == [0, 0, 0]


@pytest.mark.parametrize("state", [state for state in State if state is not State.RAMPING])
def test_the_ramp_moves_only_while_ramping(state) -> None:
    with pytest.raises(WrongState):
        grown(replace(BEGUN, state=state), 1, 20)


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state, row in TABLE.items() for event in row.exits]
)
def test_it_ends_when_and_only_when_its_state_is_final(state, event) -> None:
    after = replace(BEGUN, state=state).after(event, LATER)
    assert after.state is TABLE[state].exits[event]
    assert after.is_final is is_final(after.state)
    assert after.ended_at == (LATER if after.is_final else None)
    assert after.stages == BEGUN.stages


def test_what_is_not_given_stays_as_it_was() -> None:
    stopped = BEGUN.after(Event.STOP, LATER, reasons=("enough",), receipt="abc")
    over = stopped.after(Event.DONE, LATER)
    assert (over.reasons, over.receipt) == (("enough",), "abc")
    assert over.state is State.STOPPED


def test_what_is_not_allowed_is_refused() -> None:
    over = replace(BEGUN, state=State.PROMOTED)
    for event in Event:
        with pytest.raises(WrongState):
            over.after(event, LATER)


def dropping(experiment, *versions):
    return experiment.without(versions, LATER, reasons=("harm",), receipt="drop")


def test_a_dropped_challenger_keeps_its_lane_in_every_stage_to_come() -> None:
    fewer = dropping(OF_SEVERAL, Version(8))
    assert fewer.state is State.RAMPING
    assert (fewer.dropped, fewer.remaining) == ((8,), (7, 9))
    assert fewer.stages == OF_SEVERAL.stages
    climbed = grown(fewer, 1, 20)
    assert climbed.stage.challengers == SEVERAL
    assert climbed.stage.probability == Stage(1, 1, RAMP[1], START, SEVERAL, RAMP[0]).probability
    assert dropping(climbed, Version(7)).remaining == (9,)


@pytest.mark.parametrize("state", [State.HOLDING_BACK, State.PROMOTING, State.HALTED])
def test_nothing_is_dropped_once_the_ramp_is_over(state) -> None:
    with pytest.raises(WrongState):
        dropping(replace(OF_SEVERAL, state=state), Version(8))


def test_a_holdback_is_a_stage_of_its_own_in_which_the_winner_is_compared_with_the_rest() -> None:
    climbed = grown(dropping(OF_SEVERAL, Version(8)), 2, 50)
    held = climbed.holding_back(Version(9), LATER, reasons=("better",), receipt="r")
    assert (held.state, held.winner, held.remaining) == (State.HOLDING_BACK, 9, (9,))
    assert held.stage == Stage(2, len(RAMP), BasisPoints(9_900), LATER, (Version(9),), RAMP[2])
    assert not held.is_final
    over = held.promoting(Version(9), LATER, reasons=("no harm",), receipt="s")
    assert (over.state, over.winner, over.stages) == (State.PROMOTING, 9, held.stages)


def test_a_holdback_of_requests_has_no_veterans() -> None:
    declaration = replace(OF_SEVERAL.declaration, unit=RequestUnit())
    begun = Experiment.begin(declaration, Version(1), START)
    held = begun.holding_back(Version(7), LATER, reasons=(), receipt="r")
    assert (held.stage.floor, held.stage.share) == (0, 9_900)


@pytest.mark.parametrize("state", [State.HALTED, State.ROLLING_BACK, State.PROMOTED])
def test_nothing_is_promoted_from_a_state_that_does_not_allow_it(state) -> None:
    beyond = replace(OF_SEVERAL, state=state)
    with pytest.raises(WrongState):
        beyond.promoting(Version(7), LATER, reasons=(), receipt="r")
    with pytest.raises(WrongState):
        beyond.holding_back(Version(7), LATER, reasons=(), receipt="r")


def test_looks_are_added_and_change_nothing_else() -> None:
    first, second = Look(Version(7), 0.5, 100.0, False), Look(Version(8), 0.6, 120.0, True)
    looked = OF_SEVERAL.having_looked((first,)).having_looked((second,))
    assert looked.looks == looked.plan.looks == (first, second)
    assert replace(looked, looks=()) == OF_SEVERAL


def test_what_was_over_before_it_was_known_keeps_its_end() -> None:
    rolling = replace(BEGUN.after(Event.ROLL_BACK, LATER), ended_at=START + SECOND)
    assert rolling.after(Event.DONE, LATER).ended_at == START + SECOND


def test_its_plan_is_all_that_a_decision_asks_for() -> None:
    climbed = grown(BEGUN, 1, 20)
    plan = climbed.plan
    assert (plan.declaration, plan.state) == (DECLARATION, State.RAMPING)
    assert (plan.stages, plan.started_at) == (climbed.stages, START)
    assert plan.stage == climbed.stage
    fewer = dropping(OF_SEVERAL, Version(8)).plan
    assert (fewer.dropped, fewer.winner, fewer.looks) == ((8,), None, ())
    assert [each.plan.on_last_rung for each in (BEGUN, climbed, grown(climbed, 2, 50))] == [
        False,
        False,
        True,
    ]


def test_all_are_read_in_the_order_in_which_they_were_started() -> None:
    started = [
        replace(
            BEGUN,
            declaration=replace(DECLARATION, name=ExperimentName(f"e{n}")),
            started_at=START + n * SECOND,
        )
        for n in range(3)
    ]
    for order in permutations(enumerate(started, start=1)):
        documents = {
            each.declaration.name: Stored(encode(Experiment, each), revision)
            for revision, each in order
        }
        assert read_all(documents) == [(each, n) for n, each in enumerate(started, start=1)]
