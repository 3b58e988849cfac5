"""Every kind of metric, several challengers, holdback and horizon, on live traffic.

What control shows must equal what the clients saw: counts exactly, moments to a billionth.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isclose
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from registry.refs import ModelName
from serving.client import ControlClient
from serving.errors import Refused
from tests.e2e.client import Answer, Outcome, Row, Rows, Traffic, eventually
from tests.e2e.measured import Measures, books_agree, everything, report
from tests.e2e.oracle import Oracle
from tests.e2e.shell import no_number, tiltyard
from tests.e2e.system_fixture import BY, System

MODEL = "measured"

FAIR, TWIN, BETTER, WORSE = 1, 2, 3, 4

WINDOW = timedelta(seconds=5)
COUNTRIES = ("de", "fr", "at", "")

ALL_KINDS = f"""
name: all-kinds
model: {MODEL}
challengers: [{TWIN}, {BETTER}]
unit: header:x-unit-id
share: [30%, 60%]
segments: {{header: x-country, values: [de, fr]}}
goal:
  {{metric: revenue, kind: mean, cap: [0, 50], covariate: true, direction: increase,
   min_effect: 20%}}
guardrails:
  - {{metric: error_rate, max_ratio: 2, negligible: 30%}}
  - {{metric: latency_ms, quantile: 99%, max_ratio: 1000}}
  - {{metric: tokens, kind: ratio, worse: higher, max_ratio: 2, baseline: 18}}
  - {{metric: rating, kind: score, range: [1, 5], step: 0.5, worse: lower, max_difference: 2}}
  - {{metric: complaints, kind: count, max_ratio: 4}}
  - {{metric: correct, kind: binary, worse: lower, max_difference: 60%, window: 5s}}
limits: {{min_units: 600, min_runtime: 1s, max_runtime: 10m}}
"""

log = logging.getLogger(__name__)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def measured(system: System) -> System:
    """The system with four versions of one model."""

    async def prepare() -> None:
        await system.register(MODEL, Oracle(0.75), Oracle(0.75), Oracle(0.97), Oracle(0.40))
        async with system.control() as control:
            await system.hot(control, MODEL, v1=1, v2=1, v3=1, v4=1)

    asyncio.run(prepare())
    return system


def experiment(name: str, challengers: str, share: str, **changes: str) -> bytes:
    """Return an experiment file about right answers."""
    fields = {
        "name": name,
        "model": MODEL,
        "challengers": challengers,
        "unit": "header:x-unit-id",
        "share": share,
        "goal": "{metric: correct, kind: binary, direction: increase, min_effect: 5%}",
        "guardrails": "[{metric: error_rate, max_ratio: 2.0, negligible: 5%}]",
        "limits": "{min_units: 200, min_runtime: 1s, max_runtime: 1d}",
    }
    return "".join(f"{key}: {value}\n" for key, value in (fields | changes).items()).encode()


def country(unit: str) -> str:
    return COUNTRIES[int(unit.rpartition("-")[2]) % len(COUNTRIES)]


def is_tardy(answer: Answer) -> bool:
    return answer.row.unit.endswith("3")


def in_time(answer: Answer) -> Sequence[Outcome]:
    """Report everything, but whether it was right not of units whose word comes too late."""
    found = everything(answer)
    return [o for o in found if not (is_tardy(answer) and o["metric"] == "correct")]


def in_stage(number: int, answer: Answer) -> bool:
    return answer.prediction is not None and answer.prediction.stage == number


async def acts(control: ControlClient, name: str) -> list[str]:
    """Return what was done with an experiment, oldest first; each decision is made again."""
    lines = [r for r in (await control.history(MODEL))["receipts"] if r["experiment"] == name]
    for line in lines:
        assert (await control.replay(line["id"]))["same"]
    return [line["act"] for line in reversed(lines)]


# ---- every kind of metric


async def test_each_kind_of_metric_is_measured_as_the_clients_know_it(
    measured: System, control: ControlClient, tmp_path: Path
):
    name = "all-kinds"
    await measured.hot(control, MODEL, v1=1, v2=1, v3=1)
    await measured.stand(control, MODEL, FAIR)
    await control.start(ALL_KINDS.encode(), by=BY)
    assert matured(await control.experiment(name)) == (0, 0, None)
    measures = Measures(name, ("de", "fr"))
    rows = Rows(name, returning=0.4, country=country)
    async with measured.traffic(control, MODEL, rows, outcomes=in_time) as traffic:
        seen = await ages(control, name)
        await traffic.answered(100, lambda answer: in_stage(1, answer))
        answer = await traffic.ask(Row("by-hand-1", label=3, difficulty=0.95, country="de"))
        await nothing_impossible_is_taken(control, answer)
        traffic.reported += await report(control, [(answer, each) for each in everything(answer)])
    traffic.reported += await too_late(control, traffic)
    view = await books_agree(measured, control, measures, traffic)
    assert (view["state"], view["dropped"], len(view["stages"])) == ("ramping", [], 2)
    assert all(units <= len(old_enough(traffic, told)) for units, told in seen)
    tardy = {answer.token for answer in traffic.answers if is_tardy(answer)}
    assert len(tardy) > 10
    assert tardy <= measures.late
    units, of, share = matured(view)
    assert (units, of, share) == (of, sum(arm["units"] for arm in arms(view)), 1.0)
    assert {arm[2:] for arm in measures.arms} >= {(TWIN, "de"), (BETTER, "fr"), (None, "de")}
    await shown_on_a_terminal(measured, name, view, tmp_path)
    await measured.stopped(control, name)


def arms(view: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all that is compared."""
    stages = view["evidence"]["stages"]
    return [arm for s in stages for arm in (s["champion"], *s["challengers"].values())]


def matured(view: Mapping[str, Any]) -> tuple[int, int, float | None]:
    """Return how much of what clients say late has matured, as each challenger's report has it."""
    found = {
        (m["matured"]["units"], m["matured"]["of"], m["matured"]["share"])
        for challenger in view["report"]["challengers"]
        for m in challenger["metrics"]
        if m["matured"] is not None
    }
    (only,) = found
    return only


async def ages(control: ControlClient, name: str) -> list[tuple[int, datetime]]:
    """Wait until some have matured, and more; return how many had at which times."""
    seen: list[tuple[int, datetime]] = []

    async def more() -> bool:
        units, of, share = matured(await control.experiment(name))
        assert share is None if of == 0 else share == units / of
        seen.append((units, datetime.now(UTC)))
        return 0 < seen[-2][0] < units < of if len(seen) > 1 else False

    await eventually(more, what="some units mature, and more")
    log.info("matured, look by look: %s", [units for units, _ in seen])
    return seen


def old_enough(traffic: Traffic, told: datetime) -> set[tuple[int | None, int | None]]:
    """Return the units, stage by stage, some of whose windows had closed by then."""
    return {
        (found.stage, found.slot)
        for answer in traffic.answers
        if (found := answer.prediction) is not None and found.minted_at + WINDOW <= told
    }


async def nothing_impossible_is_taken(control: ControlClient, answer: Answer) -> None:
    """Report what no metric can be; each is refused, and the metric can still be reported."""
    wrong: list[Outcome] = [
        {"metric": "tokens", "value": 3},
        {"metric": "tokens", "value": 3, "denominator": -1},
        {"metric": "tokens", "value": 3, "denominator": "2"},
        {"metric": "rating", "value": 3, "denominator": 1},
        {"metric": "rating", "value": 5.01},
        {"metric": "rating", "value": 0},
        {"metric": "rating", "value": 3, "covariate": 1},
        {"metric": "revenue", "value": "NaN"},
        {"metric": "revenue", "value": True},
        {"metric": "complaints", "value": -1},
        {"metric": "complaints", "value": 0.5},
        {"metric": "correct", "value": 0.5},
        {"metric": "latency_ms", "value": 20},
        {"metric": "error_rate", "value": 1},
        {"metric": "income", "value": 1},
    ]
    found = await report(control, [(answer, each) for each in wrong])
    assert {each.said for each in found} == {"invalid_outcome"}
    for number in ("NaN", "Infinity", "1e999"):
        body = f'{{"prediction_id": "{answer.token}", "metric": "revenue", "value": {number}}}'
        with pytest.raises(Refused) as refused:
            await control.outcomes(body.encode())
        assert refused.value.refusal in ("malformed_json", "invalid_outcome")


async def too_late(control: ControlClient, traffic: Traffic) -> list[Any]:
    """Report outcomes after their window has closed."""
    tardy = [answer for answer in traffic.answers if is_tardy(answer)]
    closed = max(answer.prediction.minted_at for answer in tardy) + WINDOW
    # Ids carry whole seconds, and what comes in the very second is in time.
    await asyncio.sleep((closed - datetime.now(UTC)).total_seconds() + 1.0)
    outcome = {"metric": "correct", "value": 1}
    found = await report(control, [(answer, outcome) for answer in tardy])
    assert {each.said for each in found} == {"late_outcome"}
    return found


async def shown_on_a_terminal(
    system: System, name: str, view: Mapping[str, Any], folder: Path
) -> None:
    """Look at an experiment as people and programs do."""
    picture = folder / "trail.png"
    text, said = await asyncio.gather(
        asyncio.to_thread(tiltyard, system, "experiment", "show", name, "--plot", str(picture)),
        asyncio.to_thread(tiltyard, system, "experiment", "show", name, "--json"),
    )
    (folder / "show.txt").write_text(text)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert max(map(len, text.splitlines())) <= 80
    assert "nan" not in text.lower().split()
    found = json.loads(said, parse_constant=no_number)
    assert found["evidence"] == view["evidence"]
    keys = ["revenue", "error_rate", "latency_ms@99", "tokens", "rating", "complaints", "correct"]
    for version, challenger in zip((TWIN, BETTER), found["report"]["challengers"], strict=True):
        assert challenger["version"] == version
        assert f"Version {version} against {FAIR}" in text
        assert [metric["metric"] for metric in challenger["metrics"]] == keys
        segments = {(each["segment"], each["metric"]) for each in challenger["segments"]}
        assert segments == {(place, key) for place in ("de", "fr") for key in keys}
        for metric in challenger["metrics"]:
            assert metric["metric"] in text
            assert {"champion", "challenger", "effects", "shrunk", "tests"} <= set(metric)
            assert all(isinstance(test["log_e"], float) for test in metric["tests"])
    assert "100 %" in text


# ---- a bounded horizon


@pytest.mark.parametrize(
    ("name", "challenger", "units", "state"),
    # Of the units that the second name divides, those in either half do equally well.
    [("an-effect", BETTER, 2_000, "promoted"), ("no-effect-9", TWIN, 600, "inconclusive")],
)
async def test_within_a_horizon_every_look_is_kept_and_the_last_one_ends_it(
    measured: System, control: ControlClient, name: str, challenger: int, units: int, state: str
):
    await measured.hot(control, MODEL, v1=1, **{f"v{challenger}": 1})
    await measured.stand(control, MODEL, FAIR)
    file = experiment(name, f"[{challenger}]", "[50%]", horizon=f"{{units: {units}}}")
    async with measured.traffic(control, MODEL, Rows(name)) as traffic:
        await control.start(file, by=BY)
        view = await measured.ended(control, name)
    assert view["state"] == state
    receipt = json.loads(await control.receipt(view["receipt"]))
    assert (await control.replay(view["receipt"]))["same"]
    looks = receipt["plan"]["looks"]
    times = [look["time"] for look in looks]
    assert times == sorted(set(times))
    crossed = state == "promoted"
    assert [look["crossed"] for look in looks] == [False] * (len(looks) - 1) + [crossed]
    assert times[-1] == 1.0 or crossed
    said = await asyncio.to_thread(tiltyard, measured, "experiment", "show", name, "--json")
    found = json.loads(said, parse_constant=no_number)
    (goal, _) = found["report"]["challengers"][0]["metrics"]
    test = goal["tests"][0]
    assert (test["question"], test["looks"], test["units"]) == ("superior", len(looks), units)
    assert (test["reached"], isclose(test["time"], 1.0) or crossed) == (crossed, True)
    assert test["boundary"] is not None
    assert (test["z"] >= test["boundary"]) == crossed
    log.info("%s: %d looks, the last at %.2f of %d units", name, len(looks), times[-1], units)
    await books_agree(measured, control, Measures(name), traffic)


# ---- several challengers, and a holdback


async def test_a_harmful_one_of_two_is_dropped_and_the_good_one_promoted_into_a_holdback(
    measured: System, control: ControlClient
):
    name = "two-on-trial"
    await measured.hot(control, MODEL, v1=1, v3=1, v4=1)
    await measured.stand(control, MODEL, FAIR)
    file = experiment(name, f"[{BETTER}, {WORSE}]", "[40%, 80%]", holdback="{share: 10%, for: 6s}")
    async with measured.traffic(control, MODEL, Rows(name, returning=0.3)) as traffic:
        await control.start(file, by=BY)

        async def dropped() -> int | None:
            route = await control.route(MODEL)
            without = all(trial["dropped"] == [WORSE] for trial in route["trials"])
            return route["epoch"] if without or route["champion"] == BETTER else None

        epoch = await eventually(dropped, what="the worse one is dropped")

        async def won() -> dict[str, Any] | None:
            view = await control.experiment(name)
            return view if view["winner"] is not None else None

        view = await eventually(won, what="the better one is held against the old one")
        assert (view["winner"], view["dropped"]) == (BETTER, [WORSE])
        await names_stand_for(measured, champion=BETTER, previous=FAIR)
        view = await measured.ended(control, name)
        await traffic.answered(50)
    assert view["state"] == "promoted"
    assert {answer.version for answer in traffic.answers if answer.epoch >= epoch} == {FAIR, BETTER}
    held = [answer for answer in traffic.answers if in_stage(2, answer)]
    met = Counter(answer.version for answer in held)
    assert met.keys() <= {FAIR, BETTER}
    log.info("in the holdback %d met the new champion, %d the old one", met[BETTER], met[FAIR])
    assert {(a.version, a.prediction.experiment) for a in traffic.answers[-30:]} == {(BETTER, None)}
    route = await control.route(MODEL)
    assert (route["champion"], route["previous"], route["trials"]) == (BETTER, FAIR, [])
    await names_stand_for(measured, champion=BETTER, previous=FAIR)
    done = await acts(control, name)
    # It may be found harmful before or after the ramp has grown.
    assert (done[0], sorted(done[1:3])) == ("start", ["continue", "drop"])
    assert done[3:] == ["promote", "promote"], "into the holdback, and out of it"
    champions = (await control.history(MODEL))["champions"]
    assert (champions[-1]["before"], champions[-1]["after"]) == (FAIR, BETTER)
    assert champions[-1]["epoch"] == min(answer.epoch for answer in held), "from the holdback on"
    await books_agree(measured, control, Measures(name), traffic)


async def names_stand_for(system: System, *, champion: int, previous: int | None) -> None:
    """Wait until the names in the registry follow; nobody is the challenger."""
    async with system.catalog() as catalog:

        async def follow() -> bool:
            found = await catalog.aliases(ModelName(MODEL))
            return (found.champion, found.previous, found.challenger) == (champion, previous, None)

        await eventually(follow, what=f"{champion} is the champion in the registry")


async def test_a_rollback_by_hand_in_a_holdback_gives_everybody_the_old_champion(
    measured: System, control: ControlClient
):
    name = "second-thoughts"
    await measured.hot(control, MODEL, v1=1, v3=1)
    await measured.stand(control, MODEL, FAIR)
    file = experiment(name, f"[{BETTER}]", "[50%]", holdback="{share: 20%, for: 1d}")
    async with measured.traffic(control, MODEL, Rows(name, returning=0.3)) as traffic:
        await control.start(file, by=BY)
        await traffic.answered(10, lambda a: in_stage(1, a) and a.version == BETTER)
        await traffic.answered(10, lambda a: in_stage(1, a) and a.version == FAIR)
        done = await control.rollback(MODEL, by=BY, why="second thoughts")
        acknowledged = monotonic()
        await traffic.answered(50)
    log.info("rolled back by hand in a holdback after %.1f ms", done["milliseconds"])
    assert (done["withdrawn"], done["to_version"]) == ([BETTER], FAIR)
    assert (done["edges"], done["silent"]) == ([measured.settings.edge_name], [])
    assert done["milliseconds"] > 0
    epoch = (await control.route(MODEL))["epoch"]
    after = {(a.version, a.epoch, a.prediction.experiment) for a in traffic.since(acknowledged)}
    assert after == {(FAIR, epoch, None)}
    view = await measured.ended(control, name)
    assert view["state"] == "rolled_back"
    route = await control.route(MODEL)
    assert (route["champion"], route["previous"], route["trials"]) == (FAIR, None, [])
    await names_stand_for(measured, champion=FAIR, previous=None)
    assert await acts(control, name) == ["start", "promote", "rollback"]
    last = (await control.history(MODEL))["champions"][-1]
    assert (last["before"], last["after"], last["epoch"]) == (BETTER, FAIR, epoch)
    await books_agree(measured, control, Measures(name), traffic)
