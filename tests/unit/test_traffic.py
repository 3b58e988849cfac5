"""Answers, counted for whoever watches an edge: how many, how fast, and by whom."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from experiments.model import Variant
from registry.refs import Version
from serving.edge import traffic
from serving.edge.aggregate import Aggregate, AppliedSlots
from serving.edge.traffic import Key, Traffic
from serving.metrics.edge import BOUNDS_MS, DURATION, REQUESTS
from serving.metrics.exposition import Snapshot, Times, histogram, numbers, text
from tests.unit.log_lines import WATCHES, Line, numbered

ROUTED = frozenset({b"digits"})
CHALLENGED = Key("digits", "2", "challenger")


def seen(*lines: Line, most: int = traffic.MOST_SERIES, routed=ROUTED) -> Traffic:
    found = Traffic(most=most)
    for line in lines:
        counted = Aggregate(WATCHES, AppliedSlots())
        counted.add(bytes(line))
        found.add(counted.answers(), routed)
    return found


def test_answers_are_told_apart_by_status_and_by_who_gave_them() -> None:
    lines = [Line(), Line(segment=2), Line(stage=1, status=422), Line(server="failover")]
    lines += [Line(status=-1, first=None), Line(experiment="-")]
    found = seen(*lines).answered()
    assert found[CHALLENGED].requests == {
        ("200", False): 2,
        ("422", False): 1,
        ("200", True): 1,
        ("none", False): 1,
    }
    assert found[Key("digits", "2", "none")].requests == {("200", False): 1}


@pytest.mark.parametrize(
    ("ms", "bucket"), [(0, 0), (1, 0), (2, 1), (3, 2), (30_000, 13), (30_001, 14), (10**9, 14)]
)
def test_a_time_is_in_the_first_bucket_that_holds_it(ms, bucket) -> None:
    found = seen(Line(took=ms, first=ms)).answered()[CHALLENGED]
    for times in (found.first, found.took):
        assert times.counts == [int(place == bucket) for place in range(len(BOUNDS_MS) + 1)]
        assert times.total_ms == ms


def test_an_answer_that_never_began_has_no_first_byte() -> None:
    found = seen(Line(status=-1, first=None, took=900)).answered()[CHALLENGED]
    assert (sum(found.first.counts), sum(found.took.counts)) == (0, 1)


def test_models_without_a_route_become_no_series() -> None:
    assert seen(Line(), routed=frozenset({b"scans"})).answered() == {}


def test_bytes_that_are_no_text_stop_nobody() -> None:
    line = bytes(Line(experiment="-")).replace(b"\t2\t-", b"\t\xff\xfe\t-", 1)
    counted = Aggregate(WATCHES, AppliedSlots())
    counted.add(line)
    assert counted.lines == 1
    found = Traffic()
    found.add(counted.answers(), ROUTED)
    assert sum(found.answered()[Key("digits", "\ufffd\ufffd", "none")].requests.values()) == 1


def test_series_are_bounded_and_those_that_go_on_stay() -> None:
    lines = [Line(version=Version(1 + n % 9)) for n in range(90)] + [Line(version=Version(1))]
    found = Traffic(most=3)
    for line in lines:
        counted = Aggregate(WATCHES, AppliedSlots())
        counted.add(bytes(line))
        found.add(counted.answers(), ROUTED)
        found.answered()
    assert {key.version for key in found.answered()} == {"8", "9", "1"}


@given(
    lines=st.lists(
        st.builds(
            Line,
            variant=st.sampled_from(Variant),
            status=st.sampled_from([200, 422, 503, -1]),
            took=st.integers(-1, 40_000),
            first=st.none() | st.integers(-5, 40_000),
            server=st.sampled_from(["host", "failover"]),
        ),
        max_size=50,
    ),
    pieces=st.integers(1, 5),
)
def test_whenever_it_is_looked_at_every_answer_is_counted_once(lines, pieces) -> None:
    found = Traffic()
    for start in range(0, len(lines), pieces):
        counted = Aggregate(WATCHES, AppliedSlots())
        counted.add(numbered(lines[start : start + pieces]))
        found.add(counted.answers(), ROUTED)
        if start % 2:
            found.answered()
    wanted = Counter(line.variant for line in lines)
    assert {k.variant: it.requests.total() for k, it in found.answered().items()} == wanted
    took = [line.took for line in lines if line.took >= 0]
    assert sum(it.took.total_ms for it in found.answered().values()) == sum(took)
    assert sum(sum(it.took.counts) for it in found.answered().values()) == len(took)


# ---- how it is told


def told(*families: Metric) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Snapshot(families))
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {f"{it.name}{sorted(it.labels.items())}": it.value for it in samples}


def test_a_histogram_is_told_in_seconds_and_counts_all_that_is_below() -> None:
    times = Times()
    for ms, count in ((1, 3), (7, 2), (60_000, 1)):
        times.add(ms, count)
    found = told(histogram(DURATION, {CHALLENGED: times}))
    arm = [("model", "digits"), ("variant", "challenger"), ("version", "2")]

    def bucket(upper: str) -> float:
        return found[f"{DURATION.name}_bucket{sorted([('le', upper), *arm])}"]

    assert [bucket(upper) for upper in ("0.001", "0.005", "0.01", "30", "+Inf")] == [3, 3, 5, 5, 6]
    assert found[f"{DURATION.name}_count{arm}"] == 6
    assert found[f"{DURATION.name}_sum{arm}"] == pytest.approx(60.017)


def test_what_is_told_is_prometheus_text() -> None:
    body = text([numbers(REQUESTS, {("digits", "2", "none", "200", "false"): 3})]).decode()
    assert f"# TYPE {REQUESTS.told} counter" in body
    assert f'{REQUESTS.told}{{failover="false",model="digits"' in body
