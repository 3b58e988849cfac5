"""`tiltyard`: the command line, a client of the control API.

Whatever is slow to import is imported by the command that needs it, so that `--help` is quick.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from registry.errors import TiltyardError
from serving.cli import (
    certify,
    drill,
    evidence,
    experiments,
    local,
    models,
    plan,
    rollback,
    simulate,
    system,
)
from serving.cli.session import Session


class Commands(TyperGroup):
    """Turns every error that was raised on purpose into words and an exit status."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401  a context of the click inside typer
        """Run a command.

        Raises:
            typer.Exit: with 1 where it was refused, and 3 where the system cannot be reached.
        """
        session: Session = ctx.ensure_object(Session)
        try:
            return super().invoke(ctx)
        except TiltyardError as error:
            raise typer.Exit(session.refuse(error)) from error


app = typer.Typer(
    name="tiltyard",
    cls=Commands,
    help="Try model versions on live traffic, promote the better one, and always go back.",
    epilog="Exit status: 0 done, 1 refused or a negative answer, 2 wrong usage, "
    "3 the system cannot be reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

TRAFFIC = (models, rollback, experiments)
TRIED_OUT = (plan, simulate, certify, drill)

for part in (local, *TRAFFIC, *TRIED_OUT, evidence, system):
    part.add_to(app)
