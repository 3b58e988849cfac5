"""The life of an experiment as one table: states, events, and what leads where.

Everything else here, the diagram in the documentation included, is read from `TABLE`. A final
state is only ever reached by `DONE` from a transitional one, so a crash half-way through a
promotion or a rollback leaves a state that says what is still to be carried out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from experiments.errors import WrongState


class State(StrEnum):
    """Where an experiment stands."""

    RAMPING = "ramping"
    PAUSED = "paused"
    """Traffic stays split and harm is still looked for, but the ramp does not move."""
    HALTED = "halted"
    """The data cannot be trusted, so nobody meets a challenger that nothing watches."""
    HOLDING_BACK = "holding_back"
    """The winner is the champion; some units stay with the old one, so that slow harm is seen."""
    PROMOTING = "promoting"
    PASSING = "passing"
    """The challengers have passed in the shadow, and are being taken out of the route."""
    ROLLING_BACK = "rolling_back"
    STOPPING = "stopping"
    CONCLUDING = "concluding"
    """Time is up without a verdict; the challenger is being taken out of the route."""
    PROMOTED = "promoted"
    PASSED = "passed"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"
    INCONCLUSIVE = "inconclusive"


class Event(StrEnum):
    """What can happen to an experiment, by a decision or by a person."""

    ADVANCE = "advance"
    """A gate was passed: the next stage opens."""
    DROP = "drop"
    """One of several challengers does harm beyond doubt; the others go on."""
    PAUSE = "pause"
    RESUME = "resume"
    HOLD_BACK = "hold_back"
    """A challenger has won; it is watched for a while yet, from the champion's place."""
    PROMOTE = "promote"
    PASS = "pass"
    """What was to be shown without users meeting a challenger is shown."""
    ROLL_BACK = "roll_back"
    HALT = "halt"
    STOP = "stop"
    GIVE_UP = "give_up"
    """The longest runtime has passed."""
    DONE = "done"
    """Every step of the transition's plan has been carried out."""


@dataclass(frozen=True, slots=True)
class Row:
    """A state's line of the table.

    Args:
        serves: Whether the model's route is to carry a trial in this state.
        exits: Where each event leads; what is not listed is not allowed.
    """

    serves: bool
    exits: Mapping[Event, State]


INITIAL = State.RAMPING

TABLE: Mapping[State, Row] = MappingProxyType(
    {
        State.RAMPING: Row(
            serves=True,
            exits={
                Event.ADVANCE: State.RAMPING,
                Event.DROP: State.RAMPING,
                Event.PAUSE: State.PAUSED,
                Event.HOLD_BACK: State.HOLDING_BACK,
                Event.PROMOTE: State.PROMOTING,
                Event.PASS: State.PASSING,
                Event.ROLL_BACK: State.ROLLING_BACK,
                Event.HALT: State.HALTED,
                Event.STOP: State.STOPPING,
                Event.GIVE_UP: State.CONCLUDING,
            },
        ),
        State.PAUSED: Row(
            serves=True,
            exits={
                Event.RESUME: State.RAMPING,
                Event.DROP: State.PAUSED,
                Event.HOLD_BACK: State.HOLDING_BACK,
                Event.PROMOTE: State.PROMOTING,
                Event.ROLL_BACK: State.ROLLING_BACK,
                Event.HALT: State.HALTED,
                Event.STOP: State.STOPPING,
                Event.GIVE_UP: State.CONCLUDING,
            },
        ),
        State.HALTED: Row(
            serves=False,
            exits={Event.ROLL_BACK: State.ROLLING_BACK, Event.STOP: State.STOPPING},
        ),
        State.HOLDING_BACK: Row(
            serves=True,
            exits={
                Event.PROMOTE: State.PROMOTING,
                Event.ROLL_BACK: State.ROLLING_BACK,
                Event.HALT: State.HALTED,
            },
        ),
        State.PROMOTING: Row(
            serves=False,
            exits={Event.DONE: State.PROMOTED, Event.ROLL_BACK: State.ROLLING_BACK},
        ),
        State.PASSING: Row(
            serves=False,
            exits={Event.DONE: State.PASSED, Event.ROLL_BACK: State.ROLLING_BACK},
        ),
        State.ROLLING_BACK: Row(
            serves=False,
            # Asking twice for a rollback is no mistake: the second asks for what is under way.
            exits={Event.DONE: State.ROLLED_BACK, Event.ROLL_BACK: State.ROLLING_BACK},
        ),
        State.STOPPING: Row(
            serves=False,
            exits={Event.DONE: State.STOPPED, Event.ROLL_BACK: State.ROLLING_BACK},
        ),
        State.CONCLUDING: Row(
            serves=False,
            exits={Event.DONE: State.INCONCLUSIVE, Event.ROLL_BACK: State.ROLLING_BACK},
        ),
        State.PROMOTED: Row(serves=False, exits={}),
        State.PASSED: Row(serves=False, exits={}),
        State.ROLLED_BACK: Row(serves=False, exits={}),
        State.STOPPED: Row(serves=False, exits={}),
        State.INCONCLUSIVE: Row(serves=False, exits={}),
    }
)


def advance(state: State, event: Event) -> State:
    """Return the state that `event` leads to.

    Raises:
        WrongState: the table does not allow it; the message names what it allows.

    Examples:
        >>> advance(State.RAMPING, Event.PROMOTE)
        <State.PROMOTING: 'promoting'>
    """
    exits = TABLE[state].exits
    if event not in exits:
        by_people = [each for each in exits if each is not Event.DONE]
        allowed = ", ".join(by_people) if by_people else "nothing, it is over"
        raise WrongState(
            f"{_words(event)!r} is not allowed while the experiment is {_words(state)}; "
            f"allowed: {_words(allowed)}"
        )
    return exits[event]


def is_final(state: State) -> bool:
    """Return whether nothing can happen to the experiment any more."""
    return not TABLE[state].exits


def is_transitional(state: State) -> bool:
    """Return whether a plan is being carried out that has to be completed (`DONE`)."""
    return Event.DONE in TABLE[state].exits


def serves_challenger(state: State) -> bool:
    """Return whether the model's route is to carry a trial."""
    return TABLE[state].serves


def mermaid() -> str:
    """Return the table as a Mermaid state diagram; states that serve the challenger are marked."""
    lines = ["stateDiagram-v2", f"    [*] --> {INITIAL}"]
    for state, row in TABLE.items():
        lines += [
            f"    {state} --> {target}: {_words(event)}" for event, target in row.exits.items()
        ]
        if is_final(state):
            lines.append(f"    {state} --> [*]")
    lines.append("    classDef serving stroke-width:3px")
    lines += [f"    class {state} serving" for state in TABLE if serves_challenger(state)]
    return "\n".join(lines) + "\n"


def _words(text: str) -> str:
    return text.replace("_", " ")
