"""The command that tries the running system out."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli.session import NO, OK, Json, ModelArgument, Session, login

if TYPE_CHECKING:
    from rich.console import RenderableType

    from registry.refs import ModelName
    from serving.certify.report import Certificate

TIMEOUT = 60.0
"""Seconds after which a request of the lane's users counts as failed."""

LABELS = ("aa", "slow", "errors", "wrong", "empty")


def add_to(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command()(certify)


def certify(
    ctx: typer.Context,
    model: ModelArgument,
    requests: Annotated[
        int, typer.Option(min=100, max=1_000_000, help="Requests of each trial, at most.")
    ] = 1000,
    rate: Annotated[float, typer.Option(min=1, max=10_000, help="Requests a second.")] = 100.0,
    seed: Annotated[int, typer.Option(help="What the questions and their order follow from.")] = 0,
    only: Annotated[
        str, typer.Option(metavar="TRIALS", help=f"Some of {', '.join(LABELS)}; by default all.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Plant faults where no user is, and see whether the running system finds them.

    An A/A must raise no alarm, every fault must be rolled back, and no request may fail: exit
    status 0 only then.
    """
    session = Session.of(ctx, as_json)
    labels = [each.strip() for each in only.split(",")] if only else list(LABELS)
    if unknown := [each for each in labels if each not in LABELS]:
        raise typer.BadParameter(f"--only takes {', '.join(LABELS)}, not {', '.join(unknown)}")
    from registry.refs import users_model_name

    name = users_model_name(model)
    found = _certified(session, name, labels, requests, rate, seed)
    session.answer(found.as_dict(), lambda: drawn(found))
    raise typer.Exit(OK if found.certified else NO)


def _certified(
    session: Session, model: "ModelName", labels: list[str], requests: int, rate: float, seed: int
) -> "Certificate":
    import httpx2

    from serving.certify.certification import Certification, Options
    from serving.certify.trials import named
    from serving.client import ControlClient

    settings = session.settings
    options = Options(tuple(dict.fromkeys(map(named, labels))), requests, rate, seed)

    async def run() -> "Certificate":
        limits = httpx2.Limits(max_connections=64)
        async with (
            ControlClient.open(settings.control_url, transport=session.transport) as control,
            httpx2.AsyncClient(
                base_url=settings.edge_url,
                transport=session.edge,
                timeout=TIMEOUT,
                limits=limits,
                trust_env=False,
            ) as edge,
        ):
            with session.progress() as tell:
                trying = Certification(
                    control, edge, model, options, by=login(), tell=tell, pause=session.pause
                )
                return await trying.run()

    return asyncio.run(run())


def drawn(found: "Certificate") -> "RenderableType":
    """Draw a line a trial, and a sentence for all."""
    from rich.console import Group
    from rich.text import Text

    from serving.cli.show import plain, row

    table = plain(
        ("trial", "expected", "actual", "found after", "challenger met", "requests", "failed")
    )
    for each in found.trials:
        actual = Text(_words(each.actual), style="green" if each.passed else "bold red")
        after = "-" if each.seconds is None else f"{each.seconds:.1f} s"
        failed = Text(str(each.failed_requests), style="bold red" if each.failed_requests else "")
        expected = _words(each.expected)
        row(
            table,
            each.trial,
            expected,
            actual,
            after,
            f"{each.challenger_requests:,}",
            f"{each.requests:,}",
            failed,
        )
    lines = [Text(f"  {each.trial}: {why}") for each in found.trials for why in each.reasons]
    lines += [Text(failure, style="bold red") for failure in found.failures[:10]]
    if found.agreement < 1:
        lines.append(
            Text(
                f"Asked twice, it gives the same answer to {found.agreement:.0%} of the questions: "
                "what is wrong by chance hides what is wrong by a fault.",
                style="yellow",
            )
        )
    return Group(table, *lines, _sentence(found))


def _sentence(found: "Certificate") -> Any:  # noqa: ANN401  rich's Text
    from rich.text import Text

    passed = sum(each.passed for each in found.trials)
    said = (
        f"{passed} of {len(found.trials)} trials of {found.version} passed: "
        f"{found.false_alarms} false alarms, {found.misses} misses, "
        f"{found.failed_requests} failed requests."
    )
    return Text(said, style="green" if found.certified else "bold red")


def _words(state: str) -> str:
    return state.replace("_", " ")
