"""Commands about models and their versions."""

import asyncio
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from registry.errors import TiltyardError
from serving.cli.session import (
    NO,
    OK,
    Json,
    ModelArgument,
    Session,
    VersionArgument,
    Why,
    is_away,
    login,
)

if TYPE_CHECKING:
    from serving.client import ControlClient

LOOK = 0.5
"""Seconds between two looks at a version that is being loaded."""

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER", exists=True, file_okay=False, help="Folder of an MLflow model."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command()(register)
    app.command()(deploy)
    app.command()(undeploy)
    app.command()(promote)
    app.command()(holdout)
    app.command()(history)


def register(
    ctx: typer.Context, model: ModelArgument, folder: Folder, as_json: Json = False
) -> None:
    """Register an MLflow model folder as the next version of a model."""
    session = Session.of(ctx, as_json)
    from registry.refs import model_name

    name = model_name(model)
    from registry.mlflow import MlflowCatalog

    async def registered() -> dict[str, Any]:
        settings = session.settings
        async with MlflowCatalog.open(settings.catalog_uri, settings.artifact_dir) as catalog:
            found = await catalog.register(name, folder)
        return {
            "model": found.ref.model,
            "version": found.ref.version,
            "digest": found.digest,
            "artifact": found.artifact,
        }

    with session.progress() as tell:
        tell(f"Registering {folder} as the next version of {name}")
        found = asyncio.run(registered())
    session.answer(found, lambda: f"{name} has version {found['version']} now.")


def deploy(
    ctx: typer.Context,
    model: ModelArgument,
    version: VersionArgument,
    replicas: Annotated[int, typer.Option(min=1, help="How many replicas.")] = 2,
    cpus: Annotated[float, typer.Option(min=0, help="CPUs for each replica.")] = 0.1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs for each replica.")] = 0.0,
    wait: Annotated[bool, typer.Option(help="Wait until it is hot, or has failed.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Have a version loaded, next to those that serve. A model's first becomes its champion."""
    session = Session.of(ctx, as_json)
    ends = monotonic() + timeout

    async def deployed(control: "ControlClient") -> dict[str, Any]:
        host = await control.deploy(model, version, replicas=replicas, cpus=cpus, gpus=gpus)
        return await _loaded(session, control, model, host, ends) if wait else host

    host = session.ask(deployed)
    ref = f"{model}/{version}"
    from serving.cli import show

    session.answer(host, lambda: show.host(ref, host))
    if wait and host["state"] != "hot":
        if host["state"] != "failed":
            session.note(f"That is after {timeout:g} s. It goes on: `tiltyard status` shows it.")
        raise typer.Exit(NO)


async def _loaded(
    session: Session, control: "ControlClient", model: str, host: dict[str, Any], ends: float
) -> dict[str, Any]:
    """Return the version when it is hot or has failed, or as it is when time is up."""
    version = host["version"]
    from serving.cli import show

    with session.progress() as tell:
        while host["state"] not in ("hot", "failed") and monotonic() < ends:
            tell(show.host_words(f"{model}/{version}", host))
            await session.pause(LOOK)
            try:
                host = await control.host(model, version)
            except TiltyardError as error:
                if not is_away(error):
                    raise
                tell(f"{error.message} Trying again.")
    return host


def undeploy(
    ctx: typer.Context, model: ModelArgument, version: VersionArgument, as_json: Json = False
) -> None:
    """Have a version unloaded that no route needs."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.undeploy(model, version))
    session.answer(found, lambda: f"{found['withdrawn']} is being unloaded.")


def promote(
    ctx: typer.Context,
    model: ModelArgument,
    version: VersionArgument,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Make a version the champion by hand, whatever its experiment has shown."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.promote(model, version, by=login(), why=why))
    from serving.cli import show

    session.answer(found, lambda: show.promoted(found))
    raise typer.Exit(NO if found["silent"] else OK)


def holdout(
    ctx: typer.Context,
    model: ModelArgument,
    share: Annotated[
        str | None,
        typer.Argument(metavar="[SHARE]", help="Such as 5%; without it, the present one is shown."),
    ] = None,
    why: Why = "",
    as_json: Json = False,
) -> None:
    """Keep a share of a model's units from every challenger, in all experiments to come."""
    session = Session.of(ctx, as_json)

    async def asked(control: "ControlClient") -> dict[str, Any]:
        if share is not None:
            return await control.hold_out(model, share, by=login(), why=why)
        route = await control.route(model)
        points = route["holdout"]
        return {"model": model, "before": points, "holdout": points, "changed": False}

    found = session.ask(asked)
    from serving.cli import show

    session.answer(found, lambda: show.held_out(found))
    raise typer.Exit(NO if found.get("silent") else OK)


def history(ctx: typer.Context, model: ModelArgument, as_json: Json = False) -> None:
    """Tell who made which version the champion, when and why, and the receipts of it."""
    session = Session.of(ctx, as_json)
    found = session.ask(lambda control: control.history(model))
    from serving.cli import show

    session.answer(found, lambda: show.history(found))
