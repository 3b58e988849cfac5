"""What people ask of the system, besides going back: deploy, experiment, promote.

Each command checks everything first and then writes; the controller finishes whatever a crash
leaves half done.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain

from experiments.errors import (
    ChallengerIsChampion,
    ExperimentExists,
    StaleRevision,
    UnknownExperiment,
    WrongState,
)
from experiments.experiment import Experiment
from experiments.lifecycle import Event, is_transitional
from experiments.model import BasisPoints, Declaration, ExperimentName
from experiments.quantities import write_share
from experiments.store import Kind, Store
from registry import Catalog
from registry.errors import UnknownModel, UnknownVersion
from registry.refs import ModelName, Version, VersionRef, users_model_name
from serving.clock import Clock
from serving.errors import InUse, SignatureMismatch
from serving.hosts import HostSpec, HostStatus, declare, statuses
from serving.hosts import withdraw as withdraw_host
from serving.intent import is_tried
from serving.lanes import is_lane
from serving.records import Held, Records
from serving.rollback import require_hot
from serving.routes import Route
from serving.switch import Switch, Switched

START = "start"
"""What a receipt calls the beginning of an experiment."""

HOLDOUT = "holdout"
"""What a receipt calls a new share of units that never meet a challenger."""

BY_PERSON = {
    Event.PAUSE: "paused",
    Event.RESUME: "resumed",
    Event.STOP: "stopped",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a version is given: replicas, and CPUs and GPUs per replica."""

    replicas: int
    cpus: float
    gpus: float


class Commands:
    """Carries out what a person asks for. Every method may raise `StoreUnavailable`."""

    def __init__(
        self, store: Store, records: Records, catalog: Catalog, switch: Switch, clock: Clock
    ) -> None:
        self._store = store
        self._records = records
        self._catalog = catalog
        self._switch = switch
        self._clock = clock

    async def deploy(self, ref: VersionRef, resources: Resources) -> HostStatus:
        """Declare that `ref` is to be loaded; the reconciler makes it so.

        Raises:
            InvalidName: the name is kept for Tiltyard's own models.
            UnknownModel, UnknownVersion: the registry does not know it.
            SignatureMismatch: it takes or gives other tensors than the champion.
            AlreadyDeployed: it is deployed just so.
        """
        users_model_name(ref.model)
        version = await self._catalog.version(ref)
        champion = await self._champion(ref.model)
        if champion is not None and champion != ref:
            held = await self._catalog.version(champion)
            if held.signature != version.signature:
                raise SignatureMismatch(
                    f"{ref} takes {version.signature}, but the champion {champion} takes "
                    f"{held.signature}. Users' requests would fail, so it is not deployed."
                )
        spec = HostSpec(
            ref=ref,
            artifact=version.artifact,
            digest=version.digest,
            replicas=resources.replicas,
            cpus=resources.cpus,
            gpus=resources.gpus,
        )
        await declare(self._store, spec, now=self._clock())
        return (await statuses(self._store))[ref]

    async def undeploy(self, ref: VersionRef) -> None:
        """Unload `ref`.

        Raises:
            InUse: it serves traffic, or is what the model would be rolled back to.
            UnknownVersion: it is not deployed.
        """
        for held in (await self._records.routes()).values():
            if ref in held.value.versions:
                raise InUse(f"{ref} is in the route of {ref.model}.")
        if ref not in await statuses(self._store):
            raise UnknownVersion(f"{ref} is not deployed.")
        await withdraw_host(self._store, ref, now=self._clock())

    async def start(self, declaration: Declaration, *, by: str) -> Held[Experiment]:
        """Begin an experiment: its first stage is in the route when this returns.

        Raises:
            UnknownModel, UnknownVersion: the registry or the route does not know them.
            ExperimentExists: the name is taken, or the model is in an experiment.
            ChallengerIsChampion: there is nothing to compare.
            TargetNotHot: a challenger or the champion is not hot.
        """
        for challenger in () if is_lane(declaration.model) else declaration.challenger_refs:
            await self._catalog.version(challenger)
        route = (await self._records.route(declaration.model)).value
        if route.champion in declaration.challengers:
            raise ChallengerIsChampion(
                f"Version {route.champion} is the champion of {declaration.model} already."
            )
        await self._require_free(declaration)
        for challenger in declaration.challenger_refs:
            await require_hot(self._store, challenger, "an experiment with it")
        champion = VersionRef(declaration.model, route.champion)
        await require_hot(self._store, champion, "an experiment against it")
        now = self._clock()
        experiment = Experiment.begin(declaration, route.champion, now)
        receipt = await self._receipt(
            declaration.model, START, by, (f"Started by {by}.",), experiment
        )
        experiment = replace(experiment, receipt=receipt)
        held = await self._records.write_experiment(experiment, expected=0)
        settled = await self._switch.settle(experiment, by=by, at=now)
        if not is_tried(experiment, settled.after):
            # Two starts crossed, and the route has room for one trial.
            await self._store.delete(Kind.EXPERIMENT, declaration.name)
            raise ExperimentExists(
                f"Another experiment, or promotion, of {declaration.model} was quicker."
            )
        return held

    async def tell(self, name: ExperimentName, event: Event, *, by: str, why: str) -> Switched:
        """Pause, resume or stop an experiment; its route is obeyed when this returns.

        Raises:
            UnknownExperiment: there is none of that name.
            WrongState: the lifecycle does not allow it now.
        """
        held = await self._records.experiment(name)
        now = self._clock()
        reasons = (why or f"{BY_PERSON[event].capitalize()} by {by}.",)
        held.value.after(event, now)  # Refused before anything is written.
        receipt = await self._receipt(held.value.declaration.model, event, by, reasons, held.value)
        changed = held.value.after(event, now, reasons=reasons, receipt=receipt)
        await self._records.write_experiment(changed, expected=held.revision)
        return await self._switch.settle(changed, by=by, at=now)

    async def promote(self, ref: VersionRef, *, by: str, why: str) -> Switched:
        """Make `ref` the champion now, whatever its experiment has shown.

        Raises:
            UnknownModel, UnknownVersion: the registry does not know it.
            TargetNotHot: it is not hot.
            WrongState: the model is in an experiment in which `ref` cannot win any more, or never
                could.
            StaleRevision: an experiment was started at the same time.
        """
        await self._catalog.version(ref)
        await require_hot(self._store, ref, "a promotion")
        running = await self._records.running(ref.model)
        reasons = (why or f"Promoted by {by}.",)
        now = self._clock()
        if running:
            return await self._promote_challenger(running, ref, by, reasons)
        before = await self._route(ref.model)
        if before is not None and before.champion == ref.version:
            return await self._switch.change(ref.model, _as_it_is)
        receipt = await self._receipt(ref.model, Event.PROMOTE, by, reasons, None)

        async def change(route: Route | None) -> Route:
            if route is not None and route.trials:
                raise StaleRevision(f"An experiment of {ref.model} was started meanwhile.")
            if route is None:
                return Route(ref.model, 1, ref.version, None, (), by, reasons[0], now, receipt)
            promoted = replace(route, champion=ref.version, previous=route.champion)
            return _next(promoted, by, reasons[0], now, receipt)

        return await self._switch.change(ref.model, change)

    async def hold_out(
        self, model: ModelName, share: BasisPoints, *, by: str, why: str
    ) -> Switched:
        """Keep a share of the model's units from every challenger, in all experiments to come.

        Raises:
            UnknownModel: the model has no route.
            WrongState: an experiment runs, in which some units would change sides.
            StaleRevision: an experiment was started at the same time.
        """
        users_model_name(model)
        running = await self._records.running(model)
        if running:
            names = " and ".join(held.value.declaration.name for held in running)
            raise WrongState(
                f"{model} is in the experiment {names}: units that have met a challenger would be "
                "held out, or the other way round.",
                next_step="Set the holdout once it is over.",
            )
        before = (await self._records.route(model)).value
        if before.holdout == share:
            return await self._switch.change(model, _as_it_is)
        said = f"{write_share(share)} of the units never meet a challenger"
        reasons = (f"{said}, until now {write_share(before.holdout)}.", *filter(None, [why]))
        receipt = await self._receipt(model, HOLDOUT, by, reasons, None)
        now = self._clock()

        async def change(route: Route | None) -> Route:
            if route is None or route.trials:
                raise StaleRevision(f"An experiment of {model} was started meanwhile.")
            return _next(replace(route, holdout=share), by, reasons[0], now, receipt)

        return await self._switch.change(model, change)

    async def _promote_challenger(
        self, running: list[Held[Experiment]], ref: VersionRef, by: str, reasons: tuple[str, ...]
    ) -> Switched:
        held = next((it for it in running if ref.version in _may_win(it.value)), running[0])
        experiment = held.value
        if ref.version not in _may_win(experiment):
            raise _not_eligible(ref, [each.value for each in running])
        now = self._clock()
        experiment.after(Event.PROMOTE, now)  # Refused before anything is written.
        receipt = await self._receipt(ref.model, Event.PROMOTE, by, reasons, experiment)
        changed = experiment.promoting(ref.version, now, reasons=reasons, receipt=receipt)
        await self._records.write_experiment(changed, expected=held.revision)
        return await self._switch.settle(changed, by=by, at=now)

    async def _champion(self, model: ModelName) -> VersionRef | None:
        route = await self._route(model)
        return VersionRef(model, route.champion) if route else None

    async def _route(self, model: ModelName) -> Route | None:
        try:
            return (await self._records.route(model)).value
        except UnknownModel:
            return None

    async def _require_free(self, declaration: Declaration) -> None:
        for held in await self._records.running(declaration.model):
            _require_apart(declaration, held.value)
        try:
            await self._records.experiment(declaration.name)
        except UnknownExperiment:
            return
        raise ExperimentExists(
            f"There was an experiment {declaration.name!r} already, and its evidence is kept.",
            next_step="Choose another name.",
        )

    async def _receipt(
        self,
        model: ModelName,
        action: str,
        by: str,
        reasons: tuple[str, ...],
        experiment: Experiment | None,
    ) -> str:
        return await self._records.keep_act(
            action,
            reasons,
            model=model,
            by=by,
            at=self._clock(),
            route=await self._route(model),
            experiment=experiment,
        )


def _may_win(experiment: Experiment) -> tuple[Version, ...]:
    winner = experiment.winner
    return (winner,) if winner is not None else experiment.declaration.challengers


def _not_eligible(ref: VersionRef, running: list[Experiment]) -> WrongState:
    names = [each.declaration.name for each in running]
    versions = dict.fromkeys(chain.from_iterable(map(_may_win, running)))
    stop = " and ".join(f"`tiltyard experiment stop {name}`" for name in names)
    return WrongState(
        f"{ref.model} is in {'the experiment' if len(names) == 1 else 'the experiments'} "
        f"{' and '.join(names)}, which can only end with {' or '.join(map(str, versions))} as "
        f"champion, not with {ref.version}.",
        next_step=(
            f"Stop first: {stop}."
            if all(each.winner is None for each in running)
            else f"Go back first: `tiltyard rollback {ref.model}`."
        ),
    )


def _require_apart(declaration: Declaration, other: Experiment) -> None:
    """Make sure that no unit could be in both experiments."""
    theirs = other.declaration
    running = f"{declaration.model} is in the experiment {theirs.name}"
    if theirs.layer is None:
        raise ExperimentExists(
            f"{running}, which has no layer, and so all units to itself.",
            next_step=f"Stop it first: `tiltyard experiment stop {theirs.name}`.",
        )
    if declaration.layer is None:
        raise ExperimentExists(
            f"{running}, and one without a layer needs all units.",
            next_step=f"Declare a free part of the layer {theirs.layer.name}, or stop the other: "
            f"`tiltyard experiment stop {theirs.name}`.",
        )
    if is_transitional(other.state) or other.winner is not None:
        raise ExperimentExists(
            f"{running}, which is {other.state.replace('_', ' ')}.",
            next_step="Wait until it is over.",
        )
    if declaration.unit != theirs.unit:
        raise ExperimentExists(
            f"{running}, whose unit is {theirs.unit}: with {declaration.unit} the same user could "
            "be in both.",
            next_step=f"Use the unit {theirs.unit}, or wait until it is over.",
        )
    if not declaration.layer.is_apart_from(theirs.layer):
        raise ExperimentExists(
            f"{running}, which has a part of the layer {theirs.layer.name} "
            f"({write_share(theirs.layer.low)} to {write_share(theirs.layer.high)}) that this one "
            "does not leave to it.",
            next_step=f"Choose a part of the layer {theirs.layer.name} that is free.",
        )


def _next(route: Route, by: str, why: str, at: datetime, receipt: str) -> Route:
    """Return the route one epoch on."""
    return replace(route, epoch=route.epoch + 1, by=by, why=why, at=at, receipt=receipt)


async def _as_it_is(route: Route | None) -> Route:
    if route is None:
        raise StaleRevision("The model has lost its route meanwhile.")
    return route
