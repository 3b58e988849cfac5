import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from bench.processes import Group, end_marked, warden

RUN = f"test-{psutil.Process().pid}"

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
def group() -> Iterator[Group]:
    group = Group(RUN, "sleeper")
    yield group
    group.end()


def test_a_group_is_frozen_thawed_and_ended_and_nobody_else_is(group, tmp_path) -> None:
    with subprocess.Popen(SLEEP) as stranger:
        started = group.start(SLEEP, tmp_path / "log")
        (member,) = group.members()
        assert member.pid == started.pid
        group.freeze()
        assert member.status() == psutil.STATUS_STOPPED
        group.thaw()
        assert member.status() != psutil.STATUS_STOPPED
        group.freeze("something else")
        assert member.status() != psutil.STATUS_STOPPED
        assert set(group.megabytes({"time.sleep": "sleepers", "": "others"})) == {"sleepers"}
        group.end()
        assert started.wait() != 0
        assert group.members() == []
        assert stranger.poll() is None
        stranger.kill()


def test_what_its_members_start_belongs_to_a_group(group, tmp_path) -> None:
    program = f"import subprocess; subprocess.run({SLEEP!r})"
    parent = group.start([sys.executable, "-S", "-c", program], tmp_path / "log")
    while len(group.members()) < 2:
        assert parent.poll() is None
    end_marked(f"{RUN}/")
    parent.wait()
    assert group.members() == []


def test_the_warden_ends_what_is_frozen_when_the_run_is_over(group, tmp_path) -> None:
    with warden(RUN):
        started = group.start(SLEEP, tmp_path / "log")
        group.freeze()
    assert started.wait() == -9
