"""What is said when an experiment starts: only what the edges have really counted."""

from dataclasses import replace
from datetime import timedelta

import pytest

from experiments.audience import parse_audience
from experiments.metric import Binary, Direction, Goal, Metric
from experiments.model import BasisPoints, Layer, Shadow
from registry.refs import ModelName
from serving.edge.report import EdgeReport
from serving.outlook import outlook, requests_per_second
from tests.unit.declared import DECLARATION, START

DIGITS = ModelName("digits")
KNOWN = replace(
    DECLARATION, goal=Goal(Metric("correct", Binary()), Direction.INCREASE, 0.01, baseline=0.12)
)


def report(requests: int, *, counted: float = 1_000.0, edge: str = "edge-0") -> EdgeReport:
    return EdgeReport(
        edge=edge,
        at=START + timedelta(seconds=counted),
        epochs={},
        applied_at={},
        backlog_bytes=0,
        lost_bytes=0,
        lost_requests=0,
        requests_seen=requests,
        requests={DIGITS: requests} if requests else {},
        since=START,
        malformed_lines=0,
        haproxy_up=True,
        break_glass=(),
        routes={},
    )


def test_the_traffic_of_all_edges_is_added():
    both = [report(2_000), report(3_000, edge="edge-1")]
    assert requests_per_second(both, DIGITS) == pytest.approx(5.0)


@pytest.mark.parametrize(
    "reports", [[], [report(0)], [report(10_000, counted=59.0)]], ids=["none", "idle", "young"]
)
def test_traffic_that_nobody_has_counted_is_not_known(reports):
    assert requests_per_second(reports, DIGITS) is None
    found = outlook(KNOWN, reports)
    assert "not known" in found.traffic
    assert found.warnings == ()


def test_only_those_who_can_be_in_the_experiment_are_its_traffic():
    half = replace(KNOWN, layer=Layer("unit-test", BasisPoints(0), BasisPoints(5_000)))
    found = outlook(half, [report(2_000)], holdout=BasisPoints(1_000))
    assert found.traffic == (
        "digits has had 2 requests a second on average. 45% of 2 requests a second can be in it: "
        "50% are its part of the layer unit-test, 90% are not held out."
    )
    (warning,) = found.warnings
    assert warning.startswith("At 54 units a minute this experiment")


def test_of_an_unknown_audience_it_is_said_that_there_are_fewer():
    few = replace(KNOWN, audience=parse_audience("x-country:in:de"))
    found = outlook(few, [report(2_000)])
    assert "At most 100% of 2 requests a second can be in it" in found.traffic
    assert "how many are its audience is not known." in found.traffic


def test_other_models_are_no_traffic():
    assert requests_per_second([report(2_000)], ModelName("letters")) is None


def test_too_little_traffic_is_warned_of():
    (warning,) = outlook(KNOWN, [report(2_000)]).warnings
    assert warning.startswith("At 2 units a second this experiment reaches a verdict with 50%")
    assert "it ends after 7 days" in warning


def test_enough_traffic_is_not():
    found = outlook(KNOWN, [report(500_000)])
    assert found.traffic == "digits has had 500 requests a second on average."
    assert found.warnings == ()


def test_without_a_baseline_nothing_is_warned_of():
    assert outlook(DECLARATION, [report(2_000)]).warnings == ()


def test_of_too_few_pairs_in_the_shadow_it_is_warned_too():
    thin = replace(KNOWN, shadow=Shadow(BasisPoints(10)))
    (warning,) = outlook(thin, [report(200)]).warnings
    assert warning.startswith(
        "At 12 units a minute there are 500 pairs in the shadow after 29 days;"
    )
