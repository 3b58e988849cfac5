"""What all commands share: the way to control, words for people, JSON for programs."""

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import typer

from experiments.errors import InvalidFile
from registry.errors import TiltyardError
from serving.errors import Refused

if TYPE_CHECKING:
    import httpx2
    from rich.console import Console, RenderableType

    from serving.client import ControlClient
    from serving.settings import Settings

T = TypeVar("T")

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else to stdout.")
]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
VersionArgument = Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Its version.")]
Why = Annotated[str, typer.Option("--why", help="The reason, for the history.")]

OK, NO, UNREACHABLE = 0, 1, 3
"""Exit statuses; 2 is wrong usage."""

AWAY = {
    "catalog_unavailable",
    "control_unavailable",
    "edge_stopped",
    "edge_unavailable",
    "edge_unresponsive",
    "hosts_unavailable",
    "store_unavailable",
    "system_did_not_start",
}
"""Codes that say nothing of what was asked, only that somebody could not be reached."""


@dataclass
class Session:
    """One run of the command line.

    Args:
        as_json: stdout is for a program.
        transport: Another way to control than the network; for tests.
        edge: The same to the edge.
        pause: How to let seconds pass between two looks.
        file: The file that problems with a line and column are about.
    """

    as_json: bool = False
    transport: "httpx2.AsyncBaseTransport | None" = None
    edge: "httpx2.AsyncBaseTransport | None" = None
    pause: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)
    file: str = ""

    @classmethod
    def of(cls, ctx: typer.Context, as_json: bool) -> Self:
        """Return the session of a command."""
        session = ctx.ensure_object(cls)
        session.as_json = as_json
        return session

    @cached_property
    def out(self) -> "Console":
        """Where answers go."""
        from rich.console import Console

        return Console(highlight=False)

    @cached_property
    def err(self) -> "Console":
        """Where progress and refusals go."""
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    @cached_property
    def settings(self) -> "Settings":
        """How the system that runs on this machine is reached.

        Raises:
            typer.BadParameter: an environment variable holds what cannot be.
        """
        from serving.settings import running_settings

        with naming_wrong_settings():
            return running_settings()

    def ask(self, call: "Callable[[ControlClient], Awaitable[T]]") -> T:
        """Return what control answers.

        Raises:
            Refused: control said no.
            ControlUnavailable: control said nothing.
        """
        from serving.client import ControlClient

        url = self.settings.control_url

        async def asked() -> T:
            async with ControlClient.open(url, transport=self.transport) as control:
                return await call(control)

        return asyncio.run(asked())

    def answer(self, value: object, shown: "Callable[[], RenderableType]") -> None:
        """Print an answer: `value` for a program, what `shown` returns for a person."""
        if self.as_json:
            typer.echo(json.dumps(value, indent=2))
        else:
            self.out.print(shown())

    def note(self, words: str) -> None:
        """Say something on the way."""
        self.err.print(words, markup=False)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str], None]]:
        """Return what shows how far something is: in one line that changes, or a line a change."""
        if self.err.is_terminal:
            with self.err.status("") as status:
                yield lambda words: status.update(_plain(words))
            return
        last = ""

        def tell(words: str) -> None:
            nonlocal last
            if words != last:
                self.note(words)
            last = words

        yield tell

    def refuse(self, error: TiltyardError) -> int:
        """Say what happened, with its code and what to do next; return the exit status."""
        problem = problem_of(error)
        if self.as_json:
            typer.echo(json.dumps(problem, indent=2))
        else:
            self._explain(problem)
        return UNREACHABLE if problem["code"] in AWAY else NO

    def _explain(self, problem: dict[str, Any]) -> None:
        listed = problem.get("problems")
        if isinstance(listed, list) and listed:
            for each in listed:
                about = f"{each['field']}: " if each["field"] else ""
                place = f"{self.file}:{each['line']}:{each['column']}"
                self.note(f"{place}: {about}{each['message']}")
        else:
            self.err.print(_plain(str(problem["detail"])), style="bold")
        self.note(f"Code: {problem['code']}")
        if problem.get("next_step"):
            self.note(f"Next: {problem['next_step']}")


@contextmanager
def naming_wrong_settings() -> Iterator[None]:
    """Say which environment variables hold what no setting can be.

    Raises:
        typer.BadParameter: some do.
    """
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        if error.title != "Settings":
            raise
        wrong = "; ".join(
            f"TILTYARD_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}"
            for each in error.errors()
        )
        raise typer.BadParameter(wrong) from error


def problem_of(error: TiltyardError) -> dict[str, Any]:
    """Return an error as a problem document: as control wrote it, or in the same form."""
    if isinstance(error, Refused) and error.problem:
        return {"code": error.refusal, "detail": error.message} | error.problem
    problem: dict[str, Any] = {
        "code": error.code,
        "detail": error.message,
        "next_step": error.hint,
    }
    if isinstance(error, InvalidFile):
        problem["problems"] = [asdict(each) for each in error.problems]
    return problem


def is_away(error: TiltyardError) -> bool:
    """Return whether asking again later may well be answered."""
    return problem_of(error)["code"] in AWAY


def login() -> str:
    """Return who asks, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # A container may run as a user that nobody has named.


def _plain(words: str) -> Any:  # noqa: ANN401  rich's Text
    from rich.text import Text

    return Text(words)
