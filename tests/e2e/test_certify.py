"""The running system is asked whether it would find what is wrong, and finds it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.app import host_options
from serving.client import ControlClient
from serving.hosts.serve import ServeClient
from tests.e2e.client import eventually
from tests.e2e.oracle import Oracle
from tests.e2e.system_fixture import System

MODEL = "certified"
LANE = "tiltyard-certify-certified"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def certified(system: System) -> System:
    """The system with one version of one model."""

    async def prepare() -> None:
        await system.register(MODEL, Oracle(0.9))
        async with system.control() as control:
            await system.hot(control, MODEL, v1=1)

    asyncio.run(prepare())
    return system


async def test_planted_faults_are_found_and_nothing_is_left(
    certified: System, control: ControlClient
):
    before = await control.status()
    run = await asyncio.to_thread(tiltyard, certified, "aa,wrong,errors", "--requests", "400")
    assert run.returncode == 0, (run.stdout, run.stderr)
    found = json.loads(run.stdout)
    ended = {each["trial"]: each["actual"] for each in found["trials"]}
    assert ended == {"aa": "no_alarm", "wrong": "rolled_back", "errors": "rolled_back"}
    assert (found["summary"]["failed_requests"], found["certified"]) == (0, True)
    aa, wrong, errors = found["trials"]
    assert aa["requests"] == 400
    assert (wrong["rescued"], errors["rescued"] > 0) == (0, True)
    assert (await control.replay(wrong["receipt"]))["same"]

    async def clean() -> bool:
        edge = (await control.status())["edges"][0]
        lines = (certified.settings.edge_dir / "routes.map").read_text()
        running = [each for each in await applications(certified) if each.startswith(LANE)]
        return LANE not in lines and LANE not in edge["epochs"] and not running

    await eventually(clean, what="nothing is left of the lane")
    after = await control.status()
    assert [m["model"] for m in after["models"]] == [m["model"] for m in before["models"]]
    assert not after["troubles"]


async def applications(system: System) -> list[str]:
    """Return what Ray Serve runs, but for what is on its way out: that takes its time."""
    settings = system.settings
    token = settings.ray_token.read_text().strip()
    url, options = settings.ray_dashboard_url, host_options(settings)
    async with ServeClient.open(url, options, token=token) as serve:
        found = await serve.applications()
    return [name for name, application in found.items() if application.status != "DELETING"]


def tiltyard(system: System, only: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `tiltyard certify` as a person would, and return how it ended."""
    command = Path(sys.executable).with_name("tiltyard")
    return subprocess.run(
        [command, "certify", MODEL, "--json", "--only", only, *arguments],
        env=os.environ | {"TILTYARD_STATE_DIR": str(system.settings.state_dir)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
