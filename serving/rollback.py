"""Going back: first the traffic, then everything else.

The same code serves the API and a person, in every state of an experiment. What is decided
automatically (`serving.controller`) takes the same path through `Switch`.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import chain
from time import monotonic

from experiments.codec import decode
from experiments.errors import StaleRevision, StoreUnavailable, UnknownReceipt
from experiments.experiment import Experiment
from experiments.lifecycle import Event
from experiments.receipts import ByHand, Receipt
from experiments.store import Store
from registry.refs import Version, VersionRef
from serving.break_glass import Order, RolledBack, named
from serving.clock import Clock
from serving.errors import JustRolledBack, NothingToRollBack, TargetNotHot
from serving.hosts import HostState, statuses
from serving.intent import restored
from serving.lanes import has_hosts
from serving.records import Held, Records
from serving.routes import Route, withdraw
from serving.switch import ATTEMPTS, Switch


class CutShort(StoreUnavailable):
    """The store went away while a rollback was carried out: it may be in force, or not.

    Args:
        withdrawn: The versions that it takes away, so that finishing it takes away no other.
    """

    def __init__(self, message: str, *, withdrawn: tuple[Version, ...]) -> None:
        super().__init__(message)
        self.withdrawn = withdrawn


ROLLBACK = "rollback"
"""What a receipt calls a rollback that a person ordered."""

CALM = timedelta(seconds=30)
"""How soon after a rollback another has to be confirmed."""


class Rollback:
    """Carries out rollbacks that a person orders."""

    def __init__(self, store: Store, records: Records, switch: Switch, clock: Clock) -> None:
        self._store = store
        self._records = records
        self._switch = switch
        self._clock = clock

    async def __call__(self, order: Order) -> RolledBack:
        """Withdraw what is on trial, or else the champion, and wait for every live edge.

        Raises:
            UnknownModel: the model has no route.
            NothingToRollBack: there is neither a trial nor a previous version, or what was to be
                withdrawn is withdrawn already.
            JustRolledBack: it was rolled back moments ago, so this might be the second hand on the
                same button; `to` or `force` says that it is meant.
            TargetNotHot: the target would not answer at once; `force` goes there all the same,
                if it has been loaded since it was deployed.
            CutShort: the store went away in the middle; `break_glass` finishes it.
            StoreUnavailable: the store is away, nothing was begun; `break_glass` works.
        """
        began = monotonic()
        for _ in range(ATTEMPTS):
            held = await self._records.route(order.model)
            running = await self._records.running(order.model)
            planned = _withdrawn(held.value, running, order, self._clock())
            if order.withdrawn and not set(planned.withdrawn) <= set(order.withdrawn):
                gone = named(order.withdrawn)
                raise NothingToRollBack(f"Of {order.model}, {gone} had been withdrawn already.")
            if not running and order.to is None and not order.force:
                await self._require_calm(held.value)
            await require_hot(self._store, planned.target, "a rollback to it", force=order.force)
            try:
                return await self._carry_out(order, planned, held.value, running, began)
            except StaleRevision:
                # Somebody was quicker: look again, but withdraw nothing else than was meant.
                order = replace(order, withdrawn=planned.withdrawn)
            except StoreUnavailable as error:
                raise CutShort(error.message, withdrawn=planned.withdrawn) from error
        raise StaleRevision(f"{order.model} kept changing while it was to be rolled back.")

    async def _carry_out(
        self,
        order: Order,
        planned: "_Planned",
        found: Route,
        running: list[Held[Experiment]],
        began: float,
    ) -> RolledBack:
        now = self._clock()
        reasons = (order.why,)
        receipt = ""
        for held in running or (None,):
            receipt = await self._records.keep_act(
                ROLLBACK,
                reasons,
                model=order.model,
                by=order.by,
                at=now,
                route=replace(found, receipt=receipt or found.receipt),
                experiment=held.value if held else None,
            )
            if held is not None:
                # First, so that the controller does not put the trial back in between.
                ended = held.value.after(Event.ROLL_BACK, now, reasons=reasons, receipt=receipt)
                await self._records.write_experiment(ended, expected=held.revision)

        async def change(route: Route | None) -> Route:
            if route is None:
                raise StaleRevision(f"{order.model} has lost its route meanwhile.")
            again = _withdrawn(route, running, order, now)
            if again.withdrawn != planned.withdrawn:
                raise StaleRevision(f"The champion of {order.model} has changed meanwhile.")
            return replace(again.route, receipt=receipt)

        switched = await self._switch.change(order.model, change, began=began)
        return RolledBack(
            model=order.model,
            withdrawn=planned.withdrawn,
            to_version=planned.target.version,
            edges=switched.obeyed,
            silent=switched.silent,
            lost=switched.lost,
            acknowledged=switched.acknowledged,
            milliseconds=switched.milliseconds,
            waited=switched.waited,
            receipt=receipt,
        )

    async def _require_calm(self, route: Route) -> None:
        """Make sure that two people who press the button at once do not go back twice."""
        if route.receipt is None:
            return
        try:
            _, content = await self._records.receipt(route.receipt)
        except UnknownReceipt:
            return  # Lost with the store's data; a rollback does not wait for that.
        last = decode(Receipt, content)
        is_rollback = last.act.kind == "roll_back" or (
            isinstance(last.act, ByHand) and last.act.action == ROLLBACK
        )
        if is_rollback and self._clock() - last.at < CALM:
            raise JustRolledBack(
                f"{route.model} was rolled back by {last.by} moments ago and stands for version "
                f"{route.champion}; another rollback would withdraw that too."
            )


async def require_hot(store: Store, ref: VersionRef, purpose: str, *, force: bool = False) -> None:
    """Make sure that `ref` would answer at once; with `force`, that it has been loaded at all.

    Raises:
        TargetNotHot: it would not; the message says what it would take.
    """
    status = (await statuses(store)).get(ref)
    if not has_hosts(ref.model):
        return
    if status is None:
        raise TargetNotHot(
            f"{ref} is cold: it is not deployed, so {purpose} cannot be served.",
            next_step=f"Deploy it: `tiltyard deploy {ref.model} {ref.version}`.",
        )
    loaded = status.wanted and (status.loaded or status.ready_replicas > 0)
    if status.state is not HostState.HOT and not (force and loaded):
        raise TargetNotHot(
            f"{ref} is {status.state} ({status.ready_replicas} of {status.spec.replicas} replicas "
            f"are ready{f': {status.reason}' if status.reason else ''}), so {purpose} would not "
            "be answered at once."
        )


@dataclass(frozen=True, slots=True)
class _Planned:
    route: Route
    withdrawn: tuple[Version, ...]
    target: VersionRef


def _withdrawn(
    route: Route, running: list[Held[Experiment]], order: Order, now: datetime
) -> _Planned:
    next_epoch = replace(route, epoch=route.epoch + 1, by=order.by, why=order.why, at=now)
    if running:
        experiments = [held.value for held in running]
        if any(order.to in each.declaration.challengers for each in experiments):
            raise NothingToRollBack(
                f"Version {order.to} of {order.model} is on trial: it is nothing to go back to.",
                next_step="`tiltyard promote MODEL VERSION` makes it the champion.",
            )
        changed = reduce(restored, experiments, next_epoch)
        if order.to in (None, changed.champion):
            target = VersionRef(order.model, changed.champion)
            remaining = chain.from_iterable(each.remaining for each in experiments)
            withdrawn = tuple(dict.fromkeys(remaining))
            return _Planned(changed, withdrawn, target)
    if order.to is None:
        planned = withdraw(route, by=order.by, why=order.why, at=now)
        target = VersionRef(order.model, planned.to_version)
        return _Planned(planned.route, planned.withdrawn, target)
    if order.to == route.champion and not route.trials:
        raise NothingToRollBack(f"{order.model} already stands for version {order.to}.")
    changed = replace(next_epoch, champion=order.to, previous=None, trials=())
    withdrawn = tuple(sorted(route.served - {order.to}))
    return _Planned(changed, withdrawn, VersionRef(order.model, order.to))
