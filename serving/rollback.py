"""Going back: first the traffic, then everything else.

The same code serves the API and a person, in every state of an experiment. What is decided
automatically (`serving.controller`) takes the same path through `Switch`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import reduce
from itertools import chain
from time import monotonic

from experiments.codec import decode
from experiments.errors import StoreUnavailable, UnknownReceipt
from experiments.experiment import Experiment
from experiments.lifecycle import Event
from experiments.receipts import ByHand, Receipt
from experiments.store import Store, Write
from registry.refs import ModelName, Version, VersionRef
from serving.break_glass import Order, RolledBack, named
from serving.clock import Clock
from serving.errors import JustRolledBack, NothingToRollBack, TargetNotHot
from serving.hosts import HostState, HostStatus, statuses
from serving.intent import restored
from serving.lanes import has_hosts
from serving.records import Held, Records, experiment_write, receipt_write
from serving.routes import Route, Withdrawal, is_recent, withdraw
from serving.switch import Move, Switch


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
        meant: Withdrawal | None = None

        async def plan() -> Move:
            nonlocal meant
            # Somebody was quicker: look again, but withdraw nothing else than was meant.
            again = replace(order, withdrawn=meant.withdrawn) if meant else order
            meant, move = await self._plan(again)
            return move

        try:
            switched = await self._switch.carry_out(plan, began=began)
        except StoreUnavailable as error:
            if meant is None:
                raise
            raise CutShort(error.message, withdrawn=meant.withdrawn) from error
        assert meant is not None
        return RolledBack(
            model=order.model,
            withdrawn=meant.withdrawn,
            to_version=meant.to_version,
            edges=switched.obeyed,
            silent=switched.silent,
            lost=switched.lost,
            acknowledged=switched.acknowledged,
            milliseconds=switched.milliseconds,
            waited=switched.waited,
            receipt=switched.after.receipt,
        )

    async def _plan(self, order: Order) -> tuple[Withdrawal, Move]:
        """Return what is to be withdrawn, and all that is written for it, from what stands now."""
        held, running, hosts = await asyncio.gather(
            self._records.route(order.model),
            self._records.running(order.model),
            statuses(self._store),
        )
        found, now = held.value, self._clock()
        known = {each.value.declaration.name for each in running}
        if any(trial.experiment not in known for trial in found.trials):
            # It may have begun between two of these reads; it was written before its trial.
            running = await self._records.running(order.model)
        withdrawal = _withdrawn(found, running, order, now)
        if order.withdrawn and not set(withdrawal.withdrawn) <= set(order.withdrawn):
            gone = named(order.withdrawn)
            raise NothingToRollBack(f"Of {order.model}, {gone} had been withdrawn already.")
        if not running and order.to is None and not order.force:
            await self._require_calm(found, now)
        target = VersionRef(order.model, withdrawal.to_version)
        _require_hot(hosts, target, "a rollback to it", force=order.force)
        receipt, beside = await ended(
            self._records,
            order.model,
            running,
            found.receipt,
            by=order.by,
            why=order.why,
            at=now,
            now=now,
        )
        return withdrawal, Move(held, replace(withdrawal.route, receipt=receipt), beside)

    async def _require_calm(self, route: Route, now: datetime) -> None:
        """Make sure that two people who press the button at once do not go back twice."""
        if route.receipt is None or not is_recent(route.at, now):
            return  # What led to the route is no later than the route.
        try:
            _, content = await self._records.receipt(route.receipt)
        except UnknownReceipt:
            return  # Lost with the store's data; a rollback does not wait for that.
        last = decode(Receipt, content)
        is_rollback = last.act.kind == "roll_back" or (
            isinstance(last.act, ByHand) and last.act.action == ROLLBACK
        )
        if is_rollback and is_recent(last.at, now):
            raise JustRolledBack(
                f"{route.model} was rolled back by {last.by} moments ago and stands for version "
                f"{route.champion}; another rollback would withdraw that too."
            )


async def ended(
    records: Records,
    model: ModelName,
    running: Sequence[Held[Experiment]],
    latest: str | None,
    *,
    by: str,
    why: str,
    at: datetime,
    now: datetime,
    ended_at: datetime | None = None,
) -> tuple[str, tuple[Write, ...]]:
    """Return what is written with the route of a rollback, and the receipt that leads to it.

    That is a receipt for each experiment that runs, or one if there is none, and the experiments'
    ends. As they come with the route, nobody can find a trial in the one and not in the other and
    put it back, and no receipt is of something that was not done.

    Args:
        latest: The receipt that led to the route until then.
        at: When it was ordered.
        ended_at: When the experiments were over, if that is known already.
    """
    drafts: dict[str, Receipt] = {}
    writes: list[Write] = []
    for held in running or (None,):
        drafted = await records.draft_act(
            ROLLBACK,
            (why,),
            model=model,
            by=by,
            at=at,
            latest=latest,
            experiment=held.value if held else None,
            drafts=drafts,
        )
        write = receipt_write(drafted)
        drafts[write.name] = drafted
        latest = write.name
        writes.append(write)
        if held is not None:
            after = held.value.after(Event.ROLL_BACK, now, reasons=(why,), receipt=latest)
            over = replace(after, ended_at=ended_at or after.ended_at)
            writes.append(experiment_write(over, expected=held.revision))
    assert latest is not None
    return latest, tuple(writes)


async def require_hot(store: Store, ref: VersionRef, purpose: str) -> None:
    """Make sure that `ref` would answer at once.

    Raises:
        TargetNotHot: it would not; the message says what it would take.
    """
    _require_hot(await statuses(store), ref, purpose)


def _require_hot(
    found: Mapping[VersionRef, HostStatus], ref: VersionRef, purpose: str, *, force: bool = False
) -> None:
    """The same, from what is known of all hosts; with `force`, if it has been loaded at all."""
    if not has_hosts(ref.model):
        return
    status = found.get(ref)
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


def _withdrawn(
    route: Route, running: list[Held[Experiment]], order: Order, now: datetime
) -> Withdrawal:
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
            remaining = chain.from_iterable(each.remaining for each in experiments)
            return Withdrawal(changed, tuple(dict.fromkeys(remaining)), changed.champion)
    if order.to is None:
        return withdraw(route, by=order.by, why=order.why, at=now)
    if order.to == route.champion and not route.trials:
        raise NothingToRollBack(f"{order.model} already stands for version {order.to}.")
    changed = replace(next_epoch, champion=order.to, previous=None, trials=())
    withdrawn = tuple(sorted(route.served - {order.to}))
    return Withdrawal(changed, withdrawn, order.to)
