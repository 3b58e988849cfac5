"""Hosts are declared and withdrawn; ticks make it true, whatever dies in between."""

from contextlib import suppress
from dataclasses import replace

import pytest

from experiments.codec import decode, encode
from experiments.errors import LeaseLost
from experiments.store import Fence, Kind
from experiments.store.memory import MemoryStore
from registry.refs import VersionRef
from serving.errors import AlreadyDeployed, HostsUnavailable
from serving.hosts import HostState, HostStatus, declare, statuses, withdraw
from serving.hosts.reconciler import reconcile
from serving.hosts.serve import (
    Application,
    application_name,
    declared_spec,
)
from tests.unit.hosted import NOW, ONE, TWO, config, spec, status


class FakeServe:
    """Serve as the reconciler knows it; `advance` is the time that loading takes."""

    def __init__(self):
        self.running = {}
        self.puts = []
        self.broken = frozenset()
        self.down = False

    def config(self, declared):
        return config(declared)

    def spec(self, told):
        return declared_spec(told)

    async def applications(self):
        if self.down:
            raise HostsUnavailable("down")
        return dict(self.running)

    async def deploy(self, specs):
        if self.down:
            raise HostsUnavailable("down")
        wanted = {application_name(s.ref): s for s in specs}
        self.puts.append(sorted(wanted))
        kept = {n: a for n, a in self.running.items() if n in wanted}
        new = {
            n: Application("DEPLOYING", "", kept[n].running if n in kept else 0, 0, config(s))
            for n, s in wanted.items()
            if n not in kept or kept[n].config != config(s)
        }
        gone = {
            n: replace(a, status="DELETING", running=0)
            for n, a in self.running.items()
            if n not in wanted
        }
        self.running = gone | kept | new

    async def probe(self, ref):
        return application_name(ref) in self.running

    def advance(self):
        for name, found in list(self.running.items()):
            if found.status == "DELETING":
                del self.running[name]
            elif name in self.broken:
                message = "Traceback:\nregistry.errors.CorruptArtifact: not the registered files"
                self.running[name] = replace(found, status="DEPLOY_FAILED", message=message)
            else:
                replicas = found.config["deployments"][0]["num_replicas"]
                self.running[name] = replace(found, status="RUNNING", running=replicas)


class Crash(Exception):
    pass


class Interrupted:
    """Passes calls on to `inner`, and crashes just before call number `after`, or just after."""

    def __init__(self, inner, budget):
        self._inner = inner
        self._budget = budget

    def __getattr__(self, name):
        attribute = getattr(self._inner, name)
        if name not in ("write", "deploy"):
            return attribute

        async def counted(*args, **kwargs):
            self._budget.spend()
            result = await attribute(*args, **kwargs)
            self._budget.spend()
            return result

        return counted


class Budget:
    """Allows so many steps, crashes once, and then allows all."""

    def __init__(self, steps):
        self.left = steps
        self.crashed = False

    def spend(self):
        if self.left == 0 and not self.crashed:
            self.crashed = True
            raise Crash
        self.left -= 1


@pytest.fixture
def store():
    return MemoryStore(now=lambda: NOW)


@pytest.fixture
def serve():
    return FakeServe()


async def settle(store, serve, ticks=8):
    for _ in range(ticks):
        await reconcile(store, serve, now=NOW)
        serve.advance()
    return await reconcile(store, serve, now=NOW)


async def test_a_declared_version_becomes_hot(store, serve):
    await declare(store, spec(), now=NOW)
    assert (await statuses(store))[ONE].state is HostState.PENDING
    assert (await settle(store, serve))[ONE].state is HostState.HOT
    assert serve.puts == [["digits-1"]]


async def test_declaring_what_is_deployed_is_refused(store, serve):
    await declare(store, spec(), now=NOW)
    with pytest.raises(AlreadyDeployed):
        await declare(store, spec(), now=NOW)
    await settle(store, serve)
    with pytest.raises(AlreadyDeployed, match="hot"):
        await declare(store, spec(), now=NOW)


async def test_declaring_another_number_of_replicas_changes_it(store, serve):
    await declare(store, spec(), now=NOW)
    await settle(store, serve)
    await declare(store, spec(replicas=2), now=NOW)
    assert (await statuses(store))[ONE].state is HostState.WARM
    after = (await settle(store, serve))[ONE]
    assert (after.state, after.ready_replicas) == (HostState.HOT, 2)


async def test_a_withdrawn_version_is_forgotten_once_it_is_gone(store, serve):
    await declare(store, spec(), now=NOW)
    await settle(store, serve)
    await withdraw(store, ONE, now=NOW)
    await withdraw(store, ONE, now=NOW)
    await reconcile(store, serve, now=NOW)
    assert (await statuses(store))[ONE].state is HostState.REMOVING
    assert await settle(store, serve) == {} == await statuses(store)
    await declare(store, spec(), now=NOW)
    assert (await settle(store, serve))[ONE].state is HostState.HOT


async def test_withdrawing_what_is_not_deployed_does_nothing(store):
    await withdraw(store, ONE, now=NOW)
    assert await statuses(store) == {}


async def test_what_the_store_has_forgotten_goes_on_running_and_is_declared_again(store, serve):
    await declare(store, spec(ONE), now=NOW)
    await settle(store, serve)
    puts = list(serve.puts)
    empty = MemoryStore(now=lambda: NOW)
    await settle(empty, serve)
    assert (await statuses(empty))[ONE].spec == spec(ONE)
    assert (await statuses(empty))[ONE].state is HostState.HOT
    assert serve.puts == puts


async def test_what_others_run_on_our_ray_is_taken_out(store, serve):
    serve.running["theirs"] = Application("RUNNING", "", 1, 0, {"import_path": "theirs:app"})
    await settle(store, serve)
    assert serve.running == {}


async def test_a_failed_version_stays_failed_until_it_is_declared_anew(store, serve):
    serve.broken = frozenset({"digits-2"})
    await declare(store, spec(), now=NOW)
    await declare(store, spec(TWO), now=NOW)
    after = await settle(store, serve)
    assert after[TWO].state is HostState.FAILED
    assert after[TWO].reason == "CorruptArtifact: not the registered files"
    assert set(serve.running) == {"digits-1"}
    serve.broken = frozenset()
    assert (await settle(store, serve))[TWO].state is HostState.FAILED
    await declare(store, spec(TWO), now=NOW)
    assert (await settle(store, serve))[TWO].state is HostState.HOT


async def test_what_was_put_and_withdrawn_by_others_meanwhile_is_not_overwritten(store, serve):
    await declare(store, spec(), now=NOW)

    async def interfering():
        await withdraw(store, ONE, now=NOW)
        return {}

    serve.applications = interfering
    await reconcile(store, serve, now=NOW)
    assert (await statuses(store))[ONE].state is HostState.REMOVING


async def test_after_a_restart_of_ray_everything_is_put_again(store, serve):
    await declare(store, spec(), now=NOW)
    await declare(store, spec(TWO, replicas=2), now=NOW)
    await settle(store, serve)
    serve.running = {}
    assert (await reconcile(store, serve, now=NOW))[ONE].state is HostState.DEPLOYING
    assert {s.state for s in (await settle(store, serve)).values()} == {HostState.HOT}
    assert serve.puts[-1] == ["digits-1", "digits-2"]


async def test_while_ray_is_away_nothing_is_changed(store, serve):
    await declare(store, spec(), now=NOW)
    await settle(store, serve)
    before = await store.read_all(Kind.HOST)
    serve.down = True
    with pytest.raises(HostsUnavailable):
        await reconcile(store, serve, now=NOW)
    assert await store.read_all(Kind.HOST) == before


async def test_who_lost_the_lease_deploys_nothing(store, serve):
    await declare(store, spec(), now=NOW)
    with pytest.raises(LeaseLost):
        await reconcile(store, serve, now=NOW, fence=Fence(99))
    assert serve.puts == []


@pytest.mark.parametrize("steps", range(12))
async def test_a_crash_after_any_step_is_repaired_by_the_next_tick(store, serve, steps):
    serve.broken = frozenset({"digits-2"})
    budget = Budget(steps)
    await declare(store, spec(), now=NOW)
    await declare(store, spec(TWO), now=NOW)
    for _ in range(10):
        with suppress(Crash):
            await reconcile(Interrupted(store, budget), Interrupted(serve, budget), now=NOW)
        serve.advance()
    assert budget.crashed
    after = await settle(store, serve)
    assert {ref: s.state for ref, s in after.items()} == {
        ONE: HostState.HOT,
        TWO: HostState.FAILED,
    }
    assert set(serve.running) == {"digits-1"}


def test_a_status_survives_the_store():
    known = status(HostState.WARM, spec(gpus=0.5), ready_replicas=1, reason="x", loaded=True)
    assert decode(HostStatus, encode(HostStatus, known)) == known


@pytest.mark.parametrize("wrong", [{"replicas": 0}, {"cpus": -1}, {"gpus": -0.5}])
def test_a_host_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError):
        spec(**wrong)


def test_no_two_versions_share_an_application():
    refs = [VersionRef.parse(t) for t in ("a/1", "a/11", "a-1/1", "a_1/1", "a-1-1/1", "a/111")]
    assert len({application_name(ref) for ref in refs}) == len(refs)
