"""Lines of the pairs' log into evidence, each once, and each unit once a stage."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from math import inf, nan
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.evidence import LOST
from experiments.model import BasisPoints, ExperimentName, Variant
from experiments.stats.moments import Moments
from experiments.store import Cell
from experiments.store.memory import MemoryStore
from experiments.store.slots import SLOTS
from experiments.unit import RequestUnit
from registry.refs import ModelName, Version
from serving.edge.following import Bounds
from serving.edge.pairline import (
    NO_ANSWER,
    About,
    Drops,
    Pair,
    Reason,
    UnreadablePairLine,
    parse,
)
from serving.edge.pairs import PairsCollector
from serving.edge.requestlog import BLOCK
from serving.edge.routebook import Known
from serving.metrics.edge import SHADOW_REASONS
from serving.routes import Route, SlowMark, Trial, Watch

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DIGITS, TRIAL = ModelName("digits"), ExperimentName("trial")
CHAMPION, CHALLENGER = Version(1), Version(2)
ABOUT = About("a-1", 1_795_379_000_000, DIGITS, TRIAL, 0, CHALLENGER)
PAIR = Pair(ABOUT, 7, 200, 200, 10.0, 12.5, agreed=True, difference=0.5)
SHADOW = Trial(
    experiment=TRIAL,
    stage=0,
    challengers=(CHALLENGER,),
    cut=BasisPoints(2_000),
    unit=RequestUnit(),
    salt="s",
    deadline=timedelta(seconds=2),
    shadow=True,
    watch=Watch(slow=(SlowMark("slow>250", 250),), tolerance=0.01),
)
ROUTE = Route(DIGITS, 3, CHAMPION, None, (SHADOW,), by="test", why="test", at=NOW)
KNOWN = Known().with_route(ROUTE)


def cell(counter: str, *, stage: int = 0, version: Version = CHALLENGER) -> Cell:
    return Cell(TRIAL, stage, Variant.CHALLENGER, version, counter)


def of_stage(pair: Pair, stage: int) -> Pair:
    return replace(pair, about=replace(pair.about, stage=stage))


class Log:
    """A pairs' log, and what follows it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pairs.log"
        self.store = MemoryStore(now=lambda: NOW)
        self.bounds = Bounds(batch=400, keep=0, free=BLOCK)
        self.restart()

    def restart(self) -> None:
        self.collector = PairsCollector(
            self.path,
            edge="edge-0",
            store=self.store,
            known=lambda: KNOWN,
            bounds=self.bounds,
        )

    async def count(self, *lines: Pair | Drops | bytes) -> None:
        with self.path.open("ab") as log:
            for line in lines:
                log.write(line if isinstance(line, bytes) else line.line())
        while await self.collector.step():
            pass

    async def counts(self) -> Mapping[Cell, int]:
        return (await self.store.readings(TRIAL)).counts

    async def moments(self) -> Mapping[Cell, Moments]:
        return (await self.store.readings(TRIAL)).moments


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


# ---- lines

numbers = st.floats(0, 1e12, allow_nan=False)
abouts = st.builds(
    About,
    st.from_regex(r"[0-9a-f]{1,16}-[0-9]{1,9}", fullmatch=True),
    st.integers(0, 2**53),
    st.just(DIGITS),
    st.sampled_from([TRIAL, ExperimentName("other")]),
    st.integers(0, 99),
    st.integers(1, 10**9).map(Version),
)
pairs = st.builds(
    Pair,
    abouts,
    st.none() | st.integers(0, SLOTS - 1),
    st.sampled_from([200, 422, 503, NO_ANSWER]),
    st.sampled_from([200, 422, 503, NO_ANSWER]),
    numbers.map(lambda ms: round(ms, 3)),
    numbers.map(lambda ms: round(ms, 3)),
    st.none() | st.booleans(),
    st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
)
drops = st.builds(Drops, abouts, st.integers(1, 10**9), st.sampled_from(Reason))


@given(line=pairs | drops)
def test_a_line_says_what_was_written(line: Pair | Drops) -> None:
    body = line.line()
    assert body.endswith(b"\n")
    assert parse(body.decode().removesuffix("\n")) == line


@given(line=pairs | drops, data=st.data())
def test_a_line_that_is_cut_off_is_not_taken_for_another_kind(
    line: Pair | Drops, data: st.DataObject
) -> None:
    text = line.line().decode().removesuffix("\n")
    cut = text[: data.draw(st.integers(0, text.rindex("\t")))]
    with pytest.raises(UnreadablePairLine):
        parse(cut)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2" + PAIR.line().decode()[1:-1],
        PAIR.line().decode()[:-1] + "\t1",
        replace(PAIR, slot=SLOTS).line().decode()[:-1],
        replace(PAIR, slot=-1).line().decode()[:-1],
        replace(PAIR, difference=nan).line().decode()[:-1],
        replace(PAIR, challenger_ms=inf).line().decode()[:-1],
        replace(PAIR, about=replace(ABOUT, version=Version(0))).line().decode()[:-1],
        replace(PAIR, about=replace(ABOUT, experiment=ExperimentName("a b"))).line().decode()[:-1],
        Drops(ABOUT, 1, Reason.STALE).line().decode()[:-1] + "r",
    ],
)
def test_a_line_that_cannot_be_is_refused(line: str) -> None:
    with pytest.raises(UnreadablePairLine):
        parse(line)


def test_every_reason_is_explained() -> None:
    assert {reason.value for reason in Reason} == SHADOW_REASONS.keys()


def test_haproxy_gives_no_other_reason() -> None:
    program = files("serving.edge").joinpath("shadow.lua").read_text()
    given = set(re.findall(r"give_up\('(\w+)'\)|'(\w+_(?:large|failed))'|'(stale)'", program))
    reasons = {word for words in given for word in words if word}
    assert len(reasons) == 9
    assert reasons <= {reason.value for reason in Reason}


# ---- counts


async def test_a_pair_counts_in_each_way_that_it_can_be_looked_at(log: Log) -> None:
    await log.count(PAIR)
    assert await log.counts() == {
        cell("pairs"): 1,
        cell("pair_error:0"): 1,
        cell("pair_slow>250:0"): 1,
        cell("agreement:1"): 1,
        cell("pair_slower:1"): 1,
    }
    assert await log.moments() == {
        cell("pair_difference:1"): Moments(1, 0.5),
        cell("pair_latency:1"): Moments(1, 2.5),
    }


@pytest.mark.parametrize(
    ("champion", "challenger", "index"),
    [(200, 200, 0), (422, 200, 0), (200, 500, 1), (200, 429, 1), (NO_ANSWER, 200, 2), (500, -1, 3)],
)
async def test_errors_are_counted_by_who_had_them(
    log: Log, champion: int, challenger: int, index: int
) -> None:
    await log.count(replace(PAIR, champion=champion, challenger=challenger))
    assert (await log.counts())[cell(f"pair_error:{index}")] == 1


@pytest.mark.parametrize(
    ("champion", "challenger", "index"),
    [(10.0, 250.0, 0), (10.0, 250.001, 1), (251.0, 1.0, 2), (251.0, 251.0, 3)],
)
async def test_slow_answers_are_counted_by_whose_they_were(
    log: Log, champion: float, challenger: float, index: int
) -> None:
    await log.count(replace(PAIR, champion_ms=champion, challenger_ms=challenger))
    assert (await log.counts())[cell(f"pair_slow>250:{index}")] == 1


async def test_what_is_not_known_of_a_pair_is_not_counted(log: Log) -> None:
    await log.count(
        replace(PAIR, slot=1, champion=NO_ANSWER, agreed=None, difference=None),
        replace(PAIR, slot=2, challenger=500, agreed=False, difference=None, challenger_ms=0.1),
        replace(PAIR, slot=3, difference=1e200),
    )
    counts, moments = await log.counts(), await log.moments()
    assert (counts[cell("pairs")], counts[cell("agreement:0")], counts[cell("agreement:1")]) == (
        3,
        1,
        1,
    )
    assert moments.keys() == {cell("pair_latency:1")}
    assert moments[cell("pair_latency:1")].n == 1


async def test_a_unit_s_first_pair_in_a_stage_counts(log: Log) -> None:
    await log.count(PAIR)
    later = replace(PAIR, challenger=500, agreed=False, difference=9.0)
    await log.count(later, replace(later, slot=8), of_stage(later, 1))
    log.restart()
    await log.count(later)
    assert await log.counts() == {
        cell("pairs"): 4,
        cell("pairs", stage=1): 1,
        cell("pair_error:0"): 1,
        cell("pair_error:1"): 1,
        cell("pair_error:1", stage=1): 1,
        cell("pair_slow>250:0"): 2,
        cell("pair_slow>250:0", stage=1): 1,
        cell("agreement:1"): 1,
        cell("agreement:0"): 1,
        cell("agreement:0", stage=1): 1,
        cell("pair_slower:1"): 1,
    }
    assert (await log.moments())[cell("pair_difference:1")].n == 2


async def test_in_one_batch_a_unit_s_first_pair_counts_too(log: Log) -> None:
    log.bounds = Bounds()
    log.restart()
    await log.count(replace(PAIR, agreed=False), PAIR, replace(PAIR, difference=9.0))
    counts = await log.counts()
    assert (counts[cell("agreement:0")], cell("agreement:1") in counts) == (1, False)
    assert (await log.moments())[cell("pair_difference:1")].mean == 0.5


async def test_where_requests_are_units_each_pair_counts(log: Log) -> None:
    alone = replace(PAIR, slot=None)
    await log.count(alone, replace(alone, difference=1.5), replace(alone, agreed=False))
    counts = await log.counts()
    assert (counts[cell("agreement:1")], counts[cell("agreement:0")]) == (2, 1)
    assert (await log.moments())[cell("pair_difference:1")].n == 3


async def test_what_was_dropped_is_counted_by_challenger_and_told_by_reason(log: Log) -> None:
    other = replace(ABOUT, version=Version(3))
    await log.count(
        Drops(ABOUT, 5, Reason.QUEUE_FULL),
        Drops(other, 2, Reason.QUEUE_FULL),
        Drops(ABOUT, 1, Reason.STREAMED),
    )
    assert await log.counts() == {
        cell("pairs_dropped"): 6,
        cell("pairs_dropped", version=Version(3)): 2,
    }
    assert log.collector.progress.dropped == {Reason.QUEUE_FULL: 7, Reason.STREAMED: 1}


async def test_what_cannot_be_read_is_told_and_what_is_gone_is_charged(log: Log) -> None:
    await log.count(PAIR, b"nonsense\n", b"\xff\n", bytes(100) + b"\n", replace(PAIR, slot=8))
    progress = log.collector.progress
    assert (progress.malformed_lines, progress.lost_bytes, progress.backlog_bytes) == (2, 101, 0)
    assert progress.pairs == {DIGITS: 2}
    lost = Cell(TRIAL, 0, Variant.CHAMPION, CHAMPION, LOST)
    assert (await log.counts())[lost] == 101


async def test_what_is_counted_is_freed_and_not_counted_again(log: Log) -> None:
    many = [replace(PAIR, slot=slot) for slot in range(200)]
    await log.count(*many)
    assert log.path.stat().st_blocks * 512 < log.path.stat().st_size
    log.restart()
    await log.count(replace(PAIR, slot=200))
    assert (await log.counts())[cell("pairs")] == 201
    assert log.collector.progress.malformed_lines == 0
