import asyncio
import threading
import time

import pytest

from registry.errors import InvalidInput
from serving.errors import ModelFailed
from serving.hosts.caller import QUICK, Caller
from serving.hosts.calls import Calls


class Steps:
    """A clock that stands still but for what a call is said to take."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def call(self, seconds=0.0, value=None):
        def made():
            self.now += seconds
            return threading.current_thread() if value is None else value

        return made


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


HERE = threading.main_thread()


async def test_nobody_knows_yet_how_long_the_first_call_takes_so_it_has_a_thread(steps):
    assert await Caller(Calls())(steps.call()) is not HERE


async def test_a_quick_model_is_called_on_the_event_loop(steps):
    caller = Caller(Calls())
    await caller(steps.call())
    assert caller.is_quick
    assert await caller(steps.call()) is HERE


async def test_a_slow_model_keeps_its_thread(steps):
    caller = Caller(Calls())
    threads = {await caller(steps.call(2 * QUICK)) for _ in range(5)}
    assert HERE not in threads
    assert len(threads) == 1


async def test_one_slow_call_of_a_quick_model_changes_nothing_but_several_do(steps):
    caller = Caller(Calls())
    await caller(steps.call())
    await caller(steps.call(5 * QUICK))
    assert await caller(steps.call(5 * QUICK)) is HERE
    for _ in range(5):
        await caller(steps.call(5 * QUICK))
    assert await caller(steps.call()) is not HERE


async def test_a_model_that_was_slow_at_first_is_found_to_be_quick(steps):
    caller = Caller(Calls())
    await caller(steps.call(0.1))
    for _ in range(60):
        await caller(steps.call())
    assert caller.is_quick


async def test_there_is_never_more_than_one_call(steps):
    caller, entered, go = Caller(Calls()), threading.Event(), threading.Event()
    await caller(steps.call())

    def wait():
        entered.set()
        assert go.wait(10)

    def meanwhile():
        return go.is_set()

    # As it is when a model has been slow for a while, and a call of those days is not over.
    caller._usual = 1.0
    slow = asyncio.create_task(caller(wait))
    assert await asyncio.to_thread(entered.wait, 10)
    caller._usual = 0.0
    second = asyncio.create_task(caller(meanwhile))
    await asyncio.sleep(0)
    go.set()
    assert await second
    await slow


async def test_a_model_may_run_an_event_loop_of_its_own_wherever_it_is_called(steps):
    async def answer():
        return threading.current_thread()

    caller = Caller(Calls())
    await caller(steps.call())
    assert await caller(lambda: asyncio.run(answer())) is HERE
    assert asyncio.get_running_loop().is_running()


async def test_a_model_that_works_in_its_own_thread_alone_stays_there(steps):
    caller = Caller(Calls())
    home = await caller(steps.call())

    def at_home():
        if threading.current_thread() is not home:
            raise RuntimeError("made in another thread")
        return threading.current_thread()

    for _ in range(3):
        assert await caller(at_home) is home
    assert await caller(steps.call()) is home


async def test_a_model_that_fails_anywhere_fails_and_may_be_called_here_again(steps):
    caller, tries = Caller(Calls()), []
    await caller(steps.call())

    def fail():
        tries.append(threading.current_thread())
        raise ZeroDivisionError

    with pytest.raises(ModelFailed):
        await caller(fail)
    assert len(tries) == 2
    assert await caller(steps.call()) is HERE


async def test_what_a_model_refuses_is_not_asked_twice(steps):
    caller, tries = Caller(Calls()), []
    await caller(steps.call())

    def refuse():
        tries.append(1)
        raise InvalidInput("not this")

    with pytest.raises(InvalidInput):
        await caller(refuse)
    assert tries == [1]
