"""What HAProxy hands over is put down once, whatever is sent again or dies in between."""

import asyncio
import os
from pathlib import Path

import pytest

from serving.edge.pairline import Drops, Pair, Reason, parse
from serving.edge.shadow.answer import Answer
from serving.edge.shadow.pairs_log import PairsLog
from serving.edge.shadow.wire import Asked, UnreadableMessage, read_message
from serving.edge.shadow.worker import Worker

ANSWER = b'{"outputs": [{"name": "y", "datatype": "FP64", "shape": [1], "data": [1.0]}]}'
ABOUT = "1795379000000\tdigits\ttrial\t0\t2"


def pair(name: str, *, body: bytes = b"{}", answer: bytes = ANSWER) -> bytes:
    parts = (b"/hosts/digits/1/infer", b"host: a\r\nx-own: b: c\r\n", body, b"", answer)
    sizes = "\t".join(str(len(part)) for part in parts)
    return f"pair\t{name}\t{ABOUT}\t7\t2000\t200\t1.500\t{sizes}\n".encode() + b"".join(parts)


def drop(name: str) -> bytes:
    return f"drop\t{name}\t{ABOUT}\t3\tqueue_full\n".encode()


class Challengers:
    """Answers like the champion, once it may."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.reached = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ask(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        self.reached.set()
        await self.may_answer.wait()
        return Answer(200, (), ANSWER)


class HAProxy:
    """One connection: it sends, and hangs up once everything is put down.

    Attributes:
        told: What the worker said.
    """

    def __init__(self, *sent: bytes, took: bytes = b"2.500\n") -> None:
        self.reader = asyncio.StreamReader()
        self.told: list[str] = []
        self._took = took
        self._sent = iter(sent)
        self._send()

    def write(self, data: bytes) -> None:
        self.told.append(data.decode().strip())
        if data == b"took\n":
            self.reader.feed_data(self._took)
        else:
            self._send()

    def _send(self) -> None:
        message = next(self._sent, None)
        if message is None:
            self.reader.feed_eof()
        else:
            self.reader.feed_data(message)

    async def drain(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        self.told.append("closed")


class Beside:
    """A worker and its log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.challengers = Challengers()
        self.restart()

    def restart(self) -> None:
        self.worker = Worker(
            self.challengers,  # type: ignore[arg-type]
            PairsLog(self.path),
            tolerance=lambda name: 0.01 if name == "trial" else None,
        )

    async def serve(self, *sent: bytes, **more: bytes) -> list[str]:
        haproxy = HAProxy(*sent, **more)
        await self.worker.serve(haproxy.reader, haproxy)  # type: ignore[arg-type]
        return haproxy.told

    def lines(self) -> list[Pair | Drops]:
        return [parse(line) for line in self.path.read_text().splitlines()]

    def names(self) -> list[str]:
        return [line.about.name for line in self.lines()]


@pytest.fixture
async def beside(tmp_path: Path) -> Beside:
    return Beside(tmp_path / "pairs.log")


# ---- messages


async def test_a_message_is_read_as_it_was_sent(beside: Beside) -> None:
    body = bytes(range(256))
    await beside.serve(pair("a-1", body=body))
    (asked,) = beside.challengers.asked
    assert (asked.path, asked.body, asked.slot) == (b"/hosts/digits/1/infer", body, 7)
    assert asked.headers == ((b"host", b"a"), (b"x-own", b"b: c"))
    assert (asked.answer.status, asked.answer.body) == (200, ANSWER)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\n",
        b"what\n",
        b"drop\ta-1\n",
        drop("a-1").replace(b"queue_full", b"no_reason"),
        pair("a-1").replace(b"\t2000\t", b"\tsoon\t"),
        pair("a-1").replace(b"\ttrial\t", b"\ta b\t"),
        b"pair\t" + bytes(100_000),
        b"\xff\n",
    ],
)
async def test_nonsense_ends_the_connection_and_nothing_else(
    beside: Beside, nonsense: bytes
) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(nonsense)
    with pytest.raises(UnreadableMessage):
        await read_message(reader)
    assert await beside.serve(nonsense, drop("a-2")) == ["closed"]
    assert await beside.serve(drop("a-2")) == ["a-2", "closed"]


@pytest.mark.parametrize("sent", [pair("a-1")[:-1], pair("a-1")[:20]])
async def test_a_message_that_breaks_off_is_none(beside: Beside, sent: bytes) -> None:
    haproxy = HAProxy(sent)
    haproxy.reader.feed_eof()
    await beside.worker.serve(haproxy.reader, haproxy)  # type: ignore[arg-type]
    assert haproxy.told == ["closed"]
    assert not beside.path.exists()


# ---- once


async def test_a_pair_is_put_down_before_haproxy_is_told(beside: Beside) -> None:
    assert await beside.serve(pair("a-1"), pair("a-2")) == ["took", "a-1", "took", "a-2", "closed"]
    first, _ = beside.lines()
    assert isinstance(first, Pair)
    assert (first.champion_ms, first.challenger_ms) == (1.5, 2.5)
    assert (first.agreed, first.difference) == (True, 0.0)


async def test_what_is_sent_again_is_put_down_once(beside: Beside) -> None:
    await beside.serve(pair("a-1"), drop("a-2"))
    assert await beside.serve(pair("a-1"), drop("a-2")) == ["a-1", "a-2", "closed"]
    beside.restart()
    assert await beside.serve(pair("a-1"), drop("a-1")) == ["a-1", "a-1", "closed"]
    assert beside.names() == ["a-1", "a-2"]
    assert len(beside.challengers.asked) == 1


async def test_what_is_sent_again_while_it_is_underway_is_asked_once(beside: Beside) -> None:
    beside.challengers.may_answer.clear()
    first = asyncio.create_task(beside.serve(pair("a-1")))
    again = asyncio.create_task(beside.serve(pair("a-1")))
    given_up = asyncio.create_task(beside.serve(drop("a-1")))
    await beside.challengers.reached.wait()
    beside.challengers.may_answer.set()
    assert await first == ["took", "a-1", "closed"]
    assert await again == await given_up == ["a-1", "closed"]
    assert beside.names() == ["a-1"]
    assert isinstance(beside.lines()[0], Pair)


async def test_where_haproxy_cannot_tell_the_worker_s_own_time_is_taken(beside: Beside) -> None:
    await beside.serve(pair("a-1"), took=b"-\n")
    (line,) = beside.lines()
    assert isinstance(line, Pair)
    assert 0 < line.challenger_ms < 2_000


async def test_an_experiment_that_is_not_known_makes_no_pair(beside: Beside) -> None:
    await beside.serve(pair("a-1").replace(b"\ttrial\t", b"\tother\t"))
    (line,) = beside.lines()
    assert isinstance(line, Drops)
    assert (line.count, line.reason) == (1, Reason.UNKNOWN_EXPERIMENT)


# ---- the log


async def test_a_full_disk_tells_haproxy_nothing_and_damages_one_line(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await beside.serve(drop("a-1"))
    with monkeypatch.context() as full:
        write = os.write
        full.setattr(os, "write", lambda descriptor, body: write(descriptor, body[:10]))
        assert await beside.serve(drop("a-2")) == ["closed"]
    assert await beside.serve(drop("a-2"), drop("a-3")) == ["a-2", "a-3", "closed"]
    first, torn, *rest = beside.path.read_text().splitlines()
    assert len(torn) == 10
    assert [parse(line).about.name for line in (first, *rest)] == ["a-1", "a-2", "a-3"]


async def test_a_line_that_an_earlier_worker_left_unfinished_ends_there(beside: Beside) -> None:
    await beside.serve(drop("a-1"))
    with beside.path.open("ab") as log:
        log.write(b"1\ta-2\t17")
    beside.restart()
    assert await beside.serve(drop("a-2")) == ["a-2", "closed"]
    assert beside.path.read_text().count("\n") == 3


async def test_what_has_been_freed_at_the_beginning_does_not_matter(beside: Beside) -> None:
    await beside.serve(drop("a-1"))
    with beside.path.open("r+b") as log:
        size = len(log.read())
        log.seek(0)
        log.write(bytes(size // 2))
    beside.restart()
    await beside.serve(drop("a-2"))
    assert parse(beside.path.read_text().splitlines()[1]).about.name == "a-2"
