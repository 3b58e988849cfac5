"""Commands about outcomes in, and receipts out."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.session import NO, OK, Json, Session

if TYPE_CHECKING:
    from serving.client import ControlClient

Receipt = Annotated[
    str, typer.Argument(metavar="RECEIPT", help="Id of the receipt, or a unique beginning of it.")
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(receipt)
    app.command()(replay)
    # A value may begin with a minus, and is refused by control then, not taken for an option.
    app.command(context_settings={"ignore_unknown_options": True})(outcome)


def receipt(ctx: typer.Context, receipt: Receipt, as_json: Json = False) -> None:
    """Print a receipt; with --json byte for byte as its id is the SHA-256 of."""
    session = Session.of(ctx, as_json)
    content = session.ask(lambda control: control.receipt(receipt))
    if as_json:
        sys.stdout.write(content.decode())
    else:
        session.out.print_json(content.decode())


def replay(ctx: typer.Context, receipt: Receipt, as_json: Json = False) -> None:
    """Make the decision of a receipt again. Exit status 1 if it comes out otherwise."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.replay(receipt))
    from serving.cli import show

    session.answer(found, lambda: show.replayed(found))


def outcome(
    ctx: typer.Context,
    prediction_id: Annotated[
        str | None,
        typer.Argument(metavar="PREDICTION_ID", help="The answer's X-Prediction-Id header."),
    ] = None,
    metric: Annotated[
        str | None, typer.Argument(metavar="METRIC", help="A metric that the experiment declares.")
    ] = None,
    value: Annotated[str | None, typer.Argument(metavar="VALUE", help="Its value.")] = None,
    file: Annotated[
        typer.FileBinaryRead | None,
        typer.Option(
            "--file", help="JSON with one outcome or a list of up to 1,000; - reads stdin."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Report what became of a prediction, or of many from a file."""
    session = Session.of(ctx, as_json)
    if (file is None) == (prediction_id is None or metric is None or value is None):
        raise typer.BadParameter("give PREDICTION_ID METRIC VALUE, or --file FILE")

    async def sent(control: "ControlClient") -> dict[str, Any]:
        if file is None:
            assert prediction_id is not None
            assert metric is not None
            return await control.outcome(prediction_id, metric, _value(str(value)))
        return await control.outcomes(file.read())

    found = session.ask(sent)
    from serving.cli import show

    session.answer(found, lambda: show.outcomes(found))
    raise typer.Exit(NO if found["refused"] else OK)


def _value(text: str) -> object:
    """Read a number; anything else is sent as it stands, for control to refuse."""
    try:
        # NaN and its like are no JSON, so they stay text.
        return json.loads(text, parse_constant=lambda _: text)
    except ValueError:
        return text
