"""Takes what HAProxy hands over, one message a connection at a time, and puts each down once."""

import asyncio
import logging
from collections.abc import Callable
from time import perf_counter

from experiments.model import ExperimentName
from serving.edge.pairline import Drops, Pair, Reason
from serving.edge.shadow.asking import Challengers, Unrepeatable
from serving.edge.shadow.comparison import compare
from serving.edge.shadow.pairs_log import PairsLog
from serving.edge.shadow.wire import Asked, Message, UnreadableMessage, read_message
from serving.routes import NONE

_log = logging.getLogger(__name__)


class Desk:
    """One of HAProxy's connections: it hands a message over, and waits until that is put down."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def next(self) -> Message | None:
        """Return the next message, None if no more come."""
        return await read_message(self._reader)

    async def took(self) -> float | None:
        """Return the milliseconds that the challenger took, None if HAProxy cannot tell."""
        self._writer.write(b"took\n")
        line = (await self._reader.readline()).decode("ascii")
        if not line.endswith("\n"):
            raise ConnectionResetError("HAProxy went away")
        try:
            return None if line.strip() == NONE else float(line)
        except ValueError as error:
            raise UnreadableMessage(line) from error

    async def done(self, message: Message) -> None:
        """Say that a message is put down."""
        self._writer.write(f"{message.about.name}\n".encode())
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class Worker:
    """Bounded by those who hand over: HAProxy has a fixed number of connections, and waits on each
    until its message is put down.

    Args:
        tolerance: How far numbers may lie apart in answers that agree; None for an experiment
            whose declaration is not known here.
    """

    def __init__(
        self,
        challengers: Challengers,
        log: PairsLog,
        *,
        tolerance: Callable[[ExperimentName], float | None],
    ) -> None:
        self._challengers = challengers
        self._pairs = log
        self._tolerance = tolerance
        self._underway: dict[str, asyncio.Task[None]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends, or something on it cannot be put down."""
        desk = Desk(reader, writer)
        try:
            while (message := await desk.next()) is not None:
                await self._put_down(message, desk)
                await desk.done(message)
        except (UnreadableMessage, asyncio.IncompleteReadError, ConnectionError) as error:
            _log.warning("HAProxy hung up, or sent what cannot be read: %s", error)
        except OSError as error:
            _log.error("nothing can be put down; HAProxy keeps and counts it: %s", error)
        finally:
            desk.close()

    async def _put_down(self, message: Message, desk: Desk) -> None:
        """Do what a message asks for, unless that has been done or is being done."""
        name = message.about.name
        if name in self._pairs:
            return
        task = self._underway.get(name)
        if task is None:
            task = asyncio.create_task(self._work(message, desk))
            self._underway[name] = task
            task.add_done_callback(lambda _: self._underway.pop(name, None))
        # Whoever sent it may be gone; another connection will ask for the same.
        await asyncio.shield(task)

    async def _work(self, message: Message, desk: Desk) -> None:
        if isinstance(message, Asked):
            self._pairs.append(await self._pair(message, desk))
        else:
            self._pairs.append(message)

    async def _pair(self, asked: Asked, desk: Desk) -> Pair | Drops:
        tolerance = self._tolerance(asked.about.experiment)
        if tolerance is None:
            return Drops(asked.about, 1, Reason.UNKNOWN_EXPERIMENT)
        began = perf_counter()
        try:
            answer = await self._challengers.ask(asked)
        except Unrepeatable as error:
            return Drops(asked.about, 1, error.reason)
        waited = (perf_counter() - began) * 1000
        took = await desk.took()
        likeness = compare(asked.answer, answer, tolerance=tolerance)
        return Pair(
            about=asked.about,
            slot=asked.slot,
            champion=asked.answer.status,
            challenger=answer.status,
            champion_ms=asked.took_ms,
            challenger_ms=waited if took is None else took,
            agreed=likeness.agreed,
            difference=likeness.difference,
        )
