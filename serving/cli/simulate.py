"""`tiltyard simulate`: what a declared experiment would do, before anybody is in it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.picture_file import require_place, unwritable
from serving.cli.plan import File, HeldOut, InAudience, Traffic, reach_of, units_per_second
from serving.cli.session import Json, Session

if TYPE_CHECKING:
    from experiments.metric import Metric
    from experiments.model import Declaration
    from experiments.simulation import Extent, Run, Truth
    from serving.simulations import Order

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""

PICTURED = 150
"""Runs that a picture shows one by one; more would be a blot."""


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(simulate)


def simulate(
    ctx: typer.Context,
    file: File,
    effect: Annotated[
        str | None,
        typer.Option(
            "--effect",
            metavar="X",
            help="True relative change of the goal, with the first challenger: 5%, -0.1; 0 is A/A. "
            "Needed where there is a goal.",
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many experiments.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed, the same runs.")] = 0,
    harm: Annotated[
        list[str] | None,
        typer.Option(
            "--harm",
            metavar="METRIC=FACTOR",
            help="Multiply a guardrail's value with the first challenger; may be repeated.",
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            metavar="[METRIC=]VALUE",
            help="The champion's value, of the goal or of METRIC; may be repeated.",
        ),
    ] = None,
    agreement: Annotated[
        str,
        typer.Option(
            "--agreement",
            metavar="SHARE",
            help="Share of the first challenger's answers that agree in the shadow: 97%.",
        ),
    ] = "100%",
    units: Annotated[
        int | None, typer.Option("--units", min=1, help="Units that arrive at most.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Units between two looks at most.")
    ] = None,
    traffic: Traffic = None,
    audience: InAudience = None,
    holdout: HeldOut = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="At once; all cores unless given.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PNG", help="Draw the runs to this file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a declared experiment on generated traffic, many times, through the real decisions."""
    session = Session.of(ctx, as_json)
    session.file = str(file)
    from experiments.simulation import Extent, extent_of, premises, summarise
    from experiments.spec import read_declaration
    from serving.cli import simulated
    from serving.simulations import Order, cores

    if plot is not None:
        require_place(plot)
    declaration = read_declaration(file.read_bytes())
    truth = _truth(declaration, effect, harm or [], baseline or [], agreement)
    reach = reach_of(declaration, audience, holdout)
    rate = None if traffic is None else units_per_second(traffic) * reach.share
    supposed = premises(declaration, truth)
    extent = extent_of(declaration, truth, units=units, rate=rate)
    if batch is not None:
        extent = Extent(extent.units, batch, extent.rate)
    if traffic is not None:
        _warn_of_dearth(session, declaration, extent)
    order = Order(declaration, truth, extent, runs, seed, watched=PICTURED if plot else 0)
    found = _carried_out(session, order, processes or cores())
    summary = summarise(found, declaration, truth)
    if plot is not None:
        _draw(plot, order, found)
    is_timed = traffic is not None
    session.answer(
        simulated.as_dict(order, supposed, summary, is_timed=is_timed),
        lambda: simulated.shown(order, supposed, summary, is_timed=is_timed),
    )


def _warn_of_dearth(session: Session, declaration: "Declaration", extent: "Extent") -> None:
    """Say that the ramp will outlast the traffic: what ends so has shown nothing."""
    from experiments.planning import span

    seconds = extent.units / extent.rate
    least = declaration.limits.min_runtime.total_seconds()
    if seconds < least:
        session.note(
            f"All {extent.units:,} units will have arrived after {span(seconds)}, but the ramp "
            f"takes {span(least)} at least (limits.min_runtime): give more --units, or less "
            "--traffic."
        )


def _carried_out(session: Session, order: "Order", processes: int) -> "list[Run]":
    from serving.simulations import carry_out

    done = 0
    with _bar(session, order.runs) as advance:

        def progress(count: int) -> None:
            nonlocal done
            done += count
            advance(count)

        try:
            return carry_out(order, processes=processes, progress=progress)
        except KeyboardInterrupt:
            pass
    session.note(f"Interrupted after {done:,} of {order.runs:,} runs; nothing is reported.")
    raise typer.Exit(INTERRUPTED)


@contextmanager
def _bar(session: Session, runs: int) -> Iterator[Callable[[int], None]]:
    """Show how many runs are finished; nothing where a program reads, or nobody looks."""
    if session.as_json or not session.err.is_terminal:
        yield lambda _: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("Simulating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=session.err, transient=True) as progress:
        task = progress.add_task("", total=runs)
        yield lambda count: progress.advance(task, count)


def _draw(path: Path, order: "Order", runs: "list[Run]") -> None:
    from serving.cli.pictures import draw_simulation

    try:
        draw_simulation(path, order.declaration, order.truth, runs)
    except OSError as error:
        raise unwritable(path, error) from error


def _truth(
    declaration: "Declaration",
    effect: str | None,
    harm: list[str],
    baseline: list[str],
    agreement: str,
) -> "Truth":
    """Return what the options suppose.

    Raises:
        typer.BadParameter: they suppose what cannot be.
    """
    from experiments.simulation import Truth, premises

    if effect is None and declaration.goal is not None:
        raise typer.BadParameter(
            "must say what is true of the goal, such as 5%, or 0 for an A/A.", param_hint="--effect"
        )
    # Without a goal there is no value that needs no name.
    prefix = "" if declaration.goal is None else f"{declaration.goal.metric.key}="
    try:
        truth = Truth(
            effect=0.0 if effect is None else _number(effect, "--effect"),
            harm=dict(_setting(each, declaration, "--harm") for each in harm),
            baselines=dict(
                _setting(each if "=" in each else f"{prefix}{each}", declaration, "--baseline")
                for each in baseline
            ),
            agreement=_number(agreement, "--agreement"),
        )
        premises(declaration, truth)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return truth


def _setting(text: str, declaration: "Declaration", option: str) -> tuple[str, float]:
    """Read `METRIC=VALUE`; a metric's name is enough where no other metric has it."""
    from experiments.spelling import shown

    word, sign, value = text.rpartition("=")
    if not sign or not word:
        raise ValueError(f"{option} takes METRIC=VALUE, such as error_rate=2, not {shown(text)}")
    return _key(word, declaration.metrics), _number(value, option)


def _key(word: str, metrics: "tuple[Metric, ...]") -> str:
    named = [metric.key for metric in metrics if word in (metric.key, metric.name)]
    if word in named or len(named) != 1:
        return word
    return named[0]


def _number(text: str, option: str) -> float:
    """Read `0.1` or `10%`."""
    from math import isfinite

    from experiments.spelling import shown

    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise ValueError(f"{option} takes a number such as 0.1 or 10%, not {shown(text)}")
    return number
