"""Faults planted on purpose, so that a running system can be asked whether it would find them.

They sit between a model and its answer, and everything else is as in production: the request came
through the edge, the model has really answered, and what is wrong is for others to notice.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from time import monotonic
from typing import Final, ParamSpec, TypeAlias

import numpy as np

from registry.tensors import Array
from serving.errors import ModelFailed

Arrays: TypeAlias = Mapping[str, Array]
Asked = ParamSpec("Asked")
Answering: TypeAlias = Callable[Asked, Awaitable[Arrays]]

SLOWER: Final = 2.0
"""How many times its own time a slow host waits, on top of it."""

SLOWER_SECONDS: Final = 0.3
"""What a slow host waits in any case: models of a millisecond would else not be slow."""

SHARE: Final = 0.2
"""How many answers fail, or are empty."""

WRONG_SHARE: Final = 0.1
"""How many answers are another request's. No request fails, so only outcomes can tell."""


class Fault(StrEnum):
    """What is planted in a host."""

    NONE = "none"
    SLOW = "slow"
    ERRORS = "errors"
    WRONG = "wrong"
    """Some answers are those to other requests: well formed, plausible and wrong."""
    EMPTY = "empty"
    """Some answers are a 200 with nothing in it."""


def afflicted(
    answer: Answering[Asked], fault: Fault, *, chance: random.Random | None = None
) -> Answering[Asked]:
    """Return `answer` with `fault` in it.

    Args:
        chance: Decides which requests are met; by default the same ones at every start.
    """
    drawn = chance or random.Random(fault.value)
    match fault:
        case Fault.NONE:
            return answer
        case Fault.SLOW:
            return _slow(answer)
        case Fault.ERRORS:
            return _failing(answer, drawn)
        case Fault.WRONG:
            return _wrong(answer, drawn)
        case Fault.EMPTY:
            return _empty(answer, drawn)


def _slow(answer: Answering[Asked]) -> Answering[Asked]:
    async def slow(*args: Asked.args, **kwargs: Asked.kwargs) -> Arrays:
        began = monotonic()
        outputs = await answer(*args, **kwargs)
        await asyncio.sleep(SLOWER_SECONDS + SLOWER * (monotonic() - began))
        return outputs

    return slow


def _failing(answer: Answering[Asked], chance: random.Random) -> Answering[Asked]:
    async def failing(*args: Asked.args, **kwargs: Asked.kwargs) -> Arrays:
        outputs = await answer(*args, **kwargs)
        if chance.random() < SHARE:
            raise ModelFailed("this error was planted, to see whether it is found")
        return outputs

    return failing


def _empty(answer: Answering[Asked], chance: random.Random) -> Answering[Asked]:
    async def empty(*args: Asked.args, **kwargs: Asked.kwargs) -> Arrays:
        outputs = await answer(*args, **kwargs)
        if chance.random() < SHARE:
            return {name: np.atleast_1d(array)[:0] for name, array in outputs.items()}
        return outputs

    return empty


def _wrong(answer: Answering[Asked], chance: random.Random) -> Answering[Asked]:
    others: list[Arrays] = []  # The two latest answers that differ.

    async def wrong(*args: Asked.args, **kwargs: Asked.kwargs) -> Arrays:
        outputs = await answer(*args, **kwargs)
        if not others or not _same(others[-1], outputs):
            others[:] = [*others[-1:], outputs]
        if chance.random() >= WRONG_SHARE:
            return outputs
        another = next((each for each in others if _differs(each, outputs)), None)
        return another or {name: _nudged(array) for name, array in outputs.items()}

    return wrong


def _same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(array, other[name]) for name, array in one.items()
    )


def _differs(one: Arrays, other: Arrays) -> bool:
    """Whether `one` could stand in the place of `other`, and would be wrong there."""
    fits = one.keys() == other.keys() and all(
        array.shape == other[name].shape for name, array in one.items()
    )
    return fits and not _same(one, other)


def _nudged(array: Array) -> Array:
    """Return an answer that is a little beside the right one, where no other is known."""
    match array.dtype.kind:
        case "b":
            return ~array
        case "i" | "u":
            return np.where(array == np.iinfo(array.dtype).max, array - 1, array + 1)
        case "f":
            return array * 1.05 + 0.01
        case _:
            text = [f"{each!s} " for each in array.reshape(-1)]
            return np.array(text, dtype=object).reshape(array.shape)
