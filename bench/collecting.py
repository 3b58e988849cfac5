"""How many lines of the request log one collector takes in, a real Redis behind it.

`python -m bench.collecting LINES` in a process of its own prints one line of JSON. Lines are what
HAProxy writes in an experiment in which most requests come from a unit that was never seen.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from bench.processes import Group
from experiments.model import BasisPoints, ExperimentName
from experiments.store.redis import RedisStore
from experiments.store.slots import SLOTS
from experiments.unit import HeaderUnit
from registry.refs import ModelName, Version
from serving.edge.collector import Collector
from serving.edge.logline import parse
from serving.edge.routebook import Known
from serving.local.ports import free_ports
from serving.redis_binary import redis_command
from serving.routes import Route, SlowMark, Trial, Watch

EXPERIMENT = ExperimentName("bench")

RETURNING = 0.3
"""Share of requests that come from a unit that was there before."""


def known() -> Known:
    """Return what an edge knows while the experiment runs: errors and slow answers are watched."""
    trial = Trial(
        experiment=EXPERIMENT,
        stage=1,
        challengers=(Version(2),),
        cut=BasisPoints(5_000),
        unit=HeaderUnit("x-unit-id"),
        salt="bench",
        deadline=timedelta(seconds=2),
        watch=Watch((SlowMark("latency_ms>250", 250),)),
    )
    now = datetime.now(UTC)
    route = Route(ModelName("digits"), 3, Version(1), None, (trial,), "bench", "to measure", now)
    return Known().with_route(route)


def lines(count: int, began_ms: int) -> Iterator[str]:
    """Yield lines of the request log, some 5,000 of them a second."""
    rng = np.random.default_rng(7)
    seen = rng.integers(SLOTS, size=1_000)
    returning = rng.random(count) < RETURNING
    slots = np.where(
        returning, seen[rng.integers(len(seen), size=count)], rng.integers(SLOTS, size=count)
    )
    took = rng.gamma(2.0, 4.0, size=count).astype(int)
    for number, (slot, took_ms) in enumerate(zip(slots.tolist(), took.tolist(), strict=True), 1):
        version = slot % 2 + 1
        arm = "champion" if version == 1 else "challenger"
        yield (
            f"3\t{number}\t{began_ms + number // 5}\t3\tdigits\t{version}\t{EXPERIMENT}\t1\t{arm}\t"
            f"{slot}\t0\t200\t{max(took_ms - number % 2, 0)}\t{took_ms}\t0\thost\t--\n"
        )


async def collected(log: Path, redis_url: str, count: int) -> tuple[float, float]:
    """Take the whole log in; return seconds by the clock on the wall, and of this process."""
    async with RedisStore.open(redis_url) as store:
        while True:
            try:
                await store.position("nobody:yet")
                break
            except Exception:  # Redis is starting
                await asyncio.sleep(0.05)
        facts = known()
        collector = Collector(log, edge="bench", store=store, known=lambda: facts)
        began, own = time.perf_counter(), time.process_time()
        while collector.progress.requests_seen < count:
            if not await collector.step():
                raise RuntimeError(f"the collector stopped at {collector.progress}")
        took = time.perf_counter() - began, time.process_time() - own
    found = collector.progress
    if found.malformed_lines or found.lost_bytes or found.requests_seen != count:
        raise RuntimeError(f"not everything was counted: {found}")
    return took


def measured(count: int) -> dict[str, float]:
    """Write a log, start a Redis, and collect."""
    run = f"collecting-{time.time_ns()}"
    group = Group(run, "redis")
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp") as folder:
        place = Path(folder)
        log = place / "requests.log"
        began = round((time.time() - 60) * 1000)
        with log.open("w") as file:
            file.writelines(lines(count, began))
        with log.open() as file:
            parse(file.readline())
        (port,) = free_ports(1)
        (place / "redis").mkdir()
        # With a title of its own it would lose its environment, and with it the mark.
        redis = [*redis_command(port, place / "redis"), "--set-proc-title", "no"]
        group.start(redis, place / "redis.log")
        try:
            url = f"redis://127.0.0.1:{port}/0"
            wall, own = asyncio.run(collected(log, url, count))
        finally:
            group.end()
    return {
        "events_per_second": round(count / wall),
        "events_per_cpu_second": round(count / own),
        "lines": count,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measured(int(sys.argv[1]))) + "\n")
