"""On the whole system: nobody meets a challenger in the shadow, and what is seen there decides."""

import asyncio
import json

import pytest

from experiments.assignment import bucket
from experiments.pairs import AGREEMENT
from serving.client import ControlClient
from tests.e2e.client import Answer, Rows, Traffic
from tests.e2e.oracle import Fault, Oracle
from tests.e2e.system_fixture import BY, System

MODEL = "shadowed"
FAIR, BETTER, FRAGILE = 1, 2, 3
CUT = 5_000
SHADOW = """
name: {name}
model: shadowed
challenger: {challenger}
unit: header:x-unit-id
shadow: {{share: 50%, pairs: 60, agreement: 60%}}
guardrails: [{{metric: error_rate, max_ratio: 2.0, negligible: 5%}}]
deadline: 1s
"""
LIVE = """
share: [50%]
goal: {metric: correct, kind: binary, direction: increase, min_effect: 1%}
limits: {min_units: 100, min_runtime: 2s, max_runtime: 1d}
"""
ALONE = """
mode: shadow
limits: {min_runtime: 2s, max_runtime: 1d}
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def shadowed(system: System) -> System:
    """The system with three versions: of BETTER's answers, some four fifths are FAIR's, too."""

    async def prepare() -> None:
        await system.register(MODEL, Oracle(0.75), Oracle(0.97), Oracle(0.75, fragile=True))
        async with system.control() as control:
            await system.hot(control, MODEL, v1=1, v2=1, v3=1)

    asyncio.run(prepare())
    return system


def file(name: str, challenger: int, more: str) -> bytes:
    return (SHADOW.format(name=name, challenger=challenger) + more).encode()


def repeated(traffic: Traffic, name: str) -> list[Answer]:
    """Return the answers to requests that were to be repeated."""
    return [
        answer
        for answer in traffic.answers
        if not answer.met and bucket(answer.row.unit.encode(), salt=name) < CUT
    ]


async def test_after_the_shadow_users_meet_the_challenger_and_it_is_promoted(
    shadowed: System, control: ControlClient
):
    name = "out-of-the-shadow"
    await shadowed.stand(control, MODEL, FAIR)
    async with shadowed.traffic(control, MODEL, Rows(name)) as traffic:
        await control.start(file(name, BETTER, LIVE), by=BY)
        view = await shadowed.ended(control, name)
        await traffic.answered(20)
    assert (view["state"], traffic.failed) == ("promoted", [])
    assert [stage["rung"] for stage in view["stages"]] == [-1, 0]
    (paired,) = view["evidence"]["shadow"].values()
    assert paired["units"] >= 60
    assert paired["units"] <= len(repeated(traffic, name)), "one pair a unit at most"
    assert paired["bad"]["error_rate"] == {
        "neither": paired["units"],
        "treatment": 0,
        "control": 0,
        "both": 0,
    }
    assert 0 < paired["agreed"]["no"] < paired["agreed"]["yes"]
    assert paired["latency"]["n"] == paired["units"]
    met = [answer for answer in traffic.answers if answer.met]
    assert met, "users met the experiment after the shadow"
    assert {answer.prediction.stage for answer in met if answer.prediction} == {1}
    view = await shadowed.books_balance(control, name, traffic)
    assert (await control.replay(view["receipt"]))["same"]


async def test_a_challenger_that_fails_in_the_shadow_is_rolled_back_and_no_user_has_met_it(
    shadowed: System, control: ControlClient
):
    name = "kept-in-the-shadow"
    await shadowed.stand(control, MODEL, FAIR)
    rows = Rows(name, faults=lambda _: Fault.RAISE)
    async with shadowed.traffic(control, MODEL, rows) as traffic:
        await control.start(file(name, FRAGILE, ALONE), by=BY)
        view = await shadowed.ended(control, name)
        await traffic.answered(20)
    assert (view["state"], traffic.failed) == ("rolled_back", [])
    assert {(answer.version, answer.met, answer.failover) for answer in traffic.answers} == {
        (FAIR, "", False)
    }
    receipt = json.loads(await control.receipt(view["receipt"]))
    assert set(receipt["act"]["culprits"]) <= {"error_rate", AGREEMENT}
    (paired,) = view["evidence"]["shadow"].values()
    assert paired["bad"]["error_rate"]["treatment"] == paired["units"] > 0
    assert (await control.route(MODEL))["trials"] == []


async def test_a_challenger_that_answers_alike_passes_without_any_user(
    shadowed: System, control: ControlClient
):
    name = "passed-in-the-shadow"
    await shadowed.hot(control, MODEL, v1=1, v3=1)
    await shadowed.stand(control, MODEL, FAIR)
    async with shadowed.traffic(control, MODEL, Rows(name)) as traffic:
        await control.start(file(name, FRAGILE, ALONE), by=BY)
        view = await shadowed.ended(control, name)
        await traffic.answered(20)
    assert (view["state"], traffic.failed) == ("passed", [])
    assert {(answer.version, answer.met) for answer in traffic.answers} == {(FAIR, "")}
    (paired,) = view["evidence"]["shadow"].values()
    assert paired["agreed"]["no"] == 0
    assert (await control.replay(view["receipt"]))["same"]
    assert (await control.host(MODEL, FRAGILE))["state"] == "hot", "ready for what comes next"
