"""Concurrent requests answered by one call of the model.

Nothing waits to be batched: what arrives while the model is busy is the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np

from registry.errors import TiltyardError
from registry.tensors import Array
from serving.hosts.caller import Caller
from serving.hosts.calls import Calls

T = TypeVar("T")

Arrays: TypeAlias = Mapping[str, Array]
Parameters: TypeAlias = Mapping[str, Any]
Predict: TypeAlias = Callable[[Arrays, Parameters], Arrays]
_Kind: TypeAlias = tuple[tuple[str, str, type | None, tuple[int, ...]], ...]

NO_PARAMETERS: Final[Parameters] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Waiting:
    inputs: Arrays
    parameters: Parameters
    rows: int
    kind: _Kind | None
    answer: asyncio.Future[Arrays]

    def goes_with(self, other: "_Waiting") -> bool:
        """Whether one call can answer both."""
        together = self.kind is not None and self.kind == other.kind
        return together and self.parameters == other.parameters


class Batcher:
    """Calls `predict`, for one or many requests at a time.

    Requests are put together, in order of arrival, if they differ in nothing but their rows. A
    request that makes a batch fail does not fail the others: they are then answered one by one. So
    they are, from then on, if the model does not give a row for a row.

    Args:
        rows: Most rows in one call; a single larger request is still answered. 1 puts
            nothing together.
        calls: Where calls that are under way are kept.
    """

    def __init__(self, predict: Predict, *, rows: int = 64, calls: Calls | None = None) -> None:
        self._predict = predict
        self._rows = rows
        self._call = Caller(calls or Calls())
        self._queue: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, inputs: Arrays, parameters: Parameters = NO_PARAMETERS) -> Arrays:
        """Return the model's answer to `inputs`, arrays with the rows first.

        Raises:
            TiltyardError: the model refused these very inputs, as `predict` says it does.
            ModelFailed: the model raised anything else on them.
        """
        kind = _kind(inputs) if self._rows > 1 else None
        rows = next(iter(inputs.values())).shape[0] if kind else 1
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(inputs, parameters, rows, kind, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await answer

    @property
    def is_quick(self) -> bool:
        """Whether what is submitted now is answered before anybody could change his mind."""
        return self._call.is_quick

    async def alone(self, call: Callable[[], T]) -> T:
        """Make a call that cannot be put together with others, but is made in turn with these.

        Raises:
            TiltyardError: `call` raised it.
            ModelFailed: it raised anything else.
        """
        return await self._call(call)

    async def _run(self) -> None:
        try:
            while batch := self._next():
                await self._answer(batch)
        finally:
            self._running = None

    def _next(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        rows = 0
        while self._queue:
            waiting = self._queue[0]
            if batch and not waiting.goes_with(batch[0]):
                break
            if batch and rows + waiting.rows > self._rows:
                break
            self._queue.popleft()
            if not waiting.answer.done():  # Cancelled: the client has gone.
                batch.append(waiting)
                rows += waiting.rows
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        if len(batch) > 1 and await self._answer_together(batch):
            return
        for waiting in batch:
            if waiting.answer.done():
                continue
            try:
                outputs = await self._answers(waiting.inputs, waiting.parameters)
            except TiltyardError as error:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            else:
                if not waiting.answer.done():
                    waiting.answer.set_result(outputs)

    async def _answer_together(self, batch: list[_Waiting]) -> bool:
        """Answer the batch by one call; False if it has to be done one by one."""
        inputs = {
            name: np.concatenate([waiting.inputs[name] for waiting in batch])
            for name in batch[0].inputs
        }
        try:
            outputs = await self._answers(inputs, batch[0].parameters)
        except TiltyardError:
            return False
        total = sum(waiting.rows for waiting in batch)
        if any(array.ndim == 0 or array.shape[0] != total for array in outputs.values()):
            self._rows = 1
            return False
        start = 0
        for waiting in batch:
            rows = slice(start, start + waiting.rows)
            start += waiting.rows
            if not waiting.answer.done():
                waiting.answer.set_result({name: array[rows] for name, array in outputs.items()})
        return True

    async def _answers(self, inputs: Arrays, parameters: Parameters) -> Arrays:
        return await self._call(partial(self._predict, inputs, parameters))


def _kind(inputs: Arrays) -> _Kind | None:
    """Return what must be equal for requests to be put together; None if they cannot be.

    Objects are text if they came in JSON, and bytes if they came in binary.
    """
    arrays = [inputs[name] for name in sorted(inputs)]
    if any(array.ndim == 0 for array in arrays) or len({a.shape[0] for a in arrays}) != 1:
        return None
    named = zip(sorted(inputs), arrays, strict=True)
    return tuple(
        (name, a.dtype.str, type(a.flat[0]) if a.dtype.kind == "O" else None, a.shape[1:])
        for name, a in named
    )
