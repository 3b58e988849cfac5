"""What is planted is what was said, and nothing else changes."""

import random
from pathlib import Path

import numpy as np
import pytest

from registry.refs import VersionRef
from serving.errors import ModelFailed
from serving.hosts import HostSpec, faults
from serving.hosts.faults import Fault, afflicted
from serving.hosts.serve import HostOptions, application_config, declared_spec

ASKED = 2000


async def answer(inputs):
    return {"y": inputs["x"] * 2, "name": np.array(["one"], dtype=object)}


async def answers(fault, *, times=ASKED, values=7):
    """Return what was asked and what came back, an error as itself."""
    afflicted_answer = afflicted(answer, fault, chance=random.Random(3))
    found = []
    for place in range(times):
        asked = {"x": np.array([float(place % values)])}
        try:
            found.append((asked, await afflicted_answer(asked)))
        except ModelFailed as error:
            found.append((asked, error))
    return found


def is_right(asked, given):
    return np.array_equal(given["y"], asked["x"] * 2)


def test_a_host_without_a_fault_answers_by_the_model_itself():
    assert afflicted(answer, Fault.NONE) is answer


async def test_a_share_of_requests_fails_and_the_others_are_answered():
    found = await answers(Fault.ERRORS)
    failed = [given for _, given in found if isinstance(given, ModelFailed)]
    assert len(failed) / ASKED == pytest.approx(faults.SHARE, abs=0.03)
    assert all(is_right(*pair) for pair in found if not isinstance(pair[1], ModelFailed))


async def test_a_share_of_answers_is_empty_but_well_formed():
    found = await answers(Fault.EMPTY)
    empty = [given for _, given in found if given["y"].size == 0]
    assert len(empty) / ASKED == pytest.approx(faults.SHARE, abs=0.03)
    assert all(given["name"].shape == (0,) for given in empty)
    assert all(is_right(*pair) for pair in found if pair[1]["y"].size)


async def test_a_share_of_answers_is_another_requests_answer():
    found = await answers(Fault.WRONG)
    wrong = [(asked, given) for asked, given in found if not is_right(asked, given)]
    assert len(wrong) / ASKED == pytest.approx(faults.WRONG_SHARE, abs=0.03)
    plausible = {float(value * 2) for value in range(7)}
    # All but the very first, when no other answer is known yet, are answers that others get.
    assert {float(given["y"][0]) for _, given in wrong[1:]} <= plausible


async def test_a_model_that_always_answers_the_same_is_still_made_wrong():
    found = await answers(Fault.WRONG, values=1)
    wrong = [given for asked, given in found if not is_right(asked, given)]
    assert len(wrong) / ASKED == pytest.approx(faults.WRONG_SHARE, abs=0.03)
    assert {given["y"].dtype for given in wrong} == {np.dtype("float64")}


@pytest.mark.parametrize(
    "given",
    [
        np.array([True, False]),
        np.array([0, 255], dtype=np.uint8),
        np.array([[1.5, 0.0]], dtype=np.float32),
        np.array(["yes"], dtype=object),
    ],
)
async def test_whatever_a_model_gives_can_be_made_wrong_without_changing_its_form(given):
    async def constant(_):
        return {"y": given}

    nudged = afflicted(constant, Fault.WRONG, chance=random.Random(3))
    found = [(await nudged({}))["y"] for _ in range(100)]
    wrong = [each for each in found if not np.array_equal(each, given)]
    assert wrong
    assert {(each.dtype, each.shape) for each in wrong} == {(given.dtype, given.shape)}


async def test_a_slow_host_waits_beyond_its_own_time(monkeypatch):
    waited = []

    async def note(seconds):
        waited.append(seconds)

    monkeypatch.setattr(faults.asyncio, "sleep", note)
    slow = afflicted(answer, Fault.SLOW)
    asked = {"x": np.array([1.0])}
    assert is_right(asked, await slow(asked))
    assert waited[0] >= faults.SLOWER_SECONDS


@pytest.mark.parametrize("fault", Fault)
def test_serve_tells_back_which_fault_it_was_told_to_plant(fault):
    options = HostOptions("127.0.0.1", 8000, Path("/models"))
    spec = HostSpec(VersionRef.parse("digits/1"), "file:///1", "sha256:1", fault=fault)
    assert declared_spec(application_config(spec, options)) == spec


def test_a_host_without_a_fault_is_told_of_none_so_that_none_is_restarted_for_it():
    options = HostOptions("127.0.0.1", 8000, Path("/models"))
    spec = HostSpec(VersionRef.parse("digits/1"), "file:///1", "sha256:1")
    assert "fault" not in application_config(spec, options)["args"]
