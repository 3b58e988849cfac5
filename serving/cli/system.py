"""Commands about the system as it runs."""

import typer

from serving.cli.session import Json, Session


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(status)


def status(ctx: typer.Context, as_json: Json = False) -> None:
    """Show every model, version, edge and trouble."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.status())
    from serving.cli import show

    session.answer(found, lambda: show.system(found))
