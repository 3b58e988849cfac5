"""A rollback on the edges' own sockets: works with store, registry, Ray and control all away.

Imports next to nothing, because whoever needs this is in a hurry.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

import httpx2

from registry.errors import TiltyardError, UnknownModel
from registry.refs import ModelName, Version
from serving.errors import EdgeUnavailable, Refused, UnusableEdgeFolder
from serving.settings import Settings

ROLLBACK_SECONDS = 5.0
"""How long break-glass waits for an edge's own socket."""

ASK_SECONDS = 1.0
"""How long it waits to be told what an edge serves now."""

REPEATED = "Already withdrawn there: nothing was changed."

STOPPED = "HAProxy does not run there; it will start with this route."

RETRY = 0.05
"""Seconds between two tries to reach an agent that is just being started."""


@dataclass(frozen=True, slots=True)
class Order:
    """A rollback as asked for.

    Args:
        to: The version to go back to; None for what the route says.
        force: Go back even to a version that is not hot, or once more within moments.
        withdrawn: Versions that may be taken away, so that being told twice takes away no more;
            empty for whatever is on trial, or else the champion.
    """

    model: ModelName
    by: str
    why: str
    to: Version | None = None
    force: bool = False
    withdrawn: tuple[Version, ...] = ()


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A rollback that was carried out.

    Args:
        withdrawn: Versions that traffic was taken away from.
        edges: Those that obey.
        silent: Edges that were alive, have not said so in time, and may serve the old route.
        milliseconds: From the command to the last edge's word that no answer of the withdrawn
            versions starts any more.
        acknowledged: The same for each of `edges`.
        lost: Edges whose lease is over, and that nobody waits for: they had vanished before, or
            have fenced themselves meanwhile.
        waited: Milliseconds until nobody was waited for any more, the silent and lost included.
        said: Why an edge does not obey, or need not, in its own words.
        break_glass: The edges were told directly, because the store could not be reached.
    """

    model: ModelName
    withdrawn: tuple[Version, ...]
    to_version: Version
    edges: tuple[str, ...]
    silent: tuple[str, ...]
    milliseconds: float
    acknowledged: Mapping[str, float]
    waited: float
    receipt: str | None
    lost: tuple[str, ...] = ()
    said: Mapping[str, str] = field(default_factory=dict)
    break_glass: bool = False


async def break_glass(edges: Sequence[Settings], order: Order) -> RolledBack:
    """Tell these edges directly, all at once, without store, registry or control.

    Raises:
        EdgeUnavailable: none of their agents answers, and none could be stood in for.
        TiltyardError: what all of them refuse, in the words of the first.
    """
    began = monotonic()
    if not order.withdrawn and len(edges) > 1:
        order = replace(order, withdrawn=await _served_last(edges, order))
    acknowledged: dict[str, float] = {}
    done: dict[str, _Done] = {}
    refused: dict[str, TiltyardError] = {}

    async def tell(edge: Settings) -> None:
        try:
            done[edge.edge_name] = await _roll_back(edge, order)
            acknowledged[edge.edge_name] = (monotonic() - began) * 1000
        except TiltyardError as error:
            refused[edge.edge_name] = error

    await asyncio.gather(*map(tell, edges))
    names = sorted(refused)
    silent = tuple(name for name in names if not _serves_nothing(refused[name]))
    if not done:
        raise refused[(*silent, *names)[0]]
    any_of_them = next(iter(done.values()))
    repeated = {name: REPEATED for name, each in done.items() if each.is_repeated}
    stopped = {name: STOPPED for name, each in done.items() if not each.haproxy_up}
    return RolledBack(
        model=order.model,
        withdrawn=any_of_them.withdrawn,
        to_version=any_of_them.to_version,
        edges=tuple(sorted(done)),
        silent=silent,
        milliseconds=max(acknowledged.values()),
        acknowledged=acknowledged,
        waited=(monotonic() - began) * 1000,
        receipt=None,
        said={name: refused[name].message for name in names} | repeated | stopped,
        break_glass=True,
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """What was withdrawn at an edge, and what took its place."""

    withdrawn: tuple[Version, ...]
    to_version: Version
    haproxy_up: bool
    is_repeated: bool


async def _roll_back(edge: Settings, order: Order) -> _Done:
    """Tell an edge; do it in the place of its agent if that is dead."""
    ends = monotonic() + ROLLBACK_SECONDS
    while True:
        try:
            return await _told(edge, order)
        except EdgeUnavailable as error:
            try:
                return await _instead_of_the_agent(edge, order)
            except UnusableEdgeFolder:
                # There is no such edge; or there is an agent, which hangs, or does not listen yet.
                if not edge.edge_dir.exists() or monotonic() > ends:
                    raise error from None
        await asyncio.sleep(RETRY)


async def _told(edge: Settings, order: Order) -> _Done:
    body: dict[str, Any] = {"model": order.model, "by": order.by, "why": order.why}
    body |= {"withdrawn": order.withdrawn, "force": order.force}
    answer = await _ask(edge, "POST", "/rollback", within=ROLLBACK_SECONDS, json=body)
    if answer.status_code >= 400:
        raise Refused.from_problem(answer.json())
    found = answer.json()
    return _Done(
        tuple(map(Version, found["withdrawn"])),
        Version(found["to"]),
        found["haproxy_up"],
        found["repeated"],
    )


async def _instead_of_the_agent(edge: Settings, order: Order) -> _Done:
    from experiments.store.redis import RedisStore
    from serving.edge.stand_in import in_place_of_the_agent

    async with (
        RedisStore.open(edge.redis_url) as store,
        in_place_of_the_agent(edge, store) as agent,
    ):
        done = await agent.roll_back(
            order.model,
            by=order.by,
            why=order.why,
            withdrawn=order.withdrawn,
            force=order.force,
        )
    return _Done(done.withdrawn, done.to_version, agent.haproxy_up, done.is_repeated)


async def _served_last(edges: Sequence[Settings], order: Order) -> tuple[Version, ...]:
    """Return what is to be withdrawn everywhere, so that no edge goes back further than others.

    One that was rolled back by hand before has nothing to say here: asked once more, it would go
    back to the version before. If all of them were moments ago, it is that rollback once more.
    """
    from experiments.codec import decode
    from serving.edge.report import EdgeReport
    from serving.routes import is_recent

    model = order.model

    async def report(edge: Settings) -> EdgeReport | None:
        with suppress(EdgeUnavailable, ValueError):
            answer = await _ask(edge, "GET", "/routes", within=ASK_SECONDS)
            return decode(EdgeReport, answer.content)
        return None

    found = await asyncio.gather(*map(report, edges))
    reports = [each for each in found if each is not None and model in each.routes]
    forward = [each for each in reports if model not in each.break_glass]
    if not forward and not order.force:
        recent = [each for each in reports if is_recent(each.routes[model].at, each.at)]
        if gone := {version for each in recent for version in each.withdrawn.get(model, ())}:
            return tuple(sorted(gone))
    routes = [each.routes[model] for each in forward or reports]
    tried = {version for route in routes for version in route.active}
    return tuple(sorted(tried or {route.champion for route in routes}))


async def _ask(
    edge: Settings, method: str, path: str, *, within: float, json: Mapping[str, Any] | None = None
) -> httpx2.Response:
    try:
        async with httpx2.AsyncClient(
            transport=door_of(edge), base_url="http://edge", timeout=within
        ) as client:
            return await client.request(method, path, json=json)
    except httpx2.HTTPError as error:
        why = str(error) or type(error).__name__
        raise EdgeUnavailable(
            f"The agent of {edge.edge_name} does not answer on {edge.agent_socket}: {why}"
        ) from error


def door_of(edge: Settings) -> httpx2.AsyncBaseTransport:
    """Return the way to an edge's agent."""
    return httpx2.AsyncHTTPTransport(uds=str(edge.agent_socket))


def _serves_nothing(error: TiltyardError) -> bool:
    """Whether an edge has nothing to go back from, because it does not know the model."""
    code = error.refusal if isinstance(error, Refused) else error.code
    return code == UnknownModel.code


def named(versions: Sequence[int]) -> str:
    """Return versions in words.

    Examples:
        >>> named([7]), named([7, 8]), named([7, 8, 9])
        ('version 7', 'versions 7 and 8', 'versions 7, 8 and 9')
    """
    *others, last = (str(version) for version in versions)
    return f"versions {', '.join(others)} and {last}" if others else f"version {last}"
