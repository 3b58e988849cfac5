"""Commands about experiments."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.errors import TiltyardError
from serving.cli.picture_file import require_place, unwritable
from serving.cli.session import NO, OK, Json, Session, Why, is_away, login
from serving.errors import NothingToDraw

if TYPE_CHECKING:
    from serving.client import ControlClient

LOOK = 1.0
"""Seconds between two looks at an experiment."""

FEWEST_POINTS = 2
"""Of a trail that is a line."""

OVER = {
    "promoted": OK,
    "passed": OK,
    "rolled_back": NO,
    "stopped": NO,
    "inconclusive": NO,
    "halted": NO,
}
"""Exit status of `watch` for each state in which nothing happens any more by itself."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the experiment.")]
File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", exists=True, dir_okay=False, readable=True, help="The experiment file."
    ),
]

Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="PNG", help="Draw the interval of each metric over time to this file."
    ),
]

group = typer.Typer(no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(group, name="experiment", help="Declare experiments, watch and steer them.")


@group.command()
def start(ctx: typer.Context, file: File, as_json: Json = False) -> None:
    """Begin the experiment that a file declares."""
    session = Session.of(ctx, as_json)
    session.file = str(file)
    declared = file.read_bytes()
    found = session.ask(lambda control: control.start(declared, by=login()))
    from serving.cli import show as shown

    session.answer(found, lambda: shown.started(_sentence(found), found))


@group.command()
def show(ctx: typer.Context, name: Name, plot: Plot = None, as_json: Json = False) -> None:
    """Show what an experiment has seen, and what follows from it now."""
    session = Session.of(ctx, as_json)
    if plot is not None:
        require_place(plot)
    found = session.ask(lambda control: control.experiment(name))
    from serving.cli.board import board

    if plot is not None:
        _draw(plot, found, session.ask(lambda control: control.trail(name)))
    session.answer(found, lambda: board(found))
    if plot is not None:
        session.note(f"{plot} shows the intervals over time.")


@group.command()
def watch(ctx: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show an experiment every second until it is over. Exit status 0 if promoted, or passed."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: _watched(session, control, name))
    from serving.cli.board import board

    if as_json or not session.out.is_terminal:
        session.answer(found, lambda: board(found))
    raise typer.Exit(OVER[found["state"]])


@group.command()
def pause(ctx: typer.Context, name: Name, why: Why = "", as_json: Json = False) -> None:
    """Let the ramp rest. Traffic stays divided, and harm is still looked for."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.pause(name, by=login(), why=why))
    session.answer(found, lambda: _sentence(found))


@group.command()
def resume(ctx: typer.Context, name: Name, why: Why = "", as_json: Json = False) -> None:
    """Let the ramp of a paused experiment move again."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.resume(name, by=login(), why=why))
    session.answer(found, lambda: _sentence(found))


@group.command()
def stop(ctx: typer.Context, name: Name, why: Why = "", as_json: Json = False) -> None:
    """End an experiment without a verdict. Everybody meets the champion again."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.stop(name, by=login(), why=why))
    session.answer(found, lambda: _sentence(found))


@group.command("list")
def list_(ctx: typer.Context, as_json: Json = False) -> None:
    """List every experiment, the oldest first."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.experiments())
    from serving.cli import show as shown

    session.answer(found, lambda: shown.experiments(found))


def _draw(path: Path, found: dict[str, Any], trail: dict[str, Any]) -> None:
    """Draw an experiment's trail.

    Raises:
        NothingToDraw: it has no trail yet.
        typer.BadParameter: the file cannot be written.
    """
    if len(trail["points"]) < FEWEST_POINTS:
        over = f"`tiltyard experiment show {found['name']}` has its numbers."
        raise NothingToDraw(
            f"{found['name']} was not followed for long enough to draw it.",
            next_step=over if found["ended_at"] else None,
        )
    from serving.cli.trail_picture import draw_trail

    try:
        draw_trail(path, found, trail)
    except OSError as error:
        raise unwritable(path, error) from error


def _sentence(found: dict[str, Any]) -> str:
    from serving.cli.board import state_words

    return f"{found['name']} is {state_words(found)}"


async def _watched(session: Session, control: "ControlClient", name: str) -> dict[str, Any]:
    """Return the experiment when it is over, having shown it all the while."""
    from rich.live import Live

    from serving.cli.board import board

    found = await control.experiment(name)
    on_screen = session.out.is_terminal and not session.as_json
    if not on_screen:
        with session.progress() as tell:
            while found["state"] not in OVER:
                tell(_sentence(found))
                await session.pause(LOOK)
                found = await _again(control, found, name)
        return found
    with Live(board(found), console=session.out, auto_refresh=False) as live:
        while found["state"] not in OVER:
            await session.pause(LOOK)
            found = await _again(control, found, name)
            live.update(board(found), refresh=True)
    return found


async def _again(control: "ControlClient", last: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the experiment as it is now; while nobody can tell, as it was, and say so."""
    try:
        return await control.experiment(name)
    except TiltyardError as error:
        if not is_away(error):
            raise
        return last | {"unseen": error.message}
