"""The trail of an experiment: bounded, evenly spread, from its beginning on."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from experiments.codec import decode, encode
from experiments.trail import FIRST_INTERVAL, MOST_POINTS, Trail, TrailPoint
from tests.unit.declared import SECOND, START


def walked(seconds: int, step: int = 1) -> Trail:
    trail = Trail()
    for second in range(0, seconds, step):
        point = TrailPoint(START + second * SECOND, {"correct": (float(second), None)})
        trail = trail.with_point(point)
    return trail


def test_points_that_come_too_soon_are_left_out() -> None:
    trail = walked(20)
    assert len(trail.points) == 10
    assert not trail.is_due(START + 19 * SECOND)
    assert trail.is_due(START + 20 * SECOND)


def test_an_empty_trail_waits_for_nothing() -> None:
    assert Trail().is_due(START)


@given(seconds=st.integers(1, 10_000), step=st.integers(1, 100))
def test_however_long_it_is_bounded_and_goes_back_to_the_beginning(seconds: int, step: int) -> None:
    trail = walked(seconds, step)
    assert 1 <= len(trail.points) <= MOST_POINTS
    assert trail.points[0].at == START
    gaps = {b.at - a.at for a, b in zip(trail.points, trail.points[1:], strict=False)}
    assert all(gap >= trail.interval for gap in gaps)
    taken = seconds // step
    if taken > 2 * MOST_POINTS and step >= FIRST_INTERVAL.total_seconds():
        assert len(trail.points) > MOST_POINTS // 3


def test_a_full_trail_gives_up_every_second_point_and_takes_half_as_many() -> None:
    step = round(FIRST_INTERVAL / SECOND)
    full = walked(MOST_POINTS * step, step)
    assert len(full.points) == MOST_POINTS
    more = full.with_point(TrailPoint(START + MOST_POINTS * FIRST_INTERVAL, {}))
    assert more.interval == 2 * FIRST_INTERVAL
    assert more.points[:-1] == full.points[::2]


def test_it_is_kept_as_it_is() -> None:
    trail = walked(20)
    assert decode(Trail, encode(Trail, trail)) == trail
    assert decode(Trail, encode(Trail, Trail())) == Trail(interval=timedelta(seconds=2))
