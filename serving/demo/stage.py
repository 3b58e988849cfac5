"""What the story plays on: a system of its own, started, filled with versions, and taken away."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from registry.refs import Version
from serving.demo.models import Digits, register
from serving.demo.narrator import Narrator
from serving.demo.scoreboard import Scoreboard
from serving.local.ports import free_ports
from serving.local.system import down, up
from serving.settings import Settings

LONGEST_FOLDER = 5
"""Characters of a temporary folder's path that leave room for Ray's sockets deep inside it."""

PARTS = ("edge", "edge agent", "control", "Ray")


def own_settings(state_dir: Path) -> Settings:
    """Return settings that share no port and no file with any other system.

    Nothing is taken from the environment: what a user has set there is about another system.
    """
    edge, control, redis, serve, ray = free_ports(5)
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings(
        **defaults
        | {
            "state_dir": state_dir,
            "edge_port": edge,
            "control_port": control,
            "redis_url": f"redis://127.0.0.1:{redis}/0",
            "serve_port": serve,
            "ray_dashboard_url": f"http://127.0.0.1:{ray}",
        }
    )


def make_state_dir() -> Path:
    """Make a folder whose path is short enough for sockets."""
    usual = tempfile.gettempdir()
    parent = usual if len(usual) <= LONGEST_FOLDER else "/tmp"
    return Path(tempfile.mkdtemp(prefix="tiltyard-", dir=parent))


@asynccontextmanager
async def system(
    settings: Settings,
    training: Digits,
    narrator: Narrator,
    scoreboard: Scoreboard,
    *,
    deadline: float,
) -> AsyncIterator[Settings]:
    """Start a system, register the versions in it, and end it with the context.

    Args:
        deadline: When all has to be ready, on the event loop's clock.

    Raises:
        SystemDidNotStart: a part of it does not answer.
        TimeoutError: the deadline has passed.
    """

    def ready(part: str, seconds: float) -> None:
        scoreboard.end(part)
        narrator.say(f"{part[0].upper()}{part[1:]} is ready after {seconds:.1f} s.")

    def registered(version: Version) -> None:
        narrator.say(f"Version {version} is registered.")

    try:
        for part in PARTS:
            scoreboard.begin(part)
        with scoreboard.waiting("training and registering four versions"):
            async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as starting:
                starting.create_task(register(settings, training, registered))
                running = starting.create_task(up(settings, ready))
        yield running.result()
    finally:
        with scoreboard.waiting("ending what was started"):
            await _to_the_end(down(settings))


async def _to_the_end(work: Coroutine[Any, Any, object]) -> None:
    """Do the whole of `work`, even if cancelled meanwhile, and be cancelled only then."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


@contextmanager
def interruptible() -> Iterator[None]:
    """Have the first signal to end cancel the running task; those that follow do nothing."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt() -> None:
        for each in signals:
            loop.add_signal_handler(each, lambda: None)
        task.cancel()

    for each in signals:
        loop.add_signal_handler(each, interrupt)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
