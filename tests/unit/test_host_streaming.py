"""A host's streams, as ASGI messages: without Ray and without sockets."""

import asyncio
import json
import threading

import numpy as np
import pytest

from registry import Signature, Tensor
from registry.errors import InvalidInput
from registry.refs import VersionRef
from serving.hosts.endpoint import HostEndpoint

REF = VersionRef.parse("digits/2")
BODY = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [3]}], "id": "mine"}


class Counting:
    """Counts up to its input, a piece for each number, as far as it is let."""

    signature = Signature((Tensor("x", "FP64", (-1,)),), (Tensor("y", "INT64", (-1,)),))
    scorer = None
    streams = True

    def __init__(self):
        self.made = []
        self.gate = threading.Semaphore(0)
        self.entered = threading.Event()
        self.closed = threading.Event()
        self.threads = set()

    def parameters(self, given):
        return {name: value for name, value in given.items() if name == "start"}

    def predict(self, inputs, _parameters):
        return {"y": inputs["x"].astype(np.int64)}

    def predict_stream(self, inputs, parameters):
        try:
            for number in range(parameters.get("start", 0), int(inputs["x"][0])):
                self.entered.set()
                self.gate.acquire()
                self.threads.add(threading.current_thread())
                self.made.append(number)
                if number == 13:
                    raise ZeroDivisionError("unlucky")
                if number == 14:
                    yield {"y": np.array([None], dtype=object)}
                if number == 15:
                    raise InvalidInput("not 15")
                yield {"y": np.array([number], dtype=np.int32)}
        finally:
            self.closed.set()


class Asking:
    """One request to a host, whose answer is taken message by message."""

    def __init__(self, model, document=BODY, path="/infer_stream", *, of=None):
        self.endpoint = of or HostEndpoint(REF, model, batch_rows=8, max_body_bytes=1000)
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        scope = {"type": "http", "method": "POST", "path": path, "headers": []}
        self._sent = asyncio.Queue()
        self.left = asyncio.Event()
        said = [{"type": "http.request", "body": body}]

        async def receive():
            if said:
                return said.pop()
            await self.left.wait()
            return {"type": "http.disconnect"}

        self.task = asyncio.create_task(self.endpoint(scope, receive, self._sent.put))

    async def next(self):
        """Return the next message."""
        return await asyncio.wait_for(self._sent.get(), 10)

    async def event(self):
        """Return the next event: its kind and its document."""
        message = await self.next()
        assert message["more_body"]
        *kinds, data = message["body"].decode().removesuffix("\n\n").split("\n")
        return kinds, json.loads(data.removeprefix("data: "))

    async def rest(self):
        """Return all that is still sent."""
        await asyncio.wait_for(self.task, 10)
        return [self._sent.get_nowait() for _ in range(self._sent.qsize())]


@pytest.fixture
def model():
    made = Counting()
    yield made
    made.gate.release(100)  # Whatever a test has left waiting.


async def test_each_piece_is_an_answer_sent_before_the_next_is_made(model):
    asking = Asking(model)
    for number in range(3):
        model.gate.release()
        if number == 0:
            start = await asking.next()
            assert start["status"] == 200
            assert dict(start["headers"])[b"content-type"] == b"text/event-stream"
        # The model cannot go on: what arrives here was not held back for more.
        assert await asking.event() == (
            [],
            {
                "model_name": "digits",
                "model_version": "2",
                "id": "mine",
                "outputs": [{"name": "y", "datatype": "INT64", "shape": [1], "data": [number]}],
            },
        )
        assert model.made == list(range(number + 1))
    assert await asking.rest() == [{"type": "http.response.body", "body": b""}]
    assert len(model.threads) == 1
    assert model.closed.is_set()


async def test_parameters_of_the_model_reach_its_stream(model):
    model.gate.release(3)
    asking = Asking(model, BODY | {"parameters": {"start": 2, "priority": 1}})
    await asking.next()
    _, answer = await asking.event()
    assert answer["outputs"][0]["data"] == [2]
    await asking.rest()


@pytest.mark.parametrize(
    ("start", "status", "code"),
    [(13, 500, "model_error"), (14, 500, "invalid_output"), (15, 400, "invalid_input")],
)
async def test_what_fails_before_the_first_piece_fails_like_any_request(model, start, status, code):
    model.gate.release(3)
    asking = Asking(model, inputs(20) | {"parameters": {"start": start}})
    head, body = await asking.rest()
    problem = json.loads(body["body"])
    assert (head["status"], problem["code"]) == (status, code)
    assert dict(head["headers"])[b"content-type"] == b"application/problem+json"


def inputs(up_to):
    return {"inputs": [BODY["inputs"][0] | {"data": [up_to]}]}


async def test_a_stream_of_nothing_is_no_answer(model):
    head, body = await Asking(model, inputs(0)).rest()
    assert (head["status"], json.loads(body["body"])["code"]) == (500, "invalid_output")


async def test_a_stream_that_breaks_half_way_says_so_and_has_no_end(model):
    model.gate.release(3)
    asking = Asking(model, inputs(20) | {"parameters": {"start": 12}})
    assert (await asking.next())["status"] == 200
    await asking.event()
    kinds, problem = await asking.event()
    assert (kinds, problem["code"]) == (["event: error"], "model_error")
    assert problem["error"] == problem["detail"] == "the model raised ZeroDivisionError: unlucky"
    assert await asking.rest() == []
    assert model.closed.is_set()


async def test_whoever_leaves_ends_the_models_work_where_it_stands(model):
    model.gate.release()
    asking = Asking(model)
    await asking.next()
    await asking.event()
    asking.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking.task
    model.gate.release()
    assert await asyncio.to_thread(model.closed.wait, 10)
    assert len(model.made) <= 2


async def test_a_piece_that_does_not_come_is_a_call_that_hangs(model):
    asking = Asking(model)
    await asyncio.sleep(0)
    assert await asyncio.to_thread(model.entered.wait, 10)
    assert asking.endpoint.busy_for() > 0
    model.gate.release(3)
    await asking.rest()
    assert asking.endpoint.busy_for() == 0


async def test_streams_hold_up_neither_one_another_nor_other_requests(model):
    waiting = [Asking(model)]
    waiting.append(Asking(model, of=waiting[0].endpoint))
    answered = Asking(model, path="/infer", of=waiting[0].endpoint)
    assert (await answered.next())["status"] == 200
    assert model.made == []
    model.gate.release(6)
    for each in waiting:
        assert len(await each.rest()) == 1 + 3 + 1
    assert len(model.threads) == 2


async def test_who_goes_away_while_the_model_is_busy_is_not_answered_for_nothing(model):
    busy, go, asked = threading.Event(), threading.Event(), []

    def predict(inputs, _parameters):
        asked.append(inputs["x"].tolist())
        busy.set()
        assert go.wait(10)
        return {"y": inputs["x"].astype(np.int64)}

    model.predict = predict
    first = Asking(model, path="/infer")
    assert await asyncio.to_thread(busy.wait, 10)
    gone, there = (Asking(model, path="/infer", of=first.endpoint) for _ in range(2))
    await asyncio.sleep(0)
    gone.left.set()
    await asyncio.wait_for(gone.task, 10)
    go.set()
    for each in (first, there):
        head, _ = await each.rest()
        assert head["status"] == 200
    assert asked == [[3.0], [3.0]]


@pytest.mark.parametrize(
    ("document", "streams", "status", "code"),
    [
        (BODY, False, 501, "not_streaming"),
        (b"{", True, 400, "malformed_request"),
        (BODY | {"outputs": [{"name": "z"}]}, True, 400, "invalid_input"),
        (BODY | {"parameters": {"binary_data_output": True}}, True, 400, "malformed_request"),
    ],
)
async def test_what_cannot_be_streamed_is_refused(model, document, streams, status, code):
    model.streams = streams
    head, body = await Asking(model, document).rest()
    assert (head["status"], json.loads(body["body"])["code"]) == (status, code)
    assert model.made == []
