"""What Ray runs brought to what is declared, one tick at a time.

`plan` compares and decides; `reconcile` looks, writes down what it saw, and then sends Serve
the complete set, if anything differs. It keeps nothing from one tick to the next: whatever is
left undone by a crash, the next tick finds different and does.
"""

import ast
import asyncio
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from experiments.errors import StaleRevision
from experiments.store import Fence, Kind, Store
from registry.refs import VersionRef
from serving.hosts import HostSpec, HostState, HostStatus, read_status, write_status
from serving.hosts.serve import Application, application_name

RESTART_AFTER = timedelta(seconds=60)
"""Serve does not try again what failed to load; a version that had been loaded before is taken
out and put back after this long."""

_GIVEN_UP = "DEPLOY_FAILED"
_EXCEPTION_LINE = re.compile(r"(?:\w+\.)*(?P<name>[A-Z]\w*)(?P<rest>: .*)?")
_RESOURCES = re.compile(r"required for each replica: (\{.*?\}), .*available: (\{.*?\})", re.DOTALL)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Serve(Protocol):
    """What the reconciler needs of Ray Serve; every method may raise `HostsUnavailable`."""

    def config(self, spec: HostSpec) -> Mapping[str, Any]:
        """Return what `deploy` tells Serve of one version."""

    def spec(self, config: Mapping[str, Any]) -> HostSpec | None:
        """Return what an application was declared as; None if it is none of ours."""

    async def applications(self) -> Mapping[str, Application]:
        """Return every application by name."""

    async def deploy(self, specs: Iterable[HostSpec]) -> None:
        """Make these, and no others, the applications that Serve runs."""

    async def probe(self, ref: VersionRef) -> bool:
        """Tell whether the version answers through the ingress; does not raise."""

    async def example(self, ref: VersionRef) -> bytes | None:
        """Return a request that the version takes; None if it was saved without one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one tick does, in this order.

    Args:
        seen: Every version's status as of now.
        deploy: The complete set to send to Serve; None if it has that already.
    """

    seen: Mapping[VersionRef, HostStatus]
    deploy: tuple[HostSpec, ...] | None


def plan(
    statuses: Mapping[VersionRef, HostStatus],
    applications: Mapping[str, Application],
    *,
    answered: frozenset[VersionRef],
    config: Callable[[HostSpec], Mapping[str, Any]],
    now: datetime,
) -> Plan:
    """Decide what a tick does.

    Args:
        applications: What Serve reports, by name.
        answered: Versions whose probe through the ingress was answered.
        config: What Serve is told of a version.
    """
    seen: dict[VersionRef, HostStatus] = {}
    wanted: dict[str, HostSpec] = {}
    for ref, status in statuses.items():
        name = application_name(ref)
        application = applications.get(name)
        as_declared = application is not None and covers(config(status.spec), application.config)
        seen[ref] = observe(
            status, application, as_declared=as_declared, answered=ref in answered, now=now
        )
        if seen[ref].wanted and not _stuck(seen[ref], application, now):
            wanted[name] = status.spec
    running = {n: a.config for n, a in applications.items() if a.status != "DELETING"}
    same = wanted.keys() == running.keys() and all(
        covers(config(spec), running[name]) for name, spec in wanted.items()
    )
    return Plan(seen, None if same else tuple(wanted.values()))


def observe(
    status: HostStatus,
    application: Application | None,
    *,
    as_declared: bool,
    answered: bool,
    now: datetime,
) -> HostStatus:
    """Return the status of one version after a look at its application."""
    if status.state is HostState.REMOVING and application is None:
        return status.seen(HostState.REMOVED, now)
    if not status.wanted:
        return status
    if application is None or application.status == "DELETING":
        reason = "Ray has lost it: loading it again" if status.loaded else ""
        return status.seen(HostState.DEPLOYING, now, reason=reason)
    ready = application.running
    if ready == 0:
        failed = application.status == _GIVEN_UP and as_declared and not status.loaded
        state = HostState.FAILED if failed else HostState.DEPLOYING
        return status.seen(state, now, reason=explain(application))
    short_of_hot = _short_of_hot(status.spec, application, as_declared, answered)
    state = HostState.WARM if short_of_hot else HostState.HOT
    return status.seen(state, now, ready_replicas=ready, reason=short_of_hot)


def _short_of_hot(
    spec: HostSpec,
    application: Application,
    as_declared: bool,
    answered: bool,
) -> str:
    """Return what a loaded version lacks; empty if nothing."""
    why = explain(application)
    if application.running < spec.replicas:
        reason = f"{application.running} of {spec.replicas} replicas"
        return f"{reason}; {why}" if why else reason
    if not as_declared or application.status != "RUNNING":
        return why or "being changed to what is declared"
    return "" if answered else "not reached through Serve's ingress"


def _stuck(status: HostStatus, application: Application | None, now: datetime) -> bool:
    """Whether Serve has given up a version that is not to be given up."""
    return (
        application is not None
        and application.status == _GIVEN_UP
        and status.ready_replicas == 0
        and application.pending == 0
        and now - status.since > RESTART_AFTER
    )


def covers(told: Any, reported: Any) -> bool:  # noqa: ANN401  any JSON
    """Tell whether Serve reports all that it was told; it may add defaults of its own.

    Examples:
        >>> covers({"replicas": 1}, {"replicas": 1, "log_level": "INFO"})
        True
    """
    if isinstance(told, Mapping) and isinstance(reported, Mapping):
        return all(key in reported and covers(v, reported[key]) for key, v in told.items())
    if isinstance(told, list) and isinstance(reported, list):
        return len(told) == len(reported) and all(map(covers, told, reported))
    return bool(told == reported)


def explain(application: Application) -> str:
    """Return the one line of Serve's message that a person needs; empty if there is none."""
    message = _COLOUR.sub("", application.message).strip()
    if resources := _RESOURCES.search(message):
        return _missing(*map(ast.literal_eval, resources.groups()))
    lines = message.splitlines()
    for at in range(len(lines) - 1, -1, -1):
        if raised := _EXCEPTION_LINE.fullmatch(lines[at]):
            first = f"{raised['name']}{raised['rest'] or ''}"
            return " ".join([first, *(line.strip() for line in lines[at + 1 :])])
    if "to initialize" in message:
        return "loading"
    return lines[0] if lines else ""


def _missing(needed: Mapping[str, float], free: Mapping[str, float]) -> str:
    short = [
        f"needs {amount:g} {name}, the cluster has {free.get(name, 0):g} free"
        for name, amount in needed.items()
        if free.get(name, 0) < amount
    ]
    return f"waiting for resources: {'; '.join(short)}" if short else "starting"


async def reconcile(
    store: Store, serve: Serve, *, now: datetime, fence: Fence | None = None
) -> Mapping[VersionRef, HostStatus]:
    """Do one tick and return every version's status.

    Args:
        fence: The leader's token: whoever has lost the lease writes and deploys nothing.

    Raises:
        HostsUnavailable: Ray does not answer; nothing was changed.
        StoreUnavailable, LeaseLost: nothing was sent to Serve.
    """
    stored = await store.read_all(Kind.HOST)
    applications = await serve.applications()
    if forgotten := _forgotten(serve, stored.keys(), applications):
        await _adopt(store, forgotten, now, fence)
        stored = await store.read_all(Kind.HOST)
    statuses = {status.spec.ref: status for status in map(read_status, stored.values())}
    answered = await _probe(serve, statuses, applications)
    decided = plan(statuses, applications, answered=answered, config=serve.config, now=now)
    for ref, status in decided.seen.items():
        if status != statuses[ref]:
            # Somebody declared or withdrew it meanwhile: the next tick sees that.
            with suppress(StaleRevision):
                await store.write(
                    Kind.HOST,
                    str(ref),
                    write_status(status),
                    expected=stored[str(ref)].revision,
                    fence=fence,
                )
    if decided.deploy is not None:
        await serve.deploy(decided.deploy)
    return {r: s for r, s in decided.seen.items() if s.state is not HostState.REMOVED}


def _forgotten(
    serve: Serve, known: Collection[str], applications: Mapping[str, Application]
) -> list[HostSpec]:
    """Return what Serve runs for us and the store does not know.

    The store keeps even what was removed, so such a version was declared before the store lost
    its data, and users may be served by it.
    """
    specs = [serve.spec(a.config) for a in applications.values() if a.status != "DELETING"]
    return [spec for spec in specs if spec is not None and str(spec.ref) not in known]


async def _adopt(
    store: Store, forgotten: Iterable[HostSpec], now: datetime, fence: Fence | None
) -> None:
    for spec in forgotten:
        body = write_status(HostStatus(spec, HostState.PENDING, 0, "", now))
        with suppress(StaleRevision):
            await store.write(Kind.HOST, str(spec.ref), body, expected=0, fence=fence)


async def _probe(
    serve: Serve,
    statuses: Mapping[VersionRef, HostStatus],
    applications: Mapping[str, Application],
) -> frozenset[VersionRef]:
    loaded = [
        ref
        for ref, status in statuses.items()
        if status.wanted
        and (application := applications.get(application_name(ref)))
        and application.running >= status.spec.replicas
    ]
    answers = await asyncio.gather(*map(serve.probe, loaded))
    return frozenset(ref for ref, answer in zip(loaded, answers, strict=True) if answer)
