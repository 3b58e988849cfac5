"""A world to command, by the API or from a shell."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.story.terminal import Terminal
from tests.story.world import World


@pytest.fixture
async def world(tmp_path) -> World:
    """Two hot versions of `digits`, version 1 the champion, one edge."""
    return await World.standing(tmp_path)


@pytest.fixture
async def http(world) -> AsyncIterator[httpx2.AsyncClient]:
    async with world.http() as client:
        yield client


@pytest.fixture
def tiltyard(tmp_path, monkeypatch) -> Terminal:
    """Two hot versions of `digits`, version 1 the champion, one edge, and a shell."""
    monkeypatch.setenv("TILTYARD_STATE_DIR", str(tmp_path))
    return Terminal(asyncio.run(World.standing(tmp_path)), tmp_path)
