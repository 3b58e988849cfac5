"""The map file stands for exactly the routes that were written into it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.model import BasisPoints, ExperimentName, Segments
from registry.refs import ModelName, Version
from serving.edge.mapfile import (
    UnreadableMapLine,
    make_durable,
    parse_line,
    parse_value,
    render,
    replace_file,
)
from serving.routes import Route, Trial, map_value
from tests.unit.declared import audiences, layers, units

PLAIN = "|-|-|live|10000"
"""No audience, no layer, users are answered, and the budget is whole."""

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
versions = st.integers(1, 10**9 - 1).map(Version)
headers = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
segments = st.builds(
    Segments,
    headers,
    st.lists(
        st.from_regex(r"[A-Za-z0-9_.-]{1,32}", fullmatch=True), min_size=1, max_size=4, unique=True
    ).map(tuple),
)
shares = st.integers(0, 10_000).map(BasisPoints)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    lanes = draw(st.dictionaries(versions, st.booleans(), min_size=1, max_size=4))
    return Trial(
        experiment=draw(names.map(ExperimentName)),
        stage=draw(st.integers(0, 99)),
        challengers=tuple(lanes),
        dropped=tuple(version for version, is_dropped in lanes.items() if is_dropped),
        cut=draw(st.integers(0, 10_000).map(BasisPoints)),
        floor=draw(st.integers(0, 10_000).map(BasisPoints)),
        unit=draw(units),
        salt=draw(st.text(max_size=20)),
        segments=draw(st.none() | segments),
        audience=draw(st.none() | audiences),
        layer=draw(st.none() | layers()),
        shadow=draw(st.booleans()),
        budget=draw(shares),
        deadline=draw(st.integers(1, 10**6).map(lambda ms: timedelta(milliseconds=ms))),
    )


routes = st.builds(
    Route,
    model=names.map(ModelName),
    epoch=st.integers(1, 2**53),
    champion=versions,
    previous=st.none() | versions,
    trials=st.lists(trials(), max_size=2).map(tuple),
    by=st.just("edge"),
    why=st.just("read back from the edge's map file"),
    at=st.just(NOW),
    holdout=shares,
    receipt=st.none(),
    unrecorded=st.just(()),
)


@given(route=routes)
def test_a_route_is_read_back_as_it_was_written(route: Route) -> None:
    assert parse_value(route.model, map_value(route), NOW) == route


@given(route=routes, trial=trials(), previous=versions)
def test_a_route_in_a_holdback_is_read_back_too(route: Route, trial: Trial, previous: int) -> None:
    champion = trial.challengers[0]
    held = replace(route, champion=champion, previous=Version(previous), trials=(trial,))
    assert held.control == previous
    assert parse_value(held.model, map_value(held), NOW) == held


def test_a_value_says_whom_each_lane_belongs_to() -> None:
    route = parse_line(
        f"digits 4|1|-|0|e|2|1|7,-8,9|500|2500|2000|request|x-plan:free,pro{PLAIN}|e", NOW
    )
    assert route.trials
    assert (route.trials[0].challengers, route.trials[0].dropped) == ((7, 8, 9), (8,))
    assert route.trials[0].active == (7, 9)
    assert route.trials[0].segments == Segments("x-plan", ("free", "pro"))
    assert route.control == 1


@given(known=st.lists(routes, max_size=3, unique_by=lambda route: route.model))
def test_a_file_has_one_line_per_route_whatever_their_order(known: list[Route]) -> None:
    written = render(known)
    assert written == render(reversed(known))
    read = [parse_line(line, NOW) for line in written.decode().splitlines()]
    assert sorted(read, key=lambda r: r.model) == sorted(known, key=lambda r: r.model)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "digits",
        "digits 1|2|3",
        "digits 1|2|-",
        "digits 1|2|-|0|-|-|-|-|-|-|-|-|-|-|-|-|-|-",
        "digits x|2|-|0",
        "digits 1|2|-|x",
        f"digits 1|2|-|0|e|0|2|3|0|500|2000|gift:x|-{PLAIN}|e",
        f"digits 1|2|-|0|E!|0|2|3|0|500|2000|request|-{PLAIN}|e",
        f"digits 1|2|-|0|e|0|2|-|0|500|2000|request|-{PLAIN}|e",
        f"digits 1|2|-|0|e|0|2|3,|0|500|2000|request|-{PLAIN}|e",
        f"digits 1|2|-|0|e|0|9|3|0|500|2000|request|-{PLAIN}|e",
        f"digits 1|3|2|0|e|0|3|3|0|500|2000|request|-{PLAIN}|e",
        f"digits 1|2|-|0|e|0|2|3|0|500|2000|request|x-plan{PLAIN}|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|-|a|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|-|a:500-500|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|x|-|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|x:above:1|-|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|x:above:nan|-|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|x:near:de|-|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|x:in:d e|-|live|10000|e",
        "digits 1|2|-|0|e|0|2|3|0|500|2000|request|-|-|-|dark|10000|e",
        f"digits 1|2|-|0|e|0|2|3|0|500|2000|request|-{PLAIN}|%zz",
        "Digits 1|2|-|0",
    ],
)
def test_a_line_that_was_not_written_by_us_is_refused(line: str) -> None:
    with pytest.raises(UnreadableMapLine):
        parse_line(line, NOW)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path) -> None:
    path = tmp_path / "routes.map"
    replace_file(path, b"one\n")
    before = path.open("rb")
    replace_file(path, b"another\n")
    make_durable(path)
    with before:
        assert before.read() == b"one\n", "who had it open still reads the old one, in full"
    assert path.read_bytes() == b"another\n"
    assert [each.name for each in tmp_path.iterdir()] == ["routes.map"]


def test_a_later_epoch_is_another_line(tmp_path) -> None:
    route = parse_line("digits 4|1|-|0", NOW)
    assert render([replace(route, epoch=5)]) == b"digits 5|1|-|0\n"
