"""Hosts: which versions are meant to be loaded, and how far each of them is.

The store keeps one document a version: what was declared and what was last seen. `declare`
and `withdraw` change the first, the reconciler acts on it and writes the second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from experiments.codec import decode, encode
from experiments.errors import StaleRevision
from experiments.store import Fence, Kind, Store, Stored
from registry.refs import VersionRef
from serving.errors import AlreadyDeployed
from serving.hosts.faults import Fault

HOST_DEPLOYMENT = "host"
"""Name of the one Serve deployment in the application of a version."""


class HostState(StrEnum):
    """How far a version is on its way to traffic, and off it."""

    PENDING = "pending"
    """Declared; Ray has not been asked yet."""
    DEPLOYING = "deploying"
    """Asked for; no replica is loaded."""
    WARM = "warm"
    """Loaded, but with too few replicas, or not reached through the ingress."""
    HOT = "hot"
    """Every replica is loaded, and a probe through the ingress was answered."""
    FAILED = "failed"
    """It could not be loaded; it stays so until it is declared anew."""
    REMOVING = "removing"
    """Withdrawn; its last requests are being answered."""
    REMOVED = "removed"
    """Gone. Only the store knows this one: for everybody else the version is not deployed."""


@dataclass(frozen=True, slots=True)
class HostSpec:
    """What was declared of one version.

    Args:
        artifact, digest: Where its files are and what they hash to, as the catalog says.
        cpus, gpus: For each replica; Ray's scheduler gives them away, nothing enforces them.
        fault: Planted on purpose, to see whether it is found; only ever in a lane.
    """

    ref: VersionRef
    artifact: str
    digest: str
    replicas: int = 1
    cpus: float = 0.1
    gpus: float = 0.0
    fault: Fault = Fault.NONE

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ValueError(f"{self.replicas} replicas cannot serve")
        if self.cpus < 0 or self.gpus < 0:
            raise ValueError("there are no negative resources")


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What was declared of a version, and what was last seen of it.

    Args:
        reason: Why it is in this state, where that does not go without saying.
        since: When it came into this state.
        loaded: It has been loaded once since it was declared. Such a version is not given up:
            if it is gone, it is loaded again.
    """

    spec: HostSpec
    state: HostState
    ready_replicas: int
    reason: str
    since: datetime
    loaded: bool = False

    @property
    def wanted(self) -> bool:
        """Whether Ray is to run it."""
        return self.state not in (HostState.FAILED, HostState.REMOVING, HostState.REMOVED)

    def seen(
        self, state: HostState, now: datetime, *, ready_replicas: int = 0, reason: str = ""
    ) -> "HostStatus":
        """Return the status after an observation; `since` moves only if the state does."""
        return replace(
            self,
            state=state,
            ready_replicas=ready_replicas,
            reason=reason,
            since=self.since if state is self.state else now,
            loaded=self.loaded or ready_replicas > 0,
        )


async def declare(
    store: Store, spec: HostSpec, *, now: datetime, fence: Fence | None = None
) -> None:
    """Have the version loaded. One that failed or is being removed is deployed anew; one that
    is deployed otherwise than `spec` says is changed.

    Raises:
        AlreadyDeployed: it is deployed, or on its way, exactly so; nothing is changed.
    """

    def declared(status: HostStatus | None) -> HostStatus:
        if status is None or not status.wanted:
            return HostStatus(spec, HostState.PENDING, 0, "", now)
        if status.spec == spec:
            raise AlreadyDeployed(f"{spec.ref} is deployed already: it is {status.state}")
        state = HostState.WARM if status.ready_replicas else HostState.PENDING
        return replace(status.seen(state, now, ready_replicas=status.ready_replicas), spec=spec)

    await _change(store, spec.ref, declared, fence)


async def withdraw(
    store: Store, ref: VersionRef, *, now: datetime, fence: Fence | None = None
) -> None:
    """Have the version unloaded, once its last requests are answered. Idempotent."""

    def withdrawn(status: HostStatus | None) -> HostStatus | None:
        if status is None or status.state in (HostState.REMOVING, HostState.REMOVED):
            return None
        return status.seen(HostState.REMOVING, now, reason="withdrawn")

    await _change(store, ref, withdrawn, fence)


async def statuses(store: Store) -> Mapping[VersionRef, HostStatus]:
    """Return every version that is declared, failed or being removed.

    Raises:
        StoreUnavailable: Redis cannot be reached.
    """
    stored = await store.read_all(Kind.HOST)
    found = (read_status(document) for document in stored.values())
    return {s.spec.ref: s for s in found if s.state is not HostState.REMOVED}


def read_status(document: Stored) -> HostStatus:
    """Return what a document of `Kind.HOST` says."""
    return decode(HostStatus, document.body)


def write_status(status: HostStatus) -> bytes:
    """Return the body of the document."""
    return encode(HostStatus, status)


async def _change(
    store: Store,
    ref: VersionRef,
    change: Callable[[HostStatus | None], HostStatus | None],
    fence: Fence | None,
) -> None:
    """Apply `change` to the latest document, again if another was quicker."""
    while True:
        stored = await store.read(Kind.HOST, str(ref))
        changed = change(None if stored is None else read_status(stored))
        if changed is None:
            return
        try:
            await store.write(
                Kind.HOST,
                str(ref),
                write_status(changed),
                expected=stored.revision if stored else 0,
                fence=fence,
            )
        except StaleRevision:
            continue
        return
