"""The trials of a certification: a fault each, and the experiment in which it is to be found."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from experiments.metric import (
    ERROR_RATE,
    LATENCY,
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Metric,
    Slow,
    Worse,
)
from experiments.model import (
    Alpha,
    BasisPoints,
    Declaration,
    ExperimentName,
    Limits,
    experiment_name,
)
from experiments.unit import HeaderUnit
from registry.refs import ModelName
from serving.hosts.faults import Fault
from serving.lanes import CHALLENGERS

AGREES: Final = "agrees"
"""The outcome: whether an answer is the one that the champion gives to the same question."""

UNIT_HEADER: Final = "x-unit-id"

_SHARE = BasisPoints(5_000)
_HARM = 0.01
_LONG = timedelta(hours=1)
_NAME_OF_MODEL = 36


@dataclass(frozen=True, slots=True)
class Pace:
    """What is normal for a model, so that neither its own slowness nor that of this machine is
    taken for a fault.

    Args:
        slow_ms: Answers beyond this are slow.
        deadline_ms: After this the champion answers for a challenger.
    """

    slow_ms: int
    deadline_ms: int


def named(label: str) -> Fault:
    """Return the fault that people call `label`; an A/A has none.

    Examples:
        >>> named("aa")
        <Fault.NONE: 'none'>
    """
    return Fault.NONE if label == "aa" else Fault(label)


def label_of(fault: Fault) -> str:
    """Return what people call the trial of a fault.

    Examples:
        >>> [label_of(fault) for fault in Fault]
        ['aa', 'slow', 'errors', 'wrong', 'empty']
    """
    return "aa" if fault is Fault.NONE else fault.value


def trial_name(model: ModelName, fault: Fault, holder: str) -> ExperimentName:
    """Return a name that no experiment had before, `holder` being anew for each certification."""
    return experiment_name(f"certify-{model[:_NAME_OF_MODEL]}-{label_of(fault)}-{holder}")


def declare_trial(name: ExperimentName, lane: ModelName, fault: Fault, pace: Pace) -> Declaration:
    """Return an experiment between a version and itself with a fault.

    It can end only by a rollback, or as a halt: there is nothing to be promoted for, and it runs
    until whoever certifies has seen enough. The error rate is a fifth of the usual one, for every
    A/A is a chance of a false alarm.
    """
    return Declaration(
        name=name,
        model=lane,
        challengers=(CHALLENGERS[fault],),
        unit=HeaderUnit(UNIT_HEADER),
        ramp=(_SHARE,),
        goal=Goal(Metric(AGREES, Binary()), Direction.INCREASE, min_effect=0.01),
        guardrails=(
            Guardrail(Metric(ERROR_RATE, Count()), Worse.HIGHER, max_ratio=2.0, negligible=0.01),
            Guardrail(
                Metric(LATENCY, Slow(pace.slow_ms)), Worse.HIGHER, max_ratio=2.0, negligible=0.05
            ),
        ),
        limits=Limits(min_units=1, min_runtime=_LONG, max_runtime=2 * _LONG),
        alpha=Alpha(harm=_HARM),
        deadline=timedelta(milliseconds=pace.deadline_ms),
    )
