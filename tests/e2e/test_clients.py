"""Other people's clients, unchanged, and streams, against the whole running system."""

import asyncio
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest

from registry.mlflow import save_python_model
from registry.refs import ModelName
from registry.tensors import datatype_of
from serving.edge.config import EdgeFiles
from serving.edge.logline import RequestLine, parse
from tests.clients.environment import clients_python
from tests.e2e.client import eventually
from tests.e2e.echoing import PATIENCE_SECONDS, TENSORS, Columns, Echo, Sums
from tests.e2e.system_fixture import System, suppress_code

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(300)

MODELS = {
    "echo": (Echo(), TENSORS, {"times": 1}),
    "columns": (Columns(), pd.DataFrame({"a": [1.5], "b": [1], "c": ["x"]}), None),
    "sums": (Sums(), np.ones((2, 3)), None),
}


@pytest.fixture(scope="module")
def served(system: System) -> System:
    """The system with these models, each hot."""

    async def serve() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with system.catalog() as catalog:
                for name, (model, example, params) in MODELS.items():
                    saved = await asyncio.to_thread(
                        save_python_model, model, Path(folder, name), example=example, params=params
                    )
                    await catalog.register(ModelName(name), saved)
        async with system.control() as control:
            for name in MODELS:
                with suppress_code("already_deployed"):
                    await control.deploy(name, 1, replicas=1)
            for name in MODELS:
                await system.hot(control, name, v1=1)

    asyncio.run(serve())
    return system


@pytest.mark.parametrize("client", ["triton", "mlserver_client", "plain"])
def test_a_client_of_other_peoples_is_served_unchanged(served: System, client: str) -> None:
    command = [clients_python(), "-m", "tests.clients.run", client, served.settings.edge_url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ran"] > 3
    assert not found["wrong"], "\n".join(found["wrong"].values())


# ---- streams


class Stream:
    """A stream that a client is reading, and the files that let the model go on."""

    def __init__(self, response: httpx2.Response, gates: Path) -> None:
        self.response = response
        self._gates = gates
        self._lines = response.aiter_lines()

    async def event(self) -> tuple[str, dict]:
        """Return the next event: its kind and its document."""
        kind = "message"
        async for line in self._lines:
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))
        raise AssertionError("the stream is over")

    async def number(self) -> int:
        """Return what the next piece is, the first of which is 0."""
        _, document = await self.event()
        [output] = document["outputs"]
        return output["data"][0]

    async def over(self) -> bool:
        """Return whether nothing follows; it raises if the stream has no end."""
        return not [line async for line in self._lines if line]

    def let(self, piece: object) -> None:
        """Let the model make a piece, or `break`."""
        (self._gates / str(piece)).touch()

    @property
    def model_is_done(self) -> bool:
        return (self._gates / "closed").exists()


@asynccontextmanager
async def stream_of(served: System, gates: Path, *, pieces: int) -> AsyncIterator[Stream]:
    tensors = TENSORS | {"gate": np.array([str(gates)]), "bytes": np.array(["x"])}
    inputs = [
        {
            "name": name,
            "datatype": datatype_of(a.dtype),
            "shape": list(a.shape),
            "data": a.tolist(),
        }
        for name, a in tensors.items()
    ]
    async with (
        httpx2.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client,
        client.stream(
            "POST",
            f"{served.settings.edge_url}/v2/models/echo/infer_stream",
            json={"inputs": inputs, "parameters": {"times": pieces}},
        ) as response,
    ):
        yield Stream(response, gates)


def lines_of_echo(served: System) -> list[RequestLine]:
    """Return what the edge's log says of the model, as far as it is still there."""
    text = EdgeFiles(served.settings.edge_dir).log.read_bytes().replace(b"\0", b"").decode()
    lines = [line for line in text.split("\n")[1:] if "\techo\t" in line]
    return [parse(line) for line in lines]


@asynccontextmanager
async def one_line(served: System) -> AsyncIterator[list[RequestLine]]:
    """Find the line that is logged for what happens within the context; it is there afterwards."""
    before = {line.number for line in lines_of_echo(served)}
    found: list[RequestLine] = []
    yield found

    async def there() -> bool:
        found[:] = [line for line in lines_of_echo(served) if line.number not in before]
        return bool(found)

    await eventually(there, what="the request is in the log")


async def test_each_event_arrives_while_the_model_has_not_made_the_next(
    served: System, tmp_path: Path
) -> None:
    async with one_line(served) as lines, stream_of(served, tmp_path, pieces=3) as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"] == "text/event-stream"
        assert stream.response.headers["x-model-version"] == "1"
        assert stream.response.headers["x-prediction-id"]
        for piece in (0, 1):
            assert await stream.number() == piece
            assert not stream.model_is_done, "it waits to be let"
            stream.let(piece + 1)
        assert await stream.number() == 2
        assert await stream.over()
        assert stream.model_is_done
    [line] = lines
    assert (line.status, line.broke_off) == (200, False)
    assert line.first is not None
    assert line.first <= line.took + timedelta(milliseconds=2)  # by two clocks


async def test_a_stream_that_breaks_half_way_is_a_failure_for_client_and_log(
    served: System, tmp_path: Path
) -> None:
    async with one_line(served) as lines, stream_of(served, tmp_path, pieces=3) as stream:
        assert await stream.number() == 0
        stream.let("break")
        kind, problem = await stream.event()
        assert (kind, problem["code"]) == ("error", "model_error")
        with pytest.raises(httpx2.RemoteProtocolError):
            await stream.over()
    [line] = lines
    assert (line.status, line.broke_off) == (200, True)


async def test_the_model_stops_once_nobody_reads_its_stream(served: System, tmp_path: Path) -> None:
    async with stream_of(served, tmp_path, pieces=10_000) as stream:
        assert await stream.number() == 0
    pieces = iter(range(1, 10_000))

    async def stopped() -> bool:
        stream.let(next(pieces))
        return stream.model_is_done

    await eventually(stopped, what="the model is told that its client has left")
