"""A shell before a world."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

import httpx2
from typer.testing import CliRunner, Result

from experiments.store import Kind
from serving.cli import app
from serving.cli.session import Session
from tests.story.world import FILE, World


@dataclass
class Terminal:
    """A shell before a world."""

    world: World
    folder: Path
    transport: httpx2.AsyncBaseTransport | None = None
    width: int = 110
    height: int = 100
    is_tty: bool = False
    looks: int = 0

    def __call__(self, *words: object, stdin: str | None = None) -> Result:
        session = Session(transport=self.transport or self.world.transport(), pause=self._pause)
        arguments = [str(word) for word in words]
        env = {"COLUMNS": str(self.width), "LINES": str(self.height)}
        env |= {"FORCE_COLOR": "1"} if self.is_tty else {"NO_COLOR": "1"}
        result = CliRunner().invoke(app, arguments, obj=session, input=stdin, env=env)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def json(self, *words: object, status: int = 0) -> object:
        """Return the one document that a command prints."""
        result = self(*words, "--json")
        assert result.exit_code == status, result.stderr
        return json.loads(result.stdout)

    def file(self, text: str = FILE) -> Path:
        path = self.folder / "experiment.yaml"
        path.write_text(text)
        return path

    async def _pause(self, seconds: float) -> None:
        self.looks += 1
        assert self.looks < 100, "the command waits for something that never comes"
        await self.world.pass_time(seconds)
        await self.world.tick()


def nobody(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("connection refused", request=request)


def stored(tiltyard: Terminal) -> object:
    async def everything() -> object:
        return {kind: dict(await tiltyard.world.store.read_all(kind)) for kind in Kind}

    return asyncio.run(everything())
