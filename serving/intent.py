"""Which route an experiment wants: pure, so that any process can finish what another began.

A route is never *edited towards* a goal in several steps; it is compared with what the
experiment's state asks for, and replaced if it differs. A crash between the two is repaired by
whoever looks next.
"""

from dataclasses import replace
from datetime import datetime

from experiments.experiment import Experiment
from experiments.lifecycle import State, serves_challenger
from serving.routes import Route, SlowMark, Trial

CONTROLLER = "controller"


def wanted_route(route: Route, experiment: Experiment, *, by: str, at: datetime) -> Route:
    """Return the route that `experiment` asks for, one epoch on; `route` itself if it is that.

    A finished experiment asks for nothing, and a trial of another experiment is left alone.
    """
    if experiment.is_final:
        return route
    name = experiment.declaration.name
    if route.trial is not None and route.trial.experiment != name:
        return route
    if experiment.state is State.PROMOTING:
        wanted = _promoted(route, experiment)
    elif experiment.state is State.ROLLING_BACK:
        wanted = restored(route, experiment)
    else:
        # Against any other champion it would not be the comparison that was declared.
        fits = route.champion == experiment.champion
        wanted = replace(route, trial=trial_of(experiment) if fits else None)
    wanted = replace(wanted, receipt=experiment.receipt or route.receipt)
    if wanted == route:
        return route
    why = f"{name}: {' '.join(experiment.reasons) or experiment.state}"
    return replace(wanted, epoch=route.epoch + 1, by=by, why=why, at=at)


def _promoted(route: Route, experiment: Experiment) -> Route:
    challenger = experiment.declaration.challenger
    if route.champion == challenger:
        return replace(route, trial=None)
    return replace(route, champion=challenger, previous=route.champion, trial=None)


def restored(route: Route, experiment: Experiment) -> Route:
    """Return the route without the challenger, even if it had been promoted already."""
    if route.champion != experiment.declaration.challenger:
        return replace(route, trial=None)
    champion = experiment.champion
    previous = None if route.previous == champion else route.previous
    return replace(route, champion=champion, previous=previous, trial=None)


def is_tried(experiment: Experiment, route: Route) -> bool:
    """Return whether the route carries the experiment's trial."""
    return route.trial is not None and route.trial.experiment == experiment.declaration.name


def trial_of(experiment: Experiment) -> Trial | None:
    """Return the trial that the experiment's present stage puts into the route, if any."""
    if not serves_challenger(experiment.state):
        return None
    declaration = experiment.declaration
    return Trial(
        experiment=declaration.name,
        stage=experiment.stage.number,
        challenger=declaration.challenger,
        cut=experiment.stage.share,
        floor=experiment.stage.floor,
        unit=declaration.unit,
        salt=declaration.salt,
        deadline=declaration.deadline,
        slow=tuple(
            SlowMark(guardrail.key, guardrail.above_ms)
            for guardrail in declaration.guardrails
            if guardrail.above_ms is not None
        ),
    )
