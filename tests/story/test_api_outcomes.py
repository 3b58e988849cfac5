"""Outcomes that are sent to the control API: counted once, or refused in words."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from experiments.errors import StoreUnavailable
from experiments.model import ExperimentName, Variant
from experiments.prediction import verify
from registry.refs import ModelName
from tests.story.answers import EVIDENCE, outcome, refused
from tests.story.evidence import KEY
from tests.story.world import World


async def counted(world: World) -> dict[str, int]:
    counters = (await world.store.readings(EVIDENCE)).counts
    totals: dict[str, int] = {}
    for cell, count in counters.items():
        totals[cell.counter] = totals.get(cell.counter, 0) + count
    return totals


async def test_the_world_makes_ids_as_the_edge_does(world):
    await world.start()
    made = verify(await world.evidence.prediction(slot=5), KEY)
    assert (made.experiment, made.variant, made.slot) == ("digits-v2", Variant.CHALLENGER, 5)
    assert replace(made, slot=None) != made


async def test_an_outcome_is_counted(world, http):
    await world.start()
    sent = outcome(await world.evidence.prediction())
    answer = await http.post("/v1/outcomes", json=sent)
    assert answer.json() == {"counted": 1, "refused": 0, "results": [{"status": "counted"}]}
    assert await counted(world) == {"correct:1": 1}


async def test_a_unit_counts_once_however_many_of_its_predictions_have_outcomes(world, http):
    await world.start()
    sent = [outcome(await world.evidence.prediction(slot=77)) for _ in range(3)]
    results = (await http.post("/v1/outcomes", json=sent)).json()["results"]
    assert [each["status"] for each in results] == ["counted", "repeated_unit", "repeated_unit"]
    assert await counted(world) == {"correct:1": 1}


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_thousand_outcomes_are_counted_in_one_request(world, http, wrapped):
    await world.start()
    sent = [outcome(await world.evidence.prediction(), place % 2) for place in range(1000)]
    answer = await http.post("/v1/outcomes", json={"outcomes": sent} if wrapped else sent)
    assert (answer.status_code, answer.json()["counted"]) == (200, 1000)
    assert await counted(world) == {"correct:0": 500, "correct:1": 500}


async def test_a_thousand_and_one_outcomes_are_too_many_and_none_is_counted(world, http):
    await world.start()
    sent = [outcome(await world.evidence.prediction())] * 1001
    refused(await http.post("/v1/outcomes", json=sent), 413, "too_many_outcomes")
    assert await counted(world) == {}


async def test_each_outcome_of_a_batch_is_judged_by_itself(world, http):
    await world.start()
    good, other = await world.evidence.prediction(), await world.evidence.prediction()
    forged = await world.evidence.prediction(key=bytes(32))
    sent = [outcome(good), outcome(forged), outcome(other, 7), outcome(good), outcome(other, 0)]
    answer = await http.post("/v1/outcomes", json=sent)
    found = answer.json()
    assert (answer.status_code, found["counted"], found["refused"]) == (200, 2, 3)
    assert [each.get("code", each["status"]) for each in found["results"]] == [
        "counted",
        "invalid_prediction_id",
        "invalid_outcome",
        "duplicate_outcome",
        "counted",
    ]
    assert await counted(world) == {"correct:1": 1, "correct:0": 1}


@pytest.mark.parametrize("value", [True, False, None, "1", 2, -1, 0.5, 1e308, [1], {"is": 1}])
async def test_a_value_that_the_metric_cannot_take_is_refused(world, http, value):
    await world.start()
    answer = await http.post("/v1/outcomes", json=outcome(await world.evidence.prediction(), value))
    refused(answer, 422, "invalid_outcome")
    assert await counted(world) == {}


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_number_that_is_none_is_refused(world, http, value):
    await world.start()
    sent = json.dumps(outcome(await world.evidence.prediction(), 0)).replace(": 0", f": {value}")
    answer = await http.post("/v1/outcomes", content=sent)
    assert answer.json()["code"] in ("malformed_json", "invalid_outcome")
    assert answer.status_code in (400, 422)
    assert await counted(world) == {}


@pytest.mark.parametrize("sent", [b"", b"{", b"[}", b"\xff", b"{'metric': 1}"])
async def test_outcomes_that_are_not_json_are_refused(world, http, sent):
    await world.start()
    refused(await http.post("/v1/outcomes", content=sent), 400, "malformed_json")


@pytest.mark.parametrize(
    "sent", [1, False, "text", [1], {}, {"outcomes": 1}, {"outcomes": [], "more": 1}, [{}]]
)
async def test_json_that_is_no_outcome_is_refused(world, http, sent):
    await world.start()
    refused(await http.post("/v1/outcomes", json=sent), 400, "malformed_body")


async def test_prediction_ids_that_this_system_did_not_make_are_refused(world, http):
    await world.start()
    genuine = await world.evidence.prediction()
    for wrong in (
        await world.evidence.prediction(key=bytes(32)),
        genuine[:-5],
        genuine.replace(".t.", ".c."),
        genuine.replace("digits.2", "digits.1"),
        await world.evidence.prediction(experiment=ExperimentName("of-another-system")),
        await world.evidence.prediction(model=ModelName("letters")),
        await world.evidence.prediction(experiment=None, stage=None, variant=None),
        "",
        "digits.2",
        "x" * 1000,
        "ünïcode",
    ):
        answer = await http.post("/v1/outcomes", json=outcome(wrong))
        refused(answer, 422, "invalid_prediction_id")
    assert await counted(world) == {}


async def test_a_prediction_that_was_used_already_is_refused(world, http):
    await world.start()
    sent = outcome(await world.evidence.prediction())
    await http.post("/v1/outcomes", json=sent)
    refused(await http.post("/v1/outcomes", json=sent), 409, "duplicate_outcome")
    refused(await http.post("/v1/outcomes", json=sent | {"value": 0}), 409, "duplicate_outcome")
    assert await counted(world) == {"correct:1": 1}


async def test_a_metric_that_the_experiment_has_not_declared_is_refused(world, http):
    await world.start()
    sent = outcome(await world.evidence.prediction()) | {"metric": "clicked"}
    refused(await http.post("/v1/outcomes", json=sent), 422, "invalid_outcome")


async def test_an_outcome_after_the_attribution_window_is_refused_and_shown_as_late(world, http):
    await world.start()
    sent = outcome(await world.evidence.prediction(Variant.CHAMPION))
    await world.pass_time(timedelta(days=1, seconds=1).total_seconds())
    for _ in range(2):
        refused(await http.post("/v1/outcomes", json=sent), 410, "late_outcome")
    assert (await http.get("/v1/experiments/digits-v2")).json()["evidence"]["late"] == 1


async def test_while_the_store_is_away_outcomes_are_kept_and_counted_later(world, http):
    await world.start()
    good = outcome(await world.evidence.prediction())
    forged = outcome(await world.evidence.prediction(key=bytes(32)))
    world.store.disconnect()
    answer = await http.post("/v1/outcomes", json=[good, forged])
    assert answer.status_code == 202
    assert [each["status"] for each in answer.json()["results"]] == ["spooled", "refused"]
    world.store.reconnect()
    assert await world.control.intake.drain() == 1
    assert await world.control.intake.drain() == 0
    assert await counted(world) == {"correct:1": 1}
    refused(await http.post("/v1/outcomes", json=good), 409, "duplicate_outcome")


async def test_what_cannot_be_kept_is_refused_and_the_experiment_says_so(world, http):
    """The oldest are kept: who comes later is told to send again, and it is no secret."""
    await world.start()
    kept, refused_later = (
        outcome(await world.evidence.prediction()),
        outcome(await world.evidence.prediction()),
    )
    forged = outcome(await world.evidence.prediction(key=bytes(32)))
    world.store.disconnect()
    assert (await http.post("/v1/outcomes", json=[kept])).status_code == 202
    world.spool_limit = world.control.intake.waiting_bytes + 10
    await world.restart_control()
    for _ in range(2):
        answer = await http.post("/v1/outcomes", json=[refused_later, forged])
        refused(answer, 503, "spool_full")
    # Nobody hears of them from the clients alone.
    told = (await http.get("/metrics")).text.splitlines()
    assert 'tiltyard_outcomes_total{status="refused"} 4.0' in told
    world.store.reconnect()
    intake = world.control.intake
    assert (await http.get("/v1/status")).json()["waiting_outcome_bytes"] > 0
    assert [await intake.drain() for _ in range(3)] == [1, 0, 0]
    assert await counted(world) == {"correct:1": 1, "refused_outcomes": 2}
    found = (await http.get("/v1/experiments/digits-v2")).json()
    assert "2 outcomes were refused while Redis was away" in found["incomplete"][0]
    assert (await http.get("/v1/status")).json()["waiting_outcome_bytes"] == 0


async def test_a_refusal_is_charged_once_though_the_store_leaves_again(world, http):
    await world.start()
    sent = outcome(await world.evidence.prediction())
    world.store.disconnect()
    world.spool_limit = 1
    await world.restart_control()
    refused(await http.post("/v1/outcomes", json=sent), 503, "spool_full")
    world.store.reconnect()
    world.lose_store_after(1)
    with suppress(StoreUnavailable):
        await world.control.intake.drain()
    world.store.reconnect()
    await world.control.intake.drain()
    assert await counted(world) == {"refused_outcomes": 1}


async def test_forged_ids_take_no_room_from_genuine_ones(world, http):
    await world.start()
    forged = outcome(await world.evidence.prediction(key=bytes(32)))
    world.store.disconnect()
    refused(await http.post("/v1/outcomes", json=forged), 422, "invalid_prediction_id")
    assert world.control.intake.waiting_bytes == 0
