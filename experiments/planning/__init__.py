"""What an experiment will need, before it is started: units, time, and whether it can be decided.

Everything follows from the declaration and the traffic; no system has to run.
"""

from dataclasses import dataclass

from experiments.model import Declaration
from experiments.planning.goal import GoalCourse, GoalForecast, Need, forecast_goal
from experiments.planning.guardrails import Found, Harm, Safety, forecast_harm, forecast_safety
from experiments.planning.ramp import HeldBy, Ramp, Rung
from experiments.planning.reach import Reach
from experiments.planning.shadow import PairNeed, ShadowForecast, forecast_shadow
from experiments.planning.warning import rate_text, shadow_warning, span, warning_of
from experiments.stats.intervals import Insufficient
from experiments.stats.planning import Course


@dataclass(frozen=True, slots=True)
class StageForecast:
    """One stage of the ramp, at the earliest moment at which its gate can open.

    Args:
        share: Of all units that meet a challenger, from 0 to 1.
        seconds: How long the stage takes at least; None where the traffic is not known.
        held_by: What it takes so long for.
        units: That come in it.
        challenger_units: Of them, one challenger's that are compared: no veterans.
        open_ended, bounded: Probability that the goal is decided by its end; None where the goal
            cannot be forecast. Bounded: within the horizon that is declared, or else the one for
            80 % power.
    """

    stage: int
    share: float
    seconds: float | None
    held_by: HeldBy
    units: int
    challenger_units: int
    open_ended: float | None
    bounded: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an experiment will need.

    Args:
        units_per_second: That come and can be in it; None where nobody said.
        stages: Of the ramp, which begins when the shadow, if there is one, is over.
        goal: Its needs in both modes, or what has to be known first; None where there is no goal.
        shadow: None where there is none.
        warning: Why its traffic, or its horizon, will probably not decide it; None if it will, or
            if that cannot be foreseen.
    """

    units_per_second: float | None
    stages: tuple[StageForecast, ...]
    goal: GoalForecast | Insufficient | None
    guardrails: tuple[Safety, ...]
    harm: tuple[Harm, ...]
    warning: str | None
    shadow: ShadowForecast | None = None


def forecast(declaration: Declaration, units_per_second: float | None = None) -> Forecast:
    """Look ahead.

    *Estimand*: units and seconds until each verdict, with given probabilities.

    *Assumes*: as many units come in every second, each for the first time in its stage; each gives
    one outcome. The challenger is better by just `min_effect`, for the goal; equal to the champion,
    for guardrails.

    *Valid*: asymptotic, and "about": an exact test is asked what it makes of expected counts.

    Args:
        units_per_second: That can be in it (`Reach`). Without it nothing is said about time, and
            no stage is held by its runtime.

    Returns:
        `Insufficient` wherever a number would have to be made up.

    *Source*: `experiments.planning.goal` and `experiments.planning.guardrails`.
    """
    shadow = forecast_shadow(declaration, units_per_second)
    too_slow = shadow_warning(declaration, units_per_second) if units_per_second else None
    if declaration.shadow_only:
        return Forecast(units_per_second, (), None, (), (), too_slow, shadow)
    ramp = Ramp.of(declaration, units_per_second)
    course = GoalCourse.of(declaration, ramp)
    goal: GoalForecast | Insufficient
    curves: tuple[GoalCourse, Course, Course] | None
    if isinstance(course, Insufficient):
        goal, curves, warning = course, None, None
    else:
        goal, open_ended, bounded = forecast_goal(course)
        curves = (course, open_ended, bounded)
        warning = warning_of(course, open_ended, bounded)
    return Forecast(
        units_per_second=units_per_second,
        stages=_stages(ramp, curves),
        goal=goal,
        guardrails=tuple(
            forecast_safety(declaration, ramp, each) for each in declaration.guardrails
        ),
        harm=tuple(
            harm for each in declaration.asked for harm in forecast_harm(declaration, ramp, each)
        ),
        warning=too_slow or warning,
        shadow=shadow,
    )


def warning_for(declaration: Declaration, units_per_second: float) -> str | None:
    """Return why so much traffic will probably not decide an experiment; the quick part of it."""
    too_slow = shadow_warning(declaration, units_per_second)
    if too_slow or declaration.shadow_only:
        return too_slow
    course = GoalCourse.of(declaration, Ramp.of(declaration, units_per_second))
    if isinstance(course, Insufficient):
        return None
    if declaration.horizon is None:
        curve = course.open_ended()
    else:
        curve = course.within(declaration.horizon.units)
    return warning_of(course, curve, curve)


def _stages(
    ramp: Ramp, curves: tuple[GoalCourse, Course, Course] | None
) -> tuple[StageForecast, ...]:
    found = []
    units = 0.0
    for rung in ramp.rungs:
        before, units = units, units + rung.least
        powers: tuple[float | None, float | None] = (None, None)
        if curves is not None:
            course, open_ended, bounded = curves
            multiple = course.multiple(units)
            powers = (open_ended.decided_by(multiple), bounded.decided_by(multiple))
        found.append(
            StageForecast(
                stage=rung.number,
                share=rung.share / 10_000,
                seconds=ramp.seconds(rung.least),
                held_by=rung.held_by,
                units=round(units) - round(before),
                challenger_units=round(rung.least * rung.lane),
                open_ended=powers[0],
                bounded=powers[1],
            )
        )
    return tuple(found)


__all__ = [
    "Forecast",
    "Found",
    "GoalForecast",
    "Harm",
    "HeldBy",
    "Insufficient",
    "Need",
    "PairNeed",
    "Ramp",
    "Reach",
    "Rung",
    "Safety",
    "ShadowForecast",
    "StageForecast",
    "forecast",
    "rate_text",
    "span",
    "warning_for",
]
