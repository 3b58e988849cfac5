"""`tiltyard plan`: a file and a rate, nothing that runs; what it prints, and what it refuses."""

import asyncio
import json

import httpx2
import pytest
from typer.testing import CliRunner, Result

from serving.cli import app
from serving.cli.session import Session
from serving.edge.collector import Progress
from tests.story.outside import DIGITS
from tests.story.world import FILE as STARTED
from tests.story.world import World

FILE = """
name: digits-v2
model: digits
challenger: 2
unit: header:x-unit-id
share: [5%, 50%]
goal: {metric: correct, kind: binary, direction: increase, min_effect: 10%}
guardrails:
  - {metric: error_rate, max_ratio: 2.0}
  - {metric: latency_ms, above: 250, max_ratio: 1.5, baseline: 2%}
  - {metric: latency_ms, quantile: 99%, max_ratio: 1.5}
limits: {min_units: 200, min_runtime: 10m, max_runtime: 7d}
"""


def nobody(request: httpx2.Request) -> httpx2.Response:
    raise AssertionError("nobody is asked")


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "experiment.yaml"

    def run(*words: str, text: str = FILE) -> Result:
        path.write_text(text)
        result = CliRunner().invoke(
            app,
            ["plan", str(path), *words],
            obj=Session(transport=httpx2.MockTransport(nobody)),
            env={"COLUMNS": "120", "NO_COLOR": "1"},
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_a_plan_tells_units_and_time_of_everything_that_is_decided(plan):
    result = plan("--traffic", "50/s", "--baseline", "12%")
    assert (result.exit_code, result.stderr) == (0, "")
    text = result.stdout
    assert "digits-v2  at 50 units a second" in text
    assert "correct moves from 12 % to 13.2 %" in text
    for part in ("Units until a verdict", "Ramp", "Guardrails kept", "Harm found"):
        assert part in text
    for word in ("one look", "open-ended", "horizon to declare", "50%", "80%", "90%"):
        assert word in text
    assert "error_rate: the champion's value must be known" in text
    assert "latency_ms@99: how many units a quantile needs" in text


def test_programs_get_the_same_as_json(plan):
    found = json.loads(plan("--traffic", "50/s", "--baseline", "0.12", "--json").stdout)
    assert found["name"] == "digits-v2"
    assert found["units_per_second"] == 50.0
    assert found["warning"] is None
    assert set(found["goal"]) >= {"at_one_look", "open_ended", "bounded", "expected", "declared"}
    for need in found["goal"]["open_ended"]:
        assert sum(need["stages"]) == need["units"]
    assert [stage["share"] for stage in found["stages"]] == [0.05, 0.5]
    errors, slow, quantile = found["guardrails"]
    assert "baseline" in errors["kept"]["reason"]
    assert errors["if_none"]["units"] > 0
    assert [need["power"] for need in slow["kept"]] == [0.5, 0.8, 0.9]
    assert set(quantile["kept"]) == {"reason"}
    assert {each["metric"] for each in found["harm"]} >= {"correct", "latency_ms>250"}


def test_only_those_who_can_be_in_the_experiment_count(plan):
    text = f"{FILE}layer: {{name: checkout, part: [0%, 50%]}}\n"
    words = ("--traffic", "50/s", "--holdout", "20%")
    found = json.loads(plan(*words, "--json", text=text).stdout)
    assert (found["traffic"], found["reach"], found["units_per_second"]) == (50.0, 0.4, 20.0)
    shown = " ".join(plan(*words, text=text).stdout.split())
    assert "at 20 units a second" in shown
    assert "40% of 50 units a second can be in it: 50% are its part of the layer checkout" in shown
    assert "80% are not held out" in shown


def test_how_many_are_in_the_audience_has_to_be_said(plan):
    text = f"{FILE}audience: [{{header: x-country, in: [de]}}]\n"
    assert "how many are its audience is not known" in plan("--traffic", "50/s", text=text).stdout
    words = ("--traffic", "50/s", "--audience", "30%")
    assert json.loads(plan(*words, "--json", text=text).stdout)["units_per_second"] == 15.0
    refused = plan(*words)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "the file declares no audience" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [("--holdout", "100%"), ("--holdout", "0.05"), ("--audience", "0%"), ("--audience", "x")],
)
def test_what_is_no_share_is_refused(plan, words):
    text = f"{FILE}audience: [{{header: x-country, in: [de]}}]\n"
    assert plan(*words, text=text).exit_code == 2


def test_without_traffic_and_baseline_it_says_what_it_would_need(plan):
    text = plan().stdout
    assert "traffic is not known; give --traffic 50/s" in text
    assert "give `baseline: 5%`, say, or --baseline" in text
    assert json.loads(plan("--json").stdout)["goal"].keys() == {"reason"}


def test_an_experiment_that_its_traffic_cannot_decide_is_warned_of(plan):
    words = ("--traffic", "60/h", "--baseline", "12%")
    text = " ".join(plan(*words).stdout.split())
    assert "At 1 unit a minute this experiment reaches a verdict with 50% probability" in text
    assert "it ends after 7 days" in text
    assert json.loads(plan(*words, "--json").stdout)["warning"].startswith("At 1 unit a minute")


def test_a_horizon_is_shown_with_what_it_can_find(plan):
    text = plan("--baseline", "12%", text=f"{FILE}horizon: {{units: 5000}}\n").stdout
    assert "The file declares a horizon of 5,000 units" in text
    assert "The horizon of 5,000 units reaches a verdict with" in text


@pytest.mark.parametrize(
    "rate", ["50", "fast", "50/year", "-3/s", "0/s", "1e99/s", "5/s/s", "", "1e12/s", "1_0/s"]
)
def test_what_is_no_rate_is_refused_with_advice(plan, rate):
    result = plan("--traffic", rate)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--traffic" in result.stderr


@pytest.mark.parametrize("value", ["twelve", "12", "0", "100%", "-1%", "nan", "1.0"])
def test_what_is_no_baseline_is_refused_with_advice(plan, value):
    result = plan("--baseline", value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--baseline" in result.stderr


def test_a_mistake_in_the_file_is_shown_with_its_line_and_column(plan):
    broken = FILE.replace("min_effect: 10%", "min_effect: 0.1")
    result = plan(text=broken)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "experiment.yaml:7:" in result.stderr
    assert "Code: invalid_declaration" in result.stderr
    found = json.loads(plan("--json", text=broken).stdout)
    assert found["problems"][0]["line"] == 7


async def started_after(folder, seconds: float, requests: int, text: str) -> dict[str, object]:
    world = await World.standing(folder)
    for edge in world.edges.values():
        edge.agent._progress = lambda: Progress(requests={DIGITS: requests})
    await world.pass_time(seconds)
    async with world.http() as client:
        answer = await client.post("/v1/experiments", content=text.encode())
    assert answer.status_code == 201, answer.text
    return answer.json()


KNOWN = STARTED.replace("min_effect: 1%", "min_effect: 1%, baseline: 12%")


@pytest.mark.parametrize(
    ("requests", "warned"), [(240, True), (2_400_000, False)], ids=["little", "much"]
)
def test_who_starts_an_experiment_is_warned_if_the_traffic_cannot_decide_it(
    tmp_path, requests, warned
):
    found = asyncio.run(started_after(tmp_path, 120.0, requests, KNOWN))
    assert "digits has had" in found["traffic"]
    assert bool(found["warnings"]) == warned


def test_traffic_that_is_not_known_is_no_reason_to_warn(tmp_path):
    found = asyncio.run(started_after(tmp_path, 5.0, 240, KNOWN))
    assert "is not known yet" in found["traffic"]
    assert found["warnings"] == []


def test_a_plan_tells_how_long_the_shadow_takes(plan):
    shadow = "shadow: {share: 20%, pairs: 500, agreement: 95%}\n"
    result = plan("--traffic", "50/s", "--baseline", "12%", text=FILE + shadow)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "In the shadow, 20 % of the units" in result.stdout
    assert "agreement of 95 % shown, if 97.5 % agree" in result.stdout
    assert "What follows begins when the shadow is over." in result.stdout


def test_without_users_there_is_a_plan_of_the_shadow_alone(plan):
    text = (
        "name: a\nmodel: b\nchallengers: [2, 3]\nunit: request\nmode: shadow\n"
        "shadow: {share: 20%, agreement: 95%}\n"
    )
    result = plan("--traffic", "50/s", text=text)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "guardrails shown to be kept, if no answer is bad" in result.stdout
    assert "Pairs: of each challenger." in result.stdout
    assert "Ramp" not in result.stdout
    found = json.loads(plan("--json", text=text).stdout)
    assert (found["goal"], found["stages"], found["shadow"]["share"]) == (None, [], 0.2)
    refused = plan("--baseline", "5%", text=text)
    assert "there is no goal to have a baseline" in refused.stderr
