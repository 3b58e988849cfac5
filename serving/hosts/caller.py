"""Where a model is called: in a thread of its own, or right on the event loop if it is quick.

A model that takes its time must not keep requests from being read, nor health from being told: it
has a thread. But to hand a call over and its answer back takes longer than many a model takes to
answer, and then two threads contend for one interpreter. So whoever is quick is called at once.
"""

import asyncio
import time
from asyncio.events import _set_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from registry.errors import TiltyardError
from serving.errors import ModelFailed
from serving.hosts.calls import Calls

T = TypeVar("T")

QUICK: Final = 0.001
"""Seconds that a call may usually take to be made on the event loop: so long nothing is read."""

WEIGHT: Final = 0.1
"""Of the latest call in what is usual. A single slow one, of a process that had to wait for its
turn, changes little."""


class Caller:
    """Calls a model, one call at a time.

    Some models only work in the thread that they were first called in. One that fails on the event
    loop is therefore called again in its own thread; if it answers there, it stays there.

    Args:
        calls: Where calls that are under way are kept.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._handed_over = 0
        self._usual = float("inf")
        self._belongs_to_thread = False

    @property
    def is_quick(self) -> bool:
        """Whether a call now would be made on the event loop, before anything else happens."""
        return self._usual < QUICK and not self._handed_over and not self._belongs_to_thread

    async def __call__(self, call: Callable[[], T]) -> T:
        """Make a call and return what it gives.

        Raises:
            TiltyardError: `call` raised it.
            ModelFailed: it raised anything else.
        """
        if self.is_quick:
            outcome = self._here(call)
            if isinstance(outcome, ModelFailed):
                outcome = await self._in_thread(call)
                self._belongs_to_thread = not isinstance(outcome, ModelFailed)
        else:
            outcome = await self._in_thread(call)
        if isinstance(outcome, TiltyardError):
            raise outcome
        return outcome

    def _here(self, call: Callable[[], T]) -> T | TiltyardError:
        loop = asyncio.get_running_loop()
        # A model may run a loop of its own, as it could in a thread.
        _set_running_loop(None)
        try:
            return self._timed(call)
        finally:
            _set_running_loop(loop)

    async def _in_thread(self, call: Callable[[], T]) -> T | TiltyardError:
        loop = asyncio.get_running_loop()
        self._handed_over += 1
        try:
            return await loop.run_in_executor(self._thread, self._timed, call)
        finally:
            self._handed_over -= 1

    def _timed(self, call: Callable[[], T]) -> T | TiltyardError:
        began = time.monotonic()
        outcome = self._calls.attempt(call)
        took = time.monotonic() - began
        usual = self._usual
        self._usual = took if usual == float("inf") else usual + WEIGHT * (took - usual)
        return outcome
