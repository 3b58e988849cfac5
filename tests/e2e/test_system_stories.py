"""The stories of the demo in small: promoted, rolled back for harm, for faults, and by hand."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from time import monotonic

import pytest

from experiments.assignment import bucket, holdout_bucket, layer_bucket
from registry.refs import ModelName
from serving.client import ControlClient
from tests.e2e.client import Rows
from tests.e2e.oracle import Fault, Oracle
from tests.e2e.system_fixture import BY, System

MODEL = "stories"

FAIR, BETTER, WORSE = 1, 2, 3

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stories(system: System) -> System:
    """The system with five versions of one model."""

    async def prepare() -> None:
        await system.register(
            MODEL,
            Oracle(0.75),
            Oracle(0.97),
            Oracle(0.40),
            Oracle(0.97, fragile=True),
            Oracle(0.97, fragile=True),
        )
        async with system.control() as control:
            await system.hot(control, MODEL, v1=1, v2=1, v3=1, v4=1, v5=1)

    asyncio.run(prepare())
    return system


def experiment(name: str, challenger: int, share: str, **changes: str) -> bytes:
    """Return an experiment file."""
    fields = {
        "name": name,
        "model": MODEL,
        "challenger": str(challenger),
        "unit": "header:x-unit-id",
        "share": share,
        "goal": "{metric: correct, kind: binary, direction: increase, min_effect: 1%}",
        "guardrails": "[{metric: error_rate, max_ratio: 2.0, negligible: 3%}]",
        "limits": "{min_units: 200, min_runtime: 2s, max_runtime: 1d}",
        "deadline": "1s",
    }
    return "".join(f"{key}: {value}\n" for key, value in (fields | changes).items()).encode()


async def last_receipt(control: ControlClient, view) -> dict:
    """Return the receipt of an experiment's verdict, after making the decision again."""
    assert (await control.replay(view["receipt"]))["same"]
    return json.loads(await control.receipt(view["receipt"]))


async def test_a_better_version_is_promoted(stories: System, control: ControlClient):
    name = "better"
    await stories.hot(control, MODEL, v1=1, v2=1)
    await stories.stand(control, MODEL, FAIR)
    # Half of the users come back, so that some of them are there in both stages.
    async with stories.traffic(control, MODEL, Rows(name, returning=0.3)) as traffic:
        await control.start(experiment(name, BETTER, "[20%, 50%]"), by=BY)
        view = await stories.ended(control, name)
        await traffic.answered(50)
    assert (view["state"], traffic.failed) == ("promoted", [])
    assert {answer.version for answer in traffic.answers[-30:]} == {BETTER}
    route = await control.route(MODEL)
    assert (route["champion"], route["previous"], route["trials"]) == (BETTER, FAIR, [])
    assert (await last_receipt(control, view))["act"]["kind"] == "promote"
    view = await stories.books_balance(control, name, traffic)
    assert len(view["evidence"]["stages"]) == 2


async def test_a_version_that_misses_the_goal_is_rolled_back(
    stories: System, control: ControlClient
):
    name = "worse"
    await stories.hot(control, MODEL, v1=1, v3=1)
    await stories.stand(control, MODEL, FAIR)
    async with stories.traffic(control, MODEL, Rows(name)) as traffic:
        await control.start(experiment(name, WORSE, "[20%, 50%]"), by=BY)
        view = await stories.ended(control, name)
        await traffic.answered(50)
    assert (view["state"], traffic.failed) == ("rolled_back", [])
    act = (await last_receipt(control, view))["act"]
    assert (act["kind"], act["culprits"]) == ("roll_back", ["correct"])
    assert {answer.version for answer in traffic.answers[-30:]} == {FAIR}
    await stories.books_balance(control, name, traffic)


def breaking(experiment: str, *faults: Fault) -> Callable[[str], Fault]:
    """Have these faults, the last of them again and again, come from units of the challenger."""
    left = list(faults)

    def fault(unit: str) -> Fault:
        if bucket(unit.encode(), salt=experiment) >= 2_000:
            return Fault.NONE
        return left.pop(0) if len(left) > 1 else left[0]

    return fault


@pytest.mark.parametrize(
    ("name", "challenger", "faults"),
    [
        ("raises-and-dies", 4, [Fault.RAISE, Fault.NONE, Fault.RAISE, Fault.DIE, Fault.NONE]),
        ("hangs", 5, [Fault.NONE, Fault.HANG]),
    ],
)
async def test_a_faulty_version_is_rolled_back_and_no_user_sees_it(
    stories: System, control: ControlClient, name: str, challenger: int, faults: list[Fault]
):
    await stories.hot(control, MODEL, v1=1, **{f"v{challenger}": 1})
    await stories.stand(control, MODEL, FAIR)
    await control.start(experiment(name, challenger, "[20%, 50%]"), by=BY)
    rows = Rows(name, faults=breaking(name, *faults))
    async with stories.traffic(control, MODEL, rows) as traffic:
        view = await stories.ended(control, name)
        await traffic.answered(50)
    assert (view["state"], traffic.failed) == ("rolled_back", [])
    act = (await last_receipt(control, view))["act"]
    assert (act["kind"], act["culprits"]) == ("roll_back", ["error_rate"])
    rescued = {answer.row.fault for answer in traffic.answers if answer.failover}
    assert rescued >= set(faults) - {Fault.NONE}
    await stories.books_balance(control, name, traffic)


async def test_a_rollback_by_hand_is_obeyed_when_it_is_acknowledged(
    stories: System, control: ControlClient
):
    await stories.hot(control, MODEL, v1=1, v2=1)
    await stories.stand(control, MODEL, FAIR)
    await control.promote(MODEL, BETTER, by=BY)
    async with stories.traffic(control, MODEL, Rows("by-hand")) as traffic:
        await traffic.answered(50, lambda answer: answer.version == BETTER)
        done = await control.rollback(MODEL, by=BY, why="second thoughts")
        acknowledged = monotonic()
        await traffic.answered(50)
    assert (done["withdrawn"], done["to_version"]) == ([BETTER], FAIR)
    assert (done["edges"], done["silent"]) == ([stories.settings.edge_name], [])
    assert done["milliseconds"] > 0
    assert traffic.failed == []
    epoch = (await control.route(MODEL))["epoch"]
    after = {(answer.version, answer.epoch) for answer in traffic.since(acknowledged)}
    assert after == {(FAIR, epoch)}


async def test_two_experiments_at_once_share_no_user_and_end_each_for_itself(
    stories: System, control: ControlClient
):
    good, bad = "layered-good", "layered-bad"
    layer = "{{name: users, part: [{}]}}"
    await stories.hot(control, MODEL, v1=1, v2=1, v3=1)
    await stories.stand(control, MODEL, FAIR)
    await control.hold_out(MODEL, "20%", by=BY)
    slow = "{min_units: 200, min_runtime: 12s, max_runtime: 1d}"
    async with stories.traffic(control, MODEL, Rows(good, returning=0.3)) as traffic:
        part = layer.format("0%, 50%")
        await control.start(experiment(good, BETTER, "[50%]", limits=slow, layer=part), by=BY)
        part = layer.format("50%, 100%")
        await control.start(experiment(bad, WORSE, "[20%, 50%]", layer=part), by=BY)
        assert (await stories.ended(control, bad))["state"] == "rolled_back"
        assert (await stories.ended(control, good))["state"] == "promoted"
        await traffic.answered(50)
    assert traffic.failed == []
    route = await control.route(MODEL)
    assert (route["champion"], route["holdout"], route["trials"]) == (BETTER, 2_000, [])
    for name in (good, bad):
        await stories.books_balance(control, name, traffic)
    met = defaultdict(set)
    for answer in traffic.answers:
        assert answer.prediction is not None
        unit = answer.row.unit.encode()
        place = layer_bucket(unit, layer="users") < 5_000
        is_held = holdout_bucket(unit, model=ModelName(MODEL)) < 2_000
        met[answer.prediction.experiment].add((place, is_held))
    assert met[good] == {(True, False)}
    assert met[bad] == {(False, False)}
    assert {(True, True), (False, True)} <= met[None]
    await control.hold_out(MODEL, "0%", by=BY)
