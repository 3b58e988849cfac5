"""The running HAProxy, through its admin socket: change a route, read it back, read counters."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.refs import ModelName
from serving.edge.config import MAP_NAME
from serving.errors import EdgeStopped, EdgeUnresponsive

_PATIENCE_SECONDS = 5.0
_ROUTED = frozenset({"champion", "challenger"})
_NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True)
class EdgeCounters:
    """What HAProxy has counted since it started; a smaller number means a new process.

    Args:
        requests: Every request, whatever became of it.
        routed: Inferences that were given a version: as many lines are in the request log, but
            for those under way and those dropped.
        failovers: Second tries, each of them a failure of the version that was assigned.
        single_try: Inferences too large to be tried a second time.
        dropped_lines: Lines that HAProxy could not write, for instance because the disk is full.
    """

    started_seconds_ago: int
    requests: int
    routed: int
    failovers: int
    single_try: int
    dropped_lines: int


class EdgeRuntime:
    """Every method may raise `EdgeStopped` (HAProxy does not run, and will read the map file when
    it starts) or `EdgeUnresponsive` (it runs, or may run, and did not do what it was asked)."""

    def __init__(self, admin_socket: Path) -> None:
        self._admin_socket = admin_socket

    async def set_route(self, model: ModelName, value: str) -> None:
        """Let `model` be routed by `value` (see `map_value`), whether or not it had a route.

        No request that reaches the edge after this returns is routed by the old value.
        """
        await self.set_routes([(model, value)])

    async def set_routes(self, values: Iterable[tuple[ModelName, str]]) -> None:
        """Do `set_route` for each; they take effect one after the other."""
        for model, value in values:
            words = f"{MAP_NAME} {model} {_word(value)}"
            if _NOT_FOUND in (answer := await self._ask(f"set map {words}")):
                answer = await self._ask(f"add map {words}")
            _expect_silence(answer)

    async def delete_route(self, model: ModelName) -> None:
        """Let `model` be unknown to the edge; nothing happens if it is."""
        answer = await self._ask(f"del map {MAP_NAME} {model}")
        if _NOT_FOUND not in answer:
            _expect_silence(answer)

    async def routes(self) -> dict[ModelName, str]:
        """Return the value by which each model is routed at this moment."""
        found: dict[ModelName, str] = {}
        for line in (await self._ask(f"show map {MAP_NAME}")).splitlines():
            # Each entry is led by its address: `0x55d0c8 digits 3|1|...`.
            _, _, entry = line.partition(" ")
            model, _, value = entry.partition(" ")
            if model:
                found[ModelName(model)] = value
        return found

    async def counters(self) -> EdgeCounters:
        """Return what has been counted up to now."""
        info = dict(
            line.split(": ", 1)
            for line in (await self._ask("show info")).splitlines()
            if ": " in line
        )
        rows = list(csv.DictReader((await self._ask("show stat")).lstrip("# ").splitlines()))
        single_try = await self._ask("get var proc.single_try")
        sums = {row["pxname"]: row for row in rows if row["svname"] in ("FRONTEND", "BACKEND")}
        try:
            return EdgeCounters(
                started_seconds_ago=int(info["Uptime_sec"]),
                requests=int(sums["edge"]["req_tot"]),
                routed=sum(int(sums[name]["stot"]) for name in _ROUTED),
                failovers=sum(int(sums[name]["wredis"]) for name in _ROUTED),
                single_try=int(single_try.rpartition("<")[2].rstrip(">\n ")),
                dropped_lines=int(info["DroppedLogs"]),
            )
        except (KeyError, ValueError) as error:
            raise EdgeUnresponsive(f"the edge's counters cannot be read: {error}") from error

    async def _ask(self, order: str) -> str:
        async with _translated_errors(self._admin_socket), asyncio.timeout(_PATIENCE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(self._admin_socket)
            try:
                writer.write(f"{order}\n".encode())
                await writer.drain()
                return (await reader.read()).decode(errors="replace")
            finally:
                writer.close()
                await writer.wait_closed()


@asynccontextmanager
async def _translated_errors(admin_socket: Path) -> AsyncIterator[None]:
    try:
        yield
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise EdgeStopped(f"no HAProxy listens on {admin_socket}") from error
    except TimeoutError as error:
        raise EdgeUnresponsive(f"HAProxy does not answer on {admin_socket}") from error
    except OSError as error:
        raise EdgeUnresponsive(f"HAProxy hung up on {admin_socket}: {error}") from error


def _expect_silence(answer: str) -> None:
    """HAProxy says nothing about a change that it has made."""
    if answer.strip():
        raise EdgeUnresponsive(f"the edge refused a change of route: {answer.strip()}")


def _word(value: str) -> str:
    """Return `value` as one word of the admin socket's language.

    A line that ends in `<<` would be taken for the announcement of more lines.
    """
    if not value or not value.isprintable():
        raise ValueError(f"{value!r} cannot stand in a map")
    return "".join(f"\\{c}" if c in "\\ ;#<" else c for c in value)
