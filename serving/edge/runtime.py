"""The running HAProxy, through its admin socket: change a route, read it back, read counters."""

import asyncio
import csv
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from registry.refs import ModelName
from serving.edge.config import MAP_NAME
from serving.edge.haproxy import Made
from serving.errors import EdgeStopped, EdgeUnresponsive

_PATIENCE_SECONDS = 5.0
_ROUTED = frozenset({"champion", "challenger", "shadowed"})
_NOT_FOUND = "not found"


class Incident(StrEnum):
    """What an edge counts of a request that did not go the way that was meant for it."""

    SHED_CHAMPION = "shed_champion"
    """429: as many requests of the champion are under way as may be."""
    SHED_CHALLENGER = "shed_challenger"
    """429: meant for a challenger, while the champion's hosts were crowded."""
    SHED_PINNED = "shed_pinned"
    """429: pinned to a version, while its hosts or the champion's were crowded."""
    SHED_FAILOVER = "shed_failover"
    """429: a version failed, and the hosts of the one behind it were crowded."""
    CHALLENGER_FULL = "challenger_full"
    """As many requests of a challenger are under way as may be: the champion was asked at once."""
    BUDGET_SPENT = "budget_spent"
    """503: a challenger failed, and the experiment's failover budget was spent."""
    WITHDRAWN = "withdrawn"
    """An answer thrown away, because its version was withdrawn before it began."""
    ONE_TRY = "one_try"
    """Too large to be tried twice, whether or not that was needed."""


@dataclass(frozen=True, slots=True)
class EdgeCounters:
    """What HAProxy has counted since it started; a smaller number means a new process.

    Args:
        requests: Every request, whatever became of it.
        routed: Inferences that were given a version: as many lines are in the request log, but
            for those under way and those dropped.
        failovers: Second tries, each of them a failure of the version that was assigned.
        single_try: Inferences too large to be tried a second time.
        lines: Lines made for the request log, whether or not they could be written. The numbers in
            them tell which are missing.
    """

    started_seconds_ago: int
    requests: int
    routed: int
    failovers: int
    single_try: int
    lines: int


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

    async def moment(self) -> str:
        """Return what HAProxy's clocks say, to be handed back in `let_meet`."""
        return (await self._ask("lease now")).strip()

    async def let_meet(self, since: str, seconds: float) -> None:
        """Let users meet challengers for so long from a moment on, and no longer."""
        _expect_silence(await self._ask(f"lease from {since} {seconds}"))

    async def let_meet_for_ever(self) -> None:
        """Let users meet challengers as the routes say."""
        _expect_silence(await self._ask("lease off"))

    async def incidents(self) -> dict[ModelName, dict[Incident, int]]:
        """Return how often what happened since HAProxy started, for models that saw any of it."""
        found: dict[ModelName, dict[Incident, int]] = {}
        for line in filter(None, (await self._ask("show incidents")).splitlines()):
            try:
                model, incident, count = line.split(" ")
                found.setdefault(ModelName(model), {})[Incident(incident)] = int(count)
            except ValueError as error:
                raise EdgeUnresponsive(f"the edge's incidents cannot be read: {line}") from error
        return found

    async def counters(self) -> EdgeCounters:
        """Return what has been counted up to now."""
        info = dict(
            line.split(": ", 1)
            for line in (await self._ask("show info")).splitlines()
            if ": " in line
        )
        rows = list(csv.DictReader((await self._ask("show stat")).lstrip("# ").splitlines()))
        incidents = (await self.incidents()).values()
        lines = await self._variable("proc.lines")
        sums = {row["pxname"]: row for row in rows if row["svname"] in ("FRONTEND", "BACKEND")}
        try:
            return EdgeCounters(
                started_seconds_ago=int(info["Uptime_sec"]),
                requests=int(sums["edge"]["req_tot"]),
                routed=sum(int(sums[name]["stot"]) for name in _ROUTED),
                failovers=sum(int(sums[name]["wredis"]) for name in _ROUTED),
                single_try=sum(each.get(Incident.ONE_TRY, 0) for each in incidents),
                lines=int(lines),
            )
        except (KeyError, ValueError) as error:
            raise EdgeUnresponsive(f"the edge's counters cannot be read: {error}") from error

    async def made(self) -> Made:
        """Return how many lines of the request log have been made."""
        run, lines = await self._variable("proc.run"), await self._variable("proc.lines")
        if not run or not lines.isdigit():
            raise EdgeUnresponsive("the edge does not say how many lines it has made")
        return Made(run, int(lines))

    async def _variable(self, name: str) -> str:
        """Return a variable's value; nothing if there is none of that name."""
        _, found, value = (await self._ask(f"get var {name}")).rpartition("<")
        return value.rstrip(">\n ") if found else ""

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
        raise EdgeUnresponsive(f"the edge refused a change: {answer.strip()}")


def _word(value: str) -> str:
    """Return `value` as one word of the admin socket's language.

    A line that ends in `<<` would be taken for the announcement of more lines.
    """
    if not value or not value.isprintable():
        raise ValueError(f"{value!r} cannot stand in a map")
    return "".join(f"\\{c}" if c in "\\ ;#<" else c for c in value)
