"""A line of the request log as a value."""

from datetime import UTC, datetime, timedelta

import pytest

from experiments.model import Variant
from serving.edge.logline import RequestLine, parse
from serving.errors import UnreadableLogLine

IN_A_TRIAL = (
    "2\t1767225600123\t7\tdigits\t2\tdigits-v2\t0\tchallenger\t42\t3\t200\t12\t+1\tfailover\n"
)
OUTSIDE = "2\t1767225600123\t3\tdigits\t1\t-\t-\t-\t-\t0\t-1\t30000\t0\thost\n"


def test_a_request_in_an_experiment_is_charged_to_the_version_assigned() -> None:
    assert parse(IN_A_TRIAL) == RequestLine(
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
        took=timedelta(milliseconds=12),
        retries=1,
        server="failover",
    )
    assert parse(IN_A_TRIAL).failed_over


def test_outside_an_experiment_there_is_no_variant() -> None:
    line = parse(OUTSIDE)
    assert (line.experiment, line.stage, line.variant, line.slot) == (None, None, None, None)
    assert line.segment == 0
    assert line.status == -1
    assert not line.failed_over


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
        "1" + OUTSIDE[1:],
        OUTSIDE.rstrip("\n") + "\tmore\n",
        OUTSIDE[:40],
        OUTSIDE.replace("host", "").replace("\t\n", "\n"),
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
