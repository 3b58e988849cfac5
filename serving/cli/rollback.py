"""Going back: through control, or at the edges of this machine where control is away."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.errors import TiltyardError
from serving.cli.session import NO, OK, Json, ModelArgument, Session, Why, is_away, login
from serving.errors import Refused

if TYPE_CHECKING:
    from serving.client import ControlClient
    from serving.settings import Settings


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(rollback)


def rollback(
    ctx: typer.Context,
    model: ModelArgument,
    to: Annotated[int | None, typer.Option(min=1, help="Version to go back to.")] = None,
    why: Why = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Even to a version that is not hot, or once more within 30 seconds.",
        ),
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Ask this machine's edges themselves, nobody else.")
    ] = False,
    edge: Annotated[
        list[str] | None,
        typer.Option("--edge", metavar="NAME", help="With --local: this edge alone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Go back: withdraw the versions on trial, or else the champion.

    Where control or Redis is away, this machine's edges are asked directly, if there are any.
    Exit status 1 if an edge gave no word in time: it may serve the old route.
    """
    if local and to is not None:
        raise typer.BadParameter("an edge knows one way back: --local takes no --to")
    if edge and not local:
        raise typer.BadParameter("control tells every edge; --edge goes with --local")
    session = Session.of(ctx, as_json)
    if local:
        found = _at_the_edges(model, why, _named(session, edge or []), force=force)
    else:
        found = _by_control(session, model, to, why, force)
    from serving.cli import show

    session.answer(found, lambda: show.rolled_back(found))
    raise typer.Exit(NO if found["silent"] else OK)


def _named(session: Session, names: list[str]) -> "tuple[Settings, ...]":
    """Return the edges of this machine with these names; all of them if there are none."""
    edges = {edge.edge_name: edge for edge in session.settings.local_edges}
    if unknown := [name for name in names if name not in edges]:
        here, known = ", ".join(unknown), ", ".join(edges)
        raise typer.BadParameter(f"there is no {here} on this machine, there is {known}")
    return tuple(edges[name] for name in names or edges)


def _by_control(
    session: Session, model: str, to: int | None, why: str, force: bool
) -> dict[str, Any]:
    meant: tuple[int, ...] = ()

    async def ordered(control: "ControlClient") -> dict[str, Any]:
        nonlocal meant
        if to is None:
            meant = await _served_last(control, model)
        return await control.rollback(model, by=login(), why=why, to=to, force=force)

    try:
        return session.ask(ordered)
    except TiltyardError as error:
        edges = session.settings.local_edges
        has_edges = any(edge.edge_dir.exists() for edge in edges)
        if not is_away(error) or not has_edges or to is not None:
            raise
        session.note(f"{error.message} Asking this machine's edges themselves.")
        # Control may have done it and only its answer be lost: then nothing more is withdrawn.
        return _at_the_edges(model, why, edges, withdrawn=meant, force=force)


async def _served_last(control: "ControlClient", model: str) -> tuple[int, ...]:
    """Return the versions that a rollback would withdraw; none while the store is away."""
    try:
        route = await control.route(model)
    except Refused as error:
        if error.refusal == "store_unavailable":
            return ()  # Control then asks the edges beside it.
        raise
    if not route["trials"]:
        return (route["champion"],)
    tried = [each for trial in route["trials"] for each in trial["challengers"]]
    dropped = {each for trial in route["trials"] for each in trial["dropped"]}
    return tuple(each for each in tried if each not in dropped) or tuple(tried)


def _at_the_edges(
    model: str,
    why: str,
    edges: "tuple[Settings, ...]",
    *,
    withdrawn: tuple[int, ...] = (),
    force: bool = False,
) -> dict[str, Any]:
    from dataclasses import asdict

    from registry.refs import Version, model_name
    from serving.break_glass import Order, break_glass

    by = login()
    order = Order(
        model_name(model),
        by,
        why or f"Rolled back by {by}.",
        force=force,
        withdrawn=tuple(map(Version, withdrawn)),
    )
    found = asdict(asyncio.run(break_glass(edges, order)))
    return found | {name: list(found[name]) for name in ("withdrawn", "edges", "silent", "lost")}
