import re
from itertools import product

import pytest

from experiments.errors import WrongState
from experiments.lifecycle import (
    INITIAL,
    TABLE,
    Event,
    State,
    advance,
    is_final,
    is_transitional,
    mermaid,
    serves_challenger,
)

OPEN = [state for state in State if not is_final(state)]
FINAL = [state for state in State if is_final(state)]


def reachable(start):
    seen, todo = set(), [start]
    while todo:
        state = todo.pop()
        if state not in seen:
            seen.add(state)
            todo += TABLE[state].exits.values()
    return seen


def test_every_state_has_a_row():
    assert set(TABLE) == set(State)


def test_every_state_can_be_reached():
    assert reachable(INITIAL) == set(State)


def test_the_final_states_are_the_five_verdicts_on_an_experiment():
    assert set(FINAL) == {
        State.PROMOTED,
        State.PASSED,
        State.ROLLED_BACK,
        State.STOPPED,
        State.INCONCLUSIVE,
    }


@pytest.mark.parametrize("state", OPEN)
def test_rollback_is_possible_in_every_state_that_is_not_final(state):
    assert advance(state, Event.ROLL_BACK) is State.ROLLING_BACK


@pytest.mark.parametrize("state", OPEN)
def test_from_every_open_state_the_experiment_can_end(state):
    assert reachable(state) & set(FINAL)


def test_final_states_are_entered_only_by_completing_a_transition():
    for state, event in product(State, Event):
        target = TABLE[state].exits.get(event)
        if target in FINAL:
            assert is_transitional(state)
            assert event is Event.DONE


def test_each_transition_completes_in_one_final_state_of_its_own():
    ends = [advance(state, Event.DONE) for state in State if is_transitional(state)]
    assert sorted(ends) == sorted(FINAL)


def test_a_transition_is_either_completed_or_rolled_back():
    for state in filter(is_transitional, State):
        assert set(TABLE[state].exits) == {Event.DONE, Event.ROLL_BACK}


def test_a_halted_experiment_may_only_be_stopped_or_rolled_back():
    assert set(TABLE[State.HALTED].exits) == {Event.STOP, Event.ROLL_BACK}


def test_a_pause_keeps_the_split_and_resumes():
    paused = advance(State.RAMPING, Event.PAUSE)
    assert serves_challenger(paused)
    assert advance(paused, Event.RESUME) is State.RAMPING


def test_a_paused_ramp_does_not_advance():
    with pytest.raises(WrongState):
        advance(State.PAUSED, Event.ADVANCE)


def test_no_challenger_is_served_where_no_decision_watches_it():
    watched = {State.RAMPING, State.PAUSED, State.HOLDING_BACK}
    assert {state for state in State if serves_challenger(state)} == watched


@pytest.mark.parametrize("state", [State.RAMPING, State.PAUSED])
def test_dropping_one_of_several_challengers_changes_nothing_else(state):
    assert advance(state, Event.DROP) is state


def test_a_holdback_ends_in_promotion_rollback_or_halt_and_in_no_other_way():
    assert dict(TABLE[State.HOLDING_BACK].exits) == {
        Event.PROMOTE: State.PROMOTING,
        Event.ROLL_BACK: State.ROLLING_BACK,
        Event.HALT: State.HALTED,
    }


def test_a_holdback_comes_before_promotion_or_not_at_all():
    into = {state for state, row in TABLE.items() if State.HOLDING_BACK in row.exits.values()}
    assert into == {State.RAMPING, State.PAUSED}
    assert Event.PROMOTE in TABLE[State.RAMPING].exits


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_what_the_table_does_not_list_is_refused_with_what_it_allows(state, event):
    exits = TABLE[state].exits
    if event in exits:
        assert advance(state, event) is exits[event]
        return
    with pytest.raises(WrongState) as refused:
        advance(state, event)
    assert state.replace("_", " ") in refused.value.message
    for allowed in exits.keys() - {Event.DONE}:
        assert allowed.replace("_", " ") in refused.value.message


def test_an_experiment_that_is_over_says_so():
    with pytest.raises(WrongState, match="nothing, it is over"):
        advance(State.PROMOTED, Event.PAUSE)


def test_the_diagram_draws_every_transition_once_and_no_other():
    drawn = re.findall(r"^ {4}(\w+) --> (\w+): (.+)$", mermaid(), re.MULTILINE)
    listed = [
        (state, target, event.replace("_", " "))
        for state, row in TABLE.items()
        for event, target in row.exits.items()
    ]
    assert drawn == listed
    assert [f"{state} --> [*]" in mermaid() for state in FINAL] == [True] * len(FINAL)
