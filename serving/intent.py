"""Which route an experiment wants: pure, so that any process can finish what another began.

A route is never *edited towards* a goal in several steps; it is compared with what the
experiment's state asks for, and replaced if it differs. A crash between the two is repaired by
whoever looks next.
"""

from dataclasses import replace
from datetime import datetime

from experiments.experiment import Experiment
from experiments.lifecycle import Event, State, serves_challenger
from experiments.metric import Quantile, Slow
from experiments.model import Declaration, Shadow
from serving.routes import Route, SlowMark, Trial, Watch

CONTROLLER = "controller"


def wanted_route(route: Route, experiment: Experiment, *, by: str, at: datetime) -> Route:
    """Return the route that `experiment` asks for, one epoch on; `route` itself if it is that.

    A finished experiment asks for nothing. Trials of others are left alone: they share no unit with
    this one, or there is no room for it. They end where the champion that they compare with does.
    """
    if experiment.is_final:
        return route
    name = experiment.declaration.name
    if not is_tried(experiment, route) and not _has_room(route, trial_of(experiment)):
        return route
    wanted = _wanted(route, experiment)
    if wanted == route:
        return route
    if is_tried(experiment, wanted) or not serves_challenger(experiment.state):
        # Otherwise it has no part in this route, and its receipts do not explain it.
        wanted = replace(wanted, receipt=experiment.receipt or route.receipt)
    why = f"{name}: {' '.join(experiment.reasons) or experiment.state}"
    return replace(wanted, epoch=route.epoch + 1, by=by, why=why, at=at)


def _wanted(route: Route, experiment: Experiment) -> Route:
    match experiment.state:
        case State.PROMOTING:
            return _promoted(route, experiment)
        case State.HOLDING_BACK:
            return _holding_back(route, experiment)
        case State.ROLLING_BACK:
            return restored(route, experiment)
    if experiment.winner is not None:
        # Halted, or stopped after that, from the holdback.
        return restored(route, experiment)
    # Against any other champion it would not be the comparison that was declared.
    trial = trial_of(experiment) if route.champion == experiment.champion else None
    return route.without(experiment.declaration.name) if trial is None else route.having(trial)


def _has_room(route: Route, trial: Trial | None) -> bool:
    if trial is None or route.holds_back:
        return not route.trials
    return all(trial.is_apart_from(other) for other in route.trials)


def _promoted(route: Route, experiment: Experiment) -> Route:
    assert experiment.winner is not None
    if route.champion == experiment.winner:
        return route.without(experiment.declaration.name)
    return replace(route, champion=experiment.winner, previous=route.champion, trials=())


def _holding_back(route: Route, experiment: Experiment) -> Route:
    assert experiment.winner is not None
    trial = trial_of(experiment)
    assert trial is not None
    if route.champion not in (experiment.champion, experiment.winner):
        return route.without(experiment.declaration.name)
    return replace(route, champion=experiment.winner, previous=experiment.champion, trials=(trial,))


def restored(route: Route, experiment: Experiment) -> Route:
    """Return the route without the challengers, even if one had been promoted already."""
    alone = route.without(experiment.declaration.name)
    if route.champion not in experiment.declaration.challengers:
        return alone
    champion = experiment.champion
    previous = None if route.previous == champion else route.previous
    return replace(alone, champion=champion, previous=previous)


def is_tried(experiment: Experiment, route: Route) -> bool:
    """Return whether the route carries the experiment's trial."""
    return route.trial_of(experiment.declaration.name) is not None


def giving_way(experiment: Experiment, route: Route) -> Event:
    """Return what ends an experiment whose trial is no longer in the route, and cannot be again.

    A holdback ends as the route has it: with the new champion, or without.
    """
    if experiment.state is not State.HOLDING_BACK:
        return Event.STOP
    return Event.PROMOTE if route.champion == experiment.winner else Event.ROLL_BACK


def trial_of(experiment: Experiment) -> Trial | None:
    """Return the trial that the experiment's present stage puts into the route, if any."""
    if not serves_challenger(experiment.state):
        return None
    declaration, stage = experiment.declaration, experiment.stage
    return Trial(
        experiment=declaration.name,
        stage=stage.number,
        challengers=stage.challengers,
        dropped=tuple(each for each in stage.challengers if each in experiment.dropped),
        cut=stage.share,
        floor=stage.floor,
        unit=declaration.unit,
        salt=declaration.salt,
        deadline=declaration.deadline,
        segments=declaration.segments,
        audience=declaration.audience,
        layer=declaration.layer,
        shadow=stage.shadow,
        budget=declaration.budget,
        watch=watch_of(declaration, shadow=declaration.shadow if stage.shadow else None),
    )


def watch_of(declaration: Declaration, *, shadow: Shadow | None = None) -> Watch:
    """Return what edges have to count for the metrics that only they can measure.

    Args:
        shadow: How answers are compared that nobody gets; None where users get them.
    """
    measured = [metric for metric in declaration.metrics if metric.at_edge]
    slow = {
        metric.counter: SlowMark(metric.counter, metric.kind.above_ms)
        for metric in measured
        if isinstance(metric.kind, Slow)
    }
    cohort = declaration.cohort
    return Watch(
        slow=tuple(slow.values()),
        histogram=any(isinstance(metric.kind, Quantile) for metric in measured),
        cohort_seconds=round(cohort.total_seconds()) if cohort is not None else None,
        tolerance=shadow.tolerance if shadow is not None else None,
    )
