"""What is written to the store and into receipts is read back as it was."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from experiments.codec import decode, encode
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.model import BasisPoints, Declaration, ExperimentName, Segments, Stage
from experiments.receipts import Receipt, content_of
from experiments.unit import CookieUnit, HeaderUnit, JsonUnit, QueryUnit, RequestUnit
from registry import ChampionChange
from registry.refs import ModelName, Version
from serving.routes import Route, SlowMark, Trial, Watch
from tests.unit import samples
from tests.unit.samples import DECLARATION, START

few = settings(max_examples=15, deadline=None)

changes_of_champion = st.builds(
    ChampionChange,
    model=samples.names.map(ModelName),
    epoch=st.integers(1, 2**53),
    before=st.none() | samples.versions,
    after=samples.versions,
    by=samples.texts,
    why=samples.texts,
    at=samples.moments,
)
trials = st.builds(
    Trial,
    experiment=samples.names.map(ExperimentName),
    stage=st.integers(0, 19),
    challengers=st.lists(samples.versions, min_size=1, max_size=3, unique=True).map(tuple),
    dropped=st.just(()),
    cut=st.integers(1, 9_999).map(BasisPoints),
    unit=samples.units,
    salt=samples.texts,
    deadline=samples.spans,
    segments=st.none() | st.just(Segments("x-country", ("de", "fr"))),
    watch=st.builds(
        Watch,
        slow=st.lists(st.builds(SlowMark, samples.texts, st.integers(1, 60_000)), max_size=2).map(
            tuple
        ),
        histogram=st.booleans(),
        cohort_seconds=st.none() | st.integers(1, 60),
    ),
    floor=st.integers(0, 9_998).map(BasisPoints),
)
routes = st.builds(
    Route,
    model=samples.names.map(ModelName),
    epoch=st.integers(1, 2**53),
    champion=samples.versions,
    previous=st.none() | samples.versions,
    trials=st.lists(trials, max_size=2).map(tuple),
    by=samples.texts,
    why=samples.texts,
    at=samples.moments,
    receipt=samples.receipt_ids,
    unrecorded=st.lists(changes_of_champion, max_size=2).map(tuple),
)


@few
@given(experiment=samples.experiments())
def test_an_experiment_is_read_back_as_it_was_written(experiment) -> None:
    assert decode(Experiment, encode(Experiment, experiment)) == experiment


@few
@given(route=routes)
def test_a_route_is_read_back_as_it_was_written(route) -> None:
    assert decode(Route, encode(Route, route)) == route


@few
@given(receipt=samples.receipts)
def test_a_receipt_is_read_back_as_it_was_written(receipt) -> None:
    again = decode(Receipt, content_of(receipt))
    assert again == receipt
    assert type(again.act) is type(receipt.act)


@few
@given(evidence=samples.evidences())
def test_evidence_is_read_back_as_it_was_written(evidence) -> None:
    assert decode(Evidence, encode(Evidence, evidence)) == evidence


@few
@given(moment=samples.moments, span=samples.spans)
def test_moments_keep_their_offset_and_spans_their_microseconds(moment, span) -> None:
    again = decode(datetime, encode(datetime, moment))
    assert (again, again.utcoffset()) == (moment, moment.utcoffset())
    assert decode(timedelta, encode(timedelta, span)) == span


@pytest.mark.parametrize(
    "unit",
    [RequestUnit(), HeaderUnit("id"), CookieUnit("id"), QueryUnit("id"), JsonUnit("$.id")],
)
def test_the_kinds_of_unit_are_told_apart(unit) -> None:
    declared = replace(DECLARATION, unit=unit)
    assert decode(Declaration, encode(Declaration, declared)).unit == unit


def test_the_same_value_is_always_written_in_the_same_bytes() -> None:
    """A receipt's id is the digest of these bytes, so what is read back must be written alike."""
    experiment = Experiment.begin(DECLARATION, Version(1), START)
    written = encode(Experiment, experiment)
    assert encode(Experiment, decode(Experiment, written)) == written


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"null", b"\xff", b'{"number":0}', b'{"number":"a"}']
)
def test_what_was_not_written_by_us_is_refused(body) -> None:
    with pytest.raises(ValidationError):
        decode(Stage, body)
