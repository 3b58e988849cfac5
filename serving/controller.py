"""The controller's tick: observe, decide, act, note; stepped by hand in tests.

Only the leader ticks. Its writes carry the lease's fencing token, so a leader that was asleep and
has been replaced cannot act on what it decided before. Every step compares what is with what
should be, so a crash after any of them is repaired by the next tick, here or elsewhere.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from experiments.decision import (
    Continue,
    Decision,
    decide,
)
from experiments.errors import LeaseLost, StaleRevision, StoreUnavailable
from experiments.evidence import Evidence, gather
from experiments.experiment import Experiment
from experiments.lifecycle import Event, State, is_transitional, serves_challenger
from experiments.looks import Look
from experiments.receipts import Receipt
from experiments.spec import spec_hash
from experiments.store import Fence, Store
from registry.errors import TiltyardError
from registry.refs import Version, VersionRef
from serving.clock import Clock
from serving.hosts import HostState, statuses
from serving.hosts import withdraw as withdraw_host
from serving.intent import CONTROLLER, is_tried
from serving.lane_keeper import LaneKeeper
from serving.metrics.control import Metrics
from serving.records import Held, Records
from serving.recovery import Recovery
from serving.routes import Route
from serving.settings import Settings
from serving.switch import Switch, Switched

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did.

    Args:
        fence: The leader's token; None if another process leads.
        acted: What was changed, in words.
        failed: What could not be done, by part, in words.
    """

    fence: Fence | None
    acted: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


class Controller:
    """Watches every experiment and carries out what is decided."""

    def __init__(
        self,
        holder: str,
        settings: Settings,
        store: Store,
        records: Records,
        switch: Switch,
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._holder = holder
        self._settings = settings
        self._store = store
        self._records = records
        self._switch = switch
        self._clock = clock
        self._metrics = metrics or Metrics()
        self._recovery = Recovery(records, switch, clock)
        self._lanes = LaneKeeper(store, records, clock)

    async def tick(self) -> Ticked:
        """Look at everything once, and act where something is to be done.

        Raises:
            StoreUnavailable: nothing can be observed, so nothing is decided.
        """
        fence = await self._store.lead(self._holder, ttl=self._settings.leader_lease)
        if fence is None:
            return Ticked(None)
        acted: list[str] = []
        failed: dict[str, str] = {}

        async def part(name: str, step: Callable[[], Awaitable[list[str]]]) -> None:
            try:
                acted.extend(await step())
            except StaleRevision as error:
                log.info("%s: %s; the next tick looks again", name, error)
            except (StoreUnavailable, LeaseLost):
                raise
            except TiltyardError as error:
                failed[name] = f"{error.message} {error.hint}"
            except Exception as error:
                # A defect that one experiment brings out must not stop the others' rollbacks.
                log.exception("%s failed", name)
                failed[name] = f"{type(error).__name__}: {error}"

        try:
            await part("routes", lambda: self._recovery.rebuild_routes(fence))
            await part("overrides", lambda: self._recovery.take_over_overrides(fence))
            await part("lanes", lambda: self._lanes.sweep(fence))
            await part("trials", lambda: self._recovery.withdraw_unwatched(fence))
            for held in await self._records.experiments():
                if not held.value.is_final:
                    name = held.value.declaration.name
                    await part(name, lambda held=held: self._look(held, fence))  # type: ignore[misc]
        except LeaseLost:
            return Ticked(None, tuple(acted), failed)
        return Ticked(fence, tuple(acted), failed)

    async def evidence(self, experiment: Experiment, now: datetime) -> Evidence:
        """Return what has been counted for an experiment so far, and is old enough by `now`."""
        champion = VersionRef(experiment.declaration.model, experiment.champion)
        status = (await statuses(self._store)).get(champion)
        return gather(
            experiment.declaration,
            experiment.stages,
            await self._store.readings(experiment.declaration.name),
            now,
            rollback_target_hot=status is not None and status.state is HostState.HOT,
        )

    async def _look(self, held: Held[Experiment], fence: Fence) -> list[str]:
        experiment = held.value
        if is_transitional(experiment.state):
            return await self._finish(held, fence)
        settled = await self._settle(experiment, fence)
        if serves_challenger(experiment.state) and not is_tried(experiment, settled.after):
            return await self._displace(held, settled.after, fence)
        acted = [f"{experiment.declaration.name}: route repaired"] if settled.changed else []
        if experiment.state is State.HALTED:
            return acted
        now = self._clock()
        evidence = await self.evidence(experiment, now)
        decision = decide(experiment.plan, evidence, now)
        if isinstance(decision, Continue) and decision.looks:
            held = await self._note_looks(held, decision.looks, fence)
            decision = decide(held.value.plan, evidence, now)
        self._metrics.decisions.labels(decision.kind).inc()
        return acted + await self._act(held, decision, evidence, now, fence)

    async def _note_looks(
        self, held: Held[Experiment], looks: tuple[Look, ...], fence: Fence
    ) -> Held[Experiment]:
        """Write looks down before anything follows from them: what they have spent is spent."""
        looked = held.value.having_looked(looks)
        return await self._records.write_experiment(looked, expected=held.revision, fence=fence)

    async def _displace(self, held: Held[Experiment], route: Route, fence: Fence) -> list[str]:
        """End an experiment for which the route has no room: another trial or champion is there.

        Another experiment of the model has promoted its challenger. Or two commands crossed, and
        the one that was to take itself back has died.
        """
        why = "Another experiment or promotion of the model was quicker."
        if route.champion != held.value.champion:
            why = (
                f"Version {route.champion} is the champion now: version {held.value.champion}, "
                "with which this experiment compares, is not any more."
            )
        return await self._finish(await self._recovery.give_way(held, route, why, fence), fence)

    async def _act(
        self,
        held: Held[Experiment],
        decision: Decision,
        evidence: Evidence,
        now: datetime,
        fence: Fence,
    ) -> list[str]:
        """Carry out a decision: receipt, lifecycle, route; the next tick repairs any crash."""
        experiment = held.value
        if isinstance(decision, Continue) and (decision.to_rung is None or decision.looks):
            return []
        receipt = await self._receipt(experiment, decision, evidence, now)
        changed = experiment.following(decision, now, receipt=receipt)
        written = await self._records.write_experiment(changed, expected=held.revision, fence=fence)
        acted = [f"{experiment.declaration.name}: {decision.kind}: {' '.join(decision.reasons)}"]
        if is_transitional(changed.state):
            return acted + await self._finish(written, fence)
        await self._settle(changed, fence)
        return acted

    async def _finish(self, held: Held[Experiment], fence: Fence) -> list[str]:
        """Bring a transition to its end: traffic first, then the host, then the final state."""
        experiment = held.value
        switched = await self._settle(experiment, fence)
        if experiment.state is State.ROLLING_BACK and switched.changed:
            took = switched.waited if switched.silent else switched.milliseconds
            self._metrics.observe_rollback(took / 1000, by=CONTROLLER)
        if switched.silent:
            log.warning("%s: no word from %s yet", experiment.declaration.name, switched.silent)
            return []
        for version in _discarded(experiment):
            ref = VersionRef(experiment.declaration.model, version)
            if ref not in switched.after.versions:
                await withdraw_host(self._store, ref, now=self._clock(), fence=fence)
        over = experiment.after(Event.DONE, self._clock())
        await self._records.write_experiment(over, expected=held.revision, fence=fence)
        return [
            f"{experiment.declaration.name}: {over.state}, obeyed by {len(switched.obeyed)} "
            f"edge(s) after {switched.milliseconds:.1f} ms"
        ]

    async def _settle(self, experiment: Experiment, fence: Fence) -> Switched:
        return await self._switch.settle(experiment, by=CONTROLLER, at=self._clock(), fence=fence)

    async def _receipt(
        self, experiment: Experiment, decision: Decision, evidence: Evidence, now: datetime
    ) -> str:
        route = (await self._records.route(experiment.declaration.model)).value
        previous = await self._records.receipt_before(route.receipt, experiment)
        return await self._records.keep_receipt(
            Receipt(
                model=experiment.declaration.model,
                at=now,
                by=CONTROLLER,
                act=decision,
                plan=experiment.plan,
                evidence=evidence,
                previous=previous,
                spec_hash=spec_hash(experiment.declaration),
            )
        )


def _discarded(experiment: Experiment) -> tuple[Version, ...]:
    """Return the versions that are of no use any more when a transition is over."""
    challengers = experiment.declaration.challengers
    match experiment.state:
        case State.ROLLING_BACK:
            return challengers
        case State.PROMOTING:
            return tuple(each for each in challengers if each != experiment.winner)
    return experiment.dropped
