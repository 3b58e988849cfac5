"""Going back: first the traffic, then everything else.

The same code serves the API and a person, in every state of an experiment. What is decided
automatically (`serving.controller`) takes the same path through `Switch`.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import httpx2

from experiments.experiment import Experiment
from experiments.lifecycle import Event
from experiments.receipts import ByHand, Receipt
from experiments.store import Store
from registry.refs import ModelName, Version, VersionRef
from serving.clock import Clock
from serving.errors import EdgeUnavailable, NothingToRollBack, Refused, TargetNotHot
from serving.hosts import HostState, statuses
from serving.intent import restored
from serving.records import Held, Records
from serving.routes import Route, withdraw
from serving.switch import Switch

ROLLBACK_SECONDS = 5.0
"""How long break-glass waits for an edge's own socket."""


@dataclass(frozen=True, slots=True)
class Order:
    """A rollback as asked for.

    Args:
        to: The version to go back to; None for what the route says.
        force: Go back even to a version that is not hot.
    """

    model: ModelName
    by: str
    why: str
    to: Version | None = None
    force: bool = False


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A rollback that was carried out.

    Args:
        milliseconds: From the command to the last edge's word that no answer of the withdrawn
            version starts any more.
        silent: Live edges that have not answered in time.
        break_glass: The edges were told directly, because the store could not be reached.
    """

    model: ModelName
    from_version: Version
    to_version: Version
    edges: tuple[str, ...]
    silent: tuple[str, ...]
    milliseconds: float
    receipt: str | None
    break_glass: bool = False


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
            NothingToRollBack: there is neither a trial nor a previous version.
            TargetNotHot: the target would not answer at once; `force` goes there all the same.
            StoreUnavailable: the store is away; `break_glass` works.
        """
        held = await self._records.route(order.model)
        running = await self._records.running(order.model)
        now = self._clock()
        planned = _withdrawn(held.value, running, order, now)
        await self._require_hot(planned.target, force=order.force)
        reasons = (order.why,)
        receipt = await self._records.keep_receipt(
            Receipt(
                model=order.model,
                at=now,
                by=order.by,
                act=ByHand("rollback", reasons),
                plan=running.value.plan if running else None,
                evidence=None,
                previous=(running and running.value.receipt) or held.value.receipt,
            )
        )
        if running is not None:
            # First, so that the controller does not put the trial back in between.
            withdrawn = running.value.after(Event.ROLL_BACK, now, reasons=reasons, receipt=receipt)
            await self._records.write_experiment(withdrawn, expected=running.revision)

        def change(route: Route | None) -> Route:
            assert route is not None
            return replace(_withdrawn(route, running, order, now).route, receipt=receipt)

        switched = await self._switch.change(order.model, change)
        return RolledBack(
            model=order.model,
            from_version=planned.from_version,
            to_version=planned.target.version,
            edges=switched.obeyed,
            silent=switched.silent,
            milliseconds=switched.milliseconds,
            receipt=receipt,
        )

    async def _require_hot(self, target: VersionRef, *, force: bool) -> None:
        if not force:
            await require_hot(self._store, target, "a rollback to it")


async def require_hot(store: Store, ref: VersionRef, purpose: str) -> None:
    """Make sure that `ref` would answer at once.

    Raises:
        TargetNotHot: it would not; the message says what it would take.
    """
    status = (await statuses(store)).get(ref)
    if status is None:
        raise TargetNotHot(f"{ref} is cold: it is not deployed, so {purpose} cannot be served.")
    if status.state is not HostState.HOT:
        raise TargetNotHot(
            f"{ref} is {status.state} ({status.ready_replicas} of {status.spec.replicas} replicas "
            f"are ready{f': {status.reason}' if status.reason else ''}), so {purpose} would not "
            "be answered at once."
        )


@dataclass(frozen=True, slots=True)
class _Planned:
    route: Route
    from_version: Version
    target: VersionRef


def _withdrawn(
    route: Route, running: Held[Experiment] | None, order: Order, now: datetime
) -> _Planned:
    if running is not None:
        experiment = running.value
        challenger = experiment.declaration.challenger
        if order.to == challenger:
            raise NothingToRollBack(
                f"Version {challenger} of {order.model} is on trial: it is nothing to go back to.",
                next_step="`tiltyard promote MODEL VERSION` makes it the champion.",
            )
        changed = restored(route, experiment)
        if order.to in (None, changed.champion):
            return _Planned(
                replace(changed, epoch=route.epoch + 1, by=order.by, why=order.why, at=now),
                challenger,
                VersionRef(order.model, changed.champion),
            )
    if order.to is None:
        planned = withdraw(route, by=order.by, why=order.why, at=now)
        return _Planned(
            planned.route, planned.from_version, VersionRef(order.model, planned.to_version)
        )
    if order.to == route.champion and route.trial is None:
        raise NothingToRollBack(f"{order.model} already stands for version {order.to}.")
    changed = replace(
        route,
        epoch=route.epoch + 1,
        champion=order.to,
        previous=None,
        trial=None,
        by=order.by,
        why=order.why,
        at=now,
    )
    return _Planned(changed, route.champion, VersionRef(order.model, order.to))


async def break_glass(socket: str, order: Order) -> RolledBack:
    """Tell one edge directly, without store, registry or control.

    Raises:
        EdgeUnavailable: the edge's agent does not answer on its socket.
        TiltyardError: what the edge refuses, with the edge's own words.
    """
    transport = httpx2.AsyncHTTPTransport(uds=socket)
    body = {"model": order.model, "by": order.by, "why": order.why}
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://edge", timeout=ROLLBACK_SECONDS
        ) as client:
            answer = await client.post("/rollback", json=body)
    except httpx2.HTTPError as error:
        raise EdgeUnavailable(f"The edge's agent does not answer on {socket}: {error}") from error
    if answer.status_code >= 400:
        raise Refused.from_problem(answer.json())
    found = answer.json()
    return RolledBack(
        model=order.model,
        from_version=Version(found["from"]),
        to_version=Version(found["to"]),
        edges=(found.get("edge", "local"),),
        silent=(),
        milliseconds=found["milliseconds"],
        receipt=None,
        break_glass=True,
    )
