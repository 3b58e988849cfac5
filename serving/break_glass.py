"""A rollback on an edge's own socket: works with store, registry, Ray and control all away.

Imports next to nothing, because whoever needs this is in a hurry.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx2

from registry.refs import ModelName, Version
from serving.errors import EdgeUnavailable, Refused

ROLLBACK_SECONDS = 5.0
"""How long break-glass waits for an edge's own socket."""


@dataclass(frozen=True, slots=True)
class Order:
    """A rollback as asked for.

    Args:
        to: The version to go back to; None for what the route says.
        force: Go back even to a version that is not hot.
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
        milliseconds: From the command to the last edge's word that no answer of the withdrawn
            versions starts any more.
        silent: Live edges that have not answered in time.
        break_glass: The edges were told directly, because the store could not be reached.
    """

    model: ModelName
    withdrawn: tuple[Version, ...]
    to_version: Version
    edges: tuple[str, ...]
    silent: tuple[str, ...]
    milliseconds: float
    receipt: str | None
    break_glass: bool = False


async def break_glass(socket: str, order: Order) -> RolledBack:
    """Tell one edge directly, without store, registry or control.

    Raises:
        EdgeUnavailable: the edge's agent does not answer on its socket.
        TiltyardError: what the edge refuses, with the edge's own words.
    """
    transport = httpx2.AsyncHTTPTransport(uds=socket)
    body: dict[str, str | list[int]] = {"model": order.model, "by": order.by, "why": order.why}
    if order.withdrawn:
        body["withdrawn"] = list(order.withdrawn)
    try:
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://edge", timeout=ROLLBACK_SECONDS
        ) as client:
            answer = await client.post("/rollback", json=body)
    except httpx2.HTTPError as error:
        raise EdgeUnavailable(f"The edge's agent does not answer on {socket}: {error}") from error
    if answer.status_code >= 400:
        raise Refused.from_problem(answer.json())
    found = answer.json()
    return RolledBack(
        model=order.model,
        withdrawn=tuple(Version(each) for each in found["withdrawn"]),
        to_version=Version(found["to"]),
        edges=(found.get("edge", "local"),),
        silent=(),
        milliseconds=found["milliseconds"],
        receipt=None,
        break_glass=True,
    )


def named(versions: Sequence[int]) -> str:
    """Return versions in words.

    Examples:
        >>> named([7]), named([7, 8]), named([7, 8, 9])
        ('version 7', 'versions 7 and 8', 'versions 7, 8 and 9')
    """
    *others, last = (str(version) for version in versions)
    return f"versions {', '.join(others)} and {last}" if others else f"version {last}"
