"""The map file stands for exactly the routes that were written into it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.model import BasisPoints, ExperimentName, HeaderUnit, RequestUnit
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

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
versions = st.integers(1, 10**9 - 1).map(Version)
units = st.just(RequestUnit()) | st.builds(
    HeaderUnit, st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
)
trials = st.builds(
    Trial,
    experiment=names.map(ExperimentName),
    stage=st.integers(0, 99),
    challenger=versions,
    cut=st.integers(0, 10_000).map(BasisPoints),
    unit=units,
    salt=names,
    deadline=st.integers(1, 10**6).map(lambda ms: timedelta(milliseconds=ms)),
)
routes = st.builds(
    Route,
    model=names.map(ModelName),
    epoch=st.integers(1, 2**53),
    champion=versions,
    previous=st.none() | versions,
    trial=st.none() | trials,
    by=st.just("edge"),
    why=st.just("read back from the edge's map file"),
    at=st.just(NOW),
    receipt=st.none(),
    unrecorded=st.just(()),
)


@given(route=routes)
def test_a_route_is_read_back_as_it_was_written(route: Route) -> None:
    assert parse_value(route.model, map_value(route), NOW) == route


@given(known=st.lists(routes, unique_by=lambda route: route.model))
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
        "digits 1|2|-|-|-|-|-|-|-|-|-|-",
        "digits x|2|-|-|-|-|-|-|-|-|-",
        "digits 1|2|-|e|0|3|0|500|2000|cookie:x|e",
        "digits 1|2|-|E!|0|3|0|500|2000|request|e",
        "Digits 1|2|-|-|-|-|-|-|-|-|-",
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
    route = parse_line("digits 4|1|-|-|-|-|-|-|-|-|-", NOW)
    assert render([replace(route, epoch=5)]) == b"digits 5|1|-|-|-|-|-|-|-|-|-\n"
