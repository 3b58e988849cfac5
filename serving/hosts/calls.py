"""Calls of a model that are under way: what each comes to, and whether one does not come back."""

import time
from collections.abc import Callable
from typing import TypeVar

from registry.errors import TiltyardError
from serving.errors import ModelFailed

T = TypeVar("T")


class Calls:
    """Calls of one model, each in whichever thread it is made."""

    def __init__(self) -> None:
        self._began: dict[object, float] = {}

    def attempt(self, call: Callable[[], T]) -> T | TiltyardError:
        """Return what `call` gives, or the error that its request is answered with.

        Returned, not raised: asyncio passes on neither StopIteration nor SystemExit.
        """
        this = object()
        self._began[this] = time.monotonic()
        try:
            return call()
        except TiltyardError as error:
            return error
        except BaseException as error:
            failure = ModelFailed(f"the model raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            return failure
        finally:
            del self._began[this]

    def longest(self) -> float:
        """Return for how many seconds the longest of the present calls has been going on."""
        began = list(self._began.values())  # At once: other threads come and go.
        return time.monotonic() - min(began) if began else 0.0
