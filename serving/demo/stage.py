"""What the story plays on: a system of its own, started, filled with versions, and taken away."""

import asyncio
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from registry.refs import Version
from serving.demo.models import Digits, register
from serving.demo.narrator import Narrator
from serving.demo.scoreboard import Scoreboard
from serving.local.ports import is_free
from serving.local.system import down, up
from serving.settings import Settings

PORTS = range(10_000, 20_000)
"""Where to look for free ports: below those that the system gives to outgoing connections."""

LONGEST_FOLDER = 20
"""Characters of a temporary folder's path that leave room for the names of sockets in it."""

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


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if is_free("127.0.0.1", port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError("there are no free ports")


def make_state_dir() -> Path:
    """Make a folder whose path is short enough for sockets."""
    usual = tempfile.gettempdir()
    parent = usual if len(usual) <= LONGEST_FOLDER else "/tmp"  # noqa: S108
    return Path(tempfile.mkdtemp(prefix="tiltyard-", dir=parent))


@asynccontextmanager
async def system(
    settings: Settings, training: Digits, narrator: Narrator, scoreboard: Scoreboard
) -> AsyncIterator[Settings]:
    """Start a system, register the versions in it, and end it with the context.

    Raises:
        SystemDidNotStart: a part of it does not answer.
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
            async with asyncio.TaskGroup() as starting:
                starting.create_task(register(settings, training, registered))
                running = starting.create_task(up(settings, ready))
        yield running.result()
    finally:
        with scoreboard.waiting("ending what was started"):
            await down(settings)


@contextmanager
def interruptible() -> Iterator[None]:
    """Have a signal to end cancel the running task, once: what ends it is not interrupted."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt() -> None:
        for number in numbers:
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
