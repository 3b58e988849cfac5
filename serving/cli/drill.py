"""The command that tries rollbacks out."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.errors import TiltyardError
from serving.cli.session import NO, OK, Json, ModelArgument, Session, is_away, login

if TYPE_CHECKING:
    from rich.console import RenderableType

    from serving.client import Answer, ControlClient

LOOK = 0.25
"""Seconds between two looks at a drill."""

GIVEN_UP = 240
"""Looks in a row at which control may be away."""


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(drill)


def drill(
    ctx: typer.Context,
    model: ModelArgument,
    times: Annotated[int, typer.Option(min=1, max=10_000, help="How many rollbacks.")] = 100,
    last: Annotated[bool, typer.Option("--last", help="Show the latest; begin none.")] = False,
    as_json: Json = False,
) -> None:
    """Roll back again and again where no user is, at every live edge, and time it.

    Exit status 1 if a rollback failed, or an edge gave no word in time.
    """
    session = Session.of(ctx, as_json)

    async def drilled(control: "ControlClient") -> "Answer":
        if last:
            return await control.last_drill(model)
        await control.drill(model, times, by=login())
        return await _ended(session, control, model)

    found = session.ask(drilled)
    session.answer(found, lambda: drawn(found))
    raise typer.Exit(OK if found["state"] == "ended" and not found["failed"] else NO)


async def _ended(session: Session, control: "ControlClient", model: str) -> "Answer":
    away = 0
    with session.progress() as tell:
        while True:
            await session.pause(LOOK)
            try:
                found = await control.last_drill(model)
            except TiltyardError as error:
                away += 1
                if not is_away(error) or away > GIVEN_UP:
                    raise
                tell(f"{error.message} Trying again.")
                continue
            away = 0
            if found["state"] != "running":
                return found
            tell(f"{found['done']:,} of {found['times']:,} rollbacks, {found['failed']} failed")


def drawn(found: "Answer") -> "RenderableType":
    """Draw a line for all edges together, and one for each, and a sentence."""
    from rich.console import Group
    from rich.text import Text

    from serving.cli.show import plain, row, when

    table = plain(("rollback", "p50", "p95", "p99", "max", "times"))
    if found["rollback"]:
        row(table, "at every edge", *_cells(found["rollback"]))
    for edge, spread in found["edges"].items():
        row(table, edge, *_cells(spread))
    lines = [Text(f"{n} failed: {why}", style="red") for why, n in found["failures"].items()]
    lines += [Text(f"{edge} was lost meanwhile.", style="yellow") for edge in found["lost"]]
    state = "" if found["state"] == "ended" else f" It is {found['state']}."
    said = (
        f"{found['done']:,} of {found['times']:,} rollbacks of a lane of {found['model']}, "
        f"{found['failed']:,} failed; by {found['by']}, {when(found['started_at'])}.{state}"
    )
    well = found["state"] == "ended" and not found["failed"]
    return Group(table, *lines, Text(said, style="green" if well else "bold red"))


def _cells(spread: dict[str, Any]) -> list[str]:
    times = [f"{spread[name]:.1f} ms" for name in ("p50", "p95", "p99", "max")]
    return [*times, f"{spread['count']:,}"]
