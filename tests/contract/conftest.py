"""A real Redis for the contract tests: one for the session, and one at will to be killed."""

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from experiments.model import ExperimentName, Variant
from experiments.stats.moments import Moments
from experiments.store import Cell, OutcomeRecord, Store
from experiments.store.memory import MemoryStore
from experiments.store.redis import RedisStore
from registry.refs import Version
from serving.redis_binary import redis_command

_START_SECONDS = 30

DIGITS = ExperimentName("digits-v2")


def cell(
    counter: str = "units",
    *,
    stage: int = 0,
    variant: Variant = Variant.CHALLENGER,
    version: int = 2,
    segment: int = 0,
    cohort: int = 0,
    experiment: str = DIGITS,
) -> Cell:
    where = ExperimentName(experiment), stage, variant, Version(version)
    return Cell(*where, counter, segment=segment, cohort=cohort)


def outcome(
    token: str,
    *,
    slot: int | None = None,
    counter: str = "correct:1",
    pair: tuple[float, float] | None = None,
    stage: int = 0,
    variant: Variant = Variant.CHALLENGER,
    version: int = 2,
    segment: int = 0,
    cohort: int = 0,
    experiment: str = DIGITS,
) -> OutcomeRecord:
    where = cell(
        counter,
        stage=stage,
        variant=variant,
        version=version,
        segment=segment,
        cohort=cohort,
        experiment=experiment,
    )
    return OutcomeRecord(where, token, slot, datetime.now(UTC) + timedelta(days=1), pair)


async def counts(store: Store, experiment: ExperimentName) -> dict[Cell, int]:
    return dict((await store.readings(experiment)).counts)


def assert_close(found: Mapping[Cell, Moments], wanted: Mapping[Cell, Moments]) -> None:
    """Nothing but rounding may tell `found` from `wanted`."""
    assert found.keys() == wanted.keys()
    for cell, moments in wanted.items():
        assert astuple(found[cell]) == pytest.approx(astuple(moments), rel=1e-9, abs=1e-9)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class RedisServer:
    """A redis-server of the tests' own, on loopback."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(redis_command(self.port, self.directory))
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.directory / "redis.log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def send(self, what: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(what)

    def kill(self) -> None:
        """End it as a crash would: without a chance to save anything."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def mortal_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that the test may kill, freeze and start again."""
    server = RedisServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until `condition` holds; the test's own limit ends it if that never happens."""
    while True:
        if await condition():
            return
        await asyncio.sleep(0.005)


def open_redis_store(server: RedisServer) -> AbstractAsyncContextManager[RedisStore]:
    """Return a store that shares nothing with any other on the same server."""
    return RedisStore.open(server.url, prefix=f"test-{uuid4()}:")


@dataclass
class HandClock:
    """Time that passes when the test says so."""

    now: datetime = datetime(2020, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Bench:
    """A store, and how time passes for it."""

    store: Store
    elapse: Callable[[timedelta], object]


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest, redis_server: RedisServer) -> AsyncIterator[Bench]:
    if request.param == "memory":
        clock = HandClock()

        async def elapse(span: timedelta) -> None:
            clock.now += span

        yield Bench(MemoryStore(now=clock), elapse)
    else:

        async def sleep(span: timedelta) -> None:
            await asyncio.sleep(span.total_seconds())

        async with open_redis_store(redis_server) as store:
            yield Bench(store, sleep)


@pytest.fixture
def store(bench: Bench) -> Store:
    return bench.store
