"""Commands for the whole system on this machine. Each gives its own exit status."""

from typing import Annotated

import typer

from serving.cli.session import Json, Session, naming_wrong_settings


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(up)
    app.command()(down)
    app.command()(doctor)
    app.command()(demo)


def up(
    ctx: typer.Context,
    edges: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="How many edges; by default TILTYARD_EDGES, or 1."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the whole system on this machine: Redis, Ray, edges and control."""
    Session.of(ctx, as_json)
    from serving.local import commands

    with naming_wrong_settings():
        raise typer.Exit(commands.up(as_json=as_json, edges=edges))


def down(ctx: typer.Context, as_json: Json = False) -> None:
    """Stop what `up` has started, and only that."""
    Session.of(ctx, as_json)
    from serving.local import commands

    with naming_wrong_settings():
        raise typer.Exit(commands.down(as_json=as_json))


def doctor(ctx: typer.Context, as_json: Json = False) -> None:
    """Look at every part of the system on this machine, and say what is wrong with it.

    Exit status 1 if anything is.
    """
    Session.of(ctx, as_json)
    from serving.local import commands

    with naming_wrong_settings():
        raise typer.Exit(commands.doctor(as_json=as_json))


def demo(ctx: typer.Context, as_json: Json = False) -> None:
    """Tell the whole story on real components: four versions, three experiments, going back."""
    Session.of(ctx, as_json)
    from serving import demo as story

    with naming_wrong_settings():
        raise typer.Exit(story.main(as_json=as_json))
