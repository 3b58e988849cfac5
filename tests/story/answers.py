"""What is sent to the API, and what is checked of its answers."""

import httpx2

from experiments.model import ExperimentName
from experiments.store import Kind
from tests.story.world import World

EVIDENCE = ExperimentName("digits-v2")


async def everything(world: World) -> object:
    """Return all that a command could have changed."""
    kinds = {kind: dict(await world.store.read_all(kind)) for kind in Kind}
    names = [await world.catalog.aliases(model) for model in await world.catalog.models()]
    return kinds, names, dict((await world.store.readings(EVIDENCE)).counts)


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, object]:
    """Check that the answer is a problem document with this code, and return it."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["type"] == f"urn:tiltyard:{code}"
    assert body["detail"]
    assert body["next_step"]
    return body


def outcome(prediction_id: str, value: object = 1) -> dict[str, object]:
    return {"prediction_id": prediction_id, "metric": "correct", "value": value}
