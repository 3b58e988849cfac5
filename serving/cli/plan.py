"""`tiltyard plan`: what an experiment will need. Asks nobody; the file is enough."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.session import Json, Session

if TYPE_CHECKING:
    from experiments.model import Declaration
    from experiments.planning import Reach

_TRAFFIC = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{1,15})?(?:e[0-9]{1,2})?) ?/ ?(s|m|min|h|d)", re.ASCII | re.IGNORECASE
)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_NUMBER = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(%?)", re.ASCII)

MOST_TRAFFIC = 1e9
"""Units a second; more is a slip of the pen."""

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE", exists=True, dir_okay=False, readable=True, help="The experiment file."
    ),
]
Traffic = Annotated[
    str | None,
    typer.Option(
        "--traffic", metavar="RATE", help="The model's units: 50/s, 300/m, 3000/h or 2e6/d."
    ),
]
InAudience = Annotated[
    str | None,
    typer.Option("--audience", metavar="SHARE", help="Of the units, in the audience: 30%."),
]
HeldOut = Annotated[
    str | None,
    typer.Option("--holdout", metavar="SHARE", help="Of the model's units, held out: 5%."),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline", metavar="VALUE", help="The champion's value of the goal: 12%, 0.12, or 4.2."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(plan)


def plan(
    ctx: typer.Context,
    file: File,
    traffic: Traffic = None,
    audience: InAudience = None,
    holdout: HeldOut = None,
    baseline: Baseline = None,
    as_json: Json = False,
) -> None:
    """Show how many units, and how long, an experiment file will need to reach its verdicts."""
    session = Session.of(ctx, as_json)
    session.file = str(file)
    rate = None if traffic is None else units_per_second(traffic)
    from experiments.codec import encode
    from experiments.planning import Forecast, forecast
    from experiments.spec import read_declaration
    from serving.cli import planned

    declaration = read_declaration(file.read_bytes())
    if baseline is not None:
        declaration = _with_baseline(declaration, baseline)
    reach = reach_of(declaration, audience, holdout)
    found = forecast(declaration, None if rate is None else rate * reach.share)
    answer = {"name": declaration.name, "reach": reach.share, "traffic": rate}
    answer |= json.loads(encode(Forecast, found))
    words = "" if rate is None or reach.is_whole else reach.words(declaration, rate)
    session.answer(answer, lambda: planned.drawn(declaration, found, words))


def units_per_second(text: str) -> float:
    """Read a rate.

    Raises:
        typer.BadParameter: `text` is none; says what one looks like.

    Examples:
        >>> units_per_second("50/s"), units_per_second("3000/h") * 60, units_per_second("8.64e4/d")
        (50.0, 50.0, 1.0)
    """
    found = _TRAFFIC.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no rate: write units per second, minute, hour or day, such as "
            "50/s, 300/m, 3000/h or 2e6/d.",
            param_hint="--traffic",
        )
    rate = float(found[1]) / _SECONDS[found[2].lower()]
    if not 0.0 < rate <= MOST_TRAFFIC:
        raise typer.BadParameter(
            f"{text!r} must be above 0 and at most {MOST_TRAFFIC:.0e}/s.", param_hint="--traffic"
        )
    return rate


def reach_of(declaration: "Declaration", audience: str | None, holdout: str | None) -> "Reach":
    """Return how much of the traffic can be in the experiment, as the options have it.

    Raises:
        typer.BadParameter: an option is no share, or says what the file does not ask.
    """
    from experiments.model import NOTHING, WHOLE
    from experiments.planning import Reach
    from experiments.quantities import read_rate, read_share

    try:
        of_audience = None if audience is None else read_rate(audience)
        held_out = NOTHING if holdout is None else read_share(holdout)
    except ValueError as error:
        raise typer.BadParameter(f"a share {error}.") from error
    if of_audience is not None and not 0.0 < of_audience <= 1.0:
        raise typer.BadParameter("must be above 0%, and at most 100%.", param_hint="--audience")
    if of_audience is not None and declaration.audience is None:
        raise typer.BadParameter("the file declares no audience.", param_hint="--audience")
    if held_out >= WHOLE:
        raise typer.BadParameter("must be below 100%.", param_hint="--holdout")
    return Reach.of(declaration, holdout=held_out, audience=of_audience)


def _with_baseline(declaration: "Declaration", text: str) -> "Declaration":
    from dataclasses import replace

    from experiments.metric import Binary, Count, Slow

    if declaration.goal is None:
        raise typer.BadParameter(
            "with mode: shadow there is no goal to have a baseline.", param_hint="--baseline"
        )
    goal = declaration.goal
    by_share = isinstance(goal.metric.kind, Binary | Slow | Count)
    found = _NUMBER.fullmatch(text.strip())
    if found is None or (found[2] and not by_share):
        like = "12% or 0.12" if by_share else "4.2"
        raise typer.BadParameter(
            f"{text!r} is no value of {goal.metric.key}: write a number such as {like}.",
            param_hint="--baseline",
        )
    value = float(found[1]) / (100.0 if found[2] else 1.0)
    if by_share and not 0.0 < value < 1.0:
        hint = f", such as {text}%" if not found[2] and 1.0 <= value < 100.0 else ""
        raise typer.BadParameter(
            f"{text!r} must be a share of units, above 0% and below 100%{hint}.",
            param_hint="--baseline",
        )
    if value <= 0.0:
        raise typer.BadParameter(f"{text!r} must be above 0.", param_hint="--baseline")
    return replace(declaration, goal=replace(goal, baseline=value))
