from copy import deepcopy
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from bench.figures import Figures
from bench.load import Load
from bench.plot import draw
from bench.results import BARS, RATIOS, SHAPE, complaints
from bench.rounds import CONNECTIONS, Sample
from bench.run import Asked, Bench
from bench.servers import Field
from bench.show import TITLES, show


class Quick:
    name = "a generator"


def results(tmp_path) -> dict[str, Any]:
    """What a run writes in which everything was measured, twice as fast as all others."""
    bench = Bench(Asked(), "run", tmp_path, lambda _: None)
    bench.field = Field(Quick(), {})
    for target in TITLES:
        rate = 200 if target == "edge" else 100
        bench.samples += [
            Sample(1, target, size, each, Load(1.0, rate, rate, 1.0, 2.0, 0, 0, {}, {}))
            for size in ("small", "large")
            for each in CONNECTIONS
        ]
    spread = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}
    rolled = {**spread, "drills": 100, "failed_drills": 0, "requests": 9, "failed_requests": 0}
    bench.rollbacks = {"1": rolled, "3": rolled}
    bench.endured = {
        fault: {"answers": 9, "rescued": 4, "failures": 0}
        for fault in ("errors", "hangs", "crashes")
    }
    bench.collector = {"events_per_second": 100_000}
    bench.memory = {"edge": {"at_rest": 7.0, "after_requests": 9.0}}
    bench.ceilings = {"1": 10_000.0}
    bench.evidence = {"answered": 9, "counted": 10, "lost_bytes": 0}
    bench.up_seconds = 9.0
    return bench.results() | {"machine": {}, "versions": {}}


def test_a_whole_run_has_the_whole_shape(tmp_path) -> None:
    found = results(tmp_path)
    assert list(complaints(found)) == []
    assert set(RATIOS) <= set(found["ratios"])
    assert set(found["ratios"]["edge_over_bare"]) == {"1", "8", "32"}
    assert found["rollback_ms"]["drills"] == 100


def test_a_run_that_measured_nothing_has_the_same_shape(tmp_path) -> None:
    bench = Bench(Asked(), "run", tmp_path, lambda _: None)
    bench.field = Field(Quick(), {})
    found = bench.results() | {"machine": {}, "versions": {}}
    assert list(complaints(found)) == []
    assert {bar.verdict(found) for bar in BARS} == {"not measured"}


@pytest.mark.parametrize("name", SHAPE)
def test_a_key_that_is_missing_is_named(tmp_path, name: str) -> None:
    found = results(tmp_path)
    del found[name]
    assert f"{name} is missing" in list(complaints(found))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (("ratios", "edge_over_litserve"), "ratios.edge_over_litserve is missing"),
        (("ratios", "edge_over_bare", "32"), "ratios.edge_over_bare lacks 32 connections"),
        (("rollback_ms", "p99"), "rollback_ms.p99 is missing"),
        (("user_failures", "hangs"), "user_failures.hangs is missing"),
    ],
)
def test_a_key_within_that_is_missing_is_named(
    tmp_path, path: tuple[str, ...], complaint: str
) -> None:
    found = deepcopy(results(tmp_path))
    place = found
    for name in path[:-1]:
        place = place[name]
    del place[path[-1]]
    assert complaint in list(complaints(found))


def bar(what: str):
    return next(each for each in BARS if each.what.startswith(what))


@pytest.mark.parametrize(("p99", "verdict"), [(51.0, "missed"), (50.0, "bar"), (5.0, "aim")])
def test_less_is_better_where_it_is_time(tmp_path, p99: float, verdict: str) -> None:
    found = results(tmp_path)
    found["rollback_ms"]["p99"] = p99
    assert bar("rollback").verdict(found) == verdict


@pytest.mark.parametrize(("ratio", "verdict"), [(0.74, "missed"), (0.75, "bar"), (0.95, "aim")])
def test_a_ratio_is_judged_where_it_is_worst(tmp_path, ratio: float, verdict: str) -> None:
    found = results(tmp_path)
    found["ratios"]["edge_over_bare"]["8"] = ratio
    assert bar("throughput over bare").verdict(found) == verdict


def test_one_failure_that_a_user_saw_misses_the_bar(tmp_path) -> None:
    found = results(tmp_path)
    assert bar("failures").verdict(found) == "aim"
    found["user_failures"]["hangs"] = 1
    assert bar("failures").verdict(found) == "missed"


def test_people_see_every_target_every_bar_and_what_is_missing(tmp_path) -> None:
    found = results(tmp_path) | {"missing": {"litserve_2": "it broke"}}
    out = Console(width=200, record=True, file=StringIO())
    show(found, out)
    text = out.export_text()
    for title in TITLES.values():
        assert text.count(title) == 2
    for each in BARS:
        assert each.what in text
    assert "Missing: litserve_2: it broke" in text
    assert "a generator" in text


def test_the_picture_is_drawn_even_where_a_server_is_missing(tmp_path) -> None:
    found = results(tmp_path)
    del found["throughput"]["bentoml_1"]
    del found["throughput"]["handles"]["large"]
    draw(found, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


def test_figures_of_nothing_are_an_empty_table() -> None:
    assert Figures([]).table() == {}
