"""The command line, as people and programs use it on the running system."""

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.system_fixture import System


def tiltyard(system: System, *arguments: str) -> str:
    """Return what a command prints."""
    run = subprocess.run(
        [Path(sys.executable).with_name("tiltyard"), *arguments],
        env=os.environ | {"TILTYARD_STATE_DIR": str(system.settings.state_dir), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, (run.stdout, run.stderr)
    return run.stdout


def no_number(text: str) -> float:
    raise AssertionError(f"{text} is no JSON")
