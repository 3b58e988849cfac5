"""How evidence lies in Redis: refused as a whole, forgotten in time, and as small as can be."""

from datetime import timedelta

import pytest
from redis.asyncio import Redis

from experiments.errors import StoreUnavailable
from experiments.store import Applied, Batch, OutcomeRecord, Readings
from experiments.store.memory import MemoryStore
from experiments.store.redis import RedisStore
from tests.contract.conftest import DIGITS, HandClock, RedisServer, cell, outcome

UNITS = cell("units")
CORRECT = cell("correct:1")


async def test_a_redis_out_of_memory_refuses_a_batch_as_a_whole(
    mortal_redis: RedisServer,
) -> None:
    async with (
        RedisStore.open(mortal_redis.url) as store,
        Redis.from_url(mortal_redis.url) as redis,
    ):
        await store.apply(Batch("edge-0", 0, 1, {UNITS: 1}))
        await redis.config_set("maxmemory", "1mb")
        await redis.config_set("maxmemory-policy", "noeviction")
        await redis.execute_command("SET", "filler", b"x")
        await redis.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match=r"refuses: .*memory"):
            await store.apply(Batch("edge-0", 1, 2, {UNITS: 1}, {CORRECT: frozenset({1})}))
        with pytest.raises(StoreUnavailable, match=r"refuses: .*memory"):
            await store.observe([outcome("a")])
        with pytest.raises(StoreUnavailable, match=r"refuses: .*memory"):
            await store.observe([outcome("b", slot=5, pair=(1.0, 0.0)), outcome("c")])
        assert await store.readings(DIGITS) == Readings({UNITS: 1})
        await redis.config_set("maxmemory", "0")
        assert await store.apply(Batch("edge-0", 1, 2, {UNITS: 1})) == 2
        told = [outcome("b", slot=5, pair=(1.0, 0.0)), outcome("c")]
        assert await store.observe(told) == [Applied.COUNTED] * 2


async def test_all_that_is_remembered_about_outcomes_is_forgotten_in_time(
    redis_server: RedisServer,
) -> None:
    async with (
        RedisStore.open(redis_server.url, prefix="forget:") as store,
        Redis.from_url(redis_server.url) as redis,
    ):
        await store.observe([outcome("a"), outcome("b")])
        used = await redis.keys("forget:used:*")
        assert len(used) == 1
        assert 86_400 < await redis.ttl(used[0]) <= 86_400 + 3_600


async def test_the_memory_store_forgets_tokens_that_would_be_late() -> None:
    clock = HandClock()
    store = MemoryStore(now=clock)
    record = OutcomeRecord(CORRECT, "a", None, clock.now + timedelta(days=1))
    assert await store.observe([record]) == [Applied.COUNTED]
    clock.now += timedelta(days=1)
    assert await store.observe([record]) == [Applied.DUPLICATE]
    clock.now += timedelta(hours=1)
    assert await store.observe([record]) == [Applied.COUNTED]


async def test_all_cells_of_a_name_share_one_bitmap_a_stage(redis_server: RedisServer) -> None:
    async with (
        RedisStore.open(redis_server.url, prefix="shared:") as store,
        Redis.from_url(redis_server.url) as redis,
    ):
        cells = [
            cell(f"took:{bucket}", stage=stage, version=version)
            for bucket in range(20)
            for stage in (0, 1)
            for version in (2, 3)
        ]
        slots = {where: frozenset({slot}) for slot, where in enumerate(cells)}
        await store.apply(Batch("edge-0", 0, 1, slots=slots))
        await store.observe([outcome("a", slot=99, counter="took:7")])
        assert sorted(await redis.keys("shared:met:*")) == [
            f"shared:met:{DIGITS}:took:{stage}".encode() for stage in (0, 1)
        ]


async def test_units_that_come_again_write_no_bit_again(redis_server: RedisServer) -> None:
    async with (
        RedisStore.open(redis_server.url, prefix="again:") as store,
        Redis.from_url(redis_server.url) as redis,
    ):
        slots = {cell(f"took:{bucket}"): frozenset(range(50)) for bucket in range(10)}
        await redis.config_resetstat()
        await store.apply(Batch("edge-0", 0, 1, slots=slots))
        await store.apply(Batch("edge-0", 1, 2, slots=slots))
        commands = await redis.info("commandstats")
        assert commands["cmdstat_setbit"]["calls"] == 50
        assert commands["cmdstat_getrange"]["calls"] == 2


async def test_each_cell_of_a_report_is_written_once(redis_server: RedisServer) -> None:
    async with (
        RedisStore.open(redis_server.url, prefix="written:") as store,
        Redis.from_url(redis_server.url) as redis,
    ):
        told = [
            outcome(f"{n}", counter=f"revenue:{n % 3}", pair=(float(n), 1.0)) for n in range(90)
        ]
        await redis.config_resetstat()
        await store.observe(told)
        assert (await redis.info("commandstats"))["cmdstat_hset"]["calls"] == 3


async def test_a_mean_moves_on_by_steps_smaller_than_its_digits(
    redis_server: RedisServer,
) -> None:
    """At 1e15 a double has eighths: the mean of many values needs more than that."""
    values = [1e15] * 40 + [1e15 + 1.0] * 960
    async with RedisStore.open(redis_server.url, prefix="steps:") as store:
        told = [
            outcome(f"{n}", counter="revenue:1", pair=(value, -value))
            for n, value in enumerate(values)
        ]
        await store.observe(told)
        found = (await store.readings(DIGITS)).moments[cell("revenue:1")]
        assert found.mean == pytest.approx(1e15 + 0.96, abs=0.13)
        assert found.mean_x == pytest.approx(-1e15 - 0.96, abs=0.13)
        assert found.variance == pytest.approx(0.96 * 0.04 * 1000 / 999, rel=1e-9)
        assert found.covariance == pytest.approx(-0.96 * 0.04 * 1000 / 999, rel=1e-9)
