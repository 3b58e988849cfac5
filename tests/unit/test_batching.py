import asyncio
import sys
import threading

import numpy as np
import pytest

from registry.errors import InvalidInput
from serving.errors import ModelFailed
from serving.hosts.batching import Batcher
from serving.hosts.calls import Calls


class Doubler:
    """Doubles `x`; stops at a gate, and notes how many rows it was given in each call."""

    def __init__(self):
        self.calls = []
        self.parameters = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, inputs, parameters):
        self.entered.set()
        assert self.gate.wait(10)
        x = inputs["x"]
        self.calls.append(x.shape[0])
        self.parameters.append(dict(parameters))
        if (x == 13).any():
            raise ZeroDivisionError("unlucky")
        if (x == 14).any():
            raise InvalidInput("not 14")
        if (x == 15).any():
            raise SystemExit(1)
        if (x == 16).any():
            raise StopIteration
        return {"y": x * 2}


def rows(*values, dtype=np.float64):
    return {"x": np.array(values, dtype=dtype)}


async def while_busy(model, batcher, *requests):
    """Submit `requests` while the model is at another, so that they wait together."""
    model.gate.clear()
    first = asyncio.create_task(batcher.submit(rows(0)))
    assert await asyncio.to_thread(model.entered.wait, 10)
    asked = [request if isinstance(request, tuple) else (request,) for request in requests]
    waiting = [asyncio.create_task(batcher.submit(*each)) for each in asked]
    await asyncio.sleep(0)
    model.gate.set()
    await first
    return waiting


async def answers(waiting):
    done = await asyncio.gather(*waiting, return_exceptions=True)
    return [a if isinstance(a, Exception) else a["y"].tolist() for a in done]


async def test_a_request_alone_is_answered_at_once():
    model = Doubler()
    answer = await Batcher(model).submit(rows(1, 2))
    assert answer["y"].tolist() == [2, 4]
    assert model.calls == [2]


async def test_what_waits_together_is_answered_by_one_call_each_with_its_own_rows():
    model = Doubler()
    waiting = await while_busy(model, Batcher(model), rows(1), rows(2, 3), rows(4))
    assert await answers(waiting) == [[2], [4, 6], [8]]
    assert model.calls == [1, 4]


async def test_a_call_has_no_more_rows_than_allowed():
    model = Doubler()
    batcher = Batcher(model, rows=3)
    waiting = await while_busy(model, batcher, rows(1), rows(2), rows(3, 4), rows(*range(5)))
    assert await answers(waiting) == [[2], [4], [6, 8], [0, 2, 4, 6, 8]]
    assert model.calls == [1, 2, 2, 5]


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.ones((1, 2))},
        rows(1, dtype=np.float32),
        {"x": np.ones(1), "z": np.ones(1)},
        {"x": np.ones(1), "z": np.ones(2)},
    ],
    ids=["shape", "datatype", "names", "uneven"],
)
async def test_only_requests_of_one_kind_are_put_together(other):
    model = Doubler()
    waiting = await while_busy(model, Batcher(model), rows(1), other, rows(3))
    await answers(waiting)
    assert model.calls == [1, 1, 1, 1]


async def test_requests_with_different_parameters_are_never_put_together():
    model = Doubler()
    batcher = Batcher(model)
    waiting = await while_busy(
        model,
        batcher,
        (rows(1), {"times": 2}),
        (rows(2), {"times": 2}),
        (rows(3), {"times": 3}),
        (rows(4), {}),
    )
    await answers(waiting)
    assert model.calls == [1, 2, 1, 1]
    assert model.parameters == [{}, {"times": 2}, {"times": 3}, {}]


async def test_text_and_bytes_are_never_put_together():
    model = Doubler()
    texts = [{"x": np.array([each], dtype=object)} for each in ("a", "b", b"c")]
    await answers(await while_busy(model, Batcher(model), *texts))
    assert model.calls == [1, 2, 1]


async def test_a_call_alone_waits_its_turn_and_fails_alone():
    model = Doubler()
    batcher = Batcher(model)
    model.gate.clear()
    first = asyncio.create_task(batcher.submit(rows(1)))
    assert await asyncio.to_thread(model.entered.wait, 10)
    seen = []
    alone = asyncio.create_task(batcher.alone(lambda: seen.append(list(model.calls)) or "done"))
    model.gate.set()
    assert await alone == "done"
    assert seen == [[1]]
    await first
    with pytest.raises(ModelFailed, match="SystemExit"):
        await batcher.alone(lambda: sys.exit(1))


@pytest.mark.parametrize(
    ("bad", "error"),
    [(13, ModelFailed), (14, InvalidInput), (15, ModelFailed), (16, ModelFailed)],
)
async def test_one_bad_request_fails_alone(bad, error):
    model = Doubler()
    batcher = Batcher(model)
    waiting = await while_busy(model, batcher, rows(1), rows(bad), rows(3))
    first, second, third = await answers(waiting)
    assert (first, type(second), third) == ([2], error, [6])
    assert (await batcher.submit(rows(5)))["y"].tolist() == [10]


async def test_what_the_model_raised_is_said():
    with pytest.raises(ModelFailed, match="ZeroDivisionError: unlucky"):
        await Batcher(Doubler()).submit(rows(13))


async def test_a_model_that_gives_no_row_for_a_row_is_asked_one_by_one():
    calls = []

    def total(inputs, parameters):
        calls.append(inputs["x"].shape[0])
        return {"y": inputs["x"].sum()}

    batcher = Batcher(total)
    answered = await asyncio.gather(*(batcher.submit(rows(n, n)) for n in range(3)))
    assert [float(answer["y"]) for answer in answered] == [0, 2, 4]
    await asyncio.gather(*(batcher.submit(rows(1)) for _ in range(3)))
    assert calls == [6, 2, 2, 2, 1, 1, 1]


async def test_who_left_is_not_answered_and_delays_nobody():
    model = Doubler()
    model.gate.clear()
    batcher = Batcher(model)
    first = asyncio.create_task(batcher.submit(rows(1)))
    assert await asyncio.to_thread(model.entered.wait, 10)
    second = asyncio.create_task(batcher.submit(rows(2)))
    third = asyncio.create_task(batcher.submit(rows(3)))
    await asyncio.sleep(0)
    first.cancel()
    second.cancel()
    await asyncio.sleep(0)
    model.gate.set()
    assert (await third)["y"].tolist() == [6]
    assert model.calls == [1, 1]


async def test_the_event_loop_is_free_while_the_model_computes():
    model = Doubler()
    model.gate.clear()
    calls = Calls()
    batcher = Batcher(model, calls=calls)
    waiting = asyncio.create_task(batcher.submit(rows(1)))
    assert await asyncio.to_thread(model.entered.wait, 10)
    assert calls.longest() > 0
    model.gate.set()
    await waiting
    assert calls.longest() == 0
