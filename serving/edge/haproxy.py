"""What an agent asks of a running HAProxy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from registry.refs import ModelName


@dataclass(frozen=True, slots=True)
class Made:
    """What HAProxy says of its request log.

    Args:
        run: Names this HAProxy among all that there ever were.
        lines: Lines that it has made. Each of them is in the file by now, or never will be: the one
            thread that answers here makes and writes them.
    """

    run: str
    lines: int


class Runtime(Protocol):
    """The memory of a running HAProxy.

    Every method may raise `EdgeStopped` (HAProxy does not run, and will read the map file when
    it starts) or `EdgeUnresponsive` (it runs, or may run, and did not do what it was asked).
    """

    async def set_route(self, model: ModelName, value: str) -> None:
        """Add or replace an entry of the map."""

    async def delete_route(self, model: ModelName) -> None:
        """Remove an entry of the map, if it is there."""

    async def routes(self) -> Mapping[ModelName, str]:
        """Return the map as requests see it."""

    async def moment(self) -> str:
        """Return what HAProxy's clocks say, to be handed back in `let_meet`."""

    async def let_meet(self, since: str, seconds: float) -> None:
        """Let users meet challengers for so long from a moment on, and no longer."""

    async def let_meet_for_ever(self) -> None:
        """Let users meet challengers as the routes say."""

    async def made(self) -> Made:
        """Return how many lines of the request log have been made."""
