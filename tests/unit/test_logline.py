"""A line of the request log as a value."""

from datetime import UTC, datetime, timedelta

import pytest

from experiments.model import Variant
from serving.edge.logline import RequestLine, parse
from serving.errors import UnreadableLogLine

IN_A_TRIAL = (
    "3\t9\t1767225600123\t7\tdigits\t2\tdigits-v2\t0\tchallenger\t42\t3"
    "\t200\t8\t12\t+1\tfailover\t--\n"
)
OUTSIDE = "3\t5\t1767225600123\t3\tdigits\t1\t-\t-\t-\t-\t0\t-1\t-\t30000\t0\thost\tCH\n"


def test_a_request_in_an_experiment_is_charged_to_the_version_assigned() -> None:
    assert parse(IN_A_TRIAL) == RequestLine(
        number=9,
        at=datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC),
        epoch=7,
        model="digits",
        version=2,
        experiment="digits-v2",
        stage=0,
        variant=Variant.CHALLENGER,
        slot=42,
        segment=3,
        status=200,
        first=timedelta(milliseconds=8),
        took=timedelta(milliseconds=12),
        retries=1,
        server="failover",
        end="--",
    )
    assert parse(IN_A_TRIAL).failed_over


def test_outside_an_experiment_there_is_no_variant() -> None:
    line = parse(OUTSIDE)
    assert (line.experiment, line.stage, line.variant, line.slot) == (None, None, None, None)
    assert line.segment == 0
    assert (line.status, line.first) == (-1, None)
    assert not line.failed_over


@pytest.mark.parametrize(
    ("end", "broke_off"),
    [("--", False), ("SD", True), ("sD", True), ("SL", True), ("PD", True), ("CD", False)],
)
def test_an_answer_that_its_server_cut_short_broke_off(end: str, broke_off: bool) -> None:
    assert parse(IN_A_TRIAL.replace("--", end)).broke_off is broke_off


@pytest.mark.parametrize("variant", Variant)
def test_every_variant_is_read(variant: Variant) -> None:
    assert parse(IN_A_TRIAL.replace("challenger", variant)).variant is variant


def test_the_line_end_does_not_matter() -> None:
    assert parse(OUTSIDE.rstrip("\n")) == parse(OUTSIDE)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "2" + OUTSIDE[1:],
        OUTSIDE.rstrip("\n") + "\tmore\n",
        OUTSIDE[:40],
        OUTSIDE.replace("\t5\t", "\t-\t"),
        OUTSIDE.replace("host\t", ""),
        OUTSIDE.replace("\t3\t", "\tthree\t"),
        IN_A_TRIAL.replace("challenger", "treatment"),
        IN_A_TRIAL.replace("\t3\t", "\t-\t"),
        IN_A_TRIAL.replace("\t3\t", "\t"),
        "\0" * 40,
    ],
)
def test_a_damaged_line_is_refused(line: str) -> None:
    with pytest.raises(UnreadableLogLine):
        parse(line)
