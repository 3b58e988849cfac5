"""Other people's clients, in an environment of their own: they do not go with what Tiltyard needs.

It is made once for what `requirements.txt` pins, beside it in a folder that is not committed.
"""

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
FOLDER = HERE / ".venv"
"""Ignored by git, as every folder of this name."""


def clients_python() -> Path:
    """Return the interpreter that has the clients, after making its environment if need be."""
    environment, made = FOLDER / "clients", FOLDER / "made"
    python = environment / "bin" / "python"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists() or made.read_text() != wanted:
            uv = Path(sys.executable).with_name("uv")
            _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment])
            install = [uv, "pip", "install", "--quiet", "--python", python, "--require-hashes"]
            _run([*install, "-r", REQUIREMENTS])
            made.write_text(wanted)
    return python


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
