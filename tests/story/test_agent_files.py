"""An agent whose files are lost, damaged or of another release: never from nothing."""

from dataclasses import replace

import pytest

from registry.refs import ModelName
from serving.routes import NOTHING_MORE, map_value
from tests.story.agent_world import DIGITS, ON_TRIAL, TRIAL, Edge, edge

__all__ = ["edge"]


async def test_an_agent_whose_document_is_lost_goes_on_from_the_map(edge) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    (edge.folder / "routes.json").write_bytes(b"")
    agent = await edge.agent()
    edge.assert_obeys(ON_TRIAL)
    assert agent.known.routes[DIGITS].trials == (replace(TRIAL, watch=NOTHING_MORE),)


def damage(edge: Edge, document: bytes, keep: float) -> bytes:
    """Spoil `routes.json`, keep a part of `routes.map`, and return that."""
    left = (edge.folder / "routes.map").read_bytes()
    left = left[: int(keep * len(left))]
    (edge.folder / "routes.json").write_bytes(document)
    (edge.folder / "routes.map").write_bytes(left)
    return left


@pytest.mark.parametrize("keep", [0, 0.5])
@pytest.mark.parametrize("document", [b"", b'{"routes":', b'{"of": "another release"}'])
async def test_files_that_cannot_be_read_do_not_say_that_there_is_nothing(
    edge, document, keep
) -> None:
    agent = await edge.agent()
    await edge.publish(ON_TRIAL)
    await agent.sync()
    left = damage(edge, document, keep)
    agent = await edge.agent()
    agent.miss_store("it is away")
    assert (await agent.reason_to_wait()).startswith("The map file here cannot be read, and the")
    assert (edge.folder / "routes.map").read_bytes() == left
    assert (edge.folder / "routes.json").read_bytes() == document
    await agent.sync()
    assert await agent.reason_to_wait() == ""
    edge.haproxy.start()
    edge.assert_obeys(ON_TRIAL)


@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
async def test_where_files_are_damaged_the_haproxy_that_serves_is_asked(edge, keep) -> None:
    agent = await edge.agent()
    edge.haproxy.start()
    for name in ("digits", "scans"):
        await edge.publish(replace(ON_TRIAL, model=ModelName(name)))
    await agent.sync()
    served = dict(edge.haproxy.entries)
    damage(edge, b"{", keep)
    agent = await edge.agent()
    agent.miss_store("it is away")
    assert await agent.reason_to_wait() == ""
    assert edge.haproxy.entries == served
    assert {name: map_value(route) for name, route in edge.file().items()} == served
